//! The options of `wgclip check`.

use clap::Args;
use wgclip::ElementType;
use wgclip::op::Op;

use super::names;

pub(crate) const EXAMPLES: &str = "\
Examples:
  wgclip check                                 # the device that `auto` takes
  wgclip check --device all
  wgclip check --device gpu --exhaustive --json > check.json

Exit codes: 0 no mismatch, 1 a mismatch, or the device failed.";

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// auto, all, cpu, gpu (the first adapter), an index of `wgclip devices`, or part of a name
    #[arg(long, value_name = "D", default_value = "auto")]
    pub device: String,
    /// The operations to check [default: all]
    #[arg(long = "op", value_name = "OP", value_delimiter = ',', value_parser = names(Op::ALL.iter().map(|op| op.name())))]
    pub ops: Vec<String>,
    /// The types to check, f32,u8 for example [default: all]
    #[arg(long = "type", value_name = "T", value_delimiter = ',', value_parser = names(ElementType::ALL.iter().map(|t| t.name())))]
    pub types: Vec<String>,
    /// Check every bit pattern of the types of 8, 16 and 32 bits: minutes on a GPU, long on a software adapter
    #[arg(long)]
    pub exhaustive: bool,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
    /// Seed of the random inputs [default: fresh]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}
