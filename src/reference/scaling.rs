//! Clipping by norm: what becomes of elements with a norm, and their products.

use crate::{Element, NonFinite, NormLimit};

/// What clipping by norm does to elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scaling<N> {
    /// Nothing: they keep their bits.
    Keep,
    /// All become +0.
    Zero,
    /// They are multiplied.
    By(N),
}

impl<N: Element> Scaling<N> {
    /// The same with a coefficient in f64, which holds every f32.
    pub fn to_f64(self) -> Scaling<f64> {
        match self {
            Self::Keep => Scaling::Keep,
            Self::Zero => Scaling::Zero,
            Self::By(coefficient) => Scaling::By(coefficient.to_f64()),
        }
    }
}

/// What becomes of elements of this norm (or average of it, or whatever else is limited).
///
/// | norm | |
/// |---|---|
/// | not finite, with another policy than [`NonFinite::Propagate`] | as that says: zero, or kept |
/// | at most the limit | kept, to the bit |
/// | else | multiplied by `limit / (norm + eps)`: limit and eps, the sum and the quotient are each rounded to nearest |
pub fn scaling<N: Element>(norm: N, limit: &NormLimit) -> Scaling<N> {
    match limit.nonfinite {
        _ if norm.to_f64().is_finite() => {}
        NonFinite::Propagate => {}
        NonFinite::Zero => return Scaling::Zero,
        NonFinite::Skip | NonFinite::Error => return Scaling::Keep,
    }
    // A limit of -0 is 0.
    let (most, eps) = (N::from_f64(limit.limit.abs()), N::from_f64(limit.eps));
    if norm <= most {
        return Scaling::Keep;
    }
    // In f64, and rounded to f32: which is to round once, since that has more than twice the bits.
    let sum = N::from_f64(norm.to_f64() + eps.to_f64());
    Scaling::By(N::from_f64(most.to_f64() / sum.to_f64()))
}

/// The norm divided by a number of elements, which is rounded to nearest first, as the quotient is.
pub fn average<N: Element>(norm: N, count: usize) -> N {
    N::from_f64(norm.to_f64() / N::from_f64(count as f64).to_f64())
}

/// The limit of a gradient in proportion to the norm of its parameter, which counts as `least` at the least: their
/// product is rounded to nearest.
pub fn relative<N: Element>(limit: &NormLimit, norm: N, least: f64) -> NormLimit {
    let least = N::from_f64(least);
    let norm = if norm < least { least } else { norm };
    let product = N::from_f64(N::from_f64(limit.limit).to_f64() * norm.to_f64());
    NormLimit { limit: product.to_f64(), ..*limit }
}

/// An element as [`scaling`] says: a product is rounded to nearest once, ties to even, and a NaN is the positive quiet one
/// without payload.
pub fn scale<T: Element, N: Element>(x: T, scaling: Scaling<N>) -> T {
    match scaling {
        Scaling::Keep => x,
        Scaling::Zero => T::ZERO,
        Scaling::By(coefficient) => {
            // Of floats of up to 32 bits the product is exact here.
            let product = x.to_f64() * coefficient.to_f64();
            let nan = T::from_bits(T::TYPE.layout().quiet_nan());
            if product.is_nan() { nan } else { T::from_f64(product) }
        }
    }
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
        assert_eq!(scaling(f32::NAN, &limit.nonfinite(NonFinite::Zero)), Scaling::Zero);
        assert_eq!(scaling(f32::INFINITY, &limit.nonfinite(NonFinite::Skip)), Scaling::Keep);
        assert_eq!(scale(f32::INFINITY, Scaling::By(0.0f32)).to_bits(), f32::NAN.to_bits());
        assert_eq!(scale(half::f16::from_f32(3.0), Scaling::By(1.0f32 / 3.0)).to_f32(), 1.0, "rounded once");
    }
}
