//! Bounds as text: numbers of the tensor's type.

use wgclip::element::NumberClass;
use wgclip::{Bound, Bounds, Element};

use crate::decimal::{self, Decimal};

/// What is wrong with the text of a bound, for the type of the tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BoundError {
    #[error("the {side} bound is NaN: give a number, or leave the bound out")]
    Nan { side: &'static str },
    #[error("the {side} bound '{text}' is not a number of type {element}: give one, or inf or -inf")]
    Invalid { side: &'static str, text: String, element: &'static str },
    #[error(
        "the {side} bound {text} is not a whole number, but the tensor holds {element}: give a whole one"
    )]
    Fractional { side: &'static str, text: String, element: &'static str },
    #[error(
        "the {side} bound {text} is outside the range of {element}, so no value could satisfy it: give one that fits"
    )]
    Impossible { side: &'static str, text: String, element: &'static str },
}

/// The text of a number, read as an element.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Number<T> {
    /// A value of the type (rounded to nearest for floats), infinities included.
    Value(T),
    /// A number below everything finite that the type holds, with the value it saturates to.
    Below(T),
    /// A number above everything finite that the type holds, with the value it saturates to.
    Above(T),
    Fraction,
    Nan,
    Invalid,
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
    let value = match number::<T>(text) {
        Number::Value(value) | Number::Below(value) | Number::Above(value) => value.to_f64(),
        _ => return None,
    };
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
    let (element, given) = (T::TYPE.name(), text.to_owned());
    match (number(text), side) {
        (Number::Value(v), _) | (Number::Below(v), "lower") | (Number::Above(v), "upper") => {
            Ok(Bound::Value(v))
        }
        (Number::Below(_) | Number::Above(_), _) => {
            Err(BoundError::Impossible { side, text: given, element })
        }
        (Number::Fraction, _) => Err(BoundError::Fractional { side, text: given, element }),
        (Number::Nan, _) => Err(BoundError::Nan { side }),
        (Number::Invalid, _) => Err(BoundError::Invalid { side, text: given, element }),
    }
}

