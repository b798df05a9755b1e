//! Test inputs: special values, their neighbours, and random bits, all derived from the layout of a type.

use wgclip::element::NumberClass;
use wgclip::{Bound, Element, ElementType, with_element};

use crate::case::{Case, Host};

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

/// The number of bits of an element.
fn number(element: ElementType, bits: u64) -> f64 {
    with_element!(element, T => Element::to_f64(<T as Element>::from_bits(bits)))
}

/// The numbers of every float type, the midpoints between two, and the neighbours of each, if the type has them:
/// where rounding goes wrong.
pub(crate) fn near_halves<T: Element>(rng: &mut fastrand::Rng) -> Case<T> {
    let mut x = Vec::new();
    for &element in ElementType::ALL.iter().filter(|element| element.is_float()) {
        let (layout, numbers) = (element.layout(), if element.size() == 1 { 128 } else { 400 });
        for n in 0..numbers {
            // All of an 8-bit type; for others the ends of each range, and arbitrary ones.
            let ends = [layout.min_normal(), layout.max_finite(), 0];
            let bits = match n {
                _ if element.size() == 1 => n,
                ..9 => (ends[n as usize / 3] + n % 3).wrapping_sub(1) & layout.mask() >> 1,
                _ => rng.u64(..=layout.max_finite()),
            };
            let number = |bits: u64| number(element, bits);
            let (low, high) = (number(bits), number(bits + 1));
            for value in [low, high, low / 2.0 + high / 2.0] {
                let near = Element::to_bits(T::from_f64(value));
                let sign = if rng.bool() { T::TYPE.layout().sign() } else { 0 };
                x.extend(
                    [near, near.wrapping_sub(1), near.wrapping_add(1)].map(|bits| T::from_bits(bits ^ sign)),
                );
            }
        }
    }
    let g = x.clone();
    Case {
        dims: vec![x.len()],
        x,
        g,
        lo: Bound::Absent,
        hi: Bound::Absent,
        others: [Bound::Absent, Bound::Absent],
        params: [1.0, 0.0, 1.0, 0.0],
        all_types: true,
    }
}

/// The f32 whose tanh or sigmoid is nearest to the midpoint of two others, or at the end of a range.
const HARD: [u32; 16] = [
    0x3ac3_7de2,
    0x3eee_0566,
    0x3cd4_1b91,
    0x40ac_b4d0,
    0x40c5_e8ca,
    0x3d7c_3055,
    0x3d21_bc81,
    0x3e8d_ffaf,
    0x3eb2_c9b8,
    0x3e10_4170,
    0x42b2_e798,
    0x3f19_64d0,
    0x42cf_f1b4,
    0x42cf_f1b5,
    0x4110_2cb3,
    0x41200000,
];

/// Arguments of functions that bound them: hard ones, the ends of each power of two, those near which sigmoid is at a tie, and any magnitude. Then numbers between 0 and
/// 1 of few bits as their results, with upstream gradients of few bits, so that the gradients are ties.
pub(crate) fn curve<T: Element>(rng: &mut fastrand::Rng) -> Case<T> {
    let mut sizes: Vec<f64> = HARD.iter().map(|&bits| f32::from_bits(bits).into()).collect();
    let powers = (-30..9).map(|power| f64::from(power).exp2());
    sizes.extend(powers.flat_map(|power| [1.0, 1.5, 1.25, 1.75].map(|by| by * power)));
    sizes.extend((0..2000).map(|_| (rng.f64() * 36.0 - 27.0).exp2()));
    sizes.extend((0..300).map(|_| 85.0 + 20.0 * rng.f64()));
    let mut x = Vec::new();
    for size in sizes {
        let bits = T::from_f64(size).to_bits();
        for near in [bits, bits.wrapping_sub(1), bits.wrapping_add(1)] {
            x.extend([near, near ^ T::TYPE.layout().sign()].map(T::from_bits));
        }
    }
    let mut g = upstream(rng, x.len());
    let of_few_bits = |rng: &mut fastrand::Rng, bits: u32| {
        f64::from(rng.u32(..1 << bits)) * f64::from(-(bits as i32)).exp2()
    };
    for _ in 0..4000 {
        let (of_y, of_g) = (rng.u32(1..12), rng.u32(1..13));
        let scale = |rng: &mut fastrand::Rng, least: i32| f64::from(rng.i32(least..1)).exp2();
        let y = of_few_bits(rng, of_y) * if rng.bool() { 1.0 } else { scale(rng, -70) };
        let of_g = of_few_bits(rng, of_g) * if rng.bool() { 1.0 } else { scale(rng, -145) };
        x.push(T::from_f64(if rng.u8(..4) == 0 { -y } else { y }));
        g.push(T::from_f64(if rng.bool() { -of_g } else { of_g }));
    }
    Case {
        dims: vec![x.len()],
        x,
        g,
        lo: Bound::Absent,
        hi: Bound::Absent,
        others: [Bound::Absent, Bound::Absent],
        params: PARAMS,
        all_types: false,
    }
}

