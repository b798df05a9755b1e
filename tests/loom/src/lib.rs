//! Every order in which threads can meet: of submissions, and of the buffers that the queue writes.
#![cfg(test)]
#![allow(dead_code)]

/// Loom's in the place of std's.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
    pub(crate) use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
    pub(crate) use std::sync::PoisonError;

    pub(crate) mod thread {
        pub(crate) use loom::thread::{ThreadId, current};
    }
}

#[path = "../../../src/backend/gpu/generation.rs"]
mod generation;
#[path = "../../../src/backend/gpu/submit_lock.rs"]
mod submit_lock;

use std::time::Duration;

use generation::Generations;
use loom::sync::{Arc, Mutex};
use loom::thread;
use submit_lock::SubmitLock;

const LONG: Duration = Duration::from_secs(1000);

/// What `Context` does, with numbers for commands.
struct Device {
    submit_lock: SubmitLock,
    generations: Generations,
    recorder: Mutex<Recorder>,
    queue: Mutex<Vec<u64>>,
    /// The generation of a buffer's last use.
    last_use: loom::sync::atomic::AtomicU64,
}

#[derive(Default)]
struct Recorder {
    next: u64,
    pending: Vec<u64>,
}

impl Device {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            submit_lock: SubmitLock::default(),
            generations: Generations::new(),
            recorder: Mutex::new(Recorder::default()),
            queue: Mutex::new(Vec::new()),
            last_use: loom::sync::atomic::AtomicU64::new(0),
        })
    }

    /// Records a command that uses the buffer.
    fn record(&self) {
        let mut recorder = self.recorder.lock().unwrap();
        let command = recorder.next;
        recorder.next += 1;
        recorder.pending.push(command);
        self.last_use.store(self.generations.pending(), loom::sync::atomic::Ordering::Release);
    }

    /// Submits what is pending, and runs a callback of the caller's within.
    fn submit(&self, callback: impl FnOnce()) {
        let _order = self.submit_lock.acquire(LONG).unwrap();
        self.generations.all_submitted();
        let batch = {
            let mut recorder = self.recorder.lock().unwrap();
            self.generations.end();
            std::mem::take(&mut recorder.pending)
        };
        self.queue.lock().unwrap().extend(batch);
        callback();
        self.generations.all_submitted();
    }

    fn record_and_submit_elsewhere(device: &Arc<Self>) -> thread::JoinHandle<()> {
        let device = device.clone();
        thread::spawn(move || {
            device.record();
            device.submit(|| {});
        })
    }

    /// Whether the queue may write the buffer: then it has all commands that use it.
    fn check_write(&self) {
        let last_use = self.last_use.load(loom::sync::atomic::Ordering::Acquire);
        if self.generations.is_submitted(last_use) && last_use > 0 {
            assert!(!self.queue.lock().unwrap().is_empty(), "a write would overtake a command");
        }
    }

    fn check_order(&self) {
        let queue = self.queue.lock().unwrap();
        assert!(queue.is_sorted(), "{queue:?}");
    }
}

#[test]
fn commands_reach_the_queue_in_the_order_of_recording() {
    loom::model(|| {
        let device = Device::new();
        let thread = Device::record_and_submit_elsewhere(&device);
        device.record();
        device.submit(|| {});
        thread.join().unwrap();
        device.submit(|| {});
        device.check_order();
        assert_eq!(device.queue.lock().unwrap().len(), 2);
    });
}

#[test]
fn a_callback_submits_in_order_and_nobody_waits_for_ever() {
    loom::model(|| {
        let device = Device::new();
        let thread = Device::record_and_submit_elsewhere(&device);
        device.record();
        device.submit(|| {
            device.record();
            device.submit(|| {});
        });
        thread.join().unwrap();
        device.check_order();
        assert_eq!(device.queue.lock().unwrap().len(), 3);
    });
}

#[test]
fn the_queue_writes_nothing_that_unsubmitted_commands_use() {
    loom::model(|| {
        let device = Device::new();
        let thread = Device::record_and_submit_elsewhere(&device);
        device.check_write();
        thread.join().unwrap();
        device.check_write();
    });
}

#[test]
fn what_is_done_is_done_whatever_is_heard_of_first() {
    loom::model(|| {
        let generations = Arc::new(Generations::new());
        let [first, second] = [(); 2].map(|()| generations.end());
        let [heard_first, heard_second] = [first, second].map(|generation| generations.when_done(generation));
        let thread = thread::spawn(heard_second);
        heard_first();
        assert!(generations.is_done(first));
        thread.join().unwrap();
        assert!(generations.is_done(second) && !generations.is_done(second + 1));
    });
}
