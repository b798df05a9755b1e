//! The pending pass: operations join it, and it is submitted as one.
//!
//! A submission costs hundreds of microseconds and a dispatch a few, so many operations share one. It is
//! submitted on a read, on a flush, and when it has grown to [`DISPATCHES`] dispatches or [`BYTES`] bytes, so that
//! the device works while the host goes on recording. The host waits when [`IN_FLIGHT`] submissions are not done.

use std::collections::{HashMap, VecDeque};

use super::dispatch::{Params, Piece};
use super::pipeline::{Binding, Kernel, MAX_BINDINGS, Pipeline};
use super::plan::{Operand, Plan};
use super::pool::{Pool, Slab};
use crate::Stats;

/// Dispatches of a submission at the most.
const DISPATCHES: u32 = 512;

/// Sets of parameters that are kept on the device. A loop uses the same few again and again, and then nothing has to be
/// written before its kernels run.
const SLOTS: usize = 512;

/// Bytes that the dispatches of a submission touch, at about the most.
const BYTES: u64 = 1 << 30;

/// Bytes that are uploaded before a submission sets them moving. Until then they stay in host memory too.
const UPLOADED: u64 = 64 << 20;

/// Submissions that are not done, at the most. Each holds the memory of its uploads.
const IN_FLIGHT: usize = 4;

/// Bind groups that are kept. A steady loop of operations needs a few; one that never meets the same buffers again
/// must not keep them for ever.
const GROUPS: usize = 4096;

/// The pending pass of a device and the parameters of its dispatches.
#[derive(Debug)]
pub struct Recorder {
    pending: Option<Pending>,
    /// A slot for each set of parameters. New ones are written by the queue when what uses them is submitted, before it
    /// runs and after the dispatches of the submission before.
    slots: wgpu::Buffer,
    /// Bytes from one slot to the next: a dynamic offset must be aligned.
    slot: usize,
    /// Where each set of parameters is.
    known: HashMap<Params, u32>,
    /// Those not yet written, which are the last of them.
    fresh: Vec<u8>,
    dispatches: u32,
    touched: u64,
    uploaded: u64,
    groups: HashMap<GroupKey, wgpu::BindGroup>,
    submitted: VecDeque<wgpu::SubmissionIndex>,
    stats: Stats,
}

/// The buffers of the pool that are bound, each with its offset and size, and how: kernels of the same bindings share
/// their groups.
#[derive(Debug, PartialEq, Eq, Hash)]
struct GroupKey(&'static [Binding], [(u64, u64, u64); MAX_BINDINGS]);

/// The pass comes first, so that it ends before its encoder does.
#[derive(Debug)]
struct Pending {
    pass: wgpu::ComputePass<'static>,
    encoder: wgpu::CommandEncoder,
}

impl Pending {
    fn begin(device: &wgpu::Device) -> Self {
        let label = Some("wgclip");
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label });
        let desc = wgpu::ComputePassDescriptor { label, timestamp_writes: None };
        let pass = encoder.begin_compute_pass(&desc).forget_lifetime();
        Self { pass, encoder }
    }
}

/// The device that a recorder records for. A recorder owns none of it, so it is passed along.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub device: &'a wgpu::Device,
    pub queue: &'a wgpu::Queue,
    pub pool: &'a Pool,
}

/// Bytes from one set of parameters to the next.
pub fn slot(limits: &wgpu::Limits) -> usize {
    size_of::<Params>().next_multiple_of(limits.min_uniform_buffer_offset_alignment as usize)
}

/// Binds parameters, found by a dynamic offset, and a piece's part of each operand.
pub fn bind_group(
    device: &wgpu::Device,
    (kernel, pipeline): (&Kernel, &Pipeline),
    params: &wgpu::Buffer,
    operands: &[Operand<'_>],
    piece: &Piece,
) -> wgpu::BindGroup {
    let binding = |index, buffer, offset, bytes| wgpu::BindGroupEntry {
        binding: index,
        resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer,
            offset,
            size: wgpu::BufferSize::new(bytes),
        }),
    };
    let mut entries = vec![binding(0, params, 0, size_of::<Params>() as u64)];
    entries.extend(kernel.bindings.iter().zip(operands).map(|(b, operand)| {
        let (offset, bytes) = operand.range(piece);
        binding(b.index, operand.buffer, offset, bytes)
    }));
    let layout = &pipeline.layout;
    device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries })
}

