//! Norms, and clipping by them.

use std::ops::RangeFull;

use super::lists::clip_by_global_norm;
use super::storage::peer;
use super::{DynTensor, Stored, Tensor, with_storage};
use crate::backend::Backend;
use crate::broadcast::Slices;
use crate::call::Limiter;
use crate::norm::exact::ReduceOp;
use crate::{Element, ElementType, Error, NormKind, NormLimit, Result, Shape};

/// The axes of a tensor that an operation reduces, counted from 0: all of it (`..`), or some.
///
/// ```
/// let x = wgclip::Device::cpu().tensor(&[1.0f32, 2.0, 3.0, 4.0], [2, 2])?;
/// assert_eq!(x.sum(..)?.to_vec()?, [10.0]);
/// assert_eq!(x.sum([1])?.to_vec()?, [3.0, 7.0]);
/// # Ok::<(), wgclip::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Axes {
    /// The whole tensor, to the shape `[]`.
    All,
    /// These, each of which is left with a length of 1. Along none of them every element is a slice of its own.
    Some(Vec<usize>),
}

impl From<RangeFull> for Axes {
    fn from(_: RangeFull) -> Self {
        Self::All
    }
}

impl<const N: usize> From<[usize; N]> for Axes {
    fn from(axes: [usize; N]) -> Self {
        Self::Some(axes.to_vec())
    }
}

impl From<&[usize]> for Axes {
    fn from(axes: &[usize]) -> Self {
        Self::Some(axes.to_vec())
    }
}

impl From<Option<&[usize]>> for Axes {
    /// All of the tensor where there are none.
    fn from(axes: Option<&[usize]>) -> Self {
        axes.map_or(Self::All, Self::from)
    }
}

/// The slices of a tensor along some axes, or the whole of it.
pub(super) fn slices(x: &Shape, axes: impl Into<Axes>) -> Result<Slices> {
    match axes.into() {
        Axes::All => Slices::whole(x),
        Axes::Some(axes) => Slices::along(x, &axes),
    }
}

