//! The pending pass: operations join it, and it is submitted as one.
//!
//! A submission costs hundreds of microseconds and a dispatch a few, so many operations share one. It is submitted on a
//! read, on a flush, and when it has grown to [`COMMANDS`] or [`BYTES`], so that the device works while the host keeps
//! recording. The host waits when [`IN_FLIGHT`] submissions are incomplete.
//!
//! Nothing here submits or polls, so no foreign code runs while the recorder is locked.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::batch::{Batch, LoggedDispatch, Pending};
use super::buffer::{Dispatch, Part};
use super::handles::Gpu;
use super::pipeline::Pipeline;
use super::pool::{Pool, PooledBuffer};
use super::status::DeviceStatus;
use crate::plan::{DispatchRange, MAX_BINDINGS, Params};
use crate::{Result, Stats};

/// Maximum dispatches and uploads of a submission.
const COMMANDS: u32 = 512;

/// Sets of parameters that are kept on the device. A loop reuses the same few, so nothing has to be written before its
/// kernels run.
const SLOTS: usize = 512;

/// Approximate maximum of bytes that the dispatches of a submission touch.
const BYTES: u64 = 1 << 30;

/// Bytes that are uploaded before a submission starts their transfer. Until then they also stay in host memory.
const UPLOADED: u64 = 64 << 20;

/// Maximum incomplete submissions. Each holds the memory of its uploads.
const IN_FLIGHT: usize = 4;

/// Bind groups that are kept. A steady loop of operations needs a few; one that never reuses buffers must not keep them
/// forever.
const GROUPS: usize = 4096;

/// The pending pass of a device and the parameters of its dispatches.
#[derive(Debug)]
pub(super) struct Recorder {
    pending: Option<Pending>,
    /// A slot for each set of parameters. The queue writes new ones when the dispatches that use them are submitted,
    /// before these run and after the dispatches of the previous submission.
    slots: wgpu::Buffer,
    /// Bytes from one slot to the next: a dynamic offset must be aligned.
    slot: usize,
    /// The offset of each set of parameters.
    params_cache: FxHashMap<Params, u32>,
    /// The sets not yet written, which are the last ones.
    unwritten_params: Vec<u8>,
    /// Dispatches and uploads since the last command buffer.
    commands: u32,
    dispatches: u32,
    bytes_in_pass: u64,
    bytes_uploaded: u64,
    groups: FxHashMap<GroupKey, wgpu::BindGroup>,
    /// Whether all dispatches are logged: their inputs may turn out to be missing while a logged pass is being submitted.
    logs_all: bool,
    /// The submissions that the device may not have completed, each with its generation.
    submitted: VecDeque<(u64, wgpu::SubmissionIndex)>,
    stats: Stats,
}

/// The bound buffers of the pool, each with its offset and size, and the signature of the bindings: kernels with the
/// same bindings share their groups.
#[derive(Debug, PartialEq, Eq, Hash)]
struct GroupKey(u64, [(u64, u64, u64); MAX_BINDINGS]);

/// A dispatch that is being recorded, range by range.
pub(super) struct Progress<'a> {
    gpu: Gpu<'a>,
    dispatch: &'a Dispatch<'a>,
    pipeline: &'a Pipeline,
    /// One for each range, once created.
    groups: Vec<wgpu::BindGroup>,
    /// The number of recorded ranges.
    recorded: usize,
}

impl<'a> Progress<'a> {
    pub(super) fn new(gpu: Gpu<'a>, dispatch: &'a Dispatch<'a>, pipeline: &'a Pipeline) -> Self {
        Self { gpu, dispatch, pipeline, groups: Vec::new(), recorded: 0 }
    }
}

impl Drop for Progress<'_> {
    /// An error between two ranges leaves a tensor partly written, which its users must learn of.
    fn drop(&mut self) {
        if (1..self.groups.len()).contains(&self.recorded) {
            let error = self.gpu.status.blocked("an operation was recorded in part; make the tensor again");
            let bindings = self.pipeline.bindings.iter().zip(&self.dispatch.operands);
            let written =
                bindings.filter(|((_, read_only), _)| !read_only).filter_map(|(_, part)| part.memory.tensor);
            written.for_each(|tensor| tensor.poison().set(error.clone()));
        }
    }
}

/// Bytes from one set of parameters to the next.
pub(super) fn slot(limits: &wgpu::Limits) -> usize {
    size_of::<Params>().next_multiple_of(limits.min_uniform_buffer_offset_alignment as usize)
}

/// Bytes of all sets of parameters.
pub(super) fn parameter_bytes(limits: &wgpu::Limits) -> u64 {
    (SLOTS * slot(limits)) as u64
}

