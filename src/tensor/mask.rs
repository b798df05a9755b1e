//! The backward pass from one bit per element.

use std::marker::PhantomData;

use super::run::{broadcast_inputs, first, missing_output, run};
use super::{DynTensor, Tensor};
use crate::broadcast::BroadcastInputs;
use crate::op::{Arguments, first_outputs};
use crate::{BackwardRule, Element, IntoBounds, Op, Result, Shape};

/// What the backward pass of a clip needs: one bit per element, an output of [`Tensor::clip_with_mask`]. For the
/// straight-through rule, which lets everything pass, there are no bits.
#[derive(Debug, Clone)]
pub struct Mask<T> {
    shape: Shape,
    /// `None` if everything passes.
    bits: Option<DynTensor>,
    device: crate::Device,
    element: PhantomData<T>,
}

impl<T: Element> Tensor<T> {
    /// [`clip`](Self::clip), and what its backward pass needs, written in the same pass: one bit per element, a 32nd of
    /// an f32 tensor, so that neither this tensor nor the bounds need be kept.
    ///
    /// ```
    /// use wgclip::{BackwardRule, Device};
    ///
    /// let device = Device::cpu();
    /// let x = device.tensor(&[-2.0f32, 0.5, 7.0], [3])?;
    /// let (y, mask) = x.clip_with_mask(0.0..=1.0, BackwardRule::default())?;
    /// drop(x);
    /// let upstream = device.tensor(&[3.0f32; 3], [3])?;
    /// assert_eq!(mask.backward(&upstream)?.to_vec()?, [0.0, 3.0, 0.0]);
    /// # assert_eq!(y.to_vec()?, [0.0, 0.5, 1.0]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::RuleWithoutKernel`](crate::Error::RuleWithoutKernel) for a rule that does not
    /// [fit a mask](BackwardRule::fits_mask): keep this tensor and use [`clip_backward`](Self::clip_backward).
    /// Otherwise as [`clip`](Self::clip).
    pub fn clip_with_mask(&self, bounds: impl IntoBounds<T>, rule: BackwardRule) -> Result<(Self, Mask<T>)> {
        let (bounds, device) = (bounds.into_bounds()?, self.device());
        let mask = |bits| Mask { shape: self.shape().clone(), bits, device, element: PhantomData };
        if rule.is_identity() {
            return Ok((self.clip(&bounds)?, mask(None)));
        }
        let op = Op::ClipWithMask;
        let broadcast = broadcast_inputs(op, self.shape(), &bounds, &[])?;
        let arguments = Arguments { rule, ..Arguments::new(&broadcast) };
        let [y, bits, ..] = run(op, &[self.as_dyn()], first_outputs(2), &arguments)?;
        Ok((y.map(Self::of).ok_or_else(|| missing_output(op))?, mask(bits)))
    }
}

impl<T: Element> Mask<T> {
    /// The gradient that reaches the tensor that was clipped, of the gradient `upstream` of the clipped one, by the
    /// rule of the mask: the same bits as [`Tensor::clip_backward`].
    ///
    /// # Errors
    /// As [`Tensor::clip_backward`].
    #[must_use = "the upstream gradient is not changed: see backward_in_place"]
    pub fn backward(&self, upstream: &Tensor<T>) -> Result<Tensor<T>> {
        self.check(upstream)?;
        let Some(bits) = &self.bits else { return Ok(upstream.clone()) };
        let none = BroadcastInputs::none(T::TYPE);
        first(Op::MaskBackward, &[bits, upstream.as_dyn()], &Arguments::new(&none)).map(Tensor::of)
    }

    /// The same in place of the upstream gradient. If clones share its elements they keep theirs, and `upstream`
    /// gets new ones.
    ///
    /// # Errors
    /// As [`backward`](Self::backward). `upstream` is then as it was.
    pub fn backward_in_place(&self, upstream: &mut Tensor<T>) -> Result<()> {
        self.check(upstream)?;
        let Some(bits) = &self.bits else { return Ok(()) };
        let none = BroadcastInputs::none(T::TYPE);
        upstream.as_dyn_mut().overwrite(Op::MaskBackward, &[bits], &Arguments::new(&none))
    }

    /// Bytes of the bits on the device.
    pub fn bytes(&self) -> u64 {
        self.bits.as_ref().map_or(0, |bits| bits.storage().bytes())
    }

    pub(crate) fn bits(&self) -> Option<&DynTensor> {
        self.bits.as_ref()
    }

    fn check(&self, upstream: &Tensor<T>) -> Result<()> {
        self.shape.check_same(upstream.shape())?;
        self.device.check_same(&upstream.device())
    }
}
