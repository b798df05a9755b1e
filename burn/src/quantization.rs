//! Fake quantisation, and layers that train with it.

use burn::backend::Dispatch;
use burn::module::{Initializer, Module, Param, RunningState};
use burn::tensor::{DType, Device, Tensor};
use wgclip::op::Op;
use wgclip::quantize::{QuantGradient, QuantRule, Scheme};
use wgclip::{BackwardRule, Result};

use crate::operands::Like;
use crate::ops::{Bound, Broadcast, Call, ClipOps};
use crate::run::check_path;
use crate::{LearnedClip, op};

/// Rounds to the values of codes: `(q - zero_point) * scale`, where `q = round(x / scale) + zero_point`, clipped to the codes of the rule. Scale and zero
/// point are numbers, or tensors that broadcast to x; these have gradients (LSQ), which are summed exactly. On Flex and on wgpu it has the bits of
/// [`reference::fake_quantize`](wgclip::reference::fake_quantize).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use wgclip_burn::{fake_quantize, quantize::QuantRule};
///
/// let device = Device::flex().autodiff();
/// let x = Tensor::<1>::from_data([-9.0, 0.3, 1.2, 9.0], &device).require_grad();
/// let y = fake_quantize(x.clone(), 0.5, 0.0, QuantRule::EXACT.bits(4)?)?;
/// assert_eq!(y.clone().into_data().try_into_vec::<f32>().unwrap(), [-4.0, 0.5, 1.0, 3.5]);
/// let gradient = x.grad(&y.sum().backward()).unwrap();
/// assert_eq!(gradient.into_data().try_into_vec::<f32>().unwrap(), [0.0, 1.0, 1.0, 0.0]);
/// # Ok::<(), wgclip_burn::Error>(())
/// ```
///
/// # Errors
/// [`Error::QuantRange`](crate::Error::QuantRange); [`Error::NanBound`](crate::Error::NanBound) for a scale or a zero point that is NaN; [`Error::Unsupported`](crate::Error::Unsupported) on [`Path::Composed`](crate::Path::Composed), and without a scale;
/// otherwise those of [`clip`](crate::clip).
pub fn fake_quantize<const D: usize>(
    x: Tensor<D>,
    scale: impl Into<Bound<Dispatch>>,
    zero_point: impl Into<Bound<Dispatch>>,
    rule: QuantRule,
) -> Result<Tensor<D>> {
    let (op, broadcast) = (Op::FakeQuantize, [scale.into(), zero_point.into()]);
    let (like, path) = Like::of(&x)?;
    check_path(op, &like, path, &x.device())?;
    let resolved = like.resolve(op, &x, &broadcast)?;
    op::Arguments { quant: rule, ..op::Arguments::new(&resolved) }.check(op)?;
    let call = Call { quant: rule, ..Call::new(op, BackwardRule::default()) };
    Ok(Tensor::from_dispatch(Dispatch::recorded(x.into_dispatch(), Broadcast::new(broadcast), call)))
}

/// A layer's forward pass returns a plain tensor, like Burn's own modules.
fn apply<const D: usize>(
    x: Tensor<D>,
    scale: Bound<Dispatch>,
    zero_point: Bound<Dispatch>,
    rule: QuantRule,
) -> Tensor<D> {
    fake_quantize(x, scale, zero_point, rule).unwrap_or_else(|error| panic!("{error}"))
}

/// Fake quantisation by the range of the inputs so far: in training, on a device with autodiff, each batch moves the least and the greatest value by a share of
/// the difference, as torch's `MovingAverageMinMaxObserver` does. The range is part of a record.
#[derive(Module, Debug)]
pub struct FakeQuantize {
    /// The least and the greatest value; NaN before the first batch.
    pub range: RunningState<Tensor<1>>,
    averaging: f64,
    #[module(skip)]
    scheme: Scheme,
    #[module(skip)]
    rule: QuantRule,
}

impl FakeQuantize {
    /// A layer with the codes of a rule, spread as a scheme says, which moves the range by `averaging` of the difference: 1 takes that of the last
    /// batch, 0.01 is torch's default.
    ///
    /// # Errors
    /// [`Error::QuantRange`](crate::Error::QuantRange).
    pub fn new(rule: QuantRule, scheme: Scheme, averaging: f64, device: &Device) -> Result<Self> {
        rule.params(scheme, 0.0, 1.0)?;
        let range = Tensor::from_data([f32::NAN; 2], (device, DType::F32));
        Ok(Self { range: RunningState::new(range), averaging, scheme, rule })
    }

    /// Rounds `x`, of any shape. Before the first batch in training, which has no range, it returns x. The range is read back, and in training that of the
    /// batch. A batch with NaN or infinity leaves the range as it is: its NaN stay in the result.
    ///
    /// # Panics
    /// As [`ClipByValue::forward`](crate::ClipByValue::forward).
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let before = self.range.value_sync();
        let device = before.device();
        let before = ends(before);
        let trains = x.device().is_autodiff() && x.shape().num_elements() > 0;
        let [lo, hi] = if trains { self.observe(x.clone(), before, &device) } else { before };
        if lo.is_nan() {
            return x;
        }
        let params = self.rule.params(self.scheme, lo, hi).unwrap_or_else(|error| panic!("{error}"));
        apply(x, f64::from(params.scale).into(), f64::from(params.zero_point).into(), self.rule)
    }

    /// Moves a range toward that of a batch.
    fn observe<const D: usize>(&self, x: Tensor<D>, range: [f64; 2], device: &Device) -> [f64; 2] {
        let x = x.detach().inner().cast(DType::F32);
        let of_batch = ends(Tensor::cat(vec![x.clone().min().reshape([1]), x.max().reshape([1])], 0));
        if !of_batch.into_iter().all(f64::is_finite) {
            return range;
        }
        let moved = |n: usize| match range[n] {
            end if end.is_nan() => of_batch[n] as f32,
            end => (end + self.averaging * (of_batch[n] - end)) as f32,
        };
        let range = [moved(0), moved(1)];
        self.range.update(Tensor::from_data(range, (device, DType::F32)));
        range.map(f64::from)
    }
}

