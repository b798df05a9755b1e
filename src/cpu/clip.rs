//! Clip and clip in place: the twins of `shaders/clip.wgsl`.

use super::{check_len, parallel};
use crate::{Bounds, Element, Result};

/// `max(x, lo)` for a `lo` that is a number: a NaN x compares false and stays.
#[inline(always)]
pub(super) fn lower<T: Element>(x: T, lo: T) -> T {
    if x < lo { lo } else { x }
}

/// `min(x, hi)` for a `hi` that is a number.
#[inline(always)]
pub(super) fn upper<T: Element>(x: T, hi: T) -> T {
    if x > hi { hi } else { x }
}

/// Clips `x` into `y`: `y[i] = clip(x[i])`.
///
/// # Errors
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) if they differ in length.
pub fn clip<T: Element>(x: &[T], bounds: &Bounds<T>, y: &mut [T]) -> Result<()> {
    check_len(x, y)?;
    match (bounds.lo(), bounds.hi()) {
        (Some(lo), Some(hi)) => parallel::map(x, y, move |x| upper(lower(x, lo), hi)),
        (Some(lo), None) => parallel::map(x, y, move |x| lower(x, lo)),
        (None, Some(hi)) => parallel::map(x, y, move |x| upper(x, hi)),
        (None, None) => parallel::map(x, y, |x| x),
    }
    Ok(())
}

/// Clips `x` where it is.
pub fn clip_in_place<T: Element>(x: &mut [T], bounds: &Bounds<T>) {
    match (bounds.lo(), bounds.hi()) {
        (Some(lo), Some(hi)) => parallel::map_in_place(x, move |x| upper(lower(x, lo), hi)),
        (Some(lo), None) => parallel::map_in_place(x, move |x| lower(x, lo)),
        (None, Some(hi)) => parallel::map_in_place(x, move |x| upper(x, hi)),
        (None, None) => {}
    }
}
