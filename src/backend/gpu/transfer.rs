//! Transfers between the host and buffers.
//!
//! If the host can map tensor buffers, it writes fresh ones directly, and reads directly those that nobody else holds.
//! Otherwise uploads go through the queue, and reads through a staging buffer of the pool: others, including the caller,
//! may submit a shared tensor while it is mapped.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use futures_intrusive::channel::shared::{OneshotReceiver, oneshot_channel};

use super::pool::{FirstWrite, Pool, PooledBuffer, Purpose};
use super::submit::CopyAfter;
use super::{Buffer, Context, status};
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
    /// The buffer itself, which the host can map and nobody else holds.
    #[cfg(not(target_arch = "wasm32"))]
    Buffer(Buffer),
    /// A copy.
    Staging(Staging),
}

#[derive(Debug)]
struct Staging {
    /// Present until it goes back to the pool.
    pooled: Option<PooledBuffer>,
    pool: Arc<Pool>,
    /// Present once the mapping is requested.
    mapped: Option<Mapped>,
}

/// The result that a mapping's callback sends.
type Mapped = OneshotReceiver<Result<(), wgpu::BufferAsyncError>>;

impl Drop for Staging {
    /// A read that was abandoned or has failed: its buffer may be mapped later, so it cannot be reused.
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
    pub(crate) fn upload_bytes(&self, bytes: &[u8]) -> Result<Buffer> {
        // A lost device would accept them silently.
        self.status().poll_status()?;
        let buffer = self.buffer(bytes.len() as u64, FirstWrite::Queued)?;
        if bytes.is_empty() {
            return Ok(buffer);
        }
        if self.maps_writes() && buffer.pooled().is_some_and(|pooled| self.pool().is_done(pooled)) {
            self.write_mapped(&buffer, bytes)?;
            // This much memory is in use until the commands recorded for it are done.
            self.recorder().uploaded(self.pool(), None, bytes.len() as u64);
            self.submit_if_full()?;
            return Ok(buffer);
        }
        for (i, piece) in bytes.chunks(UPLOAD).enumerate() {
            let offset = (i * UPLOAD) as u64;
            self.status().scoped(piece.len() as u64, || {
                // With the recorder locked, so that it is known which submission starts the transfer.
                let mut recorder = self.recorder();
                self.write(&buffer, offset, piece);
                recorder.uploaded(self.pool(), buffer.pooled(), piece.len() as u64);
            })?;
            self.submit_if_full()?;
        }
        self.status().poll_status()?;
        Ok(buffer)
    }

    fn submit_if_full(&self) -> Result<()> {
        let full = self.recorder().is_full();
        if full {
            self.submit()?;
        }
        self.throttle()
    }

    /// Writes into a buffer that the host can map and the device no longer uses.
    fn write_mapped(&self, buffer: &Buffer, bytes: &[u8]) -> Result<()> {
        let wgpu = buffer.as_wgpu();
        let len = (bytes.len() as u64).next_multiple_of(BLOCK_BYTES);
        buffer.keep_from_pool(true);
        self.map_now(wgpu, wgpu::MapMode::Write, 0..len)?;
        let view = wgpu.slice(..len).get_mapped_range_mut();
        let written = view.map(|mut view| view.slice(..bytes.len()).copy_from_slice(bytes));
        self.unmap(wgpu);
        buffer.keep_from_pool(false);
        written.map_err(|error| self.status().explain(self.status().refused(error.to_string())))
    }

    /// Maps a buffer that the device no longer uses and nobody else holds, so that nothing submitted uses it.
    fn map_now(&self, buffer: &wgpu::Buffer, mode: wgpu::MapMode, range: Range<u64>) -> Result<()> {
        let mapped = self.begin_map(buffer, mode, range.clone())?;
        self.wait_mapped(&mapped, buffer.slice(range))
    }

    fn begin_map(&self, buffer: &wgpu::Buffer, mode: wgpu::MapMode, range: Range<u64>) -> Result<Mapped> {
        let (sender, mapped) = oneshot_channel();
        self.status().scoped(0, || {
            buffer.map_async(mode, range, move |result| {
                let _ = sender.send(result);
            });
        })?;
        Ok(mapped)
    }