/// Multiples of scales, halves between them, and their neighbours; with scales and zero points of every kind if each element has its own.
pub(crate) fn grid<T: Element>(rng: &mut fastrand::Rng, of_each: bool) -> Case<T> {
    const LEN: usize = 2051;
    let specials = specials::<T>();
    let scale_of = |rng: &mut fastrand::Rng| match rng.u8(..16) {
        0 if of_each => specials[rng.usize(..specials.len())],
        1 if of_each => T::from_bits(rng.u64(..)),
        2 => T::from_f64(1.0),
        3 => T::from_f64(-0.1),
        4..8 => T::from_f64(f64::from(rng.i32(-9..4)).exp2()),
        _ => ordinary(rng),
    };
    let zero_of = |rng: &mut fastrand::Rng| match rng.u8(..16) {
        0 if of_each => specials[rng.usize(..specials.len())],
        1 => T::from_f64(f64::from(rng.i32(-20..20)) / 2.0),
        2..5 => T::ZERO,
        _ => T::from_f64(rng.i32(-140..270).into()),
    };
    let all = (scale_of(rng), zero_of(rng));
    let (mut x, mut g, mut scales, mut zeros) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let ends = [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY].map(T::from_f64);
    if of_each {
        // 0 by 0, infinity by infinity and the rest, whatever the seed.
        for (x_of, scale_of) in ends.iter().flat_map(|&x| ends.map(|scale| (x, scale))) {
            x.push(x_of);
            g.push(ordinary(rng));
            scales.push(scale_of);
            zeros.push(T::from_f64(3.0));
        }
    }
    for _ in x.len()..LEN {
        let (scale, zero) = if of_each { (scale_of(rng), zero_of(rng)) } else { all };
        let most = [3, 20, 300, 70_000][rng.usize(..4)];
        let steps = f64::from(rng.i32(-most..=most)) + [0.0, 0.5, 0.25, 0.4][rng.usize(..4)];
        let near = T::from_f64(steps * scale.to_f64()).to_bits();
        let near = [near, near, near.wrapping_sub(1), near.wrapping_add(1)][rng.usize(..4)];
        x.push(match rng.u8(..16) {
            0 if of_each => specials[rng.usize(..specials.len())],
            1 if of_each => T::from_bits(rng.u64(..)),
            _ => T::from_bits(near),
        });
        g.push(match rng.u8(..8) {
            0 if of_each => specials[rng.usize(..specials.len())],
            _ => ordinary(rng),
        });
        scales.push(scale);
        zeros.push(zero);
    }
    let dims = vec![LEN];
    let tensor = |data: Vec<T>| Bound::Tensor(Host { data, dims: dims.clone() });
    let others = match of_each {
        true => [tensor(scales), tensor(zeros)],
        false => [Bound::Value(all.0), Bound::Value(all.1)],
    };
    Case {
        lo: Bound::Absent,
        hi: Bound::Absent,
        others,
        dims: dims.clone(),
        x,
        g,
        params: PARAMS,
        all_types: false,
    }
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

/// Elements that are hard to sum, of one of several kinds, by `kind`.
pub(crate) fn hard_to_sum<T: Element>(rng: &mut fastrand::Rng, kind: usize, len: usize) -> Vec<T> {
    let layout = T::TYPE.layout();
    let sign = |rng: &mut fastrand::Rng| if rng.bool() { layout.sign() } else { 0 };
    let specials = specials::<T>();
    let mut elements: Vec<T> = match kind % SUM_KINDS {
        0 => (0..len).map(|_| ordinary(rng)).collect(),
        // Random finite bits.
        1 => (0..len).map(|_| T::from_bits(rng.u64(..=layout.max_finite()) | sign(rng))).collect(),
        // The greatest next to the smallest, which are subnormal.
        2 => {
            let ends = [layout.max_finite() - 1, 0, layout.min_normal()];
            (0..len)
                .map(|_| T::from_bits((ends[rng.usize(..3)] + rng.u64(..2)) & layout.mask() | sign(rng)))
                .collect()
        }
        // All subnormal.
        3 => (0..len).map(|_| T::from_bits(rng.u64(..layout.min_normal().max(2)) | sign(rng))).collect(),
        // Everything cancels except for one.
        4 => {
            let mut elements: Vec<T> = Vec::with_capacity(len);
            while elements.len() + 1 < len {
                let bits = rng.u64(..=layout.max_finite());
                elements.extend([bits, bits | layout.sign()].map(T::from_bits));
            }
            elements.truncate(len.saturating_sub(1));
            elements.resize(len, T::from_bits(1));
            elements
        }
        // Each greater than the one before.
        5 => {
            let mut bits: Vec<_> = (0..len).map(|_| rng.u64(..=layout.max_finite())).collect();
            bits.sort_unstable();
            bits.into_iter().map(T::from_bits).collect()
        }
        // The same value repeated, which causes the most carries.
        6 => vec![T::from_bits(layout.max_finite() & (layout.sign() - 1)); len],
        // Mostly zeros.
        7 => (0..len)
            .map(|_| if rng.u8(..) == 0 { T::from_bits(rng.u64(..=layout.max_finite())) } else { T::ZERO })
            .collect(),
        // Special values with infinities of both signs, without NaN, which would hide them.
        8 => {
            let numbers: Vec<T> = specials.iter().copied().filter(|special| !special.is_nan()).collect();
            (0..len).map(|_| numbers[rng.usize(..numbers.len())]).collect()
        }
        // All special values.
        _ => (0..len).map(|_| specials[rng.usize(..specials.len())]).collect(),
    };
    if matches!(kind % SUM_KINDS, 1 | 2 | 4) {
        rng.shuffle(&mut elements);
    }
    elements
}

/// Elements whose sum is just above the midpoint between two numbers, by a tiny amount; or whose squares are, by less than
/// the guard bits of a square root can show.
pub(crate) fn above_middle<T: Element>(len: usize, squares: bool) -> Vec<T> {
    let power = f64::from(T::TYPE.layout().min_normal().trailing_zeros() + 1).exp2();
    let bits = match squares {
        true => [float_bits::<T>(power), float_bits::<T>((2.0 * power + 1.0).sqrt().floor() + 1.0), 0],
        false => [float_bits::<T>(power), float_bits::<T>(1.0), 1],
    };
    bits.into_iter().chain(std::iter::repeat(0)).take(len).map(T::from_bits).collect()
}

/// The number of kinds.
pub(crate) const SUM_KINDS: usize = 10;

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
