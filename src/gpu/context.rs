//! An opened adapter: its errors, its loss, and the operations' way into the pending pass.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::adapter::{self, Adapter};
use super::dispatch::{BLOCK, Grain, Limits, Params, Piece, Variant, pieces, whole};
use super::pipeline::{Kernel, Patch, Pipelines};
use super::pool::{Buffer, FirstWrite, Pool, Purpose};
use super::recorder::{Operand, Recorder, Span, Target};
use crate::bounds::Interval;
use crate::broadcast::{Broadcast, Side};
use crate::{DeviceInfo, Element, Error, Gradient, Result};

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
    health: Arc<Health>,
    pool: Arc<Pool>,
    pipelines: Pipelines,
    recorder: Mutex<Recorder>,
}

/// What wgpu reports only through callbacks. A lost device takes uploads and submissions without a word, and
/// a failed one leaves results undefined, so every call asks here first.
#[derive(Debug, Default)]
struct Health {
    lost: OnceLock<String>,
    failed: OnceLock<String>,
}

impl Context {
    /// Opens an adapter with these limits, which it must offer ([`Adapter::limits`]).
    ///
    /// # Errors
    /// [`Error::DeviceRequest`] if the adapter refuses.
    pub async fn request(adapter: &Adapter, limits: wgpu::Limits) -> Result<Self> {
        Self::open(adapter, limits, None).await
    }

    /// The same with a function that alters each shader's source: how the tests prove that they can fail.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    #[doc(hidden)]
    pub async fn request_patched(
        adapter: &Adapter,
        limits: wgpu::Limits,
        patch: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::open(adapter, limits, Some(Box::new(patch))).await
    }

    async fn open(adapter: &Adapter, limits: wgpu::Limits, patch: Option<Patch>) -> Result<Self> {
        let desc =
            wgpu::DeviceDescriptor { label: Some("wgclip"), required_limits: limits, ..Default::default() };
        let (device, queue) = adapter.adapter.request_device(&desc).await.map_err(|error| {
            Error::DeviceRequest { device: adapter.info().to_string(), reason: error.to_string() }
        })?;
        let info = adapter::info(&adapter.adapter.get_info(), &device.limits());
        Ok(Self::new(device, queue, info, patch))
    }

    fn new(device: wgpu::Device, queue: wgpu::Queue, info: DeviceInfo, patch: Option<Patch>) -> Self {
        let health = Arc::new(Health::default());
        let seen = health.clone();
        device.set_device_lost_callback(move |reason, message| {
            let _ = seen.lost.set(format!("{reason:?}: {message}"));
        });
        let seen = health.clone();
        // Without a handler wgpu panics.
        device.on_uncaptured_error(Arc::new(move |error| {
            log::error!("wgpu: {error}");
            let _ = seen.failed.set(error.to_string());
        }));
        let limits = device.limits();
        Self {
            inner: Arc::new(Inner {
                limits: Limits::of(&limits),
                max_buffer: limits.max_buffer_size,
                recorder: Mutex::new(Recorder::new(&device)),
                pipelines: Pipelines::new(patch),
                pool: Arc::default(),
                health,
                device,
                queue,
                info,
            }),
        }
    }

    /// What the device is.
    pub fn info(&self) -> &DeviceInfo {
        &self.inner.info
    }

    /// The wgpu device.
    pub fn device(&self) -> &wgpu::Device {
        &self.inner.device
    }

