//! Tensors: elements on a device, and the operations on them. Every operation goes through [`apply`].

mod activations;
mod apply;
mod backward;
mod clip;
mod lists;
mod mask;
mod norm;
mod storage;

use std::fmt;
use std::marker::PhantomData;

use crate::backend::Backend;
use crate::backend::any::with_backend;
use crate::{Device, Element, Error, Op, Result, Shape};

pub use activations::LeakyGradients;
pub use backward::{BoundGradients, NeedsGrad};
pub use lists::{AnyTensor, GlobalNorm, clip_by_global_norm, global_norm, scale_in_place};
pub use mask::Mask;
pub use norm::Axes;

pub(crate) use apply::{Inputs, TensorArguments, apply, apply_in_place, bits, bound_shape};
pub(crate) use storage::{Storage, Stored, with_storage};

/// Elements in C order on a [`Device`]. Cheap to clone: clones share the elements until one is changed in place.
///
/// On a GPU the operations are recorded and run later, together; what they return can be used at once.
#[derive(Clone)]
pub struct Tensor<T> {
    shape: Shape,
    storage: Storage,
    element: PhantomData<T>,
}

impl<T: Element> Tensor<T> {
    pub(crate) fn from_slice(device: &Device, data: &[T], shape: Shape) -> Result<Self> {
        shape.check_len(data.len())?;
        let storage = with_backend!(device.backend(), backend => backend.store(backend.upload(data)?));
        Ok(Self::new(storage, shape))
    }

    pub(crate) fn from_vec(device: &Device, data: Vec<T>, shape: Shape) -> Result<Self> {
        shape.check_len(data.len())?;
        let storage = with_backend!(device.backend(), backend => backend.store(backend.adopt(data)?));
        Ok(Self::new(storage, shape))
    }

    pub(crate) fn new(storage: Storage, shape: Shape) -> Self {
        Self { shape, storage, element: PhantomData }
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    pub(crate) fn storage_mut(&mut self) -> &mut Storage {
        &mut self.storage
    }

    /// The device that holds the tensor.
    pub fn device(&self) -> Device {
        self.storage.device()
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.shape.is_empty()
    }

    /// Copies the elements to the host, in C order. Blocks until the device has made them.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::DeviceLost`] or [`Error::Gpu`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn to_vec(&self) -> Result<Vec<T>> {
        with_storage!(&self.storage, backend, x => backend.read_blocking(x, self.shape.len()))
    }

    /// The same as [`to_vec`](Self::to_vec), without a copy where this is the only tensor of these elements
    /// and the CPU holds them.
    ///
    /// # Errors
    /// As [`to_vec`](Self::to_vec).
    #[cfg(not(target_arch = "wasm32"))]
    pub fn into_vec(self) -> Result<Vec<T>> {
        let len = self.shape.len();
        with_storage!(self.storage, backend, x => backend.take(x, len))
    }

    /// Copies the elements to the host, in C order, without blocking: for a browser or an async program.
    ///
    /// # Errors
    /// As `to_vec`.
    pub async fn read(&self) -> Result<Vec<T>> {
        with_storage!(&self.storage, backend, x => backend.read(x, self.shape.len()).await)
    }

    /// A forward pass or another map of this tensor alone.
    fn map(&self, op: Op, arguments: &TensorArguments<'_>) -> Result<Self> {
        let inputs = Inputs { shape: &self.shape, storages: &[&self.storage] };
        let [y, ..] = apply(op, &inputs, arguments)?;
        self.like(op, y)
    }

    /// A tensor of the same shape.
    fn like(&self, op: Op, storage: Option<Storage>) -> Result<Self> {
        Ok(Self::new(self.made(op, storage)?, self.shape.clone()))
    }

    /// What an operation was to make.
    fn made(&self, op: Op, storage: Option<Storage>) -> Result<Storage> {
        storage.ok_or(Error::Internal { op: op.name(), what: "without its output".into() })
    }
}

impl<T: Element> fmt::Debug for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims = self.shape.dims();
        write!(f, "Tensor<{}>({dims:?} on {})", T::TYPE, self.device().info())
    }
}
