//! Whether a device keeps the contract: the table of cases that `wgclip check` runs on a user's own device, and
//! that this crate's tests run on every device they find.
//!
//! Each case runs an operation through [`Tensor`](crate::Tensor) and compares every element of the result with
//! [`mod@reference`](crate::reference), bit for bit.
//!
//! ```no_run
//! use wgclip::{Device, ElementType, check};
//!
//! let device = Device::auto()?;
//! for row in check::run(&device, ElementType::ALL, 1, &mut |_| {})? {
//!     println!("{} {}: {} cases, {} mismatches", row.element, row.op, row.tally.cases, row.tally.mismatches);
//! }
//! # Ok::<(), wgclip::Error>(())
//! ```

mod case;
mod exhaustive;
mod habits;
mod inputs;

pub use case::{Mismatch, Op, Oracle, Tally};
pub use exhaustive::exhaustive;
pub use habits::{Habit, habits};

use case::Case;

use crate::{Device, Element, ElementType, Error, Gradient, Outside, Result, Ties, with_element};

/// What was found of an operation on tensors of a type.
#[derive(Debug, Clone)]
pub struct Row {
    /// The type.
    pub element: ElementType,
    /// The operation, one of [`Op::NAMES`].
    pub op: &'static str,
    /// Cases and mismatches.
    pub tally: Tally,
}

/// How far a check has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Steps done.
    pub done: u64,
    /// Steps in all.
    pub total: u64,
    /// The type at work.
    pub element: ElementType,
}

