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
    pub curve: Vec<Point>,
}

/// An epoch: the quartiles and the median over the seeds of accuracies and loss, and the medians of what each layer does. What is not
/// finite is null.
#[derive(Debug, Serialize, Deserialize)]
pub struct Point {
    pub test: [f64; 3],
    pub train: [f64; 3],
    #[serde(deserialize_with = "quartiles_or_null")]
    pub loss: [f64; 3],
    /// Of each hidden layer: the least and the greatest output, and the share at a bound.
    #[serde(deserialize_with = "layers_or_null")]
    pub layers: Vec<[f64; 3]>,
    /// Of each hidden layer's weights: the norm of the gradient.
    #[serde(deserialize_with = "numbers_or_null")]
    pub gradient_norms: Vec<f64>,
}

/// What is not finite is null in JSON; it counts as the greatest.
fn number(value: Option<f64>) -> f64 {
    value.unwrap_or(f64::INFINITY)
}

fn quartiles_or_null<'de, D: Deserializer<'de>>(from: D) -> Result<[f64; 3], D::Error> {
    Ok(<[Option<f64>; 3]>::deserialize(from)?.map(number))
}

fn layers_or_null<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<[f64; 3]>, D::Error> {
    let layers = Vec::<[Option<f64>; 3]>::deserialize(from)?;
    Ok(layers.into_iter().map(|layer| layer.map(number)).collect())
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
            curve: (0..epochs)
                .map(|n| Point::new(&runs.iter().map(|run| &run.epochs[n]).collect::<Vec<_>>()))
                .collect(),
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

impl Point {
    fn new(epochs: &[&Epoch]) -> Self {
        let of = |value: &dyn Fn(&Epoch) -> f64| quartiles(epochs.iter().map(|epoch| value(epoch)));
        let median = |value: &dyn Fn(&Epoch) -> f64| of(value)[1];
        let layers = epochs.first().map_or(0, |epoch| epoch.layers.len());
        let weights = epochs.first().map_or(0, |epoch| epoch.gradients.len());
        Self {
            test: of(&|epoch| epoch.test),
            train: of(&|epoch| epoch.train),
            loss: of(&|epoch| epoch.loss),
            layers: (0..layers)
                .map(|n| {
                    [
                        median(&|epoch| epoch.layers[n].min),
                        median(&|epoch| epoch.layers[n].max),
                        median(&|epoch| epoch.layers[n].clipped),
                    ]
                })
                .collect(),
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
