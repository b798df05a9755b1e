//! How values are quantised: the rule of [`fake_quantize`](crate::Tensor::fake_quantize).
//!
//! A code is `q = min(max(round(x / scale) + zero_point, min), max)`, and its value `y = (q - zero_point) * scale`. Packages differ in how they
//! divide and round, in what a NaN becomes, and in which elements a gradient passes: see [`QuantRule::PRESETS`].

mod calibration;
mod float_codes;

use std::fmt;
use std::str::FromStr;

pub use crate::tensor::QuantGradients;
pub use calibration::{Calibration, QuantParams, Scheme, ValueRange};
pub use float_codes::{E2M1, FloatCodes, FloatFormat, FloatScale, Grid};

use crate::rule::named;
use crate::{ElementType, Error, NanRule, Result};

/// How x is divided by the scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Quotient {
    /// The real number `x / scale`.
    #[default]
    Exact,
    /// Rounded to f32 (f64 for f64) before it is rounded to an integer.
    Division,
    /// x times the reciprocal of the scale, both rounded to f32 (f64 for f64).
    Reciprocal,
}

/// How the quotient is rounded to an integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Rounding {
    /// To nearest, halves to the even integer.
    #[default]
    HalfEven,
    /// To nearest, halves up: `floor(v + 1/2)`.
    HalfUp,
    /// To nearest, halves away from zero.
    HalfAway,
    /// Down: `floor(v)`.
    Down,
    /// Away from zero with a probability that is the fraction of `|v|`, else toward zero, so that the mean of many is v: where the fraction is above
    /// `(2 * r + 1) / 2^33` for r of 32 random bits, those of [`philox`](crate::reference::philox()) for the rule's seed and the index of the element in x.
    Stochastic,
}

/// What becomes of an x that is NaN. No code is NaN: where codes are the result, it becomes that of the zero point in place of NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NanCode {
    /// It stays that NaN.
    #[default]
    Nan,
    /// The value of the least code.
    Least,
    /// The value of the greatest code.
    Greatest,
    /// The value of the zero point's code: 0.
    Zero,
}

/// Which elements of x receive the upstream gradient. The others receive 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum QuantGradient {
    /// Those whose code, before it is clipped, lies in the range.
    #[default]
    Rounded,
    /// Those whose code lies inside the range, without its ends.
    Interior,
    /// Those whose `x / scale + zero_point` lies in the range before it is rounded.
    Unrounded,
    /// All: the straight-through estimator.
    StraightThrough,
}

/// The format of codes, which [`quantize`](crate::Tensor::quantize) returns and [`dequantize`](crate::Tensor::dequantize) reads. 8-bit floats need none: their type says
/// what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CodeFormat {
    /// Integers.
    #[default]
    Integer,
    /// 4-bit floats of the OCP specification of microscaling formats 1.0, with two bits of exponent and one of fraction: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their
    /// negatives. Each is in the low bits of a u8; [`pack4`](crate::Tensor::pack4) puts two into a byte.
    E2M1,
}

/// How values are quantised, and where their gradients flow.
///
/// ```
/// use wgclip::quantize::{QuantRule, Rounding};
///
/// let torch = "torch".parse::<QuantRule>()?.bits(4)?;
/// assert_eq!((torch.min, torch.max), (-8, 7));
/// let up = QuantRule { rounding: Rounding::HalfUp, ..QuantRule::range(0, 255)? };
/// # assert_ne!(torch, up);
/// # Ok::<(), wgclip::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QuantRule {
    /// The least code.
    pub min: i32,
    /// The greatest code.
    pub max: i32,
    /// How x is divided by the scale.
    pub quotient: Quotient,
    /// How the quotient is rounded.
    pub rounding: Rounding,
    /// What becomes of a NaN.
    pub nan: NanCode,
    /// Which elements receive the gradient.
    pub gradient: QuantGradient,
    /// What an x that is NaN receives.
    pub nan_gradient: NanRule,
    /// The format of codes. For 4-bit floats the range does not matter.
    pub format: CodeFormat,
    /// The seed of [`Rounding::Stochastic`]. The same seed, index and operands have the same code on every device.
    pub seed: u64,
}

impl Default for QuantRule {
    fn default() -> Self {
        Self::EXACT
    }
}

