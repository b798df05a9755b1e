//! Checks every bit pattern of a type.

use wgclip::op::Op;
use wgclip::{
    BackwardRule, Bound, Bounds, Device, Element, ElementType, NormKind, NormLimit, Result, reference,
    testing, with_element,
};

use super::table::{Progress, Row};
use crate::case::{Case, Host, Mismatch, Oracle, Tally, Variant};
use crate::{inputs, parallel};

/// 4-byte elements checked at once.
const CHUNK: usize = 1 << 24;

/// Bits of bounds; `None` is no bound.
type Pair = (Option<u32>, Option<u32>);

/// A pass over all patterns between a pair of bounds, with a callback after each chunk.
type Pass<'a> = &'a dyn Fn(Pair, &mut dyn FnMut()) -> Result<Tally>;

/// Zeros, subnormals, infinities, ordinary numbers, crossed.
const F32_PAIRS: &[Pair] = &[
    (Some(0x8000_0000), Some(0x0000_0001)),
    (Some(0xff80_0000), Some(0x40c0_0000)),
    (Some(0x3f80_0000), Some(0xbf80_0000)),
    (Some(0x8000_0003), Some(0x0000_0000)),
    (Some(0x007f_ffff), Some(0x7f80_0000)),
    (None, Some(0x8080_0000)),
];

const I32_PAIRS: &[Pair] =
    &[(Some(-1i32 as u32), Some(1)), (Some(0x7fff_ffff), Some(0x8000_0000)), (None, Some(0))];

const U32_PAIRS: &[Pair] =
    &[(Some(1), Some(0x8000_0000)), (Some(0xffff_ffff), Some(0)), (Some(0x7fff_ffff), None)];

/// The types to which every f32 is converted.
const F32_TARGETS: [ElementType; 4] =
    [ElementType::F16, ElementType::Bf16, ElementType::F8E4M3Fn, ElementType::F8E5M2];

/// The number of pairs with which the backward pass of f32 is checked.
const F32_GRAD_PAIRS: usize = 4;

/// Checks every pattern of these types: for 8 and 16-bit types every operation and rule (for 8-bit floats
/// between every pair of them) and, for floats, each scaled by its own norm; for f32 the clip,
/// its conversions and the default backward pass; for i32 and u32 the clip. 64-bit types have too many patterns.
///
/// The 2^32 patterns are generated on the device; all results are compared on the host, with the reference itself.
/// `seed` generates the upstream gradients; `progress` is called after each step.
///
/// # Errors
/// Those of the device; a mismatch is not an error.
pub fn exhaustive(
    device: &Device,
    elements: &[ElementType],
    seed: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Row>> {
    let small = elements.iter().copied().filter(|element| element.size() <= 2);
    let wide = [
        (ElementType::F32, F32_PAIRS.len() + F32_TARGETS.len() + F32_GRAD_PAIRS),
        (ElementType::I32, I32_PAIRS.len()),
        (ElementType::U32, U32_PAIRS.len()),
    ];
    let chunks = (1u64 << 32) / CHUNK as u64;
    let pairs = |element| with_element!(element, T => pairs::<T>().len() as u64);
    let passes =
        wide.iter().filter(|(element, _)| elements.contains(element)).map(|(_, passes)| *passes as u64);
    let total = small.clone().map(pairs).sum::<u64>() + passes.sum::<u64>() * chunks;
    let mut done = 0;
    let mut step = |element| {
        done += 1;
        progress(Progress { done, total, element });
    };

    let mut rows = Vec::new();
    for element in small {
        with_element!(element, T => {
            rows.extend(every_rule::<T>(device, seed, &mut || step(element))?);
            rows.extend(every_norm::<T>(device)?);
        });
        testing::drop_pipelines(device);
    }
    let mut wide = |element, op, pairs: &[Pair], row: Pass<'_>| -> Result<()> {
        if !elements.contains(&element) {
            return Ok(());
        }
        let mut tally = Tally::default();
        for &pair in pairs {
            tally.add(row(pair, &mut || step(element))?);
        }
        rows.push(Row { element, op, in_place: true, tally });
        Ok(())
    };
    use ElementType::{F32, I32, U32};
    wide(F32, Op::Clip, F32_PAIRS, &|pair, step| every_clip::<f32>(device, pair, step))?;
    wide(F32, Op::ClipBackward, &F32_PAIRS[..F32_GRAD_PAIRS], &|pair, step| {
        every_gradient(device, pair, step)
    })?;
    let targets = [(None, None); F32_TARGETS.len()];
    let target = std::cell::Cell::new(0);
    wide(F32, Op::ClipTo, &targets, &|_, step| {
        let to = F32_TARGETS[target.replace(target.get() + 1)];
        with_element!(to, U => every_conversion::<U>(device, step))
    })?;
    wide(I32, Op::Clip, I32_PAIRS, &|pair, step| every_clip::<i32>(device, pair, step))?;
    wide(U32, Op::Clip, U32_PAIRS, &|pair, step| every_clip::<u32>(device, pair, step))?;
    Ok(rows)
}

