//! Timing several cases in turn.

use std::time::Duration;

use anyhow::Result;

use crate::{BenchId, Measurement};

/// Something to be timed.
pub struct Case<'a> {
    /// What it is.
    pub id: BenchId,
    /// Does it this many times, a batch each time, and tells how long that took. BenchId it needs but is not to be timed, it
    /// leaves out.
    pub run: Box<dyn FnMut(u32) -> Result<Duration> + 'a>,
}

impl<'a> Case<'a> {
    /// By the host's clock: `run` does one batch, and waits for it.
    pub fn timed(id: BenchId, mut run: impl FnMut() -> Result<()> + 'a) -> Self {
        let run = move |times| {
            let start = std::time::Instant::now();
            (0..times).try_for_each(|_| run())?;
            Ok(start.elapsed())
        };
        Self { id, run: Box::new(run) }
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Sampling {
    /// Samples of each case.
    pub samples: usize,
    /// How long a sample is at about the least.
    pub sample: Duration,
    /// How long a case warms up whenever its turn comes.
    pub warm: Duration,
    /// Samples that a case takes in its turn.
    pub turn: usize,
}

impl Sampling {
    /// For figures to be published.
    pub const FULL: Self =
        Self { samples: 25, sample: Duration::from_millis(5), warm: Duration::from_millis(1), turn: 1 };
    /// For a glance.
    pub const QUICK: Self = Self { samples: 7, sample: Duration::from_millis(2), ..Self::FULL };
    /// For cases in several processes, whose threads the system has to spread over the cores anew in each turn.
    pub const APART: Self = Self { warm: Duration::from_millis(150), turn: 5, ..Self::FULL };
}

/// Measures cases in turn, a sample of each (or as many as a turn has), then another of each.
///
/// # Errors
/// What a case returns.
pub fn measure(cases: &mut [Case<'_>], sampling: Sampling) -> Result<Vec<Measurement>> {
    // What is done once only (compiled, allocated, paged in) is done by now.
    let mut times = Vec::new();
    for case in &mut *cases {
        (case.run)(2)?;
        let once = (case.run)(1)?.max(Duration::from_nanos(1));
        let enough = sampling.sample.as_nanos() / once.as_nanos();
        times.push(enough.clamp(1, 100_000) as u32);
    }
    let mut samples = vec![Vec::new(); cases.len()];
    for _ in 0..sampling.samples.div_ceil(sampling.turn) {
        for ((case, &times), samples) in cases.iter_mut().zip(&times).zip(&mut samples) {
            // The caches and the threads are those of the case before.
            let mut warm = Duration::ZERO;
            while times > 1 && warm < sampling.warm {
                warm += (case.run)(times.div_ceil(4))?;
            }
            for _ in 0..sampling.turn {
                let each = f64::from(times) * f64::from(case.id.batch);
                samples.push((case.run)(times)?.as_nanos() as f64 / each);
            }
        }
    }
    Ok(cases.iter().zip(samples).map(|(case, samples)| Measurement::new(case.id.clone(), samples)).collect())
}
