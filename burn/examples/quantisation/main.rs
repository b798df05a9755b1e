//! Training with few bits: the networks of the example `limits` learn handwritten digits while their weights and hidden outputs are rounded to codes of 8, 4, 3 and
//! 2 bits, with each rule for the gradient, from many seeds.
//!
//! `cargo run --release --example quantisation -- --quick` is done in a minute; without `--quick` it is the run of docs/experiment-quantisation.md. It repeats bit
//! for bit on the same machine.

#[path = "../limits/data.rs"]
mod data;
mod net;
mod plot;
#[path = "../limits/pool.rs"]
mod pool;
#[path = "../limits/shape.rs"]
mod shape;
mod train;

use std::path::PathBuf;

use anyhow::{Context, Result};
use burn::tensor::Device;
use clap::Parser;
use serde::{Deserialize, Serialize};

use data::Digits;
use net::Method;
use shape::Shape;
use train::{Lab, Run, Setting};

/// Training with few bits.
#[derive(Debug, Parser)]
struct Options {
    /// Two seeds and five epochs only.
    #[arg(long)]
    quick: bool,
    /// Seeds of each setting.
    #[arg(long)]
    seeds: Option<u64>,
    /// Passes over the images.
    #[arg(long)]
    epochs: Option<usize>,
    /// The folder of digits-images.npy and digits-labels.npy.
    #[arg(long, default_value = "../samples")]
    data: PathBuf,
    /// The folder for results.json and the plot.
    #[arg(long, default_value = "target/quantisation")]
    out: PathBuf,
    /// Trains nothing: draws the plot of such results again.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

/// All of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    pub seeds: u64,
    pub epochs: usize,
    pub settings: Vec<Summary>,
}

/// The runs of a setting, one for each seed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Summary {
    pub shape: String,
    pub method: String,
    pub bits: u32,
    pub rate: f64,
    pub runs: Vec<Run>,
}

/// Accuracies from here on count as learned.
const LEARNED: f64 = 0.9;

impl Summary {
    /// The quartiles and the median of the test accuracy at the end.
    pub fn test(&self) -> [f64; 3] {
        let mut sorted: Vec<_> = self.runs.iter().filter_map(|run| run.test.last().copied()).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |quarter: usize| sorted.get((sorted.len().max(1) - 1) * quarter / 4).copied();
        [1, 2, 3].map(|quarter| at(quarter).unwrap_or_default())
    }

    /// The share of seeds that reached 90 %.
    pub fn learned(&self) -> f64 {
        let learned = |run: &&Run| run.test.iter().any(|&test| test >= LEARNED);
        self.runs.iter().filter(learned).count() as f64 / self.runs.len() as f64
    }
}

/// Bits of codes; 32 stands for floats.
const BITS: [u32; 4] = [8, 4, 3, 2];
const RATES: [f64; 2] = [0.05, 0.3];

fn main() -> Result<()> {
    let options = Options::parse();
    let results = match &options.from {
        Some(file) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
            serde_json::from_str(&text).with_context(|| format!("{}", file.display()))?
        }
        None => train(&options)?,
    };
    std::fs::create_dir_all(&options.out).with_context(|| format!("{}", options.out.display()))?;
    let json = options.out.join("results.json");
    std::fs::write(&json, serde_json::to_string(&results)?).with_context(|| format!("{}", json.display()))?;
    plot::write(&results, &options.out.join("accuracy.svg"))?;
    println!(
        "{:<10} {:>5} {:>5}  {:<17} {:>6}  {:<16} {:>7}",
        "net", "rate", "bits", "method", "test", "quartiles", "learned"
    );
    for setting in &results.settings {
        let ([low, median, high], learned) = (setting.test(), setting.learned());
        let Summary { shape, rate, bits, method, .. } = setting;
        println!(
            "{shape:<10} {rate:>5} {bits:>5}  {method:<17} {median:>6.3}  {low:.3} to {high:.3}   {learned:>7.2}"
        );
    }
    println!("{} and a plot beside it", json.display());
    Ok(())
}

/// Trains all of it.
fn train(options: &Options) -> Result<Results> {
    let (seeds, epochs) = if options.quick { (2, 5) } else { (20, 20) };
    let (seeds, epochs) = (options.seeds.unwrap_or(seeds), options.epochs.unwrap_or(epochs));
    let lab = Lab { digits: Digits::load(&options.data)?, device: Device::flex(), epochs };
    let mut settings = Vec::new();
    for shape in Shape::ALL {
        for rate in RATES {
            settings.push(Setting { shape, method: Method::Float, bits: 32, rate });
            for bits in BITS {
                settings.extend(Method::QUANTISED.map(|method| Setting { shape, method, bits, rate }));
            }
        }
    }
    let all: Vec<_> =
        settings.iter().flat_map(|&setting| (0..seeds).map(move |seed| (setting, seed))).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let runs = pool::each(&all, threads, |&(setting, seed)| lab.run(setting, seed));
    let summary = |(setting, runs): (&Setting, &[Run])| Summary {
        shape: setting.shape.name().into(),
        method: setting.method.name().into(),
        bits: setting.bits,
        rate: setting.rate,
        runs: runs.to_vec(),
    };
    let settings = settings.iter().zip(runs.chunks(seeds.max(1) as usize)).map(summary).collect();
    Ok(Results { seeds, epochs, settings })
}
