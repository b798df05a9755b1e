//! What goes into buffers and comes out of them.
//!
//! Where the host can map the buffers of tensors, it writes and reads them there. Elsewhere uploads go through the
//! queue, and reads through a staging buffer of the pool.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use futures_intrusive::channel::shared::{OneshotReceiver, oneshot_channel};

use super::pool::{FirstWrite, Pool, PooledBuffer, Purpose};
use super::{Buffer, Context};
use crate::backend::cpu::memory;
use crate::wgsl::BLOCK_BYTES;
use crate::{Element, Error, Result};

/// Bytes that the queue is given at once: each piece takes staging memory of its size.
const UPLOAD: usize = 32 << 20;

/// Elements on their way to the host.
#[derive(Debug)]
pub(crate) struct Readback {
    bytes: u64,
    source: ReadSource,
    submission: wgpu::SubmissionIndex,
}

#[derive(Debug)]
enum ReadSource {
    /// The buffer itself, which the host can map.
    Buffer(Buffer),
    /// A copy.
    Staging(Staging),
}

#[derive(Debug)]
struct Staging {
    /// Until it goes back to the pool.
    pooled: Option<PooledBuffer>,
    pool: Arc<Pool>,
    mapped: OneshotReceiver<Result<(), wgpu::BufferAsyncError>>,
}

impl Drop for Staging {
    /// A read that was given up or has failed: its buffer may be mapped later, so nobody else can have it.
    fn drop(&mut self) {
        if let Some(pooled) = self.pooled.take() {
            self.pool.discard(pooled);
        }
    }
}

impl Context {
    /// Copies elements to the device.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::OutOfMemory`], [`Error::DeviceLost`] or [`Error::Gpu`].
    pub(crate) fn upload_elements<T: Element>(&self, data: &[T]) -> Result<Buffer> {
        // A lost device would take them without a word.
        self.status().poll_status()?;
        let bytes: &[u8] = bytemuck::cast_slice(data);
        let buffer = self.buffer(bytes.len() as u64, FirstWrite::Queued)?;
        if bytes.is_empty() {
            return Ok(buffer);
        }
        if self.maps_writes() && buffer.pooled().is_some_and(|pooled| self.pool().is_done(pooled)) {
            self.write_mapped(&buffer, bytes)?;
            // That much memory is in use until what is recorded of it is done.
            self.recorder().uploaded(self.gpu(), None, bytes.len() as u64);
            self.throttle()?;
            return Ok(buffer);
        }
        for (i, piece) in bytes.chunks(UPLOAD).enumerate() {
            let offset = (i * UPLOAD) as u64;
            self.status().with_error_scopes(piece.len() as u64, || {
                // With the recorder held, so that it is known which submission sets it moving.
                let mut recorder = self.recorder();
                self.write(&buffer, offset, piece);
                recorder.uploaded(self.gpu(), buffer.pooled(), piece.len() as u64);
            })?;
            self.throttle()?;
        }
        self.status().poll_status()?;
        Ok(buffer)
    }

    /// Writes into a buffer that the host can map and the device has done with.
    fn write_mapped(&self, buffer: &Buffer, bytes: &[u8]) -> Result<()> {
        let wgpu = buffer.as_wgpu();
        let len = (bytes.len() as u64).next_multiple_of(BLOCK_BYTES);
        self.map_now(wgpu, wgpu::MapMode::Write, 0..len)?;
        let view = wgpu.slice(..len).get_mapped_range_mut();
        let written = view.map(|mut view| view.slice(..bytes.len()).copy_from_slice(bytes));
        wgpu.unmap();
        written.map_err(|error| self.status().refused(error.to_string()))
    }

    /// Maps a buffer that the device has done with. Nothing may be submitted that uses it until it is unmapped.
    ///
    /// To try and give up would not do: wgpu keeps a mapping that was given up in the list of the submission that it
    /// waited for, and lets the next one of that buffer through when that is done, whatever else is at work on it.
    fn map_now(&self, buffer: &wgpu::Buffer, mode: wgpu::MapMode, range: Range<u64>) -> Result<()> {
        let mapped = Arc::new(OnceLock::new());
        let seen = mapped.clone();
        self.status().with_fault_check(|| {
            buffer.map_async(mode, range, move |result| {
                let _ = seen.set(result.is_ok());
            });
        })?;
        loop {
            self.status().poll_status()?;
            match mapped.get() {
                Some(true) => return Ok(()),
                Some(false) => self.status().mark_lost("a buffer could not be mapped".into()),
                // Another thread's poll has it in hand.
                None => std::thread::yield_now(),
            }
        }
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
    /// block: on native targets a thread waits for the device, in a browser the event loop does.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::DeviceLost`], [`Error::Gpu`], or [`Error::Unsupported`] for a buffer of the
    /// caller's without `COPY_SRC`.
    pub(crate) async fn read_elements<T: Element>(&self, buffer: &Buffer, len: usize) -> Result<Vec<T>> {
        if len == 0 {
            return self.check_lost().map(|()| Vec::new());
        }
        let mut data = memory::zeroed(len)?;
        let mut readback = self.begin_read(buffer)?;
        loop {
            self.done(readback.submission.clone()).await?;
            match self.finish_read(readback, &mut data).await? {
                None => return Ok(data),
                Some(again) => readback = again,
            }
        }
    }

    /// The same, blocking until the elements are there.
    ///
    /// # Errors
    /// As [`read_elements`](Self::read_elements).
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn read_elements_blocking<T: Element>(&self, buffer: &Buffer, len: usize) -> Result<Vec<T>> {
        if len == 0 {
            return self.check_lost().map(|()| Vec::new());
        }
        let mut data = memory::zeroed(len)?;
        let readback = self.begin_read(buffer)?;
        self.read_into(readback, &mut data)?;
        Ok(data)
    }

    /// Blocks until a read is done that was begun.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn read_into<T: Element>(&self, mut readback: Readback, data: &mut [T]) -> Result<()> {
        loop {
            self.status().wait(Some(readback.submission.clone()))?;
            // The device has done it, so nothing is left to wait for.
            match pollster::block_on(self.finish_read(readback, data))? {
                None => return Ok(()),
                Some(again) => readback = again,
            }
        }
    }

