//! What the runs of a setting have in common, as JSON: medians and quartiles over the seeds.

use serde::{Deserialize, Deserializer, Serialize};

use crate::train::{Epoch, Run, Setting};

/// All of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    pub device: String,
    pub seeds: u64,
    pub epochs: usize,
    pub settings: Vec<Summary>,
}

/// A setting.
#[derive(Debug, Serialize, Deserialize)]
pub struct Summary {
    pub shape: String,
    pub activation: String,
    pub gradients: String,
    pub rate: f64,
    /// Of each seed: the test accuracy at the end, the one on the images trained on, epochs until 90 %, and the steps whose loss or
    /// gradient norm was not finite.
    pub runs: Vec<(f64, f64, Option<usize>, usize)>,
    pub curve: Curve,
    /// After the first epoch, and after the last.
    pub layers: [Layers; 2],
}

/// Epoch by epoch, the quartiles and the median over the seeds of accuracies and loss, and the median share of outputs of the last hidden
/// layer that are at a bound. What is not finite is null.
#[derive(Debug, Serialize, Deserialize)]
pub struct Curve {
    pub test: Vec<[f64; 3]>,
    pub train: Vec<[f64; 3]>,
    #[serde(deserialize_with = "triples_or_null")]
    pub loss: Vec<[f64; 3]>,
    #[serde(deserialize_with = "numbers_or_null")]
    pub at_bound: Vec<f64>,
}

/// Medians over the seeds of what each hidden layer does.
#[derive(Debug, Serialize, Deserialize)]
pub struct Layers {
    /// The least and the greatest output, and the share at a bound.
    #[serde(deserialize_with = "triples_or_null")]
    pub outputs: Vec<[f64; 3]>,
    /// Of its weights: the norm of the gradient.
    #[serde(deserialize_with = "numbers_or_null")]
    pub gradient_norms: Vec<f64>,
}

/// What is not finite is null in JSON; it counts as the greatest.
fn number(value: Option<f64>) -> f64 {
    value.unwrap_or(f64::INFINITY)
}

fn triples_or_null<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<[f64; 3]>, D::Error> {
    let triples = Vec::<[Option<f64>; 3]>::deserialize(from)?;
    Ok(triples.into_iter().map(|triple| triple.map(number)).collect())
}

fn numbers_or_null<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
    Ok(Vec::<Option<f64>>::deserialize(from)?.into_iter().map(number).collect())
}

impl Summary {
    pub fn new(setting: &Setting, runs: &[Run]) -> Self {
        let of_run = |run: &Run| {
            let last = run.epochs.last().cloned().unwrap_or_default();
            (rounded(last.test), rounded(last.train), run.epochs_to_learn(), run.nonfinite)
        };
        let epochs = runs.first().map_or(0, |run| run.epochs.len());
        Self {
            shape: setting.shape.name().into(),
            activation: setting.activation.name(),
            gradients: setting.limit.name().into(),
            rate: setting.rate,
            runs: runs.iter().map(of_run).collect(),
            curve: Curve::new(runs, epochs),
            layers: [0, epochs.saturating_sub(1)].map(|epoch| Layers::new(runs, epoch)),
        }
    }

    /// The share of seeds that reached 90 %.
    pub fn learned(&self) -> f64 {
        self.runs.iter().filter(|run| run.2.is_some()).count() as f64 / self.runs.len() as f64
    }

    /// The median of the test accuracy at the end.
    pub fn test(&self) -> f64 {
        quartiles(self.runs.iter().map(|run| run.0))[1]
    }

    pub fn is(&self, shape: &str, rate: f64, gradients: &str) -> bool {
        self.shape == shape && self.rate == rate && self.gradients == gradients
    }
}

impl Curve {
    fn new(runs: &[Run], epochs: usize) -> Self {
        let of = |value: &dyn Fn(&Epoch) -> f64| -> Vec<_> {
            (0..epochs).map(|n| quartiles(runs.iter().map(|run| value(&run.epochs[n])))).collect()
        };
        let at_bound = of(&|epoch| epoch.layers.last().map_or(f64::NAN, |layer| layer.clipped));
        Self {
            test: of(&|epoch| epoch.test),
            train: of(&|epoch| epoch.train),
            loss: of(&|epoch| epoch.loss),
            at_bound: at_bound.into_iter().map(|quartiles| quartiles[1]).collect(),
        }
    }
}

impl Layers {
    fn new(runs: &[Run], epoch: usize) -> Self {
        let epochs: Vec<_> = runs.iter().filter_map(|run| run.epochs.get(epoch)).collect();
        let median = |value: &dyn Fn(&Epoch) -> f64| quartiles(epochs.iter().map(|epoch| value(epoch)))[1];
        let layers = epochs.first().map_or(0, |epoch| epoch.layers.len());
        let weights = epochs.first().map_or(0, |epoch| epoch.gradients.len());
        let output = |n: usize| {
            [
                median(&|epoch| epoch.layers[n].min),
                median(&|epoch| epoch.layers[n].max),
                median(&|epoch| epoch.layers[n].clipped),
            ]
        };
        Self {
            outputs: (0..layers).map(output).collect(),
            gradient_norms: (0..weights).map(|n| median(&|epoch| epoch.gradients[n])).collect(),
        }
    }
}

/// The quartiles and the median between them; what is NaN counts as the greatest.
fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut sorted: Vec<_> = values.map(|value| if value.is_nan() { f64::INFINITY } else { value }).collect();
    sorted.sort_by(f64::total_cmp);
    let at =
        |quarter: usize| sorted.get((sorted.len().max(1) - 1) * quarter / 4).copied().unwrap_or(f64::NAN);
    [1, 2, 3].map(|quarter| rounded(at(quarter)))
}

/// Four digits: more tell nothing.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}
