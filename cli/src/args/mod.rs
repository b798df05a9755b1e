//! The command line.

mod activate;
#[cfg(feature = "bench")]
mod bench;
#[cfg(feature = "check")]
mod check;
mod norm;
mod quantize;

use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args, Parser, Subcommand};
use wgclip::bounds::BoundRounding;
use wgclip::{BackwardRule, ElementType, NanRule, OutsideRule, TieRule};

pub(crate) use activate::Activate;
#[cfg(feature = "bench")]
pub(crate) use bench::{Bench, EXAMPLES as BENCH_EXAMPLES};
#[cfg(feature = "check")]
pub(crate) use check::{Check, EXAMPLES as CHECK_EXAMPLES};
pub(crate) use norm::{ClipNorm, Norm};
pub(crate) use quantize::{Codes, Dequantize, Quantize};

const EXAMPLES: &str = "\
Examples:
  wgclip clip activations.npy clipped.npy --min 0 --max 6
  wgclip clip x.npy x.npy --max 1e4 --device gpu
  wgclip inspect model.safetensors --max 1
  wgclip backward activations.npy upstream.npy grad.npy --min 0 --max 6 --like torch
  wgclip devices";

const CLIP_EXAMPLES: &str = "\
Examples:
  wgclip clip x.npy y.npy --min 0 --max 1
  wgclip clip x.npy x.npy --min -1            # in place; no upper bound
  wgclip clip x.npy y.npy --min lo.npy --max 6     # a tensor of bounds
  wgclip clip x.npy y.npy --min p0.1 --max p99.9   # its own percentiles; --axes 0: those of each column
  wgclip clip model.safetensors out.safetensors --min -1 --max 1 --tensor 'layers.*.weight' --except '*.norm.*'
  wgclip clip checkpoint/ half/ --to f16                # a folder of shards, to the range of f16
  wgclip clip - - --min 0 < x.npy > y.npy";

const BACKWARD_EXAMPLES: &str = "\
Examples:
  wgclip backward x.npy upstream.npy grad.npy --min 0 --max 6
  wgclip backward x.npy upstream.npy grad.npy --min 0 --max 6 --like jax
  wgclip backward x.npy upstream.npy grad.npy --max 1 --rule toward --ties exclusive
  wgclip backward x.npy upstream.npy grad.npy --max hi.npy --max-grad hi-grad.npy";

const INSPECT_EXAMPLES: &str = "\
Examples:
  wgclip inspect model.safetensors
  wgclip inspect checkpoint/ --tensor '*.weight' --min -1 --max 1    # and how much lies beyond
  wgclip inspect x.npy --percentiles 0.1,50,99.9 --head 5
  wgclip inspect model.safetensors --bits 4 --group 128 --range mse    # the error of its codes
  wgclip inspect x.npy --json --plot x.svg";

const DEVICES_EXAMPLES: &str = "\
Examples:
  wgclip devices
  wgclip devices --json";

/// Clip tensor files on the GPU or the CPU, bit for bit.
#[derive(Debug, Parser)]
#[command(name = "wgclip", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Clip the values of a tensor: min(max(x, MIN), MAX)
    #[command(after_help = CLIP_EXAMPLES, alias = "value")]
    Clip(Clip),
    /// The backward pass: the gradient of IN, from the gradient of the clipped tensor
    #[command(after_help = BACKWARD_EXAMPLES, alias = "grad")]
    Backward(Backward),
    /// Apply a function that bounds every value: tanh, sigmoid or a soft cap
    #[command(after_help = activate::EXAMPLES)]
    Activate(Activate),
    /// Print the exact norm of each tensor, and of all together
    #[command(after_help = norm::NORM_EXAMPLES)]
    Norm(Norm),
    /// Scale tensors down so that their norm is at most MAX: gradients before a step
    #[command(after_help = norm::CLIP_NORM_EXAMPLES)]
    ClipNorm(ClipNorm),
    /// Store tensors as integer codes with their scales
    #[command(after_help = quantize::QUANTIZE_EXAMPLES)]
    Quantize(Quantize),
    /// Turn such codes back into floats
    #[command(after_help = quantize::DEQUANTIZE_EXAMPLES)]
    Dequantize(Dequantize),
    /// Show statistics of the values in a file before clipping or quantizing
    #[command(after_help = INSPECT_EXAMPLES)]
    Inspect(Inspect),
    /// Compare a device with the reference, bit for bit: whether its driver can be trusted
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
    /// Benchmark the operations against copies of the same bytes, the bandwidth limit
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(Bench),
    /// List the devices, and the one that `auto` selects
    #[command(after_help = DEVICES_EXAMPLES)]
    Devices {
        /// Print a JSON array, one object per device
        #[arg(long)]
        json: bool,
    },
}

