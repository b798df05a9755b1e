//! Waits that do not block: a dedicated thread polls the device and wakes waiters.
//!
//! It is started by the first such wait and ends with its device. In a browser the event loop does this.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, ThreadId};

use futures_intrusive::channel::shared::{OneshotSender, oneshot_channel};

use super::status::DeviceStatus;
use crate::Result;

/// A submission, and the waker of whoever waits for it.
type Request = (wgpu::SubmissionIndex, OneshotSender<()>);

/// The way to the waiting thread.
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
        let sent = self.send(status, (submission.clone(), sender)).is_ok();
        if !sent || done.receive().await.is_none() {
            // No thread, or a panic of a callback has ended it.
            status.wait(Some(submission))?;
        }
        status.check()
    }

    /// Hands a request to the thread, unless none could be started, or this is the thread: in a callback.
    fn send(&self, status: &Arc<DeviceStatus>, request: Request) -> Result<(), Request> {
        let mut polling = self.polling.lock().unwrap_or_else(PoisonError::into_inner);
        if polling.is_none() {
            let (requests, receiver) = mpsc::channel::<Request>();
            let status = status.clone();
            let run = move || {
                for (submission, sender) in receiver {
                    // What went wrong is recorded, and met by the waiter.
                    let _ = status.wait(Some(submission));
                    let _ = sender.send(());
                }
            };
            let spawned = thread::Builder::new().name("wgclip poller".into()).spawn(run);
            *polling = spawned.ok().map(|spawned| Polling { requests, thread: spawned.thread().id() });
        }
        match &*polling {
            Some(Polling { requests, thread }) if *thread != thread::current().id() => {
                requests.send(request).map_err(|mpsc::SendError(request)| request)
            }
            _ => Err(request),
        }
    }
}
