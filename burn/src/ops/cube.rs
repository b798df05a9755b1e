//! On CubeCL: wgclip's WGSL kernels as raw kernels of its client, if that compiles to WGSL. They join Burn's own passes, on its own
//! buffers, without extra copies or submissions.

use burn::backend::TensorMetadata;
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, FloatDType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::{copy_contiguous, into_contiguous};
use burn_cubecl::template::{KernelSource, SourceKernel, SourceTemplate};
use burn_cubecl::tensor::CubeTensor;
use cubecl::CubeDim;
use cubecl::client::Client;
use cubecl::prelude::{CubeCount, KernelId};
use cubecl::server::{Handle, KernelArguments, MetadataBindingInfo};
use wgclip::bounds::BroadcastInputs;
use wgclip::device::DeviceKind;
use wgclip::op::Op;
use wgclip::plan::{Arguments, Kernel, Limits, ParamsBinding, Plans, SCALING_BYTES, Slice, Step, mask_bytes};
use wgclip::wgsl::BLOCK_BYTES;
use wgclip::{BackwardRule, Element, ElementType, NormKind, NormLimit, bf16, f16};

use super::{
    Bound, ClipOps, Gradient, Gradients, Limited, LimitedMetadata, Masked, MaskedMetadata, Needs, checked,
    composed,
};
use crate::path::compiles_wgsl;

/// The words of the exact sum for a norm.
pub(super) fn sum_spec(kind: NormKind) -> TensorSpec {
    TensorSpec::new(Shape::new([Plans::norm_bytes(kind) as usize / 4]), DType::I32)
}

pub(super) fn limited_metadata(to: FloatDType) -> LimitedMetadata {
    LimitedMetadata {
        norm: TensorSpec::new(Shape::new([1]), to.into()),
        scaling: TensorSpec::new(Shape::new([SCALING_BYTES as usize / 4]), DType::I32),
    }
}

pub(super) fn masked_metadata(x: &TensorSpec) -> MaskedMetadata {
    let words = mask_words(x.dtype, x.shape.num_elements());
    MaskedMetadata { y: x.clone(), mask: TensorSpec::new(Shape::new([words]), DType::I32) }
}

/// Words of the mask of `len` elements.
fn mask_words(dtype: DType, len: usize) -> usize {
    let element = element_of(dtype);
    mask_bytes(element, (len * element.size()) as u64) as usize / 4
}

fn element_of(dtype: DType) -> ElementType {
    super::element_of(dtype).unwrap_or_else(|| panic!("wgclip has no kernels for {dtype:?}"))
}

/// A kernel's source, under its own key.
struct Source(Kernel);

impl KernelSource for Source {
    fn source(&self) -> SourceTemplate {
        // The uniform of a launch is bound last.
        SourceTemplate::new(self.0.source(ParamsBinding::Last))
    }

    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info(self.0)
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

/// Kernel launches and their operands.
struct Launches {
    client: Client,
    plans: Plans,
    operands: Vec<Handle>,
}

impl Launches {
    fn new(client: &Client) -> Self {
        let properties = client.properties();
        let identity = &properties.identity;
        // A software rasteriser is not a physical device.
        let kind = if identity.physical.is_some() { DeviceKind::Gpu } else { DeviceKind::Software };
        let limits = Limits {
            max_binding: properties.memory.max_page_size,
            offset_alignment: properties.memory.alignment,
            max_workgroups: properties.hardware.max_cube_count.0,
            max_buffers: properties.hardware.max_bindings,
        };
        let plans = Plans::new(identity.name.clone(), kind, limits);
        Self { client: client.clone(), plans, operands: Vec::new() }
    }

    /// A tensor as an operand, in whole blocks.
    fn operand(&mut self, tensor: &CubeTensor) -> Slice {
        let bytes = (tensor.meta.shape().num_elements() * tensor.dtype.size()) as u64;
        self.slice(tensor.handle.clone(), bytes)
    }

    fn slice(&mut self, handle: Handle, bytes: u64) -> Slice {
        self.operands.push(handle);
        Slice { operand: self.operands.len() - 1, offset: 0, bytes: bytes.next_multiple_of(BLOCK_BYTES) }
    }

    /// A new buffer.
    fn empty(&mut self, bytes: u64) -> Slice {
        let handle = self.client.empty(bytes as usize);
        self.slice(handle, bytes)
    }

