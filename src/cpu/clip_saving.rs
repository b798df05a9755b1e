//! Clip with a mask of what the gradient passes, and the gradient of that mask: the twins of
//! `shaders/clip_saving.wgsl` and `shaders/saved_grad.wgsl`. Bit `i` of a mask belongs to element `i`.

use rayon::prelude::*;

use super::clip::{lower, upper};
use super::parallel::{CHUNK, Source, Work, visit};
use super::{check_bounds, check_len};
use crate::bounds::Interval;
use crate::{Element, Error, Gradient, NanGradient, Result, Ties};

/// Bits of a word of a mask.
const WORD: usize = u64::BITS as usize;

/// Words of the mask of `len` elements.
pub fn mask_len(len: usize) -> usize {
    len.div_ceil(WORD)
}

struct ClipSaving<'a, T> {
    x: &'a [T],
    y: &'a mut [T],
    mask: &'a mut [u64],
    exclusive: bool,
    nan_zero: bool,
}

impl<T: Element> Work<T> for ClipSaving<'_, T> {
    fn run(&mut self, start: usize, len: usize, lo: impl Source<T>, hi: impl Source<T>) {
        let (exclusive, nan_zero) = (self.exclusive, self.nan_zero);
        let mut i = 0;
        // A run may begin and end within a word.
        while i < len {
            let bit = (start + i) % WORD;
            let n = (WORD - bit).min(len - i);
            let (x, y) = (&self.x[start + i..][..n], &mut self.y[start + i..][..n]);
            let mut word = 0;
            for k in 0..n {
                y[k] = upper(lower(x[k], lo, i + k), hi, i + k);
                word |= u64::from(passes(x[k], lo, hi, i + k, exclusive, nan_zero)) << k;
            }
            let kept = self.mask[(start + i) / WORD] & !(u64::MAX >> (WORD - n) << bit);
            self.mask[(start + i) / WORD] = kept | word << bit;
            i += n;
        }
    }
}

/// Whether the gradient of an element reaches x.
#[inline(always)]
fn passes<T: Element, L: Source<T>, H: Source<T>>(
    x: T,
    lo: L,
    hi: H,
    i: usize,
    exclusive: bool,
    nan_zero: bool,
) -> bool {
    let (l, h) = (lo.at(i), hi.at(i));
    let below = L::PRESENT & (x < l);
    let t = if below { l } else { x };
    let ties = (H::PRESENT & (t == h)) | (L::PRESENT & (x == l));
    let nan = (L::NAN & l.is_nan()) | (H::NAN & h.is_nan());
    let stopped = below | (H::PRESENT & (t > h)) | (exclusive & ties) | nan;
    if x.is_nan() { !nan_zero } else { !stopped }
}

/// Clips `x` into `y`, and into `mask` writes whether the gradient of each element reaches x: for rules that mask
/// and do not halve.
///
/// # Errors
/// [`Error::ShapeMismatch`] if they differ in length (a mask has [`mask_len`] words).
pub fn clip_saving<T: Element>(
    x: &[T],
    bounds: &Interval<T, &[T]>,
    rule: Gradient,
    y: &mut [T],
    mask: &mut [u64],
) -> Result<()> {
    check_len(x, y)?;
    check_bounds(x, bounds)?;
    check_mask(x, mask)?;
    let (exclusive, nan_zero) = (rule.ties == Ties::Exclusive, rule.nan == NanGradient::Zero);
    let outputs = y.par_chunks_mut(CHUNK).zip(mask.par_chunks_mut(CHUNK / WORD));
    x.par_chunks(CHUNK).zip(outputs).enumerate().for_each(|(n, (x, (y, mask)))| {
        visit(bounds, n * CHUNK, x.len(), &mut ClipSaving { x, y, mask, exclusive, nan_zero });
    });
    Ok(())
}

/// The gradient that reaches x, of the upstream gradient `g`, into `gx`: `g` where the mask says so, else zero.
///
/// # Errors
/// As [`clip_saving`].
pub fn saved_grad<T: Element>(mask: &[u64], g: &[T], gx: &mut [T]) -> Result<()> {
    check_len(g, gx)?;
    check_mask(g, mask)?;
    let inputs = g.par_chunks(CHUNK).zip(mask.par_chunks(CHUNK / WORD));
    gx.par_chunks_mut(CHUNK).zip(inputs).for_each(|(gx, (g, mask))| {
        for ((gx, g), &word) in gx.chunks_mut(WORD).zip(g.chunks(WORD)).zip(mask) {
            for (k, (gx, &g)) in gx.iter_mut().zip(g).enumerate() {
                *gx = if word >> k & 1 == 1 { g } else { T::ZERO };
            }
        }
    });
    Ok(())
}

/// The same, in the place of the upstream gradient.
///
/// # Errors
/// As [`clip_saving`].
pub fn saved_grad_in_place<T: Element>(mask: &[u64], g: &mut [T]) -> Result<()> {
    check_mask(g, mask)?;
    g.par_chunks_mut(CHUNK).zip(mask.par_chunks(CHUNK / WORD)).for_each(|(g, mask)| {
        for (g, &word) in g.chunks_mut(WORD).zip(mask) {
            for (k, g) in g.iter_mut().enumerate() {
                *g = if word >> k & 1 == 1 { *g } else { T::ZERO };
            }
        }
    });
    Ok(())
}

fn check_mask<T: Element>(x: &[T], mask: &[u64]) -> Result<()> {
    if mask.len() == mask_len(x.len()) {
        return Ok(());
    }
    Err(Error::ShapeMismatch { left: vec![mask_len(x.len())], right: vec![mask.len()] })
}
