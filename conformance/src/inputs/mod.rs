//! Test inputs: special values, their neighbours, and random bits, all derived from the layout of a type.

mod rounding;
mod sums;

use wgclip::element::NumberClass;
use wgclip::{Bound, Element};

use crate::case::{Case, Host};

pub(crate) use rounding::{curve, grid, near_halves};
pub(crate) use sums::{SUM_KINDS, above_middle, hard_to_sum};

/// The bits of a number that a float type can represent.
fn float_bits<T: Element>(value: f64) -> u64 {
    T::from_f64(value).to_bits()
}

/// Bit patterns where implementations go wrong: zeros, subnormals, the ends of every range, NaN payloads.
pub fn specials<T: Element>() -> Vec<T> {
    let layout = T::TYPE.layout();
    let (sign, mask) = (layout.sign(), layout.mask());
    let mut bits = match layout.class {
        NumberClass::Float { .. } => {
            let (normal, last) = (layout.min_normal(), layout.max_number());
            let (one, quiet) = (float_bits::<T>(1.0), normal / 2);
            let mut bits = vec![0, 1, 2, 3];
            bits.extend([normal / 2, normal - 2, normal - 1, normal, normal + 1, normal + 3]);
            bits.extend([2 * normal - 1, 2 * normal, 2 * normal + 1]);
            bits.extend([float_bits::<T>(0.5), one - 1, one, one + 1, float_bits::<T>(6.0)]);
            bits.extend([last - 2, last - 1, last]);
            // Signalling and quiet NaN, if the type has them.
            bits.extend([last + 1, last + quiet - 1]);
            bits.extend([last + quiet, last + quiet + 0x12345 % quiet, sign - 1]);
            bits.retain(|&bits| bits < sign);
            bits
        }
        NumberClass::Signed | NumberClass::Unsigned => {
            let mut bits = vec![0, 1, 2, 3, 5, 6, 7, 100];
            bits.extend([sign - 2, sign - 1, mask / 3, mask / 255]);
            // Around the boundary between the two words of a 64-bit element.
            bits.extend([0x7fff_ffff, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001].map(|b| b & mask));
            bits
        }
    };
    let negative: Vec<_> = match layout.class {
        NumberClass::Float { .. } => bits.iter().map(|b| b | sign).collect(),
        _ => bits.iter().map(|b| b.wrapping_neg() & mask).collect(),
    };
    bits.extend(negative);
    bits.sort_unstable();
    bits.dedup();
    bits.into_iter().map(T::from_bits).collect()
}

/// Bounds to pair with one another: ordinary, equal, crossed, zeros of both signs, subnormals, the ends.
pub(crate) fn bound_values<T: Element>() -> Vec<T> {
    let layout = T::TYPE.layout();
    let (sign, mask) = (layout.sign(), layout.mask());
    let bits = match layout.class {
        NumberClass::Float { .. } => {
            let (normal, last, one) = (layout.min_normal(), layout.max_number(), float_bits::<T>(1.0));
            let magnitudes = [0, 1, normal - 1, normal, one, float_bits::<T>(6.0), last - 1, last];
            magnitudes.iter().flat_map(|&m| [m, m | sign]).collect()
        }
        NumberClass::Signed | NumberClass::Unsigned => {
            let small = [0, 1, 2, 6].iter().flat_map(|&b: &u64| [b, b.wrapping_neg() & mask]);
            let mut bits: Vec<_> = small.chain([sign - 1, sign, sign + 1, mask / 3]).collect();
            bits.extend([0xffff_ffff, 0x1_0000_0000].map(|b| b & mask));
            bits.sort_unstable();
            bits.dedup();
            bits
        }
    };
    bits.into_iter().map(T::from_bits).collect()
}

/// `len` random bit patterns.
pub(crate) fn random<T: Element>(rng: &mut fastrand::Rng, len: usize) -> Vec<T> {
    (0..len).map(|_| T::from_bits(rng.u64(..))).collect()
}

/// Upstream gradients: special values and random bits, shuffled.
pub(crate) fn upstream<T: Element>(rng: &mut fastrand::Rng, len: usize) -> Vec<T> {
    let specials = specials::<T>();
    let one = |_| match rng.bool() {
        true => specials[rng.usize(..specials.len())],
        false => T::from_bits(rng.u64(..)),
    };
    (0..len).map(one).collect()
}

/// Every pair of special values as x and g, then random bits, between two values.
pub(crate) fn pairs<T: Element>(rng: &mut fastrand::Rng, lo: Option<T>, hi: Option<T>) -> Case<T> {
    let specials = specials::<T>();
    let pair = |&x: &T| specials.iter().map(move |&g| (x, g));
    let (mut x, mut g): (Vec<T>, Vec<T>) = specials.iter().flat_map(pair).unzip();
    x.extend(random::<T>(rng, 515));
    g.extend(random::<T>(rng, 515));
    let bound = |value: Option<T>| value.map_or(Bound::Absent, Bound::Value);
    Case {
        dims: vec![x.len()],
        x,
        g,
        lo: bound(lo),
        hi: bound(hi),
        others: values(rng),
        params: params(rng),
        all_types: false,
    }
}

