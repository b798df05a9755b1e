//! The networks: ReLU perceptrons and a recurrent net, whose weights and hidden outputs are rounded to codes as they train.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use wgclip_burn::quantize::{QuantGradient, QuantRule, Scheme};
use wgclip_burn::{FakeQuantize, LearnedFakeQuantize, Pact, fake_quantize};

use crate::data::{CLASSES, PIXELS};
use crate::shape::{HIDDEN, ROW, Shape, linear};

/// How the range of codes is chosen, and which gradient passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Nothing is rounded.
    Float,
    /// By the range of outputs so far and of the weights; the gradient of what is clipped is 0.
    Masked,
    /// The same, and all gradients pass.
    StraightThrough,
    /// By learned scales.
    Lsq,
    /// Outputs by a learned bound; weights as [`Masked`](Self::Masked).
    Pact,
}

impl Method {
    pub const QUANTISED: [Self; 4] = [Self::Masked, Self::StraightThrough, Self::Lsq, Self::Pact];

    pub fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Masked => "masked",
            Self::StraightThrough => "straight-through",
            Self::Lsq => "LSQ",
            Self::Pact => "PACT",
        }
    }

    fn gradient(self) -> QuantGradient {
        match self {
            Self::StraightThrough => QuantGradient::StraightThrough,
            _ => QuantGradient::Rounded,
        }
    }
}

/// The share of the way that a range moves to that of a batch.
const AVERAGING: f64 = 0.1;

/// Where a learned bound begins.
const FIRST_BOUND: f64 = 6.0;

/// A network.
#[derive(Module, Debug)]
pub struct Net {
    /// The first takes pixels; of a recurrent net the second takes what the last step put out.
    hidden: Vec<Linear>,
    out: Linear,
    /// Of each hidden layer or step, as far as the method has them.
    observed: Vec<FakeQuantize>,
    learned: Vec<LearnedFakeQuantize>,
    bounded: Vec<Pact>,
    /// Of the weights of each hidden layer.
    weights: Vec<LearnedFakeQuantize>,
    #[module(skip)]
    shape: Shape,
    #[module(skip)]
    method: Method,
    /// Codes of weights.
    #[module(skip)]
    rule: QuantRule,
}

impl Net {
    /// A network whose first weights a seed decides, the same for every method. The output layer is not quantised.
    pub fn new(
        shape: Shape,
        method: Method,
        bits: u32,
        seed: u64,
        device: &Device,
    ) -> wgclip_burn::Result<Self> {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let hidden: Vec<Linear> = match shape {
            Shape::Recurrent => vec![linear(ROW, HIDDEN, rng, device), linear(HIDDEN, HIDDEN, rng, device)],
            _ => (0..shape.layers())
                .map(|n| linear(if n == 0 { PIXELS } else { HIDDEN }, HIDDEN, rng, device))
                .collect(),
        };
        let out = linear(HIDDEN, CLASSES, rng, device);
        let rule = QuantRule { gradient: method.gradient(), ..QuantRule::EXACT.bits(bits)? };
        let of_outputs =
            QuantRule { gradient: method.gradient(), ..QuantRule::range(0, rule.max - rule.min)? };
        let places = if shape == Shape::Recurrent { 1 } else { shape.layers() };
        let is = |of: &[Method]| 0..if of.contains(&method) { places } else { 0 };
        // LSQ begins with twice the mean by the root of the greatest code; that of a unit normal's ReLU is about 1/2.
        let scale = 1.0 / f64::from(of_outputs.max).sqrt();
        Ok(Self {
            observed: is(&[Method::Masked, Method::StraightThrough])
                .map(|_| FakeQuantize::new(of_outputs, Scheme::Affine, AVERAGING, device))
                .collect::<Result<_, _>>()?,
            learned: is(&[Method::Lsq])
                .map(|_| LearnedFakeQuantize::new(scale, 1, of_outputs, device))
                .collect::<Result<_, _>>()?,
            bounded: is(&[Method::Pact])
                .map(|_| Pact::new(bits, FIRST_BOUND, 1, device))
                .collect::<Result<_, _>>()?,
            weights: hidden
                .iter()
                .filter(|_| method == Method::Lsq)
                .map(|linear| LearnedFakeQuantize::of(&linear.weight.val(), rule))
                .collect::<Result<_, _>>()?,
            hidden,
            out,
            shape,
            method,
            rule,
        })
    }

    /// A hidden layer with rounded weights.
    fn linear(&self, layer: usize, x: Tensor<2>) -> Tensor<2> {
        let Linear { weight, bias } = &self.hidden[layer];
        let weight = weight.val();
        let rounded = match self.method {
            Method::Float => weight,
            Method::Lsq => self.weights[layer].forward(weight),
            Method::Masked | Method::StraightThrough | Method::Pact => {
                let greatest: Tensor<1> = weight.clone().detach().abs().max();
                let scale = greatest.div_scalar(f64::from(self.rule.max));
                fake_quantize(weight, scale, 0.0, self.rule).unwrap_or_else(|error| panic!("{error}"))
            }
        };
        let sums = x.matmul(rounded);
        match bias {
            Some(bias) => sums + bias.val().unsqueeze(),
            None => sums,
        }
    }

    /// What a hidden layer puts out.
    fn activate(&self, layer: usize, sums: Tensor<2>) -> Tensor<2> {
        let at = if self.shape == Shape::Recurrent { 0 } else { layer };
        match self.method {
            Method::Float => relu(sums),
            Method::Masked | Method::StraightThrough => self.observed[at].forward(relu(sums)),
            Method::Lsq => self.learned[at].forward(relu(sums)),
            Method::Pact => self.bounded[at].forward(sums),
        }
    }

    /// Scores of the classes, of shape `[images, CLASSES]`.
    pub fn forward(&self, images: Tensor<2>) -> Tensor<2> {
        let mut last: Option<Tensor<2>> = None;
        for layer in 0..self.shape.layers() {
            let sums = match (self.shape, last) {
                (Shape::Recurrent, last) => {
                    let of_row = self.linear(0, images.clone().narrow(1, layer * ROW, ROW));
                    match last {
                        Some(last) => of_row + self.linear(1, last),
                        None => of_row,
                    }
                }
                (_, Some(last)) => self.linear(layer, last),
                (_, None) => self.linear(layer, images.clone()),
            };
            last = Some(self.activate(layer, sums));
        }
        self.out.forward(last.unwrap_or(images))
    }
}
