//! Bounds given as numbers of no type: by a command line, or by a language that has one type of number.

use std::cmp::Ordering;
use std::str::FromStr;

use super::Bound;
use crate::element::NumberClass;
use crate::op::Operand;
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

impl Number {
    /// An element as a number: an integer exactly, and a float as an f64, which holds every float.
    pub fn of<T: Element>(element: T) -> Self {
        let (bits, layout) = (i128::from(element.to_bits()), T::TYPE.layout());
        match layout.class {
            NumberClass::Float { .. } => Self::Float(element.to_f64()),
            NumberClass::Signed if bits & i128::from(layout.sign()) != 0 => {
                Self::Integer(bits - (1 << layout.bits))
            }
            NumberClass::Signed | NumberClass::Unsigned => Self::Integer(bits),
        }
    }
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

/// How a bound is rounded if the type of the elements does not represent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BoundRounding {
    /// The nearest of the type, which may lie beyond the number by half a unit in the last place: numpy's and the frameworks' way.
    #[default]
    Nearest,
    /// The nearest of those that are not beyond: an upper bound is rounded down and a lower one up, also to a finite number and
    /// of fractions to whole ones, so that no result lies outside of what was asked.
    Inward,
}

impl BoundRounding {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Nearest, Self::Inward];

    /// Its name: `"nearest"` or `"inward"`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Inward => "inward",
        }
    }
}

