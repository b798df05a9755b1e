//! How the networks are connected, and their first weights.

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};

/// How the hidden layers are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A perceptron with one hidden layer.
    Shallow,
    /// A perceptron with eight hidden layers.
    Deep,
    /// A recurrent net that reads an image row by row.
    Recurrent,
}

impl Shape {
    pub const ALL: [Self; 3] = [Self::Shallow, Self::Deep, Self::Recurrent];

    pub fn name(self) -> &'static str {
        match self {
            Self::Shallow => "shallow",
            Self::Deep => "deep",
            Self::Recurrent => "recurrent",
        }
    }

    /// Hidden layers, or steps.
    pub fn layers(self) -> usize {
        match self {
            Self::Shallow => 1,
            Self::Deep | Self::Recurrent => 8,
        }
    }
}

/// Units of a hidden layer.
pub const HIDDEN: usize = 64;

/// Pixels of a row.
pub const ROW: usize = 8;

/// A layer whose weights a seed decides: uniform, of variance 2 / inputs (He et al. 2015).
pub fn linear(inputs: usize, outputs: usize, rng: &mut fastrand::Rng, device: &Device) -> Linear {
    let limit = (6.0 / inputs as f32).sqrt();
    let weights: Vec<f32> = (0..inputs * outputs).map(|_| (2.0 * rng.f32() - 1.0) * limit).collect();
    let param = |tensor: Tensor<2>| Param::from_tensor(tensor);
    Linear {
        weight: param(Tensor::from_data(TensorData::new(weights, [inputs, outputs]), device)),
        bias: Some(Param::from_tensor(Tensor::zeros([outputs], device))),
    }
}
