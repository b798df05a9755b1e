//! The kernels alone, over the caller's buffers, for the caller's compute pass.

use std::sync::OnceLock;

use super::clip::{CLIP, CLIP_IN_PLACE};
use super::clip_grad::{CLIP_GRAD, CLIP_GRAD_IN_PLACE};
use super::clip_saving::{CLIP_SAVING, SAVED_GRAD, SAVED_GRAD_IN_PLACE, mask_bytes, masked};
use super::dispatch::{Grain, Limits, Params};
use super::health::{Health, Owner};
use super::pipeline::{Kernel, Pipelines};
use super::plan::{Operand, Plan, Span};
use super::recorder::{bind_group, slot};
use super::{adapter, dispatch::BLOCK};
use crate::bounds::Interval;
use crate::broadcast::Side;
use crate::{DeviceInfo, Element, Error, Gradient, Outside, Result, Ties};

/// The kernels on a wgpu device of the caller's: for a program that has its own buffers, passes and submissions.
///
/// Each operation is [`Prepared`] once, over slices of the caller's buffers, and recorded as often as wanted. A slice
/// is a tensor's elements, filled up to whole blocks of 16 bytes, all of which are read and written; it begins at a
/// multiple of `min_storage_buffer_offset_alignment`, and its buffer has the usage `STORAGE`. As WebGPU has it, a
/// buffer that is written cannot be read by the same operation, not even in another part: work in place for that.
///
/// ```no_run
/// use wgclip::{Interval, gpu::Kernels};
///
/// # fn run(device: &wgpu::Device, queue: &wgpu::Queue, x: &wgpu::Buffer, y: &wgpu::Buffer) -> wgclip::Result<()> {
/// let kernels = Kernels::new(device);
/// let unit = Interval::<f32, _>::values(Some(0.0), Some(1.0))?;
/// let clip = kernels.clip(x.slice(..), y.slice(..), &unit)?;
///
/// let mut encoder = device.create_command_encoder(&Default::default());
/// let mut pass = encoder.begin_compute_pass(&Default::default());
/// clip.record(&mut pass);
/// drop(pass);
/// queue.submit([encoder.finish()]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Kernels {
    device: wgpu::Device,
    info: DeviceInfo,
    limits: Limits,
    /// Bytes from one set of parameters to the next.
    slot: usize,
    health: Health,
    pipelines: Pipelines,
}

/// A slice of a buffer of the caller's.
type Slice<'a> = wgpu::BufferSlice<'a>;

impl Kernels {
    /// The kernels on a device, which needs no feature and no limit beyond those that every WebGPU device has. Each is
    /// compiled when it is first prepared.
    pub fn new(device: &wgpu::Device) -> Self {
        let limits = device.limits();
        let info = adapter::info(&device.adapter_info(), &limits);
        Self {
            health: Health::new(device.clone(), info.to_string(), Owner::Caller),
            device: device.clone(),
            info,
            slot: slot(&limits),
            limits: Limits::of(&limits),
            pipelines: Pipelines::new(None),
        }
    }

