//! Submissions: in the order of recording, without a lock that a callback could wait for, and isolated: a caller's buffer
//! that wgpu refuses fails only the operations that use it.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::batch::{Batch, LoggedDispatch};
use super::pool::PooledBuffer;
use super::submit_lock::Submitting;
use super::{Buffer, Context};
use crate::wgsl::BLOCK_BYTES;
use crate::{Error, Result};

/// A copy after a batch, of whole blocks.
#[derive(Clone, Copy)]
pub(super) struct CopyAfter<'a> {
    pub from: &'a Buffer,
    pub to: &'a PooledBuffer,
}

impl CopyAfter<'_> {
    fn encode(self, encoder: &mut wgpu::CommandEncoder) {
        let (from, len) = (self.from, self.from.bytes().next_multiple_of(BLOCK_BYTES));
        encoder.copy_buffer_to_buffer(from.as_wgpu(), from.offset(), &self.to.buffer, 0, len);
    }
}

/// The period in which operations on a bad buffer are skipped.
struct Recovery<'a> {
    context: &'a Context,
    /// The dispatches that are not submitted again yet.
    log: &'a [LoggedDispatch],
}

impl<'a> Recovery<'a> {
    fn begin(context: &'a Context, log: &'a [LoggedDispatch]) -> Self {
        context.recovering().store(true, Ordering::Release);
        Self { context, log }
    }
}

impl Drop for Recovery<'_> {
    /// After a panic of a callback the state of the operations is unknown.
    fn drop(&mut self) {
        let cause = || self.context.status().blocked("a callback panicked while a bad buffer was dealt with");
        self.log.iter().for_each(|dispatch| self.context.poison(dispatch, &cause()));
        self.context.recovering().store(false, Ordering::Release);
    }
}

impl Context {
    /// Submits pending work. The next flush or wait reports errors of operations on a bad buffer of the caller.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Blocked`], or [`Error::Gpu`] if wgpu refused what was recorded.
    pub(super) fn submit(&self) -> Result<wgpu::SubmissionIndex> {
        self.submit_with(None)
    }

    /// Submits pending work, and then a copy.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), and [`Error::InvalidBuffer`] if the copy was refused.
    pub(super) fn submit_with(&self, copy: Option<CopyAfter<'_>>) -> Result<wgpu::SubmissionIndex> {
        let _order = self.order()?;
        let uses: Vec<_> =
            copy.iter().flat_map(|copy| copy.from.pooled().into_iter().chain([copy.to])).collect();
        // Checked now: a later export has to wait for this submission.
        let exported = copy.is_some_and(|copy| copy.from.is_exported());
        let mut batch = self.recorder().take(self.pool(), &uses);
        let (generation, log) = (batch.generation, batch.take_log());
        // Fallible work is submitted separately.
        let joined = copy.filter(|_| !exported && log.is_none());
        let mut submitted = match &log {
            None => self.submit_own(batch, joined),
            Some(log) => {
                let submitted = self.submit_logged(batch, log);
                self.recorder().resolved();
                submitted
            }
        };
        if let (Some(copy), None, Ok(_)) = (copy, joined, &submitted) {
            submitted = self.submit_alone(copy, exported);
        }
        self.pool().generations().all_submitted();
        let index = submitted?;
        self.status()
            .watch(|| self.queue().on_submitted_work_done(self.pool().generations().when_done(generation)));
        self.recorder().submitted(self.pool(), generation, index.clone());
        Ok(index)
    }

    /// Returns the first error of a recorded operation that had to be skipped.
    pub(super) fn take_fault(&self) -> Result<()> {
        let fault = self.fault().lock().unwrap_or_else(PoisonError::into_inner).take();
        fault.map_or(Ok(()), Err)
    }

