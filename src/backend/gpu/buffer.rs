//! The bytes of a tensor on a device: in a buffer of the pool, or the caller's.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::pool::{Pool, PooledBuffer};
use crate::plan::{self, BufferPart, Limits, Memory};
use crate::wgsl::BLOCK_BYTES;
use crate::{Error, Result};

/// The bytes of a tensor on a device, rounded up to whole blocks. Cheap to clone: clones share the bytes. A pool buffer
/// goes back to the pool with its last clone; a caller's buffer stays the caller's.
#[derive(Clone)]
pub(crate) struct Buffer {
    shared: Arc<Shared>,
}

struct Shared {
    buffer: wgpu::Buffer,
    offset: u64,
    bytes: u64,
    /// The buffer's entry in the pool, if it has one.
    pooled: Option<(PooledBuffer, Arc<Pool>)>,
    /// Whether the caller was given the wgpu buffer, and may map or destroy it.
    exported: AtomicBool,
    poison: Poison,
}

/// Why elements are missing: the operation that was to compute them failed after it was recorded. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Poison(Arc<OnceLock<Error>>);

impl Poison {
    pub(super) fn set(&self, error: Error) {
        let _ = self.0.set(error);
    }

    pub(super) fn get(&self) -> Option<&Error> {
        self.0.get()
    }
}

impl Buffer {
    pub(super) fn pooled_bytes(pooled: PooledBuffer, bytes: u64, pool: Arc<Pool>) -> Self {
        Self::new(pooled.buffer.clone(), 0, bytes, Some((pooled, pool)))
    }

    pub(super) fn of_caller(buffer: wgpu::Buffer, offset: u64, bytes: u64) -> Self {
        Self::new(buffer, offset, bytes, None)
    }

    fn new(buffer: wgpu::Buffer, offset: u64, bytes: u64, pooled: Option<(PooledBuffer, Arc<Pool>)>) -> Self {
        let (exported, poison) = (AtomicBool::new(pooled.is_none()), Poison::default());
        Self { shared: Arc::new(Shared { buffer, offset, bytes, pooled, exported, poison }) }
    }

    /// Bytes of the tensor; the wgpu buffer may be longer.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes
    }

    /// The wgpu buffer. Work that was recorded but not [flushed](super::Context::flush) is not in it yet.
    pub(crate) fn as_wgpu(&self) -> &wgpu::Buffer {
        &self.shared.buffer
    }

    /// Bytes before the tensor in the wgpu buffer.
    pub(crate) fn offset(&self) -> u64 {
        self.shared.offset
    }

    /// Keeps it from the pool while the host maps it: a panic in a callback may leave it mapped.
    pub(super) fn keep_from_pool(&self, keep: bool) {
        self.shared.exported.store(keep, Ordering::Release);
    }

    /// Notes that the caller is given the wgpu buffer.
    pub(super) fn export(&self) -> &wgpu::Buffer {
        self.shared.exported.store(true, Ordering::Release);
        &self.shared.buffer
    }

    /// Whether the caller may map or destroy it: its own, or one that it was given.
    pub(super) fn is_exported(&self) -> bool {
        self.shared.exported.load(Ordering::Acquire)
    }

    /// Returns an error if the operation that was to compute the elements failed.
    pub(super) fn check_poison(&self) -> Result<()> {
        self.poison().get().map_or(Ok(()), |error| Err(error.clone()))
    }

    pub(super) fn poison(&self) -> &Poison {
        &self.shared.poison
    }

    /// Returns it as an operand.
    pub(super) fn part(&self) -> Part<'_> {
        let Shared { buffer, offset, bytes, .. } = &*self.shared;
        Part::new(BufferRef { buffer, tensor: Some(self) }, *offset, *bytes)
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

/// The memory of operands.
#[derive(Debug, Clone, Copy)]
pub(super) struct BufferRef<'a> {
    pub buffer: &'a wgpu::Buffer,
    /// The tensor's buffer that it belongs to, if any.
    pub tensor: Option<&'a Buffer>,
}

/// A part of a buffer that a kernel works on.
pub(super) type Part<'a> = BufferPart<BufferRef<'a>>;

/// A kernel over its operands.
pub(super) type Dispatch<'a> = plan::Dispatch<'a, BufferRef<'a>>;

impl BufferRef<'_> {
    /// The pool's buffer, if it is one.
    pub(super) fn pooled(&self) -> Option<&PooledBuffer> {
        self.tensor.and_then(Buffer::pooled)
    }
}

impl Memory for BufferRef<'_> {
    fn is_same(self, other: Self) -> bool {
        self.buffer == other.buffer
    }

    fn is_alone(self) -> bool {
        self.pooled().is_some()
    }
}

/// A part of a caller's buffer. The error says what is missing.
pub(super) fn part_of_caller(
    buffer: &wgpu::Buffer,
    start: u64,
    bytes: u64,
    limits: Limits,
) -> Result<Part<'_>, String> {
    let alignment = limits.offset_alignment;
    if !buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
        return Err("create it with BufferUsages::STORAGE".into());
    }
    if !start.is_multiple_of(alignment) {
        return Err(format!("begin at a multiple of {alignment}"));
    }
    let end = bytes.checked_next_multiple_of(BLOCK_BYTES).and_then(|bytes| start.checked_add(bytes));
    if end.is_none_or(|end| end > buffer.size()) {
        return Err(format!(
            "let the buffer reach to the end of the tensor's last block of {BLOCK_BYTES} bytes"
        ));
    }
    Ok(Part::new(BufferRef { buffer, tensor: None }, start, bytes))
}

impl Dispatch<'_> {
    /// Whether the caller may map or destroy a buffer that it works on.
    pub(super) fn is_exported(&self) -> bool {
        self.tensors().any(Buffer::is_exported)
    }

    /// Returns an error if elements that it works on are missing.
    pub(super) fn check_operands(&self) -> Result<()> {
        self.tensors().try_for_each(Buffer::check_poison)
    }

    fn tensors(&self) -> impl Iterator<Item = &Buffer> {
        self.operands.iter().filter_map(|operand| operand.memory.tensor)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let Some((pooled, pool)) = self.pooled.take() else { return };
        // The caller may keep what it was given, so no other tensor can have it.
        match self.exported.load(Ordering::Acquire) {
            true => pool.discard(pooled),
            false => pool.give_back(pooled),
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("bytes", &self.shared.bytes).finish_non_exhaustive()
    }
}
