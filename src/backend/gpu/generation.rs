//! Generations of commands: recorded, in the queue, or completed by the device.
//!
//! Each command buffer ends a generation. A buffer remembers the generation of its last use.

use super::sync::{Arc, AtomicU64, Ordering};

/// The counters of a device.
#[derive(Debug)]
pub(super) struct Generations {
    /// The generation of the pending commands.
    recorded: AtomicU64,
    /// The queue has the generations before this one.
    submitted: AtomicU64,
    /// The device has completed the generations before this one.
    done: Arc<AtomicU64>,
}

impl Generations {
    pub(super) fn new() -> Self {
        Self { recorded: AtomicU64::new(1), submitted: AtomicU64::new(1), done: Arc::new(AtomicU64::new(1)) }
    }

    /// The generation of commands that are pending, or will be before the next command buffer.
    pub(super) fn pending(&self) -> u64 {
        self.recorded.load(Ordering::Acquire)
    }

    /// Ends the generation of the pending commands and returns it; later commands begin another. Only the thread that may
    /// submit calls this, with the recorder locked.
    pub(super) fn end(&self) -> u64 {
        self.recorded.fetch_add(1, Ordering::AcqRel)
    }

    /// Notes that the queue has all ended generations. Only the thread that may submit calls this.
    pub(super) fn all_submitted(&self) {
        self.submitted.fetch_max(self.recorded.load(Ordering::Acquire), Ordering::AcqRel);
    }

    /// Whether the queue has the commands of a generation.
    pub(super) fn is_submitted(&self, generation: u64) -> bool {
        generation < self.submitted.load(Ordering::Acquire)
    }

    /// Returns the callback for when the device has completed a generation, and those before it.
    pub(super) fn when_done(&self, generation: u64) -> impl FnOnce() + Send + 'static {
        let done = self.done.clone();
        move || {
            done.fetch_max(generation + 1, Ordering::AcqRel);
        }
    }

    /// Whether the device has completed a generation.
    pub(super) fn is_done(&self, generation: u64) -> bool {
        generation < self.done.load(Ordering::Acquire)
    }
}
