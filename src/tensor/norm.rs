//! Norms, and clipping by them.

use super::lists::clip_by_global_norm;
use super::{Storage, Stored, Tensor, with_storage};
use crate::backend::Backend;
use crate::broadcast::{Broadcast, Reduction};
use crate::op::Operand;
use crate::call::Limiter;
use crate::exact::ReduceOp;
use crate::{Element, ElementType, Error, NormKind, NormLimit, Result, Shape};

/// The slices of a tensor, each of which has a norm.
struct Slices {
    reduction: Reduction,
    broadcast: Broadcast,
    /// The shape of the norms.
    kept: Shape,
}

impl Slices {
    /// One, of all elements.
    fn whole(x: &Shape) -> Result<Self> {
        let kept = Shape::new([])?;
        let broadcast = Broadcast::of_one(x, &kept, Operand::X)?;
        Ok(Self { reduction: Reduction::all(x.len()), broadcast, kept })
    }

    /// Along some axes; those that are left have a norm for each of their elements.
    fn along(x: &Shape, axes: &[usize]) -> Result<Self> {
        let mut dims = x.dims().to_vec();
        for (n, &axis) in axes.iter().enumerate() {
            match dims.get_mut(axis) {
                Some(len) if !axes[..n].contains(&axis) => *len = 1,
                _ => return Err(Error::InvalidAxes { axes: axes.to_vec(), shape: x.dims().to_vec() }),
            }
        }
        let kept = Shape::new(dims)?;
        let reduction = Reduction::new(x, &kept, Operand::X)?;
        Ok(Self { reduction, broadcast: Broadcast::of_one(x, &kept, Operand::X)?, kept })
    }
}

