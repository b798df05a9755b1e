//! The devices that the tests run on.

use std::io::Write;
use std::sync::Once;

use log::{Level, LevelFilter, Log, Metadata, Record};
use pollster::block_on;
use wgclip::Device;
use wgclip::gpu::{Adapter, Context, adapters};

/// Every adapter. There must be one: a run without any would prove nothing about the kernels.
pub fn gpu_adapters() -> Vec<Adapter> {
    watch_validation();
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

/// Ends the run at the first word of the Vulkan validation layer, which wgpu turns on in builds for development where it
/// is installed. With `WGCLIP_VALIDATION` set it must be.
pub fn watch_validation() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Watch).unwrap();
        if std::env::var_os("WGCLIP_VALIDATION").is_some() {
            // That the layer is not there is said at this level, at which it also says much more.
            log::set_max_level(LevelFilter::Debug);
            drop(wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env()));
        }
        log::set_max_level(LevelFilter::Warn);
    });
}

struct Watch;

impl Log for Watch {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("wgpu_hal::vulkan")
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        // Layers of 2023 do not know that SPIR-V may come of WGSL, which it says if WGPU_DEBUG is not 0.
        let old = text.contains("Invalid source language operand");
        let broken = record.level() <= Level::Warn && text.starts_with("VALIDATION") && !old;
        if self.enabled(record.metadata()) && (broken || text.contains("unable to find layer")) {
            // Past the test harness, which would keep it.
            let _ = writeln!(std::io::stderr(), "Vulkan validation: {text}");
            std::process::abort();
        }
    }

    fn flush(&self) {}
}
