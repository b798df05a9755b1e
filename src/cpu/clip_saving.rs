//! Clip with a mask of what the gradient passes, and the gradient of that mask: the twins of
//! `shaders/clip_saving.wgsl` and `shaders/saved_grad.wgsl`. Bit `i` of a mask belongs to element `i`.

use super::beside::{Source, Work, visit};
use super::clip::{lower, upper};
use super::parallel::{Deal, copy_by_blocks};
use super::vector::vectorised;
use super::{check_bounds, check_len};
use crate::bounds::Interval;
use crate::{Element, Error, Gradient, NanGradient, Result, Ties};

/// Bits of a word of a mask.
const WORD: usize = u64::BITS as usize;

/// Words of the mask of `len` elements.
pub fn mask_len(len: usize) -> usize {
    len.div_ceil(WORD)
}

/// What of a rule a bit can tell.
#[derive(Clone, Copy)]
struct Rule {
    exclusive: bool,
    nan_zero: bool,
}

/// Whether the gradient of an element reaches x.
#[inline(always)]
fn passes<T: Element, L: Source<T>, H: Source<T>>(x: T, lo: L, hi: H, i: usize, rule: Rule) -> bool {
    let (l, h) = (lo.at(i), hi.at(i));
    let ties = (lo.is_present() & x.equals(l)) | (hi.is_present() & x.equals(h));
    let nan = (L::NAN & l.is_nan()) | (H::NAN & h.is_nan());
    let stopped = x.less(l) | h.less(x) | (rule.exclusive & ties) | nan;
    if x.is_nan() { !rule.nan_zero } else { !stopped }
}

vectorised! {
    /// Clips whole words of elements.
    fn saving_run<T: Element, L: Source<T>, H: Source<T>>(
        x: &[T],
        lo: L,
        hi: H,
        rule: Rule,
        y: &mut [T],
        mask: &mut [u64],
    ) {
        let (x, y) = (x.as_chunks::<WORD>().0, y.as_chunks_mut::<WORD>().0);
        for (n, ((x, y), word)) in x.iter().zip(y).zip(mask).enumerate() {
            let (lo, hi) = (lo.part(n * WORD, WORD), hi.part(n * WORD, WORD));
            // In halves: these the compiler makes of compared vectors.
            let mut halves = [0u32; 2];
            for (half, bits) in halves.iter_mut().enumerate() {
                for i in 0..WORD / 2 {
                    let at = half * WORD / 2 + i;
                    *bits |= u32::from(passes(x[at], lo, hi, at, rule)) << i;
                }
            }
            *word = u64::from(halves[1]) << 32 | u64::from(halves[0]);
            for i in 0..WORD {
                y[i] = upper(lower(x[i], lo, i), hi, i);
            }
        }
    }

    /// Masks whole words of elements.
    fn saved_run<T: Element>(mask: &[u64], g: &[T], gx: &mut [T]) {
        let (g, gx) = (g.as_chunks::<WORD>().0, gx.as_chunks_mut::<WORD>().0);
        for ((g, gx), &word) in g.iter().zip(gx).zip(mask) {
            for i in 0..WORD {
                gx[i] = if word >> i & 1 == 1 { g[i] } else { T::ZERO };
            }
        }
    }

    fn saved_run_in_place<T: Element>(mask: &[u64], g: &mut [T]) {
        for (g, &word) in g.as_chunks_mut::<WORD>().0.iter_mut().zip(mask) {
            for (i, g) in g.iter_mut().enumerate() {
                *g = if word >> i & 1 == 1 { *g } else { T::ZERO };
            }
        }
    }
}

struct ClipSaving<'a, T> {
    x: &'a [T],
    y: &'a mut [T],
    mask: &'a mut [u64],
    rule: Rule,
}

impl<T: Element> Work<T> for ClipSaving<'_, T> {
    /// A run may begin and end within a word: what is of whole words goes the fast way.
    fn run(&mut self, start: usize, len: usize, lo: impl Source<T>, hi: impl Source<T>) {
        let end = start + len;
        let first = start.next_multiple_of(WORD).min(end);
        let last = first + (end - first) / WORD * WORD;
        for i in (start..first).chain(last..end) {
            self.y[i] = upper(lower(self.x[i], lo, i - start), hi, i - start);
            let passes = passes(self.x[i], lo, hi, i - start, self.rule);
            let word = &mut self.mask[i / WORD];
            *word = *word & !(1 << (i % WORD)) | u64::from(passes) << (i % WORD);
        }
        let whole = first..last;
        let (lo, hi) = (lo.part(first - start, whole.len()), hi.part(first - start, whole.len()));
        let (x, y) = (&self.x[whole.clone()], &mut self.y[whole]);
        saving_run(x, lo, hi, self.rule, y, &mut self.mask[first / WORD..]);
    }
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
    let rule = Rule { exclusive: rule.ties == Ties::Exclusive, nan_zero: rule.nan == NanGradient::Zero };
    let deal = Deal::new::<T>(x.len());
    let outputs = y.chunks_mut(deal.chunk).zip(mask.chunks_mut(deal.chunk / WORD));
    deal.each(x.chunks(deal.chunk).zip(outputs).enumerate(), |(n, (x, (y, mask)))| {
        visit(bounds, n * deal.chunk, x.len(), &mut ClipSaving { x, y, mask, rule });
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
    let deal = Deal::new::<T>(g.len());
    let chunks = gx.chunks_mut(deal.chunk).zip(g.chunks(deal.chunk)).zip(mask.chunks(deal.chunk / WORD));
    deal.each(chunks, |((gx, g), mask)| {
        if deal.is_far() {
            return copy_by_blocks(g, gx, |at, gx| masked(&mask[at / WORD..], gx));
        }
        saved_run(mask, g, gx);
        let whole = g.len() / WORD * WORD;
        gx[whole..].copy_from_slice(&g[whole..]);
        masked(&mask[whole / WORD..], &mut gx[whole..]);
    });
    Ok(())
}

/// The same, in the place of the upstream gradient.
///
/// # Errors
/// As [`clip_saving`].
pub fn saved_grad_in_place<T: Element>(mask: &[u64], g: &mut [T]) -> Result<()> {
    check_mask(g, mask)?;
    let deal = Deal::new::<T>(g.len());
    let chunks = g.chunks_mut(deal.chunk).zip(mask.chunks(deal.chunk / WORD));
    deal.each(chunks, |(g, mask)| masked(mask, g));
    Ok(())
}

/// Masks gradients where they are.
fn masked<T: Element>(mask: &[u64], g: &mut [T]) {
    saved_run_in_place(mask, g);
    let whole = g.len() / WORD * WORD;
    for (i, g) in g.iter_mut().enumerate().skip(whole) {
        *g = if mask[i / WORD] >> (i % WORD) & 1 == 1 { *g } else { T::ZERO };
    }
}

fn check_mask<T: Element>(x: &[T], mask: &[u64]) -> Result<()> {
    if mask.len() == mask_len(x.len()) {
        return Ok(());
    }
    Err(Error::ShapeMismatch { left: vec![mask_len(x.len())], right: vec![mask.len()] })
}
