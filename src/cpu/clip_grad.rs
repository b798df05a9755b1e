//! The backward pass: the twin of `shaders/clip_grad.wgsl`.

use super::clip::lower;
use super::{check_len, parallel};
use crate::{Bounds, Element, Gradient, NanGradient, Outside, Result, Ties};

/// The gradient that reaches `x`, of the upstream gradient `g`, into `gx`.
///
/// # Errors
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) if they differ in length.
pub fn clip_grad<T: Element>(
    x: &[T],
    g: &[T],
    bounds: &Bounds<T>,
    rule: Gradient,
    gx: &mut [T],
) -> Result<()> {
    check_len(x, g)?;
    check_len(x, gx)?;
    let toward = rule.outside == Outside::Toward;
    let nan_zero = rule.nan == NanGradient::Zero;

    // The rule is the same for every element, so each tie has a loop of its own that vectorises.
    match (rule.outside, rule.ties) {
        (Outside::StraightThrough, _) => gx.copy_from_slice(g),
        (_, Ties::Inclusive) => parallel::map2(x, g, gx, backward(bounds, toward, nan_zero, |g| g)),
        (_, Ties::Exclusive) => parallel::map2(x, g, gx, backward(bounds, toward, nan_zero, |_| T::ZERO)),
        (_, Ties::Half) => parallel::map2(x, g, gx, backward(bounds, toward, nan_zero, T::halve)),
    }
    Ok(())
}

/// The gradient of one element: `tied` gives the tensor side's share of a tie.
#[inline(always)]
fn backward<T: Element>(
    bounds: &Bounds<T>,
    toward: bool,
    nan_zero: bool,
    tied: impl Fn(T) -> T + Copy + Send + Sync,
) -> impl Fn(T, T) -> T + Copy + Send + Sync {
    let (has_lo, has_hi) = (bounds.lo().is_some(), bounds.hi().is_some());
    let (lo, hi) = (bounds.lo().unwrap_or(T::ZERO), bounds.hi().unwrap_or(T::ZERO));

    // The share of g that passes a bound; `inward`: the step -g moves back toward it.
    let through = move |g: T, beyond: bool, tie: bool, inward: bool| {
        let outside = if toward & inward { g } else { T::ZERO };
        let inside = if tie { tied(g) } else { g };
        if beyond { outside } else { inside }
    };
    move |x, g| {
        let t = if has_lo { lower(x, lo) } else { x };
        let to_t = through(g, has_hi & (t > hi), has_hi & (t == hi), g > T::ZERO);
        let to_x = through(to_t, has_lo & (x < lo), has_lo & (x == lo), to_t < T::ZERO);
        let of_nan = if nan_zero { T::ZERO } else { g };
        if x.is_nan() { of_nan } else { to_x }
    }
}
