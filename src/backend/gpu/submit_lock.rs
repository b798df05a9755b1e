//! The right to submit: one thread at a time, so that command buffers reach the queue in the order of recording.
//!
//! wgpu runs callbacks of the caller inside `submit`, once the command buffer is in the queue, and they may call this
//! crate. So the thread that holds the lock may take it again; what it submits then comes after its earlier submissions.
//! Recording does not take this lock. `tests/loom` tries every order in which threads can meet here.

use std::time::{Duration, Instant};

use super::sync::{Condvar, Mutex, MutexGuard, PoisonError, thread};

/// A lock that its holder may take again.
#[derive(Debug, Default)]
pub(super) struct SubmitLock {
    holder: Mutex<Option<Holder>>,
    released: Condvar,
}

#[derive(Debug)]
struct Holder {
    thread: thread::ThreadId,
    depth: usize,
}

/// Holds a [`SubmitLock`].
#[derive(Debug)]
pub(super) struct Submitting<'a>(&'a SubmitLock);

impl SubmitLock {
    /// Takes the lock, or returns `None` if another thread has not released it within `timeout`: otherwise a callback that
    /// waits for the calling thread would never end.
    pub(super) fn acquire(&self, timeout: Duration) -> Option<Submitting<'_>> {
        let thread = thread::current().id();
        // Set when it is needed: a browser, which has one thread, lacks this clock.
        let mut end = None;
        let mut holder = self.holder();
        loop {
            match &mut *holder {
                None => {
                    *holder = Some(Holder { thread, depth: 1 });
                    return Some(Submitting(self));
                }
                Some(holder) if holder.thread == thread => {
                    holder.depth += 1;
                    return Some(Submitting(self));
                }
                Some(_) => {}
            }
            let now = Instant::now();
            let end = *end.get_or_insert_with(|| now.checked_add(timeout));
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(now));
            if left.is_zero() {
                return None;
            }
            holder = self.released.wait_timeout(holder, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether this thread holds it: a callback inside a submission.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn is_held_here(&self) -> bool {
        self.holder().as_ref().is_some_and(|holder| holder.thread == thread::current().id())
    }

    fn holder(&self) -> MutexGuard<'_, Option<Holder>> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Submitting<'_> {
    fn drop(&mut self) {
        let mut holder = self.0.holder();
        match &mut *holder {
            Some(Holder { depth, .. }) if *depth > 1 => *depth -= 1,
            _ => {
                *holder = None;
                drop(holder);
                self.0.released.notify_one();
            }
        }
    }
}
