//! The code path for the tensors of a device.

use burn::backend::DispatchDevice;
use burn::tensor::Device;
use cubecl::client::Client;

/// The code path for the tensors of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Path {
    /// wgclip's WGSL kernels, in Burn's own passes: wgpu, if it compiles to WGSL.
    Wgsl,
    /// wgclip's CPU path: Flex.
    Cpu,
    /// Burn's own operations: every other CubeCL runtime, which does not accept WGSL. Values and gradients follow the rule; NaN
    /// payloads, the sign of zero and exact sums are not guaranteed.
    Composed,
    /// Unsupported: functions return [`wgclip::Error::Unsupported`].
    None,
}

/// Returns the code path for the tensors of a device. Opens the device.
pub fn path(device: &Device) -> Path {
    match device.clone().inner().as_dispatch() {
        DispatchDevice::Flex(_) => Path::Cpu,
        DispatchDevice::Cube(device) => match compiles_wgsl(&device.client()) {
            true => Path::Wgsl,
            false => Path::Composed,
        },
        #[allow(unreachable_patterns)]
        _ => Path::None,
    }
}

/// Whether a client accepts kernels in WGSL. Others take SPIR-V or MSL, or do not use wgpu.
pub(crate) fn compiles_wgsl(client: &Client) -> bool {
    client.name().starts_with("wgpu<wgsl")
}