/// Pairs of bounds for types with few patterns: each with the next, itself, no bound, and one further off.
fn pairs<T: Element>() -> Vec<(Option<T>, Option<T>)> {
    let bounds = inputs::bound_values::<T>();
    let at = |i: usize| Some(bounds[i % bounds.len()]);
    let around = |i| match i % 4 {
        0 => (at(i), at(i + 1)),
        1 => (at(i + 3), at(i)),
        2 => (at(i), None),
        _ => (None, at(i)),
    };
    (0..bounds.len()).map(around).chain([(at(5), at(5)), (None, None)]).collect()
}

fn every_rule<T: Element>(device: &Device, seed: u64, step: &mut dyn FnMut()) -> Result<Vec<Row>> {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let forms = Op::variants().filter(|(op, _)| Variant::new(*op).is_for(T::TYPE));
    let row = |(op, in_place)| Row { element: T::TYPE, op, in_place, tally: Tally::default() };
    let mut rows: Vec<_> = forms.map(row).collect();
    let x: Vec<T> = (0..=T::TYPE.layout().mask()).map(T::from_bits).collect();
    if T::TYPE.size() == 1 && T::TYPE.is_float() {
        between_all(device, &x, rng, &mut rows)?;
    }
    for (lo, hi) in pairs::<T>() {
        let bound = |value: Option<T>| value.map_or(Bound::Absent, Bound::Value);
        let g = inputs::upstream(rng, x.len());
        let case = Case {
            dims: vec![x.len()],
            x: x.clone(),
            g,
            lo: bound(lo),
            hi: bound(hi),
            others: inputs::values(rng),
            params: inputs::PARAMS,
            all_types: true,
        };
        every_variant(device, &case, &mut rows)?;
        step();
    }
    Ok(rows)
}

fn every_variant<T: Element>(device: &Device, case: &Case<T>, rows: &mut [Row]) -> Result<()> {
    for row in rows {
        let variants =
            Variant::all().filter(|variant| (variant.op, variant.in_place) == (row.op, row.in_place));
        row.tally.add(case.compare(device, &Oracle::REFERENCE, variants)?);
    }
    Ok(())
}

/// Every value scaled by its own norm; every pair of 8-bit values as a norm and as a sum.
fn every_norm<T: Element>(device: &Device) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let all: Vec<T> = (0..=T::TYPE.layout().mask()).map(T::from_bits).collect();
    if Op::Norm.is_for(T::TYPE, device.info().limits.is_some()) {
        let x = device.tensor(&all, [all.len()])?;
        let each = |limit: NormLimit| {
            parallel::map_many(all.len(), &|i| {
                let norm = reference::norm(&all[i..=i], limit.kind);
                reference::scale(all[i], reference::scaling(norm, &limit))
            })
        };
        for limit in [0.0, 1e-5, 0.3, 1.0, 100.0] {
            let limit = NormLimit::new(limit).eps(1e-6);
            let (actual, expected) = (x.clip_by_norm(limit, [])?.to_vec()?, each(limit));
            let op = format!("clip_by_norm of slices to {}", limit.max_norm);
            let tally = compare(device, &op, (None, None), 0, &actual, &|i| expected[i]);
            rows.push((Op::ClipByNorm, tally));
        }
    }
    if T::TYPE.size() == 1 {
        let pairs: Vec<T> = all.iter().flat_map(|&a| all.iter().flat_map(move |&b| [a, b])).collect();
        let x = device.tensor(&pairs, [pairs.len() / 2, 2])?;
        let sums: Vec<_> = pairs.chunks(2).map(reference::sum).collect();
        let actual = x.sum([1])?.to_vec()?;
        rows.push((Op::Sum, compare(device, "sum of slices", (None, None), 0, &actual, &|i| sums[i])));
        if Op::Norm.is_for(T::TYPE, device.info().limits.is_some()) {
            let norms: Vec<_> = pairs.chunks(2).map(|pair| reference::norm(pair, NormKind::L2)).collect();
            let actual = x.norm(NormKind::L2, [1])?.to_vec()?;
            let tally = compare(device, "norm of slices", (None, None), 0, &actual, &|i| norms[i]);
            rows.push((Op::Norm, tally));
        }
    }
    let mut made: Vec<Row> = Vec::new();
    for (op, tally) in rows {
        match made.iter_mut().find(|row| row.op == op) {
            Some(row) => row.tally.add(tally),
            None => made.push(Row { element: T::TYPE, op, in_place: false, tally }),
        }
    }
    Ok(made)
}

