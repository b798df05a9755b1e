//! Submissions: in the order of recording, without a lock that a callback could wait for, and so that a buffer of the
//! caller's that wgpu refuses fails only what uses it.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::batch::{Batch, LoggedDispatch};
use super::pool::PooledBuffer;
use super::submit_lock::Submitting;
use super::{Buffer, Context};
use crate::wgsl::BLOCK_BYTES;
use crate::{Error, Result};

/// A copy behind a batch, of whole blocks.
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

/// The time in which operations on a bad buffer are left out.
struct Recovery<'a> {
    context: &'a Context,
    /// What is not submitted again yet.
    log: &'a [LoggedDispatch],
}

impl<'a> Recovery<'a> {
    fn begin(context: &'a Context, log: &'a [LoggedDispatch]) -> Self {
        context.recovering().store(true, Ordering::Release);
        Self { context, log }
    }
}

impl Drop for Recovery<'_> {
    /// After a panic of a callback nothing is known of the operations.
    fn drop(&mut self) {
        let cause = || self.context.status().blocked("a callback panicked while a bad buffer was dealt with");
        self.log.iter().for_each(|dispatch| self.context.poison(dispatch, &cause()));
        self.context.recovering().store(false, Ordering::Release);
    }
}

impl Context {
    /// Submits what is pending. What became of operations on a bad buffer of the caller's, the next flush or wait says.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Blocked`], or [`Error::Gpu`] if wgpu refused what was recorded.
    pub(super) fn submit(&self) -> Result<wgpu::SubmissionIndex> {
        self.submit_with(None)
    }

    /// Submits what is pending, and then a copy.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), and [`Error::InvalidBuffer`] if it is the copy that was refused.
    pub(super) fn submit_with(&self, copy: Option<CopyAfter<'_>>) -> Result<wgpu::SubmissionIndex> {
        let _order = self.order()?;
        let uses: Vec<_> =
            copy.iter().flat_map(|copy| copy.from.pooled().into_iter().chain([copy.to])).collect();
        // Asked now: who exports it has to wait for what is submitted here.
        let exported = copy.is_some_and(|copy| copy.from.is_exported());
        let mut batch = self.recorder().take(self.pool(), &uses);
        let (generation, log) = (batch.generation, batch.take_log());
        // What can fail goes by itself.
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

    /// The first error of an operation that was recorded, and had to be left out since.
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
        // Whoever had the lock before, or has it further up in this thread, has submitted.
        self.pool().generations().all_submitted();
        Ok(order)
    }

    /// Submits what works on buffers of the pool alone. It cannot fail but for a bug, after which nothing is sure.
    fn submit_own(&self, batch: Batch, copy: Option<CopyAfter<'_>>) -> Result<wgpu::SubmissionIndex> {
        let (index, error) = match self.finish(batch, copy)? {
            Ok(commands) => self.status().submit(self.queue(), commands),
            Err(error) => return Err(self.fail(error)),
        };
        match error {
            None => Ok(index),
            Some(error) if self.status().has_refused(index.clone()) => Err(self.fail(error)),
            Some(error) => {
                // wgpu has no way to hand it on.
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

    /// Submits what works on buffers that the caller may have mapped or destroyed. What uses a bad one is left out, and what
    /// uses its results.
    fn submit_logged(&self, batch: Batch, log: &[LoggedDispatch]) -> Result<wgpu::SubmissionIndex> {
        let commands = self.finish(batch, None)?;
        // What was recorded while another pass was being submitted may read what that did not make.
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
        // First, since to ask for reasons runs callbacks.
        let mut recovery = Recovery::begin(self, log);
        let sure = refused.is_none_or(|index| self.status().has_refused(index));
        let cause = error.map(|error| self.blame(true, self.status().explain_refusal(0, error)));
        self.check_lost()?;
        let recovered = match cause.filter(|_| !sure) {
            None => self.leave_out_bad(log),
            // A callback's error, or ours and another's submission since: it may have run, and must not run twice.
            Some(cause) => {
                log.iter().for_each(|dispatch| self.poison(dispatch, &cause));
                self.dispatch_again(&[], false)
            }
        };
        recovery.log = &[];
        recovered
    }

    /// Submits the dispatches of a command buffer that has not run, without those whose operands are missing, or whose
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

    /// Whose fault a refusal is, of what works on buffers that the caller may have spoiled.
    pub(super) fn blame(&self, exported: bool, error: Error) -> Error {
        match error {
            Error::Gpu { reason, .. } if exported => self.status().invalid_buffer(reason),
            error => error,
        }
    }

    /// Marks what a dispatch was to make.
    fn poison(&self, dispatch: &LoggedDispatch, cause: &Error) {
        dispatch
            .operands
            .iter()
            .filter(|(written, _)| *written)
            .for_each(|(_, poison)| poison.set(cause.clone()));
        self.fault().lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| cause.clone());
    }

    /// Submits dispatches by themselves; as a probe, without work.
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

    /// Submits what can be left out: an error of a callback's counts as its own.
    fn submit_commands(&self, commands: wgpu::CommandBuffer) -> Result<wgpu::SubmissionIndex> {
        match self.status().submit(self.queue(), commands) {
            (index, None) => Ok(index),
            (_, Some(error)) => Err(self.status().explain_refusal(0, error)),
        }
    }

    /// Submits a copy that the caller's buffer may be bad for.
    fn submit_alone(&self, copy: CopyAfter<'_>, exported: bool) -> Result<wgpu::SubmissionIndex> {
        let commands = self.status().scoped(0, || {
            let mut encoder = self.device().create_command_encoder(&Default::default());
            copy.encode(&mut encoder);
            encoder.finish()
        });
        let submitted = commands.and_then(|commands| self.submit_commands(commands));
        submitted.map_err(|error| self.blame(exported, error))
    }

    /// The command buffer of a batch and a copy, or what wgpu says to it, unless the device is lost.
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
        // Also of a lost device, so that what is dropped unused raises nothing.
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
