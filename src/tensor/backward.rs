//! The backward pass, from the tensor that was clipped.

use super::Tensor;
use super::run::{broadcast_inputs, missing_output, run};
use crate::op::Arguments;
use crate::{BackwardRule, Element, IntoBounds, Op, Result};

/// Which bounds need a gradient, besides x.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NeedsGrad {
    /// The lower bound does.
    pub lo: bool,
    /// The upper bound does.
    pub hi: bool,
}

impl NeedsGrad {
    /// The lower bound.
    pub const LO: Self = Self { lo: true, hi: false };
    /// The upper bound.
    pub const HI: Self = Self { lo: false, hi: true };
    /// Both bounds.
    pub const BOTH: Self = Self { lo: true, hi: true };
}

/// The gradients of a clip's operands.
#[derive(Debug, Clone)]
pub struct BoundGradients<T: Element> {
    /// What x receives.
    pub x: Tensor<T>,
    /// What the lower bound receives, in its shape, if needed.
    pub lo: Option<Tensor<T>>,
    /// What the upper bound receives, in its shape, if needed.
    pub hi: Option<Tensor<T>>,
}

impl<T: Element> Tensor<T> {
    /// The backward pass of [`clip`](Self::clip): the gradient that reaches this tensor, of the gradient
    /// `upstream` of the clipped one, to the bit as [`reference::clip_backward`](crate::reference::clip_backward) says.
    /// All three have the same shape. The straight-through rule costs nothing: the result shares the elements of
    /// `upstream`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch), [`Error::DeviceMismatch`](crate::Error::DeviceMismatch);
    /// otherwise as [`clip`](Self::clip).
    #[must_use = "the upstream gradient is not changed: see clip_backward_in_place"]
    pub fn clip_backward(
        &self,
        upstream: &Self,
        bounds: impl IntoBounds<T>,
        rule: BackwardRule,
    ) -> Result<Self> {
        Self::between(Op::ClipBackward, &[self.as_dyn(), upstream.as_dyn()], &bounds.into_bounds()?, rule)
    }

    /// The same in place of the upstream gradient, which becomes that of this tensor. If clones share its
    /// elements they keep theirs, and `upstream` gets new ones.
    ///
    /// # Errors
    /// As [`clip_backward`](Self::clip_backward). `upstream` is then as it was.
    pub fn clip_backward_in_place(
        &self,
        upstream: &mut Self,
        bounds: impl IntoBounds<T>,
        rule: BackwardRule,
    ) -> Result<()> {
        Self::overwrite(upstream, Op::ClipBackward, &[self.as_dyn()], &bounds.into_bounds()?, rule)
    }

    /// The backward pass to the bounds as well: one pass over the elements gives all that is needed, then the
    /// gradients of the bounds are summed over the dimensions along which they broadcast. To the bit as
    /// [`reference::clip_backward_bounds`](crate::reference::clip_backward_bounds) and
    /// [`reference::sum`](crate::reference::sum) say: sums are exact, and rounded once. A bound that is a value has a
    /// gradient of shape `[]`.
    ///
    /// ```
    /// use wgclip::{BackwardRule, Bounds, Device, NeedsGrad};
    ///
    /// let device = Device::cpu();
    /// let x = device.tensor(&[-1.0f32, 5.0, 7.0, 2.0], [2, 2])?;
    /// let upstream = device.tensor(&[1.0f32, 10.0, 100.0, 1000.0], [2, 2])?;
    /// let of_each_column = device.tensor(&[6.0f32, 3.0], [2])?;
    /// let bounds = Bounds::new(0.0, of_each_column)?;
    ///
    /// let grads = x.clip_backward_bounds(&upstream, &bounds, BackwardRule::default(), NeedsGrad::BOTH)?;
    /// assert_eq!(grads.x.to_vec()?, [0.0, 0.0, 0.0, 1000.0]);
    /// assert_eq!(grads.lo.unwrap().to_vec()?, [1.0]);
    /// assert_eq!(grads.hi.unwrap().to_vec()?, [100.0, 10.0]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoBound`](crate::Error::NoBound) if an absent bound needs a gradient,
    /// [`Error::Unsupported`](crate::Error::Unsupported) if a GPU's binding cannot hold the elements to sum; otherwise
    /// as [`clip_backward`](Self::clip_backward).
    pub fn clip_backward_bounds(
        &self,
        upstream: &Self,
        bounds: impl IntoBounds<T>,
        rule: BackwardRule,
        needs: NeedsGrad,
    ) -> Result<BoundGradients<T>> {
        let (op, bounds) = (Op::ClipBackwardBounds, bounds.into_bounds()?);
        let broadcast = broadcast_inputs(op, self.shape(), &bounds, &[])?;
        let arguments = Arguments { rule, ..Arguments::new(&broadcast) };
        let inputs = [self.as_dyn(), upstream.as_dyn()];
        let [x, lo, hi, _] = run(op, &inputs, [true, needs.lo, needs.hi, false], &arguments)?;
        Ok(BoundGradients {
            x: x.map(Self::of).ok_or_else(|| missing_output(op))?,
            lo: lo.map(Self::of),
            hi: hi.map(Self::of),
        })
    }
}