/// The greatest magnitude of a code, and the greatest difference of two.
const REACH: i32 = u16::MAX as i32;

impl QuantRule {
    /// The rule of each package, by name, for signed codes of 8 bits.
    ///
    /// | name | quotient | NaN | gradient | of a NaN | function |
    /// |---|---|---|---|---|---|
    /// | `exact` | exact | stays | rounded | passes | the default |
    /// | `torch` | reciprocal | least | rounded | 0 | `torch.fake_quantize_per_tensor_affine` 2.15 |
    /// | `torchao` | reciprocal | stays | interior | 0 | `torchao` 0.18 `_fake_quantize_affine` |
    /// | `brevitas` | division | stays | rounded | passes | brevitas 0.13 `IntQuant` with `TensorClamp` |
    /// | `brevitas-ste` | division | stays | all | passes | the same with `TensorClampSte` |
    /// | `tensorflow` | reciprocal | stays | unrounded | 0 | `tf.quantization.fake_quant_with_min_max_vars` 2.21, halves up |
    /// | `litert` | reciprocal | greatest | | | the same graph in LiteRT 2.3 |
    /// | `onnxruntime` | division | least | | | `QuantizeLinear` of onnxruntime 1.32 |
    /// | `openvino` | reciprocal | least | | | `FakeQuantize` of OpenVINO 2026.4 |
    /// | `aqt` | reciprocal | 0 | unrounded | 0 | `IntSymmetric` of aqtp 0.9, codes from -127 |
    /// | `paddle` | reciprocal | stays | all | passes | `FakeQuantAbsMax` of paddlepaddle 3.3, halves away from 0, codes from -127 |
    ///
    /// Unless it says otherwise, halves go to the even integer. Packages that have no gradient have that of `exact`.
    pub const PRESETS: &[(&str, Self)] = &[
        ("exact", Self::EXACT),
        ("torch", Self::TORCH),
        ("torchao", Self::TORCHAO),
        ("brevitas", Self::BREVITAS),
        ("brevitas-ste", Self::BREVITAS_STE),
        ("tensorflow", Self::TENSORFLOW),
        ("litert", Self::LITERT),
        ("onnxruntime", Self::ONNXRUNTIME),
        ("openvino", Self::OPENVINO),
        ("aqt", Self::AQT),
        ("paddle", Self::PADDLE),
    ];

    /// The real quotient, rounded once: the preset `exact`.
    pub const EXACT: Self = Self {
        min: i8::MIN as i32,
        max: i8::MAX as i32,
        quotient: Quotient::Exact,
        rounding: Rounding::HalfEven,
        nan: NanCode::Nan,
        gradient: QuantGradient::Rounded,
        nan_gradient: NanRule::Pass,
        format: CodeFormat::Integer,
        seed: 0,
    };
    /// 4-bit floats, by the real quotient.
    pub const E2M1: Self = Self { min: 0, max: 15, format: CodeFormat::E2M1, ..Self::EXACT };
    /// The rule of `torch.fake_quantize_per_tensor_affine`: the preset `torch`.
    pub const TORCH: Self = Self {
        quotient: Quotient::Reciprocal,
        nan: NanCode::Least,
        nan_gradient: NanRule::Zero,
        ..Self::EXACT
    };
    /// The rule of torchao's fake quantisation: the preset `torchao`.
    pub const TORCHAO: Self = Self { nan: NanCode::Nan, gradient: QuantGradient::Interior, ..Self::TORCH };
    /// The rule of brevitas' `IntQuant` with `TensorClamp`: the preset `brevitas`.
    pub const BREVITAS: Self = Self { quotient: Quotient::Division, ..Self::EXACT };
    /// The same with `TensorClampSte`: the preset `brevitas-ste`.
    pub const BREVITAS_STE: Self = Self { gradient: QuantGradient::StraightThrough, ..Self::BREVITAS };

