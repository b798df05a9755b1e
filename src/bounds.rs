//! The interval that values are clipped to.

use crate::broadcast::{Broadcast, Side};
use crate::element::Parsed;
use crate::{Element, Error, Result, Shape, Tensor};

/// One end of the interval: absent, one value for all elements, or a tensor of values.
#[derive(Debug, Clone, Default)]
pub enum Bound<T, S = Tensor<T>> {
    /// No limit: infinities pass, and nothing ties with it.
    #[default]
    Absent,
    /// One value for all.
    Value(T),
    /// A tensor that broadcasts to the one that is clipped, by numpy's rules. A NaN in it propagates.
    Tensor(S),
}

impl<T: Element, S> Bound<T, S> {
    /// The value, if it is one.
    pub fn value(&self) -> Option<T> {
        match self {
            Self::Value(value) => Some(*value),
            _ => None,
        }
    }

    /// The tensor, if it is one.
    pub fn tensor(&self) -> Option<&S> {
        match self {
            Self::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// Whether there is no bound.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    fn checked(self, side: Side) -> Result<Self> {
        match self {
            Self::Value(value) if value.is_nan() => Err(Error::NanBound { side: side.name() }),
            bound => Ok(bound),
        }
    }
}

impl<T: Element> From<T> for Bound<T> {
    fn from(value: T) -> Self {
        Self::Value(value)
    }
}

impl<T: Element> From<Option<T>> for Bound<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Self::Value)
    }
}

impl<T: Element> From<Tensor<T>> for Bound<T> {
    fn from(tensor: Tensor<T>) -> Self {
        Self::Tensor(tensor)
    }
}

impl<T: Element> From<&Tensor<T>> for Bound<T> {
    fn from(tensor: &Tensor<T>) -> Self {
        Self::Tensor(tensor.clone())
    }
}

/// A lower and an upper bound, either of which may be absent, a value, or a tensor.
///
/// An absent bound is truly absent: infinities pass through it, and nothing ties with it.
/// Where the lower bound is above the upper one, every value becomes the upper bound, as in numpy.
///
/// A tensor of bounds broadcasts to the tensor that is clipped by numpy's rules: dimensions are matched from the
/// last, each is the same or 1, and missing ones count as 1. It never enlarges the tensor that is clipped.
///
/// ```
/// use wgclip::{Bounds, Device};
///
/// let both = Bounds::new(-1.0f32, 1.0)?;
/// let relu = Bounds::min(0.0f32)?;
/// assert!(Bounds::new(0.0, f32::NAN).is_err());
///
/// let device = Device::cpu();
/// let of_each_column = device.tensor(&[1.0f32, 2.0, 3.0], [3])?;
/// let x = device.tensor(&[9.0f32; 6], [2, 3])?;
/// let y = x.clip(&Bounds::new(0.0, of_each_column)?)?;
/// assert_eq!(y.to_vec()?, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
/// # Ok::<(), wgclip::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Bounds<T: Element> {
    lo: Bound<T>,
    hi: Bound<T>,
}

impl<T: Element> Bounds<T> {
    /// Both bounds: each a value, `Some` value or `None`, a tensor, or a [`Bound`].
    ///
    /// # Errors
    /// [`Error::NanBound`] if a bound is the value NaN.
    pub fn new(lo: impl Into<Bound<T>>, hi: impl Into<Bound<T>>) -> Result<Self> {
        Ok(Self { lo: lo.into().checked(Side::Lo)?, hi: hi.into().checked(Side::Hi)? })
    }

    /// A lower bound alone.
    ///
    /// # Errors
    /// [`Error::NanBound`] if it is the value NaN.
    pub fn min(lo: impl Into<Bound<T>>) -> Result<Self> {
        Self::new(lo, Bound::Absent)
    }

    /// An upper bound alone.
    ///
    /// # Errors
    /// [`Error::NanBound`] if it is the value NaN.
    pub fn max(hi: impl Into<Bound<T>>) -> Result<Self> {
        Self::new(Bound::Absent, hi)
    }

    /// Reads bounds from text, as numbers of type `T`. A number beyond the range of `T` saturates where that
    /// is harmless (an upper bound above the range, say).
    ///
    /// # Errors
    /// [`Error::InvalidBound`] for what is not a number, [`Error::FractionalBound`] for a fraction of an integer
    /// type, [`Error::NanBound`] for NaN, and [`Error::ImpossibleBound`] for a lower bound above the range or an
    /// upper bound below it.
    pub fn parse(lo: Option<&str>, hi: Option<&str>) -> Result<Self> {
        let read =
            |side, text: Option<&str>| text.map_or(Ok(Bound::Absent), |text| Self::parse_one(side, text));
        Self::new(read(Side::Lo, lo)?, read(Side::Hi, hi)?)
    }

    fn parse_one(side: Side, text: &str) -> Result<Bound<T>> {
        let element = T::TYPE.name();
        let (name, given) = (side.name(), || text.to_owned());
        match (T::parse(text), side) {
            (Parsed::Value(v), _) => Ok(Bound::Value(v)),
            (Parsed::Below(v), Side::Lo) | (Parsed::Above(v), Side::Hi) => Ok(Bound::Value(v)),
            (Parsed::Below(_) | Parsed::Above(_), _) => {
                Err(Error::ImpossibleBound { side: name, text: given(), element })
            }
            (Parsed::Fraction, _) => Err(Error::FractionalBound { side: name, text: given(), element }),
            (Parsed::Nan, _) => Err(Error::NanBound { side: name }),
            (Parsed::Invalid, _) => Err(Error::InvalidBound { side: name, text: given(), element }),
        }
    }

