//! The backward pass: the twin of `shaders/clip_grad.wgsl`.

use super::beside::{Source, Work, visit};
use super::clip::lower;
use super::parallel::Deal;
use super::vector::vectorised;
use super::{check_bounds, check_len};
use crate::bounds::Interval;
use crate::{Element, Gradient, NanGradient, Outside, Result, Ties};

/// What a rule comes to, for one element; whether a tie is halved, the loops know when they are compiled.
#[derive(Clone, Copy)]
struct Rule {
    toward: bool,
    exclusive: bool,
    nan_zero: bool,
}

impl From<Gradient> for Rule {
    fn from(rule: Gradient) -> Self {
        Self {
            toward: rule.outside == Outside::Toward,
            exclusive: rule.ties == Ties::Exclusive,
            nan_zero: rule.nan == NanGradient::Zero,
        }
    }
}

/// The gradient of one element.
#[inline(always)]
fn to_x<const HALF: bool, T: Element, L: Source<T>, H: Source<T>>(
    (x, g): (T, T),
    (lo, hi): (L, H),
    i: usize,
    rule: Rule,
) -> T {
    // The share of g that passes a bound; `inward`: the step -g moves back toward it.
    let through = |g: T, beyond: bool, tie: bool, inward: bool| {
        let outside = if rule.toward & inward { g } else { T::ZERO };
        let inside = match HALF {
            true if tie => g.halve(),
            false if tie & rule.exclusive => T::ZERO,
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
    let of_nan = if rule.nan_zero { T::ZERO } else { g };
    if x.is_nan() { of_nan } else { to_x }
}

vectorised! {
    fn grad_run<const HALF: bool, T: Element, L: Source<T>, H: Source<T>>(
        x: &[T],
        g: &[T],
        lo: L,
        hi: H,
        rule: Rule,
        gx: &mut [T],
    ) {
        let len = gx.len();
        let (x, g, lo, hi) = (&x[..len], &g[..len], lo.part(0, len), hi.part(0, len));
        for i in 0..len {
            gx[i] = to_x::<HALF, _, _, _>((x[i], g[i]), (lo, hi), i, rule);
        }
    }

    fn grad_run_in_place<const HALF: bool, T: Element, L: Source<T>, H: Source<T>>(
        x: &[T],
        lo: L,
        hi: H,
        rule: Rule,
        g: &mut [T],
    ) {
        let len = g.len();
        let (x, lo, hi) = (&x[..len], lo.part(0, len), hi.part(0, len));
        for i in 0..len {
            g[i] = to_x::<HALF, _, _, _>((x[i], g[i]), (lo, hi), i, rule);
        }
    }
}

struct Backward<'a, T> {
    x: &'a [T],
    g: &'a [T],
    gx: &'a mut [T],
    rule: Gradient,
}

impl<T: Element> Work<T> for Backward<'_, T> {
    fn run(&mut self, start: usize, len: usize, lo: impl Source<T>, hi: impl Source<T>) {
        let (x, g, gx) = (&self.x[start..][..len], &self.g[start..][..len], &mut self.gx[start..][..len]);
        match self.rule.ties {
            Ties::Half => grad_run::<true, _, _, _>(x, g, lo, hi, self.rule.into(), gx),
            _ => grad_run::<false, _, _, _>(x, g, lo, hi, self.rule.into(), gx),
        }
    }
}

struct BackwardInPlace<'a, T> {
    x: &'a [T],
    g: &'a mut [T],
    rule: Gradient,
}

impl<T: Element> Work<T> for BackwardInPlace<'_, T> {
    fn run(&mut self, start: usize, len: usize, lo: impl Source<T>, hi: impl Source<T>) {
        let (x, g) = (&self.x[start..][..len], &mut self.g[start..][..len]);
        match self.rule.ties {
            Ties::Half => grad_run_in_place::<true, _, _, _>(x, lo, hi, self.rule.into(), g),
            _ => grad_run_in_place::<false, _, _, _>(x, lo, hi, self.rule.into(), g),
        }
    }
}

