//! The pending pass, and the batch that it becomes on its way to the queue, with a log if it may be refused.

use super::buffer::Poison;
use super::buffer::{Dispatch, Part};
use super::handles::Gpu;
use super::pipeline::Pipeline;
use crate::Error;

/// The pass comes first, so that it ends before its encoder does.
#[derive(Debug)]
pub(super) struct Pending {
    pub pass: wgpu::ComputePass<'static>,
    encoder: wgpu::CommandEncoder,
    /// Its dispatches, if their operands include buffers that the caller may map or destroy.
    pub log: Option<Vec<LoggedDispatch>>,
}

impl Pending {
    pub(super) fn begin(device: &wgpu::Device, logged: bool) -> Self {
        let label = Some("wgclip");
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label });
        let desc = wgpu::ComputePassDescriptor { label, timestamp_writes: None };
        let pass = encoder.begin_compute_pass(&desc).forget_lifetime();
        Self { pass, encoder, log: logged.then(Vec::new) }
    }
}

/// A dispatch that may have to be repeated without others.
#[derive(Debug)]
pub(super) struct LoggedDispatch {
    pub pipeline: wgpu::ComputePipeline,
    pub group: wgpu::BindGroup,
    pub offset: u32,
    pub workgroups: [u32; 2],
    /// Whether the caller may map or destroy one of its buffers.
    pub exported: bool,
    /// For each operand: whether it is written, and why its elements are missing, if they are.
    pub operands: Vec<(bool, Poison)>,
}

impl LoggedDispatch {
    /// Why elements that it works on are missing.
    pub(super) fn missing(&self) -> Option<&Error> {
        self.operands.iter().find_map(|(_, poison)| poison.get())
    }

    pub(super) fn new(
        dispatch: &Dispatch<'_>,
        pipeline: &Pipeline,
        group: &wgpu::BindGroup,
        offset: u32,
        workgroups: [u32; 2],
    ) -> Self {
        let tensors = pipeline.bindings.iter().zip(&dispatch.operands);
        let poison = |(&(_, read_only), operand): (&(u32, bool), &Part<'_>)| {
            operand.memory.tensor.map(|tensor| (!read_only, tensor.poison().clone()))
        };
        Self {
            pipeline: pipeline.pipeline.clone(),
            group: group.clone(),
            offset,
            workgroups,
            exported: dispatch.is_exported(),
            operands: tensors.filter_map(poison).collect(),
        }
    }
}

/// Recorded work on its way to the queue.
#[derive(Debug)]
pub(super) struct Batch {
    pub pending: Option<Pending>,
    /// Parameters that it needs and the device does not have, and their offset.
    pub params: (u64, Vec<u8>),
    pub slots: wgpu::Buffer,
    pub generation: u64,
}

impl Batch {
    /// Writes the parameters and ends the pass, with what `more` encodes after it.
    pub(super) fn finish(
        self,
        gpu: Gpu<'_>,
        more: impl FnOnce(&mut wgpu::CommandEncoder),
    ) -> wgpu::CommandBuffer {
        if !self.params.1.is_empty() {
            gpu.queue.write_buffer(&self.slots, self.params.0, &self.params.1);
        }
        let mut encoder = match self.pending {
            Some(Pending { pass, encoder, .. }) => {
                drop(pass);
                encoder
            }
            None => gpu.device.create_command_encoder(&Default::default()),
        };
        more(&mut encoder);
        encoder.finish()
    }

    /// Its dispatches, if the caller may map or destroy one of their buffers.
    pub(super) fn take_log(&mut self) -> Option<Vec<LoggedDispatch>> {
        self.pending.as_mut()?.log.take()
    }
}
