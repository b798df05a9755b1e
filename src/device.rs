//! Devices: where tensors live and who does the work.

use std::fmt;

#[cfg(not(target_arch = "wasm32"))]
use pollster::block_on;

#[cfg(feature = "gpu")]
use crate::backend::gpu;
use crate::backend::{Backend, cpu};
#[cfg(not(target_arch = "wasm32"))]
use crate::{ClipStream, IntoBounds};
use crate::{DeviceInfo, DeviceKind, Element, Error, Result, Shape, Stats, Tensor};

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

#[derive(Debug, Clone)]
pub(crate) enum AnyBackend {
    Cpu(cpu::Cpu),
    #[cfg(feature = "gpu")]
    Gpu(gpu::Context),
}

/// Evaluates an expression for the backend of a device, whichever it is.
macro_rules! with_backend {
    ($any:expr, $backend:ident => $body:expr) => {
        match $any {
            $crate::device::AnyBackend::Cpu($backend) => $body,
            #[cfg(feature = "gpu")]
            $crate::device::AnyBackend::Gpu($backend) => $body,
        }
    };
}
pub(crate) use with_backend;

/// The environment variable that [`Device::auto`] heeds.
const OVERRIDE: &str = "WGCLIP_DEVICE";

impl Device {
    /// The CPU path, on all cores.
    pub const fn cpu() -> Self {
        Self { backend: AnyBackend::Cpu(cpu::Cpu) }
    }

