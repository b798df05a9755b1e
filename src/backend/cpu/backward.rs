//! The backward pass to x and to the bounds: the twin of `shaders/clip_backward.wgsl` and `clip_backward_bounds.wgsl`.

use std::sync::PoisonError;

use bytemuck::{cast_slice, cast_slice_mut};

#[cfg(not(target_arch = "wasm32"))]
use super::bound_source::RunBounds;
use super::bound_source::{BoundSource, for_each_block, for_each_run, with_bounds};
use super::clip::clamp_lo;
use super::operands::{Operands, Sums};
use super::partition::{Partition, copy_then_apply};
use super::reduce::{self, accumulate};
use super::simd::vectorised;
use crate::element::lane::{Lane, with_lane};
use crate::norm::exact::{ExactSum, ReduceOp};
use crate::{BackwardRule, ElementType, NanRule, OutsideRule, TieRule};

/// A rule, without halves: whether ties are halved is known when a loop is compiled.
#[derive(Clone, Copy)]
struct Rule {
    toward: bool,
    exclusive: bool,
    nan_zero: bool,
}

impl From<BackwardRule> for Rule {
    fn from(rule: BackwardRule) -> Self {
        Self {
            toward: rule.outside == OutsideRule::Toward,
            exclusive: rule.ties == TieRule::Exclusive,
            nan_zero: rule.nan == NanRule::Zero,
        }
    }
}

/// The gradient of x at element `i`.
#[inline(always)]
fn gradient<L: Lane, B: BoundSource<L>, const HALF: bool>(
    [x, g]: [L; 2],
    bounds: B,
    i: usize,
    rule: Rule,
    format: L::Format,
) -> L {
    // The share of g that passes a bound; `inward`: the step -g moves back toward it.
    let through = |g: L, beyond: bool, tie: bool, inward: bool| {
        let outside = if rule.toward & inward { g } else { L::ZERO };
        let inside = match HALF {
            true if tie => g.halve(format),
            false if tie & rule.exclusive => L::ZERO,
            _ => g,
        };
        if beyond { outside } else { inside }
    };
    let ([lo, hi], [has_lo, has_hi]) = (bounds.at(i), bounds.present());
    let below = x.less(lo, format);
    let t = if below { lo } else { x };
    let to_t = through(g, hi.less(t, format), has_hi & t.equals(hi, format), L::ZERO.less(g, format));
    let to_x = through(to_t, below, has_lo & x.equals(lo, format), to_t.less(L::ZERO, format));
    let bound_is_nan = B::NAN & (lo.is_nan(format) | hi.is_nan(format));
    let to_x = if bound_is_nan { L::ZERO } else { to_x };
    let nan_grad = if rule.nan_zero { L::ZERO } else { g };
    if x.is_nan(format) { nan_grad } else { to_x }
}

/// The gradient of a bound at element `i`: of the upper one if `HI`.
#[inline(always)]
fn bound_gradient<L: Lane, B: BoundSource<L>, const HI: bool, const HALF: bool>(
    [x, g]: [L; 2],
    bounds: B,
    i: usize,
    exclusive: bool,
    format: L::Format,
) -> L {
    // The share of a tie that the tensor side keeps, and the bound's.
    let shares = |g: L| match HALF {
        true => (g.halve(format), g.halve_remainder(format)),
        false if exclusive => (L::ZERO, g),
        false => (g, L::ZERO),
    };
    let ([lo, hi], [has_lo, has_hi]) = (bounds.at(i), bounds.present());
    let (tie_share, bound_share) = shares(g);
    let t = clamp_lo(x, lo, format, bounds);
    let (above, ties_hi) = (hi.less(t, format), has_hi & t.equals(hi, format));
    let to_t = if ties_hi { tie_share } else { g };
    let to_t = if above { L::ZERO } else { to_t };
    let to_hi = if ties_hi { bound_share } else { L::ZERO };
    let to_hi = if above { g } else { to_hi };
    let to_lo = if has_lo & x.equals(lo, format) { shares(to_t).1 } else { L::ZERO };
    let to_lo = if x.less(lo, format) { to_t } else { to_lo };

    // The first NaN supplied the output.
    let (nan_lo, nan_hi) = (B::NAN & lo.is_nan(format), B::NAN & hi.is_nan(format));
    let to_lo = if nan_hi { L::ZERO } else { to_lo };
    let to_hi = if nan_hi { g } else { to_hi };
    let to_lo = if nan_lo { g } else { to_lo };
    let to_hi = if nan_lo | x.is_nan(format) { L::ZERO } else { to_hi };
    let to_lo = if x.is_nan(format) { L::ZERO } else { to_lo };
    if HI { to_hi } else { to_lo }
}