/// Runs the table for these types. `seed` makes its random values; `progress` is told of each step.
///
/// # Errors
/// What the device returns; a mismatch is no error.
pub fn run(
    device: &Device,
    elements: &[ElementType],
    seed: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Row>> {
    let total =
        elements.iter().map(|&element| with_element!(element, T => Plan::table::<T>().len() as u64)).sum();
    let (mut done, mut rows) = (0, Vec::new());
    for &element in elements {
        let mut tallies = Op::NAMES.map(|op| Row { element, op, tally: Tally::default() });
        with_element!(element, T => {
            let rng = &mut fastrand::Rng::with_seed(seed);
            for plan in Plan::table::<T>() {
                let case = plan.case::<T>(rng);
                for op in plan.ops() {
                    let Some(tally) = supported(case.compare(device, &Oracle::REFERENCE, op))? else { continue };
                    tallies.iter_mut().filter(|row| row.op == op.name()).for_each(|row| row.tally.add(tally.clone()));
                }
                done += 1;
                progress(Progress { done, total, element });
            }
        });
        rows.extend(tallies);
        device.drop_pipelines();
    }
    Ok(rows)
}

/// Runs the table for one type, less its largest case, against any oracle, up to the first mismatch. Returns the cases that passed: how the
/// tests prove that the table can fail.
///
/// # Errors
/// What the device returns; a mismatch comes as `Ok(Err(_))`.
#[doc(hidden)]
pub fn find<T: Element>(
    device: &Device,
    oracle: &Oracle<T>,
    seed: u64,
) -> Result<Result<u64, Box<Mismatch>>> {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let mut cases = 0;
    for plan in Plan::table::<T>().into_iter().filter(|plan| !plan.is_large()) {
        let case = plan.case::<T>(rng);
        for op in plan.ops() {
            let Some(tally) = supported(case.compare(device, oracle, op))? else { continue };
            if let Some(first) = tally.first {
                return Ok(Err(Box::new(first)));
            }
            cases += tally.cases;
        }
    }
    Ok(Ok(cases))
}

/// A case that a device refuses, saying so, is no case.
fn supported(tally: Result<Tally>) -> Result<Option<Tally>> {
    match tally {
        Err(Error::Unsupported { .. }) => Ok(None),
        tally => tally.map(Some),
    }
}

/// Part of the table: how a case is made, before memory is taken for it.
#[derive(Debug, Clone)]
enum Plan {
    /// Special values between two values, by their place in the list; the place behind it is no bound.
    Pairs(usize, usize),
    /// Special values between tensors of all bounds.
    Combinations,
    /// Random bits of a length.
    Length(usize),
    /// Random bits between bounds that broadcast.
    Shapes(&'static [usize], Option<&'static [usize]>, Option<&'static [usize]>),
}

/// Shapes of x and its bounds; `None` stands for a value.
type Shapes = (&'static [usize], Option<&'static [usize]>, Option<&'static [usize]>);

/// Scalars, rows, columns (of whole blocks, and not), both at once, one side only, up to 8 axes that cannot be joined, lengths of 1 and 0.
const SHAPES: &[Shapes] = &[
    (&[], Some(&[]), Some(&[])),
    (&[1], Some(&[1]), None),
    (&[1, 1, 1], Some(&[1, 1]), Some(&[])),
    (&[77], Some(&[]), Some(&[77])),
    (&[77], None, Some(&[1])),
    (&[5, 67], Some(&[67]), Some(&[67])),
    (&[67, 5], Some(&[67, 1]), None),
    (&[64, 64], Some(&[64, 1]), Some(&[64])),
    (&[64, 64], Some(&[64, 64]), Some(&[1, 64])),
    (&[300, 3], Some(&[300, 1]), Some(&[1, 1])),
    (&[3, 300], None, Some(&[3, 1])),
    (&[2, 3, 4, 5], Some(&[3, 1, 5]), Some(&[2, 1, 4, 1])),
    (&[7, 1, 9, 1, 5], Some(&[7, 1, 1, 1, 5]), Some(&[9, 1, 1])),
    (&[2, 3, 2, 3, 2, 3, 2, 3], Some(&[2, 1, 2, 1, 2, 1, 2, 1]), Some(&[1, 3, 1, 3, 1, 3, 1, 3])),
    (&[2, 3, 2, 3, 2, 3, 2, 3], Some(&[3]), Some(&[2, 1, 1, 1, 1, 1, 1, 1])),
    (&[2, 1, 2, 2, 1, 2, 2, 1, 2, 2, 3], Some(&[2, 1, 1, 2, 2, 1, 2, 2, 3]), None),
    (&[0], Some(&[0]), Some(&[1])),
    (&[4, 0, 3], Some(&[0, 1]), Some(&[3])),
    (&[0, 3], Some(&[3]), Some(&[0, 1])),
    (&[130, 257], Some(&[257]), Some(&[130, 1])),
    (&[130, 256], Some(&[256]), Some(&[130, 1])),
];

impl Plan {
    fn table<T: Element>() -> Vec<Self> {
        let bounds = inputs::bound_values::<T>().len();
        // Each bound alone, and with others: the next, one further off, and itself; so equal and crossed ones too.
        let mut pairs = vec![(bounds, bounds)];
        for i in 0..bounds {
            let others = if i % 2 == 0 { [bounds, (i + 1) % bounds] } else { [(i + 5) % bounds, i] };
            pairs.extend(others.map(|j| (i, j)));
            pairs.push((bounds, i));
        }
        let mut plans = vec![Self::Combinations];
        plans.extend(pairs.into_iter().step_by(2).map(|(lo, hi)| Self::Pairs(lo, hi)));
        plans.extend(Self::lengths::<T>().into_iter().map(Self::Length));
        plans.extend(SHAPES.iter().map(|&(x, lo, hi)| Self::Shapes(x, lo, hi)));
        plans.push(Self::Length((1 << 20) + 3));
        plans.push(Self::Shapes(&[1021, 1027], Some(&[1027]), Some(&[1021, 1])));
        plans
    }

    /// Lengths about each boundary: of a block, a word of a mask, a workgroup, a row of workgroups and a binding
    /// under the tests' tight limits, and of the CPU path's chunks.
    fn lengths<T: Element>() -> Vec<usize> {
        let words = [4, 8, 32, 1024, 4 * 1024, 8 * 1024, 16 * 1024, 32 * 1024];
        let boundaries = words.iter().map(|words| words * 4 / size_of::<T>());
        let around = |b: usize| [b - 1, b, b + 1];
        [0, 1, 2, 5].into_iter().chain(boundaries.chain([32 * 1024, 64 * 1024]).flat_map(around)).collect()
    }

    fn is_large(&self) -> bool {
        matches!(self, Self::Length(len) if *len > 1 << 20)
    }

    /// Every operation with every rule between tensors of all bounds; each rule that has a kernel between two values;
    /// a few that reach every entry point on the others.
    fn ops(&self) -> Vec<Op> {
        let toward = Gradient { outside: Outside::Toward, ties: Ties::Half, ..Gradient::default() };
        let exclusive = Gradient { ties: Ties::Exclusive, ..Gradient::default() };
        match self {
            Self::Combinations => Op::all().collect(),
            Self::Pairs(..) => {
                let masked = |rule: &Gradient| rule.outside == Outside::Masked;
                let grads = Gradient::all().filter(|rule| rule.outside != Outside::StraightThrough);
                let a_bit = Gradient::all().filter(|rule| masked(rule) && rule.ties != Ties::Half);
                [Op::Clip, Op::ClipInPlace]
                    .into_iter()
                    .chain(grads.map(Op::ClipGrad))
                    .chain(a_bit.map(Op::ClipSaving))
                    .chain(Gradient::all().filter(masked).map(Op::BoundGrads))
                    .collect()
            }
            // Each way in which two bounds lie beside x is a pipeline, slow to compile: the others share its code.
            Self::Shapes(dims, ..) if dims.len() != 3 => {
                vec![Op::Clip, Op::ClipSaving(exclusive), Op::BoundGrads(toward)]
            }
            Self::Length(_) | Self::Shapes(..) => vec![
                Op::Clip,
                Op::ClipInPlace,
                Op::ClipSaving(exclusive),
                Op::ClipGrad(toward),
                Op::ClipGradInPlace(exclusive),
                Op::BoundGrads(toward),
            ],
        }
    }

    fn case<T: Element>(&self, rng: &mut fastrand::Rng) -> Case<T> {
        match *self {
            Self::Pairs(lo, hi) => {
                let bounds = inputs::bound_values::<T>();
                inputs::pairs(rng, bounds.get(lo).copied(), bounds.get(hi).copied())
            }
            Self::Combinations => inputs::combinations(rng),
            Self::Length(len) => inputs::of_length(rng, len),
            Self::Shapes(x, lo, hi) => inputs::of_shapes(rng, x, lo, hi),
        }
    }
}
