//! Codes that are 8-bit floats, and their scales.

use std::fmt;
use std::str::FromStr;

use super::{Calibration, QuantParams, QuantRule};
use crate::rule::named;
use crate::{ElementType, Error, Result};

/// How the scale of 8-bit floats follows from the greatest magnitude of the values. Those but `greatest` are powers of two, which an E8M0 holds,
/// from 2^-127 to 2^127, as the OCP specification of microscaling formats 1.0 has them for blocks of 32: it names the first, torchao 0.18 all four.
///
/// | name | scale |
/// |---|---|
/// | `greatest` | the magnitude by the greatest finite code, 448 or 57344: no value is clipped |
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

/// 8-bit floats as codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Float8 {
    /// Their type: f8_e4m3fn or f8_e5m2.
    pub to: ElementType,
    /// How their scales are chosen.
    pub scale: FloatScale,
}

/// What the codes of values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grid {
    /// Integers, by a rule.
    Integers(QuantRule),
    /// 8-bit floats, which have no zero point.
    Floats(Float8),
}

impl From<QuantRule> for Grid {
    fn from(rule: QuantRule) -> Self {
        Self::Integers(rule)
    }
}

impl From<Float8> for Grid {
    fn from(codes: Float8) -> Self {
        Self::Floats(codes)
    }
}

impl Grid {
    /// The scale and zero point whose codes cover the values from `lo` to `hi`: [`QuantRule::params`], or [`Float8::scale`] of the greater magnitude.
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
            Self::Floats(codes) => codes.check(),
        }
    }
}

impl Float8 {
    /// MXFP8 of the OCP specification: e4m3 with scales that are powers of two, for blocks of 32.
    pub const MX_E4M3: Self = Self { to: ElementType::F8E4M3Fn, scale: FloatScale::Floor };
    /// The same with e5m2.
    pub const MX_E5M2: Self = Self { to: ElementType::F8E5M2, scale: FloatScale::Floor };

    /// The scale of values up to this magnitude. That of a power of two is within 2^-127 and 2^127; another is at least the least normal f32, and 1 for
    /// the magnitude 0.
    ///
    /// ```
    /// use wgclip::ElementType;
    /// use wgclip::quantize::{Float8, FloatScale};
    ///
    /// let codes = Float8 { to: ElementType::F8E4M3Fn, scale: FloatScale::Greatest };
    /// assert_eq!(codes.scale(896.0)?, 2.0);
    /// assert_eq!(Float8::MX_E4M3.scale(480.0)?, 1.0);
    /// assert_eq!(Float8 { scale: FloatScale::RoundUp, ..codes }.scale(480.0)?, 2.0);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidRange`] for a magnitude that is negative or not finite, [`Error::Unsupported`] for another type.
    pub fn scale(self, magnitude: f64) -> Result<f32> {
        self.check()?;
        if !(magnitude >= 0.0 && magnitude.is_finite()) {
            return Err(Error::InvalidRange { lo: (-magnitude).to_string(), hi: magnitude.to_string() });
        }
        let layout = self.to.layout();
        let greatest = f64::from(layout.widen(layout.max_finite() as u32));
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
        let nearly_two = 2.0 - 0.5f64.powi(layout.fraction_bits() as i32 + 1);
        let is_above = match self.scale {
            FloatScale::Greatest | FloatScale::Floor => false,
            FloatScale::Ceil => significand > 1.0,
            FloatScale::RoundUp => significand > greatest_significand,
            FloatScale::Even => significand >= nearly_two,
        };
        Ok(2f64.powi((exponent - of_greatest + i32::from(is_above)).clamp(-127, 127)) as f32)
    }

    fn check(self) -> Result<()> {
        match self.to.is_float8() {
            true => Ok(()),
            false => Err(Error::Unsupported {
                what: format!("{} as 8-bit floats", self.to),
                device: "any device".into(),
                instead: "give f8_e4m3fn or f8_e5m2".into(),
            }),
        }
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
            let codes = Float8 { scale, ..Float8::MX_E4M3 };
            [448.0, 449.0, 480.0, 896.0].map(|magnitude| codes.scale(magnitude).unwrap())
        };
        assert_eq!(scales(FloatScale::Floor), [1.0, 1.0, 1.0, 2.0]);
        assert_eq!(scales(FloatScale::RoundUp), [1.0, 2.0, 2.0, 2.0]);
        assert_eq!(scales(FloatScale::Ceil), [2.0, 2.0, 2.0, 4.0]);
        assert_eq!(scales(FloatScale::Even), [1.0, 1.0, 1.0, 2.0]);
        for scale in [FloatScale::Floor, FloatScale::Ceil, FloatScale::RoundUp, FloatScale::Even] {
            let of = |magnitude| Float8 { scale, ..Float8::MX_E5M2 }.scale(magnitude);
            assert_eq!(of(0.0), Ok(2f64.powi(-127) as f32), "{scale}");
            assert_eq!(of(1e-300), Ok(2f64.powi(-127) as f32), "{scale}");
            assert_eq!(of(1e300), Ok(2f32.powi(127)), "{scale}");
            assert_eq!(of(32768.0), Ok(1.0), "{scale}");
        }
        // A significand of 1.9375 is a tie between 1.875 and 2.
        let even = Float8 { scale: FloatScale::Even, ..Float8::MX_E4M3 };
        assert_eq!([495.9, 496.0].map(|magnitude| even.scale(magnitude)), [Ok(1.0), Ok(2.0)]);
    }

    #[test]
    fn the_ends_of_magnitudes() {
        let codes = Float8 { to: ElementType::F8E5M2, scale: FloatScale::Greatest };
        assert_eq!(codes.scale(0.0), Ok(1.0));
        assert_eq!(codes.scale(1e-300), Ok(f32::MIN_POSITIVE));
        for magnitude in [-1.0, f64::NAN, f64::INFINITY, 1e300] {
            assert!(matches!(codes.scale(magnitude), Err(Error::InvalidRange { .. })), "{magnitude}");
        }
        let integers = Float8 { to: ElementType::I8, ..codes };
        assert!(matches!(integers.scale(1.0), Err(Error::Unsupported { .. })));
        let given = |lo, hi| Grid::from(codes).params(Calibration::default(), lo, hi);
        assert_eq!(given(-57344.0, 1.0).map(|params| (params.scale, params.zero_point)), Ok((1.0, 0)));
        assert_eq!(given(2.0, 1.0), Err(Error::InvalidRange { lo: "2".into(), hi: "1".into() }));
    }
}
