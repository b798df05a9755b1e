//! The conformance table can fail: kernels and references with a planted fault are each caught.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pollster::block_on;
use wgclip::ElementType::{self, Bf16, F16, F32, F64, I16, I64, U8, U32, U64};
use wgclip::check::{self, Mismatch, Oracle, Row, find};
use wgclip::gpu::Context;
use wgclip::{Device, Element, Gradient, Ties, bf16, f16, reference, with_element};

use crate::conformance::seed;
use crate::devices::{gpu_adapters, tight};

/// A wrong kernel: its name, the type that shows it, what is replaced in the shaders, and by what.
const WRONG_KERNELS: &[(&str, ElementType, &str, &str)] = &[
    ("less taken for less or equal", F32, "key(a) < key(b)", "key(a) <= key(b)"),
    ("bounds swapped", F32, "return Bounds(told.lo, told.hi);", "return Bounds(told.hi, told.lo);"),
    ("last block lost", F32, "if i < blocks", "if i + 1u < blocks"),
    ("rows of workgroups ignored", F32, "invocation.y * params.stride + invocation.x", "invocation.x"),
    (
        "absent bound taken for one",
        F32,
        "return within(v, told.ranges.zw);",
        "return within(v, told.ranges.zw) | ((v == vec4(INFINITY)) & !told.has_hi);",
    ),
    ("a range too long", F32, "< vec4(i32(range.y))", "<= vec4(i32(range.y))"),
    ("ranges that begin at the first place", I16, "place(v) - vec4(range.x)", "place(v) ^ vec4(SIGN)"),
    (
        "negatives in the wrong order",
        F16,
        "return v ^ (vec4<u32>(vec4<i32>(v) >> vec4(31u)) & vec4(MAGNITUDE));",
        "return v;",
    ),
    ("NaN taken for a number", F32, "lo_nan(bounds.lo)) & !is_nan(v)", "lo_nan(bounds.lo))"),
    ("wide NaN taken for a number", F64, "less(v, bounds.lo) & !is_nan(v)", "less(v, bounds.lo)"),
    ("NaN bounds dropped", F32, "less(v, bounds.lo) | lo_nan(bounds.lo)", "less(v, bounds.lo)"),
    ("the second NaN comes out", F32, "& !is_nan(v) & !lo_nan(bounds.lo);", "& !is_nan(v);"),
    ("crossed bounds give the lower", F32, "slice(told.floor, s)", "slice(told.lo, s)"),
    (
        "crossed tensors give the lower",
        F32,
        "select(bounds.lo, bounds.hi, (",
        "select(bounds.lo, bounds.lo, (",
    ),
    ("NaN quieted", F32, "return lanes;", "return select(lanes, lanes | vec4(0x400000u), is_nan(lanes));"),
    (
        "subnormals flushed",
        F32,
        "return block;",
        "return select(block, vec4(0u), (block & vec4(MAGNITUDE)) < vec4(NORMAL));",
    ),
    ("minus zero below zero", F32, "-magnitude,", "-magnitude - vec4(1),"),
    ("not in place", F32, "y[i] = clip_block(y[i], bounds_of(i))", "y[i] = y[i]"),
    ("nothing written", F32, "gx[i] = grads_of(i, g[i]).x;", ""),
    (
        "gradient multiplied by a mask",
        F32,
        "let rest = select(inside, zero, above);",
        "let rest = bitcast<vec4<u32>>(bitcast<vec4<f32>>(inside) * select(vec4(1.0), vec4(0.0), above));",
    ),
    ("ties mistaken", F32, "TIES_EXCLUSIVE: u32 = 1u", "TIES_EXCLUSIVE: u32 = 3u"),
    ("halves truncated", F32, "return floor + (floor & v & vec4(UNIT));", "return floor;"),
    ("toward the wrong way", F32, "less(zero, upstream)", "less(upstream, zero)"),
    ("NaN gradient policy ignored", F32, "select(upstream, zero, told.nan_zero)", "upstream"),
    ("absent bound ties", U8, "told.has_lo & equal", "vec4(true) & equal"),
    ("slices in the wrong order", I16, "return (block << ", "return (block >> "),
    ("slices not masked", U8, "& vec4(~(UNIT - 1u));", ";"),
    ("unsigned taken for signed", U32, "select(v ^ vec4(SIGN), v, SIGNED)", "v"),
    ("low word ignored", I64, "(ka.high == kb.high & ka.low < kb.low)", "vec2(false)"),
    ("borrow of a wide negative lost", F64, "select(vec2(0u), vec2(1u), low == vec2(0u))", "vec2(0u)"),
    ("NaN in the low word missed", F64, "(infinity & v.xz != vec2(0u))", "vec2(false)"),
    ("carry of a wide half lost", U64, "rounded < low", "vec2(false)"),
    ("other half rounded too", I16, "    return v - half;", "    return half;"),
    ("strides of the bounds swapped", F32, "place.lo += at * axis.y;", "place.lo += at * axis.z;"),
    ("no carry from axis to axis", F32, "carry = select(0u, 1u, at >= axis.x);", "carry = 0u;"),
    ("a dispatch that begins at the first element", F32, "axis.w + rest % axis.x", "rest % axis.x"),
    ("rows of a dispatch that begin at the first", F32, "params.axes[0].w + n / blocks", "n / blocks"),
    ("columns of the wrong width", U8, "n % blocks", "n % (blocks + 1u)"),
    (
        "one bound for a few of its elements",
        I16,
        "return vec4(element.x * (MAX / (MAX >> TOP)));",
        "return vec4(element.x);",
    ),
    ("a row too long", F32, "(*place).at[a - 1u] < axis.x", "(*place).at[a - 1u] <= axis.x"),
    ("mask bits shifted", F32, "bits_of(block, bounds) << ", "bits_of(block, bounds) >> "),
    ("mask of a tie mistaken", F32, "if TIES == TIES_EXCLUSIVE {\n        let", "if true {\n        let"),
    ("words of the mask mixed up", F32, "bits = mask[word];", "bits = mask[word ^ 1u];"),
    ("sums in another order", F32, "((n >> level) & 1u) == 1u", "level < 3u && n == 7u"),
    ("a leaf beyond the last", F32, "n >= params.leaves", "n > params.leaves"),
    (
        "sums in the type itself",
        Bf16,
        "return vec2(add_f32(a.x, b.x), 0u);",
        "return vec2(add_f32(a.x, b.x) & 0xffff0000u, 0u);",
    ),
    ("sums truncated", F16, "rounded = kept + select", "rounded = kept + 0u * select"),
    ("sums of subnormals flushed", F16, "if size < NORMAL {", "if size < NORMAL { return vec2(sign, 0u);"),
    ("the sticky bit lost", F64, "select(0u, 1u, lost != 0u), shifted.y", "0u, shifted.y"),
    ("carry of a wide sum lost", I64, "select(0u, 1u, low < a.x)", "0u"),
    ("sums of NaN keep a payload", F32, "return select(a, F32_NAN, none);", "return a;"),
    ("a saved mask not used in place", F32, "gx[i] = masked(gx[i], bits >> (n * SLICES * LANES));", ""),
    ("the gradient not taken in place", F32, "gx[i] = grads_of(i, gx[i]).x;", ""),
    ("the lower bound's gradient in the upper's place", F32, "ghi[i] = grads.hi;", "ghi[i] = grads.lo;"),
    (
        "toward for the bounds too",
        F32,
        "given(rest), ties_lo), rest, below)",
        "given(to_t), ties_lo), to_t, below)",
    ),
    (
        "the last NaN supplies the output",
        F32,
        "let nan_hi = hi_nan(hi) & !nan_lo;",
        "let nan_hi = hi_nan(hi);",
    ),
    ("the upper bound's gradient in the lower's place", F32, "glo[i] = grads.lo;", "glo[i] = grads.hi;"),
];

