//! Runs the table on a device of this process.

use wgclip::op::{Op, Pass};
use wgclip::{Device, Element, ElementType, Result, testing, with_element};

use super::reductions::run_table;
use crate::case::{Mismatch, Oracle, Tally, Variant};
use crate::{Plan, Tier};

/// The results for an operation on tensors of a type.
#[derive(Debug, Clone)]
pub struct Row {
    /// The type.
    pub element: ElementType,
    /// The operation.
    pub op: Op,
    /// Whether it overwrites an input.
    pub in_place: bool,
    /// Cases and mismatches.
    pub tally: Tally,
}

impl Row {
    /// The name of the operation: `"clip_in_place"`.
    pub fn name(&self) -> String {
        self.op.variant_name(self.in_place)
    }
}

/// The progress of a check.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Steps done.
    pub done: u64,
    /// Total steps.
    pub total: u64,
    /// The type being checked.
    pub element: ElementType,
}

/// Runs the table for these types and operations. `seed` generates its random values; `progress` is called after each step.
///
/// # Errors
/// Those of the device; a mismatch is not an error.
pub fn run(
    device: &Device,
    elements: &[ElementType],
    ops: &[Op],
    seed: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Row>> {
    let on_gpu = device.info().limits.is_some();
    let of_slices = || Op::SLICES.iter().map(|&op| (op, false));
    let steps: Vec<_> = elements
        .iter()
        .flat_map(|&element| {
            Op::variants().chain(of_slices()).map(move |(op, in_place)| (element, op, in_place))
        })
        .filter(|(_, op, _)| ops.contains(op))
        .filter(|&(element, op, _)| match op.info().pass {
            Pass::Elements => Variant::new(op).is_for(element),
            Pass::Slices => op.is_for(element, on_gpu),
        })
        .collect();
    let mut rows: Vec<Row> = Vec::new();
    for &(element, op, in_place) in &steps {
        if rows.last().is_some_and(|last| last.element != element) {
            testing::drop_pipelines(device);
        }
        let tally = check(device, element, op, in_place, Tier::Full, seed)?;
        rows.push(Row { element, op, in_place, tally });
        progress(Progress { done: rows.len() as u64, total: steps.len() as u64, element });
    }
    testing::drop_pipelines(device);
    Ok(rows)
}

/// Runs the table for one type and one operation. No cases are counted if the device reports it as unsupported for the
/// type.
///
/// # Errors
/// Those of the device; a mismatch is not an error.
pub fn check(
    device: &Device,
    element: ElementType,
    op: Op,
    in_place: bool,
    tier: Tier,
    seed: u64,
) -> Result<Tally> {
    if op.info().pass == Pass::Slices {
        return run_table(device, element, op, tier, seed, false);
    }
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

/// Runs the table of one operation for one type, without its largest cases, against any oracle, up to the first mismatch.
/// The tests use it to prove that the table can fail. Returns the number of cases if all passed.
///
/// # Errors
/// Those of the device; a mismatch is `Ok(Err(_))`.
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
