//! The forward pass.

use super::Tensor;
use super::run::{broadcast_inputs, first};
use crate::op::Arguments;
use crate::{BackwardRule, Element, IntoBounds, Op, Result};

impl<T: Element> Tensor<T> {
    /// Clips every element to the bounds: `min(max(x, lo), hi)`, to the bit as
    /// [`reference::clip`](crate::reference::clip) says. The result has the same shape; tensors of bounds broadcast
    /// to it. Bounds are a [`Bounds`](crate::Bounds), a range, or a pair of values or tensors.
    ///
    /// # Errors
    /// [`Error::NanBound`](crate::Error::NanBound); [`Error::BroadcastMismatch`](crate::Error::BroadcastMismatch),
    /// [`Error::TooManyAxes`](crate::Error::TooManyAxes), [`Error::DeviceMismatch`](crate::Error::DeviceMismatch) or
    /// [`Error::Unsupported`](crate::Error::Unsupported) for tensors of bounds;
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory), [`Error::DeviceLost`](crate::Error::DeviceLost) or
    /// [`Error::Gpu`](crate::Error::Gpu).
    #[doc(alias = "clamp")]
    #[doc(alias = "clip_by_value")]
    #[must_use = "the tensor itself is not changed: see clip_in_place"]
    pub fn clip(&self, bounds: impl IntoBounds<T>) -> Result<Self> {
        Self::between(Op::Clip, &[self.as_dyn()], &bounds.into_bounds()?, BackwardRule::default())
    }

    /// Clips every element and converts it to another type of float, in one pass: rounded to nearest once, ties to even, and
    /// never to an infinity or a NaN that was not there. To the bit as [`reference::clip_to`](crate::reference::clip_to)
    /// says: what lies beyond the range of the new type becomes its greatest finite number.
    ///
    /// ```
    /// use wgclip::{Device, f8_e4m3fn};
    ///
    /// let x = Device::auto()?.tensor(&[-2.0f32, 0.3, 300.0, f32::INFINITY], [4])?;
    /// let y = x.clip_to::<f8_e4m3fn>(0.0..)?;
    /// let numbers: Vec<f32> = y.to_vec()?.iter().map(|y| y.to_f32()).collect();
    /// assert_eq!(numbers, [0.0, 0.3125, 288.0, 448.0]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`clip`](Self::clip); [`Error::Unsupported`](crate::Error::Unsupported) for integers, unless both types are one.
    #[must_use = "the tensor itself is not changed"]
    pub fn clip_to<U: Element>(&self, bounds: impl IntoBounds<T>) -> Result<Tensor<U>> {
        let bounds = bounds.into_bounds()?;
        let broadcast = broadcast_inputs(Op::ClipTo, self.shape(), &bounds, &[])?;
        let arguments = Arguments { to: Some(U::TYPE), ..Arguments::new(&broadcast) };
        first(Op::ClipTo, &[self.as_dyn()], &arguments).map(Tensor::of)
    }

    /// Clips every element where it is. If clones share the elements they keep theirs, and this tensor gets
    /// new ones.
    ///
    /// # Errors
    /// As [`clip`](Self::clip). The tensor is then as it was.
    #[doc(alias = "clamp_")]
    pub fn clip_in_place(&mut self, bounds: impl IntoBounds<T>) -> Result<()> {
        Self::overwrite(self, Op::Clip, &[], &bounds.into_bounds()?, BackwardRule::default())
    }
}
