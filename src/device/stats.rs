//! What a device holds and has done.

/// Counts of a device. Bytes are those of GPU buffers, padding included; the CPU path has none. What is created is
/// counted from the opening of the device on: in a steady loop of operations it does not grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes that tensors, masks and reads hold.
    pub in_use_bytes: u64,
    /// Bytes of all buffers: those in use, and the idle ones that are kept to be used again.
    pub reserved_bytes: u64,
    /// The most bytes that were reserved at once.
    pub peak_reserved_bytes: u64,
    /// Buffers created.
    pub buffers_created: u64,
    /// Times that an idle buffer served instead.
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
