//! The CPU path, over buffers in the module's memory.

use wgclip::plan::Slice;
use wgclip::reference::Scaling;
use wgclip::{Element, ElementType, Error, NormState, Op, Result, cpu, with_element};

use crate::abi::State;
use crate::memory::{Buffers, elements_mut};
use crate::request::{Request, malformed, resolve};

/// An operation over elements: the operation, the type, the rule, x's shape, the bounds, and then the handles of its inputs and outputs, 0 for
/// outputs that are not wanted. An output that is an input is overwritten in place.
pub(crate) fn op(state: &mut State, request: &mut Request) -> Result<()> {
    let (op, element, rule, x) =
        (request.operation()?, request.element()?, request.rule()?, request.shape()?);
    let sides = request.sides()?;
    let inputs = op.info().inputs.iter().map(|_| request.index()).collect::<Result<Vec<_>>>()?;
    let outputs = op.info().outputs.iter().map(|_| request.index()).collect::<Result<Vec<_>>>()?;
    // The outputs are taken out of their places while the inputs are read.
    let mut taken: Vec<_> = outputs.iter().map(|&handle| state.buffers.take(handle)).collect();
    let buffers = &state.buffers;
    let done = with_element!(element, T => {
        let operand = |slice: Slice, len| buffers.elements::<T>(slice.operand, len);
        let bounds = resolve::<T, _>(&sides, &x, operand);
        bounds.and_then(|bounds| {
            let input = |place: usize| buffers.elements::<T>(inputs[place], x.len());
            let in_place = |place: usize| inputs[place] == outputs[0];
            let mut made = taken.iter_mut();
            let mut next = |len| made.next().and_then(|buffer| elements_mut::<T>(buffer, len));
            match op {
                Op::Clip if in_place(0) => cpu::clip_in_place(needed(next(x.len()))?, &bounds),
                Op::Clip => cpu::clip(input(0)?, &bounds, needed(next(x.len()))?),
                Op::ClipBackward if in_place(1) => {
                    cpu::clip_backward_in_place(input(0)?, needed(next(x.len()))?, &bounds, rule)
                }
                Op::ClipBackward => {
                    cpu::clip_backward(input(0)?, input(1)?, &bounds, rule, needed(next(x.len()))?)
                }
                Op::ClipBackwardBounds => {
                    let gx = next(x.len());
                    let [lo, hi] = [sides[0].shape()?.len(), sides[1].shape()?.len()];
                    let of_bounds = [next(lo), next(hi)];
                    cpu::clip_backward_bounds(input(0)?, input(1)?, &bounds, rule, gx, of_bounds)
                }
                Op::ClipWithMask => {
                    let y = needed(next(x.len()))?;
                    let mask = made.next().and_then(|buffer| elements_mut(buffer, cpu::mask_len(x.len())));
                    cpu::clip_with_mask(input(0)?, &bounds, rule, y, needed(mask)?)
                }
                Op::MaskBackward => {
                    let mask = buffers.elements::<u64>(inputs[0], cpu::mask_len(x.len()))?;
                    let gx = needed(next(x.len()))?;
                    match in_place(1) {
                        true => cpu::mask_backward_in_place(mask, gx),
                        false => cpu::mask_backward(mask, input(1)?, gx),
                    }
                }
                _ => Err(malformed()),
            }
        })
    });
    for (&handle, buffer) in outputs.iter().zip(taken) {
        state.buffers.put_back(handle, buffer);
    }
    done
}

fn needed<T: ?Sized>(output: Option<&mut T>) -> Result<&mut T> {
    output.ok_or_else(malformed)
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
        with_element!(element, T => sum.add_slice(state.buffers.elements::<T>(handle, len)?)?);
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
        with_element!(element, T => scale::<T>(&mut state.buffers, handle, len, scaling)?);
    }
    Ok(())
}

fn scale<T: Element>(buffers: &mut Buffers, handle: usize, len: usize, scaling: Scaling<f64>) -> Result<()> {
    let mut buffer = buffers.take(handle);
    let done = needed(elements_mut::<T>(&mut buffer, len)).map(|x| cpu::scale_in_place(x, scaling));
    buffers.put_back(handle, buffer);
    done
}
