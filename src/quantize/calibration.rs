//! Calibration: which values the codes of a tensor are to cover, and the scale and zero point that do it.

use std::fmt;
use std::str::FromStr;

use super::QuantRule;
use crate::rule::named;
use crate::{Error, Result};

/// What lies between two codes that follow one another, and which code stands for 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuantParams {
    /// The difference of the values of two codes that follow one another.
    pub scale: f32,
    /// The code whose value is 0.
    pub zero_point: i32,
}

/// How the codes of a rule are spread over a range of values.
///
/// | name | zero point | scale | as |
/// |---|---|---|---|
/// | `symmetric` | the middle code: 0, or 128 of 0..=255 | the greatest magnitude by the codes on the shorter side, 127 | no element is clipped |
/// | `symmetric-half` | the middle code | the greatest magnitude by half of the steps, 127.5 | torch 2.15's observers, torchao 0.18 |
/// | `affine` | the code nearest to 0 | the range, extended to hold 0, by the steps, 255 | torch, LiteRT |
/// | `shifted` | the code nearest to 0, or the one at the end that is nearest | the range as it is by the steps | TensorFlow's `fake_quant_with_min_max_vars`, which shifts a range beside 0 to it |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Scheme {
    /// Around 0; no value of the range is clipped.
    #[default]
    Symmetric,
    /// Around 0, with half of the steps on each side: the greatest magnitude may be half a step beyond the last code.
    SymmetricHalf,
    /// From the least to the greatest value, extended to hold 0.
    Affine,
    /// The same, shifted to hold 0 where the range does not.
    Shifted,
}

named!(Scheme {
    Symmetric: "symmetric",
    SymmetricHalf: "symmetric-half",
    Affine: "affine",
    Shifted: "shifted"
});

/// Which values the codes are to cover.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum ValueRange {
    /// From the least element to the greatest: `"minmax"`.
    #[default]
    MinMax,
    /// Between two quantiles, each a share of the elements: `"p99.9"` is between the shares 0.001 and 0.999, `"p1..p99"` between 0.01 and 0.99.
    Quantiles {
        /// The share of the lower end.
        lo: f64,
        /// The share of the upper end.
        hi: f64,
    },
    /// The part of the least to the greatest element with the least squared error: `"mse"`. Both ends are multiplied by n / 1024: first by
    /// each n that is a multiple of 16, then by those between the neighbours of the best. Of equal errors the greater range is taken.
    SquaredError,
    /// From one number to another: `"-1..1"`.
    Given {
        /// The lower end.
        lo: f64,
        /// The upper end.
        hi: f64,
    },
}

impl fmt::Display for ValueRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MinMax => f.write_str("minmax"),
            Self::Quantiles { lo, hi } => write!(f, "between the shares {lo} and {hi}"),
            Self::SquaredError => f.write_str("mse"),
            Self::Given { lo, hi } => write!(f, "{lo}..{hi}"),
        }
    }
}

impl FromStr for ValueRange {
    type Err = Error;

    /// Parses what [`ValueRange`] names; percentages are read as decimal numbers, so `p99.9` is exactly between 0.1 % and 99.9 %.
    fn from_str(text: &str) -> Result<Self> {
        let unknown = || Error::UnknownRange { text: text.to_owned() };
        let range = match (text, text.split_once("..")) {
            ("minmax", _) => Self::MinMax,
            ("mse", _) => Self::SquaredError,
            (_, None) => {
                let percent = text.strip_prefix('p').ok_or_else(unknown)?;
                let [lo, hi] = [rest_of_hundred(percent), share(percent)];
                let (lo, hi) = (lo.ok_or_else(unknown)?, hi.ok_or_else(unknown)?);
                if lo > hi {
                    return Err(unknown());
                }
                Self::Quantiles { lo, hi }
            }
            (_, Some((lo, hi))) => match (lo.strip_prefix('p'), hi.strip_prefix('p')) {
                (Some(lo), Some(hi)) => {
                    let [lo, hi] = [lo, hi].map(share);
                    Self::Quantiles { lo: lo.ok_or_else(unknown)?, hi: hi.ok_or_else(unknown)? }
                }
                _ => {
                    let [lo, hi] = [lo, hi].map(|end| end.parse().map_err(|_| unknown()));
                    Self::Given { lo: lo?, hi: hi? }
                }
            },
        };
        range.check()?;
        Ok(range)
    }
}

