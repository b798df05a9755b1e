//! Parses decimal numbers for the types that the standard library cannot parse this way.

use std::cmp::Ordering;

use wgclip::bounds::Number;

/// Reads a number as an integer, exactly: `"-3"`, `"1e3"`, `"2.50e1"`, `"inf"`. A number that is not whole, or not finite, is returned
/// as a float.
pub(crate) fn whole(text: &str) -> Option<Number> {
    // The syntax is that of Rust's standard float parser.
    let value = text.parse::<f64>().ok()?;
    if !text.contains(|c: char| c.is_ascii_digit()) {
        return Some(Number::Float(value));
    }

    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{}{after}", before.trim_start_matches(['+', '-']));
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some(Number::Integer(0));
    }
    // If an i64 cannot hold the exponent, only its sign matters.
    let exponent =
        exponent.parse::<i64>().unwrap_or(if exponent.starts_with('-') { i64::MIN } else { i64::MAX });
    let dropped = (digits.len() - significant.len()) as i64;
    let zeros = exponent.saturating_add(dropped).saturating_sub(after.len() as i64);
    if zeros < 0 {
        // Independent of its digits, which a float may have lost.
        return Some(Number::Float(0.5));
    }
    let power = u32::try_from(zeros).ok().and_then(|zeros| 10i128.checked_pow(zeros));
    let magnitude = significant.parse::<i128>().ok().zip(power).and_then(|(v, power)| v.checked_mul(power));
    let negative = mantissa.starts_with('-');
    Some(match magnitude {
        Some(v) => Number::Integer(if negative { -v } else { v }),
        None => Number::Beyond { negative },
    })
}

