//! The affine map of a hard sigmoid: `shaders/affine.wgsl`.

use super::dispatch::{Grain, Params};
use super::pipeline::{Binding, Kernel, shader};
use super::pool::FirstWrite;
use super::{Buffer, Context};
use crate::{Element, Error, Result};

const AFFINE: Kernel = Kernel {
    name: "affine",
    entry: "affine",
    source: shader!("arithmetic.wgsl", "affine.wgsl"),
    bindings: &[Binding::read(3), Binding::write(4)],
};

impl Context {
    /// Records `scale * x + offset` into a new buffer.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for f64; otherwise as [`clip`](Self::clip).
    pub(crate) fn affine<T: Element>(&self, x: &Buffer, scale: T::Sum, offset: T::Sum) -> Result<Buffer> {
        // The shader does it in f32.
        let words =
            bytemuck::try_cast(scale).and_then(|scale| Ok([scale, bytemuck::try_cast(offset)?, 0, 0]));
        let Ok(words) = words else {
            return Err(Error::Unsupported {
                what: format!("multiplying {}", T::TYPE),
                device: self.info().to_string(),
                instead: "do it on Device::cpu()".into(),
            });
        };
        let y = self.buffer(x.bytes(), FirstWrite::Recorded)?;
        let operands = [x.blocks(), y.blocks()];
        self.record::<T>(&AFFINE, Grain::Block, Params::of_words(words), x.bytes(), &operands)?;
        Ok(y)
    }
}
