//! The code of an element, by its quotient: what the loops over f32 and f64 share.

use crate::quantize::{NanCode, QuantGradient, QuantRule, Quotient, Rounding};

/// A rule, and the numbers that its choices come to.
#[derive(Clone, Copy)]
pub(super) struct Rule<R = f64> {
    pub(super) quant: QuantRule,
    pub(super) min: R,
    pub(super) max: R,
    /// Between which codes, or quotients if `unrounded`, the gradient passes.
    pub(super) limits: [R; 2],
    pub(super) unrounded: bool,
    /// The code of a NaN, unless it is that of the zero point.
    of_nan: R,
    nan_is_zero: bool,
}

impl Rule {
    pub(super) fn new(quant: QuantRule) -> Self {
        let [min, max] = [quant.min, quant.max].map(f64::from);
        let limits = match quant.gradient {
            QuantGradient::Rounded | QuantGradient::Unrounded => [min, max],
            QuantGradient::Interior => [min + 1.0, max - 1.0],
            QuantGradient::StraightThrough => [f64::NEG_INFINITY, f64::INFINITY],
        };
        let (of_nan, nan_is_zero) = match quant.nan {
            NanCode::Least => (min, false),
            NanCode::Greatest => (max, false),
            NanCode::Nan | NanCode::Zero => (0.0, true),
        };
        let unrounded = quant.gradient == QuantGradient::Unrounded;
        Self { quant, min, max, limits, unrounded, of_nan, nan_is_zero }
    }

    /// The code of a NaN. A zero point that is NaN counts as 0.
    pub(super) fn nan_code(self, zero_point: f64) -> f32 {
        let zero = self.zero(if zero_point.is_nan() { 0.0 } else { zero_point });
        (if self.nan_is_zero { zero } else { self.of_nan }) as f32
    }

    /// The same in f32, which holds every code.
    pub(super) fn narrow(self) -> Rule<f32> {
        let Self { quant, min, max, limits, unrounded, of_nan, nan_is_zero } = self;
        let [min, max, of_nan] = [min, max, of_nan].map(|code| code as f32);
        Rule { quant, min, max, limits: limits.map(|limit| limit as f32), unrounded, of_nan, nan_is_zero }
    }
}

/// The code of an element, in f32 or f64: all numbers but the quotient are integers that both hold.
macro_rules! code {
    ($type:ident) => {
        impl Rule<$type> {
            /// The steps from the zero point to the code of an element, and whether its gradient passes, by its quotient and what that is
            /// rounded to.
            #[inline(always)]
            pub(super) fn code(
                self,
                is_nan: bool,
                quotient: $type,
                rounded: $type,
                zero: $type,
            ) -> ($type, bool) {
                let rounded = rounded.max(-FAR as $type).min(FAR as $type);
                let steps = (rounded + zero).max(self.min).min(self.max) - zero;
                let compared = if self.unrounded { quotient } else { rounded };
                let passes = (compared >= self.limits[0] - zero) & (compared <= self.limits[1] - zero);
                // No branch, so that it vectorises.
                let of_nan = if self.nan_is_zero { 0.0 } else { self.of_nan - zero };
                (if is_nan { of_nan } else { steps }, passes & !is_nan)
            }

            /// The code of the zero point.
            #[inline(always)]
            pub(super) fn zero(self, zero_point: $type) -> $type {
                zero_point.round_ties_even().max(self.min).min(self.max)
            }

            /// A quotient, or in place of one that IEEE 754 does not define, of 0 by 0 or of infinities, what the contract says.
            #[inline(always)]
            pub(super) fn defined(quotient: $type, x: $type, scale: $type) -> $type {
                let far = if x.is_sign_negative() == scale.is_sign_negative() { FAR } else { -FAR };
                let instead = if x == 0.0 { 0.0 } else { far as $type };
                if quotient.is_nan() { instead } else { quotient }
            }
        }
    };
}

code!(f32);
code!(f64);

/// Beyond all codes, whatever the zero point is.
pub(super) const FAR: f64 = (1 << 18) as f64;

/// How two f32 are divided. A quotient of two f32 that is rounded to f64 is an integer, or halfway between two, only if the real one is: no
/// other is so near to one.
#[inline(always)]
pub(super) fn divide(x: f32, scale: f32, quotient: Quotient) -> f64 {
    let value = match quotient {
        Quotient::Exact => f64::from(x) / f64::from(scale),
        Quotient::Division => (x / scale).into(),
        Quotient::Reciprocal => (x * (1.0 / scale)).into(),
    };
    Rule::<f64>::defined(value, x.into(), scale.into())
}

/// A quotient: its sign, the integer part of its magnitude, and the fraction, which is exact.
pub(super) struct Parts {
    negative: bool,
    whole: f64,
    part: f64,
}

impl Parts {
    /// Of a quotient that was rounded; `error` is above 0 if the real one is greater, below 0 if it is less.
    pub(super) fn new(quotient: f64, error: f64) -> Self {
        let (negative, size) = (quotient.is_sign_negative(), quotient.abs());
        let (whole, part) = (size.floor(), size - size.floor());
        let error = if negative { -error } else { error };
        // Only an integer, or a half, that is not exact makes a difference. Which fraction it is does not matter then.
        let (whole, part) = match (part == 0.0, part == 0.5) {
            (true, _) if error < 0.0 => (whole - 1.0, 0.75),
            (true, _) if error > 0.0 => (whole, 0.25),
            (_, true) if error < 0.0 => (whole, 0.25),
            (_, true) if error > 0.0 => (whole, 0.75),
            _ => (whole, part),
        };
        Self { negative, whole, part }
    }

    fn signed(&self, size: f64) -> f64 {
        if self.negative { -size } else { size }
    }

    /// On the same side of every integer and half as the real quotient.
    pub(super) fn value(&self) -> f64 {
        self.signed(self.whole + self.part)
    }

    pub(super) fn rounded(&self, rounding: Rounding) -> f64 {
        let up = match rounding {
            Rounding::Down => self.negative && self.part != 0.0,
            _ if self.part != 0.5 => self.part > 0.5,
            Rounding::HalfEven => self.whole % 2.0 != 0.0,
            Rounding::HalfUp => !self.negative,
            // Those of random bits have a function of their own.
            Rounding::HalfAway | Rounding::Stochastic => true,
        };
        self.signed(self.whole + f64::from(u8::from(up)))
    }
}
