//! Activations that are clips, and the gradients that PyTorch gives them.

use super::Tensor;
use super::run::{broadcast_inputs, first, missing_output, run};
use crate::broadcast::BroadcastInputs;
use crate::op::{Arguments, Operand};
use crate::{BackwardRule, Bound, Element, IntoBounds, NanRule, Op, Result};

/// Of `torch.nn.ReLU`, `ReLU6` and `Hardtanh`: nothing at the ends of the interval, all at NaN.
const HARDTANH: BackwardRule = BackwardRule::HARDTANH;

/// Of `torch.nn.Hardsigmoid`.
const HARD_SIGMOID: BackwardRule = BackwardRule { nan: NanRule::Zero, ..HARDTANH };

/// The gradients of the operands of a [leaky clip](Tensor::leaky_clip).
#[derive(Debug, Clone)]
pub struct LeakyGradients<T: Element> {
    /// What x receives.
    pub x: Tensor<T>,
    /// What the lower bound receives, in its shape, if there is one.
    pub lo: Option<Tensor<T>>,
    /// What the upper bound receives, in its shape, if there is one.
    pub hi: Option<Tensor<T>>,
    /// What the slope receives, in its shape.
    pub slope: Tensor<T>,
}

impl<T: Element> Tensor<T> {
    /// `max(x, 0)`.
    ///
    /// # Errors
    /// As [`clip`](Self::clip).
    #[must_use = "the tensor itself is not changed"]
    pub fn relu(&self) -> Result<Self> {
        self.clip(T::ZERO..)
    }

    /// The gradient of [`relu`](Self::relu), which is 0 at 0 as in PyTorch.
    ///
    /// # Errors
    /// As [`clip_backward`](Self::clip_backward).
    #[must_use = "the tensor itself is not changed"]
    pub fn relu_backward(&self, upstream: &Self) -> Result<Self> {
        self.clip_backward(upstream, T::ZERO.., HARDTANH)
    }

    /// `min(max(x, 0), 6)`.
    ///
    /// # Errors
    /// As [`clip`](Self::clip).
    #[must_use = "the tensor itself is not changed"]
    pub fn relu6(&self) -> Result<Self> {
        self.clip(T::ZERO..=T::from_f64(6.0))
    }

    /// The gradient of [`relu6`](Self::relu6), which is 0 at 0 and at 6 as in PyTorch.
    ///
    /// # Errors
    /// As [`clip_backward`](Self::clip_backward).
    #[must_use = "the tensor itself is not changed"]
    pub fn relu6_backward(&self, upstream: &Self) -> Result<Self> {
        self.clip_backward(upstream, T::ZERO..=T::from_f64(6.0), HARDTANH)
    }

    /// `min(max(x, lo), hi)`; PyTorch's default is from -1 to 1.
    ///
    /// # Errors
    /// As [`clip`](Self::clip), and [`Error::NanBound`](crate::Error::NanBound).
    #[must_use = "the tensor itself is not changed"]
    pub fn hardtanh(&self, lo: T, hi: T) -> Result<Self> {
        self.clip((lo, hi))
    }

    /// The gradient of [`hardtanh`](Self::hardtanh), which is 0 at both ends as in PyTorch.
    ///
    /// # Errors
    /// As [`clip_backward`](Self::clip_backward), and [`Error::NanBound`](crate::Error::NanBound).
    #[must_use = "the tensor itself is not changed"]
    pub fn hardtanh_backward(&self, upstream: &Self, lo: T, hi: T) -> Result<Self> {
        self.clip_backward(upstream, (lo, hi), HARDTANH)
    }

    /// `min(max(x / 6 + 1 / 2, 0), 1)`: the clip of an affine map. Floats only. Multiplied by a rounded 1/6 and added
    /// in f32 (f64 for f64), then rounded to the type: the same bits on every device, as [`reference::affine`](crate::reference::affine) says.
    /// A NaN stays as it is.
    ///
    /// ```
    /// let x = wgclip::Device::cpu().tensor(&[-4.0f32, 0.0, 1.5, 4.0], [4])?;
    /// assert_eq!(x.hard_sigmoid()?.to_vec()?, [0.0, 0.5, 0.75, 1.0]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for integers, and for f64 on a GPU; otherwise as [`clip`](Self::clip).
    #[must_use = "the tensor itself is not changed"]
    pub fn hard_sigmoid(&self) -> Result<Self> {
        let mut y = self.affine(1.0 / 6.0, 0.5)?;
        y.clip_in_place(T::ZERO..=T::from_f64(1.0))?;
        Ok(y)
    }

