//! Waits that do not block: a dedicated thread polls the device and wakes waiters.
//!
//! It is started by the first such wait and ends with its device. In a browser the event loop does this.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use futures_intrusive::channel::shared::{OneshotSender, oneshot_channel};

use super::status::DeviceStatus;
use crate::Result;

/// A submission, and the waker of whoever waits for it.
type Request = (wgpu::SubmissionIndex, OneshotSender<()>);

/// The way to the waiting thread.
#[derive(Debug, Default)]
pub(super) struct Poller {
    requests: Mutex<Option<mpsc::Sender<Request>>>,
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
        if let Err(request) = self.send(status, (submission, sender)) {
            // No thread could be started.
            status.wait(Some(request.0))?;
        } else {
            done.receive().await;
        }
        status.check()
    }

    fn send(&self, status: &Arc<DeviceStatus>, request: Request) -> Result<(), Request> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.is_none() {
            let (sender, receiver) = mpsc::channel::<Request>();
            let status = status.clone();
            let run = move || {
                for (submission, sender) in receiver {
                    // What went wrong is recorded, and met by the waiter.
                    let _ = status.wait(Some(submission));
                    let _ = sender.send(());
                }
            };
            if thread::Builder::new().name("wgclip poller".into()).spawn(run).is_err() {
                return Err(request);
            }
            *requests = Some(sender);
        }
        match &*requests {
            Some(sender) => sender.send(request).map_err(|mpsc::SendError(request)| request),
            None => Err(request),
        }
    }
}
