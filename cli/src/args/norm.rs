//! The options of `wgclip norm` and `wgclip clip-norm`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use wgclip::{NonFinitePolicy, NormKind, NormLimit};

use super::{Effort, Tensors, names};

pub(super) const NORM_EXAMPLES: &str = "\
Examples:
  wgclip norm gradients.safetensors
  wgclip norm rank0.npz rank1.npz --kind l1 --json     # and of all files together
  wgclip norm weight.npy --axes 1";

pub(super) const CLIP_NORM_EXAMPLES: &str = "\
Examples:
  wgclip clip-norm gradients.safetensors clipped.safetensors --max 1
  wgclip clip-norm g.npz g.npz --max 1 --like torch --nonfinite error
  wgclip clip-norm weight.npy weight.npy --max 3 --axes 1      # each row
  wgclip clip-norm checkpoint/ clipped/ --max 1 --device gpu --memory 256MiB";

#[derive(Debug, Args)]
pub(crate) struct Norm {
    /// The tensors: .npy, .npz or .safetensors files, - for stdin, folders of checkpoints, or their .index.json
    #[arg(value_name = "FILE", required = true)]
    pub inputs: Vec<PathBuf>,
    /// Which norm: the common norm is an f64 if any tensor is f64, otherwise an f32
    #[arg(long, value_name = "KIND", default_value = "l2", value_parser = kind())]
    pub kind: NormKind,
    /// Take the norm of each slice along these axes, such as 0 or -1, instead of the whole tensor
    #[arg(long, value_name = "A,B", value_delimiter = ',', allow_hyphen_values = true)]
    pub axes: Option<Vec<i64>>,
    #[command(flatten)]
    pub tensors: Tensors,
    #[command(flatten)]
    pub effort: Effort,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ClipNorm {
    /// The tensors: as for `wgclip clip`
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// The file to write, or the folder, whole or not at all; may be IN. - is stdout
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// The maximum norm of all tensors together
    #[arg(long, value_name = "V", value_parser = norm_limit, allow_hyphen_values = true)]
    pub max: f64,
    /// Which norm
    #[arg(long, value_name = "KIND", default_value = "l2", value_parser = kind())]
    pub kind: NormKind,
    /// Limit the norm of each tensor
    #[arg(long, conflicts_with = "axes")]
    pub per_tensor: bool,
    /// Limit the norm of each slice of a tensor along these axes, such as 0 or -1
    #[arg(long, value_name = "A,B", value_delimiter = ',', allow_hyphen_values = true)]
    pub axes: Option<Vec<i64>>,
    /// Limit the norm divided by the number of elements
    #[arg(long)]
    pub average: bool,
    /// Added to the norm before MAX is divided by it [default: 0]
    #[arg(long, value_name = "E", value_parser = eps, allow_hyphen_values = true)]
    pub eps: Option<f64>,
    /// Tensors whose norm is NaN or infinite are multiplied as usual, set to zero, kept, or an error
    #[arg(long, value_name = "POLICY", default_value = "propagate", value_parser = policy())]
    pub nonfinite: NonFinitePolicy,
    /// The eps of a framework: 1e-6 for torch
    #[arg(long, value_name = "PRESET", value_parser = names(NormLimit::PRESETS.into_iter()))]
    pub like: Option<String>,
    #[command(flatten)]
    pub tensors: Tensors,
    #[command(flatten)]
    pub effort: Effort,
    /// Print no summary
    #[arg(long, short)]
    pub quiet: bool,
}

impl ClipNorm {
    /// The limit that the options specify.
    pub(crate) fn limit(&self) -> NormLimit {
        let preset = self.like.as_ref().and_then(|name| NormLimit::like(name, self.max).ok());
        let preset = preset.unwrap_or(NormLimit::new(self.max));
        preset.kind(self.kind).eps(self.eps.unwrap_or(preset.eps)).nonfinite(self.nonfinite)
    }
}

fn kind() -> impl TypedValueParser<Value = NormKind> {
    let number = |kind| match kind {
        NormKind::L1 => "1",
        NormKind::L2 => "2",
        NormKind::Max => "inf",
    };
    let values = NormKind::ALL.map(|kind| PossibleValue::new(kind.name()).alias(number(kind)));
    PossibleValuesParser::new(values).map(|name| name.parse().unwrap_or_default())
}

fn policy() -> impl TypedValueParser<Value = NonFinitePolicy> {
    names(NonFinitePolicy::ALL.iter().map(|policy| policy.name()))
        .map(|name| name.parse().unwrap_or_default())
}

fn norm_limit(text: &str) -> Result<f64, &'static str> {
    let limit = text.parse().ok().filter(|limit: &f64| *limit >= 0.0);
    limit.map(f64::abs).ok_or("not a limit of a norm: give a number that is not negative, or inf")
}

fn eps(text: &str) -> Result<f64, &'static str> {
    let eps = text.parse().ok().filter(|eps: &f64| *eps >= 0.0 && eps.is_finite());
    eps.ok_or("not an eps: give a finite number that is not negative")
}
