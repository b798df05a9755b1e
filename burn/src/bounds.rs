//! The bounds of a clip: values, or tensors that broadcast.

use std::ops::{RangeFrom, RangeInclusive, RangeToInclusive};

use burn::backend::{Dispatch, TensorMetadata};
use burn::tensor::{DType, Device, Tensor};
use wgclip::bounds::{BoundRounding, BroadcastInputs, Number};
use wgclip::{Element, ElementType, Error, Result, Shape, with_element};

use crate::ops::{Bound, element_of};
use crate::path::{Path, path};

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
        let element = element_of(dtype).ok_or_else(|| no_type(dtype, "any device of Burn's"))?;
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
        let (device, dtype) = (x.device(), x.dtype());
        if path(&device) == Path::None {
            return Err(no_path(&device));
        }
        let element = element_of(dtype).ok_or_else(|| no_type(dtype, &format!("{device:?}")))?;
        for tensor in [&self.lo, &self.hi].into_iter().filter_map(Bound::tensor) {
            let other = Device::new(tensor.device()).inner();
            if other != device.clone().inner() {
                return Err(Error::DeviceMismatch {
                    left: format!("{device:?}"),
                    right: format!("{other:?}"),
                });
            }
        }
        let shapes = [&self.lo, &self.hi].map(|bound| {
            let tensor = bound.tensor()?;
            Some((tensor.dtype(), Shape::new(tensor.shape().to_vec())))
        });
        let mut sides = [wgclip::Bound::Absent, wgclip::Bound::Absent];
        for ((side, bound), shape) in sides.iter_mut().zip([&self.lo, &self.hi]).zip(&shapes) {
            *side = match (bound, shape) {
                (Bound::Value(value), _) => wgclip::Bound::Value(*value),
                (_, Some((other, shape))) => {
                    if *other != dtype {
                        return Err(Error::TypeMismatch {
                            left: element,
                            right: element_of(*other).unwrap_or(ElementType::I32),
                        });
                    }
                    wgclip::Bound::Tensor(((), shape.as_ref().map_err(Clone::clone)?))
                }
                _ => wgclip::Bound::Absent,
            };
        }
        let [lo, hi] = sides;
        BroadcastInputs::bounds::<f64>(&Shape::new(x.dims().to_vec())?, lo, hi)?;
        Ok(self)
    }
}

fn no_type(dtype: DType, device: &str) -> Error {
    Error::Unsupported {
        what: format!("clipping of {dtype:?}"),
        device: device.into(),
        instead: "cast it to f64, f32, f16 or bf16".into(),
    }
}

pub(crate) fn no_path(device: &Device) -> Error {
    Error::Unsupported {
        what: "clipping".into(),
        device: format!("{device:?}"),
        instead: "move the tensor to a CubeCL or Flex device".into(),
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
