//! Quantisation, in exact integers.

use std::cmp::Ordering;

use super::philox::philox;
use super::{nearest, round};
use crate::quantize::{NanCode, QuantGradient, QuantRule, Quotient, Rounding};
use crate::{Element, NanRule};

/// The value of the code of `x`: `(q - z) * scale` rounded once, where `q = min(max(round(x / scale) + z, rule.min), rule.max)` and z is
/// the zero point rounded to the nearest integer (ties to even) and clipped to the codes.
///
/// | case | result |
/// |---|---|
/// | x is NaN | as [`NanCode`] says |
/// | scale or zero point is NaN | that NaN, the first of them |
/// | x is infinite, or the scale is 0 and x is not | an end of the range |
/// | x is 0, or the scale is infinite | the code of the zero point, whose value is `0 * scale` |
/// | the scale is negative | the quotient has the other sign, nothing else differs |
///
/// A NaN that comes of `0 * infinity` is the positive quiet one without payload. `index` is that of the element, for [`Rounding::Stochastic`].
pub fn fake_quantize<T: Element>(x: T, scale: T, zero_point: T, rule: QuantRule, index: u64) -> T {
    match Code::new(x, scale, zero_point, (rule, index)) {
        Err(nan) => nan,
        Ok(Code { steps, .. }) => nearest(steps as f64 * scale.to_f64()),
    }
}

/// The code of `x`: `min(max(round(x / scale) + z, rule.min), rule.max)`, as [`fake_quantize`] has it. If x or the scale is NaN, the code is
/// that of [`NanCode`], the zero point's for [`NanCode::Nan`]; a zero point that is NaN counts as 0, and x as NaN. Scale and zero
/// point are f32, or f64 for an x of f64: rules that round the quotient do it in these.
pub fn quantize<T: Element>(x: T, scale: f64, zero_point: f64, rule: QuantRule, index: u64) -> i32 {
    let any_nan = x.is_nan() || scale.is_nan() || zero_point.is_nan();
    let x = if any_nan { f64::NAN } else { x.to_f64() };
    let zero_point = if zero_point.is_nan() { 0.0 } else { zero_point };
    let Code { steps, zero, .. } = Code::of::<T>(x, scale, zero_point, (rule, index));
    (steps + zero) as i32
}

/// The code of `x` in a type of 8-bit floats, `C`: `x / scale`, divided as the rule says, and rounded to nearest, ties to even. Beyond the greatest
/// finite number, infinities too, it is that of its sign. It has the sign of the quotient also where it is 0: quotients of 0, 0 by 0 too, and those
/// by infinity. If x or the scale is NaN, the code is the positive quiet NaN, or what [`NanCode`] says instead: the least or greatest finite number,
/// or 0. There is no zero point, and of the rule the quotient and the code of a NaN matter alone.
pub fn quantize_to_float<T: Element, C: Element>(x: T, scale: f64, rule: QuantRule) -> C {
    let layout = C::TYPE.layout();
    let of_sign = |bits: u64, negative: bool| C::from_bits(bits | if negative { layout.sign() } else { 0 });
    let x = x.to_f64();
    if x.is_nan() || scale.is_nan() {
        return match rule.nan {
            NanCode::Nan => of_sign(layout.quiet_nan(), false),
            NanCode::Zero => of_sign(0, false),
            NanCode::Least => of_sign(layout.max_finite(), true),
            NanCode::Greatest => of_sign(layout.max_finite(), false),
        };
    }
    let (dividend, divisor) = rule.quotient.rounded::<T>(x, scale);
    let magnitudes = (0..=layout.max_finite()).map(|bits| C::from_bits(bits).to_f64());
    let nearest = nearest_magnitude(dividend, divisor, &magnitudes.collect::<Vec<_>>());
    of_sign(nearest as u64, x.is_sign_negative() != scale.is_sign_negative())
}