    /// An operand as a tensor.
    fn tensor(&self, slice: Slice, like: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
        let handle = self.operands[slice.operand].clone();
        CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, handle, dtype)
    }

    fn launch(&self, steps: wgclip::Result<Vec<Step>>) {
        for step in checked(steps) {
            let mut arguments = KernelArguments::new();
            for slice in &step.bindings {
                let handle = part(&self.operands[slice.operand], slice.offset, slice.bytes);
                arguments = arguments.with_buffer(handle.binding());
            }
            let data: Vec<u64> = bytemuck::pod_collect_to_vec(&[step.params]);
            let dynamic_metadata_offset = data.len();
            arguments.info = MetadataBindingInfo { data, dynamic_metadata_offset };
            let kernel = SourceKernel::new(Source(step.kernel), CubeDim::new_1d(256));
            let [x, y] = step.workgroups;
            self.client.launch(Box::new(kernel), CubeCount::Static(x, y, 1), arguments);
        }
    }
}

/// A part of a tensor's memory, which may extend beyond the tensor's end within its allocation.
fn part(handle: &Handle, offset: u64, bytes: u64) -> Handle {
    let mut part = handle.clone();
    let start = handle.offset_start.unwrap_or(0) + offset;
    part.offset_start = (start > 0).then_some(start);
    let left = handle.size().saturating_sub(start + bytes);
    part.offset_end = (left > 0).then_some(left);
    part
}

/// A contiguous tensor, aligned for a kernel, in whole blocks.
fn blocks(tensor: CubeTensor) -> CubeTensor {
    let tensor = into_contiguous(tensor);
    let start = tensor.handle.offset_start.unwrap_or(0);
    let bytes = (tensor.meta.shape().num_elements() * tensor.dtype.size()) as u64;
    let aligned = start.is_multiple_of(tensor.client.properties().memory.alignment);
    match aligned && start + bytes.next_multiple_of(BLOCK_BYTES) <= tensor.handle.size() {
        true => tensor,
        // A new allocation satisfies both.
        false => copy_contiguous(tensor),
    }
}

fn shape_of(tensor: &CubeTensor) -> wgclip::Shape {
    checked(wgclip::Shape::new(tensor.meta.shape().to_vec()))
}

/// A bound that can be a kernel operand.
fn prepared(bound: Bound<CubeBackend>) -> Bound<CubeBackend> {
    match bound {
        Bound::Tensor(tensor) => Bound::Tensor(blocks(tensor)),
        bound => bound,
    }
}

fn resolve(
    launches: &mut Launches,
    x: &CubeTensor,
    [lo, hi]: [&Bound<CubeBackend>; 2],
) -> BroadcastInputs<Slice> {
    let shapes = [lo, hi].map(|bound| bound.tensor().map(shape_of));
    let slices = [lo, hi].map(|bound| bound.tensor().map(|tensor| launches.operand(tensor)));
    let values = [lo, hi].map(|bound| match bound {
        Bound::Value(value) => Some(*value),
        _ => None,
    });
    fn typed<T: Element>(
        x: &wgclip::Shape,
        values: [Option<f64>; 2],
        slices: [Option<Slice>; 2],
        shapes: &[Option<wgclip::Shape>; 2],
    ) -> wgclip::Result<BroadcastInputs<Slice>> {
        let side = |n: usize| match (slices[n], &shapes[n], values[n]) {
            (Some(slice), Some(shape), _) => wgclip::Bound::Tensor((slice, shape)),
            (_, _, Some(value)) => wgclip::Bound::Value(T::from_f64(value)),
            _ => wgclip::Bound::Absent,
        };
        BroadcastInputs::bounds::<T>(x, side(0), side(1))
    }
    let of_x = shape_of(x);
    checked(match element_of(x.dtype) {
        ElementType::F16 => typed::<f16>(&of_x, values, slices, &shapes),
        ElementType::Bf16 => typed::<bf16>(&of_x, values, slices, &shapes),
        ElementType::F64 => typed::<f64>(&of_x, values, slices, &shapes),
        _ => typed::<f32>(&of_x, values, slices, &shapes),
    })
}

/// The slice for an output: that of an unshared input, or a new one.
fn output(launches: &mut Launches, input: Slice, reused: bool) -> Slice {
    if reused { input } else { launches.empty(input.bytes) }
}