    /// Waits until a slice is mapped, once the device is done with it. Waiting only for the callback is not enough:
    /// another thread's poll may hold it, behind a callback of the caller that waits for this thread.
    fn wait_mapped(&self, mapped: &Mapped, slice: wgpu::BufferSlice<'_>) -> Result<()> {
        let begun = Instant::now();
        loop {
            match status::now(async { Some(mapped.receive().await) }) {
                Some(Some(Ok(()))) => return self.check_lost(),
                Some(Some(Err(_))) => self.status().mark_lost("a buffer could not be mapped".into()),
                // Closed, if a panic in another callback dropped it.
                _ if slice.get_mapped_range().is_ok() => return self.check_lost(),
                _ if begun.elapsed() < self.status().timeout() => std::thread::yield_now(),
                _ => self.status().mark_lost("a buffer was not mapped in time".into()),
            }
            self.status().poll_status()?;
        }
    }

    /// A device lost in the meantime has nothing mapped: that is detected elsewhere.
    fn unmap(&self, buffer: &wgpu::Buffer) {
        let _ = self.status().watch(|| buffer.unmap());
    }

    /// Has the queue write `bytes`. It writes whole words, so the last is padded with zeros.
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

    /// Copies the first `len` elements of a buffer to the host, after everything recorded before. Does not block: on
    /// native targets a thread waits for the device, in a browser the event loop does.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::DeviceLost`], [`Error::Gpu`], or [`Error::Unsupported`] for a buffer of the
    /// caller's without `COPY_SRC`.
    pub(crate) async fn read_elements<T: Element>(&self, buffer: &Buffer, len: usize) -> Result<Vec<T>> {
        if len == 0 {
            return self.check_lost().map(|()| Vec::new());
        }
        self.check_len(buffer, len, size_of::<T>())?;
        let mut data = memory::zeroed(len)?;
        self.read_bytes(buffer, bytemuck::cast_slice_mut(&mut data)).await?;
        Ok(data)
    }

    async fn read_bytes(&self, buffer: &Buffer, data: &mut [u8]) -> Result<()> {
        let readback = self.begin_read(buffer)?;
        self.done(readback.submission.clone()).await?;
        self.finish_read(readback, data).await
    }

    /// Reads the first bytes of a buffer, blocking until they are available.
    ///
    /// # Errors
    /// As [`read_elements`](Self::read_elements).
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn read_blocking(&self, buffer: &Buffer, bytes: &mut [u8]) -> Result<()> {
        if bytes.is_empty() {
            return self.check_lost();
        }
        self.check_len(buffer, bytes.len(), 1)?;
        let readback = self.begin_read(buffer)?;
        self.read_into(readback, bytes)
    }

    /// Does the same for a buffer that nobody else needs.
    ///
    /// # Errors
    /// As [`read_elements`](Self::read_elements).
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn take_elements<T: Element>(&self, buffer: Buffer, len: usize) -> Result<Vec<T>> {
        if len == 0 {
            return self.check_lost().map(|()| Vec::new());
        }
        self.check_len(&buffer, len, size_of::<T>())?;
        let mut data = memory::zeroed(len)?;
        let readback = self.begin_take(buffer)?;
        self.read_into(readback, bytemuck::cast_slice_mut(&mut data))?;
        Ok(data)
    }

    fn check_len(&self, buffer: &Buffer, len: usize, size: usize) -> Result<()> {
        if len.checked_mul(size).is_some_and(|bytes| bytes as u64 <= buffer.bytes()) {
            return Ok(());
        }
        Err(Error::Internal { op: "read", what: format!("for {len} elements of {} bytes", buffer.bytes()) })
    }

