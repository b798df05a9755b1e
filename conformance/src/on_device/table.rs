//! The table on a device of this process.

use wgclip::op::Op;
use wgclip::{Device, Element, ElementType, Result, testing, with_element};

use super::mutations::Target;
use super::reductions::{Reduction, check_reduction};
use crate::case::{Mismatch, Oracle, Tally, Variant};
use crate::{Plan, Tier};

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

/// Runs the table for these types, operations and reductions. `seed` makes its random values; `progress` is called after each step.
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
            let variants = plan.variants().into_iter().filter(|v| (v.op, v.in_place) == (op, in_place));
            tally.add(case.compare(device, &Oracle::REFERENCE, variants)?);
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
    for plan in Plan::every_kind_first::<T>().into_iter().filter(|plan| !plan.is_large()) {
        let case = plan.case::<T>(rng);
        let tally =
            case.compare(device, oracle, plan.variants().into_iter().filter(|variant| variant.op == op))?;
        if let Some(first) = tally.first {
            return Ok(Err(Box::new(first)));
        }
        cases += tally.cases;
    }
    Ok(Ok(cases))
}