impl ClipOps for CubeBackend {
    fn clip(x: CubeTensor, lo: Bound<Self>, hi: Bound<Self>, _: BackwardRule) -> CubeTensor {
        if !compiles_wgsl(&x.client) {
            return composed::clip::<Self>(x, &lo, &hi);
        }
        let (x, lo, hi) = (blocks(x), prepared(lo), prepared(hi));
        let (len, reused, mut launches) = (x.shape().num_elements(), x.can_mut(), Launches::new(&x.client));
        let bounds = resolve(&mut launches, &x, [&lo, &hi]);
        let from = launches.operand(&x);
        let y = output(&mut launches, from, reused);
        launches.launch(launches.plans.op(Op::Clip, len, &[from], &[Some(y)], &Arguments::new(&bounds)));
        launches.tensor(y, &x, x.shape(), x.dtype)
    }

    fn clip_backward(
        x: CubeTensor,
        g: CubeTensor,
        lo: Bound<Self>,
        hi: Bound<Self>,
        rule: BackwardRule,
        needs: Needs,
    ) -> Gradients<Self> {
        if !compiles_wgsl(&x.client) {
            return composed::clip_backward::<Self>(x, g, &lo, &hi, rule, needs);
        }
        let (x, g, lo, hi) = (blocks(x), blocks(g), prepared(lo), prepared(hi));
        let (len, reused, mut launches) = (x.shape().num_elements(), g.can_mut(), Launches::new(&x.client));
        let bounds = resolve(&mut launches, &x, [&lo, &hi]);
        let (from, upstream) = (launches.operand(&x), launches.operand(&g));
        let (dtype, shape) = (x.dtype, x.shape());
        if !needs.lo && !needs.hi {
            if rule.is_identity() {
                return Gradients { x: Gradient::Of(g), lo: Gradient::None, hi: Gradient::None };
            }
            let gx = output(&mut launches, upstream, reused);
            let arguments = Arguments { rule, ..Arguments::new(&bounds) };
            let plan = launches.plans.op(Op::ClipBackward, len, &[from, upstream], &[Some(gx)], &arguments);
            launches.launch(plan);
            let gx = launches.tensor(gx, &x, shape, dtype);
            return Gradients { x: Gradient::Of(gx), lo: Gradient::None, hi: Gradient::None };
        }
        // Straight through, x receives g itself.
        let is_computed = needs.x && !rule.is_identity();
        let made = [is_computed, needs.lo, needs.hi];
        let outputs = made.map(|made| made.then(|| launches.empty(from.bytes)));
        let arguments = Arguments { rule, ..Arguments::new(&bounds) };
        let plan = launches.plans.op(Op::ClipBackwardBounds, len, &[from, upstream], &outputs, &arguments);
        launches.launch(plan);
        let of_bound = |launches: &mut Launches, bound: &Bound<Self>, gradient: Option<Slice>| match (
            gradient,
            bound.tensor(),
        ) {
            (Some(gradient), Some(bound)) => Gradient::Of(sum_to(launches, gradient, &x, bound)),
            _ => Gradient::None,
        };
        let of_lo = of_bound(&mut launches, &lo, outputs[1]);
        let of_hi = of_bound(&mut launches, &hi, outputs[2]);
        let of_x = match (needs.x, outputs[0]) {
            (true, Some(gx)) => Gradient::Of(launches.tensor(gx, &x, shape, dtype)),
            (true, None) => Gradient::Of(g),
            (false, _) => Gradient::None,
        };
        Gradients { x: of_x, lo: of_lo, hi: of_hi }
    }

    fn clip_with_mask(x: CubeTensor, lo: Bound<Self>, hi: Bound<Self>, rule: BackwardRule) -> Masked<Self> {
        let (x, lo, hi) = (blocks(x), prepared(lo), prepared(hi));
        let (len, mut launches) = (x.shape().num_elements(), Launches::new(&x.client));
        let bounds = resolve(&mut launches, &x, [&lo, &hi]);
        let from = launches.operand(&x);
        let y = launches.empty(from.bytes);
        let words = mask_words(x.dtype, len);
        let mask = launches.empty(4 * words as u64);
        let arguments = Arguments { rule, ..Arguments::new(&bounds) };
        let outputs = [Some(y), Some(mask)];
        launches.launch(launches.plans.op(Op::ClipWithMask, len, &[from], &outputs, &arguments));
        Masked {
            y: launches.tensor(y, &x, x.shape(), x.dtype),
            mask: launches.tensor(mask, &x, Shape::new([words]), DType::I32),
        }
    }

