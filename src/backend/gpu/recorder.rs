//! The pending pass: operations join it, and it is submitted as one.
//!
//! A submission costs hundreds of microseconds and a dispatch a few, so many operations share one. It is
//! submitted on a read, on a flush, and when it has grown to [`DISPATCHES`] dispatches or [`BYTES`] bytes, so that
//! the device works while the host goes on recording. The host waits when [`IN_FLIGHT`] submissions are not done.

use std::collections::{HashMap, VecDeque};

use super::dispatch::{BufferPart, Dispatch};
use super::geometry::DispatchRange;
use super::params::Params;
use super::pipeline::{MAX_BINDINGS, Pipeline};
use super::pool::{Pool, PooledBuffer};
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
pub(super) struct Recorder {
    pending: Option<Pending>,
    /// A slot for each set of parameters. New ones are written by the queue when what uses them is submitted, before it
    /// runs and after the dispatches of the submission before.
    slots: wgpu::Buffer,
    /// Bytes from one slot to the next: a dynamic offset must be aligned.
    slot: usize,
    /// Where each set of parameters is.
    params_cache: HashMap<Params, u32>,
    /// Those not yet written, which are the last of them.
    unwritten_params: Vec<u8>,
    dispatches: u32,
    bytes_in_pass: u64,
    bytes_uploaded: u64,
    groups: HashMap<GroupKey, wgpu::BindGroup>,
    submitted: VecDeque<wgpu::SubmissionIndex>,
    stats: Stats,
}

/// The buffers of the pool that are bound, each with its offset and size, and how: kernels of the same bindings share
/// their groups.
#[derive(Debug, PartialEq, Eq, Hash)]
struct GroupKey(u64, [(u64, u64, u64); MAX_BINDINGS]);

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
pub(super) struct Gpu<'a> {
    pub device: &'a wgpu::Device,
    pub queue: &'a wgpu::Queue,
    pub pool: &'a Pool,
}

/// Bytes from one set of parameters to the next.
pub(super) fn slot(limits: &wgpu::Limits) -> usize {
    size_of::<Params>().next_multiple_of(limits.min_uniform_buffer_offset_alignment as usize)
}

/// Binds parameters, found by a dynamic offset, and a range's part of each operand.
pub(super) fn bind_group(
    device: &wgpu::Device,
    pipeline: &Pipeline,
    params: &wgpu::Buffer,
    operands: &[BufferPart<'_>],
    range: &DispatchRange,
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
    entries.extend(pipeline.bindings.iter().zip(operands).map(|(&(index, _), operand)| {
        let (offset, bytes) = operand.range(range);
        binding(index, operand.buffer, offset, bytes)
    }));
    let layout = &pipeline.layout;
    device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries })
}

impl Recorder {
    pub(super) fn new(device: &wgpu::Device) -> Self {
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
            params_cache: HashMap::new(),
            unwritten_params: Vec::new(),
            dispatches: 0,
            bytes_in_pass: 0,
            bytes_uploaded: 0,
            groups: HashMap::new(),
            submitted: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Records a dispatch, one for each of its ranges.
    pub(super) fn record(&mut self, gpu: Gpu<'_>, dispatch: &Dispatch<'_>, pipeline: &Pipeline) {
        for (range, params) in dispatch.ranges() {
            self.record_range(gpu, dispatch, pipeline, &params, range);
        }
    }

    fn record_range(
        &mut self,
        gpu: Gpu<'_>,
        dispatch: &Dispatch<'_>,
        pipeline: &Pipeline,
        params: &Params,
        range: &DispatchRange,
    ) {
        if self.dispatches == DISPATCHES || self.bytes_in_pass >= BYTES {
            self.submit(gpu);
        }
        let offset = self.slot_of(gpu, params);
        self.dispatches += 1;
        self.bytes_in_pass += dispatch.operands.iter().map(|operand| operand.range(range).1).sum::<u64>();
        self.stats.dispatches += 1;

        dispatch
            .operands
            .iter()
            .filter_map(|operand| operand.pooled)
            .for_each(|pooled| gpu.pool.used(pooled));
        let group = self.group(gpu, dispatch, pipeline, range);
        let pass = &mut self.pending.get_or_insert_with(|| Pending::begin(gpu.device)).pass;
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, &group, &[offset]);
        let [x, y] = range.workgroups;
        pass.dispatch_workgroups(x, y, 1);
    }

