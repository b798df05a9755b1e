//! The distribution of values.

use std::fmt;

use rayon::prelude::*;
use serde::Serialize;
use wgclip::Element;

/// Number of bins: odd, so that a symmetric distribution has one in the middle.
const BINS: usize = 31;

/// Characters of the longest bar.
const WIDTH: f64 = 40.0;

/// Counts of finite values in bins of equal width.
#[derive(Debug, Serialize)]
pub(super) struct Histogram {
    pub from: f64,
    pub to: f64,
    pub counts: Vec<u64>,
}

impl Histogram {
    /// Empty, from the smallest to the greatest value.
    pub(super) fn new(from: f64, to: f64) -> Self {
        Self { from, to, counts: vec![0; BINS] }
    }

    pub(super) fn add<T: Element>(&mut self, x: &[T]) {
        let (from, scale) = (self.from, BINS as f64 / (self.to - self.from));
        // Half of the range, in case it is that of f64 itself.
        let (from, scale, half) = match scale {
            scale if scale > 0.0 && scale.is_finite() => (from, scale, 1.0),
            _ => (from / 2.0, BINS as f64 / (self.to / 2.0 - self.from / 2.0), 0.5),
        };
        let count = |mut counts: [u64; BINS], &x: &T| {
            let value = x.to_f64();
            if value.is_finite() {
                counts[(((value * half - from) * scale) as usize).min(BINS - 1)] += 1;
            }
            counts
        };
        let add = |mut all: [u64; BINS], part: [u64; BINS]| {
            all.iter_mut().zip(part).for_each(|(all, part)| *all += part);
            all
        };
        let counts = x.par_chunks(1 << 14).map(|x| x.iter().fold([0; BINS], count)).reduce(|| [0; BINS], add);
        self.counts.iter_mut().zip(counts).for_each(|(all, part)| *all += part);
    }

    /// The lower end of a bin.
    pub(super) fn edge(&self, bin: usize) -> f64 {
        let part = bin as f64 / BINS as f64;
        self.from * (1.0 - part) + self.to * part
    }
}

impl fmt::Display for Histogram {
    /// A bar for each bin, of logarithmic length, so that a few outliers are visible.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self.counts.iter().copied().max().unwrap_or(0);
        let length = |count: u64| ((1 + count) as f64).ln() / ((1 + most) as f64).ln().max(1e-9) * WIDTH;
        for (bin, &count) in self.counts.iter().enumerate() {
            let bar = "#".repeat(length(count).round() as usize);
            writeln!(f, "{:>12} {bar:<40} {count}", format!("{:.4e}", self.edge(bin)))?;
        }
        writeln!(f, "{:>12} (bars are logarithmic)", format!("{:.4e}", self.to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_value_is_in_one_bin() {
        let x: Vec<f32> = (0..100_000).map(|i| (i % 1000) as f32).chain([f32::NAN, f32::INFINITY]).collect();
        let mut histogram = Histogram::new(0.0, 999.0);
        histogram.add(&x);
        assert_eq!(histogram.counts.iter().sum::<u64>(), 100_000);
        assert!(histogram.counts.iter().all(|&count| (3100..=3400).contains(&count)), "{histogram:?}");
        let mut whole = Histogram::new(-f64::MAX, f64::MAX);
        whole.add(&[-f64::MAX, 0.0, f64::MAX]);
        assert_eq!((whole.counts[0], whole.counts[BINS / 2], whole.counts[BINS - 1]), (1, 1, 1));
        assert!(histogram.to_string().lines().count() == BINS + 1);
    }
}