    fn mask_backward(g: CubeTensor, mask: CubeTensor) -> CubeTensor {
        let g = blocks(g);
        let (len, reused, mut launches) = (g.shape().num_elements(), g.can_mut(), Launches::new(&g.client));
        let (bits, upstream) = (launches.operand(&mask), launches.operand(&g));
        let gx = output(&mut launches, upstream, reused);
        let bounds = BroadcastInputs::none(element_of(g.dtype));
        let plan = launches.plans.op(
            Op::MaskBackward,
            len,
            &[bits, upstream],
            &[Some(gx)],
            &Arguments::new(&bounds),
        );
        launches.launch(plan);
        launches.tensor(gx, &g, g.shape(), g.dtype)
    }

    fn start_norm(x: FloatTensor<Self>, kind: NormKind) -> IntTensor<Self> {
        let mut launches = Launches::new(&x.client);
        let sum = launches.empty(Plans::norm_bytes(kind));
        launches.launch(launches.plans.clear_norm(kind, sum));
        let TensorSpec { shape, dtype, .. } = sum_spec(kind);
        let sum = launches.tensor(sum, &x, shape, dtype);
        Self::add_norm(sum, x, kind)
    }

    fn add_norm(sum: IntTensor<Self>, x: FloatTensor<Self>, kind: NormKind) -> IntTensor<Self> {
        let x = blocks(x);
        let (len, mut launches) = (x.shape().num_elements(), Launches::new(&x.client));
        let (from, into) = (launches.operand(&x), launches.operand(&sum));
        launches.launch(launches.plans.add_to_norm((element_of(x.dtype), len), from, kind, into));
        sum
    }

    fn limit_norm(sum: IntTensor<Self>, limit: NormLimit, to: FloatDType) -> Limited<Self> {
        let mut launches = Launches::new(&sum.client);
        let from = launches.operand(&sum);
        let (norm, scaling) = (launches.empty(4), launches.empty(SCALING_BYTES));
        launches.launch(launches.plans.limit_norm(from, &limit, [norm, scaling]));
        let tensor = |slice, TensorSpec { shape, dtype, .. }| launches.tensor(slice, &sum, shape, dtype);
        let metadata = limited_metadata(to);
        Limited { norm: tensor(norm, metadata.norm), scaling: tensor(scaling, metadata.scaling) }
    }

    fn scale(x: FloatTensor<Self>, scaling: IntTensor<Self>) -> FloatTensor<Self> {
        let x = blocks(x);
        let (reused, mut launches) = (x.can_mut(), Launches::new(&x.client));
        let (from, by) = (launches.operand(&x), launches.operand(&scaling));
        let y = output(&mut launches, from, reused);
        launches.launch(launches.plans.scale(element_of(x.dtype), [from, y], by));
        launches.tensor(y, &x, x.shape(), x.dtype)
    }

    fn scale_backward(x: FloatTensor<Self>, g: FloatTensor<Self>, limit: NormLimit) -> FloatTensor<Self> {
        let (x, g) = (blocks(x), blocks(g));
        let (element, len) = (element_of(x.dtype), x.shape().num_elements());
        let mut launches = Launches::new(&x.client);
        let operands = [&x, &g].map(|tensor| launches.operand(tensor));
        let gx = launches.empty(operands[0].bytes);
        let scratch = launches.plans.scale_backward_bytes(element).map(|bytes| launches.empty(bytes));
        let [from, upstream] = operands;
        launches.launch(launches.plans.scale_backward((element, len), [from, upstream, gx], &limit, scratch));
        launches.tensor(gx, &x, x.shape(), x.dtype)
    }
}

/// The gradient of a bound, summed to its shape.
fn sum_to(launches: &mut Launches, gradient: Slice, x: &CubeTensor, bound: &CubeTensor) -> CubeTensor {
    let (shape, dtype) = (bound.shape(), bound.dtype);
    if shape.num_elements() == x.shape().num_elements() {
        // Nothing to sum: each element keeps its bits.
        return launches.tensor(gradient, bound, shape, dtype);
    }
    let (element, shapes) = (element_of(dtype), [shape_of(x), shape_of(bound)]);
    let [of_x, of_bound] = &shapes;
    let [scratch, result] = checked(launches.plans.sum_bytes(element, of_x, of_bound));
    let (scratch, result) = (launches.empty(scratch), launches.empty(result));
    launches.launch(launches.plans.sum(element, gradient, [of_x, of_bound], [scratch, result]));
    launches.tensor(result, bound, shape, dtype)
}
