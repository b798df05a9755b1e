//! The contract, one element at a time: what every device must return, to the bit.
//!
//! Ordinary comparisons, no order keys, nothing clever: this is the oracle that the kernels and the CPU path
//! are checked against. Results are selected, never computed, so nothing rounds, flushes or quiets a NaN.
//! The only arithmetic is halving, which rounds odd values to even, and that of [`sum`], [`norm`], [`dot`], [`scaling`], [`scale`], their
//! backward pass, [`affine`], [`leaky_clip`], [`tanh`], [`sigmoid`], [`fn@softmax`] and quantisation, which say how they round.
//!
//! The kernels and the CPU path name their functions after these.

mod activation;
mod clip;
mod exact;
mod float_codes;
mod philox;
mod quantile;
mod quantize;
mod ratio;
mod scaling;
mod softmax;

pub use activation::{sigmoid, sigmoid_backward, soft_cap, soft_cap_backward, tanh, tanh_backward};
pub use clip::{
    Gradients, Position, clip, clip_backward, clip_backward_bounds, clip_to, converted_bits, position,
};
pub use exact::{dot, norm, sum};
pub use float_codes::{
    dequantize_e2m1, dequantize_float, pack4, quantize_to_e2m1, quantize_to_float, unpack4,
};
pub use philox::philox;
pub use quantile::quantile;
pub use quantize::{dequantize, fake_quantize, fake_quantize_backward, quantize};
pub use scaling::{average, relative, scale, scale_backward, scaling, scaling_backward};
pub use softmax::{softmax, softmax_backward};

pub use crate::norm::{Scaling, ScalingBackward};

use crate::op::MAX_OUTPUTS;
use crate::quantize::QuantRule;
use crate::{BackwardRule, Element, Op};

/// `scale * x + offset` for floats: the affine map of a hard sigmoid. Factors, product and sum are each rounded to f32
/// (to f64 for f64), and the result to the type; a NaN x is unchanged, any other NaN is the positive quiet one without
/// payload.
///
/// Computed in f64 and rounded after each step, which gives the same result: a product of two f32 is exact there, and
/// so is everything that the rounding of a sum depends on.
pub fn affine<T: Element>(x: T, scale: f64, offset: f64) -> T {
    if x.is_nan() {
        return x;
    }
    let round = |value: f64| if T::TYPE.layout().bits == 64 { value } else { value as f32 as f64 };
    let value = round(round(x.to_f64() * round(scale)) + round(offset));
    if value.is_nan() { T::from_bits(T::TYPE.layout().quiet_nan()) } else { T::from_f64(value) }
}

/// x where it lies beyond a bound, and +0 between them, the bounds included: `torch.nn.Hardshrink` between -lambda and lambda. If x,
/// lo or hi is NaN, the result is the first NaN.
pub fn hard_shrink<T: Element>(x: T, lo: Option<T>, hi: Option<T>) -> T {
    match [Some(x), lo, hi].into_iter().flatten().find(|operand| operand.is_nan()) {
        Some(nan) => nan,
        None if matches!(position(x, lo, hi), Position::Inside) => T::ZERO,
        None => x,
    }
}

/// The gradient that reaches x: g where [`hard_shrink`] returns x, else +0.
pub fn hard_shrink_backward<T: Element>(x: T, g: T, lo: Option<T>, hi: Option<T>) -> T {
    let bound_is_nan = lo.is_some_and(T::is_nan) || hi.is_some_and(T::is_nan);
    match position(x, lo, hi) {
        Position::Nan => g,
        Position::Below | Position::Above if !bound_is_nan => g,
        _ => T::ZERO,
    }
}

