//! Whether a device keeps the contract of wgclip: the table of cases that `wgclip check` runs on a user's own device, that
//! the crate's tests run on every device they find, and that fuzzing and mutation testing take their oracle from.
//!
//! Each case runs an operation of [`Op::ALL`] on tensors and compares every element of the result with
//! [`wgclip::reference`], bit for bit.
//!
//! ```no_run
//! use wgclip::{Device, ElementType};
//! use wgclip_conformance::Target;
//!
//! let device = Device::auto()?;
//! for row in wgclip_conformance::run(&device, ElementType::ALL, &Target::all().collect::<Vec<_>>(), 1, &mut |_| {})? {
//!     println!("{} {}: {} cases, {} mismatches", row.element, row.name(), row.tally.cases, row.tally.mismatches);
//! }
//! # Ok::<(), wgclip::Error>(())
//! ```

#![forbid(unsafe_code)]

mod builtins;
mod case;
mod exhaustive;
mod external;
mod inputs;
mod mutations;
mod reductions;

pub use builtins::{Builtin, builtins};
pub use case::{Mismatch, Oracle, Tally, Variant};
pub use exhaustive::exhaustive;
pub use external::{ExternalBound, ExternalCase, ExternalNorm, external_cases, external_norms};
pub use inputs::specials;
pub use mutations::{MUTATIONS, Mutation, Target};
pub use reductions::{Reduction, check_reduction, find_reduction_mismatch};

use case::Case;

use wgclip::op::RuleUse;
use wgclip::{
    BackwardRule, Device, Element, ElementType, Error, Op, OutsideRule, Result, TieRule, testing,
    with_element,
};

/// What was found of an operation on tensors of a type.
#[derive(Debug, Clone)]
pub struct Row {
    /// The type.
    pub element: ElementType,
    /// The operation or the reduction.
    pub target: Target,
    /// Whether it overwrites an input.
    pub in_place: bool,
    /// Cases and mismatches.
    pub tally: Tally,
}

impl Row {
    /// The name of the operation: `"clip_in_place"`.
    pub fn name(&self) -> String {
        match self.target {
            Target::Op(op) => op.variant_name(self.in_place),
            Target::Reduction(reduction) => reduction.name().to_owned(),
        }
    }
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

/// How much of the table is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// All of it.
    Full,
    /// A part that reaches every kernel in a fraction of the time.
    Quick,
}

