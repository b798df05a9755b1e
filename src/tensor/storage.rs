//! Where the elements of a tensor are.

use crate::backend::any::AnyBackend;
#[cfg(feature = "gpu")]
use crate::backend::gpu;
use crate::backend::{Backend, cpu};
use crate::{Device, Error, Result};

/// A buffer with its backend: of elements, or of the words of a mask.
#[derive(Debug, Clone)]
pub(crate) enum Storage {
    Cpu(cpu::Cpu, cpu::Buffer),
    #[cfg(feature = "gpu")]
    Gpu(gpu::Context, gpu::Buffer),
}

/// Evaluates an expression for the backend and the buffer of a storage, whichever it is.
macro_rules! with_storage {
    ($storage:expr, $backend:ident, $buffer:ident => $body:expr) => {
        match $storage {
            $crate::tensor::Storage::Cpu($backend, $buffer) => $body,
            #[cfg(feature = "gpu")]
            $crate::tensor::Storage::Gpu($backend, $buffer) => $body,
        }
    };
}

pub(crate) use with_storage;

/// A backend whose buffers a storage can hold.
pub(crate) trait Stored: Backend {
    fn store(&self, buffer: Self::Buffer) -> Storage;

    /// The buffer of a storage, if it is of this device.
    fn downcast<'a>(&self, storage: &'a Storage) -> Option<&'a Self::Buffer>;

    fn downcast_mut<'a>(&self, storage: &'a mut Storage) -> Option<&'a mut Self::Buffer>;
}

impl Stored for cpu::Cpu {
    fn store(&self, buffer: Self::Buffer) -> Storage {
        Storage::Cpu(*self, buffer)
    }

    fn downcast<'a>(&self, storage: &'a Storage) -> Option<&'a Self::Buffer> {
        match storage {
            Storage::Cpu(_, buffer) => Some(buffer),
            #[cfg(feature = "gpu")]
            Storage::Gpu(..) => None,
        }
    }

    fn downcast_mut<'a>(&self, storage: &'a mut Storage) -> Option<&'a mut Self::Buffer> {
        match storage {
            Storage::Cpu(_, buffer) => Some(buffer),
            #[cfg(feature = "gpu")]
            Storage::Gpu(..) => None,
        }
    }
}

#[cfg(feature = "gpu")]
impl Stored for gpu::Context {
    fn store(&self, buffer: Self::Buffer) -> Storage {
        Storage::Gpu(self.clone(), buffer)
    }

    fn downcast<'a>(&self, storage: &'a Storage) -> Option<&'a Self::Buffer> {
        match storage {
            Storage::Gpu(own, buffer) if own.same_device(self) => Some(buffer),
            _ => None,
        }
    }

    fn downcast_mut<'a>(&self, storage: &'a mut Storage) -> Option<&'a mut Self::Buffer> {
        match storage {
            Storage::Gpu(own, buffer) if own.same_device(self) => Some(buffer),
            _ => None,
        }
    }
}

impl Storage {
    pub(crate) fn device(&self) -> Device {
        Device::from_backend(match self {
            Self::Cpu(cpu, _) => AnyBackend::Cpu(*cpu),
            #[cfg(feature = "gpu")]
            Self::Gpu(context, _) => AnyBackend::Gpu(context.clone()),
        })
    }

    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> u64 {
        with_storage!(self, backend, buffer => backend.bytes(buffer))
    }
}

/// The buffer of a storage, for the backend that it is to be on.
///
/// # Errors
/// [`Error::DeviceMismatch`].
pub(crate) fn peer<'a, B: Stored>(backend: &B, storage: &'a Storage) -> Result<&'a B::Buffer> {
    backend.downcast(storage).ok_or_else(|| Error::DeviceMismatch {
        left: backend.info().to_string(),
        right: storage.device().info().to_string(),
    })
}
