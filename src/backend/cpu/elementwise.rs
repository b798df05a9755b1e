//! The operations that make one element of one or two, between bounds: the twins of the shaders of their names.
//!
//! An operation is a [`Map1`] of x or a [`Map2`] of x and g, and an arm of [`run`].

use std::sync::{Mutex, PoisonError};

use super::COMPACT;
use super::bound_source::{BoundSource, RunKernel, Splat, for_each_run};
use super::mask;
use super::operands::Typed;
use super::partition::{Partition, copy_then_apply};
use super::reduce::{BLOCK, accumulate};
use super::simd::vectorised;
use crate::broadcast::Side;
use crate::element::accum::Accumulator;
use crate::exact::{ExactSum, ReduceOp};
use crate::{BackwardRule, Element, NanRule, Op, OutsideRule, Result, TieRule};

/// An element of one operand, and its bounds.
pub(super) trait Map1<T>: Copy + Sync {
    fn map(self, x: T, lo: impl BoundSource<T>, hi: impl BoundSource<T>, i: usize) -> T;
}

/// An element of x and one of g, and their bounds.
trait Map2<T>: Copy + Sync {
    fn map<L: BoundSource<T>, H: BoundSource<T>>(self, x: T, g: T, lo: L, hi: H, i: usize) -> T;
}

/// Runs an operation over slices.
pub(super) fn run<T: Element>(op: Op, operands: &mut Typed<'_, T>) -> Result<()> {
    let (rule, half) = (operands.rule, operands.rule.ties == TieRule::Half);
    match op {
        // What is converted goes another way.
        Op::Clip | Op::ClipTo => operands.map1(Clip),
        Op::Affine => operands.affine(),
        Op::ClipBackward if half => operands.map2(ClipBackward::<true>::new(rule)),
        Op::ClipBackward => operands.map2(ClipBackward::<false>::new(rule)),
        Op::ClipBackwardBounds if half => operands.backward_bounds(ClipBackward::<true>::new(rule)),
        Op::ClipBackwardBounds => operands.backward_bounds(ClipBackward::<false>::new(rule)),
        Op::ClipWithMask => mask::clip_with_mask(operands),
        Op::MaskBackward => mask::mask_backward(operands),
    }
}

/// `max(x, lo)`: a NaN x is less than nothing and stays.
#[inline(always)]
pub(super) fn clamp_lo<T: Element, S: BoundSource<T>>(x: T, lo: S, i: usize) -> T {
    let lo = lo.at(i);
    if x.less(lo) | (S::NAN & lo.is_nan() & !x.is_nan()) { lo } else { x }
}

/// `min(x, hi)`.
#[inline(always)]
pub(super) fn clamp_hi<T: Element, S: BoundSource<T>>(x: T, hi: S, i: usize) -> T {
    let hi = hi.at(i);
    if hi.less(x) | (S::NAN & hi.is_nan() & !x.is_nan()) { hi } else { x }
}

#[derive(Clone, Copy)]
pub(super) struct Clip;

impl<T: Element> Map1<T> for Clip {
    #[inline(always)]
    fn map(self, x: T, lo: impl BoundSource<T>, hi: impl BoundSource<T>, i: usize) -> T {
        clamp_hi(clamp_lo(x, lo, i), hi, i)
    }
}

#[derive(Clone, Copy)]
struct Affine<A> {
    scale: A,
    offset: A,
}

impl<T: Element> Map1<T> for Affine<T::Accum> {
    #[inline(always)]
    fn map(self, x: T, _: impl BoundSource<T>, _: impl BoundSource<T>, _: usize) -> T {
        if x.is_nan() { x } else { T::from_accum(x.to_accum().mul(self.scale).add(self.offset)) }
    }
}

/// The gradient of x. Whether ties are halved is known when the loop is compiled.
#[derive(Clone, Copy)]
struct ClipBackward<const HALF: bool> {
    toward: bool,
    exclusive: bool,
    nan_zero: bool,
}

impl<const HALF: bool> ClipBackward<HALF> {
    fn new(rule: BackwardRule) -> Self {
        Self {
            toward: rule.outside == OutsideRule::Toward,
            exclusive: rule.ties == TieRule::Exclusive,
            nan_zero: rule.nan == NanRule::Zero,
        }
    }
}

