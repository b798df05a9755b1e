//! The networks: what differs is the activation of the hidden layers.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::activation::{relu, sigmoid, softmax};
use burn::tensor::{Bool, Device, Tensor};
use wgclip_burn::{BackwardRule, LearnedClip, OutsideRule, Relu6, clip_with};

use crate::data::{CLASSES, PIXELS};
use crate::shape::{HIDDEN, ROW, Shape, linear};

/// What the hidden layers put their sums through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    Relu,
    Relu6,
    /// A clip to -1 or 0 and 1, by a rule for the gradient.
    Clip(f64, OutsideRule),
    /// A clip to bounds that are learned, beginning with -1 and 1.
    Learned,
    Sigmoid,
    Tanh,
    Softmax,
}

impl Activation {
    pub const ALL: [Self; 12] = [
        Self::Relu,
        Self::Relu6,
        Self::Clip(0.0, OutsideRule::Masked),
        Self::Clip(0.0, OutsideRule::StraightThrough),
        Self::Clip(0.0, OutsideRule::Toward),
        Self::Clip(-1.0, OutsideRule::Masked),
        Self::Clip(-1.0, OutsideRule::StraightThrough),
        Self::Clip(-1.0, OutsideRule::Toward),
        Self::Learned,
        Self::Sigmoid,
        Self::Tanh,
        Self::Softmax,
    ];

    pub fn name(self) -> String {
        match self {
            Self::Relu => "relu".into(),
            Self::Relu6 => "relu6".into(),
            Self::Clip(lo, rule) => format!("clip [{lo:.0}, 1] {rule}"),
            Self::Learned => "clip learned".into(),
            Self::Sigmoid => "sigmoid".into(),
            Self::Tanh => "tanh".into(),
            Self::Softmax => "softmax".into(),
        }
    }

    /// Where an output is at a bound: what is clipped, or of a smooth function within a hundredth of it.
    pub fn at_bounds(self, sums: Tensor<2>, outputs: Tensor<2>) -> Tensor<2, Bool> {
        match self {
            Self::Sigmoid | Self::Softmax => outputs.sub_scalar(0.5).abs().greater_elem(0.49),
            Self::Tanh => outputs.abs().greater_elem(0.99),
            _ => sums.not_equal(outputs),
        }
    }
}

/// A network.
#[derive(Module, Debug)]
pub struct Net {
    /// The first takes pixels; of a recurrent net the second takes what the last step put out.
    hidden: Vec<Linear>,
    learned: Vec<LearnedClip>,
    out: Linear,
    #[module(skip)]
    shape: Shape,
    #[module(skip)]
    activation: Activation,
}

/// What a forward pass leaves to look at: of each hidden layer (or step) the sums and what was put out.
pub struct Trace {
    pub sums: Vec<Tensor<2>>,
    pub activations: Vec<Tensor<2>>,
}

impl Net {
    /// A network whose weights a seed decides: uniform, of variance 2 / inputs (He et al. 2015), the same for every activation.
    pub fn new(shape: Shape, activation: Activation, seed: u64, device: &Device) -> Self {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let hidden = match shape {
            Shape::Recurrent => vec![linear(ROW, HIDDEN, rng, device), linear(HIDDEN, HIDDEN, rng, device)],
            _ => (0..shape.layers())
                .map(|n| linear(if n == 0 { PIXELS } else { HIDDEN }, HIDDEN, rng, device))
                .collect(),
        };
        let out = linear(HIDDEN, CLASSES, rng, device);
        let clips = match (activation, shape) {
            (Activation::Learned, Shape::Recurrent) => 1,
            (Activation::Learned, _) => shape.layers(),
            _ => 0,
        };
        // Numbers are bounds.
        let learned = (0..clips).filter_map(|_| LearnedClip::new(-1.0, 1.0, 1, device).ok()).collect();
        Self { hidden, learned, out, shape, activation }
    }

    fn activate(&self, sums: Tensor<2>, layer: usize) -> Tensor<2> {
        match self.activation {
            Activation::Relu => relu(sums),
            Activation::Relu6 => Relu6::new().forward(sums),
            Activation::Clip(lo, outside) => {
                let rule = BackwardRule { outside, ..BackwardRule::default() };
                clip_with(sums, lo..=1.0, rule).unwrap_or_else(|error| panic!("{error}"))
            }
            Activation::Learned => self.learned[layer.min(self.learned.len() - 1)].forward(sums),
            Activation::Sigmoid => sigmoid(sums),
            Activation::Tanh => sums.tanh(),
            Activation::Softmax => softmax(sums, 1),
        }
    }

    /// Scores of the classes, of shape `[images, CLASSES]`, and the trace.
    pub fn forward(&self, images: Tensor<2>) -> (Tensor<2>, Trace) {
        let mut trace = Trace { sums: Vec::new(), activations: Vec::new() };
        let mut last: Option<Tensor<2>> = None;
        for layer in 0..self.shape.layers() {
            let sums = match (self.shape, last) {
                (Shape::Recurrent, last) => {
                    let row = images.clone().narrow(1, layer * ROW, ROW);
                    let of_row = self.hidden[0].forward(row);
                    match last {
                        Some(last) => of_row + self.hidden[1].forward(last),
                        None => of_row,
                    }
                }
                (_, Some(last)) => self.hidden[layer].forward(last),
                (_, None) => self.hidden[layer].forward(images.clone()),
            };
            let activations = self.activate(sums.clone(), layer);
            trace.sums.push(sums);
            trace.activations.push(activations.clone());
            last = Some(activations);
        }
        let last = last.unwrap_or(images);
        (self.out.forward(last), trace)
    }

    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// The weights of the hidden layers, in the order of the trace; of a recurrent net those that are used at each step.
    pub fn weights(&self) -> Vec<&Param<Tensor<2>>> {
        self.hidden.iter().map(|linear| &linear.weight).collect()
    }
}