    /// The rule of TensorFlow's `fake_quant_with_min_max_vars`: the preset `tensorflow`.
    pub const TENSORFLOW: Self = Self {
        rounding: Rounding::HalfUp,
        nan: NanCode::Nan,
        gradient: QuantGradient::Unrounded,
        ..Self::TORCH
    };
    /// The rule of LiteRT: the preset `litert`.
    pub const LITERT: Self = Self { quotient: Quotient::Reciprocal, nan: NanCode::Greatest, ..Self::EXACT };
    /// The rule of onnxruntime's `QuantizeLinear`: the preset `onnxruntime`.
    pub const ONNXRUNTIME: Self = Self { quotient: Quotient::Division, nan: NanCode::Least, ..Self::EXACT };
    /// The rule of OpenVINO's `FakeQuantize`: the preset `openvino`.
    pub const OPENVINO: Self = Self { nan: NanCode::Least, ..Self::LITERT };
    /// The rule of aqtp's `IntSymmetric`: the preset `aqt`.
    pub const AQT: Self =
        Self { min: -127, nan: NanCode::Zero, gradient: QuantGradient::Unrounded, ..Self::TORCH };
    /// The rule of Paddle's `FakeQuantAbsMax`: the preset `paddle`.
    pub const PADDLE: Self = Self {
        min: -127,
        quotient: Quotient::Reciprocal,
        rounding: Rounding::HalfAway,
        gradient: QuantGradient::StraightThrough,
        ..Self::EXACT
    };

    /// Presets that combine choices, and each rule that differs from the default in one: what the kernels are tested with.
    pub fn choices() -> impl Iterator<Item = Self> {
        let rule = Self::EXACT;
        let random = Self { rounding: Rounding::Stochastic, seed: 0x0123_4567_89ab_cdef, ..rule };
        let presets = [rule, Self::TORCH, Self::TORCHAO, Self::BREVITAS, Self::BREVITAS_STE, Self::E2M1];
        presets
            .into_iter()
            .chain([Self::TENSORFLOW, Self::PADDLE])
            .chain(Quotient::ALL.iter().map(move |&quotient| Self { quotient, ..rule }))
            .chain(Rounding::ALL.iter().map(move |&rounding| Self { rounding, ..random }))
            .chain(NanCode::ALL.iter().map(move |&nan| Self { nan, ..rule }))
            .chain(QuantGradient::ALL.iter().map(move |&gradient| Self { gradient, ..rule }))
            .chain(NanRule::ALL.iter().map(move |&nan_gradient| Self { nan_gradient, ..rule }))
            .chain(NanCode::ALL.iter().map(|&nan| Self { nan, ..Self::E2M1 }))
            .chain(Quotient::ALL.iter().map(|&quotient| Self { quotient, ..Self::E2M1 }))
            .chain([Self { quotient: Quotient::Division, ..random }])
    }

    /// The default rule for these codes.
    ///
    /// # Errors
    /// [`Error::QuantRange`] for a least code above the greatest one, and for codes that 16 bits cannot tell apart.
    pub fn range(min: i32, max: i32) -> Result<Self> {
        Self::EXACT.with_range(min, max)
    }

    /// The same rule for these codes.
    ///
    /// # Errors
    /// As [`range`](Self::range).
    pub fn with_range(self, min: i32, max: i32) -> Result<Self> {
        let rule = Self { min, max, ..self };
        rule.check()?;
        Ok(rule)
    }

    /// The same rule for signed codes of this many bits, from 2 to 16. A rule whose least code is the negative of its greatest keeps to that.
    ///
    /// # Errors
    /// As [`range`](Self::range).
    pub fn bits(self, bits: u32) -> Result<Self> {
        let half = if (2..=16).contains(&bits) { 1 << (bits - 1) } else { 0 };
        let is_narrow = self.min == -self.max;
        self.with_range(if is_narrow { 1 - half } else { -half }, half - 1)
    }

    /// Refuses a range that no kernel takes.
    pub(crate) fn check(self) -> Result<()> {
        let Self { min, max, .. } = self;
        let reach = -REACH..=REACH;
        let fits = reach.contains(&min) && reach.contains(&max) && min <= max && max - min <= REACH;
        if fits { Ok(()) } else { Err(Error::QuantRange { min, max }) }
    }
}

impl QuantRule {
    /// Refuses a type that has no codes of the format.
    pub(crate) fn check_format(self, codes: ElementType) -> Result<()> {
        match self.format {
            CodeFormat::E2M1 if codes != ElementType::U8 => Err(Error::Unsupported {
                what: format!("{} codes of {codes}", self.format),
                device: "any device".into(),
                instead: "each is the low bits of a u8".into(),
            }),
            _ => Ok(()),
        }
    }

