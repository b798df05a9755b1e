//! The options of `wgclip activate`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::TypedValueParser;
use wgclip::op::{self, Op};

use super::{AUTO, Choice, names};

pub(crate) const EXAMPLES: &str = "\
Examples:
  wgclip activate logits.npy probabilities.npy --fn sigmoid
  wgclip activate logits.npy probabilities.npy --fn softmax --axes -1
  wgclip activate scores.npy scores.npy --fn soft_cap --cap 50
  wgclip activate model.safetensors out.safetensors --fn tanh --tensor 'gates.*'";

/// The functions, by their names in the list.
const FUNCTIONS: [Op; 4] = [Op::Tanh, Op::Sigmoid, Op::SoftCap, Op::Softmax];

#[derive(Debug, Args)]
pub(crate) struct Activate {
    /// The tensors: a .npy, .npz or .safetensors file, - for stdin, the folder of a checkpoint, or its .index.json
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// The file to write, or the folder, whole or not at all; may be IN. - is stdout
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// tanh and sigmoid: the real value, rounded once. soft_cap: C * tanh(x / C). softmax: exp(x) by its exact sum
    #[arg(long = "fn", value_name = "FUNCTION", value_parser = function())]
    pub function: Op,
    /// What no result of soft_cap exceeds
    #[arg(long, value_name = "C", value_parser = cap, required_if_eq("function", "soft_cap"))]
    pub cap: Option<f64>,
    /// The axes along which softmax sums, such as 0 or -1 [default: -1]
    #[arg(long, value_name = "A,B", value_delimiter = ',', allow_hyphen_values = true)]
    pub axes: Option<Vec<i64>>,
    #[command(flatten)]
    pub choice: Choice,
    /// auto, cpu, gpu (the first adapter), an index of `wgclip devices`, or part of a name
    #[arg(long, value_name = "D", default_value = AUTO)]
    pub device: String,
    /// Print no summary
    #[arg(long, short)]
    pub quiet: bool,
}

fn function() -> impl TypedValueParser<Value = Op> {
    // clap has validated the name against the same list.
    names(FUNCTIONS.iter().map(|op| op.name())).map(|name| Op::from_name(&name).unwrap_or(Op::Tanh))
}

fn cap(text: &str) -> Result<f64, &'static str> {
    let cap = text.parse().ok().filter(|&cap| op::is_cap(cap));
    cap.ok_or("not a cap: give a positive finite number")
}