    /// The best device there is: a hardware GPU, or else the CPU path. Never a software rasteriser, which is
    /// many times slower than the CPU path. The environment variable `WGCLIP_DEVICE` overrides it, with
    /// whatever [`select`](Self::select) takes.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`] or [`Error::DeviceRequest`], for the device that the variable names only: where
    /// it names none, a GPU that cannot be opened is passed over.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn auto() -> Result<Self> {
        Self::select("auto")
    }

    /// A GPU adapter, a software one too: the first whose name contains `name`, or the first of all.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`] or [`Error::DeviceRequest`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn gpu(name: Option<&str>) -> Result<Self> {
        let mut devices = block_on(found());
        devices.retain(|found| found.info().kind != DeviceKind::Cpu);
        let infos: Vec<_> = devices.iter().map(|found| found.info().clone()).collect();
        let wanted = name.unwrap_or("gpu");
        let index = infos.iter().position(|info| name.is_none_or(|name| matches(info, name)));
        let index = index.ok_or_else(|| no_such_device(wanted, &infos))?;
        block_on(devices.swap_remove(index).open())
    }

    /// A device by name: `auto`, `cpu`, `gpu` (the first adapter, a software one too), an index of
    /// [`list`](Self::list), or a part of what [`DeviceInfo`] displays, in any case.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`] or [`Error::DeviceRequest`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn select(name: &str) -> Result<Self> {
        block_on(Self::request(name))
    }

    /// The same as [`select`](Self::select), for a browser or an async program.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    pub async fn request(name: &str) -> Result<Self> {
        let wanted = DeviceName::resolve(name);
        if wanted.name == "cpu" {
            return Ok(Self::cpu());
        }
        let mut devices = found().await;
        let infos: Vec<_> = devices.iter().map(|found| found.info().clone()).collect();
        let index = wanted.choose(&infos)?;
        match devices.swap_remove(index).open().await {
            Err(error) if wanted.name == "auto" => {
                log::warn!("{error}; using the CPU");
                Ok(Self::cpu())
            }
            opened => opened,
        }
    }

    /// Every device that can be opened, the CPU path first, then the adapters, the best first.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn all() -> Vec<Self> {
        let open = |found: Found| block_on(found.open()).inspect_err(|error| log::warn!("{error}")).ok();
        block_on(found()).into_iter().filter_map(open).collect()
    }

    /// What devices there are, in the order of [`all`](Self::all), without opening them.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn list() -> Vec<DeviceInfo> {
        block_on(found()).into_iter().map(|found| found.info().clone()).collect()
    }

    /// The index in `list` of the device that [`select`](Self::select) would take.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`].
    pub fn find(name: &str, list: &[DeviceInfo]) -> Result<usize> {
        DeviceName::resolve(name).choose(list)
    }

    /// What the device is.
    pub fn info(&self) -> DeviceInfo {
        with_backend!(&self.backend, backend => Backend::info(backend))
    }

    /// A tensor of these elements, in C order, copied to the device.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] if they do not fill the shape, [`Error::TooLarge`] if the device cannot hold
    /// them, [`Error::OutOfMemory`], [`Error::DeviceLost`] or [`Error::Gpu`].
    pub fn tensor<T: Element>(&self, data: &[T], shape: impl Into<Vec<usize>>) -> Result<Tensor<T>> {
        Tensor::from_slice(self, data, Shape::new(shape)?)
    }

    /// A tensor of these elements, in C order. The CPU path keeps the vector as it is; a GPU copies it.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub fn tensor_from_vec<T: Element>(
        &self,
        data: Vec<T>,
        shape: impl Into<Vec<usize>>,
    ) -> Result<Tensor<T>> {
        Tensor::from_vec(self, data, Shape::new(shape)?)
    }

    /// Clips host memory of any size where it is, between bounds that are values. On a GPU it passes through in chunks:
    /// uploads, kernels and reads overlap, and the device holds a few chunks at a time. Nothing is changed, or all is
    /// clipped: if the device fails on the way, the CPU path clips the rest, to the same bits, and the next call on the
    /// device says so.
    ///
    /// ```
    /// let mut data = vec![-2.0f32, 0.5, 7.0];
    /// wgclip::Device::auto()?.clip_slice(&mut data, &wgclip::Bounds::new(0.0, 1.0)?)?;
    /// assert_eq!(data, [0.0, 0.5, 1.0]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] for bounds that are tensors, [`Error::OutOfMemory`], [`Error::DeviceLost`] or
    /// [`Error::Gpu`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn clip_slice<T: Element>(&self, data: &mut [T], bounds: impl IntoBounds<T>) -> Result<()> {
        crate::stream::clip_slice(self, data, &bounds.into_bounds()?)
    }

    /// A stream that clips chunks of host memory, for data that does not fit there as a whole.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for bounds that are tensors.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn clip_stream<T: Element>(&self, bounds: impl IntoBounds<T>) -> Result<ClipStream<T>> {
        ClipStream::new(self, &bounds.into_bounds()?)
    }

    /// Starts what was asked of the device so far, without waiting for it. Reading a tensor does so too.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] or [`Error::Gpu`].
    pub fn flush(&self) -> Result<()> {
        with_backend!(&self.backend, backend => backend.flush())
    }

    /// Starts what was asked of the device so far, and blocks until it is done.
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

    /// Frees the buffers, or on the CPU path the memory, that is kept to be used again: up to 1 GiB.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] or [`Error::Gpu`].
    pub fn trim(&self) -> Result<()> {
        with_backend!(&self.backend, backend => backend.trim())
    }

    /// Bounds the bytes of the GPU's buffers, those of tensors and of transfers. To keep within it, idle ones are freed;
    /// what does not fit next to those in use is refused with [`Error::OutOfMemory`]. There is no bound unless one is
    /// set, and none on the CPU path.
    pub fn set_memory_budget(&self, bytes: u64) {
        with_backend!(&self.backend, backend => backend.set_memory_budget(bytes));
    }

    /// An error unless both are the same opened device.
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

/// A device that was found, not yet opened.
enum Found {
    Cpu(DeviceInfo),
    #[cfg(feature = "gpu")]
    Gpu(gpu::Adapter),
}

impl Found {
    fn info(&self) -> &DeviceInfo {
        match self {
            Self::Cpu(info) => info,
            #[cfg(feature = "gpu")]
            Self::Gpu(adapter) => adapter.info(),
        }
    }

    async fn open(self) -> Result<Device> {
        match self {
            Self::Cpu(_) => Ok(Device::cpu()),
            #[cfg(feature = "gpu")]
            Self::Gpu(adapter) => gpu::Context::request(&adapter, adapter.limits()).await.map(Device::from),
        }
    }
}