impl<T: Element, const HALF: bool> Map2<T> for ClipBackward<HALF> {
    #[inline(always)]
    fn map<L: BoundSource<T>, H: BoundSource<T>>(self, x: T, g: T, lo: L, hi: H, i: usize) -> T {
        // The share of g that passes a bound; `inward`: the step -g moves back toward it.
        let through = |g: T, beyond: bool, tie: bool, inward: bool| {
            let outside = if self.toward & inward { g } else { T::ZERO };
            let inside = match HALF {
                true if tie => g.halve(),
                false if tie & self.exclusive => T::ZERO,
                _ => g,
            };
            if beyond { outside } else { inside }
        };
        let (l, h) = (lo.at(i), hi.at(i));
        let below = x.less(l);
        let t = if below { l } else { x };
        let to_t = through(g, h.less(t), hi.is_present() & t.equals(h), T::ZERO.less(g));
        let to_x = through(to_t, below, lo.is_present() & x.equals(l), to_t.less(T::ZERO));
        let to_x = if (L::NAN & l.is_nan()) | (H::NAN & h.is_nan()) { T::ZERO } else { to_x };
        let nan_grad = if self.nan_zero { T::ZERO } else { g };
        if x.is_nan() { nan_grad } else { to_x }
    }
}

/// The gradient of one bound at one element: the lower, or the upper if `HI`.
#[derive(Clone, Copy)]
struct BoundGrad<const HI: bool>(TieRule);

impl<T: Element, const HI: bool> Map2<T> for BoundGrad<HI> {
    #[inline(always)]
    fn map<L: BoundSource<T>, H: BoundSource<T>>(self, x: T, g: T, lo: L, hi: H, i: usize) -> T {
        // What the tensor side of a tie keeps, and what it leaves to the bound.
        let shares = |g: T| match self.0 {
            TieRule::Inclusive => (g, T::ZERO),
            TieRule::Exclusive => (T::ZERO, g),
            TieRule::Half => (g.halve(), g.halve_remainder()),
        };
        let (l, h) = (lo.at(i), hi.at(i));
        let (tie_share, bound_share) = shares(g);
        let t = clamp_lo(x, lo, i);
        let (above, ties_hi) = (h.less(t), hi.is_present() & t.equals(h));
        let to_t = if ties_hi { tie_share } else { g };
        let to_t = if above { T::ZERO } else { to_t };
        let to_hi = if ties_hi { bound_share } else { T::ZERO };
        let to_hi = if above { g } else { to_hi };
        let to_lo = if lo.is_present() & x.equals(l) { shares(to_t).1 } else { T::ZERO };
        let to_lo = if x.less(l) { to_t } else { to_lo };

        // The first NaN supplied the output.
        let (nan_lo, nan_hi) = (L::NAN & l.is_nan(), H::NAN & h.is_nan());
        let to_lo = if nan_hi { T::ZERO } else { to_lo };
        let to_hi = if nan_hi { g } else { to_hi };
        let to_lo = if nan_lo { g } else { to_lo };
        let to_hi = if nan_lo | x.is_nan() { T::ZERO } else { to_hi };
        let to_lo = if x.is_nan() { T::ZERO } else { to_lo };
        if HI { to_hi } else { to_lo }
    }
}

vectorised! {
    fn map1_run<T: Element, F: Map1<T>, L: BoundSource<T>, H: BoundSource<T>>(
        f: F,
        x: &[T],
        lo: L,
        hi: H,
        y: &mut [T],
    ) {
        let len = y.len();
        let (x, lo, hi) = (&x[..len], lo.part(0, len), hi.part(0, len));
        for i in 0..len {
            y[i] = f.map(x[i], lo, hi, i);
        }
    }

    fn map1_run_in_place<T: Element, F: Map1<T>, L: BoundSource<T>, H: BoundSource<T>>(
        f: F,
        x: &mut [T],
        lo: L,
        hi: H,
    ) {
        let (lo, hi) = (lo.part(0, x.len()), hi.part(0, x.len()));
        for (i, x) in x.iter_mut().enumerate() {
            *x = f.map(*x, lo, hi, i);
        }
    }

    fn map2_run<T: Element, F: Map2<T>, L: BoundSource<T>, H: BoundSource<T>>(
        f: F,
        x: &[T],
        g: &[T],
        lo: L,
        hi: H,
        out: &mut [T],
    ) {
        let len = out.len();
        let (x, g, lo, hi) = (&x[..len], &g[..len], lo.part(0, len), hi.part(0, len));
        for i in 0..len {
            out[i] = f.map(x[i], g[i], lo, hi, i);
        }
    }

    fn map2_run_in_place<T: Element, F: Map2<T>, L: BoundSource<T>, H: BoundSource<T>>(
        f: F,
        x: &[T],
        lo: L,
        hi: H,
        g: &mut [T],
    ) {
        let len = g.len();
        let (x, lo, hi) = (&x[..len], lo.part(0, len), hi.part(0, len));
        for i in 0..len {
            g[i] = f.map(x[i], g[i], lo, hi, i);
        }
    }
}