/// A clip that continues with a slope beyond its bounds, for floats: `t = lo + slope * (x - lo)` where x is below lo, else x; then
/// `hi + slope * (t - hi)` where t is above hi, else t. An x inside keeps its bits, and if x, lo or hi is NaN the result is the first NaN.
/// Each difference, product and sum is rounded to f32 (to f64 for f64), and the result to the type; a computed NaN is the positive quiet one
/// without payload.
pub fn leaky_clip<T: Element>(x: T, lo: Option<T>, hi: Option<T>, slope: T) -> T {
    match [Some(x), lo, hi].into_iter().flatten().find(|operand| operand.is_nan()) {
        Some(nan) => nan,
        None => match Steps::new(x, lo, hi, slope) {
            Steps { below: None, above: None, .. } => x,
            steps => nearest(steps.y),
        },
    }
}

/// The gradients that reach x, both bounds and the slope, from the upstream gradient `g` of [`leaky_clip`]: back through the upper bound,
/// then through the lower one. `slope * g` goes on to x, `(1 - slope) * g` to the bound, and `g` times how far it lies beyond the bound to
/// the slope; the slope receives the sum of both. The steps are rounded as those of [`leaky_clip`]; a NaN operand receives `g` itself.
pub fn leaky_clip_backward<T: Element>(x: T, g: T, lo: Option<T>, hi: Option<T>, slope: T) -> [T; 4] {
    let none = T::ZERO;
    match [Some(x), lo, hi].map(|operand| operand.is_some_and(T::is_nan)) {
        [true, _, _] => return [g, none, none, none],
        [_, true, _] => return [none, g, none, none],
        [_, _, true] => return [none, none, g, none],
        _ => {}
    }
    leaky_gradients(Steps::new(x, lo, hi, slope), g, slope)
}

/// The operands of one element.
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a, T> {
    /// The element that is clipped; for a gradient that is computed from the result of the forward pass, that result.
    pub x: T,
    /// Its upstream gradient.
    pub g: T,
    /// The broadcast inputs, in the order of the operation's row. Omitted ones are absent.
    pub broadcast: &'a [Option<T>],
    /// The backward rule.
    pub rule: BackwardRule,
    /// How values are quantised.
    pub quant: QuantRule,
    /// The parameters.
    pub params: &'a [f64],
    /// The index of the element in x, which chooses a random number.
    pub index: u64,
}

impl<T: Copy> Operands<'_, T> {
    /// A broadcast input, by its index in the row.
    pub fn input(&self, index: usize) -> Option<T> {
        self.broadcast.get(index).copied().flatten()
    }
}

/// The outputs of an elementwise operation for one element, in the order of [`OpInfo`](crate::op::OpInfo), then zeros; an operation on
/// slices has none. A mask is given as the value that its bit passes on (g or zero).
pub fn evaluate<T: Element>(op: Op, operands: Operands<'_, T>) -> [T; MAX_OUTPUTS] {
    let Operands { x, g, rule, quant, params, index, .. } = operands;
    let (lo, hi, slope) = (operands.input(0), operands.input(1), operands.input(2).unwrap_or(T::ZERO));
    let (scale, zero) = (lo.unwrap_or(T::ZERO), hi.unwrap_or(T::ZERO));
    let param = |index: usize| params.get(index).copied().unwrap_or_default();
    let outputs = match op {
        // `ClipTo` to its own type.
        Op::Clip | Op::ClipTo => vec![clip(x, lo, hi)],
        Op::ClipBackward | Op::MaskBackward => vec![clip_backward(x, g, lo, hi, rule)],
        Op::ClipBackwardBounds => {
            let Gradients { x, lo, hi } = clip_backward_bounds(x, g, lo, hi, rule);
            vec![x, lo, hi]
        }
        Op::ClipWithMask => vec![clip(x, lo, hi), clip_backward(x, g, lo, hi, rule)],
        Op::HardShrink => vec![hard_shrink(x, lo, hi)],
        Op::HardShrinkBackward => vec![hard_shrink_backward(x, g, lo, hi)],
        Op::LeakyClip => vec![leaky_clip(x, lo, hi, slope)],
        Op::LeakyClipBackward => leaky_clip_backward(x, g, lo, hi, slope).to_vec(),
        Op::Affine => vec![affine(x, param(0), param(1))],
        Op::Tanh => vec![tanh(x)],
        Op::TanhBackward => vec![tanh_backward(x, g)],
        Op::SoftCap => vec![soft_cap(x, param(0))],
        Op::SoftCapBackward => vec![soft_cap_backward(x, g, param(0))],
        Op::Sigmoid => vec![sigmoid(x)],
        Op::SigmoidBackward => vec![sigmoid_backward(x, g)],
        Op::FakeQuantize => vec![fake_quantize(x, scale, zero, quant, index)],
        Op::FakeQuantizeBackward => fake_quantize_backward(x, g, scale, zero, quant, index).to_vec(),
        // These have operands of two types: `quantize` and `dequantize`, or those of floats, `pack4` and `unpack4`.
        Op::Quantize | Op::Dequantize | Op::Pack4 | Op::Unpack4 => Vec::new(),
        // The reference of these takes slices: `sum`, `norm`, `scale`, `softmax` and so on.
        Op::Sum | Op::Norm | Op::Softmax | Op::SoftmaxBackward => Vec::new(),
        Op::ClipByNorm | Op::ClipByNormBackward | Op::ClipByGlobalNorm => Vec::new(),
    };
    std::array::from_fn(|index| outputs.get(index).copied().unwrap_or(T::ZERO))
}

