//! The backward pass from what the forward pass saved.

use std::sync::Arc;

use super::{Grads, Storage, Tensor, Wanted, mismatch};
#[cfg(feature = "gpu")]
use crate::gpu;
use crate::host::Memory;
use crate::{Bounds, Device, Element, Error, Gradient, Outside, Result, Shape, Ties, cpu};

/// What a clip saved for its backward pass, by [`Tensor::clip_saving`] or [`Tensor::clip_saving_inputs`].
#[derive(Debug, Clone)]
pub struct Saved<T: Element> {
    shape: Shape,
    device: Device,
    what: What<T>,
}

#[derive(Debug, Clone)]
enum What<T: Element> {
    /// The gradient passes everywhere.
    Nothing,
    /// A bit an element, on the CPU.
    Mask(Arc<Memory<u64>>),
    /// A bit an element, on a GPU.
    #[cfg(feature = "gpu")]
    GpuMask(gpu::Context, gpu::Buffer),
    /// What one bit cannot tell is found again.
    Inputs(Box<(Tensor<T>, Bounds<T>, Gradient)>),
}

impl<T: Element> Tensor<T> {
    /// [`clip`](Self::clip), and what its backward pass needs, made in the same pass: one bit an element, a 32nd of
    /// an f32 tensor, so that neither this tensor nor the bounds need be kept.
    ///
    /// One bit cannot tell the halves of [`Ties::Half`], nor the sign of the gradient that [`Outside::Toward`] asks
    /// for: for these rules the result keeps this tensor and the bounds (their elements, shared, not copied).
    /// [`Outside::StraightThrough`] saves nothing. For the gradients of the bounds see
    /// [`clip_saving_inputs`](Self::clip_saving_inputs).
    ///
    /// ```
    /// use wgclip::{Bounds, Device, Gradient};
    ///
    /// let device = Device::cpu();
    /// let x = device.tensor(&[-2.0f32, 0.5, 7.0], [3])?;
    /// let (y, saved) = x.clip_saving(&Bounds::new(0.0, 1.0)?, Gradient::default())?;
    /// drop(x);
    /// let upstream = device.tensor(&[3.0f32; 3], [3])?;
    /// assert_eq!(saved.backward(&upstream)?.to_vec()?, [0.0, 3.0, 0.0]);
    /// # assert_eq!(y.to_vec()?, [0.0, 0.5, 1.0]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`clip`](Self::clip).
    pub fn clip_saving(&self, bounds: &Bounds<T>, rule: Gradient) -> Result<(Self, Saved<T>)> {
        let saved = |what| Saved { shape: self.shape.clone(), device: self.device(), what };
        if rule.outside == Outside::StraightThrough {
            return Ok((self.clip(bounds)?, saved(What::Nothing)));
        }
        if rule.outside == Outside::Toward || rule.ties == Ties::Half {
            return self.clip_saving_inputs(bounds, rule);
        }
        match &self.storage {
            Storage::Cpu(x) => {
                let bounds = self.interval(bounds, Self::on_cpu)?;
                let mut y = Memory::new(x.len())?;
                let mut mask = Memory::new(cpu::mask_len(x.len()))?;
                cpu::clip_saving(x, &bounds, rule, &mut y, &mut mask)?;
                Ok((self.like(Storage::Cpu(Arc::new(y))), saved(What::Mask(Arc::new(mask)))))
            }
            #[cfg(feature = "gpu")]
            Storage::Gpu(context, x) => {
                let bounds = self.interval(bounds, |bound| bound.on_gpu(context))?;
                let (y, mask) = context.clip_saving(x, &bounds, rule)?;
                let y = self.like(Storage::Gpu(context.clone(), y));
                Ok((y, saved(What::GpuMask(context.clone(), mask))))
            }
        }
    }

