//! Codes that are floats of 8 or 4 bits, and their scales.

use std::fmt;
use std::str::FromStr;

use super::{Calibration, CodeFormat, QuantParams, QuantRule};
use crate::rule::named;
use crate::{ElementType, Error, Result};

/// How the scale of codes that are floats follows from the greatest magnitude of the values. Those but `greatest` are powers of two, which an E8M0 holds,
/// from 2^-127 to 2^127, as the OCP specification of microscaling formats 1.0 has them for blocks of 32: it names the first, torchao 0.18 all four.
///
/// | name | scale |
/// |---|---|
/// | `greatest` | the magnitude by the greatest finite code, 448, 57344 or 6: no value is clipped |
/// | `floor` | the power of two at or below the magnitude, by that at or below the greatest code: values above `448 * scale` saturate |
/// | `ceil` | the power of two at or above the magnitude, by the same: no value is clipped, half of the range may be unused |
/// | `round-up` | the least power of two with which no value is clipped: torchao's `RCEIL`, and what MLX 0.32 does |
/// | `even` | as `floor`, once the magnitude is rounded to a code's bits: torchao's `EVEN` |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FloatScale {
    /// The magnitude by the greatest finite code.
    #[default]
    Greatest,
    /// The power of two at or below the magnitude, by that of the greatest code.
    Floor,
    /// The power of two at or above the magnitude, by that of the greatest code.
    Ceil,
    /// The least power of two with which no value is clipped.
    RoundUp,
    /// As `Floor`, for the magnitude rounded to a code's bits.
    Even,
}

named!(FloatScale { Greatest: "greatest", Floor: "floor", Ceil: "ceil", RoundUp: "round-up", Even: "even" });

/// The values of 4-bit floats, [`CodeFormat::E2M1`], by their codes.
pub const E2M1: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// Floats that are codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FloatFormat {
    /// f8_e4m3fn: up to 448.
    E4M3,
    /// f8_e5m2: up to 57,344.
    E5M2,
    /// 4 bits, up to 6: [`CodeFormat::E2M1`].
    E2M1,
}

named!(FloatFormat { E4M3: "e4m3", E5M2: "e5m2", E2M1: "e2m1" });

impl FloatFormat {
    /// The type of a code.
    pub const fn element(self) -> ElementType {
        match self {
            Self::E4M3 => ElementType::F8E4M3Fn,
            Self::E5M2 => ElementType::F8E5M2,
            Self::E2M1 => ElementType::U8,
        }
    }

    /// A rule with codes of this format.
    pub const fn rule(self, rule: QuantRule) -> QuantRule {
        match self {
            Self::E4M3 | Self::E5M2 => QuantRule { format: CodeFormat::Integer, ..rule },
            Self::E2M1 => QuantRule { min: 0, max: 15, format: CodeFormat::E2M1, ..rule },
        }
    }

    /// Bits of the fraction, and the greatest number.
    fn fraction_and_greatest(self) -> (u32, f64) {
        match self {
            Self::E2M1 => (1, 6.0),
            Self::E4M3 | Self::E5M2 => {
                let layout = self.element().layout();
                (layout.fraction_bits(), layout.widen(layout.max_finite() as u32).into())
            }
        }
    }
}

/// Floats as codes, with their scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FloatCodes {
    /// What they are.
    pub format: FloatFormat,
    /// How their scales are chosen.
    pub scale: FloatScale,
}

/// What the codes of values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grid {
    /// Integers, by a rule.
    Integers(QuantRule),
    /// Floats, which have no zero point.
    Floats(FloatCodes),
}

impl From<QuantRule> for Grid {
    fn from(rule: QuantRule) -> Self {
        Self::Integers(rule)
    }
}

impl From<FloatCodes> for Grid {
    fn from(codes: FloatCodes) -> Self {
        Self::Floats(codes)
    }
}

