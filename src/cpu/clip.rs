//! Clip and clip in place: the twins of `shaders/clip.wgsl`.

use super::parallel;
use crate::host::zeroed;
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

/// Clips `x` into a new vector.
///
/// # Errors
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory) where the host has no memory for the result.
pub fn clip<T: Element>(x: &[T], bounds: &Bounds<T>) -> Result<Vec<T>> {
    let mut y = zeroed(x.len())?;
    match (bounds.lo(), bounds.hi()) {
        (Some(lo), Some(hi)) => parallel::map(x, &mut y, |x| upper(lower(x, lo), hi)),
        (Some(lo), None) => parallel::map(x, &mut y, |x| lower(x, lo)),
        (None, Some(hi)) => parallel::map(x, &mut y, |x| upper(x, hi)),
        (None, None) => parallel::map(x, &mut y, |x| x),
    }
    Ok(y)
}

/// Clips `x` where it is.
pub fn clip_in_place<T: Element>(x: &mut [T], bounds: &Bounds<T>) {
    match (bounds.lo(), bounds.hi()) {
        (Some(lo), Some(hi)) => parallel::map_in_place(x, |x| upper(lower(x, lo), hi)),
        (Some(lo), None) => parallel::map_in_place(x, |x| lower(x, lo)),
        (None, Some(hi)) => parallel::map_in_place(x, |x| upper(x, hi)),
        (None, None) => {}
    }
}