    /// Blocks until a started read is done. `data` changes only if the whole read succeeds.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn read_into(&self, readback: Readback, data: &mut [u8]) -> Result<()> {
        self.status().wait(Some(readback.submission.clone()))?;
        // The device is done, so nothing is left to wait for.
        pollster::block_on(self.finish_read(readback, data))
    }

    /// Submits pending work, and begins to read a buffer that nobody else needs.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn begin_take(&self, mut buffer: Buffer) -> Result<Readback> {
        let mappable = buffer.as_wgpu().usage().contains(wgpu::BufferUsages::MAP_READ);
        if !mappable || buffer.is_exported() || !buffer.is_unique() {
            return self.begin_read(&buffer);
        }
        let submission = self.submit()?;
        buffer.check_poison()?;
        Ok(Readback { bytes: buffer.bytes(), source: ReadSource::Buffer(buffer), submission })
    }

    /// Submits pending work, and begins to read a buffer.
    pub(crate) fn begin_read(&self, buffer: &Buffer) -> Result<Readback> {
        if !buffer.as_wgpu().usage().contains(wgpu::BufferUsages::COPY_SRC) {
            return Err(Error::Unsupported {
                what: "reading a buffer of yours that was created without BufferUsages::COPY_SRC".into(),
                device: self.info().to_string(),
                instead: "create it with that usage".into(),
            });
        }
        buffer.check_poison()?;
        let len = buffer.bytes().next_multiple_of(BLOCK_BYTES);
        let pooled = self.pooled_buffer(Purpose::Readback, len, FirstWrite::Recorded)?;
        let staging = pooled.buffer.clone();
        let mut source = Staging { pooled: Some(pooled), pool: self.pool().clone(), mapped: None };
        let copy = source.pooled.as_ref().map(|to| CopyAfter { from: buffer, to });
        let submission = self.submit_with(copy)?;
        // Only now is the outcome of the earlier operations known.
        buffer.check_poison()?;
        source.mapped = Some(self.begin_map(&staging, wgpu::MapMode::Read, 0..len)?);
        Ok(Readback { bytes: buffer.bytes(), source: ReadSource::Staging(source), submission })
    }

    /// Copies the data of a completed read.
    async fn finish_read(&self, readback: Readback, data: &mut [u8]) -> Result<()> {
        let len = readback.bytes.next_multiple_of(BLOCK_BYTES);
        match readback.source {
            #[cfg(not(target_arch = "wasm32"))]
            ReadSource::Buffer(buffer) => {
                let wgpu = buffer.as_wgpu();
                buffer.keep_from_pool(true);
                self.map_now(wgpu, wgpu::MapMode::Read, 0..len)?;
                let copied = self.copy_mapped(wgpu.slice(..len), data);
                self.unmap(wgpu);
                buffer.keep_from_pool(false);
                copied
            }
            ReadSource::Staging(mut staging) => {
                let (Some(pooled), Some(mapped)) = (&staging.pooled, &staging.mapped) else {
                    return Err(self.status().refused("a staging buffer is gone".into()));
                };
                // A browser cannot wait.
                if cfg!(not(target_arch = "wasm32")) {
                    self.wait_mapped(mapped, pooled.buffer.slice(..len))?;
                } else if !matches!(mapped.receive().await, Some(Ok(()))) {
                    self.status().mark_lost("a result could not be mapped".into());
                }
                self.check_lost()?;
                let Some(pooled) = staging.pooled.take() else {
                    return Err(self.status().refused("a staging buffer is gone".into()));
                };
                let copied = self.copy_mapped(pooled.buffer.slice(..len), data);
                self.unmap(&pooled.buffer);
                staging.pool.give_back(pooled);
                copied
            }
        }
    }

    fn copy_mapped(&self, slice: wgpu::BufferSlice<'_>, data: &mut [u8]) -> Result<()> {
        let refused = |reason: String| self.status().explain(self.status().refused(reason));
        let view = slice.get_mapped_range().map_err(|error| refused(error.to_string()))?;
        let mapped =
            view.get(..data.len()).ok_or_else(|| refused("fewer bytes are mapped than read".into()))?;
        data.copy_from_slice(mapped);
        Ok(())
    }
}