/// Stands for a subcommand that is missing in this build.
#[cfg(not(all(feature = "bench", feature = "check")))]
#[derive(Debug, Args)]
pub(crate) struct NotBuilt {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<std::ffi::OsString>,
}

#[cfg(not(feature = "bench"))]
pub(crate) type Bench = NotBuilt;
#[cfg(not(feature = "bench"))]
const BENCH_EXAMPLES: &str = "This build does not have it: build the command with --features bench.";
#[cfg(not(feature = "check"))]
pub(crate) type Check = NotBuilt;
#[cfg(not(feature = "check"))]
const CHECK_EXAMPLES: &str = "This build does not have it: build the command with --features check.";

#[derive(Debug, Args)]
#[command(group = interval().arg("to"))]
pub(crate) struct Clip {
    /// The tensors: a .npy, .npz or .safetensors file, - for stdin, the folder of a checkpoint, or its .index.json
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// The file to write, or the folder, whole or not at all; may be IN. - is stdout
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    #[command(flatten)]
    pub common: Common,
    /// Convert the clipped tensors to another float type: rounded once, to nearest even, saturated, never to infinity or NaN. Without
    /// bounds only its range limits values
    #[arg(long, value_name = "T", value_parser = element(ElementType::is_float))]
    pub to: Option<ElementType>,
}

#[derive(Debug, Args)]
#[command(group = interval())]
pub(crate) struct Backward {
    /// The tensors that were clipped: a .npy, .npz or .safetensors file
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// The gradients with respect to the clipped tensors, with the same names, types and shapes
    #[arg(value_name = "UPSTREAM")]
    pub upstream: PathBuf,
    /// The file to write, whole or not at all, in the format of UPSTREAM; may be IN or UPSTREAM
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub rule: Rule,
    /// Write the gradient of the lower bound, summed to its shape: a .npy or .safetensors file
    #[arg(long, value_name = "FILE", requires = "min")]
    pub min_grad: Option<PathBuf>,
    /// Write the gradient of the upper bound, summed to its shape: a .npy or .safetensors file
    #[arg(long, value_name = "FILE", requires = "max")]
    pub max_grad: Option<PathBuf>,
}

/// The interval.
#[derive(Debug, Args)]
pub(crate) struct Interval {
    /// The lower bound: a number, inf or -inf; p0.1, a percentile of the tensor itself (one of its elements, NaN ignored); or a file of
    /// bounds that broadcast to the tensor, one for all tensors or one for each by name. Default: no lower bound
    #[arg(long, value_name = "V|pV|FILE", allow_hyphen_values = true, value_parser = limit)]
    pub min: Option<Limit>,
    /// The upper bound, likewise
    #[arg(long, value_name = "V|pV|FILE", allow_hyphen_values = true, value_parser = limit)]
    pub max: Option<Limit>,
    /// With a percentile: take it per slice along these axes, such as 0 or -1, instead of over the whole tensor
    #[arg(long, value_name = "A,B", value_delimiter = ',', allow_hyphen_values = true)]
    pub axes: Option<Vec<i64>>,
    /// How to round a bound that the tensor's type cannot represent: to the nearest number of that type, or inward, so
    /// that no result exceeds the requested bound
    #[arg(long, value_name = "ROUNDING", default_value = "nearest",
          value_parser = names(BoundRounding::ALL.iter().map(|rounding| rounding.name())))]
    pub bounds: String,
}

impl Interval {
    /// No bounds.
    pub(crate) fn none() -> Self {
        Self { min: None, max: None, axes: None, bounds: BoundRounding::default().name().into() }
    }

    /// How bounds are rounded.
    pub(crate) fn rounding(&self) -> BoundRounding {
        // clap has validated the name against the same list.
        self.bounds.parse().unwrap_or_default()
    }

    /// Both ends.
    pub(crate) fn sides(&self) -> [Option<&Limit>; 2] {
        [self.min.as_ref(), self.max.as_ref()]
    }

    /// The shares of elements at which both are quantiles.
    pub(crate) fn shares(&self) -> [Option<f64>; 2] {
        self.sides().map(|limit| limit.and_then(Limit::share))
    }

    /// The files of bounds.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.sides().into_iter().flatten().filter_map(Limit::file)
    }
}

