//! Functions that bound x: tanh and the logistic function as real numbers, rounded once.
//!
//! exp is computed as a fixed-point number by its series, with an error that the comments add up: below 2^-100. No input is so near to the midpoint of two
//! results: of all f32 the nearest is tanh(0x3ac37de2), 2^-50 of the result away from one; of sigmoid those below 2^-16, of which the nearest is x^3 / 48 away.

use super::nearest;
use super::ratio::integer_and_exponent;
use crate::Element;

/// Bits below the point of a fixed-point number.
const POINT: u32 = 120;

/// 1 as a fixed-point number.
const ONE: u128 = 1 << POINT;

/// The hyperbolic tangent of a float of up to 32 bits, rounded to nearest even once. A NaN x is unchanged.
///
/// Below 2^-12 that is x: `|x| - |tanh(x)|` is less than `|x|^3 / 3`, which is less than 2^-25 of |x|, half of the distance of |x| to the next smaller number of a type
/// with 24 significant bits.
pub fn tanh<T: Element>(x: T) -> T {
    let size = x.to_f64().abs();
    if x.is_nan() || size < power_of_two(-12) {
        return x;
    }
    // 1 - tanh(32) is below 2^-91.
    let bounded = if size < 32.0 { size } else { 32.0 };
    let (e, halvings) = exp_minus(2.0 * bounded);
    let e = e.checked_shr(halvings).unwrap_or(0);
    T::from_f64(quotient(ONE - e, ONE + e).copysign(x.to_f64()))
}

/// The gradient of [`tanh`] from its result y: `g * (1 - y^2)`, rounded to nearest even once. A product of 0 has the sign of g. It is the positive quiet NaN without
/// payload if y or g is NaN, if y is beyond 1, and where an infinite g meets a factor of 0.
pub fn tanh_backward<T: Element>(y: T, g: T) -> T {
    gradient_of_tanh(y, g)
}

/// The same, whatever the type of y.
fn gradient_of_tanh<Y: Element, T: Element>(y: Y, g: T) -> T {
    let size = y.to_f64().abs();
    if y.is_nan() || size > 1.0 || g.is_nan() {
        return quiet_nan();
    }
    // g is nearest: the product differs from it by less than 2^-26.
    if size < power_of_two(-13) {
        return g;
    }
    let (significand, exponent) = odd_and_exponent(size);
    let factor = (1 << (-2 * exponent)) - significand * significand;
    times(g, factor, 2 * exponent, false)
}

/// `cap * tanh(x / cap)` of a float of up to 32 bits: the quotient, [`tanh`] of it and the product are each rounded to f32, as the cap is, and the result to the type.
/// So it is monotone, and never beyond the cap; the error is below 2.5 units of the last place of an f32, where nothing is subnormal. A NaN x is unchanged; a computed NaN is the
/// positive quiet one without payload.
///
/// A quotient or a product of two f32 is rounded once although it is computed in f64, which has more than twice as many bits.
pub fn soft_cap<T: Element>(x: T, cap: f64) -> T {
    if x.is_nan() {
        return x;
    }
    let cap = cap as f32;
    let t = tanh(ratio(x, cap));
    nearest(f64::from((f64::from(t) * f64::from(cap)) as f32))
}

/// The gradient of [`soft_cap`] from its result y: [`tanh_backward`] of the quotient y / cap, rounded to f32 and clipped to between -1 and 1, which y exceeds where the type has
/// no cap but the next greater number.
pub fn soft_cap_backward<T: Element>(y: T, g: T, cap: f64) -> T {
    gradient_of_tanh(ratio(y, cap as f32).clamp(-1.0, 1.0), g)
}

fn ratio<T: Element>(x: T, cap: f32) -> f32 {
    (x.to_f64() / f64::from(cap)) as f32
}

