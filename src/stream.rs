//! Clipping data of any size on the host, chunk by chunk.

use std::collections::VecDeque;
#[cfg(feature = "gpu")]
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

#[cfg(feature = "gpu")]
use crate::Op;
#[cfg(feature = "gpu")]
use crate::backend::Backend;
use crate::backend::any::AnyBackend;
use crate::backend::cpu;
#[cfg(feature = "gpu")]
use crate::backend::gpu;
use crate::broadcast::BroadcastInputs;
#[cfg(feature = "gpu")]
use crate::call::{Arguments, Call};
use crate::{Bounds, Device, Element, Error, IntoBounds, Result};

/// Bytes of a chunk of [`Device::clip_slice`].
#[cfg(feature = "gpu")]
const CHUNK: u64 = 16 << 20;

/// Chunks that a GPU has at once: one is uploaded while another is clipped and a third read.
#[cfg(feature = "gpu")]
const IN_FLIGHT: usize = 3;

impl Device {
    /// Clips host memory of any size where it is, between bounds that are values. On a GPU it passes through in chunks:
    /// uploads, kernels and reads overlap, and the device holds a few chunks at a time. Nothing is changed, or all is
    /// clipped: if the device fails on the way, the CPU path clips the rest, to the same bits, and the next call on the
    /// device says so.
    ///
    /// ```
    /// let mut data = vec![-2.0f32, 0.5, 7.0];
    /// wgclip::Device::auto()?.clip_slice(&mut data, &wgclip::Bounds::new(0.0, 1.0)?)?;
    /// assert_eq!(data, [0.0, 0.5, 1.0]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] for bounds that are tensors, [`Error::OutOfMemory`], [`Error::DeviceLost`] or
    /// [`Error::Gpu`].
    pub fn clip_slice<T: Element>(&self, data: &mut [T], bounds: impl IntoBounds<T>) -> Result<()> {
        clip_slice(self, data, &bounds.into_bounds()?)
    }

    /// A stream that clips chunks of host memory, for data that does not fit there as a whole.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for bounds that are tensors.
    pub fn clip_stream<T: Element>(&self, bounds: impl IntoBounds<T>) -> Result<ClipStream<T>> {
        ClipStream::new(self, &bounds.into_bounds()?)
    }
}

/// Chunks of host memory that pass through a device, in bounded memory: upload, kernel and read overlap. Made by
/// [`Device::clip_stream`].
///
/// ```
/// use wgclip::Device;
///
/// let device = Device::auto()?;
/// let mut stream = device.clip_stream(0.0f32..=1.0)?;
/// let mut clipped = Vec::new();
/// for chunk in [vec![-1.0, 0.5], vec![7.0], vec![0.25, 2.0]] {
///     clipped.extend(stream.push(chunk)?.into_iter().flatten());
/// }
/// while let Some(chunk) = stream.pop()? {
///     clipped.extend(chunk);
/// }
/// assert_eq!(clipped, [0.0, 0.5, 1.0, 0.25, 1.0]);
/// # Ok::<(), wgclip::Error>(())
/// ```
#[derive(Debug)]
pub struct ClipStream<T: Element> {
    device: Device,
    values: ScalarBounds<T>,
    waiting: VecDeque<Chunk<T>>,
}

/// A chunk, and where its clip is to come from.
#[derive(Debug)]
enum Chunk<T> {
    Done(Vec<T>),
    /// Not begun, if the device failed.
    #[cfg(feature = "gpu")]
    Uploaded(Vec<T>, Option<gpu::Readback>),
}

impl<T: Element> ClipStream<T> {
    fn new(device: &Device, bounds: &Bounds<T>) -> Result<Self> {
        let values = ScalarBounds::new(device, bounds)?;
        Ok(Self { device: device.clone(), values, waiting: VecDeque::new() })
    }

    /// Takes in a chunk. Returns an earlier one, clipped, once the device has its fill; they come in the order in which
    /// they went in, each in its own memory.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a chunk larger than a buffer, [`Error::OutOfMemory`], [`Error::DeviceLost`] or
    /// [`Error::Gpu`]. The chunks that did not come out are then as they were:
    /// [`into_chunks`](Self::into_chunks) has them, this one too.
    pub fn push(&mut self, mut chunk: Vec<T>) -> Result<Option<Vec<T>>> {
        match self.device.backend() {
            AnyBackend::Cpu(_) => {
                cpu::clip_in_place(&mut chunk, &self.values.resolve()?)?;
                self.waiting.push_back(Chunk::Done(chunk));
                self.pop()
            }
            #[cfg(feature = "gpu")]
            AnyBackend::Gpu(context) => {
                let begun = self.values.begin(context, &chunk);
                let (readback, failed) = match begun {
                    Ok(readback) => (Some(readback), None),
                    Err(error) => (None, Some(error)),
                };
                self.waiting.push_back(Chunk::Uploaded(chunk, readback));
                match failed {
                    Some(error) => Err(error),
                    None if self.waiting.len() >= IN_FLIGHT => self.pop(),
                    None => Ok(None),
                }
            }
        }
    }