/// Reads a number.
fn number<T: Element>(text: &str) -> Number<T> {
    let layout = T::TYPE.layout();
    match layout.class {
        NumberClass::Float { exponent, .. } => {
            let fraction = (layout.bits - 1 - exponent) as i32;
            let least = 2 - (1 << (exponent - 1));
            // An f64 is read by the standard library; to round it once more would round twice.
            let value = match layout.bits {
                64 => text.parse().ok(),
                32 => text.parse::<f32>().ok().map(f64::from),
                _ => decimal::rounded(text, fraction, least),
            };
            let Some(value) = value else { return Number::Invalid };
            let nearest = T::from_f64(value);
            // Not finite although written in digits: it was rounded there. A type without infinity gives its last number.
            let digits = text.contains(|c: char| c.is_ascii_digit());
            let last = |sign| T::from_bits(layout.max_number() | sign);
            let finite = nearest.to_f64().is_finite();
            match value {
                v if v.is_nan() => Number::Nan,
                v if v > 0.0 && !finite && (digits || nearest.is_nan()) => Number::Above(last(0)),
                v if v < 0.0 && !finite && (digits || nearest.is_nan()) => Number::Below(last(layout.sign())),
                _ => Number::Value(nearest),
            }
        }
        class => {
            let (min, max) = match class {
                NumberClass::Signed => (layout.sign(), layout.sign() - 1),
                _ => (0, layout.mask()),
            };
            let (min, max) = (T::from_bits(min), T::from_bits(max));
            // Every integer type fits an i128.
            let wide = |value: T| match class {
                NumberClass::Signed => {
                    let unused = 64 - layout.bits;
                    i128::from((value.to_bits() << unused) as i64 >> unused)
                }
                _ => i128::from(value.to_bits()),
            };
            match decimal::whole(text) {
                Decimal::Whole(v) if v < wide(min) => Number::Below(min),
                Decimal::Whole(v) if v > wide(max) => Number::Above(max),
                Decimal::Whole(v) => Number::Value(T::from_bits(v as u64)),
                Decimal::Lowest => Number::Below(min),
                Decimal::Highest => Number::Above(max),
                Decimal::Fraction => Number::Fraction,
                Decimal::Nan => Number::Nan,
                Decimal::Invalid => Number::Invalid,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgclip::{bf16, f8_e4m3fn, f8_e5m2, f16};

    #[test]
    fn numbers_are_read() {
        assert_eq!(number::<f32>("-1"), Number::Value(-1.0));
        assert_eq!(number::<f32>("-inf"), Number::Value(f32::NEG_INFINITY));
        assert_eq!(number::<f32>("1e50"), Number::Above(f32::INFINITY));
        assert_eq!(number::<f32>("-1e50"), Number::Below(f32::NEG_INFINITY));
        assert_eq!(number::<f64>("0.1"), Number::Value(0.1));
        assert_eq!(number::<f32>("0.1"), Number::Value(0.1));
        assert_eq!(number::<f32>("nan"), Number::Nan);
        assert_eq!(number::<f32>("one"), Number::Invalid);
        assert_eq!(number::<f32>(""), Number::Invalid);
        assert_eq!(number::<f16>("70000"), Number::Above(f16::INFINITY));
        assert_eq!(number::<f16>("65519"), Number::Value(f16::MAX));
        assert_eq!(number::<bf16>("0.1"), Number::Value(bf16::from_f32(0.1)));
        assert_eq!(number::<f8_e4m3fn>("1000"), Number::Above(f8_e4m3fn::MAX));
        assert_eq!(number::<f8_e4m3fn>("-inf"), Number::Below(f8_e4m3fn::MIN));
        assert_eq!(number::<f8_e4m3fn>("464"), Number::Value(f8_e4m3fn::MAX));
        assert_eq!(number::<f8_e5m2>("1e9"), Number::Above(f8_e5m2::INFINITY));
        assert_eq!(number::<u8>("300"), Number::Above(255));
        assert_eq!(number::<u8>("-inf"), Number::Below(0));
        assert_eq!(number::<i64>("-9223372036854775808"), Number::Value(i64::MIN));
        assert_eq!(number::<u64>("18446744073709551615"), Number::Value(u64::MAX));
        assert_eq!(number::<i8>("-129"), Number::Below(-128));
        assert_eq!(number::<i16>("1.5"), Number::Fraction);
        assert_eq!(number::<i16>("15e2"), Number::Value(1500));
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
    fn text_beyond_the_range_saturates_only_where_harmless() {
        let values = |bounds: Bounds<f32>| (bounds.lo().value(), bounds.hi().value());
        let harmless = bounds(Some("-1e99"), Some("1e99")).unwrap();
        assert_eq!(values(harmless), (Some(f32::NEG_INFINITY), Some(f32::INFINITY)));
        let error = |lo, hi| bounds::<f32>(lo, hi).unwrap_err().downcast::<BoundError>().unwrap();
        assert!(matches!(error(Some("1e99"), None), BoundError::Impossible { .. }));
        assert!(matches!(error(None, Some("-1e99")), BoundError::Impossible { .. }));
        assert!(matches!(error(Some("x"), None), BoundError::Invalid { .. }));
        assert!(matches!(error(Some("nan"), None), BoundError::Nan { .. }));

        let harmless = bounds::<u8>(Some("-1"), Some("300")).unwrap();
        assert_eq!((harmless.lo().value(), harmless.hi().value()), (Some(0), Some(255)));
        let error = |lo| bounds::<u8>(Some(lo), None).unwrap_err().downcast::<BoundError>().unwrap();
        assert!(matches!(error("300"), BoundError::Impossible { .. }));
        assert!(matches!(error("inf"), BoundError::Impossible { .. }));
        assert!(matches!(error("0.5"), BoundError::Fractional { .. }));
    }
}