/// The logistic function `1 / (1 + exp(-x))` of a float of up to 32 bits, rounded to nearest even once. A NaN x is unchanged.
pub fn sigmoid<T: Element>(x: T) -> T {
    let (value, size) = (x.to_f64(), x.to_f64().abs());
    if x.is_nan() {
        return x;
    }
    // Nearer to 1/2 than half of the distance to the next number of every type.
    if size < power_of_two(-30) {
        return T::from_f64(0.5);
    }
    // exp(-128) is below 2^-184, and the smallest f32 is 2^-149.
    if size >= 128.0 {
        return if value > 0.0 { T::from_f64(1.0) } else { T::ZERO };
    }
    let (e, halvings) = exp_minus(size);
    let sum = ONE + e.checked_shr(halvings).unwrap_or(0);
    T::from_f64(if value > 0.0 {
        quotient(ONE, sum)
    } else {
        quotient(e, sum) * power_of_two(-(halvings as i32))
    })
}

/// The gradient of [`sigmoid`] from its result y: `g * y * (1 - y)`, rounded to nearest even once. A product of 0 has the sign of g. It is the positive quiet NaN without
/// payload if y or g is NaN, if y is not between 0 and 1, and where an infinite g meets a factor of 0.
pub fn sigmoid_backward<T: Element>(y: T, g: T) -> T {
    let size = y.to_f64();
    if !(0.0..=1.0).contains(&size) {
        return quiet_nan();
    }
    if size == 0.0 {
        return times(g, 0, 0, false);
    }
    let (significand, exponent) = odd_and_exponent(size);
    if size < power_of_two(-49) {
        // g * y, less a little: there is no midpoint within 2^-25 below a product of 48 bits that is not the product itself.
        return times(g, significand << 60, exponent - 60, true);
    }
    times(g, significand * ((1 << -exponent) - significand), 2 * exponent, false)
}

/// exp(-t) for t from 2^-30 to 128: a fixed-point number from 1/2 to 1, and how often it is halved. The error is below 2^15 units.
fn exp_minus(t: f64) -> (u128, u32) {
    let (significand, exponent) = integer_and_exponent(t);
    // Exact: t has 24 bits.
    let t = match POINT as i32 + exponent {
        up if up >= 0 => (significand as u128) << up,
        down => (significand as u128) >> -down,
    };
    let (halvings, r) = (t / LN2, t % LN2);
    // 1 - r + r^2/2! - r^3/3! ..: about 30 terms, each with an error of less than two units.
    let (mut sum, mut term, mut n) = (ONE as i128, ONE, 0);
    while term > 0 {
        n += 1;
        term = product(term, r) / n;
        sum += if n % 2 == 1 { -(term as i128) } else { term as i128 };
    }
    (sum as u128, halvings as u32)
}

/// ln 2 as the sum of 1 / (n * 2^n), to 120 units. exp(-t) has up to 185 times this error.
const LN2: u128 = {
    let (mut sum, mut n) = (0, 1);
    while n <= POINT {
        sum += (ONE >> n) / n as u128;
        n += 1;
    }
    sum
};

/// The product of fixed-point numbers of up to 1, truncated.
fn product(a: u128, b: u128) -> u128 {
    let [(a1, a0), (b1, b0)] = [a, b].map(|v| (v >> 64, v & u128::from(u64::MAX)));
    ((a1 * b1) << (128 - POINT)) + ((a1 * b0 + a0 * b1 + ((a0 * b0) >> 64)) >> (POINT - 64))
}

/// The quotient of two numbers below 2^122, the first not 0, by long division: 53 bits, the last of which is set if there is anything below, so that rounding it to a type
/// with fewer is rounding the quotient once.
fn quotient(dividend: u128, divisor: u128) -> f64 {
    let (mut rest, mut exponent) = (dividend, 0);
    while rest < divisor {
        rest *= 2;
        exponent -= 1;
    }
    let mut digits = 0u64;
    for _ in 0..53 {
        digits *= 2;
        if rest >= divisor {
            rest -= divisor;
            digits += 1;
        }
        rest *= 2;
    }
    (digits | u64::from(rest > 0)) as f64 * power_of_two(exponent - 52)
}

