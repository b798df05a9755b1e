//! Bounds as text: numbers of the tensor's type.

use wgclip::element::NumberClass;
use wgclip::{Bound, Bounds, Element, Number};

use crate::decimal;

/// What is wrong with the text of a bound, for the type of the tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BoundError {
    #[error("the {side} bound '{text}' is not a number of type {element}: give one, or inf or -inf")]
    Invalid { side: &'static str, text: String, element: &'static str },
    #[error("'{text}': {error}")]
    Number { text: String, error: wgclip::Error },
}

/// Reads bounds as numbers of type `T`. A number beyond the range of `T` saturates where that is harmless (an upper bound
/// above the range, say).
pub(crate) fn bounds<T: Element>(lo: Option<&str>, hi: Option<&str>) -> anyhow::Result<Bounds<T>> {
    let read = |side, text: Option<&str>| text.map_or(Ok(Bound::Absent), |text| one(side, text));
    Ok(Bounds::new(read("lower", lo)?, read("upper", hi)?)?)
}

/// What a bound becomes in the type, where that is not what its writer can have meant: infinity, or zero.
pub(crate) fn surprise<T: Element>(text: &str) -> Option<String> {
    let (asked, digits) = (text.parse::<f64>().ok()?, text.contains(|c: char| c.is_ascii_digit()));
    let number = number::<T>(text)?;
    let value = Bound::<T>::lower(number).or(Bound::upper(number)).ok()?.value()?.to_f64();
    let is_float = matches!(T::TYPE.layout().class, NumberClass::Float { .. });
    // The digits of a text that is zero are all zeros.
    let is_zero =
        !text.split(['e', 'E']).next().unwrap_or_default().contains(|c: char| ('1'..='9').contains(&c));
    match () {
        () if !is_float || !digits || asked.is_nan() => None,
        () if value == f64::INFINITY => Some("infinity, which bounds nothing".into()),
        () if value == f64::NEG_INFINITY => Some("minus infinity, which bounds nothing".into()),
        () if value == 0.0 && !is_zero => Some("0".into()),
        () => None,
    }
}

fn one<T: Element>(side: &'static str, text: &str) -> Result<Bound<T>, BoundError> {
    let invalid = || BoundError::Invalid { side, text: text.to_owned(), element: T::TYPE.name() };
    let number = number::<T>(text).ok_or_else(invalid)?;
    let bound = if side == "lower" { Bound::lower(number) } else { Bound::upper(number) };
    bound.map_err(|error| BoundError::Number { text: text.to_owned(), error })
}

/// Reads a number, rounded once to a type of float.
fn number<T: Element>(text: &str) -> Option<Number> {
    let layout = T::TYPE.layout();
    let NumberClass::Float { exponent, .. } = layout.class else { return decimal::whole(text) };
    let fraction = (layout.bits - 1 - exponent) as i32;
    let least = 2 - (1 << (exponent - 1));
    // An f64 is read by the standard library; to round it once more would round twice.
    let value = match layout.bits {
        64 => text.parse().ok(),
        32 => text.parse::<f32>().ok().map(f64::from),
        _ => decimal::rounded(text, fraction, least),
    }?;
    // Infinite although written in digits: it was rounded there.
    let rounded = value.is_infinite() && text.contains(|c: char| c.is_ascii_digit());
    Some(if rounded { Number::Beyond { negative: value < 0.0 } } else { Number::Float(value) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgclip::{Error, bf16, f8_e4m3fn, f8_e5m2, f16};

    /// As a lower and as an upper bound.
    fn both<T: Element>(text: &str) -> [Option<T>; 2] {
        ["lower", "upper"].map(|side| one::<T>(side, text).ok().and_then(|bound| bound.value()))
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
    fn what_the_type_cannot_hold_is_told() {
        assert_eq!(surprise::<f16>("100000").as_deref(), Some("infinity, which bounds nothing"));
        assert_eq!(surprise::<f16>("-1e-8").as_deref(), Some("0"));
        assert_eq!(surprise::<f64>("1e-400").as_deref(), Some("0"));
        assert_eq!(surprise::<f16>("0.0e5"), None);
        assert_eq!(surprise::<f16>("inf"), None);
        assert_eq!(surprise::<f16>("65504"), None);
        assert_eq!(surprise::<u8>("1000"), None);
    }

    #[test]
    fn what_is_no_bound_is_told() {
        let error = |lo, hi| bounds::<u8>(lo, hi).unwrap_err().downcast::<BoundError>().unwrap();
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
