//! Information about a device before and after it is opened.

use std::fmt;

/// What does the work on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// The CPU path of this crate.
    Cpu,
    /// A hardware GPU.
    Gpu,
    /// A software rasteriser that wgpu sees as an adapter (llvmpipe, SwiftShader, WARP).
    Software,
}

impl DeviceKind {
    /// `"cpu"`, `"gpu"` or `"software"`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::Software => "software",
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A device: its name, what it is, and what it can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// The name that the driver gives, or the number of threads of the CPU path.
    pub name: String,
    /// What does the work.
    pub kind: DeviceKind,
    /// The API in between: `"vulkan"`, `"metal"`, `"dx12"`, `"gl"`, `"webgpu"`, or `"native"` for the CPU path.
    pub backend: String,
    /// The driver and its version, where known.
    pub driver: String,
    /// The limits, if the device has any that matter here.
    pub limits: Option<DeviceLimits>,
}

/// The limits of a GPU device that a tensor can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceLimits {
    /// Bytes of the largest buffer, and so of the largest tensor.
    pub max_buffer_bytes: u64,
    /// Bytes of the largest storage binding. Larger tensors take several dispatches.
    pub max_binding_bytes: u64,
    /// Workgroups along one dimension. More are folded into rows.
    pub max_workgroups: u32,
}

impl DeviceInfo {
    pub(crate) fn cpu(threads: usize) -> Self {
        Self {
            name: format!("CPU, {threads} thread{}", if threads == 1 { "" } else { "s" }),
            kind: DeviceKind::Cpu,
            backend: "native".into(),
            driver: String::new(),
            limits: None,
        }
    }
}

impl fmt::Display for DeviceInfo {
    /// `llvmpipe (LLVM 15.0.6, 256 bits) [vulkan, software]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            DeviceKind::Cpu => f.write_str(&self.name),
            kind => write!(f, "{} [{}, {kind}]", self.name, self.backend),
        }
    }
}
