//! Plans of whole operations: kernels, what they bind, and the scratch they need.

use wgclip::Result;
use wgclip::plan::{Arguments, Kernel, ParamsBinding, Plans, SCALING_BYTES, Slice, Step, mask_bytes};
use wgclip::wgsl::BLOCK_BYTES;

use crate::request::Request;
use crate::state::State;

/// The text of a kernel, by its number.
pub(crate) fn source(state: &mut State, request: &mut Request) -> Result<()> {
    let number = request.index()?;
    let kernel = state.kernels.get(number).ok_or_else(crate::request::malformed)?;
    state.response.text = kernel.source(ParamsBinding::First);
    Ok(())
}

/// Slices that an operation needs besides its operands. Their numbers follow those.
struct Scratch {
    operands: usize,
    bytes: Vec<u64>,
}

impl Scratch {
    fn slice(&mut self, bytes: u64) -> Slice {
        let bytes = bytes.next_multiple_of(BLOCK_BYTES);
        self.bytes.push(bytes);
        Slice { operand: self.operands + self.bytes.len() - 1, offset: 0, bytes }
    }
}

/// An operation over elements: the limits, the operation, the type, that of its output, the rule, x's shape, the broadcast inputs, the
/// parameters, how many operands there are, and then the slices of its inputs and outputs, as far as outputs are needed. Of the gradients of
/// broadcast inputs these are the sums.
pub(crate) fn op(state: &mut State, request: &mut Request) -> Result<()> {
    let plans = request.plans()?;
    let (op, element, to, rule, x) =
        (request.operation()?, request.element()?, request.element()?, request.rule()?, request.shape()?);
    let (broadcast, params, operands) = (request.broadcast(op)?, request.params()?, request.index()?);
    let inputs = op.info().inputs.iter().map(|_| request.slice()).collect::<Result<Vec<_>>>()?;
    let mut outputs = Vec::new();
    for _ in op.info().outputs {
        outputs.push(if request.flag()? { Some(request.slice()?) } else { None });
    }
    let mut scratch = Scratch { operands, bytes: Vec::new() };
    let resolved = broadcast.resolve(op.broadcast_type(element, to), &x, |slice, _| Ok(slice))?;
    // Gradients of broadcast inputs come with one element for each of x, and are summed, unless there is nothing to add.
    let bytes = (x.len() * element.size()) as u64;
    let mut sums = Vec::new();
    for (output, operand) in outputs.iter_mut().zip(op.info().outputs) {
        let Some(of) = operand.gradient_of() else { continue };
        let shape = broadcast.shape(of)?;
        if let Some(sum) = output.filter(|_| shape.len() != x.len()) {
            let gradients = scratch.slice(bytes);
            *output = Some(gradients);
            sums.push((gradients, sum, shape));
        }
    }
    let (of_x, to) = (Some(element), Some(to));
    let arguments = Arguments { element: of_x, rule, params: &params, to, ..Arguments::new(&resolved) };
    let mut steps = plans.op(op, x.len(), &inputs, &outputs, &arguments)?;
    for (gradients, sum, shape) in sums {
        let [bytes, _] = plans.sum_bytes(element, &x, &shape)?;
        let scratch = scratch.slice(bytes);
        steps.extend(plans.sum(element, gradients, [&x, &shape], [scratch, sum])?);
    }
    state.respond(&scratch.bytes, steps);
    Ok(())
}

/// Clips tensors by their common norm, in place: the limits, the limit, how many operands there are, how many tensors, of each its type,
/// elements and slice; at last the slice that receives what became of them.
pub(crate) fn global_norm(state: &mut State, request: &mut Request) -> Result<()> {
    let (plans, limit, operands, count) =
        (request.plans()?, request.limit()?, request.index()?, request.index()?);
    let list = (0..count)
        .map(|_| Ok((request.element()?, request.index()?, request.slice()?)))
        .collect::<Result<Vec<_>>>()?;
    let scaling = Slice { bytes: SCALING_BYTES, ..request.slice()? };
    let mut scratch = Scratch { operands, bytes: Vec::new() };
    let (sum, norm) = (scratch.slice(Plans::norm_bytes(limit.kind)), scratch.slice(4));
    let mut steps = plans.clear_norm(limit.kind, sum)?;
    for &(element, len, slice) in &list {
        steps.extend(plans.add_to_norm((element, len), slice, limit.kind, sum)?);
    }
    steps.extend(plans.limit_norm(sum, &limit, [norm, scaling])?);
    for &(element, _, slice) in &list {
        steps.extend(plans.scale(element, [slice, slice], scaling)?);
    }
    state.respond(&scratch.bytes, steps);
    Ok(())
}

/// A softmax of slices, or its gradient: the limits, whether it is the gradient, the type, x's shape, the same with a length of 1 along the
/// axes, how many operands there are, and the slices of x and y, or of y, g and the gradient.
pub(crate) fn softmax(state: &mut State, request: &mut Request) -> Result<()> {
    let (plans, backward, element) = (request.plans()?, request.flag()?, request.element()?);
    let (x, kept, operands) = (request.shape()?, request.shape()?, request.index()?);
    let (shapes, mut scratch) = ([&x, &kept], Scratch { operands, bytes: Vec::new() });
    let steps = match backward {
        true => {
            let operands = [request.slice()?, request.slice()?, request.slice()?];
            let bytes = plans.softmax_backward_bytes(element, shapes)?;
            plans.softmax_backward(element, operands, shapes, bytes.map(|bytes| scratch.slice(bytes)))?
        }
        false => {
            let operands = [request.slice()?, request.slice()?];
            let state = scratch.slice(plans.softmax_bytes(element, shapes)?);
            plans.softmax(element, operands, shapes, state)?
        }
    };
    state.respond(&scratch.bytes, steps);
    Ok(())
}

/// Bytes of the mask of so many bytes of elements of a type.
pub(crate) fn mask(state: &mut State, request: &mut Request) -> Result<()> {
    let (element, bytes) = (request.element()?, request.integer()?);
    state.response.words.push(mask_bytes(element, bytes) as f64);
    Ok(())
}

impl State {
    /// How many slices of scratch, their bytes, how many steps; of each its kernel, workgroups, how many bindings it has, of each its operand,
    /// offset and bytes, and the words of its parameters.
    fn respond(&mut self, scratch: &[u64], steps: Vec<Step>) {
        let mut words = vec![scratch.len() as f64];
        words.extend(scratch.iter().map(|&bytes| bytes as f64));
        words.push(steps.len() as f64);
        for step in steps {
            words.push(self.number(step.kernel) as f64);
            words.extend(step.workgroups.map(f64::from));
            words.push(step.bindings.len() as f64);
            for slice in step.bindings {
                words.extend([slice.operand as f64, slice.offset as f64, slice.bytes as f64]);
            }
            let params: &[u32] = bytemuck::cast_slice(bytemuck::bytes_of(&step.params));
            words.push(params.len() as f64);
            words.extend(params.iter().copied().map(f64::from));
        }
        self.response.words = words;
    }

    fn number(&mut self, kernel: Kernel) -> usize {
        self.kernels.iter().position(|known| *known == kernel).unwrap_or_else(|| {
            self.kernels.push(kernel);
            self.kernels.len() - 1
        })
    }
}
