//! The devices that the tests run on.

use pollster::block_on;
use wgclip::Device;
use wgclip::gpu::{Adapter, Context, adapters};

/// Every adapter. There must be one: a run without any would prove nothing about the kernels.
pub fn gpu_adapters() -> Vec<Adapter> {
    let found = block_on(adapters());
    assert!(
        !found.is_empty(),
        "no GPU adapter: on Debian `apt-get install mesa-vulkan-drivers` brings a software one"
    );
    found
}

/// A device of each adapter under the limits it offers.
pub fn gpus() -> Vec<Device> {
    gpu_adapters().iter().map(|adapter| open(adapter, adapter.limits())).collect()
}

/// A device of each adapter under limits so tight that small tensors are split and folded.
pub fn tight_gpus() -> Vec<Device> {
    gpu_adapters().iter().map(|adapter| open(adapter, tight(adapter))).collect()
}

/// Four workgroups a row and four rows, of 1024 words each, and bindings that hold little more than these: as few as
/// the mask of a 64-bit type allows.
pub fn tight(adapter: &Adapter) -> wgpu::Limits {
    wgpu::Limits {
        max_compute_workgroups_per_dimension: 4,
        max_storage_buffer_binding_size: 68 * 1024,
        ..adapter.limits()
    }
}

pub fn open(adapter: &Adapter, limits: wgpu::Limits) -> Device {
    let context = block_on(Context::request(adapter, limits));
    context.unwrap_or_else(|error| panic!("{}: {error}", adapter.info())).into()
}
