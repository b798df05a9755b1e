//! Softmax along axes, and its gradient.

use super::norm::{Axes, slices};
use super::storage::peer;
use super::{DynTensor, Stored, Tensor, with_storage};
use crate::backend::Backend;
use crate::{Element, Op, Result};

impl<T: Element> Tensor<T> {
    /// `exp(x)` divided by the sum of those along some axes, or of all elements (`..`), for floats of up to 32 bits: numbers from 0 to 1 whose sum is 1. The
    /// exponentials are relative to the greatest element, so that none overflows, and their sum is exact: the result has the same bits on every device and however the work is
    /// split. Its error is below 0.55 units of the last place, as [`reference::softmax`](crate::reference::softmax()) says.
    ///
    /// A -infinity gives +0, which is how positions are masked. A slice with a NaN or +infinity, or of -infinity alone, gives NaN.
    ///
    /// ```
    /// let x = wgclip::Device::cpu().tensor(&[0.0f32, 0.0, -f32::INFINITY, 1e30, -1e30, 0.0], [2, 3])?;
    /// assert_eq!(x.softmax([1])?.to_vec()?, [0.5, 0.5, 0.0, 1.0, 0.0, 0.0]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidAxes`](crate::Error::InvalidAxes), [`Error::TooManyAxes`](crate::Error::TooManyAxes); [`Error::Unsupported`](crate::Error::Unsupported) for integers and f64, and for what is too large for a GPU;
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    #[must_use = "the tensor itself is not changed"]
    pub fn softmax(&self, axes: impl Into<Axes>) -> Result<Self> {
        self.as_dyn().softmax(axes).map(Self::of)
    }

    /// The gradient of [`softmax`](Self::softmax), where this tensor is its *result*: `self * (upstream - dot)`, `dot` being the exact dot product of both along the axes,
    /// as [`reference::softmax_backward`](crate::reference::softmax_backward) says. All have the same shape.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch), [`Error::DeviceMismatch`](crate::Error::DeviceMismatch); otherwise as [`softmax`](Self::softmax).
    #[must_use = "the upstream gradient is not changed"]
    pub fn softmax_backward(&self, upstream: &Self, axes: impl Into<Axes>) -> Result<Self> {
        self.as_dyn().softmax_backward(upstream.as_dyn(), axes).map(Self::of)
    }
}

impl DynTensor {
    /// As [`Tensor::softmax`].
    ///
    /// # Errors
    /// As that.
    #[must_use = "the tensor itself is not changed"]
    pub fn softmax(&self, axes: impl Into<Axes>) -> Result<Self> {
        Op::Softmax.check_domain(self.element)?;
        let slices = slices(&self.shape, axes)?;
        let storage = with_storage!(&self.storage, backend, x => {
            backend.store(backend.softmax(self.element, x, &slices)?)
        });
        Ok(Self::new(self.element, storage, self.shape.clone()))
    }

    /// As [`Tensor::softmax_backward`].
    ///
    /// # Errors
    /// As that, and [`Error::TypeMismatch`](crate::Error::TypeMismatch).
    #[must_use = "the upstream gradient is not changed"]
    pub fn softmax_backward(&self, upstream: &Self, axes: impl Into<Axes>) -> Result<Self> {
        Op::SoftmaxBackward.check_domain(self.element)?;
        self.check_like(upstream)?;
        let slices = slices(&self.shape, axes)?;
        let storage = with_storage!(&self.storage, backend, y => {
            let operands = [y, peer(backend, &upstream.storage)?];
            backend.store(backend.softmax_backward(self.element, operands, &slices)?)
        });
        Ok(Self::new(self.element, storage, self.shape.clone()))
    }
}
