//! Tensors: elements on a device, and the operations on them.

use std::fmt;
use std::sync::Arc;

use crate::device::Inner;
#[cfg(feature = "gpu")]
use crate::gpu;
use crate::{Bounds, Device, Element, Error, Gradient, Outside, Result, Shape, cpu, host};

/// Elements in C order on a [`Device`]. Cheap to clone: clones share the elements until one is clipped in
/// place.
///
/// On a GPU the operations are recorded and run later, together; what they return can be used at once.
#[derive(Clone)]
pub struct Tensor<T> {
    shape: Shape,
    storage: Storage<T>,
}

#[derive(Clone)]
enum Storage<T> {
    Cpu(Arc<Vec<T>>),
    #[cfg(feature = "gpu")]
    Gpu(gpu::Context, gpu::Buffer),
}

impl<T: Element> Tensor<T> {
    pub(crate) fn from_slice(device: &Device, data: &[T], shape: Shape) -> Result<Self> {
        shape.check_len(data.len())?;
        let storage = match device.inner() {
            Inner::Cpu => Storage::Cpu(Arc::new(copy(data)?)),
            #[cfg(feature = "gpu")]
            Inner::Gpu(context) => Storage::Gpu(context.clone(), context.upload(data)?),
        };
        Ok(Self { shape, storage })
    }

    pub(crate) fn from_vec(device: &Device, data: Vec<T>, shape: Shape) -> Result<Self> {
        match device.inner() {
            Inner::Cpu => {
                shape.check_len(data.len())?;
                Ok(Self { shape, storage: Storage::Cpu(Arc::new(data)) })
            }
            #[cfg(feature = "gpu")]
            Inner::Gpu(_) => Self::from_slice(device, &data, shape),
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

    /// Clips every element to the bounds: `min(max(x, lo), hi)`, to the bit as
    /// [`reference::clip`](crate::reference::clip) says. The result has the same shape.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::DeviceLost`] or [`Error::Gpu`].
    pub fn clip(&self, bounds: &Bounds<T>) -> Result<Self> {
        Ok(self.like(match &self.storage {
            Storage::Cpu(x) => Storage::Cpu(clip_on_cpu(x, bounds)?),
            #[cfg(feature = "gpu")]
            Storage::Gpu(context, x) => Storage::Gpu(context.clone(), context.clip(x, bounds)?),
        }))
    }

    /// Clips every element where it is. If clones share the elements they keep theirs, and this tensor gets
    /// new ones.
    ///
    /// # Errors
    /// As [`clip`](Self::clip). The tensor is then as it was.
    pub fn clip_in_place(&mut self, bounds: &Bounds<T>) -> Result<()> {
        match &mut self.storage {
            Storage::Cpu(x) => match Arc::get_mut(x) {
                Some(x) => cpu::clip_in_place(x, bounds),
                None => *x = clip_on_cpu(x, bounds)?,
            },
            #[cfg(feature = "gpu")]
            Storage::Gpu(context, x) => context.clip_in_place(x, bounds)?,
        }
        Ok(())
    }

    /// The backward pass of [`clip`](Self::clip): the gradient that reaches this tensor, of the gradient
    /// `upstream` of the clipped one, to the bit as [`reference::clip_grad`](crate::reference::clip_grad) says.
    /// All three have the same shape. [`Outside::StraightThrough`] costs nothing: the result shares the
    /// elements of `upstream`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`], [`Error::DeviceMismatch`], [`Error::OutOfMemory`], [`Error::DeviceLost`] or
    /// [`Error::Gpu`].
    pub fn clip_grad(&self, upstream: &Self, bounds: &Bounds<T>, rule: Gradient) -> Result<Self> {
        self.shape.check_same(&upstream.shape)?;
        Ok(self.like(match (&self.storage, &upstream.storage) {
            (Storage::Cpu(_), Storage::Cpu(g)) if rule.outside == Outside::StraightThrough => {
                Storage::Cpu(g.clone())
            }
            (Storage::Cpu(x), Storage::Cpu(g)) => {
                let mut gx = host::zeroed(x.len())?;
                cpu::clip_grad(x, g, bounds, rule, &mut gx)?;
                Storage::Cpu(Arc::new(gx))
            }
            #[cfg(feature = "gpu")]
            (Storage::Gpu(context, x), Storage::Gpu(other, g)) if context.is(other) => {
                Storage::Gpu(context.clone(), context.clip_grad(x, g, bounds, rule)?)
            }
            #[cfg_attr(not(feature = "gpu"), expect(unreachable_patterns))]
            _ => {
                return Err(Error::DeviceMismatch {
                    left: self.device().info().to_string(),
                    right: upstream.device().info().to_string(),
                });
            }
        }))
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
            Storage::Cpu(x) => Arc::try_unwrap(x).or_else(|shared| copy(&shared)),
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
}

fn clip_on_cpu<T: Element>(x: &[T], bounds: &Bounds<T>) -> Result<Arc<Vec<T>>> {
    let mut y = host::zeroed(x.len())?;
    cpu::clip(x, bounds, &mut y)?;
    Ok(Arc::new(y))
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
