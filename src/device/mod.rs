//! Devices, which hold tensors and run operations.

mod discovery;
mod info;
mod stats;

use std::fmt;

#[cfg(not(target_arch = "wasm32"))]
use pollster::block_on;

#[cfg(not(target_arch = "wasm32"))]
use discovery::Found;
use discovery::{DeviceName, found};

use crate::backend::any::{AnyBackend, with_backend};
use crate::backend::{Backend, cpu};
use crate::{DynTensor, Element, ElementType, Error, Result, Shape, Tensor};

pub use info::{DeviceInfo, DeviceKind, DeviceLimits};
pub use stats::Stats;

/// A device that holds tensors and clips them: a GPU, or the CPU. Cheap to clone: clones share it.
///
/// ```
/// use wgclip::{Bounds, Device};
///
/// let device = Device::cpu();
/// let x = device.tensor(&[-2.0f32, 0.5, 7.0], [3])?;
/// assert_eq!(x.clip(&Bounds::new(0.0, 1.0)?)?.to_vec()?, [0.0, 0.5, 1.0]);
/// # Ok::<(), wgclip::Error>(())
/// ```
#[derive(Clone)]
pub struct Device {
    backend: AnyBackend,
}

impl Device {
    /// The CPU path, on all cores.
    pub const fn cpu() -> Self {
        Self { backend: AnyBackend::Cpu(cpu::Cpu) }
    }

    /// The best available device: a hardware GPU, otherwise the CPU path. Never a software rasteriser, which is many
    /// times slower than the CPU path. The environment variable `WGCLIP_DEVICE` overrides it, with any name that
    /// [`select`](Self::select) takes.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`] or [`Error::DeviceRequest`], only for a device that the variable names: without it, a
    /// GPU that cannot be opened is skipped.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn auto() -> Result<Self> {
        Self::select("auto")
    }

    /// The first GPU adapter, even a software one. [`select`](Self::select) takes one by name.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`] or [`Error::DeviceRequest`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn gpu() -> Result<Self> {
        Self::select("gpu")
    }

    /// A device by name: `auto`, `cpu`, `gpu` (the first adapter, even a software one), an index of
    /// [`list`](Self::list), or a part of what [`DeviceInfo`] displays, in upper or lower case.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`] or [`Error::DeviceRequest`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn select(name: &str) -> Result<Self> {
        block_on(Self::request(name))
    }

    /// Does the same as [`select`](Self::select), for a browser or an async program.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    pub async fn request(name: &str) -> Result<Self> {
        let requested = DeviceName::resolve(name);
        if requested.name == "cpu" {
            return Ok(Self::cpu());
        }
        let mut devices = found().await;
        let infos: Vec<_> = devices.iter().map(|found| found.info().clone()).collect();
        let index = requested.choose(&infos)?;
        match devices.swap_remove(index).open().await {
            Err(error) if requested.name == "auto" => {
                log::warn!("{error}; using the CPU");
                Ok(Self::cpu())
            }
            opened => opened,
        }
    }

    /// Every device that can be opened: the CPU path first, then the adapters, best first.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn all() -> Vec<Self> {
        let open = |found: Found| block_on(found.open()).inspect_err(|error| log::warn!("{error}")).ok();
        block_on(found()).into_iter().filter_map(open).collect()
    }

    /// The available devices, in the order of [`all`](Self::all), without opening them.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn list() -> Vec<DeviceInfo> {
        block_on(found()).into_iter().map(|found| found.info().clone()).collect()
    }

    /// The index in `list` of the device that [`select`](Self::select) would choose.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`].
    pub fn find(name: &str, list: &[DeviceInfo]) -> Result<usize> {
        DeviceName::resolve(name).choose(list)
    }

    /// Information about the device.
    pub fn info(&self) -> DeviceInfo {
        with_backend!(&self.backend, backend => Backend::info(backend))
    }

    /// Creates a tensor of these elements, in C order, copied to the device.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] if they do not fill the shape, [`Error::TooLarge`] if the device cannot hold
    /// them, [`Error::OutOfMemory`], [`Error::DeviceLost`] or [`Error::Gpu`].
    pub fn tensor<T: Element>(&self, data: &[T], shape: impl Into<Vec<usize>>) -> Result<Tensor<T>> {
        self.tensor_from_bytes(T::TYPE, bytemuck::cast_slice(data), shape).map(Tensor::of)
    }

    /// Creates a tensor of these elements, in C order. The CPU path keeps the vector; a GPU copies it.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub fn tensor_from_vec<T: Element>(
        &self,
        data: Vec<T>,
        shape: impl Into<Vec<usize>>,
    ) -> Result<Tensor<T>> {
        DynTensor::from_vec(self, data, Shape::new(shape)?).map(Tensor::of)
    }

    /// Creates a tensor, whose type is a value, from bytes in C order and the byte order of the host, copied to the device.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor); [`Error::Unsupported`] for bytes that are not a whole number of elements.
    pub fn tensor_from_bytes(
        &self,
        element: ElementType,
        bytes: &[u8],
        shape: impl Into<Vec<usize>>,
    ) -> Result<DynTensor> {
        DynTensor::from_bytes(self, element, bytes, Shape::new(shape)?)
    }

    /// Starts all work requested so far, without waiting for it. Reading a tensor does the same.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] or [`Error::Gpu`].
    pub fn flush(&self) -> Result<()> {
        with_backend!(&self.backend, backend => backend.flush())
    }

    /// Starts all work requested so far, and blocks until it is done.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] or [`Error::Gpu`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait(&self) -> Result<()> {
        with_backend!(&self.backend, backend => backend.wait())
    }

    /// Counts of what the device holds and has done: all zero on the CPU path.
    pub fn stats(&self) -> Stats {
        with_backend!(&self.backend, backend => backend.stats())
    }

    /// Frees the buffers, or on the CPU path the memory, kept for reuse: up to 1 GiB.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] or [`Error::Gpu`].
    pub fn trim(&self) -> Result<()> {
        with_backend!(&self.backend, backend => backend.trim())
    }

    /// Limits the bytes of the GPU's buffers, for tensors and transfers. To stay within the limit, idle ones are freed;
    /// an allocation that does not fit next to those in use fails with [`Error::OutOfMemory`]. There is no limit by
    /// default, and none on the CPU path.
    pub fn set_memory_budget(&self, bytes: u64) {
        with_backend!(&self.backend, backend => backend.set_memory_budget(bytes));
    }

    /// Returns an error unless both are the same opened device.
    pub(crate) fn check_same(&self, other: &Self) -> Result<()> {
        let same = match (&self.backend, &other.backend) {
            (AnyBackend::Cpu(own), AnyBackend::Cpu(other)) => own.same_device(other),
            #[cfg(feature = "gpu")]
            (AnyBackend::Gpu(own), AnyBackend::Gpu(other)) => own.same_device(other),
            #[cfg(feature = "gpu")]
            _ => false,
        };
        if same {
            return Ok(());
        }
        Err(Error::DeviceMismatch { left: self.info().to_string(), right: other.info().to_string() })
    }

    pub(crate) fn backend(&self) -> &AnyBackend {
        &self.backend
    }

    pub(crate) const fn from_backend(backend: AnyBackend) -> Self {
        Self { backend }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", self.info())
    }
}
