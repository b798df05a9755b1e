//! Clip and clip in place: `shaders/clip.wgsl`.

use super::dispatch::Params;
use super::pipeline::{Binding, Kernel, shader};
use super::pool::FirstWrite;
use super::{Buffer, Context};
use crate::{Bounds, Element, Result};

const CLIP: Kernel =
    Kernel { entry: "clip", source: shader!("clip.wgsl"), bindings: &[Binding::read(1), Binding::write(2)] };

const CLIP_IN_PLACE: Kernel =
    Kernel { entry: "clip_in_place", source: shader!("clip.wgsl"), bindings: &[Binding::write(2)] };

impl Context {
    /// Records the clip of `x` into a new buffer.
    ///
    /// # Errors
    /// [`OutOfMemory`](crate::Error::OutOfMemory), [`DeviceLost`](crate::Error::DeviceLost) or
    /// [`Gpu`](crate::Error::Gpu).
    pub fn clip<T: Element>(&self, x: &Buffer, bounds: &Bounds<T>) -> Result<Buffer> {
        let y = self.buffer(x.bytes(), FirstWrite::Recorded)?;
        self.record::<T>(&CLIP, Params::new(bounds), &[x, &y])?;
        Ok(y)
    }

    /// Records the clip of `x` where it is. If clones share its bytes they keep theirs, and `x` gets a new
    /// buffer.
    ///
    /// # Errors
    /// As [`clip`](Self::clip).
    pub fn clip_in_place<T: Element>(&self, x: &mut Buffer, bounds: &Bounds<T>) -> Result<()> {
        if x.is_unique() {
            self.record::<T>(&CLIP_IN_PLACE, Params::new(bounds), &[x])
        } else {
            *x = self.clip(x, bounds)?;
            Ok(())
        }
    }
}