    /// The clip of `x` into `y`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the slices differ in length, [`Error::Unsupported`] if a kernel cannot work on one
    /// (the message says what is needed), [`Error::OutOfMemory`], or [`Error::Gpu`].
    pub fn clip<'a, T: Element>(
        &self,
        x: Slice<'a>,
        y: Slice<'a>,
        bounds: &'a Interval<T, Slice<'a>>,
    ) -> Result<Prepared> {
        self.bounded(&CLIP, Grain::Blocks, Gradient::default(), bounds, &[x, y])
    }

    /// The clip of `x` where it is.
    ///
    /// # Errors
    /// As [`clip`](Self::clip).
    pub fn clip_in_place<'a, T: Element>(
        &self,
        x: Slice<'a>,
        bounds: &'a Interval<T, Slice<'a>>,
    ) -> Result<Prepared> {
        self.bounded(&CLIP_IN_PLACE, Grain::Blocks, Gradient::default(), bounds, &[x])
    }

    /// The gradient that reaches `x`, of the upstream gradient `g`, into `gx`.
    ///
    /// # Errors
    /// As [`clip`](Self::clip); [`Error::Unsupported`] for [`Outside::StraightThrough`], which needs no kernel: the
    /// gradient is `g`.
    pub fn clip_grad<'a, T: Element>(
        &self,
        x: Slice<'a>,
        g: Slice<'a>,
        gx: Slice<'a>,
        bounds: &'a Interval<T, Slice<'a>>,
        rule: Gradient,
    ) -> Result<Prepared> {
        self.check_masks(rule)?;
        self.bounded(&CLIP_GRAD, Grain::Blocks, rule, bounds, &[x, g, gx])
    }

    /// The same in the place of the upstream gradient.
    ///
    /// # Errors
    /// As [`clip_grad`](Self::clip_grad).
    pub fn clip_grad_in_place<'a, T: Element>(
        &self,
        x: Slice<'a>,
        g: Slice<'a>,
        bounds: &'a Interval<T, Slice<'a>>,
        rule: Gradient,
    ) -> Result<Prepared> {
        self.check_masks(rule)?;
        self.bounded(&CLIP_GRAD_IN_PLACE, Grain::Blocks, rule, bounds, &[x, g])
    }

    /// The clip of `x` into `y`, and of what its gradient passes into `mask`: a bit an element, of
    /// [`mask_bytes`](Self::mask_bytes) bytes.
    ///
    /// # Errors
    /// As [`clip`](Self::clip); [`Error::Unsupported`] for a rule that one bit cannot tell ([`Ties::Half`], and
    /// [`Outside`] other than masked).
    pub fn clip_saving<'a, T: Element>(
        &self,
        x: Slice<'a>,
        y: Slice<'a>,
        mask: Slice<'a>,
        bounds: &'a Interval<T, Slice<'a>>,
        rule: Gradient,
    ) -> Result<Prepared> {
        if rule.outside != Outside::Masked || rule.ties == Ties::Half {
            return Err(self.unsupported(
                format!("saving one bit an element for the rule {rule:?}"),
                "keep x, and use clip_grad".into(),
            ));
        }
        let grain = Grain::Word(masked::<T>());
        let [x, y] = self.operands::<T, 2>([x, y])?;
        self.check_bounds(bounds, &x)?;
        let mask = self.mask::<T>(mask, &x)?;
        let limits = (self.limits, &self.info);
        self.prepare(&Plan::bounded(&CLIP_SAVING, grain, rule, bounds, &[x, y, mask], limits)?)
    }

    /// The gradient that reaches x by the mask of [`clip_saving`](Self::clip_saving), of the upstream gradient `g`, into
    /// `gx`.
    ///
    /// # Errors
    /// As [`clip`](Self::clip).
    pub fn saved_grad<T: Element>(&self, mask: Slice<'_>, g: Slice<'_>, gx: Slice<'_>) -> Result<Prepared> {
        let [g, gx] = self.operands::<T, 2>([g, gx])?;
        self.by_mask::<T>(&SAVED_GRAD, mask, &[g, gx])
    }

    /// The same in the place of the upstream gradient.
    ///
    /// # Errors
    /// As [`clip`](Self::clip).
    pub fn saved_grad_in_place<T: Element>(&self, mask: Slice<'_>, g: Slice<'_>) -> Result<Prepared> {
        let [g] = self.operands::<T, 1>([g])?;
        self.by_mask::<T>(&SAVED_GRAD_IN_PLACE, mask, &[g])
    }

    /// Bytes of the mask of `bytes` bytes of a tensor of `T`.
    pub fn mask_bytes<T: Element>(bytes: u64) -> u64 {
        mask_bytes::<T>(bytes)
    }

    fn bounded<'a, T: Element, const N: usize>(
        &self,
        kernels: &'static [Kernel; 2],
        grain: Grain,
        rule: Gradient,
        bounds: &'a Interval<T, Slice<'a>>,
        slices: &[Slice<'a>; N],
    ) -> Result<Prepared> {
        let operands = self.operands::<T, N>(*slices)?;
        self.check_bounds(bounds, &operands[0])?;
        self.prepare(&Plan::bounded(kernels, grain, rule, bounds, &operands, (self.limits, &self.info))?)
    }

    fn by_mask<'a, T: Element>(
        &self,
        kernel: &'static Kernel,
        mask: Slice<'a>,
        gradients: &[Operand<'a>],
    ) -> Result<Prepared> {
        let mask = self.mask::<T>(mask, &gradients[0])?;
        let operands = [&[mask], gradients].concat();
        let (grain, bytes) = (Grain::Word(masked::<T>()), gradients[0].bytes());
        self.prepare(&Plan::blocks::<T>(kernel, grain, Params::default(), bytes, &operands, self.limits))
    }

    /// Slices of one length that a kernel can work on.
    fn operands<'a, T: Element, const N: usize>(&self, slices: [Slice<'a>; N]) -> Result<[Operand<'a>; N]> {
        for slice in slices {
            self.check_slice(slice)?;
            if slice.size() != slices[0].size() {
                let len = |slice: Slice<'_>| vec![slice.size() as usize / size_of::<T>()];
                return Err(Error::ShapeMismatch { left: len(slices[0]), right: len(slice) });
            }
        }
        Ok(slices.map(Operand::from))
    }

    /// Bounds in whole blocks, of the lengths that their shapes say.
    fn check_bounds<T: Element>(&self, bounds: &Interval<T, Slice<'_>>, x: &Operand<'_>) -> Result<()> {
        let blocks = |len: usize| (len as u64 * size_of::<T>() as u64).div_ceil(BLOCK);
        let fills = |expected: usize, bytes: u64| match blocks(expected) == bytes / BLOCK {
            true => Ok(()),
            false => Err(Error::LengthMismatch {
                shape: vec![expected],
                expected,
                actual: bytes as usize / size_of::<T>(),
            }),
        };
        let Some(broadcast) = &bounds.broadcast else { return Ok(()) };
        fills(broadcast.len(), x.bytes())?;
        for side in Side::BOTH {
            if let Some(&slice) = bounds.side(side).tensor() {
                self.check_slice(slice)?;
                broadcast.bound_len(side).map_or(Ok(()), |len| fills(len, slice.size()))?;
            }
        }
        Ok(())
    }

    fn mask<'a, T: Element>(&self, mask: Slice<'a>, x: &Operand<'_>) -> Result<Operand<'a>> {
        self.check_slice(mask)?;
        let wanted = mask_bytes::<T>(x.bytes());
        if mask.size() != wanted {
            let what = format!("a mask of {} bytes beside {} bytes of elements", mask.size(), x.bytes());
            return Err(self.unsupported(what, format!("give one of {wanted} bytes")));
        }
        Ok(Operand::from(mask).spanning(Span::Words(masked::<T>())))
    }

    fn check_slice(&self, slice: Slice<'_>) -> Result<()> {
        let (offset, bytes) = (slice.offset(), slice.size());
        let checked = match bytes.is_multiple_of(BLOCK) {
            true => Operand::of_caller(slice.buffer(), offset, bytes, self.limits).map(drop),
            false => Err(format!("fill it up to a multiple of {BLOCK} bytes")),
        };
        checked.map_err(|instead| {
            self.unsupported(format!("a slice of {bytes} bytes at offset {offset}"), instead)
        })
    }

    fn check_masks(&self, rule: Gradient) -> Result<()> {
        match rule.outside {
            Outside::StraightThrough => Err(self.unsupported(
                "a kernel for the straight-through gradient".into(),
                "use the upstream gradient as it is".into(),
            )),
            _ => Ok(()),
        }
    }

    fn unsupported(&self, what: String, instead: String) -> Error {
        Error::Unsupported { what, device: self.info.to_string(), instead }
    }

    /// All that is allocated is allocated here.
    fn prepare(&self, plan: &Plan<'_>) -> Result<Prepared> {
        plan.check_overlap(&self.info)?;
        let pipeline = self.pipelines.get(&self.device, plan, |compile| self.health.scoped(0, compile))?;
        let pieces: Vec<_> = plan.pieces().collect();
        let mut slots = Vec::new();
        for (i, (_, params)) in pieces.iter().enumerate() {
            slots.resize(i * self.slot, 0);
            slots.extend_from_slice(bytemuck::bytes_of(params));
        }
        let size = (slots.len() as u64).next_multiple_of(4).max(4);
        let filled = OnceLock::new();
        let dispatches = self.health.scoped(size, || {
            let params = self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("wgclip parameters"),
                size,
                usage: wgpu::BufferUsages::UNIFORM,
                mapped_at_creation: true,
            });
            if let Ok(mut view) = params.slice(..).get_mapped_range_mut() {
                view.slice(..slots.len()).copy_from_slice(&slots);
                let _ = filled.set(());
            }
            params.unmap();
            let dispatch = |(i, (piece, _)): (usize, &(&_, Params))| Dispatch {
                group: bind_group(&self.device, (plan.kernel, &pipeline), &params, &plan.operands, piece),
                params: (i * self.slot) as u32,
                workgroups: piece.workgroups,
            };
            pieces.iter().enumerate().map(dispatch).collect()
        })?;
        if filled.get().is_none() {
            self.health.lose("a buffer could not be mapped".into());
            self.health.check()?;
        }
        Ok(Prepared { pipeline: pipeline.pipeline.clone(), dispatches })
    }
}

impl<'a> From<Slice<'a>> for Operand<'a> {
    fn from(slice: Slice<'a>) -> Self {
        Operand::new(slice.buffer(), None, slice.offset(), slice.size())
    }
}

/// An operation of [`Kernels`], ready to be recorded any number of times. It keeps its buffers alive.
#[derive(Debug, Clone)]
pub struct Prepared {
    pipeline: wgpu::ComputePipeline,
    dispatches: Vec<Dispatch>,
}

#[derive(Debug, Clone)]
struct Dispatch {
    group: wgpu::BindGroup,
    /// The dynamic offset of its parameters.
    params: u32,
    workgroups: [u32; 2],
}

impl Prepared {
    /// Records the operation: sets a pipeline and bind group 0, and dispatches, more than once where the slices are
    /// larger than a binding. Nothing is allocated or submitted.
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        for Dispatch { group, params, workgroups: [x, y] } in &self.dispatches {
            pass.set_bind_group(0, group, &[*params]);
            pass.dispatch_workgroups(*x, *y, 1);
        }
    }
}