/// A percentage as a share, rounded once.
fn share(percent: &str) -> Option<f64> {
    let is_plain = percent.chars().all(|c| c.is_ascii_digit() || c == '.');
    format!("{percent}e-2").parse().ok().filter(|_| is_plain)
}

/// The share of `100 - percent`, rounded once.
fn rest_of_hundred(percent: &str) -> Option<f64> {
    let (whole, fraction) = percent.split_once('.').unwrap_or((percent, ""));
    let digits = u32::try_from(fraction.len()).ok()?;
    let unit = 10u128.checked_pow(digits)?;
    let number: u128 = format!("{whole}{fraction}").parse().ok()?;
    let rest = unit.checked_mul(100)?.checked_sub(number)?;
    format!("{rest}e-{}", digits + 2).parse().ok()
}

impl ValueRange {
    /// Refuses ends that are no range.
    pub(crate) fn check(self) -> Result<()> {
        match self {
            Self::MinMax | Self::SquaredError => Ok(()),
            Self::Quantiles { lo, hi } => match [lo, hi].iter().find(|share| !(0.0..=1.0).contains(*share)) {
                Some(share) => Err(Error::InvalidShare { share: share.to_string() }),
                None if lo > hi => Err(invalid(lo, hi)),
                None => Ok(()),
            },
            Self::Given { lo, hi } if lo <= hi && lo.is_finite() && hi.is_finite() => Ok(()),
            Self::Given { lo, hi } => Err(invalid(lo, hi)),
        }
    }
}

fn invalid(lo: f64, hi: f64) -> Error {
    Error::InvalidRange { lo: lo.to_string(), hi: hi.to_string() }
}

/// How scales and zero points are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Calibration {
    /// Which values the codes are to cover.
    pub range: ValueRange,
    /// How integer codes are spread over them.
    pub scheme: Scheme,
    /// Whether elements that are NaN or infinite are left out. Otherwise they are an error.
    pub finite_only: bool,
}

