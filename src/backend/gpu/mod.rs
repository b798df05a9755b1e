//! The GPU path: WGSL kernels, dispatched through wgpu. Nothing outside this folder knows wgpu.
//!
//! For owners of a wgpu program: [`Kernels`] prepares operations for your passes, [`Device::from_wgpu`] and
//! [`Tensor::from_buffer`] take your device and your buffers, [`Adapter`] and [`Context`] open one with limits of your
//! choice.
//!
//! [`Device::from_wgpu`]: crate::Device::from_wgpu
//! [`Tensor::from_buffer`]: crate::Tensor::from_buffer

// A `Context` is an opened adapter. Its operations take and return `Buffer`s; they are recorded into one pending compute
// pass, which is submitted on a read, on a flush, or when it has grown to a budget. Buffers come from a pool and go back
// to it when dropped.
//
// - `adapter` finds adapters and says which are software; `context` opens one; `status` turns its errors and its loss
//   into `Error`, and waits; `poller` waits without blocking;
// - `buffer`, `pool`, `generation`, `transfer`: buffers, how and when they are reused, transfers to and from them;
// - `limits`: the device's, under which `crate::plan` plans dispatches; `pipeline`: a compiled kernel; `recorder`:
//   the pass that it joins; `batch`: that pass;
// - `submit`, `submit_lock`: how the pass reaches the queue, in order and whatever callbacks do;
// - `kernels` prepares them for a caller's pass, without a context; `interop`: tensors in the caller's buffers;
// - `reduce`, `scale`, `softmax` and `testing`: kernels that are not operations of the list.

mod adapter;
mod batch;
mod buffer;
mod context;
mod generation;
mod handles;
mod interop;
mod kernels;
mod limits;
mod pipeline;
#[cfg(not(target_arch = "wasm32"))]
mod poller;
mod pool;
mod recorder;
mod reduce;
mod scale;
mod softmax;
mod status;
mod submit;
mod submit_lock;
mod sync;
pub(crate) mod testing;
mod transfer;

pub use crate::op::Arguments;
pub use adapter::{Adapter, adapters};
pub(crate) use buffer::Buffer;
pub use context::Context;
pub use kernels::{Kernels, Prepared};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use transfer::Readback;
use wgpu::BufferSlice;

use buffer::BufferRef;
use pool::FirstWrite;

use super::Backend;
use crate::broadcast::{Broadcast, Reduction, Slices};
use crate::call::{Call, Limiter, Reductions, with_target};
use crate::norm::Scaling;
use crate::norm::exact::{ExactSum, ReduceOp};
use crate::op::{MAX_OUTPUTS, Operand};
use crate::plan::{self, Planner, Sink, mask_bytes};
use crate::{DeviceInfo, Element, ElementType, NormLimit, Result, Stats};

/// The pending pass.
impl<'b> Sink<BufferRef<'b>> for Context {
    fn planner(&self) -> Planner<'_> {
        self.planner()
    }

    fn record(&self, dispatch: &plan::Dispatch<'_, BufferRef<'b>>) -> Result<()> {
        self.record(dispatch)
    }
}

impl Context {
    fn output(&self, call: &Call<'_, &Buffer>, operand: Operand) -> Result<Buffer> {
        let bytes = |element: ElementType| (call.len * element.size()) as u64;
        let bytes = match operand {
            Operand::Mask => mask_bytes(call.element(), bytes(call.element())),
            _ => bytes(call.to()),
        };
        self.buffer(bytes, FirstWrite::Recorded)
    }

    fn record_op(&self, call: &Call<'_, &Buffer>, inputs: &[&Buffer], outputs: &[&Buffer]) -> Result<()> {
        let broadcast = call.arguments.broadcast.try_map(|input| Ok(input.part()))?;
        let inputs: Vec<_> = inputs.iter().map(|buffer| buffer.part()).collect();
        let outputs: Vec<_> = outputs.iter().map(|buffer| buffer.part()).collect();
        let dispatches = self.planner().op(&call.with_operands(&inputs, &broadcast), &outputs)?;
        dispatches.iter().try_for_each(|dispatch| self.record(dispatch))
    }
}

impl Backend for Context {
    type Buffer = Buffer;
    type Scalings = Buffer;

    fn info(&self) -> DeviceInfo {
        self.info().clone()
    }

    fn same_device(&self, other: &Self) -> bool {
        self.is_same(other)
    }

    fn upload(&self, _: ElementType, bytes: &[u8]) -> Result<Buffer> {
        self.upload_bytes(bytes)
    }

