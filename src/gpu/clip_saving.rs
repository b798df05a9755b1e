//! Clip with a mask of what the gradient passes, and the gradient of that mask: `shaders/clip_saving.wgsl` and
//! `shaders/saved_grad.wgsl`.

use super::dispatch::{BLOCK, Grain, Params, WORKGROUP};
use super::pipeline::{Binding, Kernel, bounded, shader};
use super::plan::{Operand, Span};
use super::pool::FirstWrite;
use super::{Buffer, Context};
use crate::bounds::Interval;
use crate::{Element, Gradient, Result};

pub(super) const CLIP_SAVING: [Kernel; 2] = bounded!(
    "clip_saving",
    ["mask.wgsl", "clip.wgsl", "clip_saving.wgsl"],
    [Binding::read(3), Binding::write(4), Binding::write(5)]
);

pub(super) const SAVED_GRAD: Kernel = Kernel {
    name: "saved_grad",
    entry: "saved_grad",
    source: shader!("mask.wgsl", "saved_grad.wgsl"),
    bindings: &[Binding::read(3), Binding::read(4), Binding::write(5)],
};

pub(super) const SAVED_GRAD_IN_PLACE: Kernel = Kernel {
    name: "saved_grad_in_place",
    entry: "saved_grad_in_place",
    source: shader!("mask.wgsl", "saved_grad.wgsl"),
    bindings: &[Binding::read(3), Binding::write(5)],
};

/// Blocks whose bits fill a word of a mask.
pub(super) const fn masked<T: Element>() -> u32 {
    2 * size_of::<T>() as u32
}

/// Bytes of the mask of so many bytes of a tensor: whole workgroups of words.
pub(super) fn mask_bytes<T: Element>(bytes: u64) -> u64 {
    let blocks = bytes.div_ceil(BLOCK);
    blocks.div_ceil((masked::<T>() * WORKGROUP).into()) * u64::from(4 * WORKGROUP)
}

fn mask_operand<T: Element>(mask: &Buffer) -> Operand<'_> {
    mask.blocks().spanning(Span::Words(masked::<T>()))
}

impl Context {
    /// Records the clip of `x` into a new buffer, and into another the mask of what the gradient passes: for rules
    /// that mask and do not halve.
    ///
    /// # Errors
    /// As [`clip`](Self::clip).
    pub(crate) fn clip_saving<T: Element>(
        &self,
        x: &Buffer,
        bounds: &Interval<T, &Buffer>,
        rule: Gradient,
    ) -> Result<(Buffer, Buffer)> {
        let y = self.buffer(x.bytes(), FirstWrite::Recorded)?;
        let mask = self.buffer(mask_bytes::<T>(x.bytes()), FirstWrite::Recorded)?;
        let operands = [x.blocks(), y.blocks(), mask_operand::<T>(&mask)];
        self.record_bounded(&CLIP_SAVING, Grain::Word(masked::<T>()), rule, bounds, &operands)?;
        Ok((y, mask))
    }

    /// Records the gradient that reaches x from its mask, of the upstream gradient `g`, into a new buffer.
    ///
    /// # Errors
    /// As [`clip_grad`](Self::clip_grad).
    pub(crate) fn saved_grad<T: Element>(&self, mask: &Buffer, g: &Buffer) -> Result<Buffer> {
        let gx = self.buffer(g.bytes(), FirstWrite::Recorded)?;
        let operands = [mask_operand::<T>(mask), g.blocks(), gx.blocks()];
        self.record::<T>(&SAVED_GRAD, Grain::Word(masked::<T>()), Params::default(), g.bytes(), &operands)?;
        Ok(gx)
    }

    /// The same in the place of the upstream gradient. If clones share its bytes they keep theirs, and `g` gets a
    /// new buffer.
    ///
    /// # Errors
    /// As [`clip_grad`](Self::clip_grad).
    pub(crate) fn saved_grad_in_place<T: Element>(&self, mask: &Buffer, g: &mut Buffer) -> Result<()> {
        if g.is_unique() {
            let operands = [mask_operand::<T>(mask), g.blocks()];
            return self.record::<T>(
                &SAVED_GRAD_IN_PLACE,
                Grain::Word(masked::<T>()),
                Params::default(),
                g.bytes(),
                &operands,
            );
        }
        *g = self.saved_grad::<T>(mask, g)?;
        Ok(())
    }
}
