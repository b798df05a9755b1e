//! tanh, the logistic function and soft caps: in f64 for f32, by tables for shorter floats.
//!
//! Every result for f32 was compared with arithmetic of 300 bits (docs/activations.md), so there is no slow path. That holds for these operations in this order: a
//! compiler that fused a product and a sum would compute others. Rust does not.

use std::sync::OnceLock;

use bytemuck::{cast_slice, cast_slice_mut};

use super::map::{Block, for_each_block};
use super::operands::{Operands, Outputs, Sums};
use super::simd::vectorised;
use crate::element::convert::{Overflow, from_f32, round_to_odd, to_f32};
use crate::element::with_short_float;
use crate::{Element, ElementType, Op};

#[cfg(all(target_arch = "x86", not(target_feature = "sse2")))]
compile_error!(
    "without SSE2 the registers of x86 round f64 to 64 bits: compile with -C target-feature=+sse2"
);

/// Runs the operation, if it is one of these.
pub(super) fn run(operands: &Operands<'_>, outputs: Outputs<'_>, sums: &Sums) -> bool {
    let (element, cap) = (operands.element, operands.params.first().map_or(0.0, |&cap| cap as f32));
    match operands.op {
        Op::Tanh => for_each_block(operands, outputs, sums, &|b, y| forward::<Tanh>(element, b, y)),
        Op::TanhBackward => {
            for_each_block(operands, outputs, sums, &|b, gx| backward::<Tanh>(element, b, gx))
        }
        Op::Sigmoid => for_each_block(operands, outputs, sums, &|b, y| forward::<Sigmoid>(element, b, y)),
        Op::SigmoidBackward => {
            for_each_block(operands, outputs, sums, &|b, gx| backward::<Sigmoid>(element, b, gx));
        }
        Op::SoftCap => for_each_block(operands, outputs, sums, &|b, y| soft_cap(element, b, y, cap)),
        Op::SoftCapBackward => {
            for_each_block(operands, outputs, sums, &|b, gx| soft_cap_backward(element, b, gx, cap));
        }
        _ => return false,
    }
    true
}

/// A function of x, and its derivative as a function of the result.
trait Activation: Sync {
    /// Its place among the tables.
    const INDEX: usize;

    /// The result for an f32: cast to f32, or rounded to odd and then to a short float, it is the nearest.
    fn apply(x: f32) -> f64;

    /// Whether y is a result.
    fn is_result(y: f32) -> bool;

    /// g times the derivative where the result is y, to 2^-51. For numbers of 8 significant bits it is exact, from `EXACT_FROM` on. A short float may take any y below
    /// `least` for that, to keep the product exact: a tie is told from what is near it all the same.
    fn gradient(y: f64, g: f64, least: f64) -> f64;

    /// From this y on the gradient is exact for numbers of 8 significant bits.
    const EXACT_FROM: f32;

    /// The derivative for a result y that is not 0: an integer times a power of two. It may differ from it by so little that no product with an f32 is
    /// rounded to another.
    fn derivative(y: f32) -> (u128, i32);
}

struct Tanh;

impl Activation for Tanh {
    const INDEX: usize = 0;

    /// (1 - e) / (1 + e) for e = exp(-2 |x|) = s + s * m, in which nothing cancels.
    #[inline(always)]
    fn apply(x: f32) -> f64 {
        let size = x.abs();
        let (s, m) = exp(f64::from(if size < 20.0 { size } else { 20.0 }) * -2.0);
        let sm = s * m;
        let y = (((1.0 - s) - sm) / ((1.0 + s) + sm)).copysign(f64::from(x));
        // Below 2^-12 x is the nearest number. NaN stays.
        if size >= 1.0 / 4096.0 { y } else { f64::from(x) }
    }

    #[inline(always)]
    fn is_result(y: f32) -> bool {
        y.abs() <= 1.0
    }

    #[inline(always)]
    fn gradient(y: f64, g: f64, _least: f64) -> f64 {
        g * (1.0 - y * y)
    }

    const EXACT_FROM: f32 = 1.0 / 256.0;

    fn derivative(y: f32) -> (u128, i32) {
        // Below 2^-13 the nearest number is g.
        if y.abs() < 1.0 / 8192.0 {
            return (1, 0);
        }
        let (significand, exponent) = significand_and_exponent(y);
        ((1 << (-2 * exponent)) - significand * significand, 2 * exponent)
    }
}

struct Sigmoid;

impl Activation for Sigmoid {
    const INDEX: usize = 1;

