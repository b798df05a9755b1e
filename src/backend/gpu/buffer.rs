//! The bytes of a tensor on a device: of the pool, or the caller's.

use std::fmt;
use std::sync::Arc;

use super::dispatch::BufferPart;
use super::pool::{Pool, PooledBuffer};

/// The bytes of a tensor on a device, rounded up to whole blocks. Cheap to clone: clones share the bytes. One of the
/// device's pool goes back there with its last clone; one of the caller's stays the caller's.
#[derive(Clone)]
pub(crate) struct Buffer {
    shared: Arc<Shared>,
}

struct Shared {
    buffer: wgpu::Buffer,
    offset: u64,
    bytes: u64,
    /// What of it belongs to the pool.
    pooled: Option<(PooledBuffer, Arc<Pool>)>,
}

impl Buffer {
    pub(super) fn pooled_bytes(pooled: PooledBuffer, bytes: u64, pool: Arc<Pool>) -> Self {
        let buffer = pooled.buffer.clone();
        Self { shared: Arc::new(Shared { buffer, offset: 0, bytes, pooled: Some((pooled, pool)) }) }
    }

    pub(super) fn of_caller(buffer: wgpu::Buffer, offset: u64, bytes: u64) -> Self {
        Self { shared: Arc::new(Shared { buffer, offset, bytes, pooled: None }) }
    }

    /// Bytes of the tensor; the wgpu buffer may be longer.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes
    }

    /// The wgpu buffer. What was recorded but not [flushed](super::Context::flush) is not in it yet.
    pub(crate) fn as_wgpu(&self) -> &wgpu::Buffer {
        &self.shared.buffer
    }

    /// Bytes before the tensor in the wgpu buffer.
    pub(crate) fn offset(&self) -> u64 {
        self.shared.offset
    }

    /// As an operand.
    pub(super) fn part(&self) -> BufferPart<'_> {
        let Shared { buffer, offset, bytes, pooled } = &*self.shared;
        BufferPart::new(buffer, pooled.as_ref().map(|(pooled, _)| pooled), *offset, *bytes)
    }

    /// The pool's buffer, if it is one.
    pub(super) fn pooled(&self) -> Option<&PooledBuffer> {
        self.shared.pooled.as_ref().map(|(pooled, _)| pooled)
    }

    /// Whether no clone shares these bytes.
    pub(super) fn is_unique(&mut self) -> bool {
        Arc::get_mut(&mut self.shared).is_some()
    }
}

impl<'a> From<&'a Buffer> for BufferPart<'a> {
    fn from(buffer: &'a Buffer) -> Self {
        buffer.part()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some((pooled, pool)) = self.pooled.take() {
            pool.give_back(pooled);
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("bytes", &self.shared.bytes).finish_non_exhaustive()
    }
}
