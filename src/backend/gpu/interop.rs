//! Tensors in the caller's wgpu buffers, and the caller's devices.

use super::{BufferSlice, Context};
use crate::backend::any::AnyBackend;
use crate::tensor::{Storage, Stored};
use crate::{Device, Element, Error, Result, Shape, Tensor};

impl Device {
    /// Wraps a device of the caller, who keeps its callbacks: errors of work done here are returned, not passed to
    /// them. It needs no features, and no limits beyond those that every WebGPU device has. A lost device is detected
    /// only when a read or a wait fails. docs/failures.md describes what can fail, and what a callback may do.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the name of a limit that is too low for any kernel, [`Error::OutOfMemory`],
    /// [`Error::DeviceLost`] or [`Error::Gpu`].
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Result<Self> {
        Context::from_wgpu(device, queue).map(Self::from)
    }
}

impl From<Context> for Device {
    /// The device of an adapter that was opened with limits of the caller's choice.
    fn from(context: Context) -> Self {
        Self::from_backend(AnyBackend::Gpu(context))
    }
}

impl<T: Element> Tensor<T> {
    /// A tensor in a buffer of the caller, on a device created by [`Device::from_wgpu`]: `offset` bytes from its start,
    /// in C order. Nothing is copied: in-place operations write to the buffer, if this is its only tensor. Kernels read
    /// and write whole blocks of 16 bytes, including the rest of the tensor's last block. Several tensors may be parts of
    /// one buffer, as long as they do not overlap.
    ///
    /// ```no_run
    /// # fn run(device: wgpu::Device, queue: wgpu::Queue, activations: wgpu::Buffer) -> wgclip::Result<()> {
    /// use wgclip::{Device, Tensor};
    ///
    /// let wgclip = Device::from_wgpu(device, queue.clone())?;
    /// let mut x = Tensor::<f32>::from_buffer(&wgclip, activations, 0, [64, 1024])?;
    /// x.clip_in_place(0.0..=6.0)?;
    /// wgclip.flush()?; // before what the queue is given next
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a buffer that a kernel cannot work on (no `STORAGE` usage, an offset that is not
    /// aligned to `min_storage_buffer_offset_alignment`, no room for the last block) or on the CPU path,
    /// [`Error::TooLarge`] for an impossible shape.
    pub fn from_buffer(
        device: &Device,
        buffer: wgpu::Buffer,
        offset: u64,
        shape: impl Into<Vec<usize>>,
    ) -> Result<Self> {
        let shape = Shape::new(shape)?;
        let AnyBackend::Gpu(context) = device.backend() else {
            return Err(Error::Unsupported {
                what: "a tensor in a wgpu buffer".into(),
                device: device.info().to_string(),
                instead: "use the device of Device::from_wgpu".into(),
            });
        };
        let bytes = (shape.len() as u64).saturating_mul(size_of::<T>() as u64);
        Ok(Self::new(context.store(context.buffer_from_wgpu(buffer, offset, bytes)?), shape))
    }

    /// Where the elements are, on a GPU: whole blocks of 16 bytes. Recorded work is submitted first, so that it is done
    /// before the caller's next submission. The buffer is freed once the caller, this tensor and its clones have dropped it:
    /// no other tensor reuses it.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] or [`Error::Gpu`], and [`Error::InvalidBuffer`] if the elements were to be computed from a bad
    /// buffer.
    pub fn buffer(&self) -> Result<Option<BufferSlice<'_>>> {
        match self.storage() {
            Storage::Gpu(context, x) if x.bytes() > 0 => {
                // First, so that later recording takes the export into account.
                let buffer = x.export();
                context.submit_pending()?;
                x.check_poison()?;
                Ok(Some(buffer.slice(x.offset()..x.offset() + x.bytes().next_multiple_of(16))))
            }
            _ => Ok(None),
        }
    }
}