    /// 1 / (1 + e), or e / (1 + e), for e = exp(-|x|).
    #[inline(always)]
    fn apply(x: f32) -> f64 {
        let size = x.abs();
        let (s, m) = exp(-f64::from(if size < 110.0 { size } else { 110.0 }));
        let e = s + s * m;
        let y = (if x < 0.0 { e } else { 1.0 }) / (1.0 + e);
        // Near 0 it is 1/2 + x/4 and a little nearer to 1/2. f64 has no room for that, but only a tie shows it: so the quarter is 2^-29 too small, which is less
        // than the last bit of x/4 and more than f64 rounds.
        let near_half = 0.5 + f64::from(x) * (0.25 - 1.0 / 536_870_912.0);
        let y = if size < 1.0 / 2048.0 { near_half } else { y };
        if x.is_nan() { f64::from(x) } else { y }
    }

    #[inline(always)]
    fn is_result(y: f32) -> bool {
        (0.0..=1.0).contains(&y)
    }

    #[inline(always)]
    fn gradient(y: f64, g: f64, least: f64) -> f64 {
        // -0 is a result too.
        let size = y.abs();
        g * size * (1.0 - if size < least { least } else { size })
    }

    const EXACT_FROM: f32 = 1.0 / 1_048_576.0;

    fn derivative(y: f32) -> (u128, i32) {
        let (significand, exponent) = significand_and_exponent(y);
        // y less a little.
        if y.abs() < 1.0 / 562_949_953_421_312.0 {
            return ((significand << 60) - 1, exponent - 60);
        }
        (significand * ((1 << -exponent) - significand), 2 * exponent)
    }
}

/// exp(u) for u from -128 to 0, as s + s * m: s is a power of two, and m is to 2^-54 what exp(r) - 1 is for what u has beyond multiples of ln 2.
#[inline(always)]
fn exp(u: f64) -> (f64, f64) {
    /// Added to a number, it rounds it to an integer in the low bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    /// ln 2 in two parts: the first has 32 bits, so that its multiples are exact.
    const LN2: [f64; 2] = [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10];
    /// (exp(r) - 1 - r) / r^2 for |r| up to ln 2 / 2: interpolated at Chebyshev's points, to 2^-54.
    const P: [f64; 10] = [
        0.5000000000000001,
        0.16666666666666669,
        0.04166666666662416,
        0.008333333333330063,
        0.0013888888917199863,
        0.00019841269863042963,
        2.4801521317484083e-5,
        2.7557268476553695e-6,
        2.7620078203806394e-7,
        2.5100377619606372e-8,
    ];
    let shifted = u * std::f64::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (u - n * LN2[0]) - n * LN2[1];
    let s = f64::from_bits((shifted.to_bits() << 52).wrapping_add(1f64.to_bits()));
    let (r2, r4) = (r * r, (r * r) * (r * r));
    let a = (P[0] + P[1] * r) + (P[2] + P[3] * r) * r2;
    let b = (P[4] + P[5] * r) + (P[6] + P[7] * r) * r2;
    let c = P[8] + P[9] * r;
    (s, r + r2 * (a + (b + c * r4) * r4))
}

fn forward<F: Activation>(element: ElementType, block: &Block<'_>, outputs: Outputs<'_>) {
    let [Some(y), ..] = outputs else { return };
    match element {
        ElementType::F32 => apply_all::<F>(cast_slice(block.x), cast_slice_mut(y)),
        _ if element.size() == 1 => {
            let table = table::<F>(element);
            y.iter_mut().zip(block.x).for_each(|(y, &x)| *y = table[usize::from(x)] as u8);
        }
        _ => {
            let table = table::<F>(element);
            let (x, y): (&[u16], &mut [u16]) = (cast_slice(block.x), cast_slice_mut(y));
            y.iter_mut().zip(x).for_each(|(y, &x)| *y = table[usize::from(x)]);
        }
    }
}

vectorised! {
    fn apply_all<F: Activation>(x: &[f32], y: &mut [f32]) {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = F::apply(x) as f32);
    }
}

/// The results of a function for every bit pattern of a type of up to 16 bits, made when they are first needed.
fn table<F: Activation>(element: ElementType) -> &'static [u16] {
    static TABLES: [[OnceLock<Vec<u16>>; ElementType::ALL.len()]; 2] =
        [const { [const { OnceLock::new() }; ElementType::ALL.len()] }; 2];
    TABLES[F::INDEX][element as usize]
        .get_or_init(|| with_short_float!(element, T => results::<T, F>()).unwrap_or_default())
}

