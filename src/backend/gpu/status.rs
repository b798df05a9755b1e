//! Whether a device still responds: its errors, its loss, and the waits for it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::{Error, Result};

/// How long a wait for the device lasts before the device is considered lost. A submission and those before it are
/// bounded work, seconds even for a software adapter.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Who owns the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// Opened here: its callbacks are ours.
    Crate,
    /// The caller's, whose callbacks stay.
    Caller,
}

/// A device and its known errors. A lost device accepts uploads and submissions silently, and a failed one leaves
/// results undefined, so every call checks here first.
#[derive(Debug)]
pub(super) struct DeviceStatus {
    device: wgpu::Device,
    name: String,
    owner: Owner,
    faults: Arc<Faults>,
    timeout_ms: AtomicU64,
}

/// The first error. Separate from the device, which holds callbacks that set it.
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
                // On other targets our calls are in an error scope, so this error is the caller's.
                if cfg!(target_arch = "wasm32") {
                    let _ = seen.failed.set(error.to_string());
                }
            }));
        }
        let timeout_ms = AtomicU64::new(TIMEOUT.as_millis() as u64);
        Self { device, name, owner, faults, timeout_ms }
    }

    pub(super) fn set_timeout(&self, timeout: Duration) {
        let ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self.timeout_ms.store(ms, Ordering::Relaxed);
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.load(Ordering::Relaxed))
    }

    /// Returns an error if the device is lost or has failed.
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

    /// Does the same after polling the device.
    pub(super) fn poll_status(&self) -> Result<()> {
        self.poll(wgpu::PollType::Poll);
        self.check()
    }

    /// Checks whether a failure was the first sign of a lost device.
    fn probe_lost(&self) {
        if self.owner == Owner::Crate {
            // The callback runs in a poll, once all submitted work is done or dropped.
            self.poll(wgpu::PollType::Wait { submission_index: None, timeout: Some(self.timeout()) });
        }
        if self.faults.lost.get().is_none() {
            // Another thread may be about to run it, or it is the caller's; but a lost device creates no buffers.
            let (created, _) = self.watch(|| {
                let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
                    label: None,
                    size: 4,
                    usage: wgpu::BufferUsages::COPY_SRC,
                    mapped_at_creation: true,
                });
                buffer.slice(..).get_mapped_range_mut().is_ok()
            });
            if !created {
                self.mark_lost("it makes no buffers any more".into());
            }
        }
    }

    /// Blocks until the device has completed a submission, or all.
    pub(super) fn wait(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<()> {
        self.check()?;
        self.poll(wgpu::PollType::Wait { submission_index: submission, timeout: Some(self.timeout()) });
        self.check()
    }

    /// Lets wgpu run its callbacks, or waits. The callbacks may be the caller's: no lock may be held here.
    fn poll(&self, poll: wgpu::PollType) {
        match self.try_poll(poll) {
            Some(Ok(_)) | None => {}
            Some(Err(wgpu::PollError::Timeout)) => {
                self.mark_lost(format!("it did not finish within {:?}", self.timeout()));
            }
            // Only a lost device rejects a submission that was given to it.
            Some(Err(wgpu::PollError::WrongSubmissionIndex(..))) => {
                self.mark_lost("it took no submission".into())
            }
        }
    }

    /// Polls, and leaves errors of the poll to the caller; `None` if wgpu panicked, as it does when a driver reports an unexpected error.
    fn try_poll(&self, poll: wgpu::PollType) -> Option<Result<wgpu::PollStatus, wgpu::PollError>> {
        match catch_unwind(AssertUnwindSafe(|| self.device.poll(poll))) {
            Ok(polled) => Some(polled),
            Err(panic) if is_of_wgpu(&*panic) => {
                self.mark_lost("the driver failed while it was waited for".into());
                None
            }
            // A panic of a callback goes on to its owner.
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Notes that the device is lost.
    pub(super) fn mark_lost(&self, reason: String) {
        let _ = self.faults.lost.set(reason);
    }

    /// Notes that wgpu refused commands recorded only here: their outputs are undefined.
    pub(super) fn mark_failed(&self, reason: String) {
        let _ = self.faults.failed.set(reason);
    }

    pub(super) fn refused(&self, reason: String) -> Error {
        Error::Gpu { device: self.name.clone(), reason }
    }

    pub(super) fn blocked(&self, reason: &str) -> Error {
        Error::Blocked { device: self.name.clone(), reason: reason.into() }
    }

    pub(super) fn invalid_buffer(&self, reason: String) -> Error {
        Error::InvalidBuffer { device: self.name.clone(), reason }
    }

    pub(super) fn out_of_memory(&self, bytes: u64) -> Error {
        Error::OutOfMemory { device: self.name.clone(), bytes }
    }

    /// Explains why a call failed: a lost device is the better explanation. It polls the device, so no lock may be held
    /// here.
    pub(super) fn explain(&self, error: Error) -> Error {
        self.probe_lost();
        self.check().err().unwrap_or(error)
    }

    /// Runs wgpu calls that may raise errors, and returns how they failed: neither the caller's handler nor wgpu's, which
    /// panics, sees the errors. No lock may be held here, except one that `calls` takes and releases. `bytes` is the size
    /// of what they allocate.
    pub(super) fn scoped<R>(&self, bytes: u64, calls: impl FnOnce() -> R) -> Result<R> {
        self.check()?;
        match self.watch(calls) {
            (result, None) => Ok(result),
            (_, Some(error)) => Err(self.explain_refusal(bytes, error)),
        }
    }

    /// Explains why wgpu refused calls. It polls the device, so no lock may be held here.
    pub(super) fn explain_refusal(&self, bytes: u64, error: wgpu::Error) -> Error {
        self.explain(match error {
            wgpu::Error::OutOfMemory { .. } => self.out_of_memory(bytes),
            other => self.refused(other.to_string()),
        })
    }

    /// Submits a command buffer, and returns an error that was raised meanwhile: wgpu's refusal, or an error that a
    /// callback of the caller raised when the command buffer was in the queue. No lock may be held that a callback could
    /// wait for.
    pub(super) fn submit(
        &self,
        queue: &wgpu::Queue,
        commands: wgpu::CommandBuffer,
    ) -> (wgpu::SubmissionIndex, Option<wgpu::Error>) {
        self.watch(|| queue.submit([commands]))
    }

    /// Whether wgpu has certainly refused a submission: then nothing of it has run. It runs callbacks, so no lock may be
    /// held here.
    pub(super) fn has_refused(&self, submission: wgpu::SubmissionIndex) -> bool {
        // A refused index is beyond the last accepted one, unless another was accepted since.
        let poll = wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(Duration::ZERO) };
        matches!(self.try_poll(poll), None | Some(Err(wgpu::PollError::WrongSubmissionIndex(..))))
    }

    /// Runs calls of wgpu, and returns the first error that they raise.
    pub(super) fn watch<R>(&self, calls: impl FnOnce() -> R) -> (R, Option<wgpu::Error>) {
        // In a browser an error is known only later: it reaches the handler of uncaptured errors.
        if cfg!(target_arch = "wasm32") {
            return (calls(), None);
        }
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let result = calls();
        let errors = [now(validation.pop()), now(memory.pop()), now(internal.pop())];
        (result, errors.into_iter().flatten().next())
    }
}

/// Whether a panic is wgpu's, over an unexpected error.
fn is_of_wgpu(panic: &(dyn Any + Send)) -> bool {
    panic.downcast_ref::<String>().is_some_and(|text| text.starts_with("Error in Device::poll"))
}

/// The result of a future that is ready at once, as wgpu's error scopes are on native targets.
pub(super) fn now<T>(future: impl Future<Output = Option<T>>) -> Option<T> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut cx) {
        std::task::Poll::Ready(result) => result,
        std::task::Poll::Pending => None,
    }
}