    /// The wgpu queue. What was recorded but not [flushed](Self::flush) is not in it yet.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.inner.queue
    }

    /// Whether both are the same opened device.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Submits what is pending, without waiting for it.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or [`Error::Gpu`] if wgpu refused what was recorded.
    pub fn flush(&self) -> Result<()> {
        self.check()?;
        self.recorder().submit(self.target());
        self.check()
    }

    /// Submits what is pending and blocks until the device has done it.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait(&self) -> Result<()> {
        self.flush()?;
        self.poll(wgpu::PollType::wait_indefinitely())
    }

    /// An error if the device is lost or has failed.
    pub(super) fn check(&self) -> Result<()> {
        let health = &self.inner.health;
        if health.failed.get().is_some() && health.lost.get().is_none() {
            // What failed may have been the first to meet a lost device; its callback runs only in a poll.
            self.run_callbacks(wgpu::PollType::Poll);
        }
        let device = || self.inner.info.to_string();
        if let Some(reason) = health.lost.get() {
            return Err(Error::DeviceLost { device: device(), reason: reason.clone() });
        }
        match health.failed.get() {
            Some(reason) => Err(Error::Gpu { device: device(), reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Lets wgpu run its callbacks, or waits.
    pub(super) fn poll(&self, poll: wgpu::PollType) -> Result<()> {
        self.run_callbacks(poll);
        self.check()
    }

    fn run_callbacks(&self, poll: wgpu::PollType) {
        let health = &self.inner.health;
        // wgpu panics where a driver reports an error that it did not expect.
        match catch_unwind(AssertUnwindSafe(|| self.inner.device.poll(poll))) {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                let _ = health.failed.set(error.to_string());
            }
            Err(_) => {
                let _ = health.lost.set("the driver failed while it was waited for".into());
            }
        }
    }

    /// Runs calls that may fail for want of memory or for a limit, and says how they failed. `bytes` is the
    /// size of what they allocate.
    pub(super) fn scoped<R>(&self, bytes: u64, calls: impl FnOnce() -> R) -> Result<R> {
        self.check()?;
        // In a browser an error is known only later: it reaches the handler of uncaptured errors.
        if cfg!(target_arch = "wasm32") {
            return Ok(calls());
        }
        let device = &self.inner.device;
        let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let result = calls();
        let errors = [now(validation.pop()), now(memory.pop()), now(internal.pop())];
        match errors.into_iter().flatten().next() {
            None => Ok(result),
            Some(error) => {
                // A lost device is the better explanation.
                self.poll(wgpu::PollType::Poll)?;
                let device = self.inner.info.to_string();
                Err(match error {
                    wgpu::Error::OutOfMemory { .. } => Error::OutOfMemory { device, bytes },
                    other => Error::Gpu { device, reason: other.to_string() },
                })
            }
        }
    }

    /// A buffer for `bytes` bytes, their values undefined.
    pub(super) fn buffer(&self, bytes: u64, first: FirstWrite) -> Result<Buffer> {
        let buffer = self.wgpu_buffer(Purpose::Storage, bytes, first)?;
        Ok(Buffer::new(buffer, bytes, self.inner.pool.clone()))
    }

    pub(super) fn wgpu_buffer(
        &self,
        purpose: Purpose,
        bytes: u64,
        first: FirstWrite,
    ) -> Result<wgpu::Buffer> {
        self.check()?;
        let size = Pool::class(bytes, self.inner.max_buffer);
        if size > self.inner.max_buffer {
            return Err(Error::TooLarge {
                what: format!("a tensor of {bytes} bytes"),
                limit: format!("the {} bytes of a buffer on {}", self.inner.max_buffer, self.info()),
            });
        }
        if let Some(buffer) = self.inner.pool.take(purpose, size, first) {
            return Ok(buffer);
        }
        self.scoped(size, || {
            self.inner.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("wgclip"),
                size,
                usage: purpose.usages(),
                mapped_at_creation: false,
            })
        })
    }

    pub(crate) fn drop_pipelines(&self) {
        self.inner.pipelines.clear();
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.inner.pool
    }

    pub(super) fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.inner.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn target(&self) -> Target<'_> {
        Target { device: &self.inner.device, queue: &self.inner.queue, pool: &self.inner.pool }
    }

    /// Records a kernel over `bytes` bytes of its operands, which are in the order of its bindings.
    pub(super) fn record<T: Element>(
        &self,
        kernel: &Kernel,
        grain: Grain,
        params: Params,
        bytes: u64,
        operands: &[Operand<'_>],
    ) -> Result<()> {
        let pieces = pieces(bytes, grain, self.inner.limits);
        self.dispatch::<T>(kernel, Variant::default(), params, None, operands, pieces)
    }

    /// The same for a kernel with bounds: `kernels` are the one for values and the one for tensors; one without
    /// a backward pass takes any rule, the default for the sake of one pipeline. The first operand is
    /// as long as x.
    pub(super) fn record_bounded<T: Element>(
        &self,
        kernels: &[Kernel; 2],
        grain: Grain,
        rule: Gradient,
        bounds: &Interval<T, &Buffer>,
        operands: &[Operand<'_>],
    ) -> Result<()> {
        let bytes = operands.first().map_or(0, |operand| operand.buffer.bytes());
        let pieces = pieces(bytes, grain, self.inner.limits);
        let (variant, params) = (Variant::new(bounds, rule.ties), Params::new(bounds, rule));
        // A binding wants a buffer, also for a bound that is no tensor: the other one.
        let (lo, hi) = (bounds.operand(Side::Lo), bounds.operand(Side::Hi));
        let tensors = bounds.broadcast.as_ref().zip(lo.or(hi)).zip(hi.or(lo));
        let Some(((broadcast, lo), hi)) = tensors else {
            return self.dispatch::<T>(&kernels[0], variant, params, None, operands, pieces);
        };
        // The kernel counts along an axis in 32 bits.
        if broadcast.axes().iter().any(|axis| u32::try_from(axis.len).is_err()) {
            return Err(Error::Unsupported {
                what: "a tensor of 2^32 elements or more between bounds that broadcast".into(),
                device: self.info().to_string(),
                instead: "split it, or give bounds of its own shape".into(),
            });
        }
        for bound in [lo, hi] {
            self.check_binding(bound, "a bound that broadcasts", "give it the tensor's own shape")?;
        }
        let operands = [&[lo, hi], operands].concat();
        self.dispatch::<T>(&kernels[1], variant, params, Some(broadcast), &operands, pieces)
    }

    /// Records a kernel that works on whole buffers with so many invocations.
    pub(super) fn record_whole<T: Element>(
        &self,
        kernel: &Kernel,
        params: Params,
        invocations: u64,
        buffers: &[&Buffer],
    ) -> Result<()> {
        let operands: Vec<_> = buffers.iter().map(|&buffer| Operand { buffer, span: Span::Whole }).collect();
        for &operand in &operands {
            self.check_binding(operand, "the gradient of a bound", "split the tensor and add the gradients")?;
        }
        let piece = whole(invocations, self.inner.limits).ok_or_else(|| Error::Unsupported {
            what: format!("the gradient of a bound in {invocations} sums at once"),
            device: self.info().to_string(),
            instead: "split the tensor and add the gradients".into(),
        })?;
        self.dispatch::<T>(kernel, Variant::default(), params, None, &operands, std::iter::once(piece))
    }

    /// Refuses a buffer that has to be bound whole and is too large for that.
    fn check_binding(&self, operand: Operand<'_>, what: &str, instead: &str) -> Result<()> {
        let (bytes, most) = (operand.buffer.bytes().next_multiple_of(BLOCK), self.inner.limits.max_binding);
        if operand.span != Span::Whole || bytes <= most {
            return Ok(());
        }
        Err(Error::Unsupported {
            what: format!("{what} of {bytes} bytes, more than the {most} of a binding,"),
            device: self.info().to_string(),
            instead: instead.into(),
        })
    }

    fn dispatch<T: Element>(
        &self,
        kernel: &Kernel,
        variant: Variant,
        params: Params,
        broadcast: Option<&Broadcast>,
        operands: &[Operand<'_>],
        pieces: impl Iterator<Item = Piece>,
    ) -> Result<()> {
        self.check()?;
        let pipeline =
            self.inner
                .pipelines
                .get(&self.inner.device, kernel, (T::TYPE, variant), |compile| self.scoped(0, compile))?;
        let mut recorder = self.recorder();
        for piece in pieces {
            let params = params.for_piece(&piece, broadcast, T::TYPE);
            recorder.dispatch(self.target(), kernel, &pipeline, &params, operands, &piece);
        }
        drop(recorder);
        self.check()
    }
}

impl<T: Element> Interval<T, &Buffer> {
    /// A tensor of bounds, bound block by block like x or as a whole.
    fn operand(&self, side: Side) -> Option<Operand<'_>> {
        let buffer = *self.side(side).tensor()?;
        let same = self.broadcast.as_ref()?.is_same(side);
        Some(Operand { buffer, span: if same { Span::Blocks } else { Span::Whole } })
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("info", &self.inner.info).finish_non_exhaustive()
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
