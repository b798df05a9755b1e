//! Clipping by norm: how elements are scaled by their norm, and their gradients.

use super::{dot, exact::product_to_odd};
use crate::norm::{Scaling, ScalingBackward};
use crate::{Element, ElementType, NonFinitePolicy, NormLimit};

/// The scaling of elements with this norm (or its average, or whatever else is limited).
///
/// | norm | |
/// |---|---|
/// | not finite, with another policy than [`NonFinitePolicy::Propagate`] | as the policy says: zero, or kept |
/// | at most the limit | kept, to the bit |
/// | otherwise | multiplied by `limit / (norm + eps)`: limit and eps, the sum and the quotient are each rounded to nearest |
pub fn scaling<N: Element>(norm: N, limit: &NormLimit) -> Scaling<N> {
    match limit.nonfinite {
        _ if norm.to_f64().is_finite() => {}
        NonFinitePolicy::Propagate => {}
        NonFinitePolicy::Zero => return Scaling::Zero,
        NonFinitePolicy::Skip | NonFinitePolicy::Error => return Scaling::Keep,
    }
    // A limit of -0 is 0.
    let (most, eps) = (N::from_f64(limit.max_norm.abs()), N::from_f64(limit.eps));
    if norm <= most {
        return Scaling::Keep;
    }
    // In f64, then rounded to f32: this rounds only once, since f64 has more than twice the bits.
    let sum = N::from_f64(norm.to_f64() + eps.to_f64());
    Scaling::By(N::from_f64(most.to_f64() / sum.to_f64()))
}

/// The norm divided by a number of elements, which is first rounded to nearest, like the quotient.
pub fn average<N: Element>(norm: N, count: usize) -> N {
    N::from_f64(norm.to_f64() / N::from_f64(count as f64).to_f64())
}

/// The limit of a gradient in proportion to the norm of its parameter, which counts as at least `least`: their product
/// is rounded to nearest.
pub fn relative<N: Element>(limit: &NormLimit, norm: N, least: f64) -> NormLimit {
    let least = N::from_f64(least);
    let norm = if norm < least { least } else { norm };
    let product = N::from_f64(N::from_f64(limit.max_norm).to_f64() * norm.to_f64());
    NormLimit { max_norm: product.to_f64(), ..*limit }
}

/// Scales an element as [`scaling`] says: a product is rounded to nearest once, ties to even, and a NaN is the positive
/// quiet one without payload.
pub fn scale<T: Element, N: Element>(x: T, scaling: Scaling<N>) -> T {
    match scaling {
        Scaling::Keep => x,
        Scaling::Zero => T::ZERO,
        Scaling::By(coefficient) => {
            let (x, coefficient) = (x.to_f64(), coefficient.to_f64());
            // The product of two floats of up to 32 bits is exact in f64.
            let product = match (T::TYPE, N::TYPE) {
                (element, ElementType::F64) if element != ElementType::F64 => product_to_odd(x, coefficient),
                _ => x * coefficient,
            };
            let nan = T::from_bits(T::TYPE.layout().quiet_nan());
            if product.is_nan() { nan } else { T::from_f64(product) }
        }
    }
}

/// How the gradient reaches elements that are scaled as [`scaling`] says by their 2-norm: it is that of
/// `limit / (norm + eps) * x` where the norm is above the limit, else of x.
///
/// | norm | x receives |
/// |---|---|
/// | not finite, with another policy than [`NonFinitePolicy::Propagate`] | the upstream gradient g where elements are kept, +0 where they become zero |
/// | at most the limit, including equal to it or 0 | g, to the bit |
/// | not finite | NaN |
/// | otherwise | `c * g - c * <g, x> / ((norm + eps) * norm) * x`, where `c = limit / (norm + eps)` |
///
/// The last is computed so that norms of 1e30 and of 1e-30 neither overflow nor underflow: with `u = 2^-e`, where e is the exponent of
/// the norm, at least that of the smallest normal number, and `d` the dot product `<g, x> * u`, exact and rounded once
/// ([`dot`]), the projection is `c * ((d / (norm * u)) / ((norm + eps) * u))`, and x receives `c * g - projection * (x * u)`:
/// every sum, difference, product and quotient is rounded to nearest in f32 (f64 for f64), and then the result to the type of
/// x. Overflow gives infinity, and may lead to NaN: in d if the norm of g is beyond half of the greatest number, and in the
/// projection if the norm of g is as far above that of x, and the latter is subnormal.
pub fn scaling_backward<T: Element>(
    x: &[T],
    g: &[T],
    norm: T::Norm,
    limit: &NormLimit,
) -> ScalingBackward<T::Norm> {
    let unit = unit_exponent(norm);
    projection(norm, dot(x, g, unit), limit)
}