async fn found() -> Vec<Found> {
    let cpu = Found::Cpu(DeviceInfo::cpu(cpu::threads()));
    #[cfg(feature = "gpu")]
    let adapters = gpu::adapters().await.into_iter().map(Found::Gpu);
    #[cfg(not(feature = "gpu"))]
    let adapters = std::iter::empty();
    std::iter::once(cpu).chain(adapters).collect()
}

/// The name of a device, in lower case, and whether the environment put it in the place of `auto`.
struct DeviceName {
    name: String,
    from_environment: bool,
}

impl DeviceName {
    fn resolve(name: &str) -> Self {
        let name = name.trim().to_lowercase();
        match std::env::var_os(OVERRIDE).map(|other| other.to_string_lossy().trim().to_lowercase()) {
            Some(other) if name == "auto" && !other.is_empty() => {
                Self { name: other, from_environment: true }
            }
            _ => Self { name, from_environment: false },
        }
    }

    fn choose(&self, list: &[DeviceInfo]) -> Result<usize> {
        choose(&self.name, list).map_err(|error| match error {
            Error::NoSuchDevice { wanted, known } if self.from_environment => {
                Error::NoSuchDevice { wanted: format!("{OVERRIDE}={wanted}"), known }
            }
            error => error,
        })
    }
}

/// The index of the device that a lower-case name means.
fn choose(name: &str, list: &[DeviceInfo]) -> Result<usize> {
    let first = |kind: fn(DeviceKind) -> bool| list.iter().position(|info| kind(info.kind));
    let chosen = match name {
        "auto" => first(|kind| kind == DeviceKind::Gpu).or(first(|kind| kind == DeviceKind::Cpu)),
        "cpu" => first(|kind| kind == DeviceKind::Cpu),
        "gpu" => first(|kind| kind != DeviceKind::Cpu),
        "" => None,
        name => match name.parse() {
            // `+1` is no index.
            Ok(index) if name.starts_with(|c: char| c.is_ascii_digit()) => {
                (index < list.len()).then_some(index)
            }
            _ => list.iter().position(|info| matches(info, name)),
        },
    };
    chosen.ok_or_else(|| no_such_device(name, list))
}

fn matches(info: &DeviceInfo, name: &str) -> bool {
    info.to_string().to_lowercase().contains(&name.to_lowercase())
}

fn no_such_device(wanted: &str, list: &[DeviceInfo]) -> Error {
    let known: Vec<_> = list.iter().map(ToString::to_string).collect();
    let known = if known.is_empty() { "none".into() } else { known.join("; ") };
    Error::NoSuchDevice { wanted: wanted.into(), known }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, kind: DeviceKind) -> DeviceInfo {
        DeviceInfo { name: name.into(), kind, backend: "vulkan".into(), ..DeviceInfo::cpu(2) }
    }

    #[test]
    fn auto_takes_hardware_and_never_a_rasteriser() {
        let cpu = DeviceInfo::cpu(2);
        let (hard, soft) = (info("RTX", DeviceKind::Gpu), info("llvmpipe", DeviceKind::Software));
        assert_eq!(choose("auto", std::slice::from_ref(&cpu)), Ok(0));
        assert_eq!(choose("auto", &[cpu.clone(), soft.clone()]), Ok(0));
        assert_eq!(choose("auto", &[cpu, soft, hard]), Ok(2));
    }

    #[test]
    fn names_indices_and_kinds_choose() {
        let list = [
            DeviceInfo::cpu(2),
            info("RTX 4090", DeviceKind::Gpu),
            info("llvmpipe (LLVM 15)", DeviceKind::Software),
        ];
        for (name, expected) in [("cpu", 0), ("gpu", 1), ("2", 2), ("llvm", 2), ("rtx 4090 [v", 1)] {
            assert_eq!(choose(name, &list), Ok(expected), "{name}");
        }
        for name in ["3", "", "radeon", "-1", "+1"] {
            assert!(matches!(choose(name, &list), Err(Error::NoSuchDevice { .. })), "{name}");
        }
        assert!(matches!(choose("gpu", &list[..1]), Err(Error::NoSuchDevice { .. })));
    }
}
