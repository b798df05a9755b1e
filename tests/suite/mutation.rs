//! The conformance table can fail: kernels and references with a planted fault are each caught, and every operation has
//! one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pollster::block_on;
use wgclip::ElementType::{self, F16, I16, U8};
use wgclip::gpu::Adapter;
use wgclip::op::{MAX_OUTPUTS, Op, Pass};
use wgclip::reference::{self, Operands};
use wgclip::testing::{open_patched, sources};
use wgclip::{BackwardRule, Device, Element, TieRule, bf16, f16, with_element};
use wgclip_conformance::{
    Mismatch, Mutation, Oracle, Row, Tier, check, exhaustive, find_mismatch, find_mismatch_of_slices,
    mutations, run,
};

use crate::devices::{Settings, Suite, seed, with_tiny_limits};

pub(crate) fn register(suite: &mut Suite) {
    suite.once(&[
        ("mutation::every_operation_has_one", every_operation_has_one),
        ("mutation::every_one_is_in_a_shader", every_one_is_in_a_shader),
        ("mutation::wrong_references_are_caught", wrong_references_are_caught),
    ]);
    let Some(adapter) = suite.first_adapter() else { return };
    let dirty = adapter.clone();
    suite.add("mutation::workgroups_begin_with_any_memory".into(), move || {
        workgroups_begin_with_any_memory(&dirty);
    });
    // A part shows that the table can fail; the seed says which, so that runs meet all of them.
    let step = match suite.settings {
        Settings { quick: true, .. } => 9,
        Settings { full: true, .. } | Settings { named: true, .. } => 1,
        _ => 3,
    };
    for mutation in mutations().skip((seed() % step as u64) as usize).step_by(step) {
        let adapter = adapter.clone();
        let name = mutation.name.replace(' ', "_");
        suite.add(format!("mutation::{}::{name}", mutation.op), move || is_caught(&adapter, &mutation));
    }
    if !suite.settings.quick {
        let (first, second) = (adapter.clone(), adapter);
        suite.add("mutation::a_check_counts_mismatches".into(), move || a_check_counts_mismatches(&first));
        suite.add("mutation::the_right_kernels_pass".into(), move || the_right_kernels_pass(&second));
    }
}

fn every_operation_has_one() {
    for &op in Op::ALL {
        assert!(mutations().any(|mutation| mutation.op == op), "{op} has no mutation");
    }
}

/// Those that a run leaves out too: a shader may have changed under them.
fn every_one_is_in_a_shader() {
    let mut texts: HashMap<ElementType, Vec<String>> = HashMap::new();
    let mut gone = Vec::new();
    for Mutation { name, element, find, .. } in mutations() {
        let kernels = || sources(element).into_iter().map(|kernel| kernel.wgsl).collect();
        if !texts.entry(element).or_insert_with(kernels).iter().any(|text| text.contains(&*find)) {
            gone.push(format!("{name} ({element})"));
        }
    }
    assert!(gone.is_empty(), "{gone:#?}");
}

/// The table of an operation for one type, up to the first mismatch.
fn table(device: &Device, element: ElementType, op: Op) -> Result<u64, Box<Mismatch>> {
    if op.info().pass == Pass::Elements {
        return with_element!(element, T => with_oracle::<T>(device, &Oracle::REFERENCE, op));
    }
    let tally = find_mismatch_of_slices(device, element, op, seed());
    let tally = tally.unwrap_or_else(|error| panic!("{device:?}: {error}"));
    tally.first.map_or(Ok(tally.cases), |first| Err(Box::new(first)))
}

fn with_oracle<T: Element>(device: &Device, oracle: &Oracle<T>, op: Op) -> Result<u64, Box<Mismatch>> {
    find_mismatch(device, oracle, op, seed()).unwrap_or_else(|error| panic!("{device:?}: {error}"))
}

fn is_caught(adapter: &Adapter, mutation: &Mutation) {
    let Mutation { name, op, element, find, replace } = mutation.clone();
    let planted = Arc::new(AtomicBool::new(false));
    let seen = planted.clone();
    let begin = find.clone();
    let patch = move |source: &str| {
        seen.fetch_or(source.contains(&*begin), Ordering::Relaxed);
        source.replace(&*begin, &replace)
    };
    let device = block_on(open_patched(adapter, with_tiny_limits(adapter), patch)).unwrap();
    let caught = table(&device, element, op);
    assert!(planted.load(Ordering::Relaxed), "{name}: '{find}' is in no shader any more");
    match caught {
        Err(mismatch) => println!("{name}: caught, {mismatch}"),
        Ok(cases) => panic!("{name}: not caught in {cases} cases"),
    }
}

/// Some engines do not zero the memory of a workgroup, and some drivers do it unasked.
fn workgroups_begin_with_any_memory(adapter: &Adapter) {
    let begin = "    var n = invocation_index(id);\n    var work: Work;\n";
    let dirt = "    if lane <= LIMBS {\n        atomicStore(&partial[lane], 0xdeadbeefu);\n    }\n    workgroupBarrier();\n";
    let planted = Arc::new(AtomicBool::new(false));
    let seen = planted.clone();
    let patch = move |source: &str| {
        seen.fetch_or(source.contains(begin), Ordering::Relaxed);
        source.replace(begin, &format!("{dirt}{begin}"))
    };
    let device = block_on(open_patched(adapter, adapter.limits(), patch)).unwrap();
    for op in [Op::Sum, Op::Norm, Op::ClipByNormBackward] {
        let tally = check(&device, F16, op, false, Tier::Quick, seed()).unwrap();
        assert!(tally.cases > 0 && tally.mismatches == 0, "{tally:?}");
    }
    assert!(planted.load(Ordering::Relaxed), "'{begin}' is in no shader any more");
}