    /// Refuses codes that a type does not hold, and for floats other roundings than theirs.
    pub(crate) fn check_fits(self, to: ElementType) -> Result<()> {
        let refuse = |instead: String| {
            let what = format!("codes from {} to {} as {to}", self.min, self.max);
            Err(Error::Unsupported { what, device: "any device".into(), instead })
        };
        self.check_format(to)?;
        let is_float = to.is_float8() || self.format == CodeFormat::E2M1;
        if is_float && self.rounding != Rounding::HalfEven {
            return Err(Error::Unsupported {
                what: format!("codes that are floats by the rounding {}", self.rounding),
                device: "any device".into(),
                instead: "floats are rounded half-even: give a rule that does".into(),
            });
        }
        match to.code_range() {
            _ if is_float => Ok(()),
            Some([min, max]) if min <= self.min.into() && max >= self.max.into() => Ok(()),
            Some([min, max]) => refuse(format!("give a rule with a range within {min}..={max}")),
            None => refuse("give i8, u8, i16, u16, i32, f8_e4m3fn or f8_e5m2".into()),
        }
    }
}

impl fmt::Display for QuantRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { min, max, quotient, rounding, nan, gradient, nan_gradient, format, seed } = self;
        match format {
            CodeFormat::Integer => write!(f, "{min}..={max}")?,
            format => write!(f, "{format}")?,
        }
        write!(f, ", quotient {quotient}, {rounding}")?;
        if *rounding == Rounding::Stochastic {
            write!(f, " of seed {seed}")?;
        }
        write!(f, ", nan {nan}, ")?;
        write!(f, "gradient {gradient}, of nan {nan_gradient}")
    }
}

impl FromStr for QuantRule {
    type Err = Error;

    /// Parses the name of a preset.
    fn from_str(name: &str) -> Result<Self> {
        let preset = Self::PRESETS.iter().find(|(n, _)| *n == name);
        preset.map(|(_, rule)| *rule).ok_or_else(|| Error::UnknownRule { name: name.to_owned() })
    }
}

named!(Quotient { Exact: "exact", Division: "division", Reciprocal: "reciprocal" });
named!(Rounding {
    HalfEven: "half-even",
    HalfUp: "half-up",
    HalfAway: "half-away",
    Down: "down",
    Stochastic: "stochastic"
});
named!(NanCode { Nan: "nan", Least: "least", Greatest: "greatest", Zero: "zero" });
named!(CodeFormat { Integer: "integer", E2M1: "e2m1" });
named!(QuantGradient {
    Rounded: "rounded",
    Interior: "interior",
    Unrounded: "unrounded",
    StraightThrough: "straight-through"
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for (name, rule) in QuantRule::PRESETS {
            assert_eq!(name.parse(), Ok(*rule));
        }
        for rounding in Rounding::ALL {
            assert_eq!(rounding.name().parse(), Ok(*rounding));
        }
        assert!("pytorch".parse::<QuantRule>().is_err());
    }

    #[test]
    fn a_range_has_codes_that_16_bits_tell_apart() {
        let range = |min, max| QuantRule::range(min, max).map(|rule| (rule.min, rule.max));
        for (min, max) in [(0, 255), (-128, 127), (-32768, 32767), (0, 65535), (-65535, 0), (3, 3)] {
            assert_eq!(range(min, max), Ok((min, max)));
        }
        for (min, max) in [(1, 0), (-1, 65535), (0, 65536), (i32::MIN, i32::MAX), (i32::MAX, i32::MAX)] {
            assert_eq!(range(min, max), Err(Error::QuantRange { min, max }));
        }
        assert_eq!(QuantRule::EXACT.bits(2).map(|rule| (rule.min, rule.max)), Ok((-2, 1)));
        assert_eq!(QuantRule::AQT.bits(4).map(|rule| (rule.min, rule.max)), Ok((-7, 7)));
        for bits in [0, 1, 17, 32, u32::MAX] {
            assert!(
                QuantRule::EXACT.bits(bits).is_err() && QuantRule::AQT.bits(bits).is_err(),
                "{bits} bits"
            );
        }
    }
}