impl<T: Element> Tensor<T> {
    /// The sum along some axes, or of all elements (`..`): exact, and rounded to the type once, as
    /// [`reference::sum`](crate::reference::sum) says.
    ///
    /// # Errors
    /// [`Error::InvalidAxes`], [`Error::TooManyAxes`](crate::Error::TooManyAxes); [`Error::Unsupported`] for what is too large for
    /// a GPU; [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn sum(&self, axes: impl Into<Axes>) -> Result<Self> {
        self.as_dyn().sum(axes).map(Self::of)
    }

    /// The norm of each slice along some axes, or of all elements (`..`), in f32 or, for f64, in f64: exact, and rounded once, as
    /// [`reference::norm`](crate::reference::norm) says. It has the same bits on every device and in every order, and it does
    /// not overflow where the elements are of a short type.
    ///
    /// ```
    /// use wgclip::{Device, NormKind, f16};
    ///
    /// let x = Device::cpu().tensor(&[f16::from_f32(6e4); 2], [2])?;
    /// assert_eq!(x.norm(NormKind::L2, ..)?.to_vec()?, [84_852.81]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] for integers, and for f64 on a GPU; otherwise as [`sum`](Self::sum).
    pub fn norm(&self, kind: NormKind, axes: impl Into<Axes>) -> Result<Tensor<T::Norm>> {
        self.as_dyn().norm(kind, axes).map(Tensor::of)
    }

    /// Scales each slice along some axes, or all elements (`..`), down so that its norm is at most a limit: TensorFlow's
    /// `clip_by_norm`, per-example clipping, max-norm constraints. Elements whose norm is within the limit keep their bits; others are multiplied by `limit / (norm + eps)`, as
    /// [`reference::scaling`](crate::reference::scaling) and [`reference::scale`](crate::reference::scale) say.
    ///
    /// ```
    /// use wgclip::Device;
    ///
    /// let x = Device::cpu().tensor(&[3.0f32, 4.0, 0.3, 0.4], [2, 2])?;
    /// assert_eq!(x.clip_by_norm(1.0, [1])?.to_vec()?, [0.6, 0.8, 0.3, 0.4]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidLimit`], [`Error::NonFiniteNorm`] where it is asked for; otherwise as [`norm`](Self::norm).
    #[must_use = "the tensor itself is not changed"]
    pub fn clip_by_norm(&self, limit: impl Into<NormLimit>, axes: impl Into<Axes>) -> Result<Self> {
        self.as_dyn().clip_by_norm(limit, axes).map(Self::of)
    }

    /// The same of all elements in place. Clones keep their elements.
    ///
    /// # Errors
    /// As [`clip_by_norm`](Self::clip_by_norm). The tensor is then as it was.
    pub fn clip_by_norm_in_place(&mut self, limit: impl Into<NormLimit>) -> Result<()> {
        clip_by_global_norm(&mut [self], limit).map(drop)
    }

    /// The same as [`clip_by_norm`](Self::clip_by_norm) by the norm divided by the number of elements: TensorFlow's `clip_by_average_norm`.
    ///
    /// # Errors
    /// As [`clip_by_norm`](Self::clip_by_norm).
    #[must_use = "the tensor itself is not changed"]
    pub fn clip_by_average_norm(&self, limit: impl Into<NormLimit>, axes: impl Into<Axes>) -> Result<Self> {
        self.as_dyn().clip_by_average_norm(limit, axes).map(Self::of)
    }

    /// The backward pass of [`clip_by_norm`](Self::clip_by_norm) by the 2-norm: the gradient that reaches this tensor, of the
    /// gradient `upstream` of the clipped one, to the bit as
    /// [`reference::scaling_backward`](crate::reference::scaling_backward) and
    /// [`reference::scale_backward`](crate::reference::scale_backward) say. Of a tensor whose norm is within the limit it is
    /// `upstream`; otherwise the component along x is removed. All have the same shape.
    ///
    /// ```
    /// use wgclip::Device;
    ///
    /// let device = Device::cpu();
    /// let x = device.tensor(&[0.0f32, 2.0], [2])?;
    /// let upstream = device.tensor(&[3.0f32, 1.0], [2])?;
    /// assert_eq!(x.clip_by_norm_backward(&upstream, 1.0, ..)?.to_vec()?, [1.5, 0.0]);
    /// assert_eq!(x.clip_by_norm_backward(&upstream, 2.0, ..)?.to_vec()?, [3.0, 1.0]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch), [`Error::DeviceMismatch`]; [`Error::Unsupported`] for another
    /// norm than the 2-norm; otherwise as [`clip_by_norm`](Self::clip_by_norm).
    #[must_use = "the upstream gradient is not changed"]
    pub fn clip_by_norm_backward(
        &self,
        upstream: &Self,
        limit: impl Into<NormLimit>,
        axes: impl Into<Axes>,
    ) -> Result<Self> {
        self.as_dyn().clip_by_norm_backward(upstream.as_dyn(), limit, axes).map(Self::of)
    }

    /// Adaptive gradient clipping: the norm of each slice of this gradient is limited to `limit` times that of the same slice
    /// of its parameter, which counts as `least` at the least. A slice ("unit") is along these axes: those of the inputs of a layer. optax's `adaptive_grad_clip` has a `least` of 1e-3.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch), [`Error::DeviceMismatch`]; [`Error::InvalidLimit`] for a
    /// `least` that is negative or not finite, too; otherwise as [`clip_by_norm`](Self::clip_by_norm).
    #[must_use = "the tensor itself is not changed"]
    pub fn clip_adaptive(
        &self,
        parameter: &Self,
        limit: impl Into<NormLimit>,
        axes: impl Into<Axes>,
        least: f64,
    ) -> Result<Self> {
        self.as_dyn().clip_adaptive(parameter.as_dyn(), limit, axes, least).map(Self::of)
    }
}

impl DynTensor {
    /// As [`Tensor::sum`].
    ///
    /// # Errors
    /// As that.
    pub fn sum(&self, axes: impl Into<Axes>) -> Result<Self> {
        self.reduced(&slices(&self.shape, axes)?, ReduceOp::Sum, self.element)
    }

    /// As [`Tensor::norm`]: of f32, or of f64 for f64.
    ///
    /// # Errors
    /// As that.
    pub fn norm(&self, kind: NormKind, axes: impl Into<Axes>) -> Result<Self> {
        self.norms(&slices(&self.shape, axes)?, kind)
    }

    /// As [`Tensor::clip_by_norm`].
    ///
    /// # Errors
    /// As that.
    #[must_use = "the tensor itself is not changed"]
    pub fn clip_by_norm(&self, limit: impl Into<NormLimit>, axes: impl Into<Axes>) -> Result<Self> {
        self.clipped(&slices(&self.shape, axes)?, &limit.into(), None)
    }