/// The table for one type, up to the first mismatch.
fn table(device: &Device, element: ElementType) -> Result<u64, Box<Mismatch>> {
    with_element!(element, T => with_oracle::<T>(device, &Oracle::REFERENCE))
}

fn with_oracle<T: Element>(device: &Device, oracle: &Oracle<T>) -> Result<u64, Box<Mismatch>> {
    find(device, oracle, seed()).unwrap_or_else(|error| panic!("{device:?}: {error}"))
}

#[test]
fn wrong_kernels_are_caught() {
    let adapters = gpu_adapters();
    let adapter = &adapters[0];
    for &(name, element, find, replace) in WRONG_KERNELS {
        let planted = Arc::new(AtomicBool::new(false));
        let seen = planted.clone();
        let patch = move |source: &str| {
            seen.fetch_or(source.contains(find), Ordering::Relaxed);
            source.replace(find, replace)
        };
        let context = block_on(Context::request_patched(adapter, tight(adapter), patch)).unwrap();
        let caught = table(&context.into(), element);
        assert!(planted.load(Ordering::Relaxed), "{name}: '{find}' is in no shader any more");
        match caught {
            Err(mismatch) => println!("{name}: caught, {mismatch}"),
            Ok(cases) => panic!("{name}: not caught in {cases} cases"),
        }
    }
}