    /// The offset of a set of parameters, which is taken in if it is new.
    fn slot_of(&mut self, gpu: Gpu<'_>, params: &Params) -> u32 {
        if let Some(&offset) = self.params_cache.get(params) {
            return offset;
        }
        if self.params_cache.len() == SLOTS {
            // None of them may be pending.
            if self.dispatches > 0 {
                self.submit(gpu);
            }
            self.params_cache.clear();
        }
        let offset = (self.params_cache.len() * self.slot) as u32;
        self.params_cache.insert(*params, offset);
        self.unwritten_params.extend_from_slice(bytemuck::bytes_of(params));
        self.unwritten_params.resize(self.unwritten_params.len().next_multiple_of(self.slot), 0);
        offset
    }

    /// The bind group of a range, created when it is first met.
    fn group(
        &mut self,
        gpu: Gpu<'_>,
        dispatch: &Dispatch<'_>,
        pipeline: &Pipeline,
        range: &DispatchRange,
    ) -> wgpu::BindGroup {
        if gpu.pool.take_freed() || self.groups.len() >= GROUPS {
            self.groups.clear();
        }
        let mut parts = [(0, 0, 0); MAX_BINDINGS];
        let mut of_pool = true;
        for (part, operand) in parts.iter_mut().zip(&dispatch.operands) {
            let (offset, bytes) = operand.range(range);
            of_pool &= operand.pooled.is_some();
            *part = (operand.pooled.map_or(0, |pooled| pooled.id), offset, bytes);
        }
        let key = GroupKey(pipeline.signature, parts);
        if let Some(group) = self.groups.get(&key) {
            return group.clone();
        }
        self.stats.bind_groups_created += 1;
        let group = bind_group(gpu.device, pipeline, &self.slots, &dispatch.operands, range);
        // The cache would keep the caller's buffers alive, so groups of the caller's are not kept.
        if of_pool {
            self.groups.insert(key, group.clone());
        }
        group
    }

    /// Notes `bytes` that were uploaded, to a buffer that the queue was given to write if not at once, and submits once
    /// they are many.
    pub(super) fn uploaded(&mut self, gpu: Gpu<'_>, by_queue: Option<&PooledBuffer>, bytes: u64) {
        by_queue.into_iter().for_each(|pooled| gpu.pool.used(pooled));
        self.bytes_uploaded += bytes;
        if self.bytes_uploaded >= UPLOADED {
            self.submit(gpu);
        }
    }

    /// Submits what is pending.
    pub(super) fn submit(&mut self, gpu: Gpu<'_>) -> wgpu::SubmissionIndex {
        self.submit_with(gpu, |_| {})
    }

    /// Submits what is pending and then what `more` encodes.
    pub(super) fn submit_with(
        &mut self,
        gpu: Gpu<'_>,
        more: impl FnOnce(&mut wgpu::CommandEncoder),
    ) -> wgpu::SubmissionIndex {
        let mut encoder = match self.pending.take() {
            Some(Pending { pass, encoder }) => {
                drop(pass);
                encoder
            }
            None => gpu.device.create_command_encoder(&Default::default()),
        };
        more(&mut encoder);
        if !self.unwritten_params.is_empty() {
            let written = self.params_cache.len() * self.slot - self.unwritten_params.len();
            gpu.queue.write_buffer(&self.slots, written as u64, &self.unwritten_params);
            self.unwritten_params.clear();
        }
        let index = gpu.queue.submit([encoder.finish()]);
        (self.dispatches, self.bytes_in_pass, self.bytes_uploaded) = (0, 0, 0);
        self.stats.submissions += 1;
        self.submitted.push_back(index.clone());
        gpu.queue.on_submitted_work_done(gpu.pool.submitted());
        index
    }

    /// The submission to wait for before more is submitted, if too many are not done.
    pub(super) fn submission_to_wait_for(&mut self) -> Option<wgpu::SubmissionIndex> {
        let excess = self.submitted.len().checked_sub(IN_FLIGHT)?;
        self.submitted.drain(..excess).next_back()
    }

    /// Forgets bind groups, and the buffers that they keep.
    pub(super) fn forget_groups(&mut self) {
        self.groups.clear();
    }

    /// Those of what was recorded and submitted.
    pub(super) fn stats(&self) -> Stats {
        self.stats
    }
}
