//! The available adapters, and their kinds.

use crate::device::DeviceLimits;
use crate::{DeviceInfo, DeviceKind};

/// An adapter that wgpu found, not yet opened.
#[derive(Debug, Clone)]
pub struct Adapter {
    pub(super) adapter: wgpu::Adapter,
    info: DeviceInfo,
}

impl Adapter {
    /// Information about the adapter.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// The wgpu adapter.
    pub fn as_wgpu(&self) -> &wgpu::Adapter {
        &self.adapter
    }

    /// The limits that it offers.
    pub fn limits(&self) -> wgpu::Limits {
        self.adapter.limits()
    }
}

/// Every adapter that can run compute shaders, best first: hardware before software, discrete before integrated, and a
/// GPU's own API before OpenGL. The `WGPU_*` environment variables are respected.
pub async fn adapters() -> Vec<Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let mut found = instance.enumerate_adapters(wgpu::Backends::all()).await;
    found.retain(|adapter| {
        let flags = adapter.get_downlevel_capabilities().flags;
        flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
    });
    // A stable sort: adapters of the same rank stay in wgpu's order.
    found.sort_by_cached_key(|adapter| rank(&adapter.get_info()));
    let describe =
        |adapter: wgpu::Adapter| Adapter { info: info(&adapter.get_info(), &adapter.limits()), adapter };
    found.into_iter().map(describe).collect()
}

/// Describes an adapter, or a device under the limits it was opened with.
pub(super) fn info(adapter: &wgpu::AdapterInfo, limits: &wgpu::Limits) -> DeviceInfo {
    let driver = format!("{} {}", adapter.driver, adapter.driver_info);
    DeviceInfo {
        name: adapter.name.clone(),
        kind: if is_software(adapter) { DeviceKind::Software } else { DeviceKind::Gpu },
        backend: adapter.backend.to_string(),
        driver: driver.trim().to_owned(),
        limits: Some(DeviceLimits {
            max_buffer_bytes: limits.max_buffer_size,
            max_binding_bytes: limits.max_storage_buffer_binding_size,
            max_workgroups: limits.max_compute_workgroups_per_dimension,
        }),
    }
}

/// Lower is better.
fn rank(info: &wgpu::AdapterInfo) -> (bool, u8, bool) {
    let by_type = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other | wgpu::DeviceType::Cpu => 3,
    };
    (is_software(info), by_type, info.backend == wgpu::Backend::Gl)
}

/// Whether a CPU does the adapter's work. Not every backend says so, hence the names.
fn is_software(info: &wgpu::AdapterInfo) -> bool {
    const NAMES: [&str; 5] = ["llvmpipe", "lavapipe", "softpipe", "swiftshader", "microsoft basic render"];
    let name = info.name.to_lowercase();
    info.device_type == wgpu::DeviceType::Cpu || NAMES.iter().any(|n| name.contains(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, device_type: wgpu::DeviceType, backend: wgpu::Backend) -> wgpu::AdapterInfo {
        wgpu::AdapterInfo { name: name.into(), ..wgpu::AdapterInfo::new(device_type, backend) }
    }

    #[test]
    fn hardware_ranks_before_software_and_opengl_last() {
        use wgpu::{Backend, DeviceType};
        let discrete = rank(&info("RTX", DeviceType::DiscreteGpu, Backend::Vulkan));
        let discrete_gl = rank(&info("RTX", DeviceType::DiscreteGpu, Backend::Gl));
        let integrated = rank(&info("Iris", DeviceType::IntegratedGpu, Backend::Vulkan));
        let disguised = rank(&info("llvmpipe (LLVM 15)", DeviceType::Other, Backend::Gl));
        let swiftshader = rank(&info("SwiftShader Device", DeviceType::Cpu, Backend::Vulkan));
        let mut sorted = [disguised, discrete_gl, swiftshader, integrated, discrete];
        sorted.sort();
        assert_eq!(sorted, [discrete, discrete_gl, integrated, swiftshader, disguised]);
    }
}
