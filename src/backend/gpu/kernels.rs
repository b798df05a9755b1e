//! The kernels only, over the caller's buffers, for the caller's compute pass.

use std::cell::RefCell;
use std::sync::OnceLock;

use super::adapter;
use super::buffer::{BufferRef, Dispatch, Part, part_of_caller};
use super::pipeline::Pipelines;
use super::recorder::{bind_group, slot};
use super::status::{DeviceStatus, Owner};
use crate::broadcast::BroadcastInputs;
use crate::call::{Arguments, Call, Limiter};
use crate::op::{Operand, first_outputs};
use crate::plan::{self, Limits, Params, Planner, Sink, converted_bytes, mask_bytes, reduce, scale};
use crate::wgsl::BLOCK_BYTES;
use crate::{DeviceInfo, ElementType, Error, NormKind, NormLimit, Op, Result};

/// The kernels on the caller's wgpu device, for a program that has its own buffers, passes and submissions.
///
/// Each operation is [`Prepared`] once, over slices of the caller's buffers, and recorded any number of times. A slice
/// holds a tensor's elements, padded to whole blocks of 16 bytes, all of which are read and written; it begins at a
/// multiple of `min_storage_buffer_offset_alignment`, and its buffer has the usage `STORAGE`. Slices may be parts of one
/// buffer, as long as no written slice overlaps another.
///
/// ```no_run
/// use wgclip::gpu::{Arguments, Kernels};
/// use wgclip::bounds::BroadcastInputs;
/// use wgclip::op::Op;
///
/// # fn run(device: &wgpu::Device, queue: &wgpu::Queue, x: &wgpu::Buffer, y: &wgpu::Buffer) -> wgclip::Result<()> {
/// let kernels = Kernels::new(device)?;
/// let unit = BroadcastInputs::values(Some(0.0f32), Some(1.0))?;
/// let clip = kernels.prepare(Op::Clip, &[x.slice(..)], &[y.slice(..)], &Arguments::new(&unit))?;
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
    status: DeviceStatus,
    pipelines: Pipelines,
}

/// A slice of a caller's buffer.
type Slice<'a> = wgpu::BufferSlice<'a>;

impl Kernels {
    /// The kernels on a device, which needs no features, and no limits beyond those that every WebGPU device has. Each
    /// is compiled when it is first prepared.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the name of a limit that is too low for any kernel.
    pub fn new(device: &wgpu::Device) -> Result<Self> {
        let limits = device.limits();
        let info = adapter::info(&device.adapter_info(), &limits);
        Ok(Self {
            limits: Limits::checked(&limits, &info)?,
            status: DeviceStatus::new(device.clone(), info.to_string(), Owner::Caller),
            device: device.clone(),
            info,
            slot: slot(&limits),
            pipelines: Pipelines::new(None),
        })
    }