/// Every special value between every pair of bounds, NaN among them, all as tensors.
pub(crate) fn combinations<T: Element>(rng: &mut fastrand::Rng) -> Case<T> {
    let mut bounds = bound_values::<T>();
    bounds.extend(specials::<T>().into_iter().filter(|v| v.is_nan()).step_by(3));
    let (mut x, mut lo, mut hi) = (Vec::new(), Vec::new(), Vec::new());
    for &value in &specials::<T>() {
        for (i, &bound) in bounds.iter().enumerate() {
            for j in 0..bounds.len() {
                x.push(value);
                lo.push(bound);
                // In an order that includes every pair, without a period that could hide a block mix-up.
                hi.push(bounds[(i + j) % bounds.len()]);
            }
        }
    }
    let dims = vec![x.len()];
    let g = upstream(rng, x.len());
    let tensor = |data| Bound::Tensor(Host { data, dims: dims.clone() });
    let (lo, hi) = (tensor(lo), tensor(hi));
    Case { lo, hi, others: values(rng), dims: dims.clone(), x, g, params: PARAMS, all_types: true }
}

/// Random bits of a length, between values drawn from them.
pub(crate) fn of_length<T: Element>(rng: &mut fastrand::Rng, len: usize) -> Case<T> {
    let x = random::<T>(rng, len);
    let mut bound = || match x.get(rng.usize(..len.max(1))) {
        Some(&value) if !value.is_nan() => Bound::Value(value),
        _ => Bound::Absent,
    };
    let (lo, hi) = (bound(), bound());
    let g = upstream(rng, len);
    Case { dims: vec![len], g, lo, hi, others: values(rng), x, params: params(rng), all_types: false }
}

/// Random bits between bounds that broadcast. `None` stands for a scalar bound, or for no bound.
pub(crate) fn of_shapes<T: Element>(
    rng: &mut fastrand::Rng,
    dims: &[usize],
    lo: Option<&[usize]>,
    hi: Option<&[usize]>,
) -> Case<T> {
    let len = dims.iter().product();
    let values = bound_values::<T>();
    let mut bound = |dims: Option<&[usize]>| match dims {
        // Including NaN, and values that x ties with.
        Some(dims) => {
            let len = dims.iter().product();
            let data = (0..len).map(|i| match i % 3 {
                0 => T::from_bits(rng.u64(..)),
                _ => values[rng.usize(..values.len())],
            });
            Bound::Tensor(Host { data: data.collect(), dims: dims.to_vec() })
        }
        None if rng.bool() => Bound::Absent,
        None => Bound::Value(values[rng.usize(..values.len())]),
    };
    let (of_lo, of_hi) = (bound(lo), bound(hi));
    // Operands other than bounds are never absent.
    let mut other = |dims| match bound(dims) {
        Bound::Absent => Bound::Value(T::ZERO),
        input => input,
    };
    let others = [other(hi), other(lo)];
    let x = (0..len).map(|i| match i % 2 {
        0 => T::from_bits(rng.u64(..)),
        _ => values[rng.usize(..values.len())],
    });
    let x = x.collect();
    // Also finite ones, so that not all sums are NaN.
    let g = match rng.bool() {
        true => upstream(rng, len),
        false => (0..len).map(|_| ordinary::<T>(rng)).collect(),
    };
    Case { dims: dims.to_vec(), g, lo: of_lo, hi: of_hi, others, x, params: params(rng), all_types: false }
}

/// Parameters of ordinary magnitude.
pub(crate) const PARAMS: [f64; 4] = [1.0 / 6.0, 0.5, 3.0, -0.25];

/// Values of broadcast inputs other than bounds: anything but NaN.
pub(crate) fn values<T: Element>(rng: &mut fastrand::Rng) -> [Bound<T, Host<T>>; 2] {
    let values = bound_values::<T>();
    let mut one = || match rng.bool() {
        true => Bound::Value(values[rng.usize(..values.len())]),
        false => Bound::Value(ordinary::<T>(rng)),
    };
    [one(), one()]
}

/// Parameters: ordinary, exact, zeros, beyond f32, and of random bits.
fn params(rng: &mut fastrand::Rng) -> [f64; 4] {
    let mut one = || match rng.u8(..8) {
        0 => 1.0 / 6.0,
        1 => 0.5,
        2 => -0.0,
        3 => 1e-40,
        4 => f64::INFINITY,
        5 => f64::from_bits(rng.u64(..)),
        _ => f32::from_bits(rng.u32(..)).into(),
    };
    [one(), one(), one(), one()]
}

/// A number of ordinary magnitude.
fn ordinary<T: Element>(rng: &mut fastrand::Rng) -> T {
    let layout = T::TYPE.layout();
    match layout.class {
        NumberClass::Float { .. } => {
            let one = float_bits::<T>(1.0);
            let spread = 3 * layout.min_normal();
            let sign = if rng.bool() { layout.sign() } else { 0 };
            T::from_bits(sign | (one - spread + rng.u64(..2 * spread)))
        }
        _ => T::from_bits(rng.u64(..)),
    }
}
