//! Tensors: elements on a device, and the operations on them.

mod clip;
mod grad;
mod named;
mod saved;

use std::fmt;
use std::sync::Arc;

use crate::bounds::{Bound, Interval};
use crate::broadcast::Side;
use crate::device::Inner;
#[cfg(feature = "gpu")]
use crate::gpu;
use crate::host::{self, Memory};
use crate::{Bounds, Device, Element, Error, Result, Shape};

pub use grad::{Grads, Wanted};
pub use saved::Saved;

/// Elements in C order on a [`Device`]. Cheap to clone: clones share the elements until one is changed in place.
///
/// On a GPU the operations are recorded and run later, together; what they return can be used at once.
#[derive(Clone)]
pub struct Tensor<T> {
    shape: Shape,
    storage: Storage<T>,
}

#[derive(Clone)]
enum Storage<T> {
    Cpu(Arc<Memory<T>>),
    #[cfg(feature = "gpu")]
    Gpu(gpu::Context, gpu::Buffer),
}

impl<T: Element> Tensor<T> {
    pub(crate) fn from_slice(device: &Device, data: &[T], shape: Shape) -> Result<Self> {
        shape.check_len(data.len())?;
        let storage = match device.inner() {
            Inner::Cpu => {
                let mut x = Memory::new(data.len())?;
                x.copy_from_slice(data);
                Storage::Cpu(Arc::new(x))
            }
            #[cfg(feature = "gpu")]
            Inner::Gpu(context) => Storage::Gpu(context.clone(), context.upload(data)?),
        };
        Ok(Self { shape, storage })
    }

    pub(crate) fn from_vec(device: &Device, data: Vec<T>, shape: Shape) -> Result<Self> {
        match device.inner() {
            Inner::Cpu => {
                shape.check_len(data.len())?;
                Ok(Self { shape, storage: Storage::Cpu(Arc::new(data.into())) })
            }
            #[cfg(feature = "gpu")]
            Inner::Gpu(_) => Self::from_slice(device, &data, shape),
        }
    }

    #[cfg(feature = "gpu")]
    pub(crate) fn on_device(context: gpu::Context, buffer: gpu::Buffer, shape: Shape) -> Self {
        Self { shape, storage: Storage::Gpu(context, buffer) }
    }

    /// A tensor in a buffer of the caller's, of a device made by [`Device::from_wgpu`]: `offset` bytes from its start,
    /// in C order. Nothing is copied: what is done in place is done there, if this is the only tensor of it. Kernels
    /// read and write whole blocks of 16 bytes, so the rest of the tensor's last block is theirs too.
    ///
    /// ```no_run
    /// # fn run(device: wgpu::Device, queue: wgpu::Queue, activations: wgpu::Buffer) -> wgclip::Result<()> {
    /// use wgclip::{Bounds, Device, Tensor};
    ///
    /// let wgclip = Device::from_wgpu(device, queue.clone());
    /// let mut x = Tensor::<f32>::from_buffer(&wgclip, activations, 0, [64, 1024])?;
    /// x.clip_in_place(&Bounds::new(0.0, 6.0)?)?;
    /// wgclip.flush()?; // before what the queue is given next
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a buffer that a kernel cannot work on (no `STORAGE` usage, an offset that is not
    /// aligned to `min_storage_buffer_offset_alignment`, no room for the last block) or on the CPU path,
    /// [`Error::TooLarge`] for an impossible shape.
    #[cfg(feature = "gpu")]
    pub fn from_buffer(
        device: &Device,
        buffer: wgpu::Buffer,
        offset: u64,
        shape: impl Into<Vec<usize>>,
    ) -> Result<Self> {
        let shape = Shape::new(shape)?;
        let Inner::Gpu(context) = device.inner() else {
            return Err(Error::Unsupported {
                what: "a tensor in a wgpu buffer".into(),
                device: device.info().to_string(),
                instead: "use the device of Device::from_wgpu".into(),
            });
        };
        let bytes = (shape.len() as u64).saturating_mul(size_of::<T>() as u64);
        Ok(Self::on_device(context.clone(), context.buffer_from_wgpu(buffer, offset, bytes)?, shape))
    }

    /// Where the elements are, on a GPU: whole blocks of 16 bytes. What was recorded is submitted first, so that it is
    /// done before what the caller submits next. The buffer goes to other tensors once this one and its clones are
    /// dropped.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] or [`Error::Gpu`].
    #[cfg(feature = "gpu")]
    pub fn buffer(&self) -> Result<Option<wgpu::BufferSlice<'_>>> {
        match &self.storage {
            Storage::Gpu(context, x) if x.bytes() > 0 => {
                context.flush()?;
                Ok(Some(x.as_wgpu().slice(x.offset()..x.offset() + x.bytes().next_multiple_of(16))))
            }
            _ => Ok(None),
        }
    }