/// The gradients of both bounds at one element.
#[inline(always)]
fn to_bounds<T: Element, L: Source<T>, H: Source<T>>(
    (x, g): (T, T),
    (lo, hi): (L, H),
    i: usize,
    ties: Ties,
) -> [T; 2] {
    // What the tensor side of a tie keeps, and what it leaves to the bound.
    let share = |g: T| match ties {
        Ties::Inclusive => (g, T::ZERO),
        Ties::Exclusive => (T::ZERO, g),
        Ties::Half => (g.halve(), g.other_half()),
    };
    let (l, h) = (lo.at(i), hi.at(i));
    let (kept, left) = share(g);
    let t = lower(x, lo, i);
    let (above, ties_hi) = (h.less(t), hi.is_present() & t.equals(h));
    let to_t = if ties_hi { kept } else { g };
    let to_t = if above { T::ZERO } else { to_t };
    let to_hi = if ties_hi { left } else { T::ZERO };
    let to_hi = if above { g } else { to_hi };
    let to_lo = if lo.is_present() & x.equals(l) { share(to_t).1 } else { T::ZERO };
    let to_lo = if x.less(l) { to_t } else { to_lo };

    // The first NaN supplied the output.
    let (nan_lo, nan_hi) = (L::NAN & l.is_nan(), H::NAN & h.is_nan());
    let to_lo = if nan_hi { T::ZERO } else { to_lo };
    let to_hi = if nan_hi { g } else { to_hi };
    let to_lo = if nan_lo { g } else { to_lo };
    let to_hi = if nan_lo | x.is_nan() { T::ZERO } else { to_hi };
    [if x.is_nan() { T::ZERO } else { to_lo }, to_hi]
}

vectorised! {
    /// The gradient of one bound: the lower, or the upper if `HI`.
    fn bound_run<const HI: bool, T: Element, L: Source<T>, H: Source<T>>(
        x: &[T],
        g: &[T],
        lo: L,
        hi: H,
        ties: Ties,
        to: &mut [T],
    ) {
        let len = to.len();
        let (x, g, lo, hi) = (&x[..len], &g[..len], lo.part(0, len), hi.part(0, len));
        for i in 0..len {
            to[i] = to_bounds((x[i], g[i]), (lo, hi), i, ties)[usize::from(HI)];
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
        let (x, g, ties) = (&self.x[start..][..len], &self.g[start..][..len], self.rule.ties);
        if let Some(gx) = self.gx.get_mut(start..start + len) {
            Backward { x, g, gx, rule: self.rule }.run(0, len, lo, hi);
        }
        if let Some(glo) = self.glo.get_mut(start..start + len) {
            bound_run::<false, _, _, _>(x, g, lo, hi, ties, glo);
        }
        if let Some(ghi) = self.ghi.get_mut(start..start + len) {
            bound_run::<true, _, _, _>(x, g, lo, hi, ties, ghi);
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
    if rule.outside == Outside::StraightThrough {
        gx.copy_from_slice(g);
        return Ok(());
    }
    let deal = Deal::new::<T>(x.len());
    let inputs = x.chunks(deal.chunk).zip(g.chunks(deal.chunk));
    deal.each(gx.chunks_mut(deal.chunk).zip(inputs).enumerate(), |(n, (gx, (x, g)))| {
        visit(bounds, n * deal.chunk, x.len(), &mut Backward { x, g, gx, rule });
    });
    Ok(())
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
    if rule.outside == Outside::StraightThrough {
        return Ok(());
    }
    let deal = Deal::new::<T>(x.len());
    deal.each(g.chunks_mut(deal.chunk).zip(x.chunks(deal.chunk)).enumerate(), |(n, (g, x))| {
        visit(bounds, n * deal.chunk, x.len(), &mut BackwardInPlace { x, g, rule });
    });
    Ok(())
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
    let deal = Deal::new::<T>(x.len());
    // One that is not wanted has an empty chunk for each of x.
    let [gx, glo, ghi] = gradients
        .map(|gradient| gradient.chunks_mut(deal.chunk).chain(std::iter::repeat_with(Default::default)));
    let inputs = x.chunks(deal.chunk).zip(g.chunks(deal.chunk));
    let chunks = inputs.zip(gx.zip(glo).zip(ghi)).enumerate();
    deal.each(chunks, |(n, ((x, g), ((gx, glo), ghi)))| {
        visit(bounds, n * deal.chunk, x.len(), &mut FullBackward { x, g, gx, glo, ghi, rule });
    });
    Ok(())
}
