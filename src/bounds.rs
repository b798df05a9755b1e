//! The interval that values are clipped to.

use crate::element::Parsed;
use crate::{Element, Error, Result};

/// A lower and an upper bound, either of which may be absent.
///
/// An absent bound is truly absent: infinities pass through it, and nothing ties with it.
/// Where the lower bound is above the upper one, every value becomes the upper bound, as in numpy.
///
/// ```
/// use wgclip::Bounds;
///
/// let both = Bounds::new(-1.0f32, 1.0)?;
/// let relu = Bounds::min(0.0f32)?;
/// assert!(Bounds::new(0.0, f32::NAN).is_err());
/// # Ok::<(), wgclip::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Bounds<T> {
    lo: Option<T>,
    hi: Option<T>,
}

impl<T: Element> Bounds<T> {
    /// Both bounds; either may be a value, `Some` value or `None`.
    ///
    /// # Errors
    /// [`Error::NanBound`] if a bound is NaN.
    pub fn new(lo: impl Into<Option<T>>, hi: impl Into<Option<T>>) -> Result<Self> {
        let (lo, hi) = (lo.into(), hi.into());
        for (side, bound) in [("lower", lo), ("upper", hi)] {
            if bound.is_some_and(T::is_nan) {
                return Err(Error::NanBound { side });
            }
        }
        Ok(Self { lo, hi })
    }

    /// A lower bound alone.
    ///
    /// # Errors
    /// [`Error::NanBound`] if it is NaN.
    pub fn min(lo: T) -> Result<Self> {
        Self::new(lo, None)
    }

    /// An upper bound alone.
    ///
    /// # Errors
    /// [`Error::NanBound`] if it is NaN.
    pub fn max(hi: T) -> Result<Self> {
        Self::new(None, hi)
    }

    /// Reads bounds from text, as numbers of type `T`. A number beyond the range of `T` saturates where that
    /// is harmless (an upper bound above the range, say).
    ///
    /// # Errors
    /// [`Error::InvalidBound`] for what is not a number of the type, [`Error::NanBound`] for NaN, and
    /// [`Error::ImpossibleBound`] for a lower bound above the range or an upper bound below it.
    pub fn parse(lo: Option<&str>, hi: Option<&str>) -> Result<Self> {
        let read = |side, text: &str| match (T::parse(text), side) {
            (Parsed::Value(v), _) => Ok(v),
            (Parsed::Below(v), "lower") | (Parsed::Above(v), "upper") => Ok(v),
            (Parsed::Nan, _) => Err(Error::NanBound { side }),
            (Parsed::Below(_) | Parsed::Above(_), _) => {
                let (text, element) = (text.to_owned(), T::TYPE.name());
                Err(Error::ImpossibleBound { side, text, element })
            }
            (Parsed::Invalid, _) => {
                let (text, element) = (text.to_owned(), T::TYPE.name());
                Err(Error::InvalidBound { side, text, element })
            }
        };
        let lo = lo.map(|text| read("lower", text)).transpose()?;
        let hi = hi.map(|text| read("upper", text)).transpose()?;
        Self::new(lo, hi)
    }

    /// The lower bound.
    pub fn lo(&self) -> Option<T> {
        self.lo
    }

    /// The upper bound.
    pub fn hi(&self) -> Option<T> {
        self.hi
    }

    /// Whether the lower bound is above the upper one, so that every value becomes the upper bound.
    pub fn is_inverted(&self) -> bool {
        matches!((self.lo, self.hi), (Some(lo), Some(hi)) if lo > hi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_refused_on_either_side() {
        assert_eq!(Bounds::min(f32::NAN), Err(Error::NanBound { side: "lower" }));
        assert_eq!(Bounds::new(0.0, f32::NAN), Err(Error::NanBound { side: "upper" }));
        assert_eq!(Bounds::<f32>::parse(Some("nan"), None), Err(Error::NanBound { side: "lower" }));
    }

    #[test]
    fn text_beyond_the_range_saturates_only_where_harmless() {
        let harmless = Bounds::<f32>::parse(Some("-1e99"), Some("1e99")).unwrap();
        assert_eq!(harmless, Bounds::new(f32::NEG_INFINITY, f32::INFINITY).unwrap());
        for (lo, hi) in [(Some("1e99"), None), (None, Some("-1e99"))] {
            assert!(matches!(Bounds::<f32>::parse(lo, hi), Err(Error::ImpossibleBound { .. })));
        }
        assert!(matches!(Bounds::<f32>::parse(Some("x"), None), Err(Error::InvalidBound { .. })));
    }

    #[test]
    fn inverted_needs_both_bounds() {
        assert!(Bounds::new(2.0f32, 1.0).unwrap().is_inverted());
        assert!(!Bounds::new(0.0f32, -0.0).unwrap().is_inverted());
        assert!(!Bounds::min(2.0f32).unwrap().is_inverted());
    }
}
