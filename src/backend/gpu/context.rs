//! An opened adapter: its errors, its loss, and the path of a dispatch into the pending pass.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Buffer;
use super::adapter::{self, Adapter};
use super::buffer::{self, Dispatch};
use super::handles::Gpu;
use super::pipeline::{Patch, Pipelines};
#[cfg(not(target_arch = "wasm32"))]
use super::poller::Poller;
use super::pool::{FirstWrite, Pool, PooledBuffer, Purpose};
use super::recorder::{Progress, Recorder};
use super::status::{DeviceStatus, Owner};
use super::submit_lock::SubmitLock;
use crate::plan::{Limits, Planner};
use crate::{DeviceInfo, Error, Result, Stats};

/// An opened GPU device. Cheap to clone: clones share it.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: DeviceInfo,
    limits: Limits,
    max_buffer: u64,
    /// The usages of tensor buffers.
    usages: wgpu::BufferUsages,
    status: Arc<DeviceStatus>,
    pool: Arc<Pool>,
    pipelines: Pipelines,
    recorder: Mutex<Recorder>,
    submit_lock: SubmitLock,
    /// Whether operations on a bad buffer are being skipped: a callback must not submit those after them.
    recovering: AtomicBool,
    /// The first error of a skipped operation, until `take_fault` returns it.
    fault: Mutex<Option<Error>>,
    /// The scalings of norms that must be finite, until they are read and checked.
    watched_norms: Mutex<Vec<Buffer>>,
    #[cfg(not(target_arch = "wasm32"))]
    poller: Poller,
}

impl Context {
    /// Opens an adapter with these limits, which it must offer ([`Adapter::limits`]).
    ///
    /// # Errors
    /// [`Error::DeviceRequest`] if the adapter refuses, [`Error::Unsupported`] with the name of a limit that is too low for
    /// any kernel.
    pub async fn request(adapter: &Adapter, limits: wgpu::Limits) -> Result<Self> {
        Self::open(adapter, limits, None).await
    }

    pub(super) async fn open(adapter: &Adapter, limits: wgpu::Limits, patch: Option<Patch>) -> Result<Self> {
        // If the host can access the device's memory, transfers of tensors need no copy.
        let mappable = adapter.adapter.features() & wgpu::Features::MAPPABLE_PRIMARY_BUFFERS;
        // For users of the wgpu device who time passes. Tensors do not need it.
        let clock = adapter.adapter.features() & wgpu::Features::TIMESTAMP_QUERY;
        let usages = mapping(&adapter.adapter.get_info());
        let desc = wgpu::DeviceDescriptor {
            label: Some("wgclip"),
            required_features: clock | if usages.is_empty() { wgpu::Features::empty() } else { mappable },
            required_limits: limits,
            ..Default::default()
        };
        let (device, queue) = adapter.adapter.request_device(&desc).await.map_err(|error| {
            Error::DeviceRequest { device: adapter.info().to_string(), reason: error.to_string() }
        })?;
        let usages = if mappable.is_empty() { wgpu::BufferUsages::empty() } else { usages };
        Self::new(device, queue, Owner::Crate, usages, patch)
    }

    /// A context on the caller's device, whose callbacks the caller keeps: errors of work done here are returned, not
    /// passed to them. It needs no features, and no limits beyond those that every WebGPU device has. A lost device is
    /// detected only when a read or a wait fails.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the name of a limit that is too low for any kernel, [`Error::OutOfMemory`],
    /// [`Error::DeviceLost`] or [`Error::Gpu`].
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Result<Self> {
        Self::new(device, queue, Owner::Caller, wgpu::BufferUsages::empty(), None)
    }

    fn new(
        device: wgpu::Device,
        queue: wgpu::Queue,
        owner: Owner,
        mapping: wgpu::BufferUsages,
        patch: Option<Patch>,
    ) -> Result<Self> {
        use wgpu::BufferUsages as Usages;
        let limits = device.limits();
        let info = adapter::info(&device.adapter_info(), &limits);
        let checked = Limits::checked(&limits, &info)?;
        let status = Arc::new(DeviceStatus::new(device.clone(), info.to_string(), owner));
        Ok(Self {
            inner: Arc::new(Inner {
                limits: checked,
                max_buffer: limits.max_buffer_size,
                usages: Usages::STORAGE | Usages::COPY_SRC | Usages::COPY_DST | mapping,
                recorder: Mutex::new(Recorder::new(&device, &status)?),
                submit_lock: SubmitLock::default(),
                recovering: AtomicBool::new(false),
                fault: Mutex::new(None),
                watched_norms: Mutex::default(),
                pipelines: Pipelines::new(patch),
                pool: Arc::default(),
                #[cfg(not(target_arch = "wasm32"))]
                poller: Poller::default(),
                status,
                device,
                queue,
                info,
            }),
        })
    }