#[cfg(not(target_arch = "wasm32"))]
vectorised! {
    fn gradients_into<L: Lane, B: BoundSource<L>>(
        x: &[L],
        g: &[L],
        bounds: B,
        rule: Rule,
        format: L::Format,
        gx: &mut [L],
    ) {
        let len = gx.len();
        let (x, g, bounds) = (&x[..len], &g[..len], bounds.part(0, len));
        for i in 0..len {
            gx[i] = gradient::<L, B, false>([x[i], g[i]], bounds, i, rule, format);
        }
    }
}

vectorised! {
    fn gradients_in_place<L: Lane, B: BoundSource<L>, const HALF: bool>(
        x: &[L],
        bounds: B,
        rule: Rule,
        format: L::Format,
        g: &mut [L],
    ) {
        let len = g.len();
        let (x, bounds) = (&x[..len], bounds.part(0, len));
        for i in 0..len {
            g[i] = gradient::<L, B, HALF>([x[i], g[i]], bounds, i, rule, format);
        }
    }

    fn bound_gradients_in_place<L: Lane, B: BoundSource<L>, const HI: bool, const HALF: bool>(
        x: &[L],
        bounds: B,
        exclusive: bool,
        format: L::Format,
        g: &mut [L],
    ) {
        let len = g.len();
        let (x, bounds) = (&x[..len], bounds.part(0, len));
        for i in 0..len {
            g[i] = bound_gradient::<L, B, HI, HALF>([x[i], g[i]], bounds, i, exclusive, format);
        }
    }
}

/// The gradient that reaches x, over the upstream gradient if g is missing.
pub(super) fn run(operands: &Operands<'_>, x: &[u8], gx: &mut [u8]) {
    let element = operands.element;
    let parts = Partition::new(element.size(), operands.len);
    parts.for_each_chunk(gx, element.size(), &|start, gx| {
        let from = start * element.size();
        let (x, g) = (&x[from..][..gx.len()], operands.g.map(|g| &g[from..][..gx.len()]));
        with_lane!(element, L => gradients::<L>(operands, start, x, g, gx));
    });
}

/// The gradients of elements with the bounds from `start` on.
fn gradients<L: Lane>(operands: &Operands<'_>, start: usize, x: &[u8], g: Option<&[u8]>, gx: &mut [u8]) {
    let (x, g, gx): (&[L], Option<&[L]>, &mut [L]) = (cast_slice(x), g.map(cast_slice), cast_slice_mut(gx));
    let (rule, format) = (Rule::from(operands.rule), L::format(operands.element.layout()));
    if operands.rule.ties == TieRule::Half {
        return for_each_block(operands.broadcast, (start, gx.len()), &mut |at, len, bounds| {
            let (x, gx) = (&x[at..][..len], &mut gx[at..][..len]);
            copy_then_apply(g.map(|g| &g[at..][..len]), gx, &mut |at, gx| {
                gradients_in_place::<L, _, true>(&x[at..], bounds.part(at, gx.len()), rule, format, gx);
            });
        });
    }
    for_each_run(operands.broadcast, (start, gx.len()), &mut |at, len, bounds| {
        let (x, g, gx) = (&x[at..][..len], g.map(|g| &g[at..][..len]), &mut gx[at..][..len]);
        #[cfg(not(target_arch = "wasm32"))]
        if let (Some(g), RunBounds::Splats(bounds)) = (g, &bounds) {
            return gradients_into(x, g, *bounds, rule, format, gx);
        }
        with_bounds!(bounds, bounds => copy_then_apply(g, gx, &mut |at, gx| {
            gradients_in_place::<L, _, false>(&x[at..], bounds.part(at, gx.len()), rule, format, gx);
        }));
    });
}

/// The gradients of x and of the bounds that have an output, in one pass. Summed gradients without one are added up.
pub(super) fn run_bounds(
    operands: &Operands<'_>,
    [x, g]: [&[u8]; 2],
    outputs: [Option<&mut [u8]>; 3],
    sums: &Sums,
) {
    let element = operands.element;
    let parts = Partition::new(element.size(), operands.len);
    let bytes = parts.chunk * element.size();
    let [mut gx, mut glo, mut ghi] = outputs.map(|output| {
        let present = output.map(|output| output.chunks_mut(bytes));
        present.into_iter().flatten().map(Some).chain(std::iter::repeat_with(|| None))
    });
    let mut inputs = x.chunks(bytes).zip(g.chunks(bytes)).enumerate();
    let mut chunks = std::iter::from_fn(|| {
        let (n, inputs) = inputs.next()?;
        Some((n * parts.chunk, inputs, [gx.next()?, glo.next()?, ghi.next()?]))
    });
    parts.for_each(&mut chunks, &|(start, (x, g), outputs)| {
        with_lane!(element, L => bound_gradients::<L>(operands, start, [x, g], outputs, sums));
    });
}