    /// The gradient of [`hard_sigmoid`](Self::hard_sigmoid): a sixth where x is between -3 and 3, else 0, at the ends
    /// and at NaN too, as in PyTorch.
    ///
    /// # Errors
    /// As [`hard_sigmoid`](Self::hard_sigmoid) and [`clip_backward`](Self::clip_backward).
    #[must_use = "the tensor itself is not changed"]
    pub fn hard_sigmoid_backward(&self, upstream: &Self) -> Result<Self> {
        // Adding -0 changes nothing.
        let mut g = upstream.affine(1.0 / 6.0, -0.0)?;
        self.clip_backward_in_place(&mut g, T::from_f64(-3.0)..=T::from_f64(3.0), HARD_SIGMOID)?;
        Ok(g)
    }

    /// x beyond the bounds and 0 between them, the bounds included: PyTorch's `Hardshrink` between -lambda and lambda. To the bit as
    /// [`reference::hard_shrink`](crate::reference::hard_shrink) says.
    ///
    /// ```
    /// let x = wgclip::Device::cpu().tensor(&[-4.0f32, 0.25, 0.5, 4.0], [4])?;
    /// assert_eq!(x.hard_shrink(-0.5..=0.5)?.to_vec()?, [-4.0, 0.0, 0.0, 4.0]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`clip`](Self::clip).
    #[must_use = "the tensor itself is not changed"]
    pub fn hard_shrink(&self, bounds: impl IntoBounds<T>) -> Result<Self> {
        Self::between(Op::HardShrink, &[self.as_dyn()], &bounds.into_bounds()?, BackwardRule::default())
    }

    /// The gradient of [`hard_shrink`](Self::hard_shrink): `upstream` beyond the bounds, 0 between them.
    ///
    /// # Errors
    /// As [`clip_backward`](Self::clip_backward).
    #[must_use = "the tensor itself is not changed"]
    pub fn hard_shrink_backward(&self, upstream: &Self, bounds: impl IntoBounds<T>) -> Result<Self> {
        let inputs = [self.as_dyn(), upstream.as_dyn()];
        Self::between(Op::HardShrinkBackward, &inputs, &bounds.into_bounds()?, BackwardRule::default())
    }

    /// A clip that goes on with a slope beyond its bounds, for floats: `lo + slope * (x - lo)` below the lower one, and so above the upper one.
    /// The slope is a value, or a tensor that broadcasts as bounds do: one of each channel, for example. To the bit as
    /// [`reference::leaky_clip`](crate::reference::leaky_clip) says.
    ///
    /// ```
    /// let x = wgclip::Device::cpu().tensor(&[-5.0f32, 0.5, 3.0], [3])?;
    /// assert_eq!(x.leaky_clip(-1.0..=1.0, 0.25)?.to_vec()?, [-2.0, 0.5, 1.5]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for integers, for f64 on a GPU, and without a slope; otherwise as
    /// [`clip`](Self::clip).
    #[must_use = "the tensor itself is not changed"]
    pub fn leaky_clip(&self, bounds: impl IntoBounds<T>, slope: impl Into<Bound<T>>) -> Result<Self> {
        let (op, bounds, slope) =
            (Op::LeakyClip, bounds.into_bounds()?, slope.into().checked(Operand::Slope)?);
        let broadcast = broadcast_inputs(op, self.shape(), &bounds, &[&slope])?;
        first(op, &[self.as_dyn()], &Arguments::new(&broadcast)).map(Self::of)
    }

