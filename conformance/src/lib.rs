//! Conformance tests of devices against wgclip's contract: the table of cases that `wgclip check` runs on a user's device, that
//! the crate's tests run on every device they find, and that provides the oracle for fuzzing and mutation testing.
//!
//! Each case runs an operation of [`Op::ALL`] on tensors and compares every element of the result with
//! [`wgclip::reference`], bit for bit.
//!
//! ```no_run
//! use wgclip::op::Op;
//! use wgclip::{Device, ElementType};
//!
//! let device = Device::auto()?;
//! for row in wgclip_conformance::run(&device, ElementType::ALL, Op::ALL, 1, &mut |_| {})? {
//!     println!("{} {}: {} cases, {} mismatches", row.element, row.name(), row.tally.cases, row.tally.mismatches);
//! }
//! # Ok::<(), wgclip::Error>(())
//! ```

#![forbid(unsafe_code)]
// The code that runs cases on a device is compiled out.
#![cfg_attr(target_arch = "wasm32", allow(dead_code, unused_imports))]

mod case;
mod external;
mod inputs;
mod parallel;
// A browser's main thread cannot wait for a device.
#[cfg(not(target_arch = "wasm32"))]
mod on_device;

pub use case::{Mismatch, Oracle, Tally, Variant};
pub use external::{ExternalBound, ExternalCase, ExternalNorm, external_cases, external_norms};
pub use inputs::specials;
#[cfg(not(target_arch = "wasm32"))]
pub use on_device::*;

use std::collections::HashMap;

use case::Case;

use wgclip::op::{Domain, Op, RuleUse};
use wgclip::quantize::{Quotient, Rounding};
use wgclip::{BackwardRule, Element, ElementType, OutsideRule, TieRule};

/// How much of the table to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// All of it.
    Full,
    /// A part that reaches every kernel in a fraction of the time.
    Quick,
    /// The lengths and shapes that are split and folded under tight limits; values are covered elsewhere.
    Split,
    /// A quarter of the shapes, and for reductions only short tensors, for a type of the same size as another: the layouts of bounds
    /// depend only on the size.
    Values,
}

/// Part of the table: how to create a case, before memory is allocated for it.
#[derive(Debug, Clone)]
enum Plan {
    /// Special values between two values, by their index in the list; the index after the last means no bound.
    Pairs(usize, usize),
    /// Special values between tensors of all bounds.
    Combinations,
    /// Numbers near those where rounding to another type changes direction.
    NearHalves,
    /// Multiples of scales, halves between them, and their neighbours: by a scale and a zero point of each element, or of all; by so many
    /// of the rules.
    Grid { of_each: bool, rules: usize },
    /// Where a function that bounds x is hard to round, and results and gradients whose products are ties.
    Curve,
    /// Random bits of a length.
    Length(usize),
    /// Random bits between bounds that broadcast.
    Shapes(&'static [usize], Option<&'static [usize]>, Option<&'static [usize]>),
}

/// Shapes of x and its bounds; `None` stands for a scalar bound, or for no bound.
type Shapes = (&'static [usize], Option<&'static [usize]>, Option<&'static [usize]>);

/// Scalars, rows, columns (of whole and partial blocks), both at once, only one bound, up to 8 axes that cannot be merged,
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
        // Each bound by itself, and paired with the next, one further off, and itself, which includes equal and crossed ones.
        let mut pairs = vec![(bounds, bounds)];
        for i in 0..bounds {
            let others = if i % 2 == 0 { [bounds, (i + 1) % bounds] } else { [(i + 5) % bounds, i] };
            pairs.extend(others.map(|j| (i, j)));
            pairs.push((bounds, i));
        }
        let mut plans = vec![Self::Combinations, Self::NearHalves, Self::Curve];
        if T::TYPE.is_float() {
            // A rule is the same for all types that are computed in f32: of these, f32 alone has all of them.
            let all = if size_of::<T>() >= size_of::<f32>() { usize::MAX } else { case::PRESETS };
            plans.extend(
                [(true, all), (false, 2), (false, 1)].map(|(of_each, rules)| Self::Grid { of_each, rules }),
            );
        }
        plans.extend(pairs.into_iter().step_by(2).map(|(lo, hi)| Self::Pairs(lo, hi)));
        plans.extend(Self::lengths::<T>().into_iter().map(Self::Length));
        plans.extend(SHAPES.iter().map(|&(x, lo, hi)| Self::Shapes(x, lo, hi)));
        match tier {
            Tier::Full => {
                plans.push(Self::Length((1 << 20) + 3));
                plans.push(Self::Shapes(&[1021, 1027], Some(&[1027]), Some(&[1021, 1])));
            }
            Tier::Quick => {
                let mut kept = 0;
                plans.retain(|plan| {
                    !matches!(plan, Self::Pairs(..) | Self::Length(_)) || {
                        kept += 1;
                        kept % 5 == 1
                    }
                });
            }
            Tier::Values => {
                let mut shapes = 0;
                plans.retain(|plan| {
                    shapes += usize::from(matches!(plan, Self::Shapes(..)));
                    !matches!(plan, Self::Shapes(..)) || shapes % 4 == 1
                });
            }
            Tier::Split => plans.retain(|plan| match plan {
                Self::Length(_) | Self::Shapes(..) => true,
                Self::Combinations => T::TYPE == ElementType::F32,
                Self::Pairs(..) | Self::NearHalves | Self::Curve | Self::Grid { .. } => false,
            }),
        }
        plans
    }