    /// The device that holds the tensor.
    pub fn device(&self) -> Device {
        Device::from_inner(match &self.storage {
            Storage::Cpu(_) => Inner::Cpu,
            #[cfg(feature = "gpu")]
            Storage::Gpu(context, _) => Inner::Gpu(context.clone()),
        })
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Copies the elements to the host, in C order. Blocks until the device has made them.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::DeviceLost`] or [`Error::Gpu`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn to_vec(&self) -> Result<Vec<T>> {
        match &self.storage {
            Storage::Cpu(x) => copy(x),
            #[cfg(feature = "gpu")]
            Storage::Gpu(context, x) => context.read_blocking(x, self.shape.len()),
        }
    }

    /// The same as [`to_vec`](Self::to_vec), without a copy where this is the only tensor of these elements
    /// and the CPU holds them.
    ///
    /// # Errors
    /// As [`to_vec`](Self::to_vec).
    #[cfg(not(target_arch = "wasm32"))]
    pub fn into_vec(self) -> Result<Vec<T>> {
        match self.storage {
            Storage::Cpu(x) => Arc::try_unwrap(x).map_or_else(|shared| copy(&shared), |x| Ok(x.into_vec())),
            #[cfg(feature = "gpu")]
            Storage::Gpu(context, x) => context.read_blocking(&x, self.shape.len()),
        }
    }

    /// Copies the elements to the host, in C order, without blocking: for a browser or an async program.
    ///
    /// # Errors
    /// As `to_vec`.
    pub async fn read(&self) -> Result<Vec<T>> {
        match &self.storage {
            Storage::Cpu(x) => copy(x),
            #[cfg(feature = "gpu")]
            Storage::Gpu(context, x) => context.read(x, self.shape.len()).await,
        }
    }

    /// A tensor of the same shape.
    fn like(&self, storage: Storage<T>) -> Self {
        Self { shape: self.shape.clone(), storage }
    }

    /// The elements, where the CPU holds them.
    fn on_cpu(&self) -> Option<&[T]> {
        match &self.storage {
            Storage::Cpu(x) => Some(x),
            #[cfg(feature = "gpu")]
            Storage::Gpu(..) => None,
        }
    }

    /// The buffer, where it is of this context.
    #[cfg(feature = "gpu")]
    fn on_gpu(&self, context: &gpu::Context) -> Option<&gpu::Buffer> {
        match &self.storage {
            Storage::Gpu(own, x) if own.is(context) => Some(x),
            _ => None,
        }
    }

    /// Another tensor as this one's device sees it, by one of the two above.
    fn beside<'a, S>(&self, other: &'a Self, see: impl Fn(&'a Self) -> Option<S>) -> Result<S> {
        see(other).ok_or_else(|| mismatch(&self.device(), &other.device()))
    }

    /// The bounds as this tensor's device sees them.
    fn interval<'a, S>(
        &self,
        bounds: &'a Bounds<T>,
        see: impl Fn(&'a Self) -> Option<S>,
    ) -> Result<Interval<T, S>> {
        interval(&self.shape, &self.device(), bounds, see)
    }
}

/// Bounds as a device sees them beside a tensor of this shape.
fn interval<'a, T: Element, S>(
    shape: &Shape,
    device: &Device,
    bounds: &'a Bounds<T>,
    see: impl Fn(&'a Tensor<T>) -> Option<S>,
) -> Result<Interval<T, S>> {
    let side = |bound: &'a Bound<T>| match bound {
        Bound::Absent => Ok(Bound::Absent),
        Bound::Value(value) => Ok(Bound::Value(*value)),
        Bound::Tensor(tensor) => {
            let seen = see(tensor).ok_or_else(|| mismatch(device, &tensor.device()))?;
            Ok(Bound::Tensor((seen, &tensor.shape)))
        }
    };
    Interval::beside(shape, side(bounds.lo())?, side(bounds.hi())?)
}

fn mismatch(left: &Device, right: &Device) -> Error {
    Error::DeviceMismatch { left: left.info().to_string(), right: right.info().to_string() }
}

impl Side {
    fn of<T: Element>(self, bounds: &Bounds<T>) -> &Bound<T> {
        match self {
            Self::Lo => bounds.lo(),
            Self::Hi => bounds.hi(),
        }
    }
}

fn copy<T: Element>(x: &[T]) -> Result<Vec<T>> {
    let mut data = host::zeroed(x.len())?;
    data.copy_from_slice(x);
    Ok(data)
}

impl<T: Element> fmt::Debug for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims = self.shape.dims();
        write!(f, "Tensor<{}>({dims:?} on {})", T::TYPE, self.device().info())
    }
}
