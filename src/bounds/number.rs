//! Bounds given as numbers of no type: by a command line, or by a language that has one type of number.

use std::cmp::Ordering;

use super::Bound;
use crate::broadcast::Side;
use crate::element::NumberClass;
use crate::{Element, Error, Result};

/// A number that does not know the type of the elements it is to bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A float, rounded once to the type.
    Float(f64),
    /// An integer.
    Integer(i128),
    /// Finite, but above everything that a type holds, or below it.
    Beyond {
        /// Below it.
        negative: bool,
    },
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<i128> for Number {
    fn from(value: i128) -> Self {
        Self::Integer(value)
    }
}

/// What a number is in a type.
enum Fit<T> {
    /// A value, rounded to nearest for floats; infinities included.
    Value(T),
    /// Below everything finite that the type holds, with the value it saturates to.
    Below(T),
    /// Above everything finite that the type holds, with the value it saturates to.
    Above(T),
    Fraction,
}

impl<T: Element, S> Bound<T, S> {
    /// A lower bound of elements of this type. A number below their range saturates: it bounds nothing either way.
    ///
    /// ```
    /// use wgclip::{Bound, Number};
    ///
    /// let lo = Bound::<u8>::lower(Number::Float(-1.0))?;
    /// assert_eq!(lo.value(), Some(0));
    /// assert!(Bound::<u8>::lower(Number::Integer(300)).is_err());
    /// assert!(Bound::<u8>::lower(Number::Float(0.5)).is_err());
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NanBound`]; [`Error::FractionalBound`] of integers; [`Error::ImpossibleBound`] for a number above the range, which no value
    /// could satisfy.
    pub fn lower(number: Number) -> Result<Self> {
        Self::of(number, Side::Lo)
    }

    /// An upper bound of elements of this type. A number above their range saturates: it bounds nothing either way.
    ///
    /// # Errors
    /// As [`lower`](Self::lower), with [`Error::ImpossibleBound`] for a number below the range.
    pub fn upper(number: Number) -> Result<Self> {
        Self::of(number, Side::Hi)
    }

    fn of(number: Number, side: Side) -> Result<Self> {
        let name = side.name();
        if matches!(number, Number::Float(value) if value.is_nan()) {
            return Err(Error::NanBound { side: name });
        }
        match (fit(number), side) {
            (Fit::Value(value), _) | (Fit::Below(value), Side::Lo) | (Fit::Above(value), Side::Hi) => {
                Ok(Self::Value(value))
            }
            (Fit::Fraction, _) => Err(Error::FractionalBound { side: name, element: T::TYPE }),
            _ => Err(Error::ImpossibleBound { side: name, element: T::TYPE }),
        }
    }
}

/// Of a number that is not NaN.
fn fit<T: Element>(number: Number) -> Fit<T> {
    let layout = T::TYPE.layout();
    if let NumberClass::Float { .. } = layout.class {
        // A type without infinity gives its last number.
        let last = |sign| T::from_bits(layout.max_number() | sign);
        let (value, finite) = match number {
            Number::Float(value) => (value, value.is_finite()),
            Number::Integer(value) if layout.bits == 64 => (value as f64, true),
            Number::Integer(value) => (to_odd(value), true),
            Number::Beyond { negative } => (if negative { f64::NEG_INFINITY } else { f64::INFINITY }, true),
        };
        let nearest = T::from_f64(value);
        // Not finite although the number is: it was rounded there.
        return match nearest.to_f64().is_finite() {
            false if value > 0.0 && (finite || nearest.is_nan()) => Fit::Above(last(0)),
            false if value < 0.0 && (finite || nearest.is_nan()) => Fit::Below(last(layout.sign())),
            _ => Fit::Value(nearest),
        };
    }
    let (min, max) = match layout.class {
        NumberClass::Signed => (layout.sign(), layout.sign() - 1),
        _ => (0, layout.mask()),
    };
    let (min, max) = (T::from_bits(min), T::from_bits(max));
    // Every integer type fits an i128.
    let wide = |value: T| match layout.class {
        NumberClass::Signed => {
            let unused = 64 - layout.bits;
            i128::from((value.to_bits() << unused) as i64 >> unused)
        }
        _ => i128::from(value.to_bits()),
    };
    let value = match number {
        Number::Integer(value) => value,
        Number::Float(value) if value.is_finite() && value != value.trunc() => return Fit::Fraction,
        // Infinities, and what i128 does not hold, saturate beyond all integers.
        Number::Float(value) => value as i128,
        Number::Beyond { negative: true } => i128::MIN,
        Number::Beyond { negative: false } => i128::MAX,
    };
    match value {
        _ if value < wide(min) => Fit::Below(min),
        _ if value > wide(max) => Fit::Above(max),
        _ => Fit::Value(T::from_bits(value as u64)),
    }
}

/// An integer rounded to odd, so that rounding it to a shorter type then is to round once.
fn to_odd(value: i128) -> f64 {
    let near = value as f64;
    let whole = near as i128;
    match whole.cmp(&value) {
        Ordering::Equal => near,
        _ if near.to_bits() & 1 == 1 => near,
        Ordering::Less => near.next_up(),
        Ordering::Greater => near.next_down(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bf16, f8_e4m3fn, f8_e5m2, f16};

    fn both<T: Element>(number: impl Into<Number> + Copy) -> [Option<T>; 2] {
        let value = |bound: Result<Bound<T, ()>>| bound.ok().and_then(|bound| bound.value());
        [value(Bound::lower(number.into())), value(Bound::upper(number.into()))]
    }

    #[test]
    fn numbers_take_their_type() {
        assert_eq!(both(0.1), [Some(0.1f32); 2]);
        assert_eq!(both(0.1), [Some(bf16::from_f32(0.1)); 2]);
        assert_eq!(both(65519.0), [Some(f16::MAX); 2]);
        // Beside the middle of two numbers by less than an f64 tells.
        let middle = (1i128 << 80) + (1 << 56);
        assert_eq!(both(middle + 1), [Some((1u128 << 80) as f32 + (1u64 << 57) as f32); 2]);
        assert_eq!(both(middle - 1), [Some((1u128 << 80) as f32); 2]);
        assert_eq!(both(-middle - 1), [Some(-((1u128 << 80) as f32) - (1u64 << 57) as f32); 2]);
        assert_eq!(both(464.0), [Some(f8_e4m3fn::MAX); 2]);
        assert_eq!(both(f64::NEG_INFINITY), [Some(f32::NEG_INFINITY); 2]);
        assert_eq!(both(i128::from(i64::MIN)), [Some(i64::MIN); 2]);
        assert_eq!(both(1500.0), [Some(1500i16); 2]);
        assert_eq!(both(9_007_199_254_740_993), [Some(9_007_199_254_740_993u64); 2]);
    }

    #[test]
    fn what_is_beyond_the_range_saturates_where_that_is_harmless() {
        assert_eq!(both(1e99), [None, Some(f32::INFINITY)]);
        assert_eq!(both(-1e99), [Some(f32::NEG_INFINITY), None]);
        assert_eq!(both(Number::Beyond { negative: false }), [None, Some(f64::INFINITY)]);
        assert_eq!(both(70000.0), [None, Some(f16::INFINITY)]);
        assert_eq!(both(1000.0), [None, Some(f8_e4m3fn::MAX)]);
        assert_eq!(both(f64::NEG_INFINITY), [Some(f8_e4m3fn::MIN), None]);
        assert_eq!(both(1e9), [None, Some(f8_e5m2::INFINITY)]);
        assert_eq!(both(300.0), [None, Some(255u8)]);
        assert_eq!(both(f64::NEG_INFINITY), [Some(0u8), None]);
        assert_eq!(both(-129), [Some(-128i8), None]);
        assert_eq!(both(1e300), [None, Some(i64::MAX)]);
    }

    #[test]
    fn what_is_no_bound_is_an_error() {
        let error = |number| Bound::<i16, ()>::lower(number).unwrap_err();
        assert_eq!(error(Number::Float(f64::NAN)), Error::NanBound { side: "lower" });
        let element = crate::ElementType::I16;
        assert_eq!(error(Number::Float(1.5)), Error::FractionalBound { side: "lower", element });
        assert_eq!(error(Number::Integer(40_000)), Error::ImpossibleBound { side: "lower", element });
    }
}
