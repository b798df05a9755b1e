//! The CPU path, over buffers in the module's memory.

use wgclip::norm::NormState;
use wgclip::op::{Arguments, MAX_OUTPUTS, Operand};
use wgclip::plan::Slice;
use wgclip::reference::Scaling;
use wgclip::{ElementType, Error, Result, cpu};

use crate::memory::bytes_mut;
use crate::request::{Request, malformed};
use crate::state::State;

/// An operation over elements: the operation, the type, that of its output, the rule, x's shape, the broadcast inputs, the parameters, and then the
/// handles of its inputs and outputs, 0 for
/// outputs that are not needed. An output that is an input is overwritten in place.
pub(crate) fn op(state: &mut State, request: &mut Request) -> Result<()> {
    let (op, element, to, rule, x) =
        (request.operation()?, request.element()?, request.element()?, request.rule()?, request.shape()?);
    let (broadcast, params) = (request.broadcast(op)?, request.params()?);
    let info = op.info();
    let inputs = info.inputs.iter().map(|_| request.index()).collect::<Result<Vec<_>>>()?;
    let outputs = info.outputs.iter().map(|_| request.index()).collect::<Result<Vec<_>>>()?;
    let bytes_of = |operand: Operand| match operand.gradient_of() {
        _ if operand == Operand::Mask => Ok(cpu::mask_len(x.len()) * size_of::<u64>()),
        Some(of) => Ok(broadcast.shape(of)?.len() * element.size()),
        None if info.outputs.contains(&operand) => Ok(x.len() * to.size()),
        None => Ok(x.len() * element.size()),
    };
    // The outputs are taken out of their places while the inputs are read.
    let mut taken: Vec<_> = outputs.iter().map(|&handle| state.buffers.take(handle)).collect();
    let buffers = &state.buffers;
    let done = (|| {
        let mut made = [const { None }; MAX_OUTPUTS];
        for ((made, buffer), &operand) in made.iter_mut().zip(&mut taken).zip(info.outputs) {
            *made = bytes_mut(buffer, bytes_of(operand)?)?;
        }
        let mut read = Vec::new();
        // What is overwritten in place is among the outputs.
        for (&handle, &operand) in inputs.iter().zip(info.inputs).filter(|(handle, _)| **handle != outputs[0])
        {
            read.push(buffers.bytes(handle, bytes_of(operand)?)?);
        }
        let of_type = op.broadcast_type(element, to);
        let operand = |slice: Slice, len: usize| buffers.bytes(slice.operand, len * of_type.size());
        let broadcast = broadcast.resolve(of_type, &x, operand)?;
        let (element, to) = (Some(element), Some(to));
        let arguments = Arguments { element, rule, params: &params, to, ..Arguments::new(&broadcast) };
        cpu::run(op, x.len(), &read, &mut made, &arguments)
    })();
    for (&handle, buffer) in outputs.iter().zip(taken) {
        state.buffers.put_back(handle, buffer);
    }
    done
}

/// Clips tensors by their common norm, in place: the limit, how many tensors there are, of each its type, elements and handle. The response is
/// the norm, and 1 if it is an error.
pub(crate) fn global_norm(state: &mut State, request: &mut Request) -> Result<()> {
    let (limit, count) = (request.limit()?, request.index()?);
    let list = (0..count)
        .map(|_| Ok((request.element()?, request.index()?, request.index()?)))
        .collect::<Result<Vec<_>>>()?;
    let wide = list.iter().any(|&(element, ..)| element == ElementType::F64);
    let mut sum = if wide { NormState::wide(limit.kind) } else { NormState::new(limit.kind) };
    for &(element, len, handle) in &list {
        sum.add_list(&[(element, state.buffers.bytes(handle, len * element.size())?)])?;
    }
    // As on a GPU the norm of elements of up to 32 bits is one of f32.
    let (norm, scaling) = match wide {
        true => (sum.norm::<f64>()?, sum.scaling::<f64>(limit)),
        false => (sum.norm::<f32>()?.into(), sum.scaling::<f32>(limit).map(Scaling::to_f64)),
    };
    // Whether it is an error is told as a GPU tells it.
    let failed = matches!(scaling, Err(Error::NonFiniteNorm { .. }));
    state.response.words.extend([norm, f64::from(u8::from(failed))]);
    if failed {
        return Ok(());
    }
    let scaling = scaling?;
    for (element, len, handle) in list {
        let mut buffer = state.buffers.take(handle);
        let bytes =
            bytes_mut(&mut buffer, len * element.size()).and_then(|bytes| bytes.ok_or_else(malformed));
        let done = bytes.and_then(|bytes| cpu::scale_list_in_place(&mut [(element, bytes)], scaling));
        state.buffers.put_back(handle, buffer);
        done?;
    }
    Ok(())
}

/// A softmax of slices, or its gradient: whether it is the gradient, the type, x's shape, how many axes there are, each, and the handles of x and
/// y, or of y, g and the gradient.
pub(crate) fn softmax(state: &mut State, request: &mut Request) -> Result<()> {
    let (backward, element, shape) = (request.flag()?, request.element()?, request.shape()?);
    let axes = (0..request.index()?).map(|_| request.index()).collect::<Result<Vec<_>>>()?;
    let bytes = shape.len() * element.size();
    let inputs = [request.index()?, if backward { request.index()? } else { 0 }];
    let handle = request.index()?;
    let mut buffer = state.buffers.take(handle);
    let done = (|| {
        let out = bytes_mut(&mut buffer, bytes)?.ok_or_else(malformed)?;
        let x = state.buffers.bytes(inputs[0], bytes)?;
        match backward {
            true => {
                let g = state.buffers.bytes(inputs[1], bytes)?;
                cpu::softmax_backward(element, &shape, &axes, [x, g], out)
            }
            false => cpu::softmax(element, &shape, &axes, x, out),
        }
    })();
    state.buffers.put_back(handle, buffer);
    done
}
