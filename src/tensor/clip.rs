//! The forward pass.

use std::sync::Arc;

use super::{Storage, Tensor, interval};
use crate::bounds::Interval;
use crate::host::Memory;
use crate::{Bounds, Element, Result, cpu};

impl<T: Element> Tensor<T> {
    /// Clips every element to the bounds: `min(max(x, lo), hi)`, to the bit as
    /// [`reference::clip`](crate::reference::clip) says. The result has the same shape; tensors of bounds broadcast
    /// to it.
    ///
    /// # Errors
    /// [`Error::BroadcastMismatch`](crate::Error::BroadcastMismatch),
    /// [`Error::TooManyAxes`](crate::Error::TooManyAxes), [`Error::DeviceMismatch`](crate::Error::DeviceMismatch) or
    /// [`Error::Unsupported`](crate::Error::Unsupported) for tensors of bounds,
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory), [`Error::DeviceLost`](crate::Error::DeviceLost) or
    /// [`Error::Gpu`](crate::Error::Gpu).
    pub fn clip(&self, bounds: &Bounds<T>) -> Result<Self> {
        Ok(self.like(match &self.storage {
            Storage::Cpu(x) => Storage::Cpu(clip_on_cpu(x, &self.interval(bounds, Self::on_cpu)?)?),
            #[cfg(feature = "gpu")]
            Storage::Gpu(context, x) => {
                let bounds = self.interval(bounds, |bound| bound.on_gpu(context))?;
                Storage::Gpu(context.clone(), context.clip(x, &bounds)?)
            }
        }))
    }

    /// Clips every element where it is. If clones share the elements they keep theirs, and this tensor gets
    /// new ones.
    ///
    /// # Errors
    /// As [`clip`](Self::clip). The tensor is then as it was.
    pub fn clip_in_place(&mut self, bounds: &Bounds<T>) -> Result<()> {
        let device = self.device();
        match &mut self.storage {
            Storage::Cpu(x) => {
                let bounds = interval(&self.shape, &device, bounds, Self::on_cpu)?;
                match Arc::get_mut(x) {
                    Some(x) => cpu::clip_in_place(x, &bounds)?,
                    None => *x = clip_on_cpu(x, &bounds)?,
                }
            }
            #[cfg(feature = "gpu")]
            Storage::Gpu(context, x) => {
                let bounds = interval(&self.shape, &device, bounds, |bound| bound.on_gpu(context))?;
                context.clip_in_place(x, &bounds)?;
            }
        }
        Ok(())
    }
}

fn clip_on_cpu<T: Element>(x: &[T], bounds: &Interval<T, &[T]>) -> Result<Arc<Memory<T>>> {
    let mut y = Memory::new(x.len())?;
    cpu::clip(x, bounds, &mut y)?;
    Ok(Arc::new(y))
}
