//! What limiting does to training: perceptrons and a recurrent net that learn handwritten digits, with every activation, every limit of
//! the gradients and several learning rates, from many seeds.
//!
//! `cargo run --release --example limits -- --quick` is done in minutes; without `--quick` it is the run of docs/experiment.md. It
//! repeats bit for bit on the same machine.

mod data;
mod net;
mod plots;
mod pool;
mod results;
mod shape;
mod train;

use std::path::PathBuf;

use anyhow::{Context, Result};
use burn::tensor::{Device, DeviceKind};
use clap::{Parser, ValueEnum};

use data::Digits;
use net::Activation;
use results::{Results, Summary};
use shape::Shape;
use train::{Lab, Limit, Run, Setting};

/// What limiting does to training.
#[derive(Debug, Parser)]
struct Options {
    /// Two rates, three seeds and eight epochs only.
    #[arg(long)]
    quick: bool,
    /// Where the networks are trained.
    #[arg(long, default_value = "cpu")]
    device: On,
    /// Seeds of each setting.
    #[arg(long)]
    seeds: Option<u64>,
    /// Passes over the images.
    #[arg(long)]
    epochs: Option<usize>,
    /// Runs at a time; 1 on a GPU.
    #[arg(long)]
    threads: Option<usize>,
    /// The folder of digits-images.npy and digits-labels.npy.
    #[arg(long, default_value = "../samples")]
    data: PathBuf,
    /// The folder for results.json and the plots.
    #[arg(long, default_value = "target/limits")]
    out: PathBuf,
    /// Trains nothing: draws the plots of such results again.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum On {
    /// Burn's Flex.
    Cpu,
    /// The default GPU.
    Gpu,
    /// A software rasteriser.
    Software,
}

impl On {
    fn open(self) -> (Device, &'static str) {
        match self {
            Self::Cpu => (Device::flex(), "cpu"),
            Self::Gpu => (Device::wgpu(DeviceKind::DefaultDevice), "gpu"),
            Self::Software => (Device::wgpu(DeviceKind::Cpu), "software"),
        }
    }
}

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
    plots::write(&results, &options.out)?;
    print_table(&results);
    println!("{} and plots beside it", json.display());
    Ok(())
}

/// Trains all of it.
fn train(options: &Options) -> Result<Results> {
    let (device, name) = options.device.open();
    let (seeds, epochs, rates) = match options.quick {
        true => (3, 8, &[0.05, 1.0][..]),
        false => (20, 20, &[0.05, 0.3, 1.0][..]),
    };
    let (seeds, epochs) = (options.seeds.unwrap_or(seeds), options.epochs.unwrap_or(epochs));
    let lab = Lab { digits: Digits::load(&options.data)?, device, epochs };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = options.threads.unwrap_or(if options.device == On::Cpu { cores } else { 1 });
    let settings = settings(rates);
    let runs = run_all(&lab, &settings, seeds, threads);
    let summaries = settings.iter().zip(runs.chunks(seeds as usize));
    let settings = summaries.map(|(setting, runs)| Summary::new(setting, runs)).collect();
    Ok(Results { device: name.into(), seeds, epochs, settings })
}

fn settings(rates: &[f64]) -> Vec<Setting> {
    let mut settings = Vec::new();
    for shape in Shape::ALL {
        for &rate in rates {
            for activation in Activation::ALL {
                settings.extend(Limit::ALL.map(|limit| Setting { shape, activation, limit, rate }));
            }
        }
    }
    settings
}

/// Every setting from every seed: those of a setting one after the other.
fn run_all(lab: &Lab, settings: &[Setting], seeds: u64, threads: usize) -> Vec<Run> {
    let all: Vec<_> =
        settings.iter().flat_map(|setting| (0..seeds).map(move |seed| (*setting, seed))).collect();
    pool::each(&all, threads, |&(setting, seed)| lab.run(setting, seed))
}

fn print_table(results: &Results) {
    println!(
        "{:<10} {:>5}  {:<30} {:<15} {:>6} {:>8}",
        "net", "rate", "activation", "gradients", "test", "learned"
    );
    for setting in &results.settings {
        let Summary { shape, rate, activation, gradients, .. } = setting;
        let (test, learned) = (setting.test(), setting.learned());
        println!("{shape:<10} {rate:>5}  {activation:<30} {gradients:<15} {test:>6.3} {learned:>8.2}");
    }
}
