//! The options of `wgclip bench`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use wgclip::ElementType;

use super::names;

pub(crate) const EXAMPLES: &str = "\
Examples:
  wgclip bench                                 # the device that `auto` takes
  wgclip bench --device all --quick
  wgclip bench --device gpu --type f32,f16 --json bench.json --plot bench.svg

A file of `--device gpu --json FILE` from a GPU that is not in benches/results is welcome there.";

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// auto, all, cpu, gpu (the first adapter), an index of `wgclip devices`, or part of a name; several may be given
    #[arg(long, value_name = "D", num_args = 1.., value_delimiter = ',', default_value = "auto")]
    pub device: Vec<String>,
    /// Operations to measure [default: all]
    #[arg(long = "op", value_name = "OP", num_args = 1.., value_delimiter = ',', value_parser = PossibleValuesParser::new(wgclip_harness::ops()))]
    pub ops: Vec<String>,
    /// Types, such as f32,u8 [default: f32]
    #[arg(long = "type", value_name = "T", num_args = 1.., value_delimiter = ',', value_parser = names(ElementType::ALL.iter().map(|t| t.name()).chain(["all"])))]
    pub types: Vec<String>,
    /// Element counts, such as 1000, 64Ki or 16Mi [default: 4Ki,64Ki,1Mi,16Mi]
    #[arg(long, value_name = "N", num_args = 1.., value_delimiter = ',', value_parser = elements)]
    pub sizes: Vec<Elements>,
    /// Use fewer sizes and samples (seconds on a GPU, half a minute on a software adapter)
    #[arg(long)]
    pub quick: bool,
    /// Write the results: a JSON array, one object per measurement
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Plot the throughput over the sizes: an SVG
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

/// A count of elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Elements(pub usize);

fn elements(text: &str) -> Result<Elements, &'static str> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        _ => return Err("not a count of elements: give a number, 64Ki or 16Mi"),
    };
    let count: Option<usize> = digits.parse().ok();
    let count = count.and_then(|n| n.checked_mul(1 << shift)).filter(|&n| n > 0);
    count.map(Elements).ok_or("not a count of elements: give a number, 64Ki or 16Mi")
}
