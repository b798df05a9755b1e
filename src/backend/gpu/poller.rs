//! Waits that do not block: a dedicated thread polls the device and wakes waiters.
//!
//! The first wait starts the thread, which ends with its device. In a browser the event loop does this.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, ThreadId};

use futures_intrusive::channel::shared::{OneshotSender, oneshot_channel};

use super::status::DeviceStatus;
use crate::Result;

/// A submission, and the waker of its waiter.
type Request = (wgpu::SubmissionIndex, OneshotSender<()>);

/// The channel to the polling thread.
#[derive(Debug, Default)]
pub(super) struct Poller {
    polling: Mutex<Option<Polling>>,
}

#[derive(Debug)]
struct Polling {
    requests: mpsc::Sender<Request>,
    thread: ThreadId,
}

impl Poller {
    /// Waits for a submission.
    pub(super) async fn wait(
        &self,
        status: &Arc<DeviceStatus>,
        submission: wgpu::SubmissionIndex,
    ) -> Result<()> {
        status.check()?;
        let (sender, done) = oneshot_channel();
        let sent = self.send(status, (submission.clone(), sender));
        if !sent || done.receive().await.is_none() {
            // No thread, or a panic in a callback has ended it.
            status.wait(Some(submission))?;
        }
        status.check()
    }

    /// Hands a request to the thread. Returns `false` if none can be started, or if this is the thread: in a callback.
    fn send(&self, status: &Arc<DeviceStatus>, mut request: Request) -> bool {
        let mut polling = self.polling.lock().unwrap_or_else(PoisonError::into_inner);
        // To start the thread, to find that a panic in a callback has ended it, to start another.
        for _ in 0..3 {
            let Some(Polling { requests, thread }) = &*polling else {
                *polling = Polling::start(status);
                continue;
            };
            if *thread == thread::current().id() {
                break;
            }
            match requests.send(request) {
                Ok(()) => return true,
                Err(mpsc::SendError(refused)) => (request, *polling) = (refused, None),
            }
        }
        false
    }
}

impl Polling {
    fn start(status: &Arc<DeviceStatus>) -> Option<Self> {
        let (requests, receiver) = mpsc::channel::<Request>();
        // The device ends with its users, not on this thread: that would race with the end of the program, when drivers shut
        // down.
        let status = Arc::downgrade(status);
        let run = move || {
            for (submission, sender) in receiver {
                if let Some(status) = status.upgrade() {
                    // The error is recorded, and the waiter sees it.
                    let _ = status.wait(Some(submission));
                }
                let _ = sender.send(());
            }
        };
        let spawned = thread::Builder::new().name("wgclip poller".into()).spawn(run).ok()?;
        Some(Self { requests, thread: spawned.thread().id() })
    }
}
