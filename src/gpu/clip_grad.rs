//! The backward pass: `shaders/clip_grad.wgsl`.

use super::dispatch::Params;
use super::pipeline::{Binding, Kernel, shader};
use super::pool::FirstWrite;
use super::{Buffer, Context};
use crate::{Bounds, Element, Error, Gradient, NanGradient, Outside, Result, Ties};

const CLIP_GRAD: Kernel = Kernel {
    entry: "clip_grad",
    source: shader!("clip_grad.wgsl"),
    bindings: &[Binding::read(1), Binding::read(2), Binding::write(3)],
};

impl Context {
    /// Records the gradient that reaches `x`, of the upstream gradient `g`, into a new buffer.
    /// [`Outside::StraightThrough`] records nothing: the result shares the bytes of `g`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the buffers differ in length, [`Error::OutOfMemory`],
    /// [`Error::DeviceLost`] or [`Error::Gpu`].
    pub fn clip_grad<T: Element>(
        &self,
        x: &Buffer,
        g: &Buffer,
        bounds: &Bounds<T>,
        rule: Gradient,
    ) -> Result<Buffer> {
        if x.bytes() != g.bytes() {
            let len = |buffer: &Buffer| vec![buffer.bytes() as usize / size_of::<T>()];
            return Err(Error::ShapeMismatch { left: len(x), right: len(g) });
        }
        if rule.outside == Outside::StraightThrough {
            self.check()?;
            return Ok(g.clone());
        }
        let gx = self.buffer(x.bytes(), FirstWrite::Recorded)?;
        let mut params = Params::new(bounds);
        params.toward = (rule.outside == Outside::Toward).into();
        params.nan_zero = (rule.nan == NanGradient::Zero).into();
        // The constants of the shader.
        params.ties = match rule.ties {
            Ties::Inclusive => 0,
            Ties::Exclusive => 1,
            Ties::Half => 2,
        };
        self.record::<T>(&CLIP_GRAD, params, &[x, g, &gx])?;
        Ok(gx)
    }
}