    /// The gradients of [`leaky_clip`](Self::leaky_clip) for x, the bounds that there are, and the slope: to the bit as
    /// [`reference::leaky_clip_backward`](crate::reference::leaky_clip_backward) and [`reference::sum`](crate::reference::sum) say.
    ///
    /// # Errors
    /// As [`leaky_clip`](Self::leaky_clip) and [`clip_backward_bounds`](Self::clip_backward_bounds).
    pub fn leaky_clip_backward(
        &self,
        upstream: &Self,
        bounds: impl IntoBounds<T>,
        slope: impl Into<Bound<T>>,
    ) -> Result<LeakyGradients<T>> {
        let op = Op::LeakyClipBackward;
        let (bounds, slope) = (bounds.into_bounds()?, slope.into().checked(Operand::Slope)?);
        let broadcast = broadcast_inputs(op, self.shape(), &bounds, &[&slope])?;
        let needs = [true, !bounds.lo().is_absent(), !bounds.hi().is_absent(), true];
        let inputs = [self.as_dyn(), upstream.as_dyn()];
        let [x, lo, hi, slope] = run(op, &inputs, needs, &Arguments::new(&broadcast))?;
        Ok(LeakyGradients {
            x: x.map(Self::of).ok_or_else(|| missing_output(op))?,
            lo: lo.map(Self::of),
            hi: hi.map(Self::of),
            slope: slope.map(Self::of).ok_or_else(|| missing_output(op))?,
        })
    }

    /// The hyperbolic tangent, for floats of up to 32 bits: the real one rounded once, so the same bits on every device, as
    /// [`reference::tanh`](crate::reference::tanh) says. A NaN stays as it is.
    ///
    /// ```
    /// let x = wgclip::Device::cpu().tensor(&[-20.0f32, 0.0, 0.5], [3])?;
    /// assert_eq!(x.tanh()?.to_vec()?, [-1.0, 0.0, 0.46211717]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for integers and f64; otherwise as [`clip`](Self::clip).
    #[must_use = "the tensor itself is not changed"]
    pub fn tanh(&self) -> Result<Self> {
        Self::activation(Op::Tanh, &[self])
    }

    /// The same in place. If clones share the elements they keep theirs.
    ///
    /// # Errors
    /// As [`tanh`](Self::tanh). The tensor is then as it was.
    pub fn tanh_in_place(&mut self) -> Result<()> {
        self.activation_in_place(Op::Tanh, &[])
    }

    /// The gradient of [`tanh`](Self::tanh), where this tensor is its *result*: `upstream * (1 - self^2)` rounded once, as
    /// [`reference::tanh_backward`](crate::reference::tanh_backward) says.
    ///
    /// # Errors
    /// As [`tanh`](Self::tanh) and [`clip_backward`](Self::clip_backward).
    #[must_use = "the upstream gradient is not changed"]
    pub fn tanh_backward(&self, upstream: &Self) -> Result<Self> {
        Self::activation(Op::TanhBackward, &[self, upstream])
    }

    /// The same in place of the upstream gradient.
    ///
    /// # Errors
    /// As [`tanh_backward`](Self::tanh_backward). `upstream` is then as it was.
    pub fn tanh_backward_in_place(&self, upstream: &mut Self) -> Result<()> {
        upstream.activation_in_place(Op::TanhBackward, &[self])
    }

    /// The logistic function `1 / (1 + exp(-x))`, for floats of up to 32 bits: the real one rounded once, so the same bits on every device, as
    /// [`reference::sigmoid`](crate::reference::sigmoid) says. A NaN stays as it is.
    ///
    /// ```
    /// let x = wgclip::Device::cpu().tensor(&[-110.0f32, 0.0, 1.0], [3])?;
    /// assert_eq!(x.sigmoid()?.to_vec()?, [0.0, 0.5, 0.7310586]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`tanh`](Self::tanh).
    #[doc(alias = "logistic")]
    #[must_use = "the tensor itself is not changed"]
    pub fn sigmoid(&self) -> Result<Self> {
        Self::activation(Op::Sigmoid, &[self])
    }

    /// The same in place. If clones share the elements they keep theirs.
    ///
    /// # Errors
    /// As [`tanh`](Self::tanh). The tensor is then as it was.
    pub fn sigmoid_in_place(&mut self) -> Result<()> {
        self.activation_in_place(Op::Sigmoid, &[])
    }

