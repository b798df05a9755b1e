//! Inputs whose results are hard to round: midpoints, ties, and what is next to them.

use wgclip::{Bound, Element, ElementType, with_element};

use super::{PARAMS, ordinary, specials, upstream};
use crate::case::{Case, Host};

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