    /// Submits what is pending, and begins to read a buffer.
    pub(crate) fn begin_read(&self, buffer: &Buffer) -> Result<Readback> {
        let usage = buffer.as_wgpu().usage();
        if buffer.pooled().is_some() && usage.contains(wgpu::BufferUsages::MAP_READ) {
            let submission = self.submit()?;
            return Ok(Readback {
                bytes: buffer.bytes(),
                source: ReadSource::Buffer(buffer.clone()),
                submission,
            });
        }
        if !usage.contains(wgpu::BufferUsages::COPY_SRC) {
            return Err(Error::Unsupported {
                what: "reading a buffer of yours that was created without BufferUsages::COPY_SRC".into(),
                device: self.info().to_string(),
                instead: "create it with that usage".into(),
            });
        }
        self.begin_staging(buffer)
    }

    fn begin_staging(&self, buffer: &Buffer) -> Result<Readback> {
        let len = buffer.bytes().next_multiple_of(BLOCK_BYTES);
        let pooled = self.pooled_buffer(Purpose::Readback, len, FirstWrite::Recorded)?;
        let (sender, mapped) = oneshot_channel();
        let staging = Staging { pooled: Some(pooled), pool: self.pool().clone(), mapped };
        let Some(pooled) = &staging.pooled else {
            return Err(self.status().refused("no staging buffer".into()));
        };
        let submission = self.status().with_fault_check(|| {
            let mut recorder = self.recorder();
            buffer.pooled().into_iter().chain([pooled]).for_each(|pooled| self.pool().used(pooled));
            let submission = recorder.submit_with(self.gpu(), |encoder| {
                encoder.copy_buffer_to_buffer(buffer.as_wgpu(), buffer.offset(), &pooled.buffer, 0, len);
            });
            drop(recorder);
            pooled.buffer.map_async(wgpu::MapMode::Read, ..len, move |result| {
                let _ = sender.send(result);
            });
            submission
        })?;
        Ok(Readback { bytes: buffer.bytes(), source: ReadSource::Staging(staging), submission })
    }

    /// Copies what the device has done. Returns another read to wait for where the buffer is in use again.
    async fn finish_read<T: Element>(&self, readback: Readback, data: &mut [T]) -> Result<Option<Readback>> {
        let len = readback.bytes.next_multiple_of(BLOCK_BYTES);
        match readback.source {
            ReadSource::Buffer(buffer) => {
                // Held while it is mapped: no other thread may submit what uses it.
                let recorder = self.recorder();
                if !buffer.pooled().is_some_and(|pooled| self.pool().is_done(pooled)) {
                    drop(recorder);
                    return self.begin_staging(&buffer).map(Some);
                }
                let wgpu = buffer.as_wgpu();
                self.map_now(wgpu, wgpu::MapMode::Read, 0..len)?;
                let copied = self.copy_mapped(wgpu.slice(..len), data);
                wgpu.unmap();
                drop(recorder);
                copied?;
            }
            ReadSource::Staging(mut staging) => {
                if !matches!(staging.mapped.receive().await, Some(Ok(()))) {
                    self.status().mark_lost("a result could not be mapped".into());
                }
                self.check_lost()?;
                let Some(pooled) = staging.pooled.take() else {
                    return Err(self.status().refused("a staging buffer is gone".into()));
                };
                let copied = self.copy_mapped(pooled.buffer.slice(..len), data);
                pooled.buffer.unmap();
                staging.pool.give_back(pooled);
                copied?;
            }
        }
        Ok(None)
    }

    fn copy_mapped<T: Element>(&self, slice: wgpu::BufferSlice<'_>, data: &mut [T]) -> Result<()> {
        let view = slice.get_mapped_range().map_err(|error| self.status().refused(error.to_string()))?;
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(data);
        bytes.copy_from_slice(&view[..bytes.len()]);
        Ok(())
    }
}