/// `g * factor * 2^exponent`, or a little less, rounded once; a factor of up to 97 bits.
fn times<T: Element>(g: T, factor: i128, exponent: i32, less: bool) -> T {
    let value = g.to_f64();
    if g.is_nan() || value.is_infinite() && factor == 0 {
        return quiet_nan();
    }
    if value.is_infinite() {
        return g;
    }
    let zero = T::from_f64(0f64.copysign(value));
    if value == 0.0 || factor == 0 {
        return zero;
    }
    let (significand, of_g) = odd_and_exponent(value.abs());
    let mut product = (significand * factor) as u128;
    product -= u128::from(less);
    // 53 bits, the last of which is set if there is anything below.
    let dropped = (128 - product.leading_zeros()).saturating_sub(53);
    let kept = product >> dropped;
    let is_exact = kept << dropped == product && !less;
    let odd = (kept as u64 | u64::from(!is_exact)) as f64;
    T::from_f64((odd * power_of_two(exponent + of_g + dropped as i32)).copysign(value))
}

/// A positive finite number as an odd integer times a power of two.
fn odd_and_exponent(value: f64) -> (i128, i32) {
    let (significand, exponent) = integer_and_exponent(value);
    let zeros = significand.trailing_zeros();
    (significand >> zeros, exponent + zeros as i32)
}

/// 2^exponent, for exponents of normal f64.
pub(super) fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

pub(super) fn quiet_nan<T: Element>() -> T {
    T::from_bits(T::TYPE.layout().quiet_nan())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bf16, f16};

    const TANH: [(u32, u32); 9] = [
        (0x3ac37de2, 0x3ac37dd9),
        (0x3eee0566, 0x3ede3cbe),
        (0x3cd41b91, 0x3cd40f70),
        (0x40acb4d0, 0x3f7ffd50),
        (0x40c5e8ca, 0x3f7fff71),
        (0x3d7c3055, 0x3d7bdee1),
        (0x39800000, 0x39800000),
        (0xbf800000, 0xbf42f7d6),
        (0x41102cb3, 0x3f7fffff),
    ];
    const SIGMOID: [(u32, u32); 12] = [
        (0x34000000, 0x3f000000),
        (0x34c00000, 0x3f000001),
        (0x3d21bc81, 0x3f0286dc),
        (0x3e8dffaf, 0x3f11a30f),
        (0x3eb2c9b8, 0x3f161fc8),
        (0xb3800000, 0x3f000000),
        (0xbe104170, 0x3eedff70),
        (0xc2b2e798, 0x000f6dce),
        (0xbf1964d0, 0x3eb584b1),
        (0xc2cff1b4, 0x00000001),
        (0xc2cff1b5, 0x00000000),
        (0x418aa123, 0x3f800000),
    ];

    /// Numbers of a table: the hardest inputs of f32, and what arithmetic with 300 bits makes of them.
    #[test]
    fn the_hardest_inputs() {
        let tanh_of = |bits: u32| tanh(f32::from_bits(bits)).to_bits();
        let sigmoid_of = |bits: u32| sigmoid(f32::from_bits(bits)).to_bits();
        assert_eq!(TANH.map(|(x, _)| tanh_of(x)), TANH.map(|(_, y)| y));
        assert_eq!(SIGMOID.map(|(x, _)| sigmoid_of(x)), SIGMOID.map(|(_, y)| y));
    }

    #[test]
    fn ends() {
        assert_eq!([f32::INFINITY, -f32::INFINITY, 1e-30, -0.0].map(tanh), [1.0, -1.0, 1e-30, -0.0]);
        assert_eq!([f32::INFINITY, -f32::INFINITY, 0.0, -104.0].map(sigmoid), [1.0, 0.0, 0.5, 0.0]);
        assert_eq!(tanh_backward(1.0f32, -2.0).to_bits(), (-0.0f32).to_bits());
        assert_eq!(tanh_backward(0.5f32, f32::INFINITY), f32::INFINITY);
        assert!(tanh_backward(1.0f32, f32::INFINITY).is_nan() && tanh_backward(1.5f32, 0.0).is_nan());
        assert!(
            sigmoid_backward(-0.5f32, 1.0).is_nan() && sigmoid_backward(f16::ZERO, f16::INFINITY).is_nan()
        );
        assert_eq!(sigmoid_backward(bf16::from_f32(0.5), bf16::from_f32(3.0)).to_f32(), 0.75);
        assert_eq!(sigmoid_backward(f32::from_bits(1), f32::from_bits(0x7f7f_ffff)).to_bits(), 0x34ff_ffff);
    }
}