impl Grid {
    /// The scale and zero point whose codes cover the values from `lo` to `hi`: [`QuantRule::params`], or [`FloatCodes::scale`] of the greater magnitude.
    ///
    /// # Errors
    /// Those of the two.
    pub fn params(self, calibration: Calibration, lo: f64, hi: f64) -> Result<QuantParams> {
        match self {
            Self::Integers(rule) => rule.params(calibration.scheme, lo, hi),
            Self::Floats(codes) => {
                let is_range = lo <= hi;
                let scale = codes.scale(if is_range { lo.abs().max(hi.abs()) } else { f64::NAN });
                let scale = scale.map_err(|error| match error {
                    Error::InvalidRange { .. } => {
                        Error::InvalidRange { lo: lo.to_string(), hi: hi.to_string() }
                    }
                    other => other,
                })?;
                Ok(QuantParams { scale, zero_point: 0 })
            }
        }
    }

    /// Refuses rules and types that no kernel takes.
    pub(crate) fn check(self) -> Result<()> {
        match self {
            Self::Integers(rule) => rule.check(),
            Self::Floats(_) => Ok(()),
        }
    }
}

impl FloatCodes {
    /// MXFP8 of the OCP specification: e4m3 with scales that are powers of two, for blocks of 32.
    pub const MX_E4M3: Self = Self { format: FloatFormat::E4M3, scale: FloatScale::Floor };
    /// The same with e5m2.
    pub const MX_E5M2: Self = Self { format: FloatFormat::E5M2, scale: FloatScale::Floor };
    /// MXFP4: the same with e2m1.
    pub const MX_E2M1: Self = Self { format: FloatFormat::E2M1, scale: FloatScale::Floor };

    /// The scale of values up to this magnitude. That of a power of two is within 2^-127 and 2^127; another is at least the least normal f32, and 1 for
    /// the magnitude 0.
    ///
    /// ```
    /// use wgclip::quantize::{FloatCodes, FloatFormat, FloatScale};
    ///
    /// let codes = FloatCodes { format: FloatFormat::E4M3, scale: FloatScale::Greatest };
    /// assert_eq!(codes.scale(896.0)?, 2.0);
    /// assert_eq!(FloatCodes::MX_E4M3.scale(480.0)?, 1.0);
    /// assert_eq!(FloatCodes { scale: FloatScale::RoundUp, ..codes }.scale(480.0)?, 2.0);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidRange`] for a magnitude that is negative or not finite.
    pub fn scale(self, magnitude: f64) -> Result<f32> {
        if !(magnitude >= 0.0 && magnitude.is_finite()) {
            return Err(Error::InvalidRange { lo: (-magnitude).to_string(), hi: magnitude.to_string() });
        }
        let (fraction_bits, greatest) = self.format.fraction_and_greatest();
        if self.scale == FloatScale::Greatest {
            let scale = (magnitude / greatest) as f32;
            return match magnitude {
                0.0 => Ok(1.0),
                _ if scale.is_finite() => Ok(scale.max(f32::MIN_POSITIVE)),
                _ => Err(Error::InvalidRange { lo: (-magnitude).to_string(), hi: magnitude.to_string() }),
            };
        }
        let (exponent, significand) = exponent_and_significand(magnitude);
        let (of_greatest, greatest_significand) = exponent_and_significand(greatest);
        // What the significand is rounded up to 2 from: halfway to 2 from the greatest one of the bits of a code.
        let nearly_two = 2.0 - 0.5f64.powi(fraction_bits as i32 + 1);
        let is_above = match self.scale {
            FloatScale::Greatest | FloatScale::Floor => false,
            FloatScale::Ceil => significand > 1.0,
            FloatScale::RoundUp => significand > greatest_significand,
            FloatScale::Even => significand >= nearly_two,
        };
        Ok(2f64.powi((exponent - of_greatest + i32::from(is_above)).clamp(-127, 127)) as f32)
    }
}

