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
use wgclip::op::{MAX_BROADCAST, MAX_OUTPUTS, Op};
use wgclip::plan::{Arguments, Kernel, Limits, ParamsBinding, Plans, SCALING_BYTES, Slice, Step, mask_bytes};
use wgclip::wgsl::BLOCK_BYTES;
use wgclip::{BackwardRule, ElementType, NormKind, NormLimit};

use super::{
    Bound, Broadcast, Call, ClipOps, Input, Limited, LimitedMetadata, Masked, MaskedMetadata, Optional,
    Outputs, checked, composed, resolve,
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

/// Broadcast inputs as operands, with the shapes of those that are tensors.
struct Inputs([Input<Slice>; MAX_BROADCAST]);

impl Inputs {
    fn new(launches: &mut Launches, broadcast: &[Bound<CubeBackend>; MAX_BROADCAST]) -> Self {
        Self(
            broadcast
                .each_ref()
                .map(|input| checked(input.map(|tensor| Ok((launches.operand(tensor), shape_of(tensor)))))),
        )
    }

    fn resolve(&self, call: &Call, x: &CubeTensor) -> BroadcastInputs<Slice> {
        checked(resolve(call.op, element_of(x.dtype), &shape_of(x), &self.0, |slice| *slice))
    }
}

/// The slice for an output: that of an unshared input, or a new one.
fn output(launches: &mut Launches, input: Slice, reused: bool) -> Slice {
    if reused { input } else { launches.empty(input.bytes) }
}

impl ClipOps for CubeBackend {
    fn run(x: CubeTensor, g: Optional<Self>, broadcast: Broadcast<Self>, call: Call) -> Outputs<Self> {
        if !compiles_wgsl(&x.client) {
            return composed::run::<Self>(x, g, broadcast, &call);
        }
        let inputs: Vec<_> = std::iter::once(x).chain(g.into_option()).map(blocks).collect();
        let broadcast = broadcast.into_array().map(prepared);
        // An operand is another owner of its tensor's memory.
        let reused = call.op.in_place_input().filter(|&index| inputs[index].can_mut());
        let (x, mut launches) = (&inputs[0], Launches::new(&inputs[0].client));
        let resolved = Inputs::new(&mut launches, &broadcast).resolve(&call, x);
        let read: Vec<_> = inputs.iter().map(|input| launches.operand(input)).collect();
        let identity = call.op.identity_input(call.rule).filter(|_| call.needs[0]);
        let (len, to) = (x.shape().num_elements(), call.to(x.dtype));
        let mut written = [None; MAX_OUTPUTS];
        for (index, _) in call.outputs().filter(|(index, _)| *index > 0 || identity.is_none()) {
            let reused = reused.filter(|_| index == 0).map(|index| read[index]);
            written[index] = Some(reused.unwrap_or_else(|| launches.empty((len * to.size()) as u64)));
        }
        if written.iter().any(Option::is_some) {
            let arguments = call.arguments(x.dtype, &resolved);
            launches.launch(launches.plans.op(call.op, len, &read, &written, &arguments));
        }
        let mut outputs = [const { None }; MAX_OUTPUTS];
        outputs[0] = identity.map(|upstream| inputs[upstream].clone());
        for (index, of) in call.outputs() {
            if let Some(slice) = written[index] {
                outputs[index] = Some(match of.map(|of| &broadcast[of]) {
                    None => launches.tensor(slice, x, x.shape(), to),
                    Some(Bound::Tensor(input)) => sum_to(&mut launches, slice, x, input.shape()),
                    Some(_) => sum_to(&mut launches, slice, x, Shape::new([1])),
                });
            }
        }
        Outputs::new(outputs)
    }

    fn clip_with_mask(x: CubeTensor, lo: Bound<Self>, hi: Bound<Self>, rule: BackwardRule) -> Masked<Self> {
        let (x, broadcast) = (blocks(x), Broadcast::new([lo, hi]).into_array().map(prepared));
        let (len, mut launches) = (x.shape().num_elements(), Launches::new(&x.client));
        let call = Call::new(Op::ClipWithMask, rule);
        let bounds = Inputs::new(&mut launches, &broadcast).resolve(&call, &x);
        let from = launches.operand(&x);
        let y = launches.empty(from.bytes);
        let words = mask_words(x.dtype, len);
        let mask = launches.empty(4 * words as u64);
        let (outputs, arguments) = ([Some(y), Some(mask)], call.arguments(x.dtype, &bounds));
        launches.launch(launches.plans.op(call.op, len, &[from], &outputs, &arguments));
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

    fn softmax_along(x: FloatTensor<Self>, axes: Vec<usize>) -> FloatTensor<Self> {
        let x = blocks(x);
        let (element, shapes) = (element_of(x.dtype), [shape_of(&x), kept(&x, &axes)]);
        let mut launches = Launches::new(&x.client);
        let from = launches.operand(&x);
        let y = launches.empty(from.bytes);
        let shapes = [&shapes[0], &shapes[1]];
        let state = checked(launches.plans.softmax_bytes(element, shapes));
        let state = launches.empty(state);
        launches.launch(launches.plans.softmax(element, [from, y], shapes, state));
        launches.tensor(y, &x, x.shape(), x.dtype)
    }

    fn softmax_backward(y: FloatTensor<Self>, g: FloatTensor<Self>, axes: Vec<usize>) -> FloatTensor<Self> {
        let (y, g) = (blocks(y), blocks(g));
        let (element, shapes) = (element_of(y.dtype), [shape_of(&y), kept(&y, &axes)]);
        let mut launches = Launches::new(&y.client);
        let [from, upstream] = [&y, &g].map(|tensor| launches.operand(tensor));
        let gx = launches.empty(from.bytes);
        let shapes = [&shapes[0], &shapes[1]];
        let scratch = checked(launches.plans.softmax_backward_bytes(element, shapes));
        let scratch = scratch.map(|bytes| launches.empty(bytes));
        launches.launch(launches.plans.softmax_backward(element, [from, upstream, gx], shapes, scratch));
        launches.tensor(gx, &y, y.shape(), y.dtype)
    }
}

/// The shape of a tensor with a length of 1 along some axes.
fn kept(x: &CubeTensor, axes: &[usize]) -> wgclip::Shape {
    let mut dims = x.shape().to_vec();
    axes.iter().for_each(|&axis| dims[axis] = 1);
    checked(wgclip::Shape::new(dims))
}

/// The gradient of a broadcast input, summed to its shape.
fn sum_to(launches: &mut Launches, gradient: Slice, x: &CubeTensor, shape: Shape) -> CubeTensor {
    if shape.num_elements() == x.shape().num_elements() {
        // Nothing to sum: each element keeps its bits.
        return launches.tensor(gradient, x, shape, x.dtype);
    }
    let (element, shapes) = (element_of(x.dtype), [shape_of(x), checked(wgclip::Shape::new(shape.to_vec()))]);
    let [of_x, of_input] = &shapes;
    let [scratch, result] = checked(launches.plans.sum_bytes(element, of_x, of_input));
    let (scratch, result) = (launches.empty(scratch), launches.empty(result));
    launches.launch(launches.plans.sum(element, gradient, [of_x, of_input], [scratch, result]));
    launches.tensor(result, x, shape, x.dtype)
}