fn results<T: Element, F: Activation>() -> Vec<u16> {
    let result = |bits| {
        let x = T::from_bits(bits);
        let y = from_f32(round_to_odd(F::apply(to_f32(x, false))), Overflow::Infinity);
        Element::to_bits(if Element::is_nan(x) { x } else { y }) as u16
    };
    (0..=T::TYPE.layout().mask()).map(result).collect()
}

fn backward<F: Activation>(element: ElementType, block: &Block<'_>, outputs: Outputs<'_>) {
    let [Some(gx), ..] = outputs else { return };
    match element {
        ElementType::F32 => gradients::<F>(cast_slice(block.x), cast_slice(block.g), cast_slice_mut(gx)),
        _ => {
            with_short_float!(element, T => {
                short_gradients::<T, F>(cast_slice(block.x), cast_slice(block.g), cast_slice_mut(gx));
            });
        }
    }
}

vectorised! {
    fn short_gradients<T: Element, F: Activation>(y: &[T], g: &[T], gx: &mut [T]) {
        for ((gx, &y), &g) in gx.iter_mut().zip(y).zip(g) {
            let (y, g) = (to_f32(y, false), to_f32(g, false));
            let near = F::gradient(f64::from(y), f64::from(g), 1.0 / 1_073_741_824.0);
            let near = round_to_odd(near);
            *gx = from_f32(if F::is_result(y) & !near.is_nan() { near } else { f32::NAN }, Overflow::Infinity);
        }
    }
}

/// Elements of which one that is doubtful makes all be looked at.
const GROUP: usize = 64;

/// In f64, and again exactly where that leaves a doubt.
fn gradients<F: Activation>(y: &[f32], g: &[f32], gx: &mut [f32]) {
    for ((y, g), gx) in y.chunks(GROUP).zip(g.chunks(GROUP)).zip(gx.chunks_mut(GROUP)) {
        if !estimates::<F>(y, g, gx) {
            continue;
        }
        for ((&y, &g), gx) in y.iter().zip(g).zip(gx) {
            if estimate::<F>(y, g).1 {
                *gx = exact_gradient::<F>(y, g) as f32;
            }
        }
    }
}

vectorised! {
    /// Whether any of them is doubtful.
    fn estimates<F: Activation>(y: &[f32], g: &[f32], gx: &mut [f32]) -> bool {
        let mut any = 0;
        for ((gx, &y), &g) in gx.iter_mut().zip(y).zip(g) {
            let (near, doubtful) = estimate::<F>(y, g);
            *gx = near;
            any |= u64::from(doubtful);
        }
        any != 0
    }
}

/// The gradient, and whether another f32 may be nearer.
#[inline(always)]
fn estimate<F: Activation>(y: f32, g: f32) -> (f32, bool) {
    let near = F::gradient(f64::from(y), f64::from(g), 0.0);
    let rounded = if F::is_result(y) & !near.is_nan() { near as f32 } else { f32::NAN };
    let bits = near.to_bits();
    // Of the 29 bits that an f32 does not have, the distance from a tie is below 8.
    let is_near_tie = (bits.wrapping_add(8) & 0x1fff_ffff).wrapping_sub(0x1000_0000) < 16;
    let is_subnormal = (near.abs() < f64::from(f32::MIN_POSITIVE)) & (near != 0.0);
    let is_exact = ((y.to_bits() | g.to_bits()) & 0xffff == 0) & (y.abs() >= F::EXACT_FROM);
    (rounded, (is_near_tie & !is_exact | is_subnormal) & !rounded.is_nan())
}

/// The gradient of finite numbers, g not 0, by integers: to 53 bits, the last of them sticky, so that rounding it again is rounding once.
#[cold]
fn exact_gradient<F: Activation>(y: f32, g: f32) -> f64 {
    let ((factor, exponent), (significand, of_g)) = (F::derivative(y), significand_and_exponent(g));
    let product = factor * significand;
    let dropped = (u128::BITS - product.leading_zeros()).saturating_sub(53);
    let kept = product >> dropped;
    let odd = (kept as u64 | u64::from(kept << dropped != product)) as f64;
    let power = f64::from_bits(((1023 + exponent + of_g + dropped as i32) as u64) << 52);
    (odd * power).copysign(f64::from(g))
}

fn soft_cap(element: ElementType, block: &Block<'_>, outputs: Outputs<'_>, cap: f32) {
    let [Some(y), ..] = outputs else { return };
    match element {
        ElementType::F32 => soft_cap_all::<f32>(cast_slice(block.x), cast_slice_mut(y), cap),
        _ => {
            with_short_float!(element, T => soft_cap_all::<T>(cast_slice(block.x), cast_slice_mut(y), cap));
        }
    }
}

