//! Parses bounds as numbers of the tensor's type.

use std::cmp::Ordering;

use wgclip::bounds::{BoundRounding, Number};
use wgclip::element::NumberClass;
use wgclip::{Bound, Bounds, Element};

use crate::decimal;

/// The error in the text of a bound, for the tensor's type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BoundError {
    #[error("the {side} bound '{text}' is not a number of type {element}: give one, or inf or -inf")]
    Invalid { side: &'static str, text: String, element: &'static str },
    #[error("'{text}': {error}")]
    Number { text: String, error: wgclip::Error },
    #[error("--axes are for percentiles: give one, --max p99.9 for example, or leave --axes out")]
    Axes,
    #[error("the percentile of --min is above that of --max: give them in order")]
    Crossed,
}

/// Reads bounds as numbers of type `T`. A number beyond the range of `T` saturates if that is harmless (such as an upper bound
/// above the range).
pub(crate) fn bounds<T: Element>(
    lo: Option<&str>,
    hi: Option<&str>,
    rounding: BoundRounding,
) -> anyhow::Result<Bounds<T>> {
    let read = |side, text: Option<&str>| text.map_or(Ok(Bound::Absent), |text| one(side, text, rounding));
    Ok(Bounds::new(read("lower", lo)?, read("upper", hi)?)?)
}

/// Describes the value of a bound in the type, if it differs from the text enough to surprise: infinity, zero, another whole number, a
/// short float beyond the text, or a coarse subnormal. Returns `None` for ordinary rounding.
pub(crate) fn surprise<T: Element>(
    is_upper: bool,
    text: &str,
    value: T,
    rounding: BoundRounding,
) -> Option<String> {
    let asked: f64 = text.parse().ok()?;
    let layout = T::TYPE.layout();
    if !T::TYPE.is_float() || !text.contains(|c: char| c.is_ascii_digit()) || asked.is_nan() {
        return None;
    }
    let became = value.to_f64();
    let moved = decimal::compare(text, became);
    let is_outward = moved == if is_upper { Ordering::Less } else { Ordering::Greater };
    // Half of a unit in the last place of a normal number.
    let is_far = (became - asked).abs() > asked.abs() * (-f64::from(layout.fraction_bits() + 1)).exp2();
    let is_whole = matches!(decimal::whole(text), Some(Number::Integer(_)));
    let hint = if is_outward { " (--bounds inward keeps within)" } else { "" };
    match () {
        () if moved == Ordering::Equal => None,
        () if became == f64::INFINITY => Some("infinity, which bounds nothing".into()),
        () if became == f64::NEG_INFINITY => Some("minus infinity, which bounds nothing".into()),
        () if became == 0.0 => Some(format!("0{hint}")),
        // The end of the range: there are no numbers beyond it to clip.
        () if became.abs() == T::from_bits(layout.max_finite()).to_f64() && asked.abs() > became.abs() => {
            None
        }
        // Rounded inward, as requested.
        () if rounding == BoundRounding::Inward => None,
        () if is_outward && layout.bits <= 16 => Some(format!("{value}, beyond what was asked{hint}")),
        () if is_whole => Some(format!("{value}, since there is no {text}{hint}")),
        () if is_far => Some(format!("{became:.6e}")),
        () => None,
    }
}

fn one<T: Element>(side: &'static str, text: &str, rounding: BoundRounding) -> Result<Bound<T>, BoundError> {
    let invalid = || BoundError::Invalid { side, text: text.to_owned(), element: T::TYPE.name() };
    let is_lower = side == "lower";
    let number = match (number::<T>(text).ok_or_else(invalid)?, rounding) {
        (Number::Float(_), BoundRounding::Inward) => within::<T>(is_lower, text).ok_or_else(invalid)?,
        (number, _) => number,
    };
    let bound = if is_lower { Bound::lower_rounded } else { Bound::upper_rounded };
    bound(number, rounding).map_err(|error| BoundError::Number { text: text.to_owned(), error })
}

