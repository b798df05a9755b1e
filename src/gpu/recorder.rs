//! The pending pass: operations join it, and it is submitted as one.
//!
//! A submission costs hundreds of microseconds and a dispatch a few, so many operations share one. It is
//! submitted on a read, on a flush, and when it has grown to [`SLOTS`] dispatches or [`BYTES`] bytes, so that
//! the device works while the host goes on recording.

use super::dispatch::{BLOCK, Params, Piece, WORKGROUP};
use super::pipeline::{Kernel, Pipeline};
use super::pool::{Buffer, Pool};

/// Dispatches of a submission at the most: as many as there are slots for parameters.
const SLOTS: usize = 512;

/// Bytes that the dispatches of a submission touch, at about the most.
const BYTES: u64 = 1 << 30;

/// Bytes that are uploaded before a submission sets them moving. Until then they stay in host memory too.
const UPLOADED: u64 = 64 << 20;

/// The pending pass of a device and the parameters of its dispatches.
#[derive(Debug)]
pub struct Recorder {
    pending: Option<Pending>,
    /// A slot of parameters for each pending dispatch. It is written by the queue when they are submitted,
    /// before they run and after the dispatches of the submission before.
    slots: wgpu::Buffer,
    /// Bytes from one slot to the next: a dynamic offset must be aligned.
    slot: usize,
    params: Vec<u8>,
    touched: u64,
    uploaded: u64,
}

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

/// A buffer that a kernel works on.
#[derive(Debug, Clone, Copy)]
pub struct Operand<'a> {
    pub buffer: &'a Buffer,
    pub span: Span,
}

/// Which part of a buffer belongs to a piece of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// Its blocks.
    Blocks,
    /// The words of a mask, each of so many blocks.
    Words(u32),
    /// All of it.
    Whole,
}

impl Operand<'_> {
    /// The offset and the bytes of a piece's part.
    fn range(&self, piece: &Piece) -> (u64, u64) {
        match self.span {
            Span::Blocks => (piece.offset, piece.bytes()),
            Span::Words(each) => {
                // A workgroup's words, of the blocks that belong together.
                let unit = u64::from(each * WORKGROUP);
                let words = 4 * u64::from(WORKGROUP);
                (piece.offset / BLOCK / unit * words, u64::from(piece.blocks).div_ceil(unit) * words)
            }
            Span::Whole => (0, self.buffer.bytes().next_multiple_of(BLOCK)),
        }
    }
}

impl Recorder {
    pub fn new(device: &wgpu::Device) -> Self {
        let alignment = device.limits().min_uniform_buffer_offset_alignment as usize;
        let slot = size_of::<Params>().next_multiple_of(alignment);
        let slots = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("wgclip parameters"),
            size: (SLOTS * slot) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Self { pending: None, slots, slot, params: Vec::new(), touched: 0, uploaded: 0 }
    }

    /// Records one dispatch over a piece of the operands, which are in the order of the kernel's bindings.
    pub fn dispatch(
        &mut self,
        target: Target<'_>,
        kernel: &Kernel,
        pipeline: &Pipeline,
        params: &Params,
        operands: &[Operand<'_>],
        piece: &Piece,
    ) {
        if self.params.len() == SLOTS * self.slot || self.touched >= BYTES {
            self.submit(target);
        }
        let offset = self.params.len();
        self.params.extend_from_slice(bytemuck::bytes_of(params));
        self.params.resize(offset + self.slot, 0);
        self.touched += operands.iter().map(|operand| operand.range(piece).1).sum::<u64>();

        let binding = |index, buffer, offset, bytes| wgpu::BindGroupEntry {
            binding: index,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer,
                offset,
                size: wgpu::BufferSize::new(bytes),
            }),
        };
        let mut entries = vec![binding(0, &self.slots, 0, size_of::<Params>() as u64)];
        entries.extend(kernel.bindings.iter().zip(operands).map(|(b, operand)| {
            let (offset, bytes) = operand.range(piece);
            binding(b.index, operand.buffer.as_wgpu(), offset, bytes)
        }));
        let group = target.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.layout,
            entries: &entries,
        });

        let pass = &mut self.pending.get_or_insert_with(|| Pending::begin(target.device)).pass;
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, &group, &[offset as u32]);
        let [x, y] = piece.workgroups;
        pass.dispatch_workgroups(x, y, 1);
    }

    /// Notes `bytes` that the queue was given to write, and submits them once they are many.
    pub fn uploaded(&mut self, target: Target<'_>, bytes: u64) {
        self.uploaded += bytes;
        if self.uploaded >= UPLOADED {
            self.submit(target);
        }
    }

    /// Submits what is pending.
    pub fn submit(&mut self, target: Target<'_>) {
        self.submit_with(target, |_| {});
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
        if !self.params.is_empty() {
            target.queue.write_buffer(&self.slots, 0, &self.params);
            self.params.clear();
        }
        let index = target.queue.submit([encoder.finish()]);
        (self.touched, self.uploaded) = (0, 0);
        target.pool.submitted();
        index
    }
}
