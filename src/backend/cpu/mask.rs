//! Clip with a mask of what the gradient passes, and the gradient by that mask: the twins of
//! `shaders/clip_with_mask.wgsl` and `shaders/mask_backward.wgsl`. Bit `i` of a mask belongs to element `i`.

use super::COMPACT;
use super::bound_source::{BoundSource, RunKernel, for_each_run};
use super::elementwise::{chunks, clamp_hi, clamp_lo};
use super::operands::Typed;
use super::partition::{Partition, copy_then_apply};
use super::simd::vectorised;
use crate::{Element, NanRule, Result, TieRule};

/// Bits of a word of a mask.
const WORD: usize = u64::BITS as usize;

/// Words of the mask of `len` elements.
pub fn mask_len(len: usize) -> usize {
    len.div_ceil(WORD)
}

/// What one bit can tell of a rule.
#[derive(Clone, Copy)]
struct Rule {
    exclusive: bool,
    nan_zero: bool,
}

/// Whether the gradient of an element reaches x.
#[inline(always)]
fn passes<T: Element, L: BoundSource<T>, H: BoundSource<T>>(
    x: T,
    lo: L,
    hi: H,
    i: usize,
    rule: Rule,
) -> bool {
    let (l, h) = (lo.at(i), hi.at(i));
    let ties = (lo.is_present() & x.equals(l)) | (hi.is_present() & x.equals(h));
    let nan = (L::NAN & l.is_nan()) | (H::NAN & h.is_nan());
    let stopped = x.less(l) | h.less(x) | (rule.exclusive & ties) | nan;
    if x.is_nan() { !rule.nan_zero } else { !stopped }
}

vectorised! {
    /// Clips whole words of elements.
    fn clip_with_mask_run<T: Element, L: BoundSource<T>, H: BoundSource<T>>(
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
                y[i] = clamp_hi(clamp_lo(x[i], lo, i), hi, i);
            }
        }
    }

    /// Masks whole words of elements.
    fn mask_backward_run<T: Element>(mask: &[u64], g: &[T], gx: &mut [T]) {
        let (g, gx) = (g.as_chunks::<WORD>().0, gx.as_chunks_mut::<WORD>().0);
        for ((g, gx), &word) in g.iter().zip(gx).zip(mask) {
            for i in 0..WORD {
                gx[i] = if word >> i & 1 == 1 { g[i] } else { T::ZERO };
            }
        }
    }

    fn mask_backward_run_in_place<T: Element>(mask: &[u64], g: &mut [T]) {
        for (g, &word) in g.as_chunks_mut::<WORD>().0.iter_mut().zip(mask) {
            for (i, g) in g.iter_mut().enumerate() {
                *g = if word >> i & 1 == 1 { *g } else { T::ZERO };
            }
        }
    }
}

struct ClipWithMask<'a, T> {
    x: &'a [T],
    y: &'a mut [T],
    mask: &'a mut [u64],
    rule: Rule,
}

impl<T: Element> RunKernel<T> for ClipWithMask<'_, T> {
    /// A run may begin and end within a word: what is of whole words goes the fast way.
    fn run(&mut self, start: usize, len: usize, lo: impl BoundSource<T>, hi: impl BoundSource<T>) {
        let end = start + len;
        let first = start.next_multiple_of(WORD).min(end);
        let last = first + (end - first) / WORD * WORD;
        for i in (start..first).chain(last..end) {
            self.y[i] = clamp_hi(clamp_lo(self.x[i], lo, i - start), hi, i - start);
            let passes = passes(self.x[i], lo, hi, i - start, self.rule);
            let word = &mut self.mask[i / WORD];
            *word = *word & !(1 << (i % WORD)) | u64::from(passes) << (i % WORD);
        }
        let whole = first..last;
        let (lo, hi) = (lo.part(first - start, whole.len()), hi.part(first - start, whole.len()));
        let (x, y) = (&self.x[whole.clone()], &mut self.y[whole]);
        clip_with_mask_run(x, lo, hi, self.rule, y, &mut self.mask[first / WORD..]);
    }
}

/// Clips x into y, and writes into the mask whether the gradient of each element reaches x.
pub(super) fn clip_with_mask<T: Element>(operands: &mut Typed<'_, T>) -> Result<()> {
    let missing = operands.missing();
    let rule = Rule {
        exclusive: operands.rule.ties == TieRule::Exclusive,
        nan_zero: operands.rule.nan == NanRule::Zero,
    };
    let (Some(x), bounds, Some(y), Some(mask)) =
        (operands.x, &operands.bounds, &mut operands.outputs[0], &mut operands.mask_output)
    else {
        return Err(missing);
    };
    let parts = Partition::new::<T>(x.len());
    let outputs = y.chunks_mut(parts.chunk).zip(mask.chunks_mut(parts.chunk / WORD));
    parts.for_each(x.chunks(parts.chunk).zip(outputs).enumerate(), |(n, (x, (y, mask)))| {
        for_each_run(bounds, n * parts.chunk, x.len(), &mut ClipWithMask { x, y, mask, rule });
    });
    Ok(())
}

/// The gradient that reaches x: g where the mask says so, else zero.
pub(super) fn mask_backward<T: Element>(operands: &mut Typed<'_, T>) -> Result<()> {
    let missing = operands.missing();
    let (g, Some(mask), Some(gx)) = (operands.g, operands.mask, &mut operands.outputs[0]) else {
        return Err(missing);
    };
    let parts = Partition::new::<T>(gx.len());
    let work = gx.chunks_mut(parts.chunk).zip(chunks(g, parts.chunk)).zip(mask.chunks(parts.chunk / WORD));
    parts.for_each(work, |((gx, g), mask)| match g {
        None => apply(mask, gx),
        Some(g) if COMPACT || parts.exceeds_cache() => {
            copy_then_apply(g, gx, |at, gx| apply(&mask[at / WORD..], gx))
        }
        Some(g) => {
            mask_backward_run(mask, g, gx);
            let whole = g.len() / WORD * WORD;
            gx[whole..].copy_from_slice(&g[whole..]);
            apply(&mask[whole / WORD..], &mut gx[whole..]);
        }
    });
    Ok(())
}

/// Masks gradients where they are.
fn apply<T: Element>(mask: &[u64], g: &mut [T]) {
    mask_backward_run_in_place(mask, g);
    let whole = g.len() / WORD * WORD;
    for (i, g) in g.iter_mut().enumerate().skip(whole) {
        *g = if mask[i / WORD] >> (i % WORD) & 1 == 1 { *g } else { T::ZERO };
    }
}
