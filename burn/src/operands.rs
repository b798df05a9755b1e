//! Checks operands against the tensor that an operation works on.

use burn::backend::{Dispatch, TensorMetadata};
use burn::tensor::{DType, Device, Tensor};
use wgclip::bounds::BroadcastInputs;
use wgclip::op::Op;
use wgclip::{ElementType, Error, Result, Shape};

use crate::ops::{self, Bound};
use crate::path::{Path, path};

/// The device and the type of a tensor.
pub(crate) struct Like {
    device: Device,
    dtype: DType,
    element: ElementType,
}

impl Like {
    /// Those of x, with the path that its operations take.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for types and devices without kernels.
    pub(crate) fn of<const D: usize>(x: &Tensor<D>) -> Result<(Self, Path)> {
        let (device, dtype) = (x.device(), x.dtype());
        let path = path(&device);
        if path == Path::None {
            return Err(Error::Unsupported {
                what: "clipping".into(),
                device: format!("{device:?}"),
                instead: "move the tensor to a CubeCL or Flex device".into(),
            });
        }
        let element = element_of(dtype, &format!("{device:?}"))?;
        Ok((Self { device, dtype, element }, path))
    }

    /// The type.
    pub(crate) fn element(&self) -> ElementType {
        self.element
    }

    /// The element type of another [`DType`].
    pub(crate) fn element_of(&self, dtype: DType) -> Result<ElementType> {
        element_of(dtype, &format!("{:?}", self.device))
    }

    /// # Errors
    /// [`Error::DeviceMismatch`] or [`Error::TypeMismatch`].
    pub(crate) fn check(&self, device: Device, dtype: DType) -> Result<()> {
        if device.clone().inner() != self.device.clone().inner() {
            let [left, right] = [&self.device, &device].map(|device| format!("{device:?}"));
            return Err(Error::DeviceMismatch { left, right });
        }
        if dtype != self.dtype {
            let right = ops::element_of(dtype).unwrap_or(ElementType::I32);
            return Err(Error::TypeMismatch { left: self.element, right });
        }
        Ok(())
    }

    /// Broadcast inputs of x for an operation.
    ///
    /// # Errors
    /// Those of [`check`](Self::check); [`Error::NanBound`], [`Error::BroadcastMismatch`] or [`Error::TooManyAxes`].
    pub(crate) fn resolve<'a, const D: usize>(
        &self,
        op: Op,
        x: &Tensor<D>,
        inputs: impl IntoIterator<Item = &'a Bound<Dispatch>>,
    ) -> Result<BroadcastInputs<()>> {
        let checked = |input: &Bound<Dispatch>| {
            input.map(|tensor| {
                self.check(Device::new(tensor.device()), tensor.dtype())?;
                Ok(((), Shape::new(tensor.shape().to_vec())?))
            })
        };
        let inputs = inputs.into_iter().map(checked).collect::<Result<Vec<_>>>()?;
        ops::resolve(op, self.element, &Shape::new(x.dims().to_vec())?, &inputs, |_| ())
    }
}

/// The element type of a [`DType`].
///
/// # Errors
/// [`Error::Unsupported`] if it has no kernels.
pub(crate) fn element_of(dtype: DType, device: &str) -> Result<ElementType> {
    ops::element_of(dtype).ok_or_else(|| Error::Unsupported {
        what: format!("clipping of {dtype:?}"),
        device: device.into(),
        instead: "cast it to f64, f32, f16 or bf16".into(),
    })
}