/// The power of two that brings a norm to between 1 and 2, if it is a normal number.
fn unit_exponent<N: Element>(norm: N) -> i32 {
    let layout = N::TYPE.layout();
    let biased = (norm.to_bits() & (layout.sign() - 1)) >> layout.fraction_bits();
    // The biased exponent of 1.
    let bias = 1 - layout.min_exponent();
    bias - (biased as i32).max(1)
}

/// The scaling of the gradient, from the dot product times the unit.
fn projection<N: Element>(norm: N, dot: N, limit: &NormLimit) -> ScalingBackward<N> {
    let coefficient = match super::scaling(norm, limit) {
        Scaling::Keep => return ScalingBackward::Keep,
        Scaling::Zero => return ScalingBackward::Zero,
        Scaling::By(_) if !norm.to_f64().is_finite() => return ScalingBackward::Nan,
        Scaling::By(coefficient) => coefficient,
    };
    let round = |value: f64| N::from_f64(value).to_f64();
    let unit = 2f64.powi(unit_exponent(norm));
    let sum = round(norm.to_f64() + round(limit.eps));
    let along = round(round(dot.to_f64() / round(norm.to_f64() * unit)) / round(sum * unit));
    let projection = N::from_f64(coefficient.to_f64() * along);
    ScalingBackward::By { coefficient, unit: N::from_f64(unit), projection }
}

/// The gradient that reaches an element, as [`scaling_backward`] says; a NaN is the positive quiet one without payload, and so
/// is a result beyond the range of a type without infinity.
pub fn scale_backward<T: Element>(x: T, g: T, scaling: ScalingBackward<T::Norm>) -> T {
    let nan = T::from_bits(T::TYPE.layout().quiet_nan());
    let ScalingBackward::By { coefficient, unit, projection } = scaling else {
        return match scaling {
            ScalingBackward::Keep => g,
            ScalingBackward::Zero => T::ZERO,
            _ => nan,
        };
    };
    let times = |a: f64, b: T::Norm| T::Norm::from_f64(a * b.to_f64()).to_f64();
    let removed = times(times(x.to_f64(), unit), projection);
    let gradient = T::Norm::from_f64(times(g.to_f64(), coefficient) - removed).to_f64();
    let gradient = T::from_f64(gradient);
    if gradient.is_nan() { nan } else { gradient }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_within_the_limit_keeps_its_bits() {
        let limit = NormLimit::new(1.0);
        assert_eq!(scaling(1.0f32, &limit.eps(1e-6)), Scaling::Keep, "at the limit");
        assert_eq!(scaling(4.0f32, &limit), Scaling::By(0.25));
        assert_eq!(scaling(0.0f32, &NormLimit::new(0.0)), Scaling::Keep, "not 0 / 0");
        assert_eq!(scaling(f32::INFINITY, &NormLimit::new(f64::INFINITY)), Scaling::Keep, "not inf / inf");
        assert_eq!(scaling(f32::INFINITY, &limit), Scaling::By(0.0));
        assert!(matches!(scaling(f32::NAN, &limit), Scaling::By(c) if c.is_nan()));
        assert_eq!(scaling(f32::NAN, &limit.nonfinite(NonFinitePolicy::Zero)), Scaling::Zero);
        assert_eq!(scaling(f32::INFINITY, &limit.nonfinite(NonFinitePolicy::Skip)), Scaling::Keep);
        assert_eq!(scale(f32::INFINITY, Scaling::By(0.0f32)).to_bits(), f32::NAN.to_bits());
        assert_eq!(scale(half::f16::from_f32(3.0), Scaling::By(1.0f32 / 3.0)).to_f32(), 1.0, "rounded once");
    }

    /// Compares with differences of the clipped elements.
    #[test]
    fn the_gradient_is_that_of_the_expression() {
        let rng = &mut fastrand::Rng::with_seed(5);
        for _ in 0..200 {
            let mut number = || rng.f64() * 2.0 - 1.0;
            let (x, g): (Vec<_>, Vec<_>) = (0..5).map(|_| (number(), number())).unzip();
            let limit = NormLimit::new(1.5 * rng.f64()).eps([0.0, 0.3][rng.usize(..2)]);
            let norm = |x: &[f64]| crate::reference::norm(x, crate::NormKind::L2);
            if (norm(&x) - limit.max_norm).abs() < 1e-3 {
                continue;
            }
            let loss = |x: &[f64]| {
                let scaling = scaling(norm(x), &limit);
                x.iter().zip(&g).map(|(&x, g)| scale(x, scaling) * g).sum::<f64>()
            };
            let by = scaling_backward(&x, &g, norm(&x), &limit);
            for i in 0..x.len() {
                let moved = |step: f64| {
                    let mut x = x.clone();
                    x[i] += step;
                    loss(&x)
                };
                let difference = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                let gradient = scale_backward(x[i], g[i], by);
                assert!(
                    (difference - gradient).abs() < 1e-6,
                    "{difference} {gradient} {x:?} {g:?} {limit:?}"
                );
            }
        }
    }
}
