//! Buffers that are used again: a fresh one is zero-filled by wgpu, which costs as much as a kernel.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::dispatch::BLOCK;
use super::recorder::{Operand, Span};

/// Bytes of idle buffers that are kept. Beyond it a buffer is freed when it comes back.
const IDLE_BUDGET: u64 = 1 << 30;

/// What a buffer is for. Each has its own usages, so they are not exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Read and written by kernels, copied from and to.
    Storage,
    /// Copied to, and mapped by the host.
    Readback,
}

impl Purpose {
    pub fn usages(self) -> wgpu::BufferUsages {
        use wgpu::BufferUsages as Usages;
        match self {
            Self::Storage => Usages::STORAGE | Usages::COPY_SRC | Usages::COPY_DST,
            Self::Readback => Usages::MAP_READ | Usages::COPY_DST,
        }
    }
}

/// Who writes the buffer first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstWrite {
    /// A command that is recorded after those pending, so any idle buffer will do.
    Recorded,
    /// The queue, *before* the pending commands: the buffer must not be in use by them.
    Queued,
}

/// The idle buffers of a device.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Mutex<Idle>,
    /// Counts submissions. A buffer that came back in an earlier generation is in no pending command.
    generation: AtomicU64,
}

#[derive(Debug, Default)]
struct Idle {
    buffers: HashMap<(Purpose, u64), Vec<(wgpu::Buffer, u64)>>,
    bytes: u64,
}

impl Pool {
    /// The size of the buffer that holds `bytes`: whole blocks, in classes that waste an eighth at most.
    /// Never zero, since wgpu binds no empty buffer.
    pub fn class(bytes: u64, max_buffer: u64) -> u64 {
        let bytes = bytes.max(256);
        let step = (1 << bytes.ilog2()) / 8;
        bytes.next_multiple_of(step).min(max_buffer / BLOCK * BLOCK).max(bytes.next_multiple_of(BLOCK))
    }

    /// An idle buffer of exactly `size` bytes.
    pub fn take(&self, purpose: Purpose, size: u64, first: FirstWrite) -> Option<wgpu::Buffer> {
        let now = self.generation.load(Ordering::Acquire);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let buffers = idle.buffers.get_mut(&(purpose, size))?;
        // The newest is the likeliest to be in a cache.
        let found =
            buffers.iter().rposition(|(_, generation)| first == FirstWrite::Recorded || *generation < now)?;
        let (buffer, _) = buffers.remove(found);
        idle.bytes -= size;
        Some(buffer)
    }

    /// Takes back a buffer that nothing but pending or submitted commands uses.
    pub fn give_back(&self, purpose: Purpose, buffer: wgpu::Buffer) {
        let now = self.generation.load(Ordering::Acquire);
        let size = buffer.size();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.bytes + size <= IDLE_BUDGET {
            idle.bytes += size;
            idle.buffers.entry((purpose, size)).or_default().push((buffer, now));
        }
    }

    /// To be called after a submission: what was pending is so no more.
    pub fn submitted(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }
}

/// The bytes of a tensor on a device, rounded up to whole blocks. Cheap to clone: clones share the bytes.
/// Goes back to the device's pool with its last clone.
#[derive(Clone)]
pub struct Buffer {
    shared: Arc<Shared>,
}

struct Shared {
    buffer: wgpu::Buffer,
    bytes: u64,
    pool: Arc<Pool>,
}

impl Buffer {
    pub(super) fn new(buffer: wgpu::Buffer, bytes: u64, pool: Arc<Pool>) -> Self {
        Self { shared: Arc::new(Shared { buffer, bytes, pool }) }
    }

    /// Bytes of the tensor; the wgpu buffer may be longer.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes
    }

    /// The wgpu buffer. What was recorded but not [flushed](super::Context::flush) is not in it yet.
    pub fn as_wgpu(&self) -> &wgpu::Buffer {
        &self.shared.buffer
    }

    /// As an operand that is worked on block by block.
    pub(super) fn blocks(&self) -> Operand<'_> {
        Operand { buffer: self, span: Span::Blocks }
    }

    /// Whether no clone shares these bytes.
    pub(super) fn is_unique(&mut self) -> bool {
        Arc::get_mut(&mut self.shared).is_some()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.pool.give_back(Purpose::Storage, self.buffer.clone());
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("bytes", &self.shared.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(size: u64) -> wgpu::Buffer {
        let (device, _queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
        device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage: Purpose::Storage.usages(),
            mapped_at_creation: false,
        })
    }

    #[test]
    fn classes_hold_what_they_must_and_waste_little() {
        for bytes in (0..4096).chain([1 << 20, (1 << 20) + 1, (1 << 27) - 1, 1 << 28]) {
            let class = Pool::class(bytes, 1 << 40);
            assert!(class >= bytes.max(1) && class.is_multiple_of(BLOCK), "{bytes} in {class}");
            assert!(class <= 256.max(bytes + bytes / 8 + BLOCK), "{bytes} in {class}");
            assert_eq!(Pool::class(class, 1 << 40), class);
        }
        assert_eq!(Pool::class(1000, 1000), 1008, "a tensor as large as a buffer may be");
        assert_eq!(Pool::class(1040, 1050), 1040, "the class stays within the largest buffer");
    }

    #[test]
    fn the_queue_never_writes_a_buffer_that_is_pending() {
        let pool = Pool::default();
        pool.give_back(Purpose::Storage, buffer(256));
        assert!(pool.take(Purpose::Storage, 256, FirstWrite::Queued).is_none());
        assert!(pool.take(Purpose::Readback, 256, FirstWrite::Recorded).is_none());
        assert!(pool.take(Purpose::Storage, 512, FirstWrite::Recorded).is_none());
        pool.submitted();
        assert!(pool.take(Purpose::Storage, 256, FirstWrite::Queued).is_some());
        assert!(pool.take(Purpose::Storage, 256, FirstWrite::Queued).is_none(), "taken once");

        pool.give_back(Purpose::Storage, buffer(256));
        assert!(pool.take(Purpose::Storage, 256, FirstWrite::Recorded).is_some());
    }

    #[test]
    fn idle_buffers_keep_within_the_budget() {
        let pool = Pool::default();
        let large = buffer(IDLE_BUDGET / 4);
        for _ in 0..6 {
            pool.give_back(Purpose::Storage, large.clone());
        }
        let taken =
            (0..6).filter(|_| pool.take(Purpose::Storage, IDLE_BUDGET / 4, FirstWrite::Recorded).is_some());
        assert_eq!(taken.count(), 4);
    }
}
