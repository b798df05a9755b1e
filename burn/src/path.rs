//! Which code clips the tensors of a device.

use burn::backend::DispatchDevice;
use burn::tensor::Device;
use cubecl::client::Client;

/// What clips the tensors of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Path {
    /// wgclip's WGSL kernels, in Burn's own passes: wgpu, where it compiles to WGSL.
    Wgsl,
    /// wgclip's CPU path: Flex.
    Cpu,
    /// Burn's own operations: every other CubeCL runtime, which takes no WGSL. Values and gradients are those of the rule; NaN
    /// payloads, the sign of zero and exact sums are not promised.
    Composed,
    /// Nothing: functions return [`wgclip::Error::Unsupported`].
    None,
}

/// What clips the tensors of a device. It opens the device.
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

/// Whether a client takes kernels in WGSL. Others get them as SPIR-V or MSL, or are no wgpu at all.
pub(crate) fn compiles_wgsl(client: &Client) -> bool {
    client.name().starts_with("wgpu<wgsl")
}
