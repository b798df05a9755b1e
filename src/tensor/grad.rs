//! The backward pass, from the tensor that was clipped.

use std::sync::Arc;

use super::{Storage, Tensor};
use crate::broadcast::{Reduction, Side};
use crate::host::Memory;
use crate::{Bounds, Element, Error, Gradient, Outside, Result, Shape, cpu};

/// Which bounds' gradients are wanted beside that of x.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// That of the lower bound.
    pub lo: bool,
    /// That of the upper bound.
    pub hi: bool,
}

impl Wanted {
    /// The lower bound's.
    pub const LO: Self = Self { lo: true, hi: false };
    /// The upper bound's.
    pub const HI: Self = Self { lo: false, hi: true };
    /// Both bounds'.
    pub const BOTH: Self = Self { lo: true, hi: true };

    fn side(self, side: Side) -> bool {
        match side {
            Side::Lo => self.lo,
            Side::Hi => self.hi,
        }
    }
}

/// The gradients of a clip's operands.
#[derive(Debug, Clone)]
pub struct Grads<T: Element> {
    /// What x receives.
    pub x: Tensor<T>,
    /// What the lower bound receives, in its shape, if wanted.
    pub lo: Option<Tensor<T>>,
    /// What the upper bound receives, in its shape, if wanted.
    pub hi: Option<Tensor<T>>,
}

impl<T: Element> Tensor<T> {
    /// The backward pass of [`clip`](Self::clip): the gradient that reaches this tensor, of the gradient
    /// `upstream` of the clipped one, to the bit as [`reference::clip_grad`](crate::reference::clip_grad) says.
    /// All three have the same shape. [`Outside::StraightThrough`] costs nothing: the result shares the
    /// elements of `upstream`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`], [`Error::DeviceMismatch`]; otherwise as [`clip`](Self::clip).
    pub fn clip_grad(&self, upstream: &Self, bounds: &Bounds<T>, rule: Gradient) -> Result<Self> {
        self.shape.check_same(&upstream.shape)?;
        Ok(self.like(match &self.storage {
            Storage::Cpu(x) => {
                let g = self.beside(upstream, Self::on_cpu)?;
                let bounds = self.interval(bounds, Self::on_cpu)?;
                if rule.outside == Outside::StraightThrough {
                    return Ok(upstream.clone());
                }
                let mut gx = Memory::new(x.len())?;
                cpu::clip_grad(x, g, &bounds, rule, &mut gx)?;
                Storage::Cpu(Arc::new(gx))
            }
            #[cfg(feature = "gpu")]
            Storage::Gpu(context, x) => {
                let g = self.beside(upstream, |other| other.on_gpu(context))?;
                let bounds = self.interval(bounds, |bound| bound.on_gpu(context))?;
                Storage::Gpu(context.clone(), context.clip_grad(x, g, &bounds, rule)?)
            }
        }))
    }

    /// The same in the place of the upstream gradient, which becomes that of this tensor. If clones share its
    /// elements they keep theirs, and `upstream` gets new ones.
    ///
    /// # Errors
    /// As [`clip_grad`](Self::clip_grad). `upstream` is then as it was.
    pub fn clip_grad_in_place(&self, upstream: &mut Self, bounds: &Bounds<T>, rule: Gradient) -> Result<()> {
        self.shape.check_same(&upstream.shape)?;
        match &self.storage {
            Storage::Cpu(x) => {
                self.beside(upstream, Self::on_cpu)?;
                let interval = self.interval(bounds, Self::on_cpu)?;
                if let Storage::Cpu(g) = &mut upstream.storage
                    && let Some(g) = Arc::get_mut(g)
                {
                    return cpu::clip_grad_in_place(x, g, &interval, rule);
                }
                *upstream = self.clip_grad(upstream, bounds, rule)?;
            }
            #[cfg(feature = "gpu")]
            Storage::Gpu(context, x) => {
                self.beside(upstream, |other| other.on_gpu(context))?;
                let bounds = self.interval(bounds, |bound| bound.on_gpu(context))?;
                if let Storage::Gpu(_, g) = &mut upstream.storage {
                    context.clip_grad_in_place(x, g, &bounds, rule)?;
                }
            }
        }
        Ok(())
    }