/// Runs the table for these types, operations and reductions. `seed` makes its random values; `progress` is told of each step.
///
/// # Errors
/// What the device returns; a mismatch is no error.
pub fn run(
    device: &Device,
    elements: &[ElementType],
    targets: &[Target],
    seed: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Row>> {
    let variants = || Op::variants().filter(|(op, _)| targets.contains(&Target::Op(*op)));
    let reductions = |element: ElementType| {
        let wanted = Reduction::ALL.into_iter().filter(|&r| targets.contains(&Target::Reduction(r)));
        wanted.filter(move |reduction| reduction.is_for(element, device))
    };
    let steps = |element: &ElementType| {
        variants().filter(|(op, _)| Variant::new(*op).is_for(*element)).count() + reductions(*element).count()
    };
    let total = elements.iter().map(steps).sum::<usize>() as u64;
    let (mut done, mut rows) = (0, Vec::new());
    for &element in elements {
        for (op, in_place) in variants().filter(|(op, _)| Variant::new(*op).is_for(element)) {
            let tally = check(device, element, op, in_place, Tier::Full, seed)?;
            rows.push(Row { element, target: Target::Op(op), in_place, tally });
            done += 1;
            progress(Progress { done, total, element });
        }
        for reduction in reductions(element) {
            let tally = check_reduction(device, element, reduction, Tier::Full, seed)?;
            rows.push(Row { element, target: Target::Reduction(reduction), in_place: false, tally });
            done += 1;
            progress(Progress { done, total, element });
        }
        testing::drop_pipelines(device);
    }
    Ok(rows)
}

/// Runs the table for one type and one operation. No cases are counted where the device does not have it for the type,
/// and says so.
///
/// # Errors
/// What the device returns; a mismatch is no error.
pub fn check(
    device: &Device,
    element: ElementType,
    op: Op,
    in_place: bool,
    tier: Tier,
    seed: u64,
) -> Result<Tally> {
    let mut tally = Tally::default();
    if !Variant::new(op).is_for(element) {
        return Ok(tally);
    }
    with_element!(element, T => {
        let rng = &mut fastrand::Rng::with_seed(seed);
        for plan in Plan::table::<T>(tier) {
            let case = plan.case::<T>(rng);
            for variant in plan.variants().into_iter().filter(|v| (v.op, v.in_place) == (op, in_place)) {
                if let Some(found) = supported(case.compare(device, &Oracle::REFERENCE, variant))? {
                    tally.add(found);
                }
            }
        }
    });
    Ok(tally)
}

/// Runs the table of one operation for one type, less its largest cases, against any oracle, up to the first mismatch.
/// This is how the tests prove that the table can fail. Returns the number of cases if all passed.
///
/// # Errors
/// What the device returns; a mismatch comes as `Ok(Err(_))`.
pub fn find_mismatch<T: Element>(
    device: &Device,
    oracle: &Oracle<T>,
    op: Op,
    seed: u64,
) -> Result<Result<u64, Box<Mismatch>>> {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let mut cases = 0;
    for plan in Plan::table::<T>(Tier::Full).into_iter().filter(|plan| !plan.is_large()) {
        let case = plan.case::<T>(rng);
        for variant in plan.variants().into_iter().filter(|variant| variant.op == op) {
            let Some(tally) = supported(case.compare(device, oracle, variant))? else { continue };
            if let Some(first) = tally.first {
                return Ok(Err(Box::new(first)));
            }
            cases += tally.cases;
        }
    }
    Ok(Ok(cases))
}

/// A case that a device refuses, saying so, is no case.
fn supported<T>(done: Result<T>) -> Result<Option<T>> {
    match done {
        Err(Error::Unsupported { .. }) => Ok(None),
        done => done.map(Some),
    }
}

/// Part of the table: how a case is made, before memory is taken for it.
#[derive(Debug, Clone)]
enum Plan {
    /// Special values between two values, by their index in the list; the place after it is no bound.
    Pairs(usize, usize),
    /// Special values between tensors of all bounds.
    Combinations,
    /// Numbers about those where rounding to another type goes the other way.
    NearHalves,
    /// Random bits of a length.
    Length(usize),
    /// Random bits between bounds that broadcast.
    Shapes(&'static [usize], Option<&'static [usize]>, Option<&'static [usize]>),
}

/// Shapes of x and its bounds; `None` stands for a value.
type Shapes = (&'static [usize], Option<&'static [usize]>, Option<&'static [usize]>);

/// Scalars, rows, columns (of whole blocks, and not), both at once, one side only, up to 8 axes that cannot be merged,
/// lengths of 1 and 0.
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
    fn table<T: Element>(tier: Tier) -> Vec<Self> {
        let bounds = inputs::bound_values::<T>().len();
        // Each bound alone, and with others: the next, one further off, and itself; so equal and crossed ones too.
        let mut pairs = vec![(bounds, bounds)];
        for i in 0..bounds {
            let others = if i % 2 == 0 { [bounds, (i + 1) % bounds] } else { [(i + 5) % bounds, i] };
            pairs.extend(others.map(|j| (i, j)));
            pairs.push((bounds, i));
        }
        let mut plans = vec![Self::Combinations, Self::NearHalves];
        plans.extend(pairs.into_iter().step_by(2).map(|(lo, hi)| Self::Pairs(lo, hi)));
        plans.extend(Self::lengths::<T>().into_iter().map(Self::Length));
        plans.extend(SHAPES.iter().map(|&(x, lo, hi)| Self::Shapes(x, lo, hi)));
        if tier == Tier::Full {
            plans.push(Self::Length((1 << 20) + 3));
            plans.push(Self::Shapes(&[1021, 1027], Some(&[1027]), Some(&[1021, 1])));
        } else {
            let mut kept = 0;
            plans.retain(|plan| {
                !matches!(plan, Self::Pairs(..) | Self::Length(_)) || {
                    kept += 1;
                    kept % 5 == 1
                }
            });
        }
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
    fn variants(&self) -> Vec<Variant> {
        let toward =
            BackwardRule { outside: OutsideRule::Toward, ties: TieRule::Half, ..BackwardRule::default() };
        let exclusive = BackwardRule { ties: TieRule::Exclusive, ..BackwardRule::default() };
        let chosen = |variant: &Variant| {
            let rule = variant.rule;
            let uses = match variant.op.info().rule {
                _ if variant.op.has(wgclip::op::Operand::Mask) => RuleUse::Mask,
                uses => uses,
            };
            match self {
                Self::NearHalves => variant.op.info().converts,
                Self::Combinations => true,
                Self::Pairs(..) => match variant.op {
                    Op::ClipBackwardBounds => rule.outside == OutsideRule::Masked,
                    _ => !rule.is_identity() || uses == RuleUse::Ignored,
                },
                // Each way in which two bounds lie along x is a pipeline, slow to compile: the others share its code.
                Self::Shapes(dims, ..) if dims.len() != 3 && variant.in_place => false,
                Self::Length(_) | Self::Shapes(..) => match uses {
                    RuleUse::Ignored => true,
                    RuleUse::Mask => rule == exclusive,
                    RuleUse::Any => rule == if variant.in_place { exclusive } else { toward },
                },
            }
        };
        Variant::all().filter(chosen).collect()
    }

    fn case<T: Element>(&self, rng: &mut fastrand::Rng) -> Case<T> {
        match *self {
            Self::Pairs(lo, hi) => {
                let bounds = inputs::bound_values::<T>();
                inputs::pairs(rng, bounds.get(lo).copied(), bounds.get(hi).copied())
            }
            Self::Combinations => inputs::combinations(rng),
            Self::NearHalves => inputs::near_halves(rng),
            Self::Length(len) => inputs::of_length(rng, len),
            Self::Shapes(x, lo, hi) => inputs::of_shapes(rng, x, lo, hi),
        }
    }
}
