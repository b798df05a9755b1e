//! The backward pass: `shaders/clip_grad.wgsl`.

use super::dispatch::Grain;
use super::pipeline::{Binding, Kernel, bounded, shader};
use super::pool::FirstWrite;
use super::{Buffer, Context};
use crate::bounds::Interval;
use crate::{Element, Error, Gradient, Outside, Result};

pub(super) const CLIP_GRAD: [Kernel; 2] =
    bounded!("clip_grad", ["clip_grad.wgsl"], [Binding::read(3), Binding::read(4), Binding::write(5)]);

pub(super) const CLIP_GRAD_IN_PLACE: [Kernel; 2] =
    bounded!("clip_grad_in_place", ["clip_grad.wgsl"], [Binding::read(3), Binding::write(5)]);

const CLIP_GRAD_LO: [Kernel; 2] = bounded!(
    "clip_grad_lo",
    ["clip_grad.wgsl"],
    [Binding::read(3), Binding::read(4), Binding::write(5), Binding::write(6)]
);

const CLIP_GRAD_HI: [Kernel; 2] = bounded!(
    "clip_grad_hi",
    ["clip_grad.wgsl"],
    [Binding::read(3), Binding::read(4), Binding::write(5), Binding::write(7)]
);

const CLIP_GRAD_BOTH: [Kernel; 2] = bounded!(
    "clip_grad_both",
    ["clip_grad.wgsl"],
    [Binding::read(3), Binding::read(4), Binding::write(5), Binding::write(6), Binding::write(7)]
);

impl Context {
    /// Records the gradient that reaches `x`, of the upstream gradient `g`, into a new buffer.
    /// [`Outside::StraightThrough`] records nothing: the result shares the bytes of `g`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the buffers differ in length; otherwise as [`clip`](Self::clip).
    pub fn clip_grad<T: Element>(
        &self,
        x: &Buffer,
        g: &Buffer,
        bounds: &Interval<T, &Buffer>,
        rule: Gradient,
    ) -> Result<Buffer> {
        check_same::<T>(x, g)?;
        if rule.outside == Outside::StraightThrough {
            self.check()?;
            return Ok(g.clone());
        }
        let gx = self.buffer(x.bytes(), FirstWrite::Recorded)?;
        self.record_bounded(&CLIP_GRAD, Grain::Blocks, rule, bounds, &[x.blocks(), g.blocks(), gx.blocks()])?;
        Ok(gx)
    }

    /// The same in the place of the upstream gradient. If clones share its bytes they keep theirs, and `g` gets a
    /// new buffer.
    ///
    /// # Errors
    /// As [`clip_grad`](Self::clip_grad).
    pub fn clip_grad_in_place<T: Element>(
        &self,
        x: &Buffer,
        g: &mut Buffer,
        bounds: &Interval<T, &Buffer>,
        rule: Gradient,
    ) -> Result<()> {
        check_same::<T>(x, g)?;
        if rule.outside == Outside::StraightThrough {
            return self.check();
        }
        if !g.is_unique() {
            *g = self.clip_grad(x, g, bounds, rule)?;
            return Ok(());
        }
        self.record_bounded(&CLIP_GRAD_IN_PLACE, Grain::Blocks, rule, bounds, &[x.blocks(), g.blocks()])
    }

    /// Records the gradients that reach `x` and, where wanted, the bounds at each element of `x`: to be summed
    /// over the broadcast dimensions.
    ///
    /// # Errors
    /// As [`clip_grad`](Self::clip_grad).
    pub(crate) fn clip_grads<T: Element>(
        &self,
        x: &Buffer,
        g: &Buffer,
        bounds: &Interval<T, &Buffer>,
        rule: Gradient,
        wanted: [bool; 2],
    ) -> Result<(Buffer, [Option<Buffer>; 2])> {
        let kernel = match wanted {
            [false, false] => return Ok((self.clip_grad(x, g, bounds, rule)?, [None, None])),
            [true, false] => &CLIP_GRAD_LO,
            [false, true] => &CLIP_GRAD_HI,
            [true, true] => &CLIP_GRAD_BOTH,
        };
        check_same::<T>(x, g)?;
        let new = || self.buffer(x.bytes(), FirstWrite::Recorded);
        let gx = new()?;
        let [lo, hi] = wanted.map(|wanted| wanted.then(new).transpose());
        let bound_grads = [lo?, hi?];
        let mut operands = vec![x.blocks(), g.blocks(), gx.blocks()];
        operands.extend(bound_grads.iter().flatten().map(Buffer::blocks));
        self.record_bounded(kernel, Grain::Blocks, rule, bounds, &operands)?;
        // The shader makes what a masking rule gives x; the straight one gives it all.
        let gx = if rule.outside == Outside::StraightThrough { g.clone() } else { gx };
        Ok((gx, bound_grads))
    }
}

fn check_same<T: Element>(x: &Buffer, g: &Buffer) -> Result<()> {
    if x.bytes() == g.bytes() {
        return Ok(());
    }
    let len = |buffer: &Buffer| vec![buffer.bytes() as usize / size_of::<T>()];
    Err(Error::ShapeMismatch { left: len(x), right: len(g) })
}
