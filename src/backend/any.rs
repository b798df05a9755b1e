//! A backend of any kind.

use crate::backend::cpu;
#[cfg(feature = "gpu")]
use crate::backend::gpu;

#[derive(Debug, Clone)]
pub(crate) enum AnyBackend {
    Cpu(cpu::Cpu),
    #[cfg(feature = "gpu")]
    Gpu(gpu::Context),
}

/// Evaluates an expression for the backend of a device, of any kind.
macro_rules! with_backend {
    ($any:expr, $backend:ident => $body:expr) => {
        match $any {
            $crate::backend::any::AnyBackend::Cpu($backend) => $body,
            #[cfg(feature = "gpu")]
            $crate::backend::any::AnyBackend::Gpu($backend) => $body,
        }
    };
}
pub(crate) use with_backend;
