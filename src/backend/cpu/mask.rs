//! Clip with a mask of what the gradient passes, and the gradient by that mask: the twins of
//! `shaders/clip_with_mask.wgsl` and `shaders/mask_backward.wgsl`. Bit `i` of a mask belongs to element `i`.

use bytemuck::{Pod, cast_slice, cast_slice_mut};

use super::COMPACT;
use super::bound_source::{BoundSource, for_each_run, with_bounds};
use super::clip::clip;
use super::operands::{Operands, WORD};
use super::partition::{Partition, copy_then_apply};
use super::simd::vectorised;
use crate::element::lane::{Lane, with_bits, with_lane};
use crate::{NanRule, TieRule};

/// The part of a rule that one bit can represent.
#[derive(Clone, Copy)]
struct Rule {
    exclusive: bool,
    nan_zero: bool,
}

/// Whether the gradient of an element reaches x.
#[inline(always)]
fn passes<L: Lane, B: BoundSource<L>>(x: L, bounds: B, i: usize, rule: Rule, format: L::Format) -> bool {
    let ([lo, hi], [has_lo, has_hi]) = (bounds.at(i), bounds.present());
    let ties = (has_lo & x.equals(lo, format)) | (has_hi & x.equals(hi, format));
    let nan = B::NAN & (lo.is_nan(format) | hi.is_nan(format));
    let stopped = x.less(lo, format) | hi.less(x, format) | (rule.exclusive & ties) | nan;
    if x.is_nan(format) { !rule.nan_zero } else { !stopped }
}

vectorised! {
    /// Clips whole words of elements.
    fn clip_with_mask_words<L: Lane, B: BoundSource<L>>(
        x: &[L],
        bounds: B,
        rule: Rule,
        format: L::Format,
        y: &mut [L],
        mask: &mut [u64],
    ) {
        let (x, y) = (x.as_chunks::<WORD>().0, y.as_chunks_mut::<WORD>().0);
        for (n, ((x, y), word)) in x.iter().zip(y).zip(mask).enumerate() {
            let bounds = bounds.part(n * WORD, WORD);
            // In halves, which the compiler builds from compared vectors.
            let mut halves = [0u32; 2];
            for (half, bits) in halves.iter_mut().enumerate() {
                for i in 0..WORD / 2 {
                    let at = half * WORD / 2 + i;
                    *bits |= u32::from(passes(x[at], bounds, at, rule, format)) << i;
                }
            }
            *word = u64::from(halves[1]) << 32 | u64::from(halves[0]);
            for i in 0..WORD {
                y[i] = clip(x[i], bounds, i, format);
            }
        }
    }

    /// Masks whole words of elements, which are selected by their bits.
    fn mask_words<B: Pod>(mask: &[u64], g: &[B], gx: &mut [B]) {
        let (g, gx) = (g.as_chunks::<WORD>().0, gx.as_chunks_mut::<WORD>().0);
        for ((g, gx), &word) in g.iter().zip(gx).zip(mask) {
            for i in 0..WORD {
                gx[i] = if word >> i & 1 == 1 { g[i] } else { B::zeroed() };
            }
        }
    }

    fn mask_words_in_place<B: Pod>(mask: &[u64], g: &mut [B]) {
        for (g, &word) in g.as_chunks_mut::<WORD>().0.iter_mut().zip(mask) {
            for (i, g) in g.iter_mut().enumerate() {
                if word >> i & 1 == 0 {
                    *g = B::zeroed();
                }
            }
        }
    }
}

/// Clips x into y, and writes into the mask whether the gradient of each element reaches x.
pub(super) fn clip_with_mask(operands: &Operands<'_>, x: &[u8], y: &mut [u8], mask: &mut [u64]) {
    let element = operands.element;
    let parts = Partition::new(element.size(), operands.len);
    let bytes = parts.chunk * element.size();
    let outputs = y.chunks_mut(bytes).zip(mask.chunks_mut(parts.chunk / WORD));
    let mut chunks = x.chunks(bytes).zip(outputs).enumerate();
    parts.for_each(&mut chunks, &|(n, (x, (y, mask)))| {
        let start = n * parts.chunk;
        with_lane!(element, L => clip_elements::<L>(operands, start, cast_slice(x), cast_slice_mut(y), mask));
    });
}

/// Clips elements with the bounds from `start` on.
fn clip_elements<L: Lane>(operands: &Operands<'_>, start: usize, x: &[L], y: &mut [L], mask: &mut [u64]) {
    let rule = Rule {
        exclusive: operands.rule.ties == TieRule::Exclusive,
        nan_zero: operands.rule.nan == NanRule::Zero,
    };
    let format = L::format(operands.element.layout());
    for_each_run(operands.broadcast, (start, x.len()), &mut |start, len, bounds| {
        with_bounds!(bounds, bounds => {
            // A run may begin and end within a word: its whole words take the fast path.
            let end = start + len;
            let first = start.next_multiple_of(WORD).min(end);
            let last = first + (end - first) / WORD * WORD;
            for i in (start..first).chain(last..end) {
                y[i] = clip(x[i], bounds, i - start, format);
                let passes = passes(x[i], bounds, i - start, rule, format);
                let word = &mut mask[i / WORD];
                *word = *word & !(1 << (i % WORD)) | u64::from(passes) << (i % WORD);
            }
            let (whole, bounds) = (first..last, bounds.part(first - start, last - first));
            let (x, y) = (&x[whole.clone()], &mut y[whole]);
            clip_with_mask_words(x, bounds, rule, format, y, &mut mask[first / WORD..]);
        });
    });
}

/// The gradient that reaches x: g where the mask bit is set, else zero. In place if g is missing.
pub(super) fn mask_backward(operands: &Operands<'_>, mask: &[u64], gx: &mut [u8]) {
    let element = operands.element;
    let parts = Partition::new(element.size(), operands.len);
    parts.for_each_chunk(gx, element.size(), &|start, gx| {
        let (g, mask) = (operands.g.map(|g| &g[start * element.size()..][..gx.len()]), &mask[start / WORD..]);
        with_bits!(element, B => {
            mask_elements::<B>(mask, g.map(cast_slice), cast_slice_mut(gx), parts.exceeds_cache())
        });
    });
}

fn mask_elements<B: Pod>(mask: &[u64], g: Option<&[B]>, gx: &mut [B], exceeds_cache: bool) {
    match g {
        Some(g) if !COMPACT && !exceeds_cache => {
            mask_words(mask, g, gx);
            let whole = g.len() / WORD * WORD;
            gx[whole..].copy_from_slice(&g[whole..]);
            mask_in_place(&mask[whole / WORD..], &mut gx[whole..]);
        }
        g => copy_then_apply(g, gx, &mut |at, gx| mask_in_place(&mask[at / WORD..], gx)),
    }
}

/// Masks gradients in place.
fn mask_in_place<B: Pod>(mask: &[u64], g: &mut [B]) {
    mask_words_in_place(mask, g);
    let whole = g.len() / WORD * WORD;
    for (i, g) in g.iter_mut().enumerate().skip(whole) {
        *g = if mask[i / WORD] >> (i % WORD) & 1 == 1 { *g } else { B::zeroed() };
    }
}