    /// The gradient of [`sigmoid`](Self::sigmoid), where this tensor is its *result*: `upstream * self * (1 - self)` rounded once, as
    /// [`reference::sigmoid_backward`](crate::reference::sigmoid_backward) says.
    ///
    /// # Errors
    /// As [`tanh_backward`](Self::tanh_backward).
    #[must_use = "the upstream gradient is not changed"]
    pub fn sigmoid_backward(&self, upstream: &Self) -> Result<Self> {
        Self::activation(Op::SigmoidBackward, &[self, upstream])
    }

    /// The same in place of the upstream gradient.
    ///
    /// # Errors
    /// As [`sigmoid_backward`](Self::sigmoid_backward). `upstream` is then as it was.
    pub fn sigmoid_backward_in_place(&self, upstream: &mut Self) -> Result<()> {
        upstream.activation_in_place(Op::SigmoidBackward, &[self])
    }

    /// `cap * tanh(x / cap)`, for floats of up to 32 bits: numbers far below the cap stay nearly as they are, and none comes out beyond it. Language models
    /// cap attention scores and logits so (Gemma 2: 50 and 30). In steps that are each rounded to f32, as [`reference::soft_cap`](crate::reference::soft_cap) says.
    ///
    /// ```
    /// let x = wgclip::Device::cpu().tensor(&[-1e9f32, 0.5, 40.0], [3])?;
    /// assert_eq!(x.soft_cap(30.0)?.to_vec()?, [-30.0, 0.49995375, 26.10185]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Cap`](crate::Error::Cap); otherwise as [`tanh`](Self::tanh).
    #[must_use = "the tensor itself is not changed"]
    pub fn soft_cap(&self, cap: f64) -> Result<Self> {
        Self::with_params(Op::SoftCap, &[self], &[cap])
    }

    /// The gradient of [`soft_cap`](Self::soft_cap), where this tensor is its *result*, as [`reference::soft_cap_backward`](crate::reference::soft_cap_backward) says.
    ///
    /// # Errors
    /// As [`soft_cap`](Self::soft_cap) and [`clip_backward`](Self::clip_backward).
    #[must_use = "the upstream gradient is not changed"]
    pub fn soft_cap_backward(&self, upstream: &Self, cap: f64) -> Result<Self> {
        Self::with_params(Op::SoftCapBackward, &[self, upstream], &[cap])
    }

    /// An operation without broadcast inputs and parameters.
    fn activation(op: Op, inputs: &[&Self]) -> Result<Self> {
        Self::with_params(op, inputs, &[])
    }

    fn with_params(op: Op, inputs: &[&Self], params: &[f64]) -> Result<Self> {
        let inputs: Vec<_> = inputs.iter().map(|input| input.as_dyn()).collect();
        let broadcast = BroadcastInputs::none(T::TYPE);
        first(op, &inputs, &Arguments { params, ..Arguments::new(&broadcast) }).map(Self::of)
    }

    fn activation_in_place(&mut self, op: Op, others: &[&Self]) -> Result<()> {
        let others: Vec<_> = others.iter().map(|other| other.as_dyn()).collect();
        let broadcast = BroadcastInputs::none(T::TYPE);
        self.as_dyn_mut().overwrite(op, &others, &Arguments::new(&broadcast))
    }

    /// `scale * x + offset` for floats, to the bit as [`reference::affine`](crate::reference::affine) says: the scaling
    /// of values before they are clipped, as quantisers and hard sigmoids do it.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for integers, and for f64 on a GPU; otherwise as
    /// [`clip`](Self::clip).
    #[must_use = "the tensor itself is not changed"]
    pub fn affine(&self, scale: f64, offset: f64) -> Result<Self> {
        Self::with_params(Op::Affine, &[self], &[scale, offset])
    }
}

#[cfg(test)]
mod tests {
    use crate::{Device, Error};

    #[test]
    fn a_cap_is_positive_and_finite() {
        let x = Device::cpu().tensor(&[1.0f32], [1]).unwrap();
        for cap in [0.0, -1.0, f64::INFINITY, f64::NAN, 1e39, 1e-50] {
            assert!(matches!(x.soft_cap(cap), Err(Error::Cap { .. })), "{cap}");
            assert!(matches!(x.soft_cap_backward(&x, cap), Err(Error::Cap { .. })), "{cap}");
        }
    }
}
