//! The available devices, and which of them a name selects.

use super::{Device, DeviceInfo, DeviceKind};
use crate::backend::cpu;
#[cfg(feature = "gpu")]
use crate::backend::gpu;
use crate::{Error, Result};

/// The environment variable that overrides [`Device::auto`].
const OVERRIDE: &str = "WGCLIP_DEVICE";

/// A device that was found, not yet opened.
pub(super) enum Found {
    Cpu(DeviceInfo),
    #[cfg(feature = "gpu")]
    Gpu(gpu::Adapter),
}

impl Found {
    pub(super) fn info(&self) -> &DeviceInfo {
        match self {
            Self::Cpu(info) => info,
            #[cfg(feature = "gpu")]
            Self::Gpu(adapter) => adapter.info(),
        }
    }

    pub(super) async fn open(self) -> Result<Device> {
        match self {
            Self::Cpu(_) => Ok(Device::cpu()),
            #[cfg(feature = "gpu")]
            Self::Gpu(adapter) => gpu::Context::request(&adapter, adapter.limits()).await.map(Device::from),
        }
    }
}

pub(super) async fn found() -> Vec<Found> {
    let cpu = Found::Cpu(DeviceInfo::cpu(cpu::threads()));
    #[cfg(feature = "gpu")]
    let adapters = gpu::adapters().await.into_iter().map(Found::Gpu);
    #[cfg(not(feature = "gpu"))]
    let adapters = std::iter::empty();
    std::iter::once(cpu).chain(adapters).collect()
}

/// The name of a device, in lower case, and whether the environment gave it instead of `auto`.
pub(super) struct DeviceName {
    pub name: String,
    from_environment: bool,
}

impl DeviceName {
    pub(super) fn resolve(name: &str) -> Self {
        let name = name.trim().to_lowercase();
        match std::env::var_os(OVERRIDE).map(|other| other.to_string_lossy().trim().to_lowercase()) {
            Some(other) if name == "auto" && !other.is_empty() => {
                Self { name: other, from_environment: true }
            }
            _ => Self { name, from_environment: false },
        }
    }

    pub(super) fn choose(&self, list: &[DeviceInfo]) -> Result<usize> {
        choose(&self.name, list).map_err(|error| match error {
            Error::NoSuchDevice { requested, known } if self.from_environment => {
                Error::NoSuchDevice { requested: format!("{OVERRIDE}={requested}"), known }
            }
            error => error,
        })
    }
}

/// The index of the device that a lower-case name selects.
fn choose(name: &str, list: &[DeviceInfo]) -> Result<usize> {
    let first = |kind: fn(DeviceKind) -> bool| list.iter().position(|info| kind(info.kind));
    let chosen = match name {
        "auto" => first(|kind| kind == DeviceKind::Gpu).or(first(|kind| kind == DeviceKind::Cpu)),
        "cpu" => first(|kind| kind == DeviceKind::Cpu),
        "gpu" => first(|kind| kind != DeviceKind::Cpu),
        "" => None,
        name => match name.parse() {
            // `+1` is not an index.
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

pub(super) fn no_such_device(requested: &str, list: &[DeviceInfo]) -> Error {
    let known: Vec<_> = list.iter().map(ToString::to_string).collect();
    let known = if known.is_empty() { "none".into() } else { known.join("; ") };
    Error::NoSuchDevice { requested: requested.into(), known }
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
