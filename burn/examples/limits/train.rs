//! One run: a network, trained from a seed.

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Tensor};
use wgclip_burn::{clip_by_global_norm, clip_gradients};

use crate::data::{BATCH, Batch, Digits};
use crate::net::{Activation, Net, Trace};
use crate::shape::Shape;

/// How gradients are limited before a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    None,
    /// Each element to -0.05 and 0.05.
    Value,
    /// Their global norm to 1.
    Norm,
}

impl Limit {
    pub const ALL: [Self; 3] = [Self::None, Self::Value, Self::Norm];

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "unclipped",
            Self::Value => "by value",
            Self::Norm => "by global norm",
        }
    }
}

/// What a run is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    pub shape: Shape,
    pub activation: Activation,
    pub limit: Limit,
    /// Of plain stochastic gradient descent.
    pub rate: f64,
}

/// What is measured after each epoch, on the first images to train on.
#[derive(Debug, Clone, Default)]
pub struct Epoch {
    pub train: f64,
    pub test: f64,
    pub loss: f64,
    /// Of each hidden layer or step.
    pub layers: Vec<Layer>,
    /// Of the gradients of the weights of each hidden layer.
    pub gradients: Vec<f64>,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Layer {
    pub min: f64,
    pub max: f64,
    /// The share of outputs that are at a bound.
    pub clipped: f64,
}

/// A run.
#[derive(Debug, Clone, Default)]
pub struct Run {
    pub epochs: Vec<Epoch>,
    /// Steps whose loss or gradient norm was NaN or infinite.
    pub nonfinite: usize,
    pub steps: usize,
}

/// Accuracies from here on count as learned.
pub const LEARNED: f64 = 0.9;

impl Run {
    /// Epochs until the test accuracy is 90 %.
    pub fn epochs_to_learn(&self) -> Option<usize> {
        self.epochs.iter().position(|epoch| epoch.test >= LEARNED).map(|n| n + 1)
    }
}

/// What all runs share.
pub struct Lab {
    pub digits: Digits,
    pub device: Device,
    pub epochs: usize,
}

/// Images that are looked at after an epoch.
const PROBE: usize = 256;

impl Lab {
    pub fn run(&self, setting: Setting, seed: u64) -> Run {
        let device = self.device.clone().autodiff();
        let mut net = Net::new(setting.shape, setting.activation, seed, &device);
        let mut optimizer = SgdConfig::new().init();
        let (mut train, test) = self.digits.split();
        let probe = self.digits.batch(&train[..PROBE], &device);
        let all_train = self.digits.batch(&train, &self.device);
        let all_test = self.digits.batch(&test, &self.device);
        let rng = &mut fastrand::Rng::with_seed(seed ^ 0x5eed);
        let mut run = Run::default();
        for _ in 0..self.epochs {
            rng.shuffle(&mut train);
            for numbers in train.chunks_exact(BATCH) {
                let batch = self.digits.batch(numbers, &device);
                let (loss, mut grads) = gradients(&net, &batch);
                let norm = limit(&net, &mut grads, setting.limit);
                let is_finite = |tensor: Tensor<1>| tensor.into_scalar::<f32>().is_finite();
                run.steps += 1;
                run.nonfinite += usize::from(!is_finite(loss) || norm.is_some_and(|norm| !is_finite(norm)));
                net = optimizer.step(setting.rate, net, grads);
            }
            let epoch = self.look(&net, &probe, &all_train, &all_test);
            let lost = !epoch.loss.is_finite();
            run.epochs.push(epoch);
            if lost {
                // It stays so: a weight that is NaN remains one.
                let left = self.epochs - run.epochs.len();
                let steps = train.len() / BATCH;
                run.steps += left * steps;
                run.nonfinite += left * steps;
                let last = run.epochs.last().cloned().unwrap_or_default();
                run.epochs.extend((0..left).map(|_| last.clone()));
                break;
            }
        }
        run
    }

    fn look(&self, net: &Net, probe: &Batch, train: &Batch, test: &Batch) -> Epoch {
        let valid = net.valid();
        let (_, Trace { sums, activations }) = valid.forward(probe.images.clone().inner());
        let activation = net.activation();
        let layers =
            sums.into_iter().zip(activations).map(|(sums, outputs)| layer(activation, sums, outputs));
        let layers = layers.collect();
        let (loss, grads) = gradients(net, probe);
        let norms = net.weights().into_iter().filter_map(|weight| grads.get::<2>(weight.id));
        let norms = norms.map(|gradient| f64::from(gradient.square().sum().sqrt().into_scalar::<f32>()));
        Epoch {
            train: accuracy(&valid, train),
            test: accuracy(&valid, test),
            loss: f64::from(loss.into_scalar::<f32>()),
            layers,
            gradients: norms.collect(),
        }
    }
}

fn gradients(net: &Net, batch: &Batch) -> (Tensor<1>, GradientsParams) {
    let (scores, _) = net.forward(batch.images.clone());
    let loss = CrossEntropyLossConfig::new().init(&scores.device()).forward(scores, batch.labels.clone());
    let grads = GradientsParams::from_grads(loss.backward(), net);
    (loss.inner(), grads)
}

/// The norm, where it is limited.
fn limit(net: &Net, grads: &mut GradientsParams, limit: Limit) -> Option<Tensor<1>> {
    match limit {
        Limit::None => None,
        Limit::Value => {
            clip_gradients(net, grads, -0.05..=0.05).unwrap_or_else(|error| panic!("{error}"));
            None
        }
        Limit::Norm => clip_by_global_norm(net, grads, 1.0).ok(),
    }
}

fn layer(activation: Activation, sums: Tensor<2>, outputs: Tensor<2>) -> Layer {
    let scalar = |tensor: Tensor<1>| f64::from(tensor.into_scalar::<f32>());
    Layer {
        min: scalar(outputs.clone().min()),
        max: scalar(outputs.clone().max()),
        clipped: scalar(activation.at_bounds(sums, outputs).float().mean()),
    }
}

fn accuracy(net: &Net, batch: &Batch) -> f64 {
    let (scores, _) = net.forward(batch.images.clone());
    let right = scores.argmax(1).squeeze_dims::<1>(&[1]).equal(batch.labels.clone());
    f64::from(right.float().mean().into_scalar::<f32>())
}
