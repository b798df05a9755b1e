//! The options of `wgclip quantize` and `wgclip dequantize`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::TypedValueParser;
use wgclip::ElementType;
use wgclip::quantize::{
    Calibration, FloatCodes, FloatFormat, FloatScale, Grid, QuantRule, Scheme, ValueRange,
};

use super::{Effort, Tensors, element, names};
use crate::quantize::Packing;

pub(super) const QUANTIZE_EXAMPLES: &str = "\
Examples:
  wgclip quantize model.safetensors int8.safetensors --per-channel 0
  wgclip quantize model.safetensors int4.safetensors --bits 4 --group 128 --range mse
  wgclip quantize checkpoint/ uint8/ --to u8 --scheme affine --like torch --except '*lm_head*'
  wgclip quantize x.npy x.safetensors --range p99.9
  wgclip quantize model.safetensors fp8.safetensors --to f8_e4m3fn --per-channel 0
  wgclip quantize model.safetensors mx.safetensors --to mxfp4     # blocks of 32
  wgclip quantize model.safetensors w4.safetensors --to int4 --group 128
  wgclip inspect model.safetensors --bits 4 --group 128       # its error first";

pub(super) const DEQUANTIZE_EXAMPLES: &str = "\
Examples:
  wgclip dequantize int8.safetensors model.safetensors
  wgclip dequantize int8/ model/ --to bf16";

/// How values become codes.
#[derive(Debug, Args)]
pub(crate) struct Codes {
    /// Bits of a code, from 2 to 16 [default of `wgclip quantize`: 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=16))]
    pub bits: Option<u32>,
    /// The type of the codes. An unsigned integer has codes from 0; mxfp8 is f8_e4m3fn in blocks of 32 with E8M0 scales (OCP microscaling), mxfp8_e5m2
    /// the same with f8_e5m2, mxfp4 with 4-bit floats, two a byte; int4 packs 8 integers from -8 into an I32 as compressed-tensors does [default: i8, or i16
    /// for more than 8 bits]
    #[arg(long, value_name = "T", value_parser = code_type())]
    pub to: Option<CodeType>,
    /// How scales of codes that are floats follow from the greatest magnitude: it is the greatest code (greatest), or powers of two by the roundings of
    /// torchao [default: greatest; floor for mxfp8 and mxfp4]
    #[arg(long, value_name = "RULE", value_parser = float_scale())]
    pub scales: Option<FloatScale>,
    /// A scale for each slice of this axis, 0 for the rows of a matrix [default: one for the tensor]
    #[arg(long, value_name = "AXIS", allow_hyphen_values = true, conflicts_with = "group")]
    pub per_channel: Option<i64>,
    /// A scale for each group of this many elements that follow one another along the last axis
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub group: Option<u64>,
    /// The values that the codes cover: minmax; p99.9, between the percentiles 0.1 and 99.9, or p1..p99; mse, the part of minmax with the least squared
    /// error; or two numbers, -1..1 [default: minmax]
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    pub range: Option<ValueRange>,
    /// How codes are spread over them: around 0 (symmetric, none clipped, or symmetric-half, with the scale max/127.5 of torch), or from the lowest
    /// to the highest with a zero point (affine; shifted as TensorFlow does it) [default: symmetric]
    #[arg(long, value_name = "SCHEME", value_parser = scheme())]
    pub scheme: Option<Scheme>,
    /// Divide and round as a package does, see docs/quantisation.md [default: exact]
    #[arg(long, value_name = "PACKAGE", value_parser = names(QuantRule::PRESETS.iter().map(|(name, _)| *name)))]
    pub like: Option<String>,
    /// Choose scales by the finite elements alone, instead of refusing a tensor that holds NaN or infinity
    #[arg(long)]
    pub finite_only: bool,
}

/// What `--to` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodeType {
    pub element: ElementType,
    /// The format of floats.
    float: Option<FloatFormat>,
    /// How they are packed, if they are.
    pub packing: Option<Packing>,
    /// Its name, if it is not a type alone.
    format: Option<&'static str>,
}