/// The magnitudes of [`CodeFormat::E2M1`](crate::quantize::CodeFormat::E2M1), in the order of their bits.
const E2M1: [f64; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

/// The code of `x` as a [4-bit float](crate::quantize::CodeFormat::E2M1), in the low bits: as [`quantize_to_float`] has it, but no code is NaN, which becomes 0
/// for [`NanCode::Nan`].
pub fn quantize_to_e2m1<T: Element>(x: T, scale: f64, rule: QuantRule) -> u8 {
    let x = x.to_f64();
    if x.is_nan() || scale.is_nan() {
        return match rule.nan {
            NanCode::Nan | NanCode::Zero => 0,
            NanCode::Least => 0b1111,
            NanCode::Greatest => 0b0111,
        };
    }
    let (dividend, divisor) = rule.quotient.rounded::<T>(x, scale);
    let negative = x.is_sign_negative() != scale.is_sign_negative();
    u8::from(negative) << 3 | nearest_magnitude(dividend, divisor, &E2M1) as u8
}

/// The index of the magnitude that is nearest to that of a quotient, the even one of two that are; the last for all beyond.
fn nearest_magnitude(dividend: f64, divisor: f64, magnitudes: &[f64]) -> usize {
    let is_beyond = |index: usize| {
        // Twice the quotient beside the sum of two neighbours, both in units in which all magnitudes are integers.
        let unit = magnitudes[1];
        let sum = ((magnitudes[index] + magnitudes[index + 1]) / unit) as i128;
        let Ratio { numerator, denominator } = Ratio::times_power(dividend, divisor, 1 - unit.log2() as i32);
        // A product that overflows is greater than any numerator.
        let order = sum.checked_mul(denominator).map_or(Ordering::Less, |sum| numerator.abs().cmp(&sum));
        order == Ordering::Greater || order == Ordering::Equal && index % 2 == 1
    };
    // The neighbours of which a quotient is beyond the middle come first.
    let (mut least, mut most) = (0, magnitudes.len() - 1);
    while least < most {
        let middle = (least + most) / 2;
        if is_beyond(middle) { least = middle + 1 } else { most = middle }
    }
    least
}

/// The value of a code that is an 8-bit float: `code * scale`, rounded to the type once. A computed NaN is the positive quiet one without payload.
pub fn dequantize_float<C: Element, T: Element>(code: C, scale: f64) -> T {
    // Exact for a scale of f32, which has 24 bits, as the code has 4.
    nearest(code.to_f64() * scale)
}

/// The value of a code that is a 4-bit float, in the low bits: `code * scale`, as [`dequantize_float`] has it.
pub fn dequantize_e2m1<T: Element>(code: u8, scale: f64) -> T {
    let magnitude = E2M1[usize::from(code & 7)];
    nearest(if code & 8 == 0 { magnitude } else { -magnitude } * scale)
}

/// Two 4-bit codes, in the low bits of the bytes of `pair`, in one byte: that of the low byte in the low bits.
pub fn pack4(pair: u16) -> u8 {
    let [first, second] = pair.to_le_bytes();
    first & 15 | second << 4
}

/// The reverse: the two 4-bit codes of a byte, each in a byte. They are integers with a sign if the least code of the rule is below 0.
pub fn unpack4(byte: u8, rule: QuantRule) -> u16 {
    let widen = |code: u8| if rule.min < 0 && code & 8 != 0 { code | 0xf0 } else { code };
    u16::from_le_bytes([byte & 15, byte >> 4].map(widen))
}

/// The value of a code: `(code - z) * scale`, rounded to the type once; z is that of [`quantize`]. The code may lie outside the rule's range. The
/// result of a NaN, or of `0 * infinity`, is the positive quiet NaN without payload. Scale and zero point are f32, or f64 for values of f64.
pub fn dequantize<T: Element>(code: i32, scale: f64, zero_point: f64, rule: QuantRule) -> T {
    if zero_point.is_nan() {
        return nearest(f64::NAN);
    }
    let steps = i128::from(code) - zero_of(zero_point, rule);
    match T::TYPE.layout().bits {
        64 => nearest(steps as f64 * scale),
        _ => nearest(product_to_odd(steps, scale)),
    }
}

/// The product of an integer and a number, rounded to odd where an f64 has too few bits: then it rounds to a shorter type as the real product does.
fn product_to_odd(steps: i128, scale: f64) -> f64 {
    if steps == 0 || scale == 0.0 || !scale.is_finite() {
        return steps as f64 * scale;
    }
    let (significand, exponent) = integer_and_exponent(scale);
    let product = steps.abs() * significand;
    let lost = (128 - product.leading_zeros()).saturating_sub(53);
    let sticky = i128::from(product & ((1 << lost) - 1) != 0);
    let kept = (product >> lost | sticky) as f64 * 2f64.powi(exponent + lost as i32);
    if (steps < 0) == (scale < 0.0) { kept } else { -kept }
}

/// The gradients that reach x, the scale and the zero point, from the upstream gradient `g` of [`fake_quantize`].
///
/// x receives g where [`QuantGradient`] says so, else +0; an x that is NaN what `rule.nan_gradient` says. Where g passes, the scale
/// receives `g * ((q - z) - x / scale)` and the zero point +0: the estimator of LSQ. Elsewhere, y being `(q - z) * scale` for an end q, the
/// scale receives `g * (q - z)` and the zero point `-scale * g`. Each quotient, difference and product is rounded to f32 (to f64 for f64),
/// and the result to the type; a computed NaN is the positive quiet one without payload.
///
/// A NaN that is the result receives g itself in place of the others; a NaN x with a code of its own has the gradients of an end.
pub fn fake_quantize_backward<T: Element>(
    x: T,
    g: T,
    scale: T,
    zero_point: T,
    rule: QuantRule,
    index: u64,
) -> [T; 3] {
    let none = T::ZERO;
    let of_nan = if rule.nan_gradient == NanRule::Pass { g } else { none };
    let code = match Code::new(x, scale, zero_point, (rule, index)) {
        Ok(code) => code,
        Err(_) if x.is_nan() && rule.nan == NanCode::Nan => return [of_nan, none, none],
        Err(_) if scale.is_nan() => return [none, g, none],
        Err(_) => return [none, none, g],
    };
    let (upstream, of_scale) = (g.to_f64(), scale.to_f64());
    let times = |factor: f64| nearest(round::<T>(upstream * factor));
    if code.passes {
        let quotient = round::<T>(x.to_f64() / of_scale);
        return [g, times(round::<T>(code.steps as f64 - quotient)), none];
    }
    let gx = if x.is_nan() { of_nan } else { none };
    [gx, times(code.steps as f64), times(-of_scale)]
}

/// The code of an element.
struct Code {
    /// The steps from the zero point to the code.
    steps: i128,
    /// The code of the zero point.
    zero: i128,
    /// Whether the gradient of a number passes.
    passes: bool,
}

impl Code {
    /// Returns the NaN that is the result, if one is.
    fn new<T: Element>(x: T, scale: T, zero_point: T, of: (QuantRule, u64)) -> Result<Self, T> {
        let nan_x = Some(x).filter(|x| x.is_nan() && of.0.nan == NanCode::Nan);
        if let Some(nan) = nan_x.or([scale, zero_point].into_iter().find(|operand| operand.is_nan())) {
            return Err(nan);
        }
        Ok(Self::of::<T>(x.to_f64(), scale.to_f64(), zero_point.to_f64(), of))
    }

    /// That of operands of which none but x is NaN.
    fn of<T: Element>(x: f64, scale: f64, zero_point: f64, (rule, index): (QuantRule, u64)) -> Self {
        let (min, max) = (i128::from(rule.min), i128::from(rule.max));
        let zero = zero_of(zero_point, rule);
        let nan_code = match rule.nan {
            NanCode::Least => min,
            NanCode::Greatest => max,
            NanCode::Nan | NanCode::Zero => zero,
        };
        if x.is_nan() {
            return Self { steps: nan_code - zero, zero, passes: false };
        }
        let quotient = Ratio::quotient::<T>(x, scale, rule.quotient);
        let unclipped = zero
            + match rule.rounding {
                Rounding::Stochastic => quotient.rounded_by(philox(rule.seed, index)),
                rounding => quotient.rounded(rounding),
            };
        let passes = match rule.gradient {
            QuantGradient::Rounded => min <= unclipped && unclipped <= max,
            QuantGradient::Interior => min < unclipped && unclipped < max,
            QuantGradient::Unrounded => {
                quotient.numerator >= (min - zero) * quotient.denominator
                    && quotient.numerator <= (max - zero) * quotient.denominator
            }
            QuantGradient::StraightThrough => true,
        };
        Self { steps: unclipped.clamp(min, max) - zero, zero, passes }
    }
}

/// The code of a zero point.
fn zero_of(zero_point: f64, rule: QuantRule) -> i128 {
    Ratio::of(zero_point).rounded(Rounding::HalfEven).clamp(rule.min.into(), rule.max.into())
}

impl Quotient {
    /// Two numbers whose real quotient is that of x and the scale as it is rounded before all else.
    fn rounded<T: Element>(self, x: f64, scale: f64) -> (f64, f64) {
        match self {
            // These quotients are not rounded, whatever the rule is.
            _ if x == 0.0 || x.is_infinite() || scale == 0.0 || scale.is_infinite() => (x, scale),
            Self::Exact => (x, scale),
            Self::Division => (round::<T>(x / scale), 1.0),
            Self::Reciprocal => (round::<T>(x * round::<T>(1.0 / scale)), 1.0),
        }
    }
}

/// A quotient of integers, the denominator above 0.
struct Ratio {
    numerator: i128,
    denominator: i128,
}

impl Ratio {
    /// A number, or one of its sign beyond all codes.
    fn of(value: f64) -> Self {
        Self::exact(value, 1.0)
    }

    /// x by the scale, as a rule divides.
    fn quotient<T: Element>(x: f64, scale: f64, quotient: Quotient) -> Self {
        let (dividend, divisor) = quotient.rounded::<T>(x, scale);
        Self::exact(dividend, divisor)
    }

    /// The real quotient of two numbers, or one of its sign beyond all codes. Those of 0, and those by infinity, are 0.
    fn exact(x: f64, scale: f64) -> Self {
        Self::times_power(x, scale, 0)
    }

    /// The same times a power of two.
    fn times_power(x: f64, scale: f64, power: i32) -> Self {
        const FAR: i128 = 1 << 40;
        let sign = if x.is_sign_negative() == scale.is_sign_negative() { 1 } else { -1 };
        let far = Self { numerator: sign * FAR, denominator: 1 };
        if x.is_infinite() {
            return far;
        }
        if x == 0.0 || scale.is_infinite() {
            return Self { numerator: 0, denominator: 1 };
        }
        if scale == 0.0 {
            return far;
        }
        let ((a, of_a), (b, of_b)) = (integer_and_exponent(x), integer_and_exponent(scale));
        match of_a - of_b + power {
            exponent if exponent > 70 => far,
            // Not 0, and nearer to it than any other decision is.
            exponent if exponent < -55 => Self { numerator: sign, denominator: FAR },
            exponent if exponent < 0 => Self { numerator: sign * a, denominator: b << -exponent },
            exponent => Self { numerator: sign * (a << exponent), denominator: b },
        }
    }

    fn rounded(&self, rounding: Rounding) -> i128 {
        let floor = self.numerator.div_euclid(self.denominator);
        let twice = 2 * (self.numerator - floor * self.denominator);
        let up = match rounding {
            Rounding::Down => false,
            _ if twice != self.denominator => twice > self.denominator,
            Rounding::HalfEven => floor % 2 != 0,
            Rounding::HalfUp => true,
            Rounding::HalfAway => self.numerator > 0,
            // By random bits: see `rounded_by`.
            Rounding::Stochastic => twice > self.denominator,
        };
        floor + i128::from(up)
    }

    /// Rounded away from zero where the fraction of the magnitude is above `(2 * random + 1) / 2^33`.
    fn rounded_by(&self, random: u32) -> i128 {
        let size = self.numerator.abs();
        let (whole, rest) = (size / self.denominator, size % self.denominator);
        // A numerator has fewer bits: the fraction is below 2^-33.
        let is_tiny = self.denominator > 1 << 94;
        let is_above = !is_tiny && rest << 33 > (2 * i128::from(random) + 1) * self.denominator;
        self.numerator.signum() * (whole + i128::from(is_above))
    }
}

/// The magnitude of a finite number as an integer times a power of two.
fn integer_and_exponent(value: f64) -> (i128, i32) {
    let bits = value.to_bits();
    let (exponent, fraction) = ((bits >> 52 & 0x7ff) as i32, i128::from(bits & ((1 << 52) - 1)));
    if exponent == 0 { (fraction, -1074) } else { (fraction | 1 << 52, exponent - 1075) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(x: &[f32], scale: f32, zero: f32, rule: QuantRule) -> Vec<f32> {
        x.iter().map(|&x| fake_quantize(x, scale, zero, rule, 0)).collect()
    }

    #[test]
    fn halves_are_rounded_as_the_rule_says() {
        let x = [0.5f32, 1.5, 2.5, -0.5, -1.5, -2.5];
        let by = |rounding| values(&x, 1.0, 0.0, QuantRule { rounding, ..QuantRule::EXACT });
        assert_eq!(by(Rounding::HalfEven), [0.0, 2.0, 2.0, 0.0, -2.0, -2.0]);
        assert_eq!(by(Rounding::HalfUp), [1.0, 2.0, 3.0, 0.0, -1.0, -2.0]);
        assert_eq!(by(Rounding::HalfAway), [1.0, 2.0, 3.0, -1.0, -2.0, -3.0]);
        assert_eq!(by(Rounding::Down), [0.0, 1.0, 2.0, -1.0, -2.0, -3.0]);
        // Before the zero point is added.
        assert_eq!(values(&x[..3], 1.0, 3.0, QuantRule::TORCH), [0.0, 2.0, 2.0]);
    }

    /// By numbers whose fraction is at, and next to, the draw of their index.
    #[test]
    fn random_bits_choose_between_neighbours() {
        let rule = QuantRule { rounding: Rounding::Stochastic, seed: 7, ..QuantRule::EXACT };
        for index in 0..1000 {
            let threshold = (2.0 * f64::from(philox(7, index)) + 1.0) / 2f64.powi(33);
            let code = |x: f64| quantize(x, 1.0, 0.0, rule, index);
            assert_eq!(
                [threshold.next_down(), threshold, threshold.next_up()].map(code),
                [0, 0, 1],
                "{index}"
            );
            assert_eq!(
                [-(3.0 + threshold).next_down(), -(3.0 + threshold).next_up(), 5.0, 1e-300].map(code),
                [-3, -4, 5, 0]
            );
        }
        let sum: i32 = (0..100_000).map(|index| quantize(2.3f32, 1.0, 0.0, rule, index)).sum();
        // Four deviations of 145 each.
        assert!((sum - 230_000).abs() < 600, "{sum}");
    }

    /// What torch 2.15 gave.
    #[test]
    fn values_and_gradients_of_torch() {
        let scale = 0.1f32;
        let y =
            values(&[0.05, 0.15, 0.25, 0.35, f32::NAN, f32::INFINITY, 1e30], scale, 0.0, QuantRule::TORCH);
        let steps = [0.0, 2.0, 2.0, 4.0, -128.0, 127.0, 127.0f32];
        assert_eq!(y, steps.map(|steps| steps * scale));
        assert_eq!(fake_quantize(-0.04f32, scale, 0.0, QuantRule::TORCH, 0).to_bits(), 0);
        let gx = |x: f32, rule| fake_quantize_backward(x, 3.0, 1.0, 0.0, rule, 0)[0];
        for (x, torch, torchao) in [
            (126.5, 3.0, 3.0),
            (127.0, 3.0, 0.0),
            (127.4, 3.0, 0.0),
            (127.5, 0.0, 0.0),
            (-127.4, 3.0, 3.0),
            (-128.0, 3.0, 0.0),
            (-128.5, 3.0, 0.0),
            (f32::NAN, 0.0, 0.0),
            (1e30, 0.0, 0.0),
        ] {
            assert_eq!((gx(x, QuantRule::TORCH), gx(x, QuantRule::TORCHAO)), (torch, torchao), "{x}");
        }
        assert_eq!(fake_quantize_backward(300.0, f32::INFINITY, 1.0, 0.0, QuantRule::TORCH, 0)[0], 0.0);
    }

    #[test]
    fn gradients_of_the_scale_and_the_zero_point() {
        let of = |x: f32, scale: f32, rule| fake_quantize_backward(x, 1.0, scale, 0.0, rule, 0);
        assert_eq!(of(1.5, 1.0, QuantRule::EXACT), [1.0, 0.5, 0.0]);
        assert_eq!(of(300.0, 1.0, QuantRule::EXACT), [0.0, 127.0, -1.0]);
        assert_eq!(of(-300.0, 0.5, QuantRule::EXACT), [0.0, -128.0, -0.5]);
        assert_eq!(of(300.0, 1.0, QuantRule::BREVITAS_STE), [1.0, -173.0, 0.0]);
    }

    #[test]
    fn codes_and_their_values() {
        let rule = QuantRule::range(0, 255).unwrap();
        let code = |x: f32| quantize(x, 0.5, 128.0, rule, 0);
        assert_eq!([0.25, 0.75, -64.0, 1e9, f32::NAN].map(code), [128, 130, 0, 255, 128]);
        let least = QuantRule { nan: NanCode::Least, ..rule };
        assert_eq!(
            [quantize(f32::NAN, 1.0, 7.0, least, 0), quantize(1.0f32, f64::NAN, 7.0, least, 0)],
            [0, 0]
        );
        assert_eq!(quantize(1.0f32, 1.0, f64::NAN, rule, 0), 0);
        for q in 0..=255 {
            let value: f32 = dequantize(q, 0.1f32.into(), 128.0, rule);
            assert_eq!(value, (q as f32 - 128.0) * 0.1);
            assert_eq!(quantize(value, 0.1f32.into(), 128.0, rule, 0), q);
        }
        // Products of 55 bits, above and below a tie of f32 by less than an f64 shows.
        let wide = |code, scale: f64| dequantize::<f32>(code, scale, 0.0, QuantRule::EXACT);
        assert_eq!(wide(1549096277, 16777213.0), 25989519270477824.0);
        assert_eq!(wide(-1090519041, 16777215.0), -18295871338708992.0);
        assert!(dequantize::<f32>(0, f64::INFINITY, 0.0, rule).is_nan());
    }

    /// Each magnitude, the middles between them and the neighbours of these: what the OCP specification says of roundTiesToEven, saturated.
    #[test]
    fn codes_that_are_4_bit_floats() {
        let code = |x: f32, scale: f64| quantize_to_e2m1(x, scale, QuantRule::E2M1);
        for (bits, pair) in E2M1.windows(2).enumerate() {
            let (bits, middle) = (bits as u8, ((pair[0] + pair[1]) / 2.0) as f32);
            assert_eq!(code(pair[0] as f32, 1.0), bits);
            assert_eq!(
                [middle.next_down(), middle, middle.next_up()].map(|x| code(x, 1.0)),
                [bits, bits + bits % 2, bits + 1]
            );
            assert_eq!(code(-middle.next_up() * 4.0, 4.0), 8 | (bits + 1));
        }
        assert_eq!(
            [6.0, 1e30, f32::INFINITY, -7.0, -0.0, 1e-30, f32::NAN].map(|x| code(x, 1.0)),
            [7, 7, 7, 15, 8, 0, 0]
        );
        assert_eq!([code(1.0, 0.0), code(1.0, -f64::INFINITY), code(-1.0, f64::NAN)], [7, 8, 0]);
        // 0.1f32 is above a tenth, so that a quarter of it, by the f32 nearest to a tenth, is a tie.
        assert_eq!(code(0.025, 0.1f32.into()), 0);
        let values: Vec<f32> = (0..16).map(|code| dequantize_e2m1(code, -2.0)).collect();
        assert_eq!(values[..8], [-0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0]);
        assert!(values[8..].iter().zip(E2M1).all(|(value, of)| f64::from(*value) == 2.0 * of));
    }

    #[test]
    fn two_codes_are_in_a_byte_the_first_in_its_low_bits() {
        assert_eq!(pack4(u16::from_le_bytes([0x03, 0xfe])), 0xe3);
        assert_eq!(unpack4(0xe3, QuantRule::EXACT).to_le_bytes(), [0x03, 0xfe]);
        assert_eq!(unpack4(0xe3, QuantRule::E2M1).to_le_bytes(), [0x03, 0x0e]);
        for byte in 0..=u8::MAX {
            assert_eq!([QuantRule::EXACT, QuantRule::E2M1].map(|rule| pack4(unpack4(byte, rule))), [byte; 2]);
        }
    }

    /// What torch 2.15 gave for `(x / scale).clamp(-448, 448).to(float8_e4m3fn)`, where that is exact.
    #[test]
    fn codes_that_are_floats() {
        use crate::{f8_e4m3fn, f8_e5m2};

        let code = |x: f32, scale: f64| -> f8_e4m3fn { quantize_to_float(x, scale, QuantRule::EXACT) };
        let value = |x: f32, scale: f64| -> f32 { dequantize_float(code(x, scale), scale) };
        assert_eq!(
            [1.0, 17.0, 18.0, 19.0, 448.0, 449.0, 1e30].map(|x| value(x, 1.0)),
            [1.0, 16.0, 18.0, 20.0, 448.0, 448.0, 448.0]
        );
        // Of the least subnormal, 2^-9: half of it is a tie with 0, and more is not.
        let least = 2f32.powi(-9);
        assert_eq!([0.5, 0.51, 1.5, 2.5].map(|n| value(n * least, 1.0) / least), [0.0, 1.0, 2.0, 2.0]);
        assert_eq!(value(f32::INFINITY, 0.5), 224.0);
        assert_eq!(value(-1.0, 0.0).to_bits(), (-0.0f32).to_bits());
        assert_eq!([code(-0.0, 1.0), code(-0.0, 0.0), code(0.0, -1.0)].map(|code| code.to_bits()), [0x80; 3]);
        assert!(value(f32::NAN, 1.0).is_nan() && value(1.0, f64::NAN).is_nan());
        // A quotient below the tie 19, which f32 rounds to it.
        let (x, scale) = (19f32.next_up(), 1f32.next_up().into());
        let by = |quotient| -> f8_e4m3fn {
            quantize_to_float(x, scale, QuantRule { quotient, ..QuantRule::EXACT })
        };
        assert_eq!(by(Quotient::Exact).to_f64(), 18.0);
        assert_eq!(by(Quotient::Division).to_f64(), 20.0);
        let wide: f8_e5m2 = quantize_to_float(1e9f32, 1.0, QuantRule::EXACT);
        assert_eq!(dequantize_float::<_, f32>(wide, 1.0), 57344.0);
        let least_code = QuantRule { nan: NanCode::Least, ..QuantRule::EXACT };
        let least_code: f8_e5m2 = quantize_to_float(f32::NAN, 1.0, least_code);
        assert_eq!(dequantize_float::<_, f32>(least_code, 1.0), -57344.0);
    }

    #[test]
    fn the_ends_of_scales() {
        let y = |x: f32, scale: f32| fake_quantize(x, scale, 0.0, QuantRule::EXACT, 0);
        assert_eq!([y(1.0, 0.0), y(0.0, 0.0), y(f32::INFINITY, 0.0)], [0.0; 3]);
        assert_eq!([y(1.0, -1.0), y(128.0, -1.0), y(-300.0, -1.0)], [1.0, 128.0, -127.0]);
        assert_eq!(y(3e-45, 1.5e-45), 3e-45);
        assert_eq!(y(f32::MAX, f32::from_bits(1)), 127.0 * f32::from_bits(1));
        assert!(y(1.0, f32::INFINITY).is_nan() && y(1.0, f32::NAN).is_nan());
    }
}
