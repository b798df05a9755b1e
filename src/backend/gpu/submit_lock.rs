//! Who may submit: one thread at a time, so that command buffers reach the queue in the order in which they were recorded.
//!
//! wgpu runs callbacks of the caller's inside of `submit`, once the command buffer is in the queue, and they may call this
//! crate. So the thread that holds the lock may take it again; what it submits then comes after what it has submitted.
//! Recording does not take this lock.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// A lock that its holder may take again.
#[derive(Debug, Default)]
pub(super) struct SubmitLock {
    holder: Mutex<Option<Holder>>,
    released: Condvar,
}

#[derive(Debug)]
struct Holder {
    thread: ThreadId,
    depth: usize,
}

/// Holds a [`SubmitLock`].
#[derive(Debug)]
pub(super) struct Submitting<'a>(&'a SubmitLock);

impl SubmitLock {
    /// Takes the lock, or returns `None` if another thread has not released it within `timeout`: a callback that waits for
    /// the thread that called this would otherwise never end.
    pub(super) fn acquire(&self, timeout: Duration) -> Option<Submitting<'_>> {
        let thread = thread::current().id();
        let end = Instant::now().checked_add(timeout);
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
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return None;
            }
            holder = self.released.wait_timeout(holder, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether this thread holds it: a callback inside of a submission.
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(100);

    #[test]
    fn its_holder_takes_it_again_and_others_wait() {
        let lock = SubmitLock::default();
        let outer = lock.acquire(LONG).unwrap();
        let inner = lock.acquire(LONG).unwrap();
        let refused =
            || thread::scope(|scope| scope.spawn(|| lock.acquire(Duration::ZERO).is_none()).join().unwrap());
        assert!(refused());
        drop(inner);
        assert!(refused(), "the outer one still holds it");
        drop(outer);
        assert!(!refused());
    }

    #[test]
    fn one_thread_at_a_time() {
        let (lock, inside) = (SubmitLock::default(), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let _outer = lock.acquire(LONG).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        let _inner = lock.acquire(LONG).unwrap();
                        assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                    }
                });
            }
        });
    }
}