impl<T: Element> Tensor<T> {
    /// The sum of all elements: exact, and rounded to the type once, as [`reference::sum`](crate::reference::sum) says. Of
    /// shape `[]`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for what is too large for a GPU; [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn sum(&self) -> Result<Self> {
        let slices = Slices::whole(&self.shape)?;
        self.reduced(&slices, ReduceOp::Sum)
    }

    /// The sums along these axes, counted from 0, each of which is left with a length of 1.
    ///
    /// # Errors
    /// [`Error::InvalidAxes`], [`Error::TooManyAxes`](crate::Error::TooManyAxes); otherwise as [`sum`](Self::sum).
    pub fn sum_along(&self, axes: &[usize]) -> Result<Self> {
        let slices = Slices::along(&self.shape, axes)?;
        self.reduced(&slices, ReduceOp::Sum)
    }

    /// The norm of all elements, of shape `[]`, in f32 or, for f64, in f64: exact, and rounded once, as
    /// [`reference::norm`](crate::reference::norm) says. It has the same bits on every device and in every order, and it does
    /// not overflow where the elements are of a short type.
    ///
    /// ```
    /// use wgclip::{Device, NormKind, f16};
    ///
    /// let x = Device::cpu().tensor(&[f16::from_f32(6e4); 2], [2])?;
    /// assert_eq!(x.norm(NormKind::L2)?.to_vec()?, [84_852.81]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] for integers, and for f64 on a GPU; otherwise as [`sum`](Self::sum).
    pub fn norm(&self, kind: NormKind) -> Result<Tensor<T::Norm>> {
        self.norms(&Slices::whole(&self.shape)?, kind)
    }

    /// The norm of each slice along these axes, counted from 0, each of which is left with a length of 1.
    ///
    /// # Errors
    /// [`Error::InvalidAxes`], [`Error::TooManyAxes`](crate::Error::TooManyAxes); otherwise as [`norm`](Self::norm).
    pub fn norm_along(&self, axes: &[usize], kind: NormKind) -> Result<Tensor<T::Norm>> {
        self.norms(&Slices::along(&self.shape, axes)?, kind)
    }

    /// Scales all elements down so that their norm is at most a limit: TensorFlow's `clip_by_norm`. Elements whose norm is
    /// within the limit keep their bits; others are multiplied by `limit / (norm + eps)`, as
    /// [`reference::scaling`](crate::reference::scaling) and [`reference::scale`](crate::reference::scale) say.
    ///
    /// # Errors
    /// [`Error::InvalidLimit`], [`Error::NonFiniteNorm`] where it is asked for; otherwise as [`norm`](Self::norm).
    #[must_use = "the tensor itself is not changed"]
    pub fn clip_by_norm(&self, limit: impl Into<NormLimit>) -> Result<Self> {
        self.clipped(&Slices::whole(&self.shape)?, &limit.into(), None)
    }

    /// The same in place. Clones keep their elements.
    ///
    /// # Errors
    /// As [`clip_by_norm`](Self::clip_by_norm). The tensor is then as it was.
    pub fn clip_by_norm_in_place(&mut self, limit: impl Into<NormLimit>) -> Result<()> {
        clip_by_global_norm::<T::Norm>(&mut [self], limit).map(drop)
    }

    /// The same of each slice along these axes, counted from 0: per-example clipping, max-norm constraints.
    ///
    /// ```
    /// use wgclip::Device;
    ///
    /// let x = Device::cpu().tensor(&[3.0f32, 4.0, 0.3, 0.4], [2, 2])?;
    /// assert_eq!(x.clip_by_norm_along(&[1], 1.0)?.to_vec()?, [0.6, 0.8, 0.3, 0.4]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`clip_by_norm`](Self::clip_by_norm) and [`norm_along`](Self::norm_along).
    #[must_use = "the tensor itself is not changed"]
    pub fn clip_by_norm_along(&self, axes: &[usize], limit: impl Into<NormLimit>) -> Result<Self> {
        self.clipped(&Slices::along(&self.shape, axes)?, &limit.into(), None)
    }

    /// The same by the norm divided by the number of elements: TensorFlow's `clip_by_average_norm`.
    ///
    /// # Errors
    /// As [`clip_by_norm`](Self::clip_by_norm).
    #[must_use = "the tensor itself is not changed"]
    pub fn clip_by_average_norm(&self, limit: impl Into<NormLimit>) -> Result<Self> {
        self.clipped_by_average(&Slices::whole(&self.shape)?, &limit.into())
    }

    /// The same of each slice along these axes, counted from 0.
    ///
    /// # Errors
    /// As [`clip_by_norm_along`](Self::clip_by_norm_along).
    #[must_use = "the tensor itself is not changed"]
    pub fn clip_by_average_norm_along(&self, axes: &[usize], limit: impl Into<NormLimit>) -> Result<Self> {
        self.clipped_by_average(&Slices::along(&self.shape, axes)?, &limit.into())
    }

    /// The backward pass of [`clip_by_norm`](Self::clip_by_norm) by the 2-norm: the gradient that reaches this tensor, of the
    /// gradient `upstream` of the clipped one, to the bit as
    /// [`reference::scaling_backward`](crate::reference::scaling_backward) and
    /// [`reference::scale_backward`](crate::reference::scale_backward) say. Of a tensor whose norm is within the limit it is
    /// `upstream`; else what would change the norm is taken off. All have the same shape.
    ///
    /// ```
    /// use wgclip::Device;
    ///
    /// let device = Device::cpu();
    /// let x = device.tensor(&[0.0f32, 2.0], [2])?;
    /// let upstream = device.tensor(&[3.0f32, 1.0], [2])?;
    /// assert_eq!(x.clip_by_norm_backward(&upstream, 1.0)?.to_vec()?, [1.5, 0.0]);
    /// assert_eq!(x.clip_by_norm_backward(&upstream, 2.0)?.to_vec()?, [3.0, 1.0]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch), [`Error::DeviceMismatch`]; [`Error::Unsupported`] for another
    /// norm than the 2-norm; otherwise as [`clip_by_norm`](Self::clip_by_norm).
    #[must_use = "the upstream gradient is not changed"]
    pub fn clip_by_norm_backward(&self, upstream: &Self, limit: impl Into<NormLimit>) -> Result<Self> {
        self.scaled_backward(upstream, &Slices::whole(&self.shape)?, &limit.into())
    }

    /// The same of [`clip_by_norm_along`](Self::clip_by_norm_along), slice by slice.
    ///
    /// # Errors
    /// As [`clip_by_norm_backward`](Self::clip_by_norm_backward) and [`norm_along`](Self::norm_along).
    #[must_use = "the upstream gradient is not changed"]
    pub fn clip_by_norm_along_backward(
        &self,
        upstream: &Self,
        axes: &[usize],
        limit: impl Into<NormLimit>,
    ) -> Result<Self> {
        self.scaled_backward(upstream, &Slices::along(&self.shape, axes)?, &limit.into())
    }

    fn scaled_backward(&self, upstream: &Self, slices: &Slices, limit: &NormLimit) -> Result<Self> {
        self.shape.check_same(&upstream.shape)?;
        let made = scale_backward(T::TYPE, [&self.storage, &upstream.storage], slices, limit)?;
        Ok(Self::new(made, self.shape.clone()))
    }

    fn clipped_by_average(&self, slices: &Slices, limit: &NormLimit) -> Result<Self> {
        limit.check()?;
        let norms = self.norms(slices, limit.kind)?;
        self.scaled(slices, &norms, limit, Some(slices.reduction.leaves.max(1)), None)
    }

    /// Adaptive gradient clipping: the norm of each slice of this gradient is limited to `limit` times that of the same slice
    /// of its parameter, which counts as `least` at the least. A slice ("unit") is along these axes, counted from 0: those of
    /// the inputs of a layer. optax's `adaptive_grad_clip` has a `least` of 1e-3.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch), [`Error::DeviceMismatch`]; [`Error::InvalidLimit`] for a
    /// `least` that is negative or not finite, too; otherwise as [`clip_by_norm_along`](Self::clip_by_norm_along).
    #[must_use = "the tensor itself is not changed"]
    pub fn clip_adaptive(
        &self,
        parameter: &Self,
        axes: &[usize],
        limit: impl Into<NormLimit>,
        least: f64,
    ) -> Result<Self> {
        let (limit, slices) = (limit.into(), Slices::along(&self.shape, axes)?);
        limit.eps(least).check()?;
        self.shape.check_same(&parameter.shape)?;
        self.device().check_same(&parameter.device())?;
        let of_parameter = parameter.norms(&slices, limit.kind)?;
        self.clipped(&slices, &limit, Some((&of_parameter, least)))
    }

    fn norms(&self, slices: &Slices, kind: NormKind) -> Result<Tensor<T::Norm>> {
        check_norm(T::TYPE)?;
        self.reduced(slices, kind.reduce_op())
    }

    fn reduced<U: Element>(&self, slices: &Slices, op: ReduceOp) -> Result<Tensor<U>> {
        let made = reduce((T::TYPE, &self.storage), slices, op, U::TYPE)?;
        Ok(Tensor::new(made, slices.kept.clone()))
    }

    fn clipped(
        &self,
        slices: &Slices,
        limit: &NormLimit,
        relative: Option<(&Tensor<T::Norm>, f64)>,
    ) -> Result<Self> {
        limit.check()?;
        let norms = self.norms(slices, limit.kind)?;
        self.scaled(slices, &norms, limit, None, relative)
    }

    fn scaled(
        &self,
        slices: &Slices,
        norms: &Tensor<T::Norm>,
        limit: &NormLimit,
        average: Option<usize>,
        relative: Option<(&Tensor<T::Norm>, f64)>,
    ) -> Result<Self> {
        let relative = relative.map(|(norms, least)| (&norms.storage, least));
        let limiter = Limiter { limit, average, relative };
        let norms = (T::Norm::TYPE, &norms.storage);
        let made = scale((T::TYPE, &self.storage), slices, norms, limiter)?;
        Ok(Self::new(made, self.shape.clone()))
    }
}

