//! What goes into buffers and comes out of them.

use std::pin::pin;
use std::task::Poll;

use futures_intrusive::channel::shared::{OneshotReceiver, oneshot_channel};

use super::pool::{Buffer, FirstWrite, Purpose};
use super::{Context, dispatch::BLOCK};
use crate::{Element, Error, Result, host};

/// Bytes that the queue is given at once: each piece takes staging memory of its size.
const UPLOAD: usize = 32 << 20;

/// A copy of a buffer on its way to the host.
struct Readback {
    staging: wgpu::Buffer,
    bytes: u64,
    submission: wgpu::SubmissionIndex,
    mapped: OneshotReceiver<Result<(), wgpu::BufferAsyncError>>,
}

impl Context {
    /// Copies elements to the device.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::OutOfMemory`], [`Error::DeviceLost`] or [`Error::Gpu`].
    pub fn upload<T: Element>(&self, data: &[T]) -> Result<Buffer> {
        let bytes: &[u8] = bytemuck::cast_slice(data);
        let buffer = self.buffer(bytes.len() as u64, FirstWrite::Queued)?;
        for (i, piece) in bytes.chunks(UPLOAD).enumerate() {
            let offset = (i * UPLOAD) as u64;
            self.scoped(piece.len() as u64, || self.write(&buffer, offset, piece))?;
            self.recorder().uploaded(self.target(), piece.len() as u64);
        }
        Ok(buffer)
    }

    /// Has the queue write `bytes`. It writes whole words, so the last is filled up with zeros.
    fn write(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) {
        let (words, rest) = bytes.split_at(bytes.len() / 4 * 4);
        if !words.is_empty() {
            self.queue().write_buffer(buffer.as_wgpu(), offset, words);
        }
        if !rest.is_empty() {
            let mut last = [0; 4];
            last[..rest.len()].copy_from_slice(rest);
            self.queue().write_buffer(buffer.as_wgpu(), offset + words.len() as u64, &last);
        }
    }

    /// Copies the first `len` elements of a buffer to the host, after all that was recorded before. Does not
    /// block: on native targets the future lets wgpu run its callbacks each time it is polled, and asks to be
    /// polled again; in a browser the event loop runs them.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::DeviceLost`] or [`Error::Gpu`].
    pub async fn read<T: Element>(&self, buffer: &Buffer, len: usize) -> Result<Vec<T>> {
        if len == 0 {
            return self.check().map(|()| Vec::new());
        }
        let readback = self.begin_read(buffer)?;
        let mapped = {
            let mut mapped = pin!(readback.mapped.receive());
            std::future::poll_fn(|cx| {
                if cfg!(not(target_arch = "wasm32")) {
                    if let Err(error) = self.poll(wgpu::PollType::Poll) {
                        return Poll::Ready(Err(error));
                    }
                    cx.waker().wake_by_ref();
                }
                mapped.as_mut().poll(cx).map(Ok)
            })
            .await?
        };
        self.finish_read(readback, mapped, len)
    }

    /// The same, blocking until the elements are there.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read_blocking<T: Element>(&self, buffer: &Buffer, len: usize) -> Result<Vec<T>> {
        if len == 0 {
            return self.check().map(|()| Vec::new());
        }
        let readback = self.begin_read(buffer)?;
        let submission_index = Some(readback.submission.clone());
        self.poll(wgpu::PollType::Wait { submission_index, timeout: None })?;
        let mapped = pollster::block_on(readback.mapped.receive());
        self.finish_read(readback, mapped, len)
    }

    /// Submits what is pending and a copy of `buffer` to a staging buffer, and asks for that to be mapped.
    fn begin_read(&self, buffer: &Buffer) -> Result<Readback> {
        let bytes = buffer.bytes().next_multiple_of(BLOCK);
        let staging = self.wgpu_buffer(Purpose::Readback, bytes, FirstWrite::Recorded)?;
        let submission = self.recorder().submit_with(self.target(), |encoder| {
            encoder.copy_buffer_to_buffer(buffer.as_wgpu(), 0, &staging, 0, bytes);
        });
        self.check()?;
        let (sender, mapped) = oneshot_channel();
        staging.slice(..bytes).map_async(wgpu::MapMode::Read, move |result| {
            let _ = sender.send(result);
        });
        Ok(Readback { staging, bytes, submission, mapped })
    }

    fn finish_read<T: Element>(
        &self,
        readback: Readback,
        mapped: Option<Result<(), wgpu::BufferAsyncError>>,
        len: usize,
    ) -> Result<Vec<T>> {
        let failed = |reason: String| Error::Gpu { device: self.info().to_string(), reason };
        match mapped {
            Some(Ok(())) => {}
            // A lost device fails the mapping: say so rather than what came of it.
            _ => return Err(self.check().err().unwrap_or_else(|| failed("a buffer was not mapped".into()))),
        }
        let mut data = host::zeroed(len)?;
        {
            let view = readback.staging.slice(..readback.bytes).get_mapped_range();
            let view = view.map_err(|error| failed(error.to_string()))?;
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut data);
            bytes.copy_from_slice(&view[..bytes.len()]);
        }
        readback.staging.unmap();
        self.pool().give_back(Purpose::Readback, readback.staging);
        Ok(data)
    }
}