/// Those that are not types alone: the microscaling formats, and packed integers.
const FORMATS: [CodeType; 4] = [
    CodeType::of_floats(FloatFormat::E4M3, "mxfp8"),
    CodeType::of_floats(FloatFormat::E5M2, "mxfp8_e5m2"),
    CodeType { packing: Some(Packing::E2M1), ..CodeType::of_floats(FloatFormat::E2M1, "mxfp4") },
    CodeType { element: ElementType::U8, float: None, packing: Some(Packing::Int4), format: Some("int4") },
];

/// Elements that share a scale in these.
const MX_BLOCK: u64 = 32;

impl CodeType {
    const fn of_floats(float: FloatFormat, name: &'static str) -> Self {
        Self { element: float.element(), float: Some(float), packing: None, format: Some(name) }
    }

    fn of(element: ElementType) -> Self {
        let float =
            [FloatFormat::E4M3, FloatFormat::E5M2].into_iter().find(|float| float.element() == element);
        Self { element, float, packing: None, format: None }
    }

    fn all() -> impl Iterator<Item = Self> {
        let elements = ElementType::ALL.iter().copied().filter(|element| element.is_code());
        elements.map(Self::of).chain(FORMATS)
    }

    pub(crate) fn name(self) -> &'static str {
        self.format.unwrap_or(self.element.name())
    }

    /// Whether its scales are powers of two, a byte each.
    fn is_mx(self) -> bool {
        self.float.is_some() && self.format.is_some()
    }

    /// Whether it is packed integers.
    fn is_int4(self) -> bool {
        self.packing == Some(Packing::Int4)
    }
}

fn code_type() -> impl TypedValueParser<Value = CodeType> {
    let parsed = |name: String| CodeType::all().find(|of| of.name() == name).unwrap_or(FORMATS[0]);
    names(CodeType::all().map(CodeType::name)).map(parsed)
}

fn float_scale() -> impl TypedValueParser<Value = FloatScale> {
    names(FloatScale::ALL.iter().map(|scale| scale.name())).map(|name| name.parse().unwrap_or_default())
}

fn scheme() -> impl TypedValueParser<Value = Scheme> {
    names(Scheme::ALL.iter().map(|scheme| scheme.name())).map(|name| name.parse().unwrap_or_default())
}

impl Codes {
    /// What the codes are.
    pub(crate) fn code_type(&self) -> CodeType {
        let by_bits = if self.bits.unwrap_or(8) > 8 { ElementType::I16 } else { ElementType::I8 };
        self.to.unwrap_or(CodeType::of(by_bits))
    }

    /// Whether a microscaling format was asked for.
    pub(crate) fn is_mx(&self) -> bool {
        self.code_type().is_mx()
    }

    /// How many elements of the last axis share a scale, if groups do.
    pub(crate) fn group(&self) -> Option<u64> {
        self.group.or(self.is_mx().then_some(MX_BLOCK))
    }

    /// What the codes are.
    ///
    /// # Errors
    /// For codes that their type does not hold, and for options of integers beside floats.
    pub(crate) fn grid(&self) -> anyhow::Result<Grid> {
        let to = self.code_type();
        let Some(format) = to.float else {
            if self.scales.is_some() {
                anyhow::bail!(
                    "--scales is for floats: give --to f8_e4m3fn, f8_e5m2, mxfp8 or mxfp4, or leave it out"
                );
            }
            return Ok(self.rule()?.into());
        };
        let of_integers = [
            (self.bits.is_some(), "--bits"),
            (self.scheme.is_some(), "--scheme"),
            (self.range == Some(ValueRange::SquaredError), "--range mse"),
        ];
        if let Some((_, option)) = of_integers.iter().find(|(given, _)| *given) {
            anyhow::bail!("{option} is for integer codes, and {} is a float: leave it out", to.name());
        }
        if to.is_mx() && self.per_channel.is_some() {
            let name = to.name();
            anyhow::bail!("--per-channel is not for {name}, whose scales are those of blocks: leave it out");
        }
        if to.is_mx() && self.scales == Some(FloatScale::Greatest) {
            anyhow::bail!(
                "the scales of {} are powers of two: give --scales floor, ceil, round-up or even",
                to.name()
            );
        }
        let by_default = if to.is_mx() { FloatScale::Floor } else { FloatScale::Greatest };
        Ok(FloatCodes { format, scale: self.scales.unwrap_or(by_default) }.into())
    }

