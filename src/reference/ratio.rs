//! Quotients as ratios of integers, and how they are rounded to integers.

use super::round;
use crate::Element;
use crate::quantize::{Quotient, Rounding};

impl Quotient {
    /// Two numbers whose real quotient is that of x and the scale as it is rounded before all else.
    pub(super) fn rounded<T: Element>(self, x: f64, scale: f64) -> (f64, f64) {
        match self {
            // These quotients are not rounded, whatever the rule is.
            _ if x == 0.0 || x.is_infinite() || scale == 0.0 || scale.is_infinite() => (x, scale),
            Self::Exact => (x, scale),
            Self::Division => (round::<T>(x / scale), 1.0),
            Self::Reciprocal => (round::<T>(x * round::<T>(1.0 / scale)), 1.0),
        }
    }
}

/// A quotient of integers, the denominator above 0.
pub(super) struct Ratio {
    pub numerator: i128,
    pub denominator: i128,
}

impl Ratio {
    /// A number, or one of its sign beyond all codes.
    pub(super) fn of(value: f64) -> Self {
        Self::exact(value, 1.0)
    }

    /// x by the scale, as a rule divides.
    pub(super) fn quotient<T: Element>(x: f64, scale: f64, quotient: Quotient) -> Self {
        let (dividend, divisor) = quotient.rounded::<T>(x, scale);
        Self::exact(dividend, divisor)
    }

    /// The real quotient of two numbers, or one of its sign beyond all codes. Those of 0, and those by infinity, are 0.
    fn exact(x: f64, scale: f64) -> Self {
        Self::times_power(x, scale, 0)
    }

    /// The same times a power of two.
    pub(super) fn times_power(x: f64, scale: f64, power: i32) -> Self {
        const FAR: i128 = 1 << 40;
        let sign = if x.is_sign_negative() == scale.is_sign_negative() { 1 } else { -1 };
        let far = Self { numerator: sign * FAR, denominator: 1 };
        if x.is_infinite() {
            return far;
        }
        if x == 0.0 || scale.is_infinite() {
            return Self { numerator: 0, denominator: 1 };
        }
        if scale == 0.0 {
            return far;
        }
        let ((a, of_a), (b, of_b)) = (integer_and_exponent(x), integer_and_exponent(scale));
        match of_a - of_b + power {
            exponent if exponent > 70 => far,
            // Not 0, and nearer to it than any other decision is.
            exponent if exponent < -55 => Self { numerator: sign, denominator: FAR },
            exponent if exponent < 0 => Self { numerator: sign * a, denominator: b << -exponent },
            exponent => Self { numerator: sign * (a << exponent), denominator: b },
        }
    }

    pub(super) fn rounded(&self, rounding: Rounding) -> i128 {
        let floor = self.numerator.div_euclid(self.denominator);
        let twice = 2 * (self.numerator - floor * self.denominator);
        let up = match rounding {
            Rounding::Down => false,
            _ if twice != self.denominator => twice > self.denominator,
            Rounding::HalfEven => floor % 2 != 0,
            Rounding::HalfUp => true,
            Rounding::HalfAway => self.numerator > 0,
            // By random bits: see `rounded_by`.
            Rounding::Stochastic => twice > self.denominator,
        };
        floor + i128::from(up)
    }

    /// Rounded away from zero where the fraction of the magnitude is above `(2 * random + 1) / 2^33`.
    pub(super) fn rounded_by(&self, random: u32) -> i128 {
        let size = self.numerator.abs();
        let (whole, rest) = (size / self.denominator, size % self.denominator);
        // A numerator has fewer bits: the fraction is below 2^-33.
        let is_tiny = self.denominator > 1 << 94;
        let is_above = !is_tiny && rest << 33 > (2 * i128::from(random) + 1) * self.denominator;
        self.numerator.signum() * (whole + i128::from(is_above))
    }
}

/// The magnitude of a finite number as an integer times a power of two.
pub(super) fn integer_and_exponent(value: f64) -> (i128, i32) {
    let bits = value.to_bits();
    let (exponent, fraction) = ((bits >> 52 & 0x7ff) as i32, i128::from(bits & ((1 << 52) - 1)));
    if exponent == 0 { (fraction, -1074) } else { (fraction | 1 << 52, exponent - 1075) }
}
