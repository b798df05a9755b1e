//! Softmax along slices, recorded.

use super::pool::FirstWrite;
use super::{Buffer, Context};
use crate::broadcast::Reduction;
use crate::plan::softmax;
use crate::{ElementType, Result};

impl Context {
    /// Records a softmax into a new buffer.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for operands that are too large.
    pub(super) fn record_softmax(
        &self,
        element: ElementType,
        x: &Buffer,
        reduction: &Reduction,
    ) -> Result<Buffer> {
        let y = self.buffer(x.bytes(), FirstWrite::Recorded)?;
        if x.bytes() == 0 {
            return Ok(y);
        }
        let bytes = softmax::state_bytes(self.planner(), element, reduction);
        let state = self.buffer(bytes, FirstWrite::Recorded)?;
        softmax::softmax(self, element, [x.part(), y.part()], reduction, state.part())?;
        Ok(y)
    }

    /// Records the gradient of a softmax, from its result and the upstream gradient.
    ///
    /// # Errors
    /// As [`record_softmax`](Self::record_softmax).
    pub(super) fn record_softmax_backward(
        &self,
        element: ElementType,
        [y, g]: [&Buffer; 2],
        reduction: &Reduction,
    ) -> Result<Buffer> {
        let gx = self.buffer(y.bytes(), FirstWrite::Recorded)?;
        if y.bytes() == 0 {
            return Ok(gx);
        }
        let dots = self.record_dots(element, [y, g], None, reduction)?;
        let operands = [y.part(), g.part(), gx.part()];
        softmax::softmax_backward(self, element, operands, reduction, dots.part())?;
        Ok(gx)
    }
}