    fn order(&self) -> Result<Submitting<'_>> {
        let blocked = |reason| self.status().blocked(reason);
        let order = self.submit_lock().acquire(self.status().timeout());
        let order = order.ok_or_else(|| blocked("a callback of wgpu in another thread does not return"))?;
        if self.recovering().load(Ordering::Acquire) {
            return Err(blocked(
                "it is leaving out operations on a bad buffer; call again outside of the callback",
            ));
        }
        // Earlier holders of the lock, also further up in this thread, have submitted.
        self.pool().generations().all_submitted();
        Ok(order)
    }

    /// Submits work on pool buffers only. It cannot fail except for a bug, after which nothing is certain.
    fn submit_own(&self, batch: Batch, copy: Option<CopyAfter<'_>>) -> Result<wgpu::SubmissionIndex> {
        let (index, error) = match self.finish(batch, copy)? {
            Ok(commands) => self.status().submit(self.queue(), commands),
            Err(error) => return Err(self.fail(error)),
        };
        match error {
            None => Ok(index),
            Some(error) if self.status().has_refused(index.clone()) => Err(self.fail(error)),
            Some(error) => {
                // wgpu has no way to pass it on.
                log::error!("in a callback: {error}");
                Ok(index)
            }
        }
    }

    fn fail(&self, error: wgpu::Error) -> Error {
        let error = self.status().explain_refusal(0, error);
        if let Error::Gpu { reason, .. } = &error {
            self.status().mark_failed(reason.clone());
        }
        error
    }

    /// Submits work on buffers that the caller may have mapped or destroyed. Operations that use a bad one are skipped, and
    /// so are those that use their results.
    fn submit_logged(&self, batch: Batch, log: &[LoggedDispatch]) -> Result<wgpu::SubmissionIndex> {
        let commands = self.finish(batch, None)?;
        // Work recorded while another pass was being submitted may read what that pass failed to compute.
        let (refused, error) = if log.iter().any(|dispatch| dispatch.missing().is_some()) {
            (None, None)
        } else {
            match commands {
                Err(error) => (None, Some(error)),
                Ok(commands) => match self.status().submit(self.queue(), commands) {
                    (index, None) => return Ok(index),
                    (index, error) => (Some(index), error),
                },
            }
        };
        // First, since asking for reasons runs callbacks.
        let mut recovery = Recovery::begin(self, log);
        let sure = refused.is_none_or(|index| self.status().has_refused(index));
        let cause = error.map(|error| self.blame(true, self.status().explain_refusal(0, error)));
        self.check_lost()?;
        let recovered = match cause.filter(|_| !sure) {
            None => self.leave_out_bad(log),
            // A callback's error, or ours with another submission since: it may have run, and must not run twice.
            Some(cause) => {
                log.iter().for_each(|dispatch| self.poison(dispatch, &cause));
                self.dispatch_again(&[], false)
            }
        };
        recovery.log = &[];
        recovered
    }

    /// Submits the dispatches of a command buffer that has not run, except those whose operands are missing, or whose
    /// buffers wgpu still refuses.
    fn leave_out_bad(&self, log: &[LoggedDispatch]) -> Result<wgpu::SubmissionIndex> {
        let mut kept = Vec::new();
        for dispatch in log {
            let probe = || self.dispatch_again(&[dispatch], true).err().map(|error| self.blame(true, error));
            let cause = dispatch.missing().cloned().or_else(|| dispatch.exported.then(probe)?);
            match cause {
                None => kept.push(dispatch),
                Some(cause) => self.poison(dispatch, &cause),
            }
        }
        self.dispatch_again(&kept, false).or_else(|error| {
            let cause = self.blame(true, error);
            kept.into_iter().for_each(|dispatch| self.poison(dispatch, &cause));
            self.dispatch_again(&[], false)
        })
    }

    /// Attributes a refusal of work on buffers that the caller may have spoiled.
    pub(super) fn blame(&self, exported: bool, error: Error) -> Error {
        match error {
            Error::Gpu { reason, .. } if exported => self.status().invalid_buffer(reason),
            error => error,
        }
    }

    /// Marks the outputs of a dispatch.
    fn poison(&self, dispatch: &LoggedDispatch, cause: &Error) {
        dispatch
            .operands
            .iter()
            .filter(|(written, _)| *written)
            .for_each(|(_, poison)| poison.set(cause.clone()));
        self.fault().lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| cause.clone());
    }

    /// Submits dispatches by themselves; as a probe, without workgroups.
    fn dispatch_again(&self, dispatches: &[&LoggedDispatch], probe: bool) -> Result<wgpu::SubmissionIndex> {
        let commands = self.status().scoped(0, || {
            let mut encoder = self.device().create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for dispatch in dispatches {
                let [x, y] = if probe { [0, 1] } else { dispatch.workgroups };
                pass.set_pipeline(&dispatch.pipeline);
                pass.set_bind_group(0, &dispatch.group, &[dispatch.offset]);
                pass.dispatch_workgroups(x, y, 1);
            }
            drop(pass);
            encoder.finish()
        })?;
        self.submit_commands(commands)
    }

    /// Submits work that can be skipped: a callback's error counts as its own.
    fn submit_commands(&self, commands: wgpu::CommandBuffer) -> Result<wgpu::SubmissionIndex> {
        match self.status().submit(self.queue(), commands) {
            (index, None) => Ok(index),
            (_, Some(error)) => Err(self.status().explain_refusal(0, error)),
        }
    }

    /// Submits a copy that may fail because of the caller's buffer.
    fn submit_alone(&self, copy: CopyAfter<'_>, exported: bool) -> Result<wgpu::SubmissionIndex> {
        let commands = self.status().scoped(0, || {
            let mut encoder = self.device().create_command_encoder(&Default::default());
            copy.encode(&mut encoder);
            encoder.finish()
        });
        let submitted = commands.and_then(|commands| self.submit_commands(commands));
        submitted.map_err(|error| self.blame(exported, error))
    }

    /// The command buffer of a batch and a copy, or wgpu's error, unless the device is lost.
    fn finish(
        &self,
        batch: Batch,
        copy: Option<CopyAfter<'_>>,
    ) -> Result<Result<wgpu::CommandBuffer, wgpu::Error>> {
        let encode = |encoder: &mut wgpu::CommandEncoder| {
            if let Some(copy) = copy {
                copy.encode(encoder);
            }
        };
        // Also for a lost device, so that dropping it unused raises nothing.
        let (commands, error) = self.status().watch(|| batch.finish(self.gpu(), encode));
        self.check_lost()?;
        Ok(error.map_or(Ok(commands), Err))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::super::submit_lock::SubmitLock;

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