vectorised! {
    /// In f32, with a rounding after each step.
    fn soft_cap_all<T: Element>(x: &[T], y: &mut [T], cap: f32) {
        for (y, &x) in y.iter_mut().zip(x) {
            let near = Tanh::apply(to_f32(x, false) / cap) as f32 * cap;
            let near = from_f32(if near.is_nan() { f32::NAN } else { near }, Overflow::Infinity);
            *y = if Element::is_nan(x) { x } else { near };
        }
    }
}

fn soft_cap_backward(element: ElementType, block: &Block<'_>, outputs: Outputs<'_>, cap: f32) {
    let [Some(gx), ..] = outputs else { return };
    match element {
        ElementType::F32 => {
            let (y, g): (&[f32], &[f32]) = (cast_slice(block.x), cast_slice(block.g));
            let gx: &mut [f32] = cast_slice_mut(gx);
            for ((y, g), gx) in y.chunks(GROUP).zip(g.chunks(GROUP)).zip(gx.chunks_mut(GROUP)) {
                let mut t = [0.0; GROUP];
                t.iter_mut().zip(y).for_each(|(t, y)| *t = (y / cap).clamp(-1.0, 1.0));
                gradients::<Tanh>(&t[..y.len()], g, gx);
            }
        }
        _ => {
            with_short_float!(element, T => {
                let (y, g): (&[T], &[T]) = (cast_slice(block.x), cast_slice(block.g));
                let gx: &mut [T] = cast_slice_mut(gx);
                for ((gx, &y), &g) in gx.iter_mut().zip(y).zip(g) {
                    *gx = short_gradient((to_f32(y, false) / cap).clamp(-1.0, 1.0), g);
                }
            });
        }
    }
}

/// `g * (1 - t^2)` for a t of 24 bits: where f64 is so near to a tie that its error decides, exactly.
fn short_gradient<T: Element>(t: f32, g: T) -> T {
    let narrow = |value: f64| from_f32(round_to_odd(value), Overflow::Infinity);
    let g = to_f32(g, false);
    let near = Tanh::gradient(f64::from(t), f64::from(g), 0.0);
    if !Tanh::is_result(t) || near.is_nan() {
        return narrow(f64::NAN);
    }
    let least: T = narrow(near * (1.0 - 4.0 * f64::EPSILON));
    let greatest: T = narrow(near * (1.0 + 4.0 * f64::EPSILON));
    match Element::to_bits(least) == Element::to_bits(greatest) {
        true => least,
        false => narrow(exact_gradient::<Tanh>(t, g)),
    }
}

/// The magnitude of a finite number as an integer and a power of two.
fn significand_and_exponent(value: f32) -> (u128, i32) {
    let bits = value.to_bits() & (u32::MAX >> 1);
    let implicit = if bits < 1 << 23 { 0 } else { 1 << 23 };
    (u128::from(bits & ((1 << 23) - 1) | implicit), (bits >> 23).max(1) as i32 - 150)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bf16, f8_e4m3fn, f8_e5m2, f16, reference};

    /// All results of short floats, and all gradients of 8-bit floats, against the reference.
    #[test]
    fn short_floats_are_those_of_the_reference() {
        fn check<T: Element, F: Activation>(of_x: fn(T) -> T, of_y: fn(T, T) -> T) {
            let table = table::<F>(T::TYPE);
            let all = || (0..=T::TYPE.layout().mask()).map(T::from_bits);
            for (x, &y) in all().zip(table) {
                assert_eq!(u64::from(y), Element::to_bits(of_x(x)), "{:#x}", Element::to_bits(x));
            }
            let step = if T::TYPE.size() == 1 { 1 } else { 397 };
            for y in all().step_by(step) {
                let g: Vec<T> = all().step_by(step).collect();
                let mut gx = g.clone();
                short_gradients::<T, F>(&vec![y; g.len()], &g, &mut gx);
                for (gx, g) in gx.into_iter().zip(g) {
                    let expected = Element::to_bits(of_y(y, g));
                    assert_eq!(Element::to_bits(gx), expected, "{y:?} {g:?}");
                }
            }
        }
        macro_rules! each {
            ($($T:ty),+) => {$(
                check::<$T, Tanh>(reference::tanh, reference::tanh_backward);
                check::<$T, Sigmoid>(reference::sigmoid, reference::sigmoid_backward);
            )+};
        }
        each!(f16, bf16, f8_e4m3fn, f8_e5m2);
    }
}
