//! The bounds of a clip: values, or tensors that broadcast.

use std::ops::{RangeFrom, RangeInclusive, RangeToInclusive};

use burn::backend::Dispatch;
use burn::tensor::{DType, Tensor};
use wgclip::bounds::{BoundRounding, Number};
use wgclip::op::Op;
use wgclip::{Element, Error, Result, with_element};

use crate::operands::{Like, element_of};
use crate::ops::Bound;

/// A lower and an upper bound, either of which may be absent. Converts from ranges (`0.0..=1.0`, `0.0..`, `..=6.0`) and pairs
/// `(lo, hi)` of numbers, [`None`] and tensors.
#[derive(Debug, Clone)]
pub struct Bounds {
    pub(crate) lo: Bound<Dispatch>,
    pub(crate) hi: Bound<Dispatch>,
}

impl Bounds {
    /// The same with numeric bounds rounded inward to a type: upper bounds down and lower bounds up, so that no
    /// result for a tensor of that type exceeds the requested bounds. Otherwise they are rounded to nearest.
    ///
    /// ```
    /// use burn::tensor::{DType, Device, Tensor};
    /// use wgclip_burn::{Bounds, clip};
    ///
    /// let x = Tensor::<1>::from_data([2.0], (&Device::flex(), DType::F16));
    /// let y = clip(x, Bounds::from(..=0.1).inward(DType::F16)?)?;
    /// assert!(y.cast(DType::F32).into_scalar::<f32>() <= 0.1);
    /// # Ok::<(), wgclip_burn::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] for types without kernels; [`Error::NanBound`]; [`Error::ImpossibleBound`] for one that no number of the type
    /// could satisfy.
    pub fn inward(self, dtype: DType) -> Result<Self> {
        let element = element_of(dtype, "any device of Burn's")?;
        let rounded = |bound: Bound<Dispatch>, is_upper: bool| match bound {
            Bound::Value(value) => with_element!(element, T => {
                let of = if is_upper { wgclip::Bound::<T>::upper_rounded } else { wgclip::Bound::lower_rounded };
                let bound = of(Number::Float(value), BoundRounding::Inward)?;
                Ok(Bound::from(bound.value().map(Element::to_f64)))
            }),
            bound => Ok(bound),
        };
        Ok(Self { lo: rounded(self.lo, false)?, hi: rounded(self.hi, true)? })
    }

    /// # Errors
    /// [`Error::NanBound`].
    pub(crate) fn check_values(&self) -> Result<()> {
        for (bound, operand) in [(&self.lo, "lower bound"), (&self.hi, "upper bound")] {
            if matches!(bound, Bound::Value(value) if value.is_nan()) {
                return Err(Error::NanBound { operand });
            }
        }
        Ok(())
    }

    pub(crate) fn has_tensors(&self) -> bool {
        [&self.lo, &self.hi].into_iter().any(|bound| bound.tensor().is_some())
    }

    /// Bounds as operands of a tensor on a device.
    ///
    /// # Errors
    /// [`Error::NanBound`] for a value that is NaN; [`Error::BroadcastMismatch`] or [`Error::TooManyAxes`] for shapes,
    /// [`Error::TypeMismatch`] for a type other than the tensor's, [`Error::Unsupported`] for types and devices without
    /// kernels.
    pub(crate) fn checked<const D: usize>(self, x: &Tensor<D>) -> Result<Self> {
        let (like, _) = Like::of(x)?;
        like.resolve(Op::Clip, x, [&self.lo, &self.hi])?;
        Ok(self)
    }
}

impl From<f64> for Bound<Dispatch> {
    fn from(value: f64) -> Self {
        Self::Value(value)
    }
}

impl From<Option<f64>> for Bound<Dispatch> {
    fn from(value: Option<f64>) -> Self {
        value.map_or(Self::Absent, Self::Value)
    }
}

impl<const D: usize> From<Tensor<D>> for Bound<Dispatch> {
    fn from(tensor: Tensor<D>) -> Self {
        Self::Tensor(tensor.into_dispatch())
    }
}

impl<const D: usize> From<&Tensor<D>> for Bound<Dispatch> {
    fn from(tensor: &Tensor<D>) -> Self {
        tensor.clone().into()
    }
}

impl<B: Into<Bound<Dispatch>>> From<RangeInclusive<B>> for Bounds {
    fn from(range: RangeInclusive<B>) -> Self {
        let (lo, hi) = range.into_inner();
        Self { lo: lo.into(), hi: hi.into() }
    }
}

impl<B: Into<Bound<Dispatch>>> From<RangeFrom<B>> for Bounds {
    fn from(range: RangeFrom<B>) -> Self {
        Self { lo: range.start.into(), hi: Bound::Absent }
    }
}

impl<B: Into<Bound<Dispatch>>> From<RangeToInclusive<B>> for Bounds {
    fn from(range: RangeToInclusive<B>) -> Self {
        Self { lo: Bound::Absent, hi: range.end.into() }
    }
}

impl<L: Into<Bound<Dispatch>>, H: Into<Bound<Dispatch>>> From<(L, H)> for Bounds {
    fn from((lo, hi): (L, H)) -> Self {
        Self { lo: lo.into(), hi: hi.into() }
    }
}