impl Recorder {
    pub fn new(device: &wgpu::Device) -> Self {
        let slot = slot(&device.limits());
        let slots = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("wgclip parameters"),
            size: (SLOTS * slot) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Self {
            pending: None,
            slots,
            slot,
            known: HashMap::new(),
            fresh: Vec::new(),
            dispatches: 0,
            touched: 0,
            uploaded: 0,
            groups: HashMap::new(),
            submitted: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Records the dispatches of a plan.
    pub fn record(&mut self, target: Target<'_>, plan: &Plan<'_>, pipeline: &Pipeline) {
        for (piece, params) in plan.pieces() {
            self.dispatch(target, plan, pipeline, &params, piece);
        }
    }

    fn dispatch(
        &mut self,
        target: Target<'_>,
        plan: &Plan<'_>,
        pipeline: &Pipeline,
        params: &Params,
        piece: &Piece,
    ) {
        if self.dispatches == DISPATCHES || self.touched >= BYTES {
            self.submit(target);
        }
        let offset = self.slot_of(target, params);
        self.dispatches += 1;
        self.touched += plan.operands.iter().map(|operand| operand.range(piece).1).sum::<u64>();
        self.stats.dispatches += 1;

        plan.operands.iter().filter_map(|operand| operand.slab).for_each(|slab| target.pool.used(slab));
        let group = self.group(target, plan, pipeline, piece);
        let pass = &mut self.pending.get_or_insert_with(|| Pending::begin(target.device)).pass;
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, &group, &[offset]);
        let [x, y] = piece.workgroups;
        pass.dispatch_workgroups(x, y, 1);
    }

    /// The offset of a set of parameters, which is taken in if it is new.
    fn slot_of(&mut self, target: Target<'_>, params: &Params) -> u32 {
        if let Some(&offset) = self.known.get(params) {
            return offset;
        }
        if self.known.len() == SLOTS {
            // None of them may be pending.
            if self.dispatches > 0 {
                self.submit(target);
            }
            self.known.clear();
        }
        let offset = (self.known.len() * self.slot) as u32;
        self.known.insert(*params, offset);
        self.fresh.extend_from_slice(bytemuck::bytes_of(params));
        self.fresh.resize(self.fresh.len().next_multiple_of(self.slot), 0);
        offset
    }

    /// The bind group of a piece, created when it is first met.
    fn group(
        &mut self,
        target: Target<'_>,
        plan: &Plan<'_>,
        pipeline: &Pipeline,
        piece: &Piece,
    ) -> wgpu::BindGroup {
        if target.pool.take_freed() || self.groups.len() >= GROUPS {
            self.groups.clear();
        }
        let mut parts = [(0, 0, 0); MAX_BINDINGS];
        let mut of_pool = true;
        for (part, operand) in parts.iter_mut().zip(&plan.operands) {
            let (offset, bytes) = operand.range(piece);
            of_pool &= operand.slab.is_some();
            *part = (operand.slab.map_or(0, |slab| slab.id), offset, bytes);
        }
        let key = GroupKey(plan.kernel.bindings, parts);
        if let Some(group) = self.groups.get(&key) {
            return group.clone();
        }
        self.stats.bind_groups_created += 1;
        let group = bind_group(target.device, (plan.kernel, pipeline), &self.slots, &plan.operands, piece);
        // A group that is kept keeps its buffers, which is not for the caller's.
        if of_pool {
            self.groups.insert(key, group.clone());
        }
        group
    }

    /// Notes `bytes` that were uploaded, to a buffer that the queue was given to write if not at once, and submits once
    /// they are many.
    pub fn uploaded(&mut self, target: Target<'_>, by_queue: Option<&Slab>, bytes: u64) {
        by_queue.into_iter().for_each(|slab| target.pool.used(slab));
        self.uploaded += bytes;
        if self.uploaded >= UPLOADED {
            self.submit(target);
        }
    }

    /// Submits what is pending.
    pub fn submit(&mut self, target: Target<'_>) -> wgpu::SubmissionIndex {
        self.submit_with(target, |_| {})
    }

    /// Submits what is pending and then what `more` encodes.
    pub fn submit_with(
        &mut self,
        target: Target<'_>,
        more: impl FnOnce(&mut wgpu::CommandEncoder),
    ) -> wgpu::SubmissionIndex {
        let mut encoder = match self.pending.take() {
            Some(Pending { pass, encoder }) => {
                drop(pass);
                encoder
            }
            None => target.device.create_command_encoder(&Default::default()),
        };
        more(&mut encoder);
        if !self.fresh.is_empty() {
            let written = self.known.len() * self.slot - self.fresh.len();
            target.queue.write_buffer(&self.slots, written as u64, &self.fresh);
            self.fresh.clear();
        }
        let index = target.queue.submit([encoder.finish()]);
        (self.dispatches, self.touched, self.uploaded) = (0, 0, 0);
        self.stats.submissions += 1;
        self.submitted.push_back(index.clone());
        target.queue.on_submitted_work_done(target.pool.submitted());
        index
    }

    /// The submission to wait for before more is submitted, if too many are not done.
    pub fn overdue(&mut self) -> Option<wgpu::SubmissionIndex> {
        let excess = self.submitted.len().checked_sub(IN_FLIGHT)?;
        self.submitted.drain(..excess).next_back()
    }

    /// Forgets bind groups, and the buffers that they keep.
    pub fn forget_groups(&mut self) {
        self.groups.clear();
    }

    /// Those of what was recorded and submitted.
    pub fn stats(&self) -> Stats {
        self.stats
    }
}