/// Gradients of a bound that are added up.
struct Pending<L> {
    sum: ExactSum,
    /// As many as [`accumulate`] takes at once.
    gradients: Vec<L>,
    len: usize,
}

impl<L: Lane> Pending<L> {
    /// Makes room for more. [`flush`](Self::flush) adds up the last ones.
    fn room(&mut self, element: ElementType, len: usize) -> &mut [L] {
        if self.len + len > reduce::BLOCK {
            self.flush(element);
        }
        self.len += len;
        &mut self.gradients[self.len - len..self.len]
    }

    fn flush(&mut self, element: ElementType) {
        accumulate(&mut self.sum, element, cast_slice(&self.gradients[..self.len]));
        self.len = 0;
    }
}

/// The gradients of elements with the bounds from `start` on.
fn bound_gradients<L: Lane>(
    operands: &Operands<'_>,
    start: usize,
    [x, g]: [&[u8]; 2],
    outputs: [Option<&mut [u8]>; 3],
    sums: &Sums,
) {
    let [gx, glo, ghi] = outputs.map(|output| output.map(cast_slice_mut));
    let pending = [&sums[1], &sums[2]].map(|sum| {
        let new = || ExactSum::new(operands.element.layout().bits, ReduceOp::Sum);
        sum.as_ref().map(|_| Pending { sum: new(), gradients: vec![L::ZERO; reduce::BLOCK], len: 0 })
    });
    let mut run =
        BoundGradients { operands, x: cast_slice(x), g: cast_slice(g), gx, of_bounds: [glo, ghi], pending };
    let range = (start, run.x.len());
    match operands.rule.ties {
        TieRule::Half => for_each_block(operands.broadcast, range, &mut |at, len, bounds| {
            run.run::<_, true>(at, len, bounds);
        }),
        _ => for_each_run(operands.broadcast, range, &mut |at, len, bounds| {
            with_bounds!(bounds, bounds => run.run::<_, false>(at, len, bounds));
        }),
    }
    for (pending, sum) in run.pending.into_iter().zip(&sums[1..]) {
        if let (Some(mut pending), Some(sum)) = (pending, sum) {
            pending.flush(operands.element);
            sum.lock().unwrap_or_else(PoisonError::into_inner).merge(&pending.sum);
        }
    }
}

/// The operands of a chunk, and where its gradients go.
struct BoundGradients<'a, L> {
    operands: &'a Operands<'a>,
    x: &'a [L],
    g: &'a [L],
    gx: Option<&'a mut [L]>,
    of_bounds: [Option<&'a mut [L]>; 2],
    /// Present for a gradient that is summed and not written.
    pending: [Option<Pending<L>>; 2],
}

impl<L: Lane> BoundGradients<'_, L> {
    /// The gradients of `len` elements from `start`, counted in the chunk, block by block: each gradient begins as a copy of g.
    fn run<B: BoundSource<L>, const HALF: bool>(&mut self, start: usize, len: usize, bounds: B) {
        let element = self.operands.element;
        let (rule, format) = (Rule::from(self.operands.rule), L::format(element.layout()));
        for offset in (0..len).step_by(reduce::BLOCK) {
            let (at, len) = (start + offset, reduce::BLOCK.min(len - offset));
            let (x, g, bounds) = (&self.x[at..][..len], &self.g[at..][..len], bounds.part(offset, len));
            if let Some(gx) = &mut self.gx {
                let gx = &mut gx[at..][..len];
                gx.copy_from_slice(g);
                gradients_in_place::<L, B, HALF>(x, bounds, rule, format, gx);
            }
            for (n, (output, pending)) in self.of_bounds.iter_mut().zip(&mut self.pending).enumerate() {
                let gradients = match (output, pending) {
                    (Some(elements), _) => &mut elements[at..][..len],
                    (None, Some(pending)) => pending.room(element, len),
                    (None, None) => continue,
                };
                gradients.copy_from_slice(g);
                let of_bound = match n {
                    0 => bound_gradients_in_place::<L, B, false, HALF>,
                    _ => bound_gradients_in_place::<L, B, true, HALF>,
                };
                of_bound(x, bounds, rule.exclusive, format, gradients);
            }
        }
    }
}
