//! Clip and clip in place: the twins of `shaders/clip.wgsl`.

use rayon::prelude::*;

use super::parallel::{CHUNK, Source, Work, visit};
use super::{check_bounds, check_len};
use crate::bounds::Interval;
use crate::{Element, Result};

/// `max(x, lo)`: a NaN x compares false and stays.
#[inline(always)]
pub(super) fn lower<T: Element, S: Source<T>>(x: T, lo: S, i: usize) -> T {
    if !S::PRESENT {
        return x;
    }
    let lo = lo.at(i);
    if (x < lo) | (S::NAN & lo.is_nan() & !x.is_nan()) { lo } else { x }
}

/// `min(x, hi)`.
#[inline(always)]
pub(super) fn upper<T: Element, S: Source<T>>(x: T, hi: S, i: usize) -> T {
    if !S::PRESENT {
        return x;
    }
    let hi = hi.at(i);
    if (x > hi) | (S::NAN & hi.is_nan() & !x.is_nan()) { hi } else { x }
}

struct Clip<'a, T> {
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Element> Work<T> for Clip<'_, T> {
    fn run(&mut self, start: usize, len: usize, lo: impl Source<T>, hi: impl Source<T>) {
        let (x, y) = (&self.x[start..][..len], &mut self.y[start..][..len]);
        let (lo, hi) = (lo.first(len), hi.first(len));
        for i in 0..len {
            y[i] = upper(lower(x[i], lo, i), hi, i);
        }
    }
}

struct ClipInPlace<'a, T>(&'a mut [T]);

impl<T: Element> Work<T> for ClipInPlace<'_, T> {
    fn run(&mut self, start: usize, len: usize, lo: impl Source<T>, hi: impl Source<T>) {
        let x = &mut self.0[start..][..len];
        let (lo, hi) = (lo.first(len), hi.first(len));
        for (i, x) in x.iter_mut().enumerate() {
            *x = upper(lower(*x, lo, i), hi, i);
        }
    }
}

/// Clips `x` into `y`: `y[i] = clip(x[i])`.
///
/// # Errors
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) if they differ in length,
/// [`Error::LengthMismatch`](crate::Error::LengthMismatch) if they do not fill the shapes of tensors of bounds.
pub fn clip<T: Element>(x: &[T], bounds: &Interval<T, &[T]>, y: &mut [T]) -> Result<()> {
    check_len(x, y)?;
    check_bounds(x, bounds)?;
    let chunks = y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).enumerate();
    chunks.for_each(|(n, (y, x))| visit(bounds, n * CHUNK, x.len(), &mut Clip { x, y }));
    Ok(())
}

/// Clips `x` where it is.
///
/// # Errors
/// [`Error::LengthMismatch`](crate::Error::LengthMismatch) if tensors of bounds are of other lengths than their shapes
/// say.
pub fn clip_in_place<T: Element>(x: &mut [T], bounds: &Interval<T, &[T]>) -> Result<()> {
    check_bounds(x, bounds)?;
    x.par_chunks_mut(CHUNK)
        .enumerate()
        .for_each(|(n, x)| visit(bounds, n * CHUNK, x.len(), &mut ClipInPlace(x)));
    Ok(())
}
