//! Tensors: elements on a device, and the operations on them. A [`Tensor`] is a [`DynTensor`] whose type is known: its methods say what an
//! operation takes, and [`run`] does it.

mod activations;
mod backward;
mod bounds;
#[cfg(not(target_arch = "wasm32"))]
mod calibrate;
mod clip;
mod dynamic;
mod lists;
mod mask;
mod norm;
mod pack;
mod quantize;
mod run;
mod softmax;
mod storage;

use std::fmt;
use std::marker::PhantomData;

use crate::backend::Backend;
#[cfg(not(target_arch = "wasm32"))]
use crate::backend::cpu::memory::zeroed;
use crate::{Device, Element, Result, Shape};

pub use activations::LeakyGradients;
pub use backward::{BoundGradients, NeedsGrad};
pub use bounds::{Bounds, IntoBounds};
pub use dynamic::{AnyTensor, DynTensor};
pub use lists::{GlobalNorm, clip_by_global_norm, global_norm, scale_in_place};
pub use mask::Mask;
pub use norm::Axes;
pub use quantize::QuantGradients;

pub(crate) use storage::{Storage, Stored, with_storage};

pub(crate) use run::run;

/// Elements in C order on a [`Device`]. Cheap to clone: clones share the elements until one is changed in place.
///
/// On a GPU the operations are recorded and run later, together; what they return can be used at once.
#[derive(Clone)]
pub struct Tensor<T> {
    any: DynTensor,
    element: PhantomData<T>,
}

impl<T: Element> Tensor<T> {
    pub(crate) fn new(storage: Storage, shape: Shape) -> Self {
        Self::of(DynTensor::new(T::TYPE, storage, shape))
    }

    /// A tensor whose type is known to be this.
    pub(crate) fn of(any: DynTensor) -> Self {
        Self { any, element: PhantomData }
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.any.storage
    }

    /// The same tensor without its type.
    pub fn as_dyn(&self) -> &DynTensor {
        &self.any
    }

    pub(crate) fn as_dyn_mut(&mut self) -> &mut DynTensor {
        &mut self.any
    }

    /// The same tensor without its type.
    pub fn into_dyn(self) -> DynTensor {
        self.any
    }

    /// The device that holds the tensor.
    pub fn device(&self) -> Device {
        self.any.device()
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.any.shape
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.any.len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.any.is_empty()
    }

    /// Copies the elements to the host, in C order. Blocks until the device has computed them.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory), [`Error::DeviceLost`](crate::Error::DeviceLost) or [`Error::Gpu`](crate::Error::Gpu).
    #[cfg(not(target_arch = "wasm32"))]
    pub fn to_vec(&self) -> Result<Vec<T>> {
        let mut elements = zeroed(self.len())?;
        self.any.copy_to(bytemuck::cast_slice_mut(&mut elements))?;
        Ok(elements)
    }

    /// The same as [`to_vec`](Self::to_vec), without a copy where this is the only tensor of these elements
    /// and the CPU holds them.
    ///
    /// # Errors
    /// As [`to_vec`](Self::to_vec).
    #[cfg(not(target_arch = "wasm32"))]
    pub fn into_vec(self) -> Result<Vec<T>> {
        let len = self.len();
        with_storage!(self.any.storage, backend, x => backend.take(x, len))
    }

    /// Copies the elements to the host, in C order, without blocking: for a browser or an async program.
    ///
    /// # Errors
    /// As `to_vec`.
    pub async fn read(&self) -> Result<Vec<T>> {
        with_storage!(self.storage(), backend, x => backend.read(x, self.len()).await)
    }
}

impl<T: Element> fmt::Debug for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.any.fmt(f)
    }
}