    /// Prepares an operation: its inputs and outputs are those of [`Op::info`], in that order. If the first output is the same slice as the input
    /// that may be overwritten, the operation works in place; omitted trailing outputs are not computed. A converted output has its own number of
    /// bytes, padded to whole blocks. The gradients of bounds are not summed: they have one element for each of x.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] or [`Error::LengthMismatch`] if slices differ in length from x or from the shapes of the
    /// bounds; [`Error::Unsupported`] if a kernel cannot work on one (the message says what is needed);
    /// [`Error::RuleWithoutKernel`] for a rule that the operation does not take; [`Error::InvalidBuffer`] for one that is
    /// destroyed or of another device; [`Error::OutOfMemory`], or [`Error::Gpu`].
    pub fn prepare(
        &self,
        op: Op,
        inputs: &[Slice<'_>],
        outputs: &[Slice<'_>],
        arguments: &Arguments<'_, Slice<'_>>,
    ) -> Result<Prepared> {
        let info = op.info();
        if inputs.len() != info.inputs.len() || outputs.is_empty() || outputs.len() > info.outputs.len() {
            return Err(self.planner().unsupported(
                format!("{op} on {} inputs and {} outputs", inputs.len(), outputs.len()),
                format!("give {} and {}", Operand::list(info.inputs), Operand::list(info.outputs)),
            ));
        }
        let (element, to) = (arguments.element(), arguments.to(op));
        let x = inputs[op.shaped_input()];
        let parts = |operands: &[Operand], slices: &[Slice<'_>], to: ElementType| -> Result<()> {
            operands
                .iter()
                .zip(slices)
                .try_for_each(|(operand, slice)| self.check_operand(*operand, *slice, x, (element, to)))
        };
        parts(info.inputs, inputs, element)?;
        parts(info.outputs, outputs, to)?;
        self.check_broadcast(arguments.broadcast, x, element)?;

        let mut inputs: Vec<_> = inputs.iter().map(part).collect();
        let outputs: Vec<_> = outputs.iter().map(part).collect();
        if let Some(index) = op.in_place_input().filter(|&index| inputs[index].is_same(&outputs[0])) {
            inputs.remove(index);
        }
        let broadcast = arguments.broadcast.try_map(|slice| Ok(part(slice)))?;
        let len = x.size() as usize / element.size();
        let arguments = arguments.with_broadcast(&broadcast);
        let call = Call { needs: first_outputs(outputs.len()), ..Call::new(op, len, &inputs, arguments) };
        let dispatches = self.planner().op(&call, &outputs)?;
        let steps = dispatches.iter().map(|dispatch| self.compile(dispatch)).collect::<Result<_>>()?;
        Ok(Prepared { steps })
    }

    /// Bytes of the scratch buffer of [`prepare_norm`](Self::prepare_norm), padded to whole blocks.
    pub fn norm_scratch_bytes(kind: NormKind) -> u64 {
        reduce::limb_bytes(kind.reduce_op()).next_multiple_of(BLOCK_BYTES)
    }

    /// Bytes of the output of [`prepare_scaling`](Self::prepare_scaling).
    pub const SCALING_BYTES: u64 = scale::SCALING_BYTES;

    /// Prepares the norm of all elements of tensors of floats of up to 32 bits, each with its type and number of elements: one
    /// f32, the first word of `norm`. `scratch` holds the exact sum during and after the computation; it is cleared first.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for other types, and for slices that are too short or that a kernel cannot work on;
    /// [`Error::InvalidBuffer`], [`Error::OutOfMemory`] or [`Error::Gpu`].
    pub fn prepare_norm(
        &self,
        tensors: &[(ElementType, usize, Slice<'_>)],
        kind: NormKind,
        scratch: Slice<'_>,
        norm: Slice<'_>,
    ) -> Result<Prepared> {
        self.check_bytes(scratch, Self::norm_scratch_bytes(kind))?;
        self.check_bytes(norm, BLOCK_BYTES)?;
        let mut parts = Vec::new();
        for &(element, len, slice) in tensors {
            if !element.is_float() || element == ElementType::F64 || u32::try_from(len).is_err() {
                return Err(self.planner().unsupported(
                    format!("a norm of {len} elements of {element}"),
                    "give floats of up to 32 bits, fewer than 2^32 of them",
                ));
            }
            self.check_bytes(
                slice,
                ((len * element.size()) as u64).next_multiple_of(BLOCK_BYTES).max(BLOCK_BYTES),
            )?;
            parts.push((element, len, part(&slice)));
        }
        let steps = Steps::of(self);
        reduce::add_list(&steps, &parts, kind.reduce_op(), part(&scratch))?;
        reduce::round_list(&steps, kind.reduce_op(), part(&scratch), part(&norm))?;
        Ok(steps.finish())
    }

    /// Prepares the scaling of elements from their norm, the first word of `norm`. `scaling` gets four words, which your kernels may read: the
    /// norm and the coefficient as f32 (at most 1, and 1 if elements are kept), what is done (0: kept, 1: multiplied by the coefficient, 2:
    /// set to 0), and 1 if the norm is not finite under [`NonFinitePolicy::Error`](crate::NonFinitePolicy::Error).
    ///
    /// # Errors
    /// [`Error::InvalidLimit`]; otherwise as [`prepare_norm`](Self::prepare_norm).
    pub fn prepare_scaling(
        &self,
        norm: Slice<'_>,
        limit: impl Into<NormLimit>,
        scaling: Slice<'_>,
    ) -> Result<Prepared> {
        let limit = limit.into();
        limit.check()?;
        self.check_bytes(norm, BLOCK_BYTES)?;
        self.check_bytes(scaling, Self::SCALING_BYTES)?;
        let steps = Steps::of(self);
        let limiter = Limiter { limit: &limit, average: None, relative: None };
        scale::make_scalings(&steps, 1, part(&norm), limiter, part(&scaling))?;
        Ok(steps.finish())
    }

    /// Prepares the scaling of elements in place.
    ///
    /// # Errors
    /// As [`prepare_norm`](Self::prepare_norm).
    pub fn prepare_scale(&self, element: ElementType, x: Slice<'_>, scaling: Slice<'_>) -> Result<Prepared> {
        if !element.is_float() || element == ElementType::F64 {
            return Err(self
                .planner()
                .unsupported(format!("scaling of {element}"), "give floats of up to 32 bits"));
        }
        self.check_slice(x)?;
        self.check_bytes(scaling, Self::SCALING_BYTES)?;
        let steps = Steps::of(self);
        scale::scale_in_place(&steps, element, part(&x), part(&scaling))?;
        Ok(steps.finish())
    }

    /// Checks that a slice has at least this many bytes.
    fn check_bytes(&self, slice: Slice<'_>, least: u64) -> Result<()> {
        self.check_slice(slice)?;
        match slice.size() >= least {
            true => Ok(()),
            false => Err(self.planner().unsupported(
                format!("a slice of {} bytes here", slice.size()),
                format!("give one of at least {least}"),
            )),
        }
    }

    /// Bytes of the mask of `bytes` bytes of elements.
    pub fn mask_bytes(element: ElementType, bytes: u64) -> u64 {
        mask_bytes(element, bytes)
    }

    fn planner(&self) -> Planner<'_> {
        Planner { limits: self.limits, info: &self.info }
    }

    /// Checks that a kernel can work on a slice, and that it is as long as x or the mask of x.
    fn check_operand(
        &self,
        operand: Operand,
        slice: Slice<'_>,
        x: Slice<'_>,
        (element, to): (ElementType, ElementType),
    ) -> Result<()> {
        self.check_slice(slice)?;
        if operand == Operand::Mask {
            let (bytes, expected) = (slice.size(), mask_bytes(element, x.size()));
            if bytes != expected {
                let what = format!("a mask of {bytes} bytes for {} bytes of elements", x.size());
                return Err(self.planner().unsupported(what, format!("give one of {expected} bytes")));
            }
        } else if !converted_bytes(element, to, x.size()).contains(&slice.size()) {
            let len = |slice: Slice<'_>, element: ElementType| vec![slice.size() as usize / element.size()];
            return Err(Error::ShapeMismatch { left: len(x, element), right: len(slice, to) });
        }
        Ok(())
    }

    /// Checks that broadcast inputs are whole blocks with the lengths of their shapes.
    fn check_broadcast(
        &self,
        inputs: &BroadcastInputs<Slice<'_>>,
        x: Slice<'_>,
        element: ElementType,
    ) -> Result<()> {
        let fills = |expected: usize, bytes: u64, element: ElementType| match (expected * element.size())
            .div_ceil(BLOCK_BYTES as usize)
            as u64
            == bytes / BLOCK_BYTES
        {
            true => Ok(()),
            false => {
                let actual = bytes as usize / element.size();
                Err(Error::LengthMismatch { shape: vec![expected], expected, actual })
            }
        };
        let Some(broadcast) = &inputs.broadcast else { return Ok(()) };
        fills(broadcast.len(), x.size(), element)?;
        for (index, &slice) in inputs.tensors() {
            self.check_slice(slice)?;
            broadcast.input_len(index).map_or(Ok(()), |len| fills(len, slice.size(), inputs.element))?;
        }
        Ok(())
    }

    fn check_slice(&self, slice: Slice<'_>) -> Result<()> {
        let (offset, bytes) = (slice.offset(), slice.size());
        let checked = match bytes.is_multiple_of(BLOCK_BYTES) {
            true => part_of_caller(slice.buffer(), offset, bytes, self.limits).map(drop),
            false => Err(format!("fill it up to a multiple of {BLOCK_BYTES} bytes")),
        };
        checked.map_err(|instead| {
            self.planner().unsupported(format!("a slice of {bytes} bytes at offset {offset}"), instead)
        })
    }

    /// All allocations happen here.
    fn compile(&self, dispatch: &Dispatch<'_>) -> Result<Step> {
        self.status.check()?;
        let pipeline = self.pipelines.get(&self.device, dispatch.program, &self.status)?;
        let ranges: Vec<_> = dispatch.ranges().collect();
        let mut slots = Vec::new();
        for (i, (_, params)) in ranges.iter().enumerate() {
            slots.resize(i * self.slot, 0);
            slots.extend_from_slice(bytemuck::bytes_of(params));
        }
        let size = (slots.len() as u64).next_multiple_of(4).max(4);
        let filled = OnceLock::new();
        let dispatches = self.status.scoped(size, || {
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
            let prepare = |(i, (range, _)): (usize, &(&_, Params))| PreparedDispatch {
                group: bind_group(&self.device, &pipeline, &params, &dispatch.operands, range),
                params: (i * self.slot) as u32,
                workgroups: range.workgroups,
            };
            ranges.iter().enumerate().map(prepare).collect()
        });
        // The buffers are the caller's.
        let dispatches: Vec<_> = dispatches.map_err(|error| match error {
            Error::Gpu { reason, .. } => self.status.invalid_buffer(reason),
            error => error,
        })?;
        if filled.get().is_none() {
            self.status.mark_lost("a buffer could not be mapped".into());
            self.status.check()?;
        }
        Ok(Step { pipeline: pipeline.pipeline.clone(), dispatches })
    }
}

fn part<'a>(slice: &Slice<'a>) -> Part<'a> {
    Part::new(BufferRef { buffer: slice.buffer(), tensor: None }, slice.offset(), slice.size())
}

/// The kernels of a reduction that is being prepared.
struct Steps<'a> {
    kernels: &'a Kernels,
    steps: RefCell<Vec<Step>>,
}