pub(super) struct Map1Run<'a, T, F> {
    pub f: F,
    /// Absent where y is overwritten.
    pub x: Option<&'a [T]>,
    pub y: &'a mut [T],
    pub exceeds_cache: bool,
}

impl<T: Element, F: Map1<T>> RunKernel<T> for Map1Run<'_, T, F> {
    fn run(&mut self, start: usize, len: usize, lo: impl BoundSource<T>, hi: impl BoundSource<T>) {
        let (f, y) = (self.f, &mut self.y[start..][..len]);
        match self.x.map(|x| &x[start..][..len]) {
            None => map1_run_in_place(f, y, lo, hi),
            Some(x) if !self.exceeds_cache && !COMPACT => map1_run(f, x, lo, hi, y),
            Some(x) => copy_then_apply(x, y, |at, y| {
                map1_run_in_place(f, y, lo.part(at, y.len()), hi.part(at, y.len()));
            }),
        }
    }
}

/// Maps x and g into `out`.
fn map2<T: Element, F: Map2<T>>(
    f: F,
    x: &[T],
    g: &[T],
    lo: impl BoundSource<T>,
    hi: impl BoundSource<T>,
    out: &mut [T],
) {
    if !COMPACT {
        return map2_run(f, x, g, lo, hi, out);
    }
    out.copy_from_slice(g);
    map2_run_in_place(f, x, lo, hi, out);
}

struct Map2Run<'a, T, F> {
    f: F,
    x: &'a [T],
    /// Absent where `out` is overwritten.
    g: Option<&'a [T]>,
    out: &'a mut [T],
}

impl<T: Element, F: Map2<T>> RunKernel<T> for Map2Run<'_, T, F> {
    fn run(&mut self, start: usize, len: usize, lo: impl BoundSource<T>, hi: impl BoundSource<T>) {
        let (f, x, out) = (self.f, &self.x[start..][..len], &mut self.out[start..][..len]);
        match self.g {
            Some(g) => map2(f, x, &g[start..][..len], lo, hi, out),
            None => map2_run_in_place(f, x, lo, hi, out),
        }
    }
}

/// Where the gradient of a bound goes.
enum BoundOutput<'a, T> {
    None,
    /// An element for each of x.
    Elements(&'a mut [T]),
    Sum(ExactSum),
}

impl<T: Element> BoundOutput<'_, T> {
    /// Takes in the gradients of a block that begins at `start`.
    fn take(&mut self, start: usize, len: usize, gradients: impl FnOnce(&mut [T])) {
        match self {
            Self::None => {}
            Self::Elements(elements) => gradients(&mut elements[start..][..len]),
            Self::Sum(sum) => {
                let mut block = [T::ZERO; BLOCK];
                gradients(&mut block[..len]);
                accumulate(sum, &block[..len]);
            }
        }
    }
}

/// All three gradients, block by block.
struct BackwardBoundsRun<'a, T, F> {
    f: F,
    ties: TieRule,
    x: &'a [T],
    g: &'a [T],
    gx: Option<&'a mut [T]>,
    glo: BoundOutput<'a, T>,
    ghi: BoundOutput<'a, T>,
}

impl<T: Element, F: Map2<T>> RunKernel<T> for BackwardBoundsRun<'_, T, F> {
    fn run(&mut self, start: usize, len: usize, lo: impl BoundSource<T>, hi: impl BoundSource<T>) {
        let (f, ties) = (self.f, self.ties);
        for at in (0..len).step_by(BLOCK) {
            let (start, len) = (start + at, BLOCK.min(len - at));
            let (x, g) = (&self.x[start..][..len], &self.g[start..][..len]);
            let (lo, hi) = (lo.part(at, len), hi.part(at, len));
            if let Some(gx) = &mut self.gx {
                map2(f, x, g, lo, hi, &mut gx[start..][..len]);
            }
            self.glo.take(start, len, |glo| map2(BoundGrad::<false>(ties), x, g, lo, hi, glo));
            self.ghi.take(start, len, |ghi| map2(BoundGrad::<true>(ties), x, g, lo, hi, ghi));
        }
    }
}