/// The number rounded inward to f64; for integers to a whole one.
fn within<T: Element>(is_lower: bool, text: &str) -> Option<Number> {
    let mut value: f64 = text.parse().ok()?;
    if !T::TYPE.is_float() {
        value = if is_lower { value.ceil() } else { value.floor() };
    }
    let beyond = if is_lower { Ordering::Greater } else { Ordering::Less };
    if decimal::compare(text, value) == beyond {
        value = match (T::TYPE.is_float(), is_lower) {
            (true, true) => value.next_up(),
            (true, false) => value.next_down(),
            (false, true) => value + 1.0,
            (false, false) => value - 1.0,
        };
    }
    Some(Number::Float(value))
}

/// Reads a number, rounded once to a float type.
fn number<T: Element>(text: &str) -> Option<Number> {
    let layout = T::TYPE.layout();
    let NumberClass::Float { exponent, .. } = layout.class else { return decimal::whole(text) };
    let fraction = (layout.bits - 1 - exponent) as i32;
    let least = 2 - (1 << (exponent - 1));
    // An f64 is read by the standard library; rounding it again would round twice.
    let value = match layout.bits {
        64 => text.parse().ok(),
        32 => text.parse::<f32>().ok().map(f64::from),
        _ => decimal::rounded(text, fraction, least),
    }?;
    // Infinite although written in digits: it was rounded to infinity.
    let rounded = value.is_infinite() && text.contains(|c: char| c.is_ascii_digit());
    Some(if rounded { Number::Beyond { negative: value < 0.0 } } else { Number::Float(value) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgclip::{Error, bf16, f8_e4m3fn, f8_e5m2, f16};

    /// As a lower and as an upper bound.
    fn both<T: Element>(text: &str) -> [Option<T>; 2] {
        rounded(text, BoundRounding::Nearest)
    }

    fn rounded<T: Element>(text: &str, rounding: BoundRounding) -> [Option<T>; 2] {
        ["lower", "upper"].map(|side| one::<T>(side, text, rounding).ok().and_then(|bound| bound.value()))
    }

    #[test]
    fn numbers_are_read() {
        assert_eq!(both("-1"), [Some(-1.0f32); 2]);
        assert_eq!(both("-inf"), [Some(f32::NEG_INFINITY); 2]);
        assert_eq!(both("1e50"), [None, Some(f32::INFINITY)]);
        assert_eq!(both("-1e500"), [Some(f64::NEG_INFINITY), None]);
        assert_eq!(both("0.1"), [Some(0.1f64); 2]);
        assert_eq!(both("0.1"), [Some(0.1f32); 2]);
        assert_eq!(both::<f32>("nan"), [None; 2]);
        assert_eq!(both::<f32>("one"), [None; 2]);
        assert_eq!(both::<f32>(""), [None; 2]);
        assert_eq!(both("70000"), [None, Some(f16::INFINITY)]);
        assert_eq!(both("65519"), [Some(f16::MAX); 2]);
        assert_eq!(both("0.1"), [Some(bf16::from_f32(0.1)); 2]);
        assert_eq!(both("1000"), [None, Some(f8_e4m3fn::MAX)]);
        assert_eq!(both("-inf"), [Some(f8_e4m3fn::MIN), None]);
        assert_eq!(both("464"), [Some(f8_e4m3fn::MAX); 2]);
        assert_eq!(both("1e9"), [None, Some(f8_e5m2::INFINITY)]);
        assert_eq!(both("300"), [None, Some(255u8)]);
        assert_eq!(both("-inf"), [Some(0u8), None]);
        assert_eq!(both("-9223372036854775808"), [Some(i64::MIN); 2]);
        assert_eq!(both("18446744073709551615"), [Some(u64::MAX); 2]);
        assert_eq!(both("-129"), [Some(-128i8), None]);
        assert_eq!(both("15e2"), [Some(1500i16); 2]);
        assert_eq!(both::<i16>("1.5"), [None; 2]);
    }

    #[test]
    fn inward_bounds_are_within_what_is_written() {
        let inward = |text| rounded::<f64>(text, BoundRounding::Inward);
        // The nearest f64 is above 0.1, and below 0.3.
        assert_eq!(inward("0.1"), [Some(0.1), Some(0.1f64.next_down())]);
        assert_eq!(inward("0.3"), [Some(0.3f64.next_up()), Some(0.3)]);
        assert_eq!(inward("-0.1"), [Some((-0.1f64).next_up()), Some(-0.1)]);
        assert_eq!(inward("0.5"), [Some(0.5); 2]);
        assert_eq!(inward("1e-400"), [Some(f64::from_bits(1)), Some(0.0)]);
        assert_eq!(inward("1e400"), [None, Some(f64::MAX)]);
        assert_eq!(inward("inf"), [Some(f64::INFINITY); 2]);
        let inward = |text| rounded::<f8_e4m3fn>(text, BoundRounding::Inward).map(|v| v.map(|v| v.to_f64()));
        assert_eq!(inward("0.001"), [Some(0.001953125), Some(0.0)]);
        assert_eq!(inward("450"), [None, Some(448.0)]);
        let inward = |text| rounded::<i8>(text, BoundRounding::Inward);
        assert_eq!(inward("-2.5"), [Some(-2), Some(-3)]);
        assert_eq!(inward("2.99999999999999999999"), [Some(3), Some(2)]);
        assert_eq!(inward("127.5"), [None, Some(127)]);
        assert_eq!(inward("300"), [None, Some(127)]);
    }

    #[test]
    fn what_the_type_cannot_hold_is_told() {
        fn told<T: Element>(is_upper: bool, text: &str) -> Option<String> {
            let side = if is_upper { "upper" } else { "lower" };
            let value = one::<T>(side, text, BoundRounding::Nearest).unwrap().value().unwrap();
            surprise(is_upper, text, value, BoundRounding::Nearest)
        }
        let starts = |told: Option<String>, with: &str| {
            assert!(told.as_ref().is_some_and(|told| told.starts_with(with)), "{told:?}, not {with}");
        };
        starts(told::<f16>(true, "100000"), "infinity, which bounds nothing");
        starts(told::<f16>(false, "-1e-8"), "0");
        starts(told::<f64>(true, "1e-400"), "0");
        starts(told::<bf16>(true, "0.999"), "1, beyond what was asked (--bounds inward");
        starts(told::<f8_e4m3fn>(true, "0.001"), "0.001953125, beyond what was asked");
        starts(told::<f32>(true, "20878923"), "20878924, since there is no 20878923 (--bounds inward");
        starts(told::<f32>(false, "20878923"), "20878924, since there is no 20878923");
        starts(told::<f32>(true, "1e-44"), "9.809089e-45");
        for (is_upper, text) in
            [(true, "0.0e5"), (true, "inf"), (true, "65504"), (false, "-70000"), (true, "0.25")]
        {
            assert_eq!(told::<f16>(is_upper, text).filter(|told| !told.contains("infinity")), None, "{text}");
        }
        assert_eq!(told::<bf16>(false, "0.999"), None, "inward by itself");
        assert_eq!(told::<f32>(true, "0.1"), None, "an ordinary fraction");
        assert_eq!(told::<u8>(true, "1000"), None);
        assert_eq!(told::<f8_e4m3fn>(true, "1000"), None, "all of the range");
    }

    #[test]
    fn what_is_no_bound_is_told() {
        let error = |lo, hi| {
            bounds::<u8>(lo, hi, BoundRounding::Nearest).unwrap_err().downcast::<BoundError>().unwrap()
        };
        assert!(matches!(error(Some("x"), None), BoundError::Invalid { .. }));
        let number = |lo, hi| match error(lo, hi) {
            BoundError::Number { error, .. } => error,
            other => panic!("{other}"),
        };
        assert!(matches!(number(Some("300"), None), Error::ImpossibleBound { .. }));
        assert!(matches!(number(None, Some("-inf")), Error::ImpossibleBound { .. }));
        assert!(matches!(number(Some("0.5"), None), Error::FractionalBound { .. }));
        assert!(matches!(number(Some("nan"), None), Error::NanBound { .. }));
    }
}
