//! What a device holds and has done.

/// Counts of a device. Bytes are those of GPU buffers, padding included; the CPU path has none. Created objects are
/// counted from the opening of the device on: in a steady loop of operations the counts do not grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes that tensors, masks and reads hold.
    pub in_use_bytes: u64,
    /// Bytes of all buffers: those in use, and the idle ones kept for reuse.
    pub reserved_bytes: u64,
    /// The maximum bytes reserved at once.
    pub peak_reserved_bytes: u64,
    /// Buffers created.
    pub buffers_created: u64,
    /// Times that an idle buffer was reused instead.
    pub buffers_reused: u64,
    /// Bind groups created.
    pub bind_groups_created: u64,
    /// Pipelines compiled.
    pub pipelines_created: u64,
    /// Kernels recorded.
    pub dispatches: u64,
    /// Submissions to the queue.
    pub submissions: u64,
}
