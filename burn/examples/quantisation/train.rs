//! One run: a network, trained from a seed.

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use wgclip_burn::clip_by_global_norm;

use crate::data::{BATCH, Batch, Digits};
use crate::net::{Method, Net};
use crate::shape::Shape;

/// What a run is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    pub shape: Shape,
    pub method: Method,
    pub bits: u32,
    /// Of plain stochastic gradient descent.
    pub rate: f64,
}

/// A run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Run {
    /// The test accuracy after each epoch.
    pub test: Vec<f64>,
    /// The accuracy on the images trained on, at the end.
    pub train: f64,
    /// Steps whose loss was NaN or infinite: the first ends the run.
    pub nonfinite: usize,
}

/// What all runs share.
pub struct Lab {
    pub digits: Digits,
    pub device: Device,
    pub epochs: usize,
}

impl Lab {
    /// The global norm of the gradients is clipped to 1.
    pub fn run(&self, setting: Setting, seed: u64) -> Run {
        let device = self.device.clone().autodiff();
        let Setting { shape, method, bits, rate } = setting;
        // Floats have no codes; those of 8 bits are not used.
        let bits = if method == Method::Float { 8 } else { bits };
        let net = Net::new(shape, method, bits, seed, &device);
        let mut net = net.unwrap_or_else(|error| panic!("{error}"));
        let mut optimizer = SgdConfig::new().init();
        let (mut train, test) = self.digits.split();
        let [all_train, all_test] = [&train, &test].map(|of| self.digits.batch(of, &self.device));
        let rng = &mut fastrand::Rng::with_seed(seed ^ 0x5eed);
        let mut run = Run::default();
        for _ in 0..self.epochs {
            rng.shuffle(&mut train);
            for numbers in train.chunks_exact(BATCH).take_while(|_| run.nonfinite == 0) {
                let batch = self.digits.batch(numbers, &device);
                let scores = net.forward(batch.images);
                let loss = CrossEntropyLossConfig::new().init(&device).forward(scores, batch.labels);
                let mut grads = GradientsParams::from_grads(loss.backward(), &net);
                let norm = clip_by_global_norm(&net, &mut grads, 1.0);
                let is_finite = |tensor: Tensor<1>| tensor.into_scalar::<f32>().is_finite();
                if !is_finite(loss.inner()) || !norm.is_ok_and(is_finite) {
                    run.nonfinite += 1;
                    break;
                }
                net = optimizer.step(rate, net, grads);
            }
            run.test.push(accuracy(&net.valid(), &all_test));
        }
        run.train = accuracy(&net.valid(), &all_train);
        run
    }
}

fn accuracy(net: &Net, batch: &Batch) -> f64 {
    let scores = net.forward(batch.images.clone());
    let right = scores.argmax(1).squeeze_dims::<1>(&[1]).equal(batch.labels.clone());
    let share = f64::from(right.float().mean().into_scalar::<f32>());
    (share * 1e4).round() / 1e4
}
