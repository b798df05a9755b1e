//! Clip and clip in place: `shaders/clip.wgsl`.

use super::dispatch::Grain;
use super::pipeline::{Binding, Kernel, bounded, shader};
use super::pool::FirstWrite;
use super::{Buffer, Context};
use crate::bounds::Interval;
use crate::{Element, Gradient, Result};

pub(super) const CLIP: [Kernel; 2] = bounded!("clip", ["clip.wgsl"], [Binding::read(3), Binding::write(4)]);

pub(super) const CLIP_IN_PLACE: [Kernel; 2] = bounded!("clip_in_place", ["clip.wgsl"], [Binding::write(4)]);

impl Context {
    /// Records the clip of `x` into a new buffer.
    ///
    /// # Errors
    /// [`OutOfMemory`](crate::Error::OutOfMemory), [`Unsupported`](crate::Error::Unsupported) if a bound that
    /// broadcasts is too large for a binding, [`DeviceLost`](crate::Error::DeviceLost) or [`Gpu`](crate::Error::Gpu).
    pub fn clip<T: Element>(&self, x: &Buffer, bounds: &Interval<T, &Buffer>) -> Result<Buffer> {
        let y = self.buffer(x.bytes(), FirstWrite::Recorded)?;
        self.record_bounded(&CLIP, Grain::Blocks, Gradient::default(), bounds, &[x.blocks(), y.blocks()])?;
        Ok(y)
    }

    /// Records the clip of `x` where it is. If clones share its bytes they keep theirs, and `x` gets a new
    /// buffer.
    ///
    /// # Errors
    /// As [`clip`](Self::clip).
    pub fn clip_in_place<T: Element>(&self, x: &mut Buffer, bounds: &Interval<T, &Buffer>) -> Result<()> {
        if x.is_unique() {
            self.record_bounded(&CLIP_IN_PLACE, Grain::Blocks, Gradient::default(), bounds, &[x.blocks()])
        } else {
            *x = self.clip(x, bounds)?;
            Ok(())
        }
    }
}