fn wrong_references_are_caught() {
    let right = Oracle::<f32>::REFERENCE;
    let wrong: [(&str, Op, Oracle<f32>); 6] = [
        ("a tie takes the bound", Op::Clip, Oracle { evaluate: |_, o| first(tie_takes_bound(o)), ..right }),
        ("the standard library's clamp", Op::Clip, Oracle { evaluate: |_, o| first(std_clamp(o)), ..right }),
        (
            "an absent bound is MAX",
            Op::Clip,
            Oracle {
                evaluate: |_, o| first(reference::clip(o.x, o.input(0), o.input(1).or(Some(f32::MAX)))),
                ..right
            },
        ),
        (
            "the gradient of ones",
            Op::ClipBackward,
            Oracle { evaluate: |op, o| reference::evaluate(op, Operands { g: 1.0, ..o }), ..right },
        ),
        ("nothing for the bounds of a tie", Op::ClipBackwardBounds, Oracle { evaluate: ties_to_x, ..right }),
        (
            "a sum one after the other",
            Op::ClipBackwardBounds,
            Oracle { sum: |leaves| leaves.iter().sum(), ..right },
        ),
    ];
    for (name, op, oracle) in wrong {
        match with_oracle(&Device::cpu(), &oracle, op) {
            Err(mismatch) => println!("{name}: caught, {mismatch}"),
            Ok(cases) => panic!("{name}: not caught in {cases} cases"),
        }
    }
    let of_bounds = Op::ClipBackwardBounds;
    let in_f16 = |leaves: &[f16]| leaves.iter().fold(f16::ZERO, |sum, &leaf| sum + leaf);
    let oracle = Oracle { sum: in_f16, ..Oracle::REFERENCE };
    assert!(with_oracle(&Device::cpu(), &oracle, of_bounds).is_err());
    let payload = |leaves: &[bf16]| match leaves.iter().find(|leaf| leaf.is_nan()) {
        Some(&nan) => nan,
        None => reference::sum(leaves),
    };
    let oracle = Oracle { sum: payload, ..Oracle::REFERENCE };
    assert!(with_oracle(&Device::cpu(), &oracle, of_bounds).is_err());
    // Rounded once instead of twice.
    let fused = |_: Op, o: Operands<'_, f32>| first((o.x as f64).mul_add(o.params[0], o.params[1]) as f32);
    let oracle = Oracle { evaluate: fused, ..right };
    assert!(with_oracle(&Device::cpu(), &oracle, Op::Affine).is_err());
}

fn first(value: f32) -> [f32; MAX_OUTPUTS] {
    [value, 0.0, 0.0, 0.0]
}

fn tie_takes_bound(o: Operands<'_, f32>) -> f32 {
    let (lo, hi) = (o.input(0), o.input(1));
    reference::clip(lo.filter(|lo| o.x <= *lo).unwrap_or(o.x), lo, hi)
}

/// `f32::max` and `f32::min` drop a NaN.
fn std_clamp(o: Operands<'_, f32>) -> f32 {
    o.x.max(o.input(0).unwrap_or(f32::NEG_INFINITY)).min(o.input(1).unwrap_or(f32::INFINITY))
}

fn ties_to_x(op: Op, o: Operands<'_, f32>) -> [f32; MAX_OUTPUTS] {
    let inclusive = BackwardRule { ties: TieRule::Inclusive, ..o.rule };
    let [_, lo, hi, _] = reference::evaluate(op, Operands { rule: inclusive, ..o });
    [reference::evaluate(op, o)[0], lo, hi, 0.0]
}

/// What `wgclip check` shows of a driver that cannot be trusted.
fn a_check_counts_mismatches(adapter: &Adapter) {
    let (find, replace) = ("compare_key(a) < compare_key(b)", "compare_key(a) <= compare_key(b)");
    let patch = move |source: &str| source.replace(find, replace);
    let device = block_on(open_patched(adapter, adapter.limits(), patch)).unwrap();
    let wrong = |rows: Vec<Row>| rows.into_iter().filter(|row| row.tally.mismatches > 0).collect::<Vec<_>>();
    let ops = [Op::Clip, Op::ClipBackward];
    let rows = wrong(run(&device, &[I16], &ops, 1, &mut |_| {}).unwrap());
    // An integer that is taken for less than its equal is clipped to the same bits; its gradient is not the same.
    assert_eq!(rows.iter().map(Row::name).collect::<Vec<_>>(), ["clip_backward", "clip_backward_in_place"]);
    let every_pattern = wrong(exhaustive(&device, &[U8], 1, &mut |_| {}).unwrap());
    assert!(every_pattern.iter().any(|row| row.op == Op::ClipBackward), "{every_pattern:?}");
    assert!(every_pattern.iter().all(|row| row.tally.first.is_some()));
}

/// The oracle that the faults are judged by passes where nothing is planted. The table itself is tested with every operation.
fn the_right_kernels_pass(adapter: &Adapter) {
    let device = block_on(open_patched(adapter, with_tiny_limits(adapter), str::to_owned)).unwrap();
    table(&device, F16, Op::ClipBackward).unwrap_or_else(|mismatch| panic!("{mismatch}"));
    table(&device, F16, Op::Sum).unwrap_or_else(|mismatch| panic!("{mismatch}"));
}