    /// The same, keeping this tensor and the bounds (shared, not copied): for any rule, and for the gradients of the
    /// bounds.
    ///
    /// # Errors
    /// As [`clip`](Self::clip).
    pub fn clip_saving_inputs(&self, bounds: &Bounds<T>, rule: Gradient) -> Result<(Self, Saved<T>)> {
        let what = What::Inputs(Box::new((self.clone(), bounds.clone(), rule)));
        Ok((self.clip(bounds)?, Saved { shape: self.shape.clone(), device: self.device(), what }))
    }
}

impl<T: Element> Saved<T> {
    /// The gradient that reaches the tensor that was clipped, of the gradient `upstream` of the clipped one, by the
    /// rule it was saved for: the same bits as [`Tensor::clip_grad`].
    ///
    /// # Errors
    /// As [`Tensor::clip_grad`].
    pub fn backward(&self, upstream: &Tensor<T>) -> Result<Tensor<T>> {
        self.check(upstream)?;
        Ok(upstream.like(match (&self.what, &upstream.storage) {
            (What::Inputs(inputs), _) => return inputs.0.clip_grad(upstream, &inputs.1, inputs.2),
            (What::Mask(mask), Storage::Cpu(g)) => {
                let mut gx = Memory::new(g.len())?;
                cpu::saved_grad(mask, g, &mut gx)?;
                Storage::Cpu(Arc::new(gx))
            }
            #[cfg(feature = "gpu")]
            (What::GpuMask(context, mask), Storage::Gpu(_, g)) => {
                Storage::Gpu(context.clone(), context.saved_grad::<T>(mask, g)?)
            }
            _ => return Ok(upstream.clone()),
        }))
    }

    /// The same in the place of the upstream gradient. If clones share its elements they keep theirs, and `upstream`
    /// gets new ones.
    ///
    /// # Errors
    /// As [`backward`](Self::backward). `upstream` is then as it was.
    pub fn backward_in_place(&self, upstream: &mut Tensor<T>) -> Result<()> {
        self.check(upstream)?;
        match (&self.what, &mut upstream.storage) {
            (What::Inputs(inputs), _) => inputs.0.clip_grad_in_place(upstream, &inputs.1, inputs.2),
            (What::Mask(mask), Storage::Cpu(g)) => match Arc::get_mut(g) {
                Some(g) => cpu::saved_grad_in_place(mask, g),
                None => {
                    *upstream = self.backward(upstream)?;
                    Ok(())
                }
            },
            #[cfg(feature = "gpu")]
            (What::GpuMask(context, mask), Storage::Gpu(_, g)) => context.saved_grad_in_place::<T>(mask, g),
            _ => Ok(()),
        }
    }

    /// The gradients of the bounds as well, as [`Tensor::clip_grads`].
    ///
    /// # Errors
    /// [`Error::NotSaved`] unless it was saved by [`Tensor::clip_saving_inputs`] (or for a rule that a bit cannot
    /// tell); otherwise as [`Tensor::clip_grads`].
    pub fn backward_all(&self, upstream: &Tensor<T>, wanted: Wanted) -> Result<Grads<T>> {
        self.check(upstream)?;
        match &self.what {
            What::Inputs(inputs) => inputs.0.clip_grads(upstream, &inputs.1, inputs.2, wanted),
            _ if wanted == Wanted::default() => Ok(Grads { x: self.backward(upstream)?, lo: None, hi: None }),
            _ => Err(Error::NotSaved),
        }
    }

    /// Bytes that are kept on the device for the backward pass alone: of the mask, or 0 where there is none.
    pub fn mask_bytes(&self) -> u64 {
        match &self.what {
            What::Mask(mask) => size_of_val(&mask[..]) as u64,
            #[cfg(feature = "gpu")]
            What::GpuMask(_, mask) => mask.bytes(),
            What::Nothing | What::Inputs(_) => 0,
        }
    }

    fn check(&self, upstream: &Tensor<T>) -> Result<()> {
        self.shape.check_same(&upstream.shape)?;
        let other = upstream.device();
        if self.device.is(&other) {
            return Ok(());
        }
        Err(mismatch(&self.device, &other))
    }
}