/// Two numbers.
fn ends(range: Tensor<1>) -> [f64; 2] {
    let numbers = range.into_data().iter::<f64>().collect::<Vec<_>>();
    match numbers[..] {
        [lo, hi] => [lo, hi],
        _ => [f64::NAN; 2],
    }
}

/// Fake quantisation with learned scales (LSQ, Esser et al. 2020), and learned zero points if wanted (LSQ+, Bhalgat et al. 2020): one for all elements, or one for
/// each channel, which is the last dimension.
///
/// The gradients of the parameters are exact sums, divided by the root of the elements that share a scale times the greatest code.
#[derive(Module, Debug)]
pub struct LearnedFakeQuantize {
    /// The scales, of shape `[1]` or `[channels]`.
    pub scale: Param<Tensor<1>>,
    /// The zero points, if they are learned.
    pub zero_point: Option<Param<Tensor<1>>>,
    #[module(skip)]
    rule: QuantRule,
}

impl LearnedFakeQuantize {
    /// Scales that are learned from an initial value.
    ///
    /// # Errors
    /// [`Error::QuantRange`](crate::Error::QuantRange); [`Error::NanBound`](crate::Error::NanBound); [`Error::Unsupported`](crate::Error::Unsupported) for 0 channels.
    pub fn new(scale: f64, channels: usize, rule: QuantRule, device: &Device) -> Result<Self> {
        rule.params(Scheme::Symmetric, 0.0, 1.0)?;
        crate::modules::check(scale, scale, channels, device)?;
        let scale = Initializer::Constant { value: scale }.init([channels], device);
        Ok(Self { scale, zero_point: None, rule })
    }

    /// A scale for a tensor as LSQ initialises it: `2 * mean(|x|) / sqrt(greatest code)`.
    ///
    /// # Errors
    /// As [`new`](Self::new), and for a tensor that holds NaN.
    pub fn of<const D: usize>(x: &Tensor<D>, rule: QuantRule) -> Result<Self> {
        let mean = x.clone().detach().abs().mean().into_data().iter::<f64>().next().unwrap_or(0.0);
        let scale = 2.0 * mean / f64::from(greatest(rule)).sqrt();
        Self::new(scale.max(f32::MIN_POSITIVE.into()), 1, rule, &x.device())
    }

    /// With zero points that are learned too, from 0.
    #[must_use]
    pub fn with_learned_zero_point(self) -> Self {
        let scale = self.scale.val();
        let zero_point = Initializer::Zeros.init(scale.dims(), &scale.device());
        Self { zero_point: Some(zero_point), ..self }
    }

    /// Rounds `x`, of any shape `[.., channels]`.
    ///
    /// # Panics
    /// As [`ClipByValue::forward`](crate::ClipByValue::forward); and if x and the scales have different numbers of channels.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let scale = self.scale.val();
        let [channels] = scale.dims();
        let sharing = (x.shape().num_elements() / channels).max(1) as f64;
        let factor = 1.0 / (sharing * f64::from(greatest(self.rule))).sqrt();
        let zero_point = self.zero_point.as_ref().map(|zero_point| slowed(zero_point.val(), factor));
        apply(x, slowed(scale, factor).into(), zero_point.map_or(0.0.into(), Bound::from), self.rule)
    }
}

/// The greatest magnitude of codes above 0, or else of those below.
fn greatest(rule: QuantRule) -> i32 {
    if rule.max > 0 { rule.max } else { rule.min.abs().max(1) }
}

/// The same numbers, whose gradient is multiplied.
fn slowed(of: Tensor<1>, factor: f64) -> Tensor<1> {
    let fixed = of.clone().detach();
    (of - fixed.clone()).mul_scalar(factor) + fixed
}

/// Clips to `0..=hi` with a learned upper bound, and rounds to as many codes as the rule has (PACT, Choi et al. 2018). The gradient passes the rounding, and
/// that of the bound is the exact sum over the elements that are clipped to it.
#[derive(Module, Debug)]
pub struct Pact {
    /// The clip.
    pub clip: LearnedClip,
    #[module(skip)]
    rule: QuantRule,
}

impl Pact {
    /// Codes of this many bits, and an initial bound: one, or one for each channel.
    ///
    /// # Errors
    /// [`Error::QuantRange`](crate::Error::QuantRange); otherwise as [`LearnedClip::pact`].
    pub fn new(bits: u32, hi: f64, channels: usize, device: &Device) -> Result<Self> {
        let codes = QuantRule::EXACT.bits(bits)?;
        let rule = QuantRule {
            gradient: QuantGradient::StraightThrough,
            ..QuantRule::range(0, codes.max - codes.min)?
        };
        Ok(Self { clip: LearnedClip::pact(hi, channels, device)?, rule })
    }

    /// Clips and rounds `x`, of any shape `[.., channels]`.
    ///
    /// # Panics
    /// As [`LearnedClip::forward`].
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let scale = self.clip.hi.val().detach().div_scalar(f64::from(self.rule.max));
        apply(self.clip.forward(x), scale.into(), 0.0.into(), self.rule)
    }
}