/// Reads a number and rounds it, ties to even, to a float with `fraction` fraction bits whose smallest normal number
/// is `2^least`. A value beyond the format's range is left for the caller to round to infinity.
pub(crate) fn rounded(text: &str, fraction: i32, least: i32) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    if value == 0.0 || !value.is_finite() {
        return Some(value);
    }
    // Dividing by a power of two is exact.
    let exponent = ((value.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    let unit = 2f64.powi(exponent.max(least) - fraction);
    let units = value / unit;
    // The text was rounded to `value`: at a tie, the direction of that rounding decides.
    let rounded = match compare_magnitudes(text, value) {
        Ordering::Less if units.fract().abs() == 0.5 => units.trunc(),
        Ordering::Greater if units.fract().abs() == 0.5 => units.trunc() + units.signum(),
        _ => units.round_ties_even(),
    };
    Some(rounded * unit)
}

/// Compares the exact number in a text with a float. Neither is NaN.
pub(crate) fn compare(text: &str, value: f64) -> Ordering {
    let asked: f64 = text.parse().unwrap_or(f64::NAN);
    let digits = text.split(['e', 'E']).next().unwrap_or_default();
    let is_zero = asked == 0.0 && !digits.contains(|c: char| ('1'..='9').contains(&c));
    let is_infinite = asked.is_infinite() && !digits.contains(|c: char| c.is_ascii_digit());
    let sign = |negative: bool| if negative { Ordering::Less } else { Ordering::Greater };
    let is_negative = text.starts_with('-');
    match () {
        () if is_zero || is_infinite || asked.is_nan() => {
            asked.partial_cmp(&value).unwrap_or(Ordering::Equal)
        }
        () if value == 0.0 || is_negative != (value < 0.0) => sign(is_negative),
        () if value.is_infinite() => sign(!is_negative),
        () => {
            let magnitudes = compare_magnitudes(text, value);
            if is_negative { magnitudes.reverse() } else { magnitudes }
        }
    }
}

/// Compares the magnitude of the number in a text with that of a float.
fn compare_magnitudes(text: &str, value: f64) -> Ordering {
    // All digits that a float can have.
    let value = format!("{:.1080}", value.abs());
    scientific(text).cmp(&scientific(&value))
}

/// The power of ten of the first digit, and the digits, without leading and trailing zeros.
fn scientific(text: &str) -> (i64, String) {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{}{after}", before.trim_start_matches(['+', '-']));
    let significant = digits.trim_start_matches('0');
    let zeros = (digits.len() - significant.len()) as i64;
    // An exponent that does not fit an i64 was rounded to zero or infinity, and is not compared.
    let exponent: i64 = exponent.parse().unwrap_or(0);
    let first = before.trim_start_matches(['+', '-']).len() as i64 - zeros + exponent;
    (first, significant.trim_end_matches('0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_read_to_the_last_digit() {
        for (text, value) in [
            ("0", 0),
            ("-0.0", 0),
            ("+7", 7),
            ("18446744073709551615", u64::MAX.into()),
            ("9007199254740993.0", 9007199254740993),
            ("1e3", 1000),
            ("-2.50e1", -25),
            ("1200e-2", 12),
        ] {
            assert_eq!(whole(text), Some(Number::Integer(value)), "{text}");
        }
        for text in ["0.5", "1e-400", "99999999999999999999.5", "25e-1", "1e-99999999999999999999"] {
            assert_eq!(whole(text), Some(Number::Float(0.5)), "{text}");
        }
        assert_eq!(whole("1e300"), Some(Number::Beyond { negative: false }));
        assert_eq!(whole("-1e99999999999999999999"), Some(Number::Beyond { negative: true }));
        assert_eq!(whole("-inf"), Some(Number::Float(f64::NEG_INFINITY)));
        assert!(matches!(whole("nan"), Some(Number::Float(v)) if v.is_nan()));
        for text in ["", "x", "1.2.3", "--1", "e5"] {
            assert_eq!(whole(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_compared_to_the_last_digit() {
        use Ordering::{Equal, Greater, Less};

        for (text, value, order) in [
            ("0.1", 0.1, Less),
            ("0.1000000000000000055511151231257827021181583404541015625", 0.1, Equal),
            ("-0.1", -0.1, Greater),
            ("0.3", 0.3, Greater),
            ("1e-400", 0.0, Greater),
            ("-1e-400", 0.0, Less),
            ("-0.0", 0.0, Equal),
            ("1e400", f64::INFINITY, Less),
            ("-1e400", f64::NEG_INFINITY, Greater),
            ("inf", f64::INFINITY, Equal),
            ("-inf", 3.0, Less),
            ("2", -2.0, Greater),
            ("448", 448.0, Equal),
            ("0.00448e5", 448.0, Equal),
            ("448.0000000000000000000001", 448.0, Greater),
        ] {
            assert_eq!(compare(text, value), order, "{text} and {value}");
        }
    }

    #[test]
    fn short_floats_are_rounded_once() {
        let f16 = |text| rounded(text, 10, -14).unwrap();
        assert_eq!(f16("1.00048828125"), 1.0, "a tie to even");
        // Via f32 this would be the tie above, and round down.
        assert_eq!(f16("1.000488281250001"), 1.0009765625);
        // Here f64 rounds to the tie.
        assert_eq!(f16("1.0004882812500001"), 1.0009765625);
        assert_eq!(f16("-1.00048828125000001e0"), -1.0009765625);
        assert_eq!(f16("0.001001464843749999999999e3"), 1.0009765625, "a tie from below goes down");
        assert_eq!(f16("2.9802322387695313e-8"), 2f64.powi(-24));
        assert_eq!(f16("65519.9999999999999999"), 65504.0);
        assert_eq!(f16("65520"), 65536.0);
        assert_eq!(f16("2.98e-8"), 0.0, "less than half the least subnormal");
        assert_eq!(f16("2.99e-8"), 2f64.powi(-24));
        assert_eq!(f16("-inf"), f64::NEG_INFINITY);
        assert_eq!(rounded("x", 10, -14), None);
    }
}