    /// The rule that the options specify.
    ///
    /// # Errors
    /// For codes that their type does not hold.
    pub(crate) fn rule(&self) -> anyhow::Result<QuantRule> {
        let to = self.code_type();
        if to.is_int4() && self.bits.is_some_and(|bits| bits != 4) {
            anyhow::bail!("int4 has 4 bits: leave --bits out");
        }
        if to.is_int4() && matches!(self.scheme, Some(Scheme::Affine | Scheme::Shifted)) {
            anyhow::bail!("int4 has no zero points: leave --scheme out, or give --to u8 --bits 4");
        }
        let (element, bits) = (to.element, self.bits.unwrap_or(if to.is_int4() { 4 } else { 8 }));
        if bits as usize > 8 * element.size() {
            anyhow::bail!(
                "codes of {bits} bits do not fit {element}: give --to a longer type, or fewer --bits"
            );
        }
        let preset = self.preset();
        let is_unsigned = element.code_range().is_some_and(|[min, _]| min == 0);
        Ok(if is_unsigned { preset.with_range(0, (1 << bits) - 1)? } else { preset.bits(bits)? })
    }

    /// How a package divides and rounds.
    pub(crate) fn preset(&self) -> QuantRule {
        // clap has validated the name against the same list.
        self.like.as_ref().and_then(|name| name.parse().ok()).unwrap_or(QuantRule::EXACT)
    }

    /// How scales are chosen.
    pub(crate) fn calibration(&self) -> Calibration {
        let (range, scheme) = (self.range.unwrap_or_default(), self.scheme.unwrap_or_default());
        Calibration { range, scheme, finite_only: self.finite_only }
    }

    /// Whether codes were asked for where they need not be: by bits, or by a type that says how many there are.
    pub(crate) fn is_given(&self) -> bool {
        self.bits.is_some() || self.code_type().float.is_some() || self.code_type().is_int4()
    }

    /// An option that was given although it says nothing without --bits.
    pub(crate) fn option_without_bits(&self) -> Option<&'static str> {
        let given = [
            (self.to.is_some(), "--to"),
            (self.scales.is_some(), "--scales"),
            (self.per_channel.is_some(), "--per-channel"),
            (self.group.is_some(), "--group"),
            (self.range.is_some(), "--range"),
            (self.scheme.is_some(), "--scheme"),
            (self.like.is_some(), "--like"),
            (self.finite_only, "--finite-only"),
        ];
        given.into_iter().find(|(is_given, _)| *is_given && !self.is_given()).map(|(_, name)| name)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Quantize {
    /// The tensors: as for `wgclip clip`. Without --tensor the floats of two axes or more are quantized, which weights are, or else all floats
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// The .safetensors file to write, or the folder, whole or not at all; may be IN. - is stdout. The codes of a tensor have its name, its scales
    /// that name with _scale, and zero points, unless all are 0, with _zero_point; int4 has the name with _packed, and its shape in _shape
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    #[command(flatten)]
    pub codes: Codes,
    #[command(flatten)]
    pub tensors: Tensors,
    #[command(flatten)]
    pub effort: Effort,
    /// Print no summary
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Dequantize {
    /// The codes: a .safetensors file or a folder of them. Tensors of integers of up to 32 bits, and of floats of 8 and 4 bits, with a tensor of their name and _scale are
    /// dequantized, and so are the packed ones of `--to int4`; others are kept
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// The file to write, or the folder, whole or not at all; may be IN. - is stdout
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// The float type of the values
    #[arg(long, value_name = "T", value_parser = element(|t| t.is_float() && (2..=4).contains(&t.size())), default_value = "f32")]
    pub to: ElementType,
    #[command(flatten)]
    pub effort: Effort,
    /// Print no summary
    #[arg(long, short)]
    pub quiet: bool,
}
