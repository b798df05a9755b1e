//! Clipping of tensors.

use burn::backend::Dispatch;
use burn::tensor::Tensor;
use wgclip::op::Op;
use wgclip::{BackwardRule, Error, Result};

use crate::bounds::Bounds;
use crate::ops::{Broadcast, Call, ClipOps};
use crate::path::{Path, path};

/// Clips each element to bounds: `min(max(x, lo), hi)`, in x's shape, with the gradient of Burn's own `clamp`
/// ([`BackwardRule::default`]). Bounds that are tensors broadcast to x, and have gradients.
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let x = Tensor::<1>::from_data([-2.0, 0.5, 7.0], &Device::flex());
/// let y = wgclip_burn::clip(x, 0.0..=1.0)?;
/// assert_eq!(y.into_data().try_into_vec::<f32>().unwrap(), [0.0, 0.5, 1.0]);
/// # Ok::<(), wgclip_burn::Error>(())
/// ```
///
/// # Errors
/// [`Error::NanBound`](crate::Error::NanBound); [`Error::BroadcastMismatch`](crate::Error::BroadcastMismatch),
/// [`Error::TooManyAxes`](crate::Error::TooManyAxes) or [`Error::TypeMismatch`](crate::Error::TypeMismatch) for bounds that are tensors;
/// [`Error::Unsupported`](crate::Error::Unsupported) for types and devices without kernels.
pub fn clip<const D: usize>(x: Tensor<D>, bounds: impl Into<Bounds>) -> Result<Tensor<D>> {
    clip_with(x, bounds, BackwardRule::default())
}

/// The same with another rule for the gradient.
///
/// # Errors
/// As [`clip`].
pub fn clip_with<const D: usize>(
    x: Tensor<D>,
    bounds: impl Into<Bounds>,
    rule: BackwardRule,
) -> Result<Tensor<D>> {
    let Bounds { lo, hi } = bounds.into().checked(&x)?;
    let call = Call::new(Op::Clip, rule);
    Ok(Tensor::from_dispatch(Dispatch::recorded(x.into_dispatch(), Broadcast::new([lo, hi]), call)))
}

/// The same, but keeps one bit per element for the backward pass instead of x, for a rule that [fits a mask](BackwardRule::fits_mask).
/// With bounds that are tensors, which may need a gradient, and on [`Path::Composed`] it keeps x.
///
/// # Errors
/// As [`clip`]; [`Error::RuleWithoutKernel`](crate::Error::RuleWithoutKernel) for any other rule.
pub fn clip_keeping_mask<const D: usize>(
    x: Tensor<D>,
    bounds: impl Into<Bounds>,
    rule: BackwardRule,
) -> Result<Tensor<D>> {
    if !rule.fits_mask() {
        return Err(Error::RuleWithoutKernel {
            op: "clip_keeping_mask",
            rule: rule.to_string(),
            advice: "one bit per element cannot tell its gradient: use clip_with",
        });
    }
    let bounds = bounds.into();
    if rule.is_identity() || bounds.has_tensors() || path(&x.device()) == Path::Composed {
        return clip_with(x, bounds, rule);
    }
    let Bounds { lo, hi } = bounds.checked(&x)?;
    Ok(Tensor::from_dispatch(Dispatch::clip_with_mask(x.into_dispatch(), lo, hi, rule).y))
}
