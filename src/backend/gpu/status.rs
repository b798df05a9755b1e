//! Whether a device still answers: its errors, its loss, and the waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::{Error, Result};

/// How long a wait for the device lasts before it is given up for lost. A submission and those before it are bounded
/// work, seconds even for a software adapter.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Whose device it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// Opened here: its callbacks are ours.
    Crate,
    /// The caller's, whose callbacks stay: what we do with it is watched call by call.
    Caller,
}

/// A device with what is known of its errors. A lost device takes uploads and submissions without a word, and a
/// failed one leaves results undefined, so every call asks here first.
#[derive(Debug)]
pub(super) struct DeviceStatus {
    device: wgpu::Device,
    name: String,
    owner: Owner,
    faults: Arc<Faults>,
    timeout_ms: AtomicU64,
}

/// What went wrong first. Apart from the device, which holds callbacks that set it.
#[derive(Debug, Default)]
struct Faults {
    lost: OnceLock<String>,
    failed: OnceLock<String>,
}

impl DeviceStatus {
    pub(super) fn new(device: wgpu::Device, name: String, owner: Owner) -> Self {
        let faults = Arc::new(Faults::default());
        if owner == Owner::Crate {
            let seen = faults.clone();
            device.set_device_lost_callback(move |reason, message| {
                let _ = seen.lost.set(format!("{reason:?}: {message}"));
            });
            let seen = faults.clone();
            // Without a handler wgpu panics.
            device.on_uncaptured_error(Arc::new(move |error| {
                log::error!("wgpu: {error}");
                let _ = seen.failed.set(error.to_string());
            }));
        }
        let timeout_ms = AtomicU64::new(TIMEOUT.as_millis() as u64);
        Self { device, name, owner, faults, timeout_ms }
    }

    pub(super) fn set_timeout(&self, timeout: Duration) {
        let ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self.timeout_ms.store(ms, Ordering::Relaxed);
    }

    /// An error if the device is lost or has failed.
    pub(super) fn check(&self) -> Result<()> {
        let Faults { lost, failed } = &*self.faults;
        if failed.get().is_some() && lost.get().is_none() {
            self.probe_lost();
        }
        if let Some(reason) = lost.get() {
            return Err(Error::DeviceLost { device: self.name.clone(), reason: reason.clone() });
        }
        match failed.get() {
            Some(reason) => Err(self.refused(reason.clone())),
            None => Ok(()),
        }
    }

    /// The same, after the device was asked.
    pub(super) fn poll_status(&self) -> Result<()> {
        self.poll(wgpu::PollType::Poll);
        self.check()
    }

    /// What failed may have been the first to meet a lost device.
    fn probe_lost(&self) {
        if self.owner == Owner::Crate {
            // The callback runs in a poll, once all that was submitted is done or dropped.
            let timeout = Some(Duration::from_millis(self.timeout_ms.load(Ordering::Relaxed)));
            self.poll(wgpu::PollType::Wait { submission_index: None, timeout });
        }
        if self.faults.lost.get().is_none() {
            // Another thread may be about to run it, or it is the caller's; but a lost device makes no buffers.
            let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: 4,
                usage: wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: true,
            });
            if buffer.slice(..).get_mapped_range_mut().is_err() {
                self.mark_lost("it makes no buffers any more".into());
            }
        }
    }

    /// Blocks until the device has done a submission, or all.
    pub(super) fn wait(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<()> {
        self.check()?;
        let timeout = Some(Duration::from_millis(self.timeout_ms.load(Ordering::Relaxed)));
        self.poll(wgpu::PollType::Wait { submission_index: submission, timeout });
        self.check()
    }

    /// Lets wgpu run its callbacks, or waits.
    fn poll(&self, poll: wgpu::PollType) {
        // wgpu panics where a driver reports an error that it did not expect.
        match catch_unwind(AssertUnwindSafe(|| self.device.poll(poll))) {
            Ok(Ok(_)) => {}
            Ok(Err(wgpu::PollError::Timeout)) => {
                let timeout = Duration::from_millis(self.timeout_ms.load(Ordering::Relaxed));
                self.mark_lost(format!("it did not finish within {timeout:?}"));
            }
            // Only a lost device does not take what it was given.
            Ok(Err(wgpu::PollError::WrongSubmissionIndex(..))) => {
                self.mark_lost("it took no submission".into())
            }
            Err(_) => self.mark_lost("the driver failed while it was waited for".into()),
        }
    }

    /// Notes that the device is lost.
    pub(super) fn mark_lost(&self, reason: String) {
        let _ = self.faults.lost.set(reason);
    }

    pub(super) fn refused(&self, reason: String) -> Error {
        Error::Gpu { device: self.name.clone(), reason }
    }

    pub(super) fn out_of_memory(&self, bytes: u64) -> Error {
        Error::OutOfMemory { device: self.name.clone(), bytes }
    }

    /// Runs calls that may fail for want of memory or for a limit, and says how they failed. `bytes` is the
    /// size of what they allocate.
    pub(super) fn with_error_scopes<R>(&self, bytes: u64, calls: impl FnOnce() -> R) -> Result<R> {
        self.check()?;
        // In a browser an error is known only later: it reaches the handler of uncaptured errors.
        if cfg!(target_arch = "wasm32") {
            return Ok(calls());
        }
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let result = calls();
        let errors = [now(validation.pop()), now(memory.pop()), now(internal.pop())];
        match errors.into_iter().flatten().next() {
            None => Ok(result),
            Some(error) => {
                // A lost device is the better explanation.
                self.probe_lost();
                self.check()?;
                Err(match error {
                    wgpu::Error::OutOfMemory { .. } => self.out_of_memory(bytes),
                    other => self.refused(other.to_string()),
                })
            }
        }
    }

    /// Runs calls that are not to fail. On a device of ours its own handler would learn of it; the caller's handler is
    /// spared, and what we had recorded is then as undefined as there.
    pub(super) fn with_fault_check<R>(&self, calls: impl FnOnce() -> R) -> Result<R> {
        if self.owner == Owner::Crate {
            self.check()?;
            let result = calls();
            return self.check().map(|()| result);
        }
        self.with_error_scopes(0, calls).inspect_err(|error| {
            if let Error::Gpu { reason, .. } = error {
                let _ = self.faults.failed.set(reason.clone());
            }
        })
    }
}

/// The result of a future that is ready at once, as wgpu's error scopes are on native targets.
fn now<T>(future: impl Future<Output = Option<T>>) -> Option<T> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut cx) {
        std::task::Poll::Ready(result) => result,
        std::task::Poll::Pending => None,
    }
}