/// Binds parameters, at a dynamic offset, and a range's part of each operand.
pub(super) fn bind_group(
    device: &wgpu::Device,
    pipeline: &Pipeline,
    params: &wgpu::Buffer,
    operands: &[Part<'_>],
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
        binding(index, operand.memory.buffer, offset, bytes)
    }));
    let layout = &pipeline.layout;
    device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries })
}

/// Runs wgpu calls under the recorder's lock. The reason for a failure must be looked up outside of it.
fn watched<R>(gpu: Gpu<'_>, calls: impl FnOnce() -> R) -> Result<R, wgpu::Error> {
    match gpu.status.watch(calls) {
        (result, None) => Ok(result),
        (_, Some(error)) => Err(error),
    }
}

impl Recorder {
    pub(super) fn new(device: &wgpu::Device, status: &DeviceStatus) -> Result<Self> {
        let slot = slot(&device.limits());
        let size = parameter_bytes(&device.limits());
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let label = Some("wgclip parameters");
        let desc = wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false };
        let slots = status.scoped(size, || device.create_buffer(&desc))?;
        Ok(Self {
            pending: None,
            slots,
            slot,
            params_cache: FxHashMap::default(),
            unwritten_params: Vec::new(),
            commands: 0,
            dispatches: 0,
            bytes_in_pass: 0,
            bytes_uploaded: 0,
            groups: FxHashMap::default(),
            logs_all: false,
            submitted: VecDeque::new(),
            stats: Stats::default(),
        })
    }

    /// Records a dispatch, once for each of its ranges. Returns `false` if pending work must be submitted before it can go
    /// on. Everything that can fail does so before the first is recorded.
    ///
    /// # Errors
    /// A missing operand; the inner error is wgpu's refusal.
    pub(super) fn record(&mut self, progress: &mut Progress<'_>) -> Result<Result<bool, wgpu::Error>> {
        // Under the lock: if an operand turns out to be missing later, this dispatch is in the log.
        progress.dispatch.check_operands()?;
        Ok(self.record_ranges(progress))
    }

    fn record_ranges(&mut self, progress: &mut Progress<'_>) -> Result<bool, wgpu::Error> {
        let Progress { gpu, dispatch, pipeline, .. } = *progress;
        if progress.groups.is_empty() {
            let groups = dispatch.ranges().map(|(range, _)| self.group(gpu, dispatch, pipeline, range));
            progress.groups = groups.collect::<Result<_, _>>()?;
        }
        let exported = dispatch.is_exported();
        let left = dispatch.ranges().zip(&progress.groups).skip(progress.recorded);
        for ((range, params), group) in left {
            if self.is_full() || !self.may_join(exported) || !self.has_slot(&params) {
                return Ok(false);
            }
            self.record_range(gpu, dispatch, pipeline, (range, &params), group)?;
            progress.recorded += 1;
        }
        Ok(true)
    }

    /// Whether enough is pending for a submission.
    pub(super) fn is_full(&self) -> bool {
        self.commands >= COMMANDS || self.bytes_in_pass >= BYTES || self.bytes_uploaded >= UPLOADED
    }

    /// Whether a dispatch can join the pending pass: one on buffers that the caller may destroy begins a new pass, so that
    /// dispatches on pool buffers only cannot fail with it.
    fn may_join(&self, exported: bool) -> bool {
        !exported || self.pending.as_ref().is_none_or(|pending| pending.log.is_some())
    }

    /// Whether there is a slot for a set of parameters. When all are taken, they become free once no dispatch is
    /// pending.
    fn has_slot(&mut self, params: &Params) -> bool {
        if self.params_cache.len() < SLOTS || self.params_cache.contains_key(params) {
            return true;
        }
        if self.dispatches == 0 {
            self.params_cache.clear();
        }
        self.dispatches == 0
    }

    fn record_range(
        &mut self,
        gpu: Gpu<'_>,
        dispatch: &Dispatch<'_>,
        pipeline: &Pipeline,
        (range, params): (&DispatchRange, &Params),
        group: &wgpu::BindGroup,
    ) -> Result<(), wgpu::Error> {
        let logged = dispatch.is_exported() || self.logs_all;
        let offset = self.slot_of(params);
        let pending = match &mut self.pending {
            Some(pending) => pending,
            none => none.insert(watched(gpu, || Pending::begin(gpu.device, logged))?),
        };
        self.commands += 1;
        self.dispatches += 1;
        self.bytes_in_pass += dispatch.operands.iter().map(|operand| operand.range(range).1).sum::<u64>();
        self.stats.dispatches += 1;
        let operands = dispatch.operands.iter();
        operands.filter_map(|part| part.memory.pooled()).for_each(|pooled| gpu.pool.used(pooled));
        pending.pass.set_pipeline(&pipeline.pipeline);
        pending.pass.set_bind_group(0, group, &[offset]);
        let [x, y] = range.workgroups;
        pending.pass.dispatch_workgroups(x, y, 1);
        if let Some(log) = &mut pending.log {
            log.push(LoggedDispatch::new(dispatch, pipeline, group, offset, range.workgroups));
        }
        Ok(())
    }

    /// Returns the offset of a set of parameters, which is added if it is new. Reused slots are written by the queue
    /// when the command buffer is submitted, before it runs and after earlier ones.
    fn slot_of(&mut self, params: &Params) -> u32 {
        if let Some(&offset) = self.params_cache.get(params) {
            return offset;
        }
        let offset = (self.params_cache.len() * self.slot) as u32;
        self.params_cache.insert(*params, offset);
        self.unwritten_params.extend_from_slice(bytemuck::bytes_of(params));
        self.unwritten_params.resize(self.unwritten_params.len().next_multiple_of(self.slot), 0);
        offset
    }

    /// The bind group of a range, created on first use.
    fn group(
        &mut self,
        gpu: Gpu<'_>,
        dispatch: &Dispatch<'_>,
        pipeline: &Pipeline,
        range: &DispatchRange,
    ) -> Result<wgpu::BindGroup, wgpu::Error> {
        if gpu.pool.take_freed() || self.groups.len() >= GROUPS {
            self.groups.clear();
        }
        let mut parts = [(0, 0, 0); MAX_BINDINGS];
        let mut of_pool = true;
        for (part, operand) in parts.iter_mut().zip(&dispatch.operands) {
            let (offset, bytes) = operand.range(range);
            of_pool &= operand.memory.pooled().is_some();
            *part = (operand.memory.pooled().map_or(0, |pooled| pooled.id), offset, bytes);
        }
        let key = GroupKey(pipeline.signature, parts);
        if let Some(group) = self.groups.get(&key) {
            return Ok(group.clone());
        }
        self.stats.bind_groups_created += 1;
        let group =
            watched(gpu, || bind_group(gpu.device, pipeline, &self.slots, &dispatch.operands, range))?;
        // The cache would keep the caller's buffers alive, so their bind groups are not cached.
        if of_pool {
            self.groups.insert(key, group.clone());
        }
        Ok(group)
    }

    /// Notes an upload of `bytes` bytes, to the buffer `by_queue` if the queue writes it later.
    pub(super) fn uploaded(&mut self, pool: &Pool, by_queue: Option<&PooledBuffer>, bytes: u64) {
        by_queue.into_iter().for_each(|pooled| pool.used(pooled));
        self.commands += 1;
        self.bytes_uploaded += bytes;
    }

    /// Takes the pending work, to be submitted with more that uses these buffers.
    pub(super) fn take(&mut self, pool: &Pool, uses: &[&PooledBuffer]) -> Batch {
        uses.iter().for_each(|pooled| pool.used(pooled));
        (self.commands, self.dispatches, self.bytes_in_pass, self.bytes_uploaded) = (0, 0, 0, 0);
        self.stats.submissions += 1;
        let unwritten = std::mem::take(&mut self.unwritten_params);
        let written = self.params_cache.len() * self.slot - unwritten.len();
        self.logs_all = self.pending.as_ref().is_some_and(|pending| pending.log.is_some());
        Batch {
            pending: self.pending.take(),
            params: (written as u64, unwritten),
            slots: self.slots.clone(),
            generation: pool.generations().end(),
        }
    }

    /// Notes that the outcome of the last pass is known.
    pub(super) fn resolved(&mut self) {
        self.logs_all = false;
    }

    /// Notes a submission, and forgets completed ones.
    pub(super) fn submitted(&mut self, pool: &Pool, generation: u64, index: wgpu::SubmissionIndex) {
        while self.submitted.front().is_some_and(|(generation, _)| pool.generations().is_done(*generation)) {
            self.submitted.pop_front();
        }
        self.submitted.push_back((generation, index));
    }

    /// The submission to wait for before more is submitted, if too many are incomplete.
    pub(super) fn submission_to_wait_for(&mut self) -> Option<wgpu::SubmissionIndex> {
        let excess = self.submitted.len().checked_sub(IN_FLIGHT)?;
        self.submitted.drain(..excess).next_back().map(|(_, index)| index)
    }

    /// Forgets bind groups, which keep buffers alive.
    pub(super) fn forget_groups(&mut self) {
        self.groups.clear();
    }

    /// Counts of what was recorded and submitted.
    pub(super) fn stats(&self) -> Stats {
        self.stats
    }
}
