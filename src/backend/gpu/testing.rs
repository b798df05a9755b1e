//! For conformance checks and benchmarks: `shaders/probe.wgsl`, devices with planted faults, and every kernel's source.

use super::pool::FirstWrite;
use super::{Adapter, Buffer, Context};
#[cfg(not(target_arch = "wasm32"))]
use crate::backend::any::AnyBackend;
use crate::norm::exact::ReduceOp;
use crate::plan::{FixedKernel, OpParams, Params, Program, reduce, scale, softmax};
use crate::wgsl::{BLOCK_BYTES, Kernel, Order, Specialization};
use crate::{Device, ElementType, Result};
#[cfg(not(target_arch = "wasm32"))]
use crate::{Shape, Tensor, tensor::Stored};

const fn kernel(entry: &'static str, bindings: &'static [(&'static str, bool)]) -> FixedKernel {
    FixedKernel { entry, source: include_str!("../../../shaders/probe.wgsl"), bindings, substitutes: &[] }
}

static PATTERNS: FixedKernel = kernel("patterns", &[("y", false)]);
static BUILTIN_CLAMP: FixedKernel = kernel("builtin_clamp", &[("a", true), ("y", false)]);
static BUILTIN_ADD: FixedKernel = kernel("builtin_add", &[("a", true), ("b", true), ("y", false)]);

impl Context {
    /// Records words `start`, `start + step`, and so on: elements of 4 bytes.
    pub(super) fn record_patterns(&self, start: u32, step: u32, len: usize) -> Result<Buffer> {
        let y = self.buffer(4 * len as u64, FirstWrite::Recorded)?;
        self.probe(&PATTERNS, [start, step, 0, 0], &[&y])?;
        Ok(y)
    }

    fn probe(&self, kernel: &'static FixedKernel, scalars: [u32; 4], buffers: &[&Buffer]) -> Result<()> {
        let blocks = buffers.first().map_or(0, |buffer| buffer.bytes().div_ceil(BLOCK_BYTES));
        let operands: Vec<_> = buffers.iter().map(|buffer| buffer.part()).collect();
        let params = OpParams { scalars, ..OpParams::default() }.into();
        self.record(&self.planner().whole(
            kernel,
            Specialization::of(ElementType::F32),
            params,
            blocks,
            &operands,
        )?)
    }
}

/// Runs a WGSL builtin on two operands (`clamp` takes the first, and the bounds), as the driver has it; `None` on the
/// CPU path.
///
/// # Errors
/// Those of the device.
#[cfg(not(target_arch = "wasm32"))]
pub fn builtin(device: &Device, operands: &[&[f32]], bounds: Option<(f32, f32)>) -> Result<Option<Vec<f32>>> {
    let AnyBackend::Gpu(context) = device.backend() else { return Ok(None) };
    let buffers: Vec<_> = operands
        .iter()
        .map(|data| context.upload_bytes(bytemuck::cast_slice(data)))
        .collect::<Result<_>>()?;
    let len = operands.first().map_or(0, |data| data.len());
    let y = context.buffer(4 * len as u64, FirstWrite::Recorded)?;
    let all: Vec<_> = buffers.iter().chain([&y]).collect();
    match bounds {
        Some((lo, hi)) => context.probe(&BUILTIN_CLAMP, [lo.to_bits(), hi.to_bits(), 0, 0], &all)?,
        None => context.probe(&BUILTIN_ADD, [0; 4], &all)?,
    }
    Tensor::<f32>::new(context.store(y), Shape::new([len])?).to_vec().map(Some)
}

/// Opens an adapter with a function that alters each shader's source, by which the tests prove that they can fail.
///
/// # Errors
/// [`Error::DeviceRequest`](crate::Error::DeviceRequest) if the adapter refuses.
pub async fn open_patched(
    adapter: &Adapter,
    limits: wgpu::Limits,
    patch: impl Fn(&str) -> String + Send + Sync + 'static,
) -> Result<Device> {
    Context::open(adapter, limits, Some(Box::new(patch))).await.map(Device::from)
}

/// A kernel as text, to be compiled by other means.
#[derive(Debug, Clone)]
pub struct Source {
    /// The operation and what it is compiled for.
    pub name: String,
    /// The entry point.
    pub entry: &'static str,
    /// The whole WGSL.
    pub wgsl: String,
    /// For each storage buffer, its binding number and whether it is read-only.
    pub bindings: Vec<(u32, bool)>,
}

/// Every kernel of a type.
pub fn sources(element: ElementType) -> Vec<Source> {
    let ops = Kernel::all(element).into_iter().map(Program::Op);
    let norms = element.is_float() && element != ElementType::F64;
    let scales = scale::KERNELS.iter().copied().filter(|_| norms);
    let fixed = scales.chain([&PATTERNS, &BUILTIN_CLAMP, &BUILTIN_ADD]);
    let fixed = fixed.map(|kernel| Program::Fixed(kernel, Specialization::of(element)));
    let reductions =
        ReduceOp::ALL.into_iter().filter(|&op| norms || op == ReduceOp::Sum).flat_map(|reduce| {
            let to = if reduce == ReduceOp::Sum { element } else { ElementType::F32 };
            let orders = [Order::Rows, Order::Columns, Order::Strided].into_iter();
            let of = |order| Specialization { reduce, to, order, ..Specialization::of(element) };
            let kernels =
                orders.map(of).flat_map(|of| reduce::KERNELS.iter().map(move |&kernel| (kernel, of)));
            kernels.map(|(kernel, of)| Program::Fixed(kernel, of)).collect::<Vec<_>>()
        });
    let softmaxes =
        [Order::Rows, Order::Columns, Order::Strided].into_iter().filter(|_| norms).flat_map(|order| {
            let specialization = Specialization { order, ..Specialization::of(element) };
            softmax::KERNELS.iter().map(move |&kernel| Program::Fixed(kernel, specialization))
        });
    ops.chain(fixed)
        .chain(reductions)
        .chain(softmaxes)
        .map(|program| Source {
            name: match program {
                Program::Op(kernel) => format!(
                    "{} {element}, outputs {:?}, ties {}, layouts {:?}, shared {}",
                    kernel.op.variant_name(kernel.in_place),
                    kernel.needs,
                    kernel.specialization.ties,
                    &kernel.specialization.layouts[..kernel.op.info().broadcast.len()],
                    kernel.shared
                ),
                Program::Fixed(kernel, specialization) => {
                    let Specialization { reduce, order, .. } = specialization;
                    format!("{} {element}, {reduce:?} of {order:?}", kernel.entry)
                }
            },
            entry: program.entry(),
            wgsl: program.source(),
            bindings: program.bindings(),
        })
        .collect()
}

/// The parameters of a dispatch over `len` elements with scalar bounds, as bytes.
pub fn params_bytes<T: crate::Element>(
    bounds: &crate::bounds::BroadcastInputs<()>,
    rule: crate::BackwardRule,
    len: usize,
) -> Vec<u8> {
    use crate::plan::{Granularity, Limits, dispatch_ranges};
    let limits = Limits::of(&wgpu::Limits::default());
    let ranges = dispatch_ranges((len * size_of::<T>()) as u64, Granularity::Block, limits);
    let arguments = crate::op::Arguments { rule, ..crate::op::Arguments::new(bounds) };
    let params = Params::from(OpParams::new(&arguments));
    let params = ranges.take(1).map(|range| params.for_dispatch(&range, (true, None), T::TYPE));
    params.flat_map(|params| bytemuck::bytes_of(&params).to_vec()).collect()
}
