//! The backward pass: the twin of `shaders/clip_grad.wgsl`.

use super::clip::lower;
use super::parallel;
use crate::host::zeroed;
use crate::{Bounds, Element, Error, Gradient, NanGradient, Outside, Result, Ties};

/// The gradient that reaches `x`, of the upstream gradient `g`, in a new vector.
///
/// # Errors
/// [`Error::ShapeMismatch`] if `x` and `g` differ in length, [`Error::OutOfMemory`] where the host has no
/// memory for the result.
pub fn clip_grad<T: Element>(x: &[T], g: &[T], bounds: &Bounds<T>, rule: Gradient) -> Result<Vec<T>> {
    if x.len() != g.len() {
        return Err(Error::ShapeMismatch { left: vec![x.len()], right: vec![g.len()] });
    }
    let mut gx = zeroed(x.len())?;
    let of_nan = |g| if rule.nan == NanGradient::Zero { T::ZERO } else { g };
    let toward = rule.outside == Outside::Toward;

    // The rule is the same for every element, so each shape of it gets a loop of its own that vectorises.
    match (rule.outside, rule.ties) {
        (Outside::StraightThrough, _) => gx.copy_from_slice(g),
        (_, Ties::Inclusive) => {
            parallel::map2(x, g, &mut gx, backward(bounds, toward, of_nan, |g| g));
        }
        (_, Ties::Exclusive) => {
            parallel::map2(x, g, &mut gx, backward(bounds, toward, of_nan, |_| T::ZERO));
        }
        (_, Ties::Half) => {
            parallel::map2(x, g, &mut gx, backward(bounds, toward, of_nan, T::halve));
        }
    }
    Ok(gx)
}

/// The gradient of one element: `tied` gives the tensor side's share of a tie, `of_nan` that of a NaN.
#[inline(always)]
fn backward<T: Element>(
    bounds: &Bounds<T>,
    toward: bool,
    of_nan: impl Fn(T) -> T + Sync,
    tied: impl Fn(T) -> T + Sync,
) -> impl Fn(T, T) -> T + Sync {
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
        if x.is_nan() { of_nan(g) } else { to_x }
    }
}
