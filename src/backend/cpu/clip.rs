//! The forward pass: the twin of `shaders/clip.wgsl`.

use bytemuck::{cast_slice, cast_slice_mut};

#[cfg(not(target_arch = "wasm32"))]
use super::bound_source::RunBounds;
use super::bound_source::{BoundSource, for_each_run, with_bounds};
use super::operands::Operands;
use super::partition::{Partition, copy_then_apply};
use super::simd::vectorised;
use crate::broadcast::BroadcastInputs;
use crate::element::lane::{Lane, with_lane};

/// `max(x, lo)`: a NaN x is not less than anything, and stays.
#[inline(always)]
pub(super) fn clamp_lo<L: Lane, B: BoundSource<L>>(x: L, lo: L, format: L::Format, _: B) -> L {
    if x.less(lo, format) | (B::NAN & lo.is_nan(format) & !x.is_nan(format)) { lo } else { x }
}

/// `min(x, hi)`.
#[inline(always)]
pub(super) fn clamp_hi<L: Lane, B: BoundSource<L>>(x: L, hi: L, format: L::Format, _: B) -> L {
    if hi.less(x, format) | (B::NAN & hi.is_nan(format) & !x.is_nan(format)) { hi } else { x }
}

/// Element `i`, between its bounds.
#[inline(always)]
pub(super) fn clip<L: Lane, B: BoundSource<L>>(x: L, bounds: B, i: usize, format: L::Format) -> L {
    let [lo, hi] = bounds.at(i);
    clamp_hi(clamp_lo(x, lo, format, bounds), hi, format, bounds)
}

#[cfg(not(target_arch = "wasm32"))]
vectorised! {
    fn clip_into<L: Lane, B: BoundSource<L>>(x: &[L], bounds: B, format: L::Format, y: &mut [L]) {
        let len = y.len();
        let (x, bounds) = (&x[..len], bounds.part(0, len));
        for i in 0..len {
            y[i] = clip(x[i], bounds, i, format);
        }
    }
}

vectorised! {
    fn clip_in_place<L: Lane, B: BoundSource<L>>(x: &mut [L], bounds: B, format: L::Format) {
        let bounds = bounds.part(0, x.len());
        for (i, x) in x.iter_mut().enumerate() {
            *x = clip(*x, bounds, i, format);
        }
    }
}

/// Runs the operation.
pub(super) fn run(operands: &Operands<'_>, y: &mut [u8]) {
    let (element, bounds) = (operands.element, operands.broadcast);
    let parts = Partition::new(element.size(), operands.len);
    parts.for_each_chunk(y, element.size(), &|start, y| {
        let x = operands.x.map(|x| &x[start * element.size()..][..y.len()]);
        with_lane!(element, L => clip_elements::<L>(bounds, start, x, y, parts.exceeds_cache()));
    });
}

/// Clips elements with the bounds from `start` on, counted in x, in place if x is missing.
#[cfg_attr(target_arch = "wasm32", expect(unused_variables, reason = "there all is clipped in place"))]
pub(super) fn clip_elements<L: Lane>(
    bounds: &BroadcastInputs<&[u8]>,
    start: usize,
    x: Option<&[u8]>,
    y: &mut [u8],
    exceeds_cache: bool,
) {
    let (x, y): (Option<&[L]>, &mut [L]) = (x.map(cast_slice), cast_slice_mut(y));
    let format = L::format(bounds.element.layout());
    for_each_run(bounds, (start, y.len()), &mut |at, len, bounds| {
        let (x, y) = (x.map(|x| &x[at..][..len]), &mut y[at..][..len]);
        #[cfg(not(target_arch = "wasm32"))]
        if let (Some(x), RunBounds::Splats(bounds), false) = (x, &bounds, exceeds_cache) {
            return clip_into(x, *bounds, format, y);
        }
        with_bounds!(bounds, bounds => copy_then_apply(x, y, &mut |at, y| {
            clip_in_place(y, bounds.part(at, y.len()), format);
        }));
    });
}