/// Every value between every pair of values of its type, including NaN, and with only one bound.
fn between_all<T: Element>(
    device: &Device,
    all: &[T],
    rng: &mut fastrand::Rng,
    rows: &mut [Row],
) -> Result<()> {
    let n = all.len();
    let bound = |dims: Vec<usize>| Bound::Tensor(Host { data: all.to_vec(), dims });
    let sides = [
        (bound(vec![n, 1, 1]), bound(vec![n, 1])),
        (bound(vec![n, 1, 1]), Bound::Absent),
        (Bound::Absent, bound(vec![n, 1])),
    ];
    for (lo, hi) in sides {
        let x = all.repeat(n * n);
        let g = inputs::upstream(rng, x.len());
        let (others, params) = (inputs::values(rng), inputs::PARAMS);
        let case = Case { dims: vec![n, n, n], x, g, lo, hi, others, params, all_types: true };
        every_variant(device, &case, rows)?;
    }
    Ok(())
}

fn bounds<T: Element>((lo, hi): Pair) -> Result<(Option<T>, Option<T>, Bounds<T>)> {
    let value = |bits: Option<u32>| bits.map(|bits| T::from_bits(bits.into()));
    let (lo, hi) = (value(lo), value(hi));
    Ok((lo, hi, Bounds::new(lo, hi)?))
}

/// The first pattern of each chunk.
fn starts() -> impl Iterator<Item = u32> {
    (0..(1u64 << 32) / CHUNK as u64).map(|n| (n * CHUNK as u64) as u32)
}

fn every_clip<T: Element>(device: &Device, pair: Pair, step: &mut dyn FnMut()) -> Result<Tally> {
    let (lo, hi, bounds) = bounds::<T>(pair)?;
    let mut tally = Tally::default();
    for start in starts() {
        let mut x = testing::patterns::<T>(device, start, 1, CHUNK)?;
        x.clip_in_place(&bounds)?;
        let expected = |i: usize| reference::clip(T::from_bits(u64::from(start) + i as u64), lo, hi);
        tally.add(compare(device, "clip_in_place", pair, start, &x.into_vec()?, &expected));
        step();
    }
    Ok(tally)
}

fn every_conversion<U: Element>(device: &Device, step: &mut dyn FnMut()) -> Result<Tally> {
    let mut tally = Tally::default();
    for start in starts() {
        let x = testing::patterns::<f32>(device, start, 1, CHUNK)?;
        let y = x.clip_to::<U>(Bounds::new(Bound::Absent, Bound::Absent)?)?.into_vec()?;
        let expected = |i: usize| reference::clip_to::<f32, U>(f32::from_bits(start + i as u32), None, None);
        let op = format!("clip_to {}", U::TYPE);
        tally.add(compare(device, &op, (None, None), start, &y, &expected));
        step();
    }
    Ok(tally)
}

/// An odd number, so that the upstream gradient also takes every pattern.
const UPSTREAM_STEP: u32 = 0x9e37_79b1;

fn every_gradient(device: &Device, pair: Pair, step: &mut dyn FnMut()) -> Result<Tally> {
    let (lo, hi, bounds) = bounds::<f32>(pair)?;
    let rule = BackwardRule::default();
    let mut tally = Tally::default();
    for start in starts() {
        let x = testing::patterns::<f32>(device, start, 1, CHUNK)?;
        let first = start.wrapping_mul(UPSTREAM_STEP);
        let mut g = testing::patterns::<f32>(device, first, UPSTREAM_STEP, CHUNK)?;
        x.clip_backward_in_place(&mut g, &bounds, rule)?;
        let expected = |i: usize| {
            let g = first.wrapping_add((i as u32).wrapping_mul(UPSTREAM_STEP));
            reference::clip_backward(f32::from_bits(start + i as u32), f32::from_bits(g), lo, hi, rule)
        };
        tally.add(compare(device, "clip_backward", pair, start, &g.into_vec()?, &expected));
        step();
    }
    Ok(tally)
}

fn compare<T: Element>(
    device: &Device,
    op: &str,
    (lo, hi): Pair,
    start: u32,
    actual: &[T],
    expected: &(dyn Fn(usize) -> T + Sync),
) -> Tally {
    let bits = |bound: Option<u32>| bound.map_or("none".into(), |bits| format!("{bits:#x}"));
    let mut tally = Tally::default();
    tally.compare(&parallel::map_many(actual.len(), expected), actual, |mismatch| Mismatch {
        device: device.info().to_string(),
        op: op.into(),
        operands: format!("lo {}, hi {}, x from {start:#x}", bits(lo), bits(hi)),
        ..mismatch
    });
    tally
}