// What follows is compiled once, for types that are values.

/// Reduces slices to an element of `to` each.
fn reduce(
    (element, storage): (ElementType, &Storage),
    slices: &Slices,
    op: ReduceOp,
    to: ElementType,
) -> Result<Storage> {
    with_storage!(storage, backend, x => {
        Ok(backend.store(backend.reduce(element, x, &slices.reduction, op, to)?))
    })
}

/// Scales slices as their norms ask for.
fn scale(
    (element, storage): (ElementType, &Storage),
    slices: &Slices,
    (norm, norms): (ElementType, &Storage),
    limiter: Limiter<'_, &Storage>,
) -> Result<Storage> {
    with_storage!(storage, backend, x => {
        let relative = match limiter.relative {
            Some((norms, least)) => Some((storage.peer(backend, norms)?, least)),
            None => None,
        };
        let limiter = Limiter { limit: limiter.limit, average: limiter.average, relative };
        let scalings = backend.scalings(norm, storage.peer(backend, norms)?, limiter)?;
        Ok(backend.store(backend.scale(element, x, &scalings, &slices.broadcast)?))
    })
}

/// The gradients of slices that are scaled by their norms.
fn scale_backward(
    element: ElementType,
    [storage, upstream]: [&Storage; 2],
    slices: &Slices,
    limit: &NormLimit,
) -> Result<Storage> {
    limit.check()?;
    check_norm(element)?;
    if limit.kind != NormKind::L2 {
        return Err(Error::Unsupported {
            what: format!("the backward pass of clipping by the norm {}", limit.kind),
            device: "any device".into(),
            instead: "clip by the 2-norm".into(),
        });
    }
    with_storage!(storage, backend, x => {
        let g = storage.peer(backend, upstream)?;
        let slices = (&slices.reduction, &slices.broadcast);
        Ok(backend.store(backend.scale_backward(element, [x, g], slices, limit)?))
    })
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