    fn adopt<T: Element>(&self, data: Vec<T>) -> Result<Buffer> {
        self.upload_bytes(bytemuck::cast_slice(&data))
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn copy_to_host(&self, buffer: &Buffer, bytes: &mut [u8]) -> Result<()> {
        self.read_blocking(buffer, bytes)?;
        pollster::block_on(self.check_norms())
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn take<T: Element>(&self, buffer: Buffer, len: usize) -> Result<Vec<T>> {
        let elements = self.take_elements(buffer, len)?;
        pollster::block_on(self.check_norms())?;
        Ok(elements)
    }

    async fn read<T: Element>(&self, buffer: &Buffer, len: usize) -> Result<Vec<T>> {
        let elements = self.read_elements(buffer, len).await?;
        self.check_norms().await?;
        Ok(elements)
    }

    fn bytes(&self, buffer: &Buffer) -> u64 {
        buffer.bytes()
    }

    fn run(
        &self,
        call: &Call<'_, &Buffer>,
        reductions: &Reductions,
    ) -> Result<[Option<Buffer>; MAX_OUTPUTS]> {
        let mut buffers = [const { None }; MAX_OUTPUTS];
        for (index, operand) in call.outputs() {
            buffers[index] = Some(self.output(call, operand)?);
        }
        self.record_op(call, call.inputs, &buffers.iter().flatten().collect::<Vec<_>>())?;
        for (buffer, reduction) in buffers.iter_mut().zip(reductions) {
            if let (Some(output), Some(reduction)) = (&*buffer, reduction) {
                let element = call.element();
                *buffer = Some(self.record_reduction(element, output, reduction, ReduceOp::Sum, element)?);
            }
        }
        Ok(buffers)
    }

    fn run_in_place(&self, call: &Call<'_, &Buffer>, target: &mut Buffer) -> Result<()> {
        if target.is_unique() {
            return self.record_op(call, call.inputs, &[target]);
        }
        let output = self.output(call, call.op.info().outputs[0])?;
        self.record_op(call, &with_target(call, target)?, &[&output])?;
        *target = output;
        Ok(())
    }

    fn reduce(
        &self,
        element: ElementType,
        from: &Buffer,
        reduction: &Reduction,
        op: ReduceOp,
        to: ElementType,
    ) -> Result<Buffer> {
        self.record_reduction(element, from, reduction, op, to)
    }

    fn reduce_list(&self, list: &[(ElementType, &Buffer)], op: ReduceOp, to: ElementType) -> Result<Buffer> {
        self.record_list(list, op, to)
    }

    async fn exact_sum(&self, list: &[(ElementType, &Buffer)], op: ReduceOp, bits: u32) -> Result<ExactSum> {
        self.read_sum(list, op, bits).await
    }

    fn scalings(&self, _: ElementType, norms: &Buffer, limiter: Limiter<'_, &Buffer>) -> Result<Buffer> {
        self.record_scalings(norms, limiter)
    }

    fn known_scaling(&self, elements: &[ElementType], scaling: Scaling<f64>) -> Result<Buffer> {
        self.upload_bytes(bytemuck::cast_slice(&scale::words(self.planner(), elements, scaling)?))
    }

    fn scale(
        &self,
        element: ElementType,
        x: &Buffer,
        scalings: &Buffer,
        broadcast: &Broadcast,
    ) -> Result<Buffer> {
        self.record_scaled(element, x, scalings, broadcast)
    }

    fn scale_backward(
        &self,
        element: ElementType,
        operands: [&Buffer; 2],
        slices: (&Reduction, &Broadcast),
        limit: &NormLimit,
    ) -> Result<Buffer> {
        self.record_scaled_backward(element, operands, slices, limit)
    }

    fn softmax(&self, element: ElementType, x: &Buffer, slices: &Slices) -> Result<Buffer> {
        self.record_softmax(element, x, &slices.reduction)
    }

    fn softmax_backward(
        &self,
        element: ElementType,
        operands: [&Buffer; 2],
        slices: &Slices,
    ) -> Result<Buffer> {
        self.record_softmax_backward(element, operands, &slices.reduction)
    }

    fn scale_list(&self, list: Vec<(ElementType, &mut Buffer)>, scalings: &Buffer) -> Result<()> {
        // Everything that needs memory comes first, so that all are changed or none.
        let (mut list, mut copies) = (list, Vec::new());
        for (_, x) in &mut list {
            let copy = (!x.is_unique()).then(|| self.buffer(x.bytes(), FirstWrite::Recorded));
            copies.push(copy.transpose()?);
        }
        let mut work = list.into_iter().zip(copies);
        work.try_for_each(|((element, x), y)| self.record_scaled_in_place(element, x, y, scalings))
    }

    fn patterns(&self, start: u32, step: u32, len: usize) -> Result<Buffer> {
        self.record_patterns(start, step, len)
    }

    fn check(&self) -> Result<()> {
        self.check_lost()
    }

    fn flush(&self) -> Result<()> {
        self.submit_pending()?;
        self.take_fault()
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn wait(&self) -> Result<()> {
        self.wait_done()?;
        pollster::block_on(self.check_norms())
    }

    fn stats(&self) -> Stats {
        self.read_stats()
    }

    fn trim(&self) -> Result<()> {
        self.free_idle()
    }

    fn set_memory_budget(&self, bytes: u64) {
        self.set_budget(bytes);
    }

    fn drop_pipelines(&self) {
        self.clear_pipelines();
    }
}