    /// Information about the device.
    pub(crate) fn info(&self) -> &DeviceInfo {
        &self.inner.info
    }

    /// The wgpu device.
    pub fn device(&self) -> &wgpu::Device {
        &self.inner.device
    }

    /// The wgpu queue. Work that was recorded but not flushed is not in it yet.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.inner.queue
    }

    /// The maximum size of a buffer in bytes.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn max_buffer(&self) -> u64 {
        self.inner.max_buffer
    }

    /// Whether both are the same opened device.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Counts of what it holds and has done.
    pub(super) fn read_stats(&self) -> Stats {
        let (buffers, work) = (self.inner.pool.stats(), self.recorder().stats());
        Stats {
            bind_groups_created: work.bind_groups_created,
            pipelines_created: self.inner.pipelines.created(),
            dispatches: work.dispatches,
            submissions: work.submissions,
            ..buffers
        }
    }

    /// Frees the idle buffers.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or [`Error::Gpu`] if wgpu refused what was recorded.
    pub(super) fn free_idle(&self) -> Result<()> {
        // Pending work may still use them.
        self.submit_pending()?;
        self.inner.pool.shrink_to(0);
        self.recorder().forget_groups();
        self.inner.status.poll_status()
    }

    /// Limits the bytes of all buffers. To stay within the limit, idle ones are freed; an allocation that does not fit
    /// next to those in use fails with [`Error::OutOfMemory`]. There is no limit by default.
    pub(super) fn set_budget(&self, bytes: u64) {
        self.inner.pool.set_budget(bytes);
    }

    /// How long to wait for the device before it is considered [lost](Error::DeviceLost): five minutes by default.
    pub fn set_timeout(&self, timeout: Duration) {
        self.inner.status.set_timeout(timeout);
    }

    /// Submits pending work, without waiting for it.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or [`Error::Gpu`] if wgpu refused what was recorded.
    pub(super) fn submit_pending(&self) -> Result<()> {
        self.submit()?;
        self.throttle()?;
        self.inner.status.poll_status()
    }

    /// Submits pending work and blocks until the device has completed it.
    ///
    /// # Errors
    /// As [`submit_pending`](Self::submit_pending).
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn wait_done(&self) -> Result<()> {
        let submission = self.submit()?;
        self.inner.status.wait(Some(submission))?;
        self.take_fault()
    }

    /// Returns an error if the device is lost or has failed.
    pub(super) fn check_lost(&self) -> Result<()> {
        self.inner.status.check()
    }

    pub(super) fn status(&self) -> &DeviceStatus {
        &self.inner.status
    }

    /// Waits if too many submissions, each of which holds memory, are incomplete.
    pub(super) fn throttle(&self) -> Result<()> {
        // Separate from the wait, during which others may record.
        let submission_to_wait_for = self.recorder().submission_to_wait_for();
        match submission_to_wait_for {
            // A browser cannot wait.
            Some(submission) if cfg!(not(target_arch = "wasm32")) => self.inner.status.wait(Some(submission)),
            _ => Ok(()),
        }
    }

    /// Whether the host writes directly into tensor buffers.
    pub(super) fn maps_writes(&self) -> bool {
        self.inner.usages.contains(wgpu::BufferUsages::MAP_WRITE)
    }

    /// Waits for a submission without blocking.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) async fn done(&self, submission: wgpu::SubmissionIndex) -> Result<()> {
        // In a callback inside a submission: the polling thread may run one that waits for this submission to end.
        if self.inner.submit_lock.is_held_here() {
            return self.inner.status.wait(Some(submission));
        }
        self.inner.poller.wait(&self.inner.status, submission).await
    }

    /// The browser maps a buffer once its submission is done.
    #[cfg(target_arch = "wasm32")]
    pub(super) async fn done(&self, _: wgpu::SubmissionIndex) -> Result<()> {
        self.check_lost()
    }

    /// A buffer of `bytes` bytes with undefined values.
    pub(super) fn buffer(&self, bytes: u64, first: FirstWrite) -> Result<Buffer> {
        let pooled = self.pooled_buffer(Purpose::Storage, bytes, first)?;
        Ok(Buffer::pooled_bytes(pooled, bytes, self.inner.pool.clone()))
    }

    /// Wraps a caller's buffer as a tensor's: `bytes` bytes from `offset`, processed as whole blocks of 16.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if a kernel cannot work there; the message says what is needed.
    pub(crate) fn buffer_from_wgpu(&self, buffer: wgpu::Buffer, offset: u64, bytes: u64) -> Result<Buffer> {
        buffer::part_of_caller(&buffer, offset, bytes, self.inner.limits)
            .map_err(|instead| self.unsupported_buffer(&buffer, offset, bytes, instead))?;
        Ok(Buffer::of_caller(buffer, offset, bytes))
    }

    fn unsupported_buffer(&self, buffer: &wgpu::Buffer, offset: u64, bytes: u64, instead: String) -> Error {
        let size = buffer.size();
        Error::Unsupported {
            what: format!("a tensor of {bytes} bytes at offset {offset} of a buffer of {size}"),
            device: self.info().to_string(),
            instead,
        }
    }

    pub(super) fn pooled_buffer(
        &self,
        purpose: Purpose,
        bytes: u64,
        first: FirstWrite,
    ) -> Result<PooledBuffer> {
        self.check_lost()?;
        let Inner { pool, max_buffer, .. } = &*self.inner;
        let size = Pool::class(bytes, *max_buffer);
        if size > *max_buffer {
            return Err(Error::TooLarge {
                what: format!("a tensor of {bytes} bytes"),
                limit: format!("the {max_buffer} bytes of a buffer on {}", self.info()),
            });
        }
        if let Some(pooled) = pool.take(purpose, size, first) {
            return Ok(pooled);
        }
        if !pool.reserve(size) {
            return Err(self.inner.status.out_of_memory(size));
        }
        let mut created = self.create(purpose, size);
        if matches!(created, Err(Error::OutOfMemory { .. })) && self.free_idle().is_ok() {
            // Idle buffers may have held the memory, which is free once the device is done with them.
            created = self.inner.status.wait(None).and_then(|()| self.create(purpose, size));
        }
        match created {
            Ok(buffer) => Ok(pool.adopt(purpose, buffer)),
            Err(error) => {
                pool.unreserve(size);
                Err(error)
            }
        }
    }

    fn create(&self, purpose: Purpose, size: u64) -> Result<wgpu::Buffer> {
        let usage = match purpose {
            Purpose::Storage => self.inner.usages,
            Purpose::Readback => wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        };
        let desc = wgpu::BufferDescriptor { label: Some("wgclip"), size, usage, mapped_at_creation: false };
        self.inner.status.scoped(size, || self.inner.device.create_buffer(&desc))
    }

    pub(super) fn clear_pipelines(&self) {
        self.inner.pipelines.clear();
    }

    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.inner.pool
    }

    pub(super) fn submit_lock(&self) -> &SubmitLock {
        &self.inner.submit_lock
    }

    pub(super) fn recovering(&self) -> &AtomicBool {
        &self.inner.recovering
    }

    pub(super) fn fault(&self) -> &Mutex<Option<Error>> {
        &self.inner.fault
    }

    /// Keeps the scalings of norms, to be checked with the next read.
    pub(super) fn watch_norms(&self, scalings: Buffer) {
        self.inner.watched_norms.lock().unwrap_or_else(PoisonError::into_inner).push(scalings);
    }

    pub(super) fn take_watched_norms(&self) -> Vec<Buffer> {
        std::mem::take(&mut *self.inner.watched_norms.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.inner.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn gpu(&self) -> Gpu<'_> {
        let Inner { device, queue, pool, status, .. } = &*self.inner;
        Gpu { device, queue, pool, status }
    }

    pub(super) fn planner(&self) -> Planner<'_> {
        Planner { limits: self.inner.limits, info: self.info() }
    }

    /// Records a dispatch.
    pub(super) fn record(&self, dispatch: &Dispatch<'_>) -> Result<()> {
        self.check_lost()?;
        let Inner { device, pipelines, status, .. } = &*self.inner;
        let pipeline = pipelines.get(device, dispatch.program, status)?;
        let mut progress = Progress::new(self.gpu(), dispatch, &pipeline);
        loop {
            let recorded = self.recorder().record(&mut progress);
            match recorded? {
                Ok(true) => break,
                Ok(false) => {
                    self.submit()?;
                }
                Err(error) => {
                    return Err(self.blame(dispatch.is_exported(), status.explain_refusal(0, error)));
                }
            }
        }
        self.throttle()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Dropping unsubmitted work may raise errors.
        let batch = self.recorder.get_mut().unwrap_or_else(PoisonError::into_inner).take(&self.pool, &[]);
        self.status.watch(|| drop(batch));
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("info", &self.inner.info).finish_non_exhaustive()
    }
}

/// How the host maps tensor buffers: not at all if the device has its own memory. On an integrated GPU, host reads are
/// only sure to be fast if fast writes are not requested.
fn mapping(adapter: &wgpu::AdapterInfo) -> wgpu::BufferUsages {
    match adapter.device_type {
        wgpu::DeviceType::Cpu => wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::MAP_WRITE,
        wgpu::DeviceType::IntegratedGpu => wgpu::BufferUsages::MAP_READ,
        _ => wgpu::BufferUsages::empty(),
    }
}
