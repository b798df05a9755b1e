//! The backward pass: the twin of `shaders/clip_grad.wgsl`.

use rayon::prelude::*;

use super::clip::lower;
use super::parallel::{CHUNK, Source, Work, visit};
use super::{check_bounds, check_len};
use crate::bounds::Interval;
use crate::{Element, Gradient, NanGradient, Outside, Result, Ties};

/// What a rule comes to, for one element; [`Ties`] are told by the loop.
#[derive(Clone, Copy)]
struct Rule {
    toward: bool,
    nan_zero: bool,
}

impl From<Gradient> for Rule {
    fn from(rule: Gradient) -> Self {
        Self { toward: rule.outside == Outside::Toward, nan_zero: rule.nan == NanGradient::Zero }
    }
}

/// The gradient of one element: `tied` gives the tensor side's share of a tie.
#[inline(always)]
fn to_x<T: Element, L: Source<T>, H: Source<T>>(
    (x, g): (T, T),
    (lo, hi): (L, H),
    i: usize,
    rule: Rule,
    tied: impl Fn(T) -> T,
) -> T {
    // The share of g that passes a bound; `inward`: the step -g moves back toward it.
    let through = |g: T, beyond: bool, tie: bool, inward: bool| {
        let outside = if rule.toward & inward { g } else { T::ZERO };
        let inside = if tie { tied(g) } else { g };
        if beyond { outside } else { inside }
    };
    let (l, h) = (lo.at(i), hi.at(i));
    let t = if L::PRESENT & (x < l) { l } else { x };
    let to_t = through(g, H::PRESENT & (t > h), H::PRESENT & (t == h), g > T::ZERO);
    let to_x = through(to_t, L::PRESENT & (x < l), L::PRESENT & (x == l), to_t < T::ZERO);
    let to_x = if (L::NAN & l.is_nan()) | (H::NAN & h.is_nan()) { T::ZERO } else { to_x };
    let of_nan = if rule.nan_zero { T::ZERO } else { g };
    if x.is_nan() { of_nan } else { to_x }
}

/// The gradients of both bounds at one element: `tied` and `left` give the two shares of a tie.
#[inline(always)]
fn to_bounds<T: Element, L: Source<T>, H: Source<T>>(
    (x, g): (T, T),
    (lo, hi): (L, H),
    i: usize,
    tied: impl Fn(T) -> T,
    left: impl Fn(T) -> T,
) -> [T; 2] {
    let (l, h) = (lo.at(i), hi.at(i));
    // The first NaN supplied the output.
    if x.is_nan() {
        return [T::ZERO, T::ZERO];
    }
    if L::NAN & l.is_nan() {
        return [g, T::ZERO];
    }
    if H::NAN & h.is_nan() {
        return [T::ZERO, g];
    }
    let t = lower(x, lo, i);
    let (above, ties_hi) = (H::PRESENT & (t > h), H::PRESENT & (t == h));
    let to_hi = if above {
        g
    } else if ties_hi {
        left(g)
    } else {
        T::ZERO
    };
    let to_t = if above {
        T::ZERO
    } else if ties_hi {
        tied(g)
    } else {
        g
    };
    let (below, ties_lo) = (L::PRESENT & (x < l), L::PRESENT & (x == l));
    let to_lo = if below {
        to_t
    } else if ties_lo {
        left(to_t)
    } else {
        T::ZERO
    };
    [to_lo, to_hi]
}

struct Backward<'a, T, F> {
    x: &'a [T],
    g: &'a [T],
    gx: &'a mut [T],
    rule: Rule,
    tied: F,
}

impl<T: Element, F: Fn(T) -> T + Copy> Work<T> for Backward<'_, T, F> {
    fn run(&mut self, start: usize, len: usize, lo: impl Source<T>, hi: impl Source<T>) {
        let (x, g) = (&self.x[start..][..len], &self.g[start..][..len]);
        let (gx, rule, tied) = (&mut self.gx[start..][..len], self.rule, self.tied);
        let (lo, hi) = (lo.first(len), hi.first(len));
        for i in 0..len {
            gx[i] = to_x((x[i], g[i]), (lo, hi), i, rule, tied);
        }
    }
}

struct BackwardInPlace<'a, T, F> {
    x: &'a [T],
    g: &'a mut [T],
    rule: Rule,
    tied: F,
}

impl<T: Element, F: Fn(T) -> T + Copy> Work<T> for BackwardInPlace<'_, T, F> {
    fn run(&mut self, start: usize, len: usize, lo: impl Source<T>, hi: impl Source<T>) {
        let (x, g, rule, tied) = (&self.x[start..][..len], &mut self.g[start..][..len], self.rule, self.tied);
        let (lo, hi) = (lo.first(len), hi.first(len));
        for i in 0..len {
            g[i] = to_x((x[i], g[i]), (lo, hi), i, rule, tied);
        }
    }
}

/// All three gradients, those of the bounds not yet summed. One that nobody wants is empty.
struct FullBackward<'a, T> {
    x: &'a [T],
    g: &'a [T],
    gx: &'a mut [T],
    glo: &'a mut [T],
    ghi: &'a mut [T],
    rule: Gradient,
}

