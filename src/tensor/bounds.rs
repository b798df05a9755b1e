//! Bounds that are values or tensors.

use std::ops::{RangeFrom, RangeInclusive, RangeToInclusive};

use super::{DynTensor, Tensor};
use crate::bounds::Bound;
use crate::op::Operand;
use crate::{Element, Result, Shape};

impl<T: Element> Bound<T> {
    /// The same with its tensor, if it is one, as [`BroadcastInputs::new`](crate::bounds::BroadcastInputs::new) takes it.
    ///
    /// ```
    /// use wgclip::bounds::BroadcastInputs;
    /// use wgclip::op::{Arguments, Op, Operand};
    /// use wgclip::{Bound, Device, DynTensor, Tensor};
    ///
    /// let device = Device::cpu();
    /// let x = device.tensor(&[1.0f32, 2.0, 3.0, 4.0], [2, 2])?;
    /// let (lo, hi) = (Bound::Absent, Bound::from(device.tensor(&[1.5f32, 2.5], [2])?));
    /// let bounds = BroadcastInputs::new(Op::Clip.info().broadcast, x.shape(), [lo.as_dyn(), hi.as_dyn()])?;
    /// let mut y = DynTensor::run(Op::Clip, &[x.as_dyn()], &[Operand::Y], &Arguments::new(&bounds))?;
    /// assert_eq!(Tensor::<f32>::try_from(y.remove(0))?.to_vec()?, [1.0, 2.0, 1.5, 2.5]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    pub fn as_dyn(&self) -> Bound<T, (&DynTensor, &Shape)> {
        match self {
            Self::Absent => Bound::Absent,
            Self::Value(value) => Bound::Value(*value),
            Self::Tensor(tensor) => Bound::Tensor((tensor.as_dyn(), tensor.shape())),
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
/// let relu = Bounds::at_least(0.0f32)?;
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
    /// [`Error::NanBound`](crate::Error::NanBound) if a bound is the value NaN.
    pub fn new(lo: impl Into<Bound<T>>, hi: impl Into<Bound<T>>) -> Result<Self> {
        Ok(Self { lo: lo.into().checked(Operand::Lo)?, hi: hi.into().checked(Operand::Hi)? })
    }

    /// A lower bound alone: as `lo..` where it is a value.
    ///
    /// # Errors
    /// [`Error::NanBound`](crate::Error::NanBound) if it is the value NaN.
    pub fn at_least(lo: impl Into<Bound<T>>) -> Result<Self> {
        Self::new(lo, Bound::Absent)
    }

    /// An upper bound alone: as `..=hi` where it is a value.
    ///
    /// # Errors
    /// [`Error::NanBound`](crate::Error::NanBound) if it is the value NaN.
    pub fn at_most(hi: impl Into<Bound<T>>) -> Result<Self> {
        Self::new(Bound::Absent, hi)
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

/// What a clip takes as bounds: a [`Bounds`] or a reference to one, a range of values, or a pair of whatever
/// [`Bounds::new`] takes.
///
/// ```
/// let device = wgclip::Device::cpu();
/// let x = device.tensor(&[-2.0f32, 0.5, 7.0], [3])?;
/// assert_eq!(x.clip(0.0..=1.0)?.to_vec()?, [0.0, 0.5, 1.0]);
/// assert_eq!(x.clip(..=6.0)?.to_vec()?, [-2.0, 0.5, 6.0]);
/// assert_eq!(x.clip(0.0..)?.to_vec()?, [0.0, 0.5, 7.0]);
/// let hi = device.tensor(&[1.0f32, 0.25, 9.0], [3])?;
/// assert_eq!(x.clip((0.0, &hi))?.to_vec()?, [0.0, 0.25, 7.0]);
/// # Ok::<(), wgclip::Error>(())
/// ```
pub trait IntoBounds<T: Element> {
    /// The bounds.
    ///
    /// # Errors
    /// [`Error::NanBound`](crate::Error::NanBound) if a bound is the value NaN.
    fn into_bounds(self) -> Result<Bounds<T>>;
}

impl<T: Element> IntoBounds<T> for Bounds<T> {
    fn into_bounds(self) -> Result<Bounds<T>> {
        Ok(self)
    }
}

impl<T: Element> IntoBounds<T> for &Bounds<T> {
    fn into_bounds(self) -> Result<Bounds<T>> {
        Ok(self.clone())
    }
}

impl<T: Element> IntoBounds<T> for RangeInclusive<T> {
    fn into_bounds(self) -> Result<Bounds<T>> {
        let (lo, hi) = self.into_inner();
        Bounds::new(lo, hi)
    }
}

impl<T: Element> IntoBounds<T> for RangeFrom<T> {
    fn into_bounds(self) -> Result<Bounds<T>> {
        Bounds::at_least(self.start)
    }
}

impl<T: Element> IntoBounds<T> for RangeToInclusive<T> {
    fn into_bounds(self) -> Result<Bounds<T>> {
        Bounds::at_most(self.end)
    }
}

impl<T: Element, L: Into<Bound<T>>, H: Into<Bound<T>>> IntoBounds<T> for (L, H) {
    fn into_bounds(self) -> Result<Bounds<T>> {
        Bounds::new(self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::broadcast::BroadcastInputs;

    #[test]
    fn nan_is_refused_on_either_side() {
        assert_eq!(Bounds::at_least(f32::NAN).unwrap_err(), Error::NanBound { operand: "lower bound" });
        assert_eq!(Bounds::new(0.0, f32::NAN).unwrap_err(), Error::NanBound { operand: "upper bound" });
        assert_eq!((f32::NAN..=1.0).into_bounds().unwrap_err(), Error::NanBound { operand: "lower bound" });
        assert_eq!(
            BroadcastInputs::<()>::values(None, Some(f32::NAN)).unwrap_err(),
            Error::NanBound { operand: "upper bound" }
        );
    }

    #[test]
    fn inverted_needs_both_bounds() {
        assert!(Bounds::new(2.0f32, 1.0).unwrap().is_inverted());
        assert!(!Bounds::new(0.0f32, -0.0).unwrap().is_inverted());
        assert!(!Bounds::at_least(2.0f32).unwrap().is_inverted());
    }
}