/// The chunks of an operand that may be missing.
pub(super) fn chunks<T>(operand: Option<&[T]>, size: usize) -> impl Iterator<Item = Option<&[T]>> {
    let present = operand.map(|operand| operand.chunks(size)).into_iter().flatten().map(Some);
    present.chain(std::iter::repeat_n(None, if operand.is_none() { usize::MAX } else { 0 }))
}

impl<T: Element> Typed<'_, T> {
    fn map1(&mut self, f: impl Map1<T>) -> Result<()> {
        let missing = self.missing();
        let (x, bounds, Some(y)) = (self.x, &self.bounds, &mut self.outputs[0]) else { return Err(missing) };
        let parts = Partition::new::<T>(y.len());
        let work = y.chunks_mut(parts.chunk).zip(chunks(x, parts.chunk)).enumerate();
        parts.for_each(work, |(n, (y, x))| {
            let (len, exceeds_cache) = (y.len(), parts.exceeds_cache());
            for_each_run(bounds, n * parts.chunk, len, &mut Map1Run { f, x, y, exceeds_cache });
        });
        Ok(())
    }

    fn map2(&mut self, f: impl Map2<T>) -> Result<()> {
        let missing = self.missing();
        let (g, bounds) = (self.g, &self.bounds);
        let (Some(x), Some(out)) = (self.x, &mut self.outputs[0]) else { return Err(missing) };
        let parts = Partition::new::<T>(x.len());
        let inputs = x.chunks(parts.chunk).zip(chunks(g, parts.chunk));
        parts.for_each(out.chunks_mut(parts.chunk).zip(inputs).enumerate(), |(n, (out, (x, g)))| {
            for_each_run(bounds, n * parts.chunk, x.len(), &mut Map2Run { f, x, g, out });
        });
        Ok(())
    }

    /// The gradients of x, by `f`, and of the bounds, as far as they are wanted, in one pass.
    fn backward_bounds(&mut self, f: impl Map2<T>) -> Result<()> {
        let (missing, ties) = (self.missing(), self.rule.ties);
        let (bounds, Some(x), Some(g)) = (&self.bounds, self.x, self.g) else { return Err(missing) };
        let parts = Partition::new::<T>(x.len());
        let [_, lo_sum, hi_sum] = self.sums;
        let [gx, glo, ghi] = self.outputs.each_mut().map(|output| {
            let present = output.as_deref_mut().map(|output| output.chunks_mut(parts.chunk));
            present.into_iter().flatten().map(Some).chain(std::iter::repeat_with(|| None))
        });
        let inputs = x.chunks(parts.chunk).zip(g.chunks(parts.chunk));
        parts.for_each(inputs.zip(gx.zip(glo).zip(ghi)).enumerate(), |(n, ((x, g), ((gx, glo), ghi)))| {
            let output = |elements, sum: &Option<Mutex<ExactSum>>| match (elements, sum) {
                (Some(elements), _) => BoundOutput::Elements(elements),
                (None, Some(_)) => BoundOutput::Sum(ExactSum::new(T::TYPE.layout().bits, ReduceOp::Sum)),
                (None, None) => BoundOutput::None,
            };
            let (glo, ghi) = (output(glo, lo_sum), output(ghi, hi_sum));
            let mut run = BackwardBoundsRun { f, ties, x, g, gx, glo, ghi };
            for_each_run(bounds, n * parts.chunk, x.len(), &mut run);
            for (part, sum) in [(run.glo, lo_sum), (run.ghi, hi_sum)] {
                if let (BoundOutput::Sum(part), Some(sum)) = (part, sum) {
                    sum.lock().unwrap_or_else(PoisonError::into_inner).merge(&part);
                }
            }
        });
        Ok(())
    }

    /// Without bounds, of which there is one kind only to compile.
    fn affine(&mut self) -> Result<()> {
        let missing = self.missing();
        let (x, Some(y)) = (self.x, &mut self.outputs[0]) else { return Err(missing) };
        let [Some(scale), Some(offset)] = self.scalars.map(T::Accum::factor) else { return Err(missing) };
        let (f, lo, hi) = (Affine { scale, offset }, Splat::absent(Side::Lo), Splat::absent(Side::Hi));
        let parts = Partition::new::<T>(y.len());
        let work = y.chunks_mut(parts.chunk).zip(chunks(x, parts.chunk));
        parts.for_each(work, |(y, x)| {
            let len = y.len();
            Map1Run { f, x, y, exceeds_cache: parts.exceeds_cache() }.run(0, len, lo, hi);
        });
        Ok(())
    }
}