    /// The next chunk in order, clipped, or `None` if all came out. Blocks until the device has done it.
    ///
    /// # Errors
    /// As [`push`](Self::push). The chunk is tried again the next time.
    pub fn pop(&mut self) -> Result<Option<Vec<T>>> {
        match self.waiting.pop_front() {
            None => Ok(None),
            Some(Chunk::Done(chunk)) => Ok(Some(chunk)),
            #[cfg(feature = "gpu")]
            Some(Chunk::Uploaded(mut chunk, readback)) => {
                let AnyBackend::Gpu(context) = self.device.backend() else {
                    return Err(Error::Internal {
                        op: "clip_stream",
                        what: "on a device of another kind".into(),
                    });
                };
                let readback = readback.map_or_else(|| self.values.begin(context, &chunk), Ok);
                match readback
                    .and_then(|readback| context.read_into(readback, bytemuck::cast_slice_mut(&mut chunk)))
                {
                    Ok(()) => Ok(Some(chunk)),
                    Err(error) => {
                        self.waiting.push_front(Chunk::Uploaded(chunk, None));
                        Err(error)
                    }
                }
            }
        }
    }

    /// The chunks that went in and did not come out, in order, as they were: after an error, to go on elsewhere.
    pub fn into_chunks(self) -> impl Iterator<Item = Vec<T>> {
        self.waiting.into_iter().map(|chunk| match chunk {
            Chunk::Done(chunk) => chunk,
            #[cfg(feature = "gpu")]
            Chunk::Uploaded(chunk, _) => chunk,
        })
    }
}

/// Clips a slice where it is, chunk by chunk.
fn clip_slice<T: Element>(device: &Device, data: &mut [T], bounds: &Bounds<T>) -> Result<()> {
    let values = ScalarBounds::new(device, bounds)?;
    match device.backend() {
        AnyBackend::Cpu(_) => cpu::clip_in_place(data, &values.resolve()?),
        #[cfg(feature = "gpu")]
        AnyBackend::Gpu(context) => {
            let mut done = 0;
            let clipped = catch_unwind(AssertUnwindSafe(|| clip_on_gpu(context, data, &values, &mut done)));
            let clipped = match clipped {
                Ok(clipped) => clipped,
                Err(panic) => {
                    // That of a callback of the caller's, which gets it when the slice is whole.
                    if done > 0 {
                        cpu::clip_in_place(&mut data[done..], &values.resolve()?)?;
                    }
                    resume_unwind(panic);
                }
            };
            match clipped {
                // Some of it is clipped already, so the rest is too: whole or not at all.
                Err(error) if done > 0 => {
                    log::warn!("{error}; the CPU clips the rest of the slice");
                    cpu::clip_in_place(&mut data[done..], &values.resolve()?)
                }
                clipped => clipped,
            }
        }
    }
}

/// Counts in `done` the elements that are clipped.
#[cfg(feature = "gpu")]
fn clip_on_gpu<T: Element>(
    context: &gpu::Context,
    data: &mut [T],
    values: &ScalarBounds<T>,
    done: &mut usize,
) -> Result<()> {
    let chunk = context.max_buffer().min(CHUNK) as usize / size_of::<T>();
    let mut waiting = VecDeque::new();
    for start in (0..data.len()).step_by(chunk) {
        let end = data.len().min(start + chunk);
        waiting.push_back((start..end, values.begin(context, &data[start..end])?));
        if waiting.len() >= IN_FLIGHT
            && let Some((range, readback)) = waiting.pop_front()
        {
            context.read_into(readback, bytemuck::cast_slice_mut(&mut data[range.clone()]))?;
            *done = range.end;
        }
    }
    for (range, readback) in waiting {
        context.read_into(readback, bytemuck::cast_slice_mut(&mut data[range.clone()]))?;
        *done = range.end;
    }
    Ok(())
}

/// Bounds that are values.
#[derive(Debug, Clone, Copy)]
struct ScalarBounds<T> {
    lo: Option<T>,
    hi: Option<T>,
}

impl<T: Element> ScalarBounds<T> {
    fn new(device: &Device, bounds: &Bounds<T>) -> Result<Self> {
        if bounds.lo().tensor().or(bounds.hi().tensor()).is_some() {
            return Err(Error::Unsupported {
                what: "clipping host memory between tensors of bounds".into(),
                device: device.info().to_string(),
                instead: "give bounds that are values, or clip a Tensor".into(),
            });
        }
        Ok(Self { lo: bounds.lo().value(), hi: bounds.hi().value() })
    }

    fn resolve<B>(&self) -> Result<BroadcastInputs<B>> {
        BroadcastInputs::values(self.lo, self.hi)
    }

    /// Uploads a chunk, has it clipped, and begins to read it.
    #[cfg(feature = "gpu")]
    fn begin(&self, context: &gpu::Context, chunk: &[T]) -> Result<gpu::Readback> {
        let mut buffer = context.upload_bytes(bytemuck::cast_slice(chunk))?;
        let bounds = self.resolve()?;
        let call = Call::new(Op::Clip, chunk.len(), &[], Arguments::new(&bounds));
        context.run_in_place(&call, &mut buffer)?;
        context.begin_take(buffer)
    }
}