    /// As [`Tensor::clip_by_average_norm`].
    ///
    /// # Errors
    /// As that.
    #[must_use = "the tensor itself is not changed"]
    pub fn clip_by_average_norm(&self, limit: impl Into<NormLimit>, axes: impl Into<Axes>) -> Result<Self> {
        let (limit, slices) = (limit.into(), slices(&self.shape, axes)?);
        limit.check()?;
        let norms = self.norms(&slices, limit.kind)?;
        self.scaled(&slices, &norms, &limit, Some(slices.reduction.leaves.max(1)), None)
    }

    /// As [`Tensor::clip_by_norm_backward`].
    ///
    /// # Errors
    /// As that, and [`Error::TypeMismatch`].
    #[must_use = "the upstream gradient is not changed"]
    pub fn clip_by_norm_backward(
        &self,
        upstream: &Self,
        limit: impl Into<NormLimit>,
        axes: impl Into<Axes>,
    ) -> Result<Self> {
        let (limit, slices) = (limit.into(), slices(&self.shape, axes)?);
        self.check_like(upstream)?;
        limit.check()?;
        check_norm(self.element)?;
        if limit.kind != NormKind::L2 {
            return Err(Error::Unsupported {
                what: format!("the backward pass of clipping by the norm {}", limit.kind),
                device: "any device".into(),
                instead: "clip by the 2-norm".into(),
            });
        }
        let storage = with_storage!(&self.storage, backend, x => {
            let operands = [x, peer(backend, &upstream.storage)?];
            let slices = (&slices.reduction, &slices.broadcast);
            backend.store(backend.scale_backward(self.element, operands, slices, &limit)?)
        });
        Ok(Self::new(self.element, storage, self.shape.clone()))
    }

    /// As [`Tensor::clip_adaptive`].
    ///
    /// # Errors
    /// As that, and [`Error::TypeMismatch`].
    #[must_use = "the tensor itself is not changed"]
    pub fn clip_adaptive(
        &self,
        parameter: &Self,
        limit: impl Into<NormLimit>,
        axes: impl Into<Axes>,
        least: f64,
    ) -> Result<Self> {
        let (limit, slices) = (limit.into(), slices(&self.shape, axes)?);
        limit.eps(least).check()?;
        self.check_like(parameter)?;
        self.device().check_same(&parameter.device())?;
        let of_parameter = parameter.norms(&slices, limit.kind)?;
        self.clipped(&slices, &limit, Some((&of_parameter, least)))
    }

    pub(super) fn check_like(&self, other: &Self) -> Result<()> {
        other.check_type(self.element)?;
        self.shape.check_same(&other.shape)
    }

    fn norms(&self, slices: &Slices, kind: NormKind) -> Result<Self> {
        check_norm(self.element)?;
        self.reduced(slices, kind.reduce_op(), ElementType::of_norm([self.element]))
    }

    /// Reduces slices to an element of `to` each.
    fn reduced(&self, slices: &Slices, op: ReduceOp, to: ElementType) -> Result<Self> {
        let storage = with_storage!(&self.storage, backend, x => {
            backend.store(backend.reduce(self.element, x, &slices.reduction, op, to)?)
        });
        Ok(Self::new(to, storage, slices.kept.clone()))
    }

    fn clipped(&self, slices: &Slices, limit: &NormLimit, relative: Option<(&Self, f64)>) -> Result<Self> {
        limit.check()?;
        let norms = self.norms(slices, limit.kind)?;
        self.scaled(slices, &norms, limit, None, relative)
    }

    /// Scales slices as their norms ask for.
    fn scaled(
        &self,
        slices: &Slices,
        norms: &Self,
        limit: &NormLimit,
        average: Option<usize>,
        relative: Option<(&Self, f64)>,
    ) -> Result<Self> {
        let storage = with_storage!(&self.storage, backend, x => {
            let relative = match relative {
                Some((norms, least)) => Some((peer(backend, &norms.storage)?, least)),
                None => None,
            };
            let limiter = Limiter { limit, average, relative };
            let scalings = backend.scalings(norms.element, peer(backend, &norms.storage)?, limiter)?;
            backend.store(backend.scale(self.element, x, &scalings, &slices.broadcast)?)
        });
        Ok(Self::new(self.element, storage, self.shape.clone()))
    }
}

/// Integers have no norm.
pub(super) fn check_norm(element: ElementType) -> Result<()> {
    if element.is_float() {
        return Ok(());
    }
    Err(Error::Unsupported {
        what: format!("a norm of {element}"),
        device: "any device".into(),
        instead: "norms are of floats".into(),
    })
}
