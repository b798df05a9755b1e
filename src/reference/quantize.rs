//! Quantisation, in exact integers.

use super::philox::philox;
use super::ratio::{Ratio, integer_and_exponent};
use super::{nearest, round};
use crate::quantize::{NanCode, QuantGradient, QuantRule, Rounding};
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