/// A magnitude as a number from 1 to below 2 times a power of two. 0, and what is subnormal, counts as a least one.
fn exponent_and_significand(magnitude: f64) -> (i32, f64) {
    let bits = magnitude.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    ((bits >> 52) as i32 - 1023, f64::from_bits(fraction | 1023 << 52))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What torchao 0.18's `to_mx` chose for these greatest magnitudes.
    #[test]
    fn scales_of_blocks_are_those_of_torchao() {
        let scales = |scale| {
            let codes = FloatCodes { scale, ..FloatCodes::MX_E4M3 };
            [448.0, 449.0, 480.0, 896.0].map(|magnitude| codes.scale(magnitude).unwrap())
        };
        assert_eq!(scales(FloatScale::Floor), [1.0, 1.0, 1.0, 2.0]);
        assert_eq!(scales(FloatScale::RoundUp), [1.0, 2.0, 2.0, 2.0]);
        assert_eq!(scales(FloatScale::Ceil), [2.0, 2.0, 2.0, 4.0]);
        assert_eq!(scales(FloatScale::Even), [1.0, 1.0, 1.0, 2.0]);
        for scale in [FloatScale::Floor, FloatScale::Ceil, FloatScale::RoundUp, FloatScale::Even] {
            let of = |magnitude| FloatCodes { scale, ..FloatCodes::MX_E5M2 }.scale(magnitude);
            assert_eq!(of(0.0), Ok(2f64.powi(-127) as f32), "{scale}");
            assert_eq!(of(1e-300), Ok(2f64.powi(-127) as f32), "{scale}");
            assert_eq!(of(1e300), Ok(2f32.powi(127)), "{scale}");
            assert_eq!(of(32768.0), Ok(1.0), "{scale}");
        }
        // In blocks of 4-bit floats, whose greatest is 6.
        let fours = |scale| {
            let codes = FloatCodes { scale, ..FloatCodes::MX_E2M1 };
            [4.0, 6.0, 7.0, 8.0].map(|magnitude| codes.scale(magnitude).unwrap())
        };
        assert_eq!(fours(FloatScale::Greatest)[1..], [1.0, 7.0 / 6.0, 8.0 / 6.0]);
        assert_eq!(fours(FloatScale::Floor), [1.0, 1.0, 1.0, 2.0]);
        assert_eq!(fours(FloatScale::RoundUp), [1.0, 1.0, 2.0, 2.0]);
        assert_eq!(fours(FloatScale::Ceil), [1.0, 2.0, 2.0, 2.0]);
        assert_eq!(fours(FloatScale::Even), [1.0, 1.0, 2.0, 2.0]);
        // A significand of 1.9375 is a tie between 1.875 and 2.
        let even = FloatCodes { scale: FloatScale::Even, ..FloatCodes::MX_E4M3 };
        assert_eq!([495.9, 496.0].map(|magnitude| even.scale(magnitude)), [Ok(1.0), Ok(2.0)]);
    }

    #[test]
    fn the_ends_of_magnitudes() {
        let codes = FloatCodes { format: FloatFormat::E5M2, scale: FloatScale::Greatest };
        assert_eq!(codes.scale(0.0), Ok(1.0));
        assert_eq!(codes.scale(1e-300), Ok(f32::MIN_POSITIVE));
        for magnitude in [-1.0, f64::NAN, f64::INFINITY, 1e300] {
            assert!(matches!(codes.scale(magnitude), Err(Error::InvalidRange { .. })), "{magnitude}");
        }
        let given = |lo, hi| Grid::from(codes).params(Calibration::default(), lo, hi);
        assert_eq!(given(-57344.0, 1.0).map(|params| (params.scale, params.zero_point)), Ok((1.0, 0)));
        assert_eq!(given(2.0, 1.0), Err(Error::InvalidRange { lo: "2".into(), hi: "1".into() }));
    }
}