    /// The whole table, alternating between kinds, so that a failure of one kind is found before all cases of another have run.
    fn every_kind_first<T: Element>() -> Vec<Self> {
        let mut met = HashMap::new();
        let rank = |plan: Self| {
            let rank: &mut usize = met.entry(std::mem::discriminant(&plan)).or_default();
            *rank += 1;
            (*rank, plan)
        };
        let mut plans: Vec<_> = Self::table::<T>(Tier::Full).into_iter().map(rank).collect();
        plans.sort_by_key(|(rank, _)| *rank);
        plans.into_iter().map(|(_, plan)| plan).collect()
    }

    /// Lengths around each boundary: of a block, a mask word, a workgroup, a row of workgroups and a binding
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
            let is_random =
                variant.quant.rounding == Rounding::Stochastic && variant.quant.quotient == Quotient::Exact;
            match self {
                Self::NearHalves => variant.op == Op::ClipTo,
                Self::Curve => variant.op.info().domain == Domain::Floats32,
                Self::Grid { rules, .. } => {
                    uses == RuleUse::Quant && !variant.in_place && variant.quant_index() < *rules
                }
                Self::Pairs(lo, hi) if uses == RuleUse::Quant => {
                    variant.quant_index() == (3 * lo + hi) % case::PRESETS
                }
                // It has no bounds, and its loop is that of the others.
                Self::Combinations if uses == RuleUse::Quant => false,
                Self::Length(len) if uses == RuleUse::Quant && *len > 5000 && *len < 1 << 20 => {
                    is_random && *len < 40_000
                }
                // Random numbers follow from the index of an element, in whichever dispatch it is.
                Self::Length(_) if uses == RuleUse::Quant => variant.quant_index() == 0 || is_random,
                _ if uses == RuleUse::Quant => variant.quant_index() == 0,
                Self::Combinations => true,
                Self::Pairs(..) => match variant.op {
                    Op::ClipBackwardBounds => rule.outside == OutsideRule::Masked,
                    _ => !rule.is_identity() || uses == RuleUse::Ignored,
                },
                // Each combination of two bound layouts is a pipeline, which is slow to compile; the others share its code.
                Self::Shapes(dims, ..) if dims.len() != 3 && variant.in_place => false,
                Self::Length(_) | Self::Shapes(..) => match uses {
                    RuleUse::Ignored => true,
                    RuleUse::Mask => rule == exclusive,
                    RuleUse::Any => rule == if variant.in_place { exclusive } else { toward },
                    RuleUse::Quant => false,
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
            Self::Curve => inputs::curve(rng),
            Self::Grid { of_each, .. } => inputs::grid(rng, of_each),
            Self::Length(len) => inputs::of_length(rng, len),
            Self::Shapes(x, lo, hi) => inputs::of_shapes(rng, x, lo, hi),
        }
    }
}