/// At least one end of the interval.
fn interval() -> ArgGroup {
    ArgGroup::new("interval").args(["min", "max"]).required(true).multiple(true)
}

/// The options of both operations.
#[derive(Debug, Args)]
pub(crate) struct Common {
    #[command(flatten)]
    pub interval: Interval,
    #[command(flatten)]
    pub choice: Choice,
    /// auto, cpu, gpu (the first adapter), an index of `wgclip devices`, or part of a name
    #[arg(long, value_name = "D", default_value = "auto")]
    pub device: String,
    /// Print no summary
    #[arg(long, short)]
    pub quiet: bool,
}

/// The device for norms, and the memory limit.
#[derive(Debug, Args)]
pub(crate) struct Effort {
    /// auto (the CPU if there is f64), cpu, gpu (the first adapter), an index of `wgclip devices`, or part of a name
    #[arg(long, value_name = "D", default_value = AUTO)]
    pub device: String,
    /// Memory limit, such as 256MiB [default: a quarter of the machine's]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<ByteSize>,
}

/// Devices that always exist.
pub(crate) const AUTO: &str = "auto";
pub(crate) const CPU: &str = "cpu";

/// The tensors to process, how they are read, and the memory limit.
#[derive(Debug, Args)]
pub(crate) struct Choice {
    #[command(flatten)]
    pub tensors: Tensors,
    /// Memory limit, such as 256MiB [default: a quarter of the machine's]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<ByteSize>,
}

/// The tensors to process, and how they are read.
#[derive(Debug, Args)]
pub(crate) struct Tensors {
    /// The tensors to process, in a file with several: names, or patterns with * ? [] {}, which select floating-point
    /// tensors [default: all floating-point tensors; all if there are none]. Others are kept unchanged (from IN, or for a gradient
    /// from UPSTREAM, since they were not clipped)
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub tensor: Vec<String>,
    /// The tensors to leave unchanged: names, or patterns
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub except: Vec<String>,
    /// The type of numpy's untyped bytes: bf16 for <V2, f8_e4m3fn or f8_e5m2 for <V1
    #[arg(long = "type", value_name = "T", value_parser = element(|t| t.is_float() && t.size() <= 2))]
    pub assumed: Option<ElementType>,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The tensors: as for `wgclip clip`
    #[arg(value_name = "FILE")]
    pub input: PathBuf,
    #[command(flatten)]
    pub interval: Interval,
    #[command(flatten, next_help_heading = "The error of codes (with --bits)")]
    pub codes: Codes,
    #[command(flatten, next_help_heading = "Options")]
    pub choice: Choice,
    /// Percentiles to show, such as 1,50,99.9: each an element of the tensor, NaN ignored
    #[arg(long, value_name = "P,P", value_delimiter = ',', value_parser = percentile)]
    pub percentiles: Vec<Percentile>,
    /// Number of first elements to show, in file order
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub head: usize,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
    /// Plot the histogram, with the bounds that are numbers: an SVG
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Rule {
    /// Which gradient passes outside the interval: none, all (everywhere: --ties and --nan have no effect), or only what moves x
    /// back toward it [default: masked]
    #[arg(long, value_name = "RULE", value_parser = names(OutsideRule::ALL.iter().map(|v| v.name())))]
    rule: Option<String>,
    /// Where x equals a bound, the gradient goes to x, to the bound, or half to each [default: inclusive]
    #[arg(long, value_name = "TIES", value_parser = names(TieRule::ALL.iter().map(|v| v.name())))]
    ties: Option<String>,
    /// Where x is NaN, pass the gradient, or zero [default: pass]
    #[arg(long, value_name = "NAN", value_parser = names(NanRule::ALL.iter().map(|v| v.name())))]
    nan: Option<String>,
    /// The rules of a framework for ties and NaN; --rule, --ties and --nan override it
    #[arg(long, value_name = "PRESET", value_parser = names(BackwardRule::PRESETS.iter().map(|(name, _)| *name)))]
    like: Option<String>,
}

impl Rule {
    /// The rule that the options specify.
    pub(crate) fn backward_rule(&self) -> BackwardRule {
        // clap has validated each name against the same list.
        fn parsed<T: std::str::FromStr>(name: &Option<String>) -> Option<T> {
            name.as_ref().and_then(|name| name.parse().ok())
        }
        let preset: BackwardRule = parsed(&self.like).unwrap_or_default();
        BackwardRule {
            outside: parsed(&self.rule).unwrap_or(preset.outside),
            ties: parsed(&self.ties).unwrap_or(preset.ties),
            nan: parsed(&self.nan).unwrap_or(preset.nan),
        }
    }
}

/// Other names of types: those of numpy, torch and files.
const ALIASES: &[(ElementType, &[&str])] = &[
    (ElementType::F32, &["fp32", "float32", "float"]),
    (ElementType::F64, &["fp64", "float64", "double"]),
    (ElementType::F16, &["fp16", "float16", "half"]),
    (ElementType::Bf16, &["bfloat16"]),
    (ElementType::F8E4M3Fn, &["float8_e4m3fn", "fp8_e4m3fn", "fp8_e4m3", "e4m3"]),
    (ElementType::F8E5M2, &["float8_e5m2", "fp8_e5m2", "e5m2"]),
    (ElementType::I8, &["int8"]),
    (ElementType::U8, &["uint8"]),
    (ElementType::I16, &["int16"]),
    (ElementType::U16, &["uint16"]),
    (ElementType::I32, &["int32"]),
];

/// A type that is `offered`, by its name or another.
fn element(offered: fn(ElementType) -> bool) -> impl TypedValueParser<Value = ElementType> {
    fn others(element: ElementType) -> &'static [&'static str] {
        ALIASES.iter().find(|(of, _)| *of == element).map_or(&[], |(_, names)| names)
    }
    let types = ElementType::ALL.iter().copied().filter(move |&element| offered(element));
    let values = types.map(|element| PossibleValue::new(element.name()).aliases(others(element)));
    PossibleValuesParser::new(values.collect::<Vec<_>>()).map(|name| {
        let is_named =
            |&&element: &&ElementType| element.name() == name || others(element).contains(&&name[..]);
        // clap has validated the name against the same list.
        ElementType::ALL.iter().find(is_named).copied().unwrap_or(ElementType::F32)
    })
}