/// The steps of a leaky clip of one element, in f64 and rounded after each: to f32, or not for f64. That is exact, since a product of two f32
/// is exact in f64, and so is everything that the rounding of a sum depends on.
struct Steps {
    /// How far x is below the lower bound.
    below: Option<f64>,
    /// How far the result of the lower bound's step is above the upper one.
    above: Option<f64>,
    y: f64,
}

impl Steps {
    fn new<T: Element>(x: T, lo: Option<T>, hi: Option<T>, slope: T) -> Self {
        let [x, slope] = [x, slope].map(T::to_f64);
        let [lo, hi] = [lo, hi].map(|bound| bound.map(T::to_f64));
        let below = lo.filter(|&lo| x < lo).map(|lo| (round::<T>(x - lo), lo));
        let raised = below.map_or(x, |(by, lo)| round::<T>(round::<T>(slope * by) + lo));
        let above = hi.filter(|&hi| raised > hi).map(|hi| (round::<T>(raised - hi), hi));
        let y = above.map_or(raised, |(by, hi)| round::<T>(round::<T>(slope * by) + hi));
        Self { below: below.map(|(by, _)| by), above: above.map(|(by, _)| by), y }
    }
}

/// Rounds a step.
fn round<T: Element>(value: f64) -> f64 {
    if T::TYPE.layout().bits == 64 { value } else { f64::from(value as f32) }
}

/// The element nearest to a number.
fn nearest<T: Element>(value: f64) -> T {
    if value.is_nan() { T::from_bits(T::TYPE.layout().quiet_nan()) } else { T::from_f64(value) }
}

/// The gradients of x, both bounds and the slope.
fn leaky_gradients<T: Element>(steps: Steps, g: T, slope: T) -> [T; 4] {
    let (of_y, slope) = (g.to_f64(), slope.to_f64());
    let times = |a: f64, b: f64| round::<T>(a * b);
    let rest = round::<T>(1.0 - slope);
    let of_raised = steps.above.map_or(of_y, |_| times(of_y, slope));
    let of_x = steps.below.map_or(of_raised, |_| times(of_raised, slope));
    let is_inside = steps.below.is_none() && steps.above.is_none();
    let terms = [steps.above.map(|by| times(of_y, by)), steps.below.map(|by| times(of_raised, by))];
    let of_slope = terms.into_iter().flatten().reduce(|a, b| round::<T>(a + b));
    [
        if is_inside { g } else { nearest(of_x) },
        steps.below.map_or(T::ZERO, |_| nearest(times(of_raised, rest))),
        steps.above.map_or(T::ZERO, |_| nearest(times(of_y, rest))),
        of_slope.map_or(T::ZERO, nearest),
    ]
}