impl FromStr for BoundRounding {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|rounding| rounding.name() == name);
        found.ok_or_else(|| Error::UnknownName { name: name.into() })
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
    /// use wgclip::bounds::Number;
    /// use wgclip::Bound;
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
        Self::of(number, Operand::Lo)
    }

    /// The same, rounded as is said.
    ///
    /// ```
    /// use wgclip::bounds::{BoundRounding, Number};
    /// use wgclip::{Bound, bf16};
    ///
    /// let asked = Number::Float(0.999);
    /// assert_eq!(Bound::<bf16>::upper(asked)?.value(), Some(bf16::from_f32(1.0)));
    /// let inward = Bound::<bf16>::upper_rounded(asked, BoundRounding::Inward)?;
    /// assert_eq!(inward.value(), Some(bf16::from_f32(0.99609375)));
    /// assert_eq!(Bound::<u8>::lower_rounded(Number::Float(0.5), BoundRounding::Inward)?.value(), Some(1));
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`lower`](Self::lower); inward a fraction is no error.
    pub fn lower_rounded(number: Number, rounding: BoundRounding) -> Result<Self> {
        Self::rounded(number, Operand::Lo, rounding)
    }

    /// An upper bound of elements of this type. A number above their range saturates: it bounds nothing either way.
    ///
    /// # Errors
    /// As [`lower`](Self::lower), with [`Error::ImpossibleBound`] for a number below the range.
    pub fn upper(number: Number) -> Result<Self> {
        Self::of(number, Operand::Hi)
    }

    /// The same, rounded as is said.
    ///
    /// # Errors
    /// As [`upper`](Self::upper); inward a fraction is no error.
    pub fn upper_rounded(number: Number, rounding: BoundRounding) -> Result<Self> {
        Self::rounded(number, Operand::Hi, rounding)
    }

    fn rounded(number: Number, operand: Operand, rounding: BoundRounding) -> Result<Self> {
        if rounding == BoundRounding::Nearest {
            return Self::of(number, operand);
        }
        let number = match (number, operand) {
            (Number::Float(value), Operand::Hi) if !T::TYPE.is_float() => Number::Float(value.floor()),
            (Number::Float(value), Operand::Lo) if !T::TYPE.is_float() => Number::Float(value.ceil()),
            (number, _) => number,
        };
        let Self::Value(value) = Self::of(number, operand)? else { return Ok(Self::Absent) };
        let outward = if operand == Operand::Hi { Ordering::Greater } else { Ordering::Less };
        if !T::TYPE.is_float() || compare(value, number) != outward {
            return Ok(Self::Value(value));
        }
        let within = step(value, outward.reverse());
        match within.to_f64().is_finite() {
            true => Ok(Self::Value(within)),
            false => Err(Error::ImpossibleBound { operand: operand.noun(), element: T::TYPE }),
        }
    }

    fn of(number: Number, operand: Operand) -> Result<Self> {
        let name = operand.noun();
        if matches!(number, Number::Float(value) if value.is_nan()) {
            return Err(Error::NanBound { operand: name });
        }
        match (fit(number), operand) {
            (Fit::Value(value), _) | (Fit::Below(value), Operand::Lo) | (Fit::Above(value), Operand::Hi) => {
                Ok(Self::Value(value))
            }
            (Fit::Fraction, _) => Err(Error::FractionalBound { operand: name, element: T::TYPE }),
            _ => Err(Error::ImpossibleBound { operand: name, element: T::TYPE }),
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

/// Compares a float with a number that is not NaN.
fn compare<T: Element>(value: T, number: Number) -> Ordering {
    let value = value.to_f64();
    match number {
        Number::Float(number) => value.partial_cmp(&number).unwrap_or(Ordering::Equal),
        // The float nearest to an integer is whole, or infinite.
        Number::Integer(number) if value.is_finite() => (value as i128).cmp(&number),
        _ if value.is_infinite() => value.total_cmp(&0.0),
        Number::Beyond { negative: true } => Ordering::Greater,
        _ => Ordering::Less,
    }
}

/// The next float above or below one that has one there.
fn step<T: Element>(value: T, toward: Ordering) -> T {
    let (bits, sign) = (value.to_bits(), T::TYPE.layout().sign());
    let is_up = toward == Ordering::Greater;
    T::from_bits(match bits & (sign - 1) {
        0 if is_up => 1,
        0 => sign | 1,
        // Away from zero is up for the positive.
        _ if is_up == (bits & sign == 0) => bits + 1,
        _ => bits - 1,
    })
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

    /// The nearest of those that are within, found among all of a type.
    #[test]
    fn inward_is_the_nearest_within() {
        fn all<T: Element>(numbers: &[f64]) {
            let finite = (0..=T::TYPE.layout().mask()).map(T::from_bits).filter(|v| v.to_f64().is_finite());
            let mut values: Vec<f64> = finite.map(|value| value.to_f64()).collect();
            values.sort_by(f64::total_cmp);
            for &number in numbers {
                let value = |bound: Result<Bound<T, ()>>| bound.ok().and_then(|bound| bound.value());
                let upper = value(Bound::upper_rounded(Number::Float(number), BoundRounding::Inward));
                let lower = value(Bound::lower_rounded(Number::Float(number), BoundRounding::Inward));
                let below = values.iter().copied().rfind(|&value| value <= number);
                let above = values.iter().copied().find(|&value| value >= number);
                assert_eq!(upper.map(|value| value.to_f64()), below, "{} at most {number}", T::TYPE);
                assert_eq!(lower.map(|value| value.to_f64()), above, "{} at least {number}", T::TYPE);
            }
        }
        let rng = &mut fastrand::Rng::with_seed(1);
        let mut numbers =
            vec![0.0, 0.001, -0.001, 0.999, 1e-60, -1e-60, 448.0, 449.0, 65504.0, 65505.0, 0.5, 255.5];
        numbers.extend((0..200).map(|_| (rng.f64() - 0.5) * 10f64.powi(rng.i32(-9..5))));
        all::<f8_e4m3fn>(&numbers);
        all::<f8_e5m2>(&numbers);
        all::<f16>(&numbers);
        all::<bf16>(&numbers);
        all::<u8>(&numbers);
        all::<i16>(&numbers);
        let upper = |number| Bound::<f32, ()>::upper_rounded(number, BoundRounding::Inward).unwrap().value();
        assert_eq!(upper(Number::Float(1e99)), Some(f32::MAX));
        assert_eq!(upper(Number::Beyond { negative: false }), Some(f32::MAX));
        assert_eq!(upper(Number::Float(f64::INFINITY)), Some(f32::INFINITY));
        assert_eq!(upper(Number::Integer(20_878_923)), Some(20_878_922.0));
        let lower = |number| Bound::<f32, ()>::lower_rounded(number, BoundRounding::Inward).unwrap().value();
        assert_eq!(lower(Number::Integer(20_878_925)), Some(20_878_926.0));
        assert_eq!(lower(Number::Float(-1e99)), Some(f32::MIN));
    }

    #[test]
    fn what_is_no_bound_is_an_error() {
        let error = |number| Bound::<i16, ()>::lower(number).unwrap_err();
        assert_eq!(error(Number::Float(f64::NAN)), Error::NanBound { operand: "lower bound" });
        let element = crate::ElementType::I16;
        assert_eq!(error(Number::Float(1.5)), Error::FractionalBound { operand: "lower bound", element });
        assert_eq!(
            error(Number::Integer(40_000)),
            Error::ImpossibleBound { operand: "lower bound", element }
        );
    }
}
