//! Clip and clip in place: the twins of `shaders/clip.wgsl`.

use super::beside::{Source, Work, visit};
use super::parallel::{Deal, copy_by_blocks};
use super::vector::vectorised;
use super::{check_bounds, check_len};
use crate::bounds::Interval;
use crate::{Element, Result};

/// `max(x, lo)`: a NaN x is less than nothing and stays.
#[inline(always)]
pub(super) fn lower<T: Element, S: Source<T>>(x: T, lo: S, i: usize) -> T {
    let lo = lo.at(i);
    if x.less(lo) | (S::NAN & lo.is_nan() & !x.is_nan()) { lo } else { x }
}

/// `min(x, hi)`.
#[inline(always)]
pub(super) fn upper<T: Element, S: Source<T>>(x: T, hi: S, i: usize) -> T {
    let hi = hi.at(i);
    if hi.less(x) | (S::NAN & hi.is_nan() & !x.is_nan()) { hi } else { x }
}

vectorised! {
    fn clip_run<T: Element, L: Source<T>, H: Source<T>>(x: &[T], lo: L, hi: H, y: &mut [T]) {
        let len = y.len();
        let (x, lo, hi) = (&x[..len], lo.part(0, len), hi.part(0, len));
        for i in 0..len {
            y[i] = upper(lower(x[i], lo, i), hi, i);
        }
    }

    fn clip_run_in_place<T: Element, L: Source<T>, H: Source<T>>(x: &mut [T], lo: L, hi: H) {
        let (lo, hi) = (lo.part(0, x.len()), hi.part(0, x.len()));
        for (i, x) in x.iter_mut().enumerate() {
            *x = upper(lower(*x, lo, i), hi, i);
        }
    }
}

struct Clip<'a, T> {
    x: &'a [T],
    y: &'a mut [T],
    far: bool,
}

impl<T: Element> Work<T> for Clip<'_, T> {
    fn run(&mut self, start: usize, len: usize, lo: impl Source<T>, hi: impl Source<T>) {
        let (x, y) = (&self.x[start..][..len], &mut self.y[start..][..len]);
        match self.far {
            false => clip_run(x, lo, hi, y),
            true => copy_by_blocks(x, y, |at, y| {
                clip_run_in_place(y, lo.part(at, y.len()), hi.part(at, y.len()));
            }),
        }
    }
}

struct ClipInPlace<'a, T>(&'a mut [T]);

impl<T: Element> Work<T> for ClipInPlace<'_, T> {
    fn run(&mut self, start: usize, len: usize, lo: impl Source<T>, hi: impl Source<T>) {
        clip_run_in_place(&mut self.0[start..][..len], lo, hi);
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
    let deal = Deal::new::<T>(x.len());
    let chunks = x.chunks(deal.chunk).zip(y.chunks_mut(deal.chunk)).enumerate();
    deal.each(chunks, |(n, (x, y))| {
        visit(bounds, n * deal.chunk, x.len(), &mut Clip { x, y, far: deal.is_far() });
    });
    Ok(())
}

/// Clips `x` where it is.
///
/// # Errors
/// [`Error::LengthMismatch`](crate::Error::LengthMismatch) if tensors of bounds are of other lengths than their shapes
/// say.
pub fn clip_in_place<T: Element>(x: &mut [T], bounds: &Interval<T, &[T]>) -> Result<()> {
    check_bounds(x, bounds)?;
    let deal = Deal::new::<T>(x.len());
    deal.each(x.chunks_mut(deal.chunk).enumerate(), |(n, x)| {
        visit(bounds, n * deal.chunk, x.len(), &mut ClipInPlace(x));
    });
    Ok(())
}