impl<'a> Steps<'a> {
    fn of(kernels: &'a Kernels) -> Self {
        Self { kernels, steps: RefCell::default() }
    }

    fn finish(self) -> Prepared {
        Prepared { steps: self.steps.into_inner() }
    }
}

impl<'b> Sink<BufferRef<'b>> for Steps<'_> {
    fn planner(&self) -> Planner<'_> {
        self.kernels.planner()
    }

    fn record(&self, dispatch: &plan::Dispatch<'_, BufferRef<'b>>) -> Result<()> {
        self.steps.borrow_mut().push(self.kernels.compile(dispatch)?);
        Ok(())
    }
}

/// An operation of [`Kernels`], ready to be recorded any number of times. It keeps its buffers alive.
#[derive(Debug, Clone)]
pub struct Prepared {
    steps: Vec<Step>,
}

/// A kernel, ready to be dispatched.
#[derive(Debug, Clone)]
struct Step {
    pipeline: wgpu::ComputePipeline,
    dispatches: Vec<PreparedDispatch>,
}

#[derive(Debug, Clone)]
struct PreparedDispatch {
    group: wgpu::BindGroup,
    /// The dynamic offset of its parameters.
    params: u32,
    workgroups: [u32; 2],
}

impl Prepared {
    /// Records the operation: sets a pipeline and bind group 0, and dispatches, more than once if the slices are larger
    /// than a binding. Nothing is allocated or submitted.
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        for Step { pipeline, dispatches } in &self.steps {
            pass.set_pipeline(pipeline);
            for PreparedDispatch { group, params, workgroups: [x, y] } in dispatches {
                pass.set_bind_group(0, group, &[*params]);
                pass.dispatch_workgroups(*x, *y, 1);
            }
        }
    }
}