fn names(names: impl Iterator<Item = &'static str>) -> PossibleValuesParser {
    names.collect::<Vec<_>>().into()
}

/// A bound as given.
#[derive(Debug, Clone)]
pub(crate) enum Limit {
    /// A number. It stays text until the tensor's type is known.
    Number(String),
    /// A quantile of the tensor, as a share of its elements.
    Quantile(f64),
    /// A file of one tensor.
    File(PathBuf),
}

impl Limit {
    /// The text of a number.
    pub(crate) fn number(&self) -> Option<&str> {
        match self {
            Self::Number(text) => Some(text),
            Self::Quantile(_) | Self::File(_) => None,
        }
    }

    /// The share of a quantile.
    fn share(&self) -> Option<f64> {
        match self {
            Self::Quantile(share) => Some(*share),
            Self::Number(_) | Self::File(_) => None,
        }
    }

    /// The path of a file.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::Number(_) | Self::Quantile(_) => None,
            Self::File(path) => Some(path),
        }
    }
}

fn limit(text: &str) -> Result<Limit, &'static str> {
    if let Some(share) = text.strip_prefix('p').and_then(share) {
        return Ok(Limit::Quantile(share?));
    }
    match text.parse::<f64>() {
        Ok(v) if v.is_nan() => Err("NaN bounds nothing: give a number, inf or -inf, or leave the bound out"),
        Ok(_) => Ok(Limit::Number(text.to_owned())),
        Err(_) if Path::new(text).exists() => Ok(Limit::File(text.into())),
        Err(_) => Err(
            "not a number, and no such file: give a number, inf or -inf, a percentile such as p99.9, or a file of bounds",
        ),
    }
}

/// A percentile to show.
#[derive(Debug, Clone)]
pub(crate) struct Percentile {
    /// `p99.9`.
    pub name: String,
    pub share: f64,
}

fn percentile(text: &str) -> Result<Percentile, &'static str> {
    let percent = text.strip_prefix('p').unwrap_or(text);
    let share = share(percent).ok_or("not a percentile: give 99.9 for example")?;
    Ok(Percentile { name: format!("p{percent}"), share: share? })
}

/// A percentage as a share, rounded once. None if it is not a number.
fn share(percent: &str) -> Option<Result<f64, &'static str>> {
    let is_plain = percent.chars().all(|c| c.is_ascii_digit() || c == '.');
    let share: f64 = format!("{percent}e-2").parse().ok().filter(|_| is_plain)?;
    Some(if share <= 1.0 { Ok(share) } else { Err("a percentile is of p0 to p100") })
}