    /// The backward pass to the bounds as well: one pass over the elements gives all that is `wanted`, then the
    /// gradients of the bounds are summed over the dimensions along which they broadcast. To the bit as
    /// [`reference::clip_grads`](crate::reference::clip_grads) and [`reference::sum`](crate::reference::sum) say:
    /// sums have one order on every device. A bound that is a value has a gradient of shape `[]`.
    ///
    /// ```
    /// use wgclip::{Bounds, Device, Gradient, Wanted};
    ///
    /// let device = Device::cpu();
    /// let x = device.tensor(&[-1.0f32, 5.0, 7.0, 2.0], [2, 2])?;
    /// let upstream = device.tensor(&[1.0f32, 10.0, 100.0, 1000.0], [2, 2])?;
    /// let of_each_column = device.tensor(&[6.0f32, 3.0], [2])?;
    /// let bounds = Bounds::new(0.0, of_each_column)?;
    ///
    /// let grads = x.clip_grads(&upstream, &bounds, Gradient::default(), Wanted::BOTH)?;
    /// assert_eq!(grads.x.to_vec()?, [0.0, 0.0, 0.0, 1000.0]);
    /// assert_eq!(grads.lo.unwrap().to_vec()?, [1.0]);
    /// assert_eq!(grads.hi.unwrap().to_vec()?, [100.0, 10.0]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoBound`] if the gradient of an absent bound is wanted, [`Error::Unsupported`] if a GPU's binding
    /// cannot hold the elements to sum; otherwise as [`clip_grad`](Self::clip_grad).
    pub fn clip_grads(
        &self,
        upstream: &Self,
        bounds: &Bounds<T>,
        rule: Gradient,
        wanted: Wanted,
    ) -> Result<Grads<T>> {
        self.shape.check_same(&upstream.shape)?;
        let lo = self.reduction(bounds, wanted, Side::Lo)?;
        let hi = self.reduction(bounds, wanted, Side::Hi)?;
        match &self.storage {
            Storage::Cpu(x) => {
                let g = self.beside(upstream, Self::on_cpu)?;
                let interval = self.interval(bounds, Self::on_cpu)?;
                let straight = rule.outside == Outside::StraightThrough;
                let new = |wanted: bool| Memory::new(if wanted { x.len() } else { 0 });
                let (mut gx, mut glo, mut ghi) = (new(!straight)?, new(lo.is_some())?, new(hi.is_some())?);
                cpu::clip_grads(x, g, &interval, rule, [&mut gx, &mut glo, &mut ghi])?;
                let sum = |(reduction, shape): (Reduction, Shape), gradient: Memory<T>| -> Result<_> {
                    let sums = match reduction.is_none() {
                        true => gradient,
                        false => {
                            let mut sums = Memory::new(reduction.sums)?;
                            cpu::sum(&gradient, &reduction, &mut sums);
                            sums
                        }
                    };
                    Ok(Self { shape, storage: Storage::Cpu(Arc::new(sums)) })
                };
                Ok(Grads {
                    x: if straight { upstream.clone() } else { self.like(Storage::Cpu(Arc::new(gx))) },
                    lo: lo.map(|lo| sum(lo, glo)).transpose()?,
                    hi: hi.map(|hi| sum(hi, ghi)).transpose()?,
                })
            }
            #[cfg(feature = "gpu")]
            Storage::Gpu(context, x) => {
                let g = self.beside(upstream, |other| other.on_gpu(context))?;
                let interval = self.interval(bounds, |bound| bound.on_gpu(context))?;
                let wanted = [lo.is_some(), hi.is_some()];
                let (gx, [glo, ghi]) = context.clip_grads(x, g, &interval, rule, wanted)?;
                let sum = |reduction: Option<(Reduction, Shape)>, gradient: Option<crate::gpu::Buffer>| {
                    let Some(((reduction, shape), gradient)) = reduction.zip(gradient) else {
                        return Ok(None);
                    };
                    let sums = match reduction.is_none() {
                        true => gradient,
                        false => context.sum::<T>(&gradient, &reduction)?,
                    };
                    Ok(Some(Self::on_device(context.clone(), sums, shape)))
                };
                Ok(Grads {
                    x: self.like(Storage::Gpu(context.clone(), gx)),
                    lo: sum(lo, glo)?,
                    hi: sum(hi, ghi)?,
                })
            }
        }
    }

    /// How the gradient of a bound is to be summed, and its shape, if it is wanted.
    fn reduction(
        &self,
        bounds: &Bounds<T>,
        wanted: Wanted,
        side: Side,
    ) -> Result<Option<(Reduction, Shape)>> {
        if !wanted.side(side) {
            return Ok(None);
        }
        let bound = side.of(bounds);
        if bound.is_absent() {
            return Err(Error::NoBound { side: side.name() });
        }
        let shape = match bound.tensor() {
            Some(tensor) => tensor.shape.clone(),
            None => Shape::new([])?,
        };
        Ok(Some((Reduction::new(&self.shape, &shape, side)?, shape)))
    }
}