#[test]
fn wrong_references_are_caught() {
    let right = Oracle::<f32>::REFERENCE;
    let wrong: [(&str, Oracle<f32>); 6] = [
        ("a tie takes the bound", Oracle { clip: |x, lo, _| lo.filter(|lo| x <= *lo).unwrap_or(x), ..right }),
        ("the standard library's clamp", Oracle { clip: std_clamp, ..right }),
        (
            "an absent bound is MAX",
            Oracle { clip: |x, lo, hi| reference::clip(x, lo, hi.or(Some(f32::MAX))), ..right },
        ),
        ("the gradient of ones", Oracle { clip_grads: grads_of_ones, ..right }),
        ("nothing for the bounds of a tie", Oracle { clip_grads: ties_to_x, ..right }),
        ("a sum one after the other", Oracle { sum: |leaves| leaves.iter().sum(), ..right }),
    ];
    for (name, oracle) in wrong {
        match with_oracle(&Device::cpu(), &oracle) {
            Err(mismatch) => println!("{name}: caught, {mismatch}"),
            Ok(cases) => panic!("{name}: not caught in {cases} cases"),
        }
    }
    let in_f16 = |leaves: &[f16]| leaves.iter().fold(f16::ZERO, |sum, &leaf| sum + leaf);
    assert!(with_oracle(&Device::cpu(), &Oracle { sum: in_f16, ..Oracle::REFERENCE }).is_err());
    let payload = |leaves: &[bf16]| match leaves.iter().find(|leaf| leaf.is_nan()) {
        Some(&nan) => nan,
        None => reference::sum(leaves),
    };
    assert!(with_oracle(&Device::cpu(), &Oracle { sum: payload, ..Oracle::REFERENCE }).is_err());
}

/// `f32::max` and `f32::min` drop a NaN.
fn std_clamp(x: f32, lo: Option<f32>, hi: Option<f32>) -> f32 {
    x.max(lo.unwrap_or(f32::NEG_INFINITY)).min(hi.unwrap_or(f32::INFINITY))
}

/// What a test with an upstream gradient of one would not notice.
fn grads_of_ones(x: f32, _: f32, lo: Option<f32>, hi: Option<f32>, rule: Gradient) -> reference::Grads<f32> {
    reference::clip_grads(x, 1.0, lo, hi, rule)
}

fn ties_to_x(x: f32, g: f32, lo: Option<f32>, hi: Option<f32>, rule: Gradient) -> reference::Grads<f32> {
    let bounds = reference::clip_grads(x, g, lo, hi, Gradient { ties: Ties::Inclusive, ..rule });
    reference::Grads { x: reference::clip_grad(x, g, lo, hi, rule), ..bounds }
}

/// What `wgclip check` shows of a driver that cannot be trusted.
#[test]
fn a_check_counts_the_mismatches_of_a_wrong_kernel() {
    let adapters = gpu_adapters();
    let patch = |source: &str| source.replace("key(a) < key(b)", "key(a) <= key(b)");
    let context = block_on(Context::request_patched(&adapters[0], adapters[0].limits(), patch)).unwrap();
    let device = context.into();
    let wrong = |rows: Vec<Row>| rows.into_iter().filter(|row| row.tally.mismatches > 0).collect::<Vec<_>>();
    let rows = wrong(check::run(&device, &[I16], 1, &mut |_| {}).unwrap());
    let ops: Vec<_> = rows.iter().map(|row| row.op).collect();
    // An integer that is taken for less than its equal is clipped to the same bits; its gradient is not the same.
    assert_eq!(ops, ["clip_saving", "clip_grad", "clip_grad_in_place", "bound_grads"]);
    let every_pattern = wrong(check::exhaustive(&device, &[U8], 1, &mut |_| {}).unwrap());
    assert!(every_pattern.iter().any(|row| row.op == "clip_grad"), "{every_pattern:?}");
    assert!(every_pattern.iter().all(|row| row.tally.first.is_some()));
}

/// The oracle that the faults are judged by passes where nothing is planted.
#[test]
fn the_right_kernels_pass() {
    let adapters = gpu_adapters();
    let adapter = &adapters[0];
    let context = block_on(Context::request_patched(adapter, tight(adapter), str::to_owned)).unwrap();
    let device = context.into();
    for element in [F32, F16, I64, U8] {
        let cases = table(&device, element).unwrap_or_else(|mismatch| panic!("{mismatch}"));
        assert!(cases > 1_000_000);
    }
}
