//! How elements and their gradients are scaled by a norm: the twin of `scaling` in `shaders/scale.wgsl`. The arithmetic is that of
//! the norm's own type, f32 or f64: every sum, product and quotient is rounded once.

use crate::element::Real;
use crate::norm::{Scaling, ScalingBackward};
use crate::{Element, ElementType, NonFinitePolicy, NormLimit};

/// The scaling of elements with this norm, or with an average or a relative norm instead.
pub(super) fn scaling<R: Real>(norm: R, limit: &NormLimit) -> Scaling<R> {
    if !norm.is_finite() {
        match limit.nonfinite {
            NonFinitePolicy::Propagate => {}
            NonFinitePolicy::Zero => return Scaling::Zero,
            NonFinitePolicy::Skip | NonFinitePolicy::Error => return Scaling::Keep,
        }
    }
    // A limit of -0 is 0.
    let max_norm = R::nearest(limit.max_norm.abs());
    match norm <= max_norm {
        true => Scaling::Keep,
        false => Scaling::By(max_norm / (norm + R::nearest(limit.eps))),
    }
}

/// The same for a norm whose type is a value, by its bits.
pub(crate) fn scaling_of(norm: ElementType, bits: u64, limit: &NormLimit) -> Scaling<f64> {
    match norm {
        ElementType::F64 => scaling(f64::from_bits(bits), limit),
        _ => scaling(f32::from_bits(bits as u32), limit).to_f64(),
    }
}

/// The norm divided by a number of elements.
pub(super) fn average<R: Real>(norm: R, count: usize) -> R {
    norm / R::nearest(count as f64)
}

/// The limit as a multiple of a norm, which counts as at least `least`.
pub(super) fn relative<R: Real>(limit: &NormLimit, norm: R, least: f64) -> NormLimit {
    let least = R::nearest(least);
    let norm = if norm < least { least } else { norm };
    NormLimit { max_norm: (R::nearest(limit.max_norm) * norm).to_f64(), ..*limit }
}

/// The exponent of the power of two that brings a norm to between 1 and 2, if it is a normal number.
pub(super) fn unit_exponent<R: Real>(norm: R) -> i32 {
    let layout = R::TYPE.layout();
    let biased = (Element::to_bits(norm) & (layout.sign() - 1)) >> layout.fraction_bits();
    1 - layout.min_exponent() - (biased as i32).max(1)
}

/// The scaling of the gradients of elements with this norm, from the dot product of both times the power of two of
/// [`unit_exponent`].
pub(super) fn projection<R: Real>(norm: R, dot: R, limit: &NormLimit) -> ScalingBackward<R> {
    let coefficient = match scaling(norm, limit) {
        Scaling::Keep => return ScalingBackward::Keep,
        Scaling::Zero => return ScalingBackward::Zero,
        Scaling::By(_) if !norm.is_finite() => return ScalingBackward::Nan,
        Scaling::By(coefficient) => coefficient,
    };
    let unit = R::nearest(2f64.powi(unit_exponent(norm)));
    let sum = norm + R::nearest(limit.eps);
    let along = (dot / (norm * unit)) / (sum * unit);
    ScalingBackward::By { coefficient, unit, projection: coefficient * along }
}