impl<T: Element> Work<T> for FullBackward<'_, T> {
    fn run(&mut self, start: usize, len: usize, lo: impl Source<T>, hi: impl Source<T>) {
        match self.rule.ties {
            Ties::Inclusive => self.share(start, len, lo, hi, |g| g, |_| T::ZERO),
            Ties::Exclusive => self.share(start, len, lo, hi, |_| T::ZERO, |g| g),
            Ties::Half => self.share(start, len, lo, hi, T::halve, T::other_half),
        }
    }
}

impl<T: Element> FullBackward<'_, T> {
    #[inline(always)]
    fn share(
        &mut self,
        start: usize,
        len: usize,
        lo: impl Source<T>,
        hi: impl Source<T>,
        tied: impl Fn(T) -> T + Copy,
        left: impl Fn(T) -> T + Copy,
    ) {
        let rule = self.rule.into();
        for i in 0..len {
            let at = (self.x[start + i], self.g[start + i]);
            let [to_lo, to_hi] = to_bounds(at, (lo, hi), i, tied, left);
            if let Some(gx) = self.gx.get_mut(start + i) {
                *gx = to_x(at, (lo, hi), i, rule, tied);
            }
            if let Some(glo) = self.glo.get_mut(start + i) {
                *glo = to_lo;
            }
            if let Some(ghi) = self.ghi.get_mut(start + i) {
                *ghi = to_hi;
            }
        }
    }
}

/// The gradient that reaches `x`, of the upstream gradient `g`, into `gx`.
///
/// # Errors
/// As [`clip`](super::clip).
pub fn clip_grad<T: Element>(
    x: &[T],
    g: &[T],
    bounds: &Interval<T, &[T]>,
    rule: Gradient,
    gx: &mut [T],
) -> Result<()> {
    check_len(x, g)?;
    check_bounds(x, bounds)?;
    check_len(x, gx)?;
    // The rule is the same for every element, so each tie has a loop of its own that vectorises.
    match (rule.outside, rule.ties) {
        (Outside::StraightThrough, _) => gx.copy_from_slice(g),
        (_, Ties::Inclusive) => backward(x, g, bounds, rule.into(), |g| g, gx),
        (_, Ties::Exclusive) => backward(x, g, bounds, rule.into(), |_| T::ZERO, gx),
        (_, Ties::Half) => backward(x, g, bounds, rule.into(), T::halve, gx),
    }
    Ok(())
}

fn backward<T: Element>(
    x: &[T],
    g: &[T],
    bounds: &Interval<T, &[T]>,
    rule: Rule,
    tied: impl Fn(T) -> T + Copy + Send + Sync,
    gx: &mut [T],
) {
    let inputs = x.par_chunks(CHUNK).zip(g.par_chunks(CHUNK));
    gx.par_chunks_mut(CHUNK).zip(inputs).enumerate().for_each(|(n, (gx, (x, g)))| {
        visit(bounds, n * CHUNK, x.len(), &mut Backward { x, g, gx, rule, tied });
    });
}

/// The same, in the place of the upstream gradient.
///
/// # Errors
/// As [`clip_grad`].
pub fn clip_grad_in_place<T: Element>(
    x: &[T],
    g: &mut [T],
    bounds: &Interval<T, &[T]>,
    rule: Gradient,
) -> Result<()> {
    check_len(x, g)?;
    check_bounds(x, bounds)?;
    match (rule.outside, rule.ties) {
        (Outside::StraightThrough, _) => {}
        (_, Ties::Inclusive) => backward_in_place(x, g, bounds, rule.into(), |g| g),
        (_, Ties::Exclusive) => backward_in_place(x, g, bounds, rule.into(), |_| T::ZERO),
        (_, Ties::Half) => backward_in_place(x, g, bounds, rule.into(), T::halve),
    }
    Ok(())
}

fn backward_in_place<T: Element>(
    x: &[T],
    g: &mut [T],
    bounds: &Interval<T, &[T]>,
    rule: Rule,
    tied: impl Fn(T) -> T + Copy + Send + Sync,
) {
    g.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).enumerate().for_each(|(n, (g, x))| {
        visit(bounds, n * CHUNK, x.len(), &mut BackwardInPlace { x, g, rule, tied });
    });
}

/// The gradients that reach `x` and the bounds at each element of `x`, those of the bounds to be summed over the
/// broadcast dimensions. One that is not wanted is an empty slice.
///
/// # Errors
/// As [`clip_grad`].
pub fn clip_grads<T: Element>(
    x: &[T],
    g: &[T],
    bounds: &Interval<T, &[T]>,
    rule: Gradient,
    gradients: [&mut [T]; 3],
) -> Result<()> {
    check_len(x, g)?;
    check_bounds(x, bounds)?;
    for wanted in gradients.iter().filter(|wanted| !wanted.is_empty()) {
        check_len(x, wanted)?;
    }
    // One that is not wanted has an empty chunk for each of x.
    let count = x.len().div_ceil(CHUNK);
    let [gx, glo, ghi] = gradients.map(|gradient| {
        let mut chunks: Vec<_> = gradient.chunks_mut(CHUNK).collect();
        chunks.resize_with(count, Default::default);
        chunks
    });
    let inputs = x.par_chunks(CHUNK).zip(g.par_chunks(CHUNK));
    let outputs = gx.into_par_iter().zip(glo).zip(ghi);
    outputs.zip(inputs).enumerate().for_each(|(n, (((gx, glo), ghi), (x, g)))| {
        visit(bounds, n * CHUNK, x.len(), &mut FullBackward { x, g, gx, glo, ghi, rule });
    });
    Ok(())
}
