//! The forward pass.

use super::{Arguments, Tensor, apply_in_place};
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
        self.map(Op::Clip, Arguments::between(&bounds.into_bounds()?, BackwardRule::default()))
    }

    /// Clips every element where it is. If clones share the elements they keep theirs, and this tensor gets
    /// new ones.
    ///
    /// # Errors
    /// As [`clip`](Self::clip). The tensor is then as it was.
    #[doc(alias = "clamp_")]
    pub fn clip_in_place(&mut self, bounds: impl IntoBounds<T>) -> Result<()> {
        let bounds = bounds.into_bounds()?;
        let arguments = Arguments::between(&bounds, BackwardRule::default());
        apply_in_place(Op::Clip, &self.shape, &mut self.storage, &[], arguments)
    }
}
