//! Clip into another float type: `clip_to` of the reference.

use bytemuck::cast_slice_mut;

use super::clip::clip_elements;
use super::convert::{BLOCK, narrow, widen};
use super::operands::Operands;
use super::partition::Partition;
use crate::Element;
use crate::element::convert::Overflow;
use crate::element::lane::with_lane;
use crate::element::with_float;

/// Runs the operation.
pub(super) fn run(operands: &Operands<'_>, x: &[u8], y: &mut [u8]) {
    let (element, to) = (operands.element, operands.to);
    let parts = Partition::new(element.size(), operands.len);
    parts.for_each_chunk(y, to.size(), &|start, y| {
        with_float!(element, T => clip_elements_to::<T>(operands, start, x, y));
    });
}

/// Clips, widens and rounds blocks in turn.
fn clip_elements_to<T: Element>(operands: &Operands<'_>, start: usize, x: &[u8], y: &mut [u8]) {
    let (element, to) = (operands.element, operands.to);
    let (mut clipped, mut wide) = ([T::ZERO; BLOCK], [0.0; BLOCK]);
    for (n, y) in y.chunks_mut(BLOCK * to.size()).enumerate() {
        let (start, len) = (start + n * BLOCK, y.len() / to.size());
        let (x, clipped) = (&x[start * element.size()..][..len * element.size()], &mut clipped[..len]);
        with_lane!(element, L => {
            clip_elements::<L>(operands.broadcast, start, Some(x), cast_slice_mut(clipped), false);
        });
        // Rounded once: here, or when narrowed to a type shorter than f32.
        widen(clipped, to.size() < size_of::<f32>(), &mut wide[..len]);
        with_float!(to, U => narrow::<U>(&wide[..len], Overflow::Saturate, cast_slice_mut(y)));
    }
}
