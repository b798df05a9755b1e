//! The conformance table can fail: kernels and references with a planted fault are each caught.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pollster::block_on;
use wgclip::gpu::Context;
use wgclip::{Device, Gradient, reference};

use crate::conformance::{every_length, seed, special_values};
use crate::devices::{gpu_adapters, tight};
use crate::runner::{Mismatch, Oracle};

/// A wrong kernel: its name, what is replaced in the shaders, and by what.
const WRONG_KERNELS: &[(&str, &str, &str)] = &[
    ("less taken for less or equal", "key(a) < key(b)", "key(a) <= key(b)"),
    ("bounds swapped", "let lo = splat(params.lo);", "let lo = splat(params.hi);"),
    ("last block lost", "i < params.blocks", "i + 1u < params.blocks"),
    ("rows of workgroups ignored", "invocation.y * params.stride + invocation.x", "invocation.x"),
    (
        "absent bound taken for MAX",
        "return bits.xxxx;",
        "return select(bits.xxxx, vec4(0x7f7fffffu), bits.xxxx == vec4(0x7fffffffu));",
    ),
    ("NaN taken for a number", "select(y, v, is_nan(v))", "y"),
    ("crossed bounds give the lower", "let floor = select(lo, hi, less(hi, lo));", "let floor = lo;"),
    ("NaN quieted", "return lanes;", "return select(lanes, lanes | vec4(0x400000u), is_nan(lanes));"),
    (
        "subnormals flushed",
        "return block;",
        "return select(block, vec4(0u), (block & vec4(MAGNITUDE)) < vec4(NORMAL));",
    ),
    ("minus zero below zero", "-magnitude,", "-magnitude - vec4(1),"),
    ("not in place", "y[i] = clip_block(y[i])", "y[i] = y[i]"),
    ("nothing written", "gx[i] = result;", ""),
    (
        "gradient multiplied by a mask",
        "select(vec4(0u), v, back)",
        "bitcast<vec4<u32>>(bitcast<vec4<f32>>(v) * 0.0)",
    ),
    ("ties mistaken", "TIES_EXCLUSIVE: u32 = 1u", "TIES_EXCLUSIVE: u32 = 3u"),
    (
        "halves truncated",
        "let rounded = shifted + (shifted & magnitude & vec4(1u));",
        "let rounded = shifted;",
    ),
    ("toward the wrong way", "less(zero, upstream)", "less(upstream, zero)"),
    ("NaN gradient policy ignored", "params.nan_zero != 0u", "false"),
];

/// The part of the table that reaches every branch of every kernel, on a device with tight limits.
fn table(device: &Device, oracle: &Oracle<f32>) -> Result<usize, Box<Mismatch>> {
    let rng = &mut fastrand::Rng::with_seed(seed());
    Ok(every_length(device, oracle, rng)? + special_values(device, oracle, rng)?)
}

#[test]
fn wrong_kernels_are_caught() {
    let adapters = gpu_adapters();
    let adapter = &adapters[0];
    for &(name, find, replace) in WRONG_KERNELS {
        let planted = Arc::new(AtomicBool::new(false));
        let seen = planted.clone();
        let patch = move |source: &str| {
            seen.fetch_or(source.contains(find), Ordering::Relaxed);
            source.replace(find, replace)
        };
        let context = block_on(Context::request_patched(adapter, tight(adapter), patch)).unwrap();
        let caught = table(&context.into(), &Oracle::REFERENCE);
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
    let wrong: [(&str, Oracle<f32>); 4] = [
        ("a tie takes the bound", Oracle { clip: |x, lo, _| lo.filter(|lo| x <= *lo).unwrap_or(x), ..right }),
        ("the standard library's clamp", Oracle { clip: std_clamp, ..right }),
        (
            "an absent bound is MAX",
            Oracle { clip: |x, lo, hi| reference::clip(x, lo, hi.or(Some(f32::MAX))), ..right },
        ),
        ("the gradient of ones", Oracle { clip_grad: grad_of_ones, ..right }),
    ];
    for (name, oracle) in wrong {
        match table(&Device::cpu(), &oracle) {
            Err(mismatch) => println!("{name}: caught, {mismatch}"),
            Ok(cases) => panic!("{name}: not caught in {cases} cases"),
        }
    }
}

/// `f32::max` and `f32::min` drop a NaN.
fn std_clamp(x: f32, lo: Option<f32>, hi: Option<f32>) -> f32 {
    x.max(lo.unwrap_or(f32::NEG_INFINITY)).min(hi.unwrap_or(f32::INFINITY))
}

/// What a test with an upstream gradient of one would not notice.
fn grad_of_ones(x: f32, _: f32, lo: Option<f32>, hi: Option<f32>, rule: Gradient) -> f32 {
    reference::clip_grad(x, 1.0, lo, hi, rule)
}

/// The oracle that the faults are judged by passes where nothing is planted.
#[test]
fn the_right_kernels_pass() {
    let adapters = gpu_adapters();
    let adapter = &adapters[0];
    let context = block_on(Context::request_patched(adapter, tight(adapter), str::to_owned)).unwrap();
    let cases = table(&context.into(), &Oracle::REFERENCE).unwrap_or_else(|mismatch| panic!("{mismatch}"));
    assert!(cases > 1_000_000);
}