impl QuantRule {
    /// The scale and zero point whose codes cover the values from `lo` to `hi`: computed in f64, with the scale rounded to f32. A range of one number is extended
    /// to hold 0; that of 0 alone has the scale 1. No scale is below the least normal f32.
    ///
    /// ```
    /// use wgclip::quantize::{QuantRule, Scheme};
    ///
    /// let params = QuantRule::range(0, 255)?.params(Scheme::Affine, 0.1, 1.0)?;
    /// assert_eq!((params.scale, params.zero_point), (1.0 / 255.0, 0));
    /// let params = QuantRule::EXACT.params(Scheme::Symmetric, -0.5, 2.54)?;
    /// assert_eq!((params.scale, params.zero_point), (0.02, 0));
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidRange`] for ends that are not finite or the wrong way around, or so far apart that the scale is beyond f32, and for rules
    /// of one code; [`Error::QuantRange`].
    pub fn params(self, scheme: Scheme, lo: f64, hi: f64) -> Result<QuantParams> {
        self.check()?;
        let finite = lo <= hi && lo.is_finite() && hi.is_finite();
        let (min, max) = (f64::from(self.min), f64::from(self.max));
        let middle = (self.min + self.max + 1).div_euclid(2);
        let magnitude = hi.max(-lo).max(0.0);
        let (range, steps, zero) = match scheme {
            Scheme::Symmetric => {
                (magnitude, (max - f64::from(middle)).min(f64::from(middle) - min), Some(middle))
            }
            Scheme::SymmetricHalf => (magnitude, (max - min) / 2.0, Some(middle)),
            // One number is no range: with 0 it is one.
            Scheme::Shifted if hi > lo => (hi - lo, max - min, None),
            Scheme::Affine | Scheme::Shifted => (hi.max(0.0) - lo.min(0.0), max - min, None),
        };
        let scale = match range {
            0.0 => 1.0,
            _ => ((range / steps) as f32).max(f32::MIN_POSITIVE),
        };
        if !finite || !scale.is_finite() {
            return Err(invalid(lo, hi));
        }
        let lowest = if scheme == Scheme::Shifted && hi > lo { lo } else { lo.min(0.0) };
        let nearest = || (min - lowest / f64::from(scale)).round_ties_even().clamp(min, max) as i32;
        Ok(QuantParams { scale, zero_point: zero.unwrap_or_else(nearest) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(scheme: Scheme, [min, max]: [i32; 2], lo: f64, hi: f64) -> (f32, i32) {
        let params = QuantRule::range(min, max).unwrap().params(scheme, lo, hi).unwrap();
        (params.scale, params.zero_point)
    }

    /// What packages choose for the same ranges: torch 2.15's MinMaxObserver, LiteRT 2.3's converter, TensorFlow 2.21's nudging.
    #[test]
    fn ranges_have_the_parameters_of_the_packages() {
        use Scheme::{Affine, Shifted, Symmetric, SymmetricHalf};
        let (bytes, signed) = ([0, 255], [-128, 127]);
        assert_eq!(params(Affine, bytes, 0.1, 1.0), (1.0 / 255.0, 0));
        assert_eq!(params(Affine, bytes, -0.1, 0.2), ((0.3f64 / 255.0) as f32, 85));
        assert_eq!(params(SymmetricHalf, signed, -0.3, 1.0), (2.0 / 255.0, 0));
        assert_eq!(params(Affine, signed, 1.0, 2.0), (2.0 / 255.0, -128));
        assert_eq!(params(Affine, signed, -2.0, -1.0), (2.0 / 255.0, 127));
        assert_eq!(params(Affine, signed, -0.1, 0.2).1, -43);
        assert_eq!(params(Shifted, bytes, 0.1, 1.0), ((0.9f64 / 255.0) as f32, 0));
        assert_eq!(params(Shifted, bytes, -6.0, -1.0), ((5.0f64 / 255.0) as f32, 255));
        assert_eq!(params(Shifted, bytes, 2.55, 2.55), (0.01, 0));
        assert_eq!(params(Symmetric, signed, -1.0, 1.0), (1.0 / 127.0, 0));
        assert_eq!(params(Symmetric, bytes, -1.0, 0.5), (1.0 / 127.0, 128));
        assert_eq!(params(Symmetric, [-2, 1], -1.0, 0.5), (1.0, 0));
    }

    #[test]
    fn extreme_ranges() {
        for &scheme in Scheme::ALL {
            assert_eq!(params(scheme, [-128, 127], 0.0, 0.0).0, 1.0, "{scheme}");
            assert_eq!(params(scheme, [-128, 127], 0.0, 1e-300).0, f32::MIN_POSITIVE, "{scheme}");
            for (lo, hi) in [(1.0, 0.0), (f64::NAN, 0.0), (0.0, f64::INFINITY), (-1e308, 1e308)] {
                let params = QuantRule::EXACT.params(scheme, lo, hi);
                assert!(matches!(params, Err(Error::InvalidRange { .. })), "{scheme} {lo} {hi}: {params:?}");
            }
            let one_code = QuantRule::range(3, 3).unwrap().params(scheme, -1.0, 1.0);
            assert!(matches!(one_code, Err(Error::InvalidRange { .. })), "{scheme}: {one_code:?}");
        }
    }

    #[test]
    fn ranges_are_parsed_as_decimals() {
        let quantiles = |lo, hi| Ok(ValueRange::Quantiles { lo, hi });
        assert_eq!("minmax".parse(), Ok(ValueRange::MinMax));
        assert_eq!("mse".parse(), Ok(ValueRange::SquaredError));
        assert_eq!("p99.9".parse(), quantiles(0.001, 0.999));
        assert_eq!("p100".parse(), quantiles(0.0, 1.0));
        assert_eq!("p0.5..p99".parse(), quantiles(0.005, 0.99));
        assert_eq!("-1..2.5".parse(), Ok(ValueRange::Given { lo: -1.0, hi: 2.5 }));
        for text in [
            "", "p", "p101", "p-1", "p1e1", "p40", "p3..p2", "1..", "1..0", "0..inf", "nan..1", "p1..2",
            "max",
        ] {
            assert!(text.parse::<ValueRange>().is_err(), "{text}");
        }
    }
}