    /// The lower bound.
    pub fn lo(&self) -> &Bound<T> {
        &self.lo
    }

    /// The upper bound.
    pub fn hi(&self) -> &Bound<T> {
        &self.hi
    }

    /// Whether both are values, the lower one above the upper one, so that every number becomes the upper bound.
    pub fn is_inverted(&self) -> bool {
        matches!((self.lo.value(), self.hi.value()), (Some(lo), Some(hi)) if lo > hi)
    }
}

/// Bounds as the levels below tensors take them: values, or elements that a device holds (`S`).
#[derive(Debug, Clone)]
pub struct Interval<T, S> {
    pub(crate) lo: Bound<T, S>,
    pub(crate) hi: Bound<T, S>,
    /// How tensors lie beside x, where there are any.
    pub(crate) broadcast: Option<Broadcast>,
}

impl<T: Element, S> Interval<T, S> {
    /// Two values, either of which may be absent.
    ///
    /// # Errors
    /// [`Error::NanBound`] if one is NaN.
    pub fn values(lo: Option<T>, hi: Option<T>) -> Result<Self> {
        let bound = |value: Option<T>, side| value.map_or(Bound::Absent, Bound::Value).checked(side);
        Ok(Self { lo: bound(lo, Side::Lo)?, hi: bound(hi, Side::Hi)?, broadcast: None })
    }

    /// A lower and an upper bound beside `x`. Those that are tensors come with their shapes, which broadcast to that
    /// of `x`; the elements are taken to fill them.
    ///
    /// # Errors
    /// [`Error::NanBound`], [`Error::BroadcastMismatch`] or [`Error::TooManyAxes`].
    pub fn beside(x: &Shape, lo: Bound<T, (S, &Shape)>, hi: Bound<T, (S, &Shape)>) -> Result<Self> {
        let shapes = [&lo, &hi].map(|bound| bound.tensor().map(|(_, shape)| *shape));
        let tensors = shapes.iter().any(Option::is_some);
        let broadcast = tensors.then(|| Broadcast::new(x, shapes)).transpose()?;
        let elements = |bound, side| match bound {
            Bound::Absent => Ok(Bound::Absent),
            Bound::Value(value) => Bound::Value(value).checked(side),
            Bound::Tensor((elements, _)) => Ok(Bound::Tensor(elements)),
        };
        Ok(Self { lo: elements(lo, Side::Lo)?, hi: elements(hi, Side::Hi)?, broadcast })
    }

    /// Whether `x` elements and those of the bounds, counted by `len`, are those of the shapes that were given.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`].
    pub(crate) fn check_len(&self, x: usize, len: impl Fn(&S) -> usize) -> Result<()> {
        let Some(broadcast) = &self.broadcast else { return Ok(()) };
        let sides = Side::BOTH.map(|side| (side, self.side(side).tensor()));
        let bounds =
            sides.into_iter().filter_map(|(side, bound)| Some((broadcast.bound_len(side)?, len(bound?))));
        for (expected, actual) in std::iter::once((broadcast.len(), x)).chain(bounds) {
            if expected != actual {
                return Err(Error::LengthMismatch { shape: vec![expected], expected, actual });
            }
        }
        Ok(())
    }

    pub(crate) fn side(&self, side: Side) -> &Bound<T, S> {
        match side {
            Side::Lo => &self.lo,
            Side::Hi => &self.hi,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(bounds: &Bounds<f32>) -> (Option<f32>, Option<f32>) {
        (bounds.lo().value(), bounds.hi().value())
    }

    #[test]
    fn nan_is_refused_on_either_side() {
        assert_eq!(Bounds::min(f32::NAN).unwrap_err(), Error::NanBound { side: "lower" });
        assert_eq!(Bounds::new(0.0, f32::NAN).unwrap_err(), Error::NanBound { side: "upper" });
        assert_eq!(Bounds::<f32>::parse(Some("nan"), None).unwrap_err(), Error::NanBound { side: "lower" });
    }

    #[test]
    fn text_beyond_the_range_saturates_only_where_harmless() {
        let harmless = Bounds::<f32>::parse(Some("-1e99"), Some("1e99")).unwrap();
        assert_eq!(values(&harmless), (Some(f32::NEG_INFINITY), Some(f32::INFINITY)));
        for (lo, hi) in [(Some("1e99"), None), (None, Some("-1e99"))] {
            assert!(matches!(Bounds::<f32>::parse(lo, hi), Err(Error::ImpossibleBound { .. })));
        }
        assert!(matches!(Bounds::<f32>::parse(Some("x"), None), Err(Error::InvalidBound { .. })));

        let harmless = Bounds::<u8>::parse(Some("-1"), Some("300")).unwrap();
        assert_eq!((harmless.lo().value(), harmless.hi().value()), (Some(0), Some(255)));
        assert!(matches!(Bounds::<u8>::parse(Some("300"), None), Err(Error::ImpossibleBound { .. })));
        assert!(matches!(Bounds::<u8>::parse(Some("inf"), None), Err(Error::ImpossibleBound { .. })));
        assert!(matches!(Bounds::<u8>::parse(Some("0.5"), None), Err(Error::FractionalBound { .. })));
    }

    #[test]
    fn inverted_needs_both_bounds() {
        assert!(Bounds::new(2.0f32, 1.0).unwrap().is_inverted());
        assert!(!Bounds::new(0.0f32, -0.0).unwrap().is_inverted());
        assert!(!Bounds::min(2.0f32).unwrap().is_inverted());
    }
}
