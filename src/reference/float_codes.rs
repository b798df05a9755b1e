//! Codes that are floats, and two codes in a byte.

use std::cmp::Ordering;

use super::nearest;
use super::ratio::Ratio;
use crate::Element;
use crate::quantize::{NanCode, QuantRule};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::Quotient;

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
}
