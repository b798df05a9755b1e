//! Runs an operation of the list. Some outputs may be summed: the gradients of bounds.

use std::sync::{Mutex, PoisonError};

use bytemuck::cast_slice_mut;

use super::memory::PooledBytes;
use super::operands::{Operands, Outputs, Sums, check_len};
use super::{affine, backward, clip, clip_to, functions, mask, quantize, reduce};
use crate::broadcast::{BoundBits, Reduction};
use crate::call::{Arguments, Call, Reductions, needed};
use crate::norm::exact::{ExactSum, ReduceOp};
use crate::op::{MAX_OUTPUTS, Operand};
use crate::{Error, Op, Result};

/// Runs an operation of the list, over bytes that are aligned to their elements: the counterpart of [`Plans::op`](crate::plan::Plans::op) and
/// [`gpu::Kernels`](crate::gpu::Kernels) on a GPU. Inputs and outputs are those of [`Op::info`], in that order; an output that is None, or omitted at
/// the end, is not computed. An operation that may overwrite an input works in place if that input is omitted. `len` is the number of elements of x.
///
/// The gradient of a bound has as many elements as the bound (one for a value): it is summed exactly over what the bound broadcasts to, as
/// `sum` of the reference says. Under the straight-through rule the upstream gradient is copied.
///
/// ```
/// use wgclip::op::{Arguments, Op};
/// use wgclip::bounds::BroadcastInputs;
/// use wgclip::cpu;
///
/// let (x, mut y) = ([-2.0f32, 0.5, 7.0], [0.0f32; 3]);
/// let bounds = BroadcastInputs::none(wgclip::ElementType::F32);
/// let arguments = Arguments { params: &[2.0, 1.0], ..Arguments::new(&bounds) };
/// let outputs = &mut [Some(bytemuck::cast_slice_mut(&mut y))];
/// cpu::run(Op::Affine, 3, &[bytemuck::cast_slice(&x)], outputs, &arguments)?;
/// assert_eq!(y, [-3.0, 2.0, 15.0]);
/// # Ok::<(), wgclip::Error>(())
/// ```
///
/// # Errors
/// [`Error::LengthMismatch`] for slices whose lengths do not agree, [`Error::NoBound`] for the gradient of an absent bound,
/// [`Error::RuleWithoutKernel`] for a rule that the operation does not take, [`Error::Unsupported`] for the wrong inputs or outputs, or missing
/// arguments. Nothing is written then.
pub fn run(
    op: Op,
    len: usize,
    inputs: &[&[u8]],
    outputs: &mut [Option<&mut [u8]>],
    arguments: &Arguments<'_, &[u8]>,
) -> Result<()> {
    check_operands(op, inputs, outputs)?;
    let mut given = outputs.iter_mut();
    let mut outputs: Outputs<'_> =
        std::array::from_fn(|_| given.next().and_then(|output| output.as_deref_mut()));
    let upstream = op.identity_input(arguments.rule);
    // Under the straight-through rule gx is g, copied once nothing can fail any more.
    let gx = if upstream.is_some() { outputs[0].take() } else { None };
    let call = Call { needs: needed(&outputs), ..Call::new(op, len, inputs, *arguments) };
    if let Some(gx) = &gx {
        check_len(gx.len(), len * call.element().size())?;
        inputs.iter().try_for_each(|input| check_len(input.len(), gx.len()))?;
    }
    let mut reductions: Reductions = [const { None }; MAX_OUTPUTS];
    for (index, operand) in call.outputs() {
        let given = outputs[index].as_ref().map_or(0, |output| output.len()) / call.element().size();
        if let Some(of) = operand.gradient_of() {
            reductions[index] = Some(reduction(&call, of, given)?);
        }
    }
    if call.outputs().next().is_some() {
        run_summed(&call, &reductions, outputs)?;
    }
    if let (Some(gx), Some(g)) = (gx, upstream.and_then(|index| inputs.get(index))) {
        gx.copy_from_slice(g);
    }
    Ok(())
}

/// How the gradient of a broadcast input, which has `given` elements, is summed.
fn reduction(call: &Call<'_, &[u8]>, of: Operand, given: usize) -> Result<Reduction> {
    let inputs = call.arguments.broadcast;
    let (index, input) = inputs.find(of);
    let broadcast = match input {
        BoundBits::Absent => return Err(Error::NoBound { operand: of.noun() }),
        BoundBits::Value(_) => None,
        BoundBits::Tensor(_) => inputs.broadcast.as_ref(),
    };
    // If x is empty, all gradients are 0, however many there are.
    let len = broadcast.map_or(Some(1), |broadcast| broadcast.input_len(index)).unwrap_or(given);
    check_len(given, len)?;
    Ok(match broadcast {
        Some(broadcast) => Reduction::of(broadcast, index, len),
        None => Reduction::all(call.len),
    })
}

/// Checks that the numbers of inputs and outputs are those of an operation.
fn check_operands(op: Op, inputs: &[&[u8]], outputs: &[Option<&mut [u8]>]) -> Result<()> {
    let info = op.info();
    let in_place = info.in_place.is_some() && inputs.len() + 1 == info.inputs.len();
    let only_known = outputs.iter().skip(info.outputs.len()).all(Option::is_none);
    // Gradients of broadcast inputs need no gradient of x; a mask is written with y.
    let has_first = info.outputs.iter().any(|output| output.gradient_of().is_some())
        || outputs.first().is_some_and(Option::is_some);
    if (inputs.len() == info.inputs.len() || in_place) && only_known && has_first {
        return Ok(());
    }
    let given = outputs.iter().flatten().count();
    Err(Error::Unsupported {
        what: format!("{op} on {} inputs and {given} outputs", inputs.len()),
        device: "the CPU".into(),
        instead: format!("give {} and {}", Operand::list(info.inputs), Operand::list(info.outputs)),
    })
}

/// Runs an operation without sums: each output has one element for each of x.
pub(crate) fn run_call(call: &Call<'_, &[u8]>, outputs: Outputs<'_>) -> Result<()> {
    run_summed(call, &[const { None }; MAX_OUTPUTS], outputs)
}

/// Runs an operation over bytes that are aligned to their elements. If an input is missing, the first output is overwritten in
/// place. An output with a reduction has as many elements as that has sums: a sum of all floats is computed on the way, others
/// from elements that are written first.
pub(super) fn run_summed(
    call: &Call<'_, &[u8]>,
    reductions: &Reductions,
    mut outputs: Outputs<'_>,
) -> Result<()> {
    let element = call.element();
    let (mut sums, mut unsummed) = (Sums::default(), [const { None }; MAX_OUTPUTS]);
    for (index, output) in outputs.iter().enumerate() {
        match &reductions[index] {
            // A single element keeps its bits.
            Some(reduction) if output.is_none() || reduction.is_none() => {}
            Some(reduction) if reduction.is_whole() && element.is_float() => {
                sums[index] = Some(Mutex::new(ExactSum::new(element.layout().bits, ReduceOp::Sum)));
            }
            Some(_) => unsummed[index] = Some(PooledBytes::new(element.size(), call.len)?),
            None => {}
        }
    }
    let mut written = [const { None }; MAX_OUTPUTS];
    for (index, (output, unsummed)) in outputs.iter_mut().zip(&mut unsummed).enumerate() {
        written[index] = match unsummed {
            _ if sums[index].is_some() => None,
            Some(all) => Some(&mut all[..]),
            None => output.as_deref_mut(),
        };
    }
    write(call, written, &sums)?;
    for (index, (sum, unsummed)) in sums.into_iter().zip(unsummed).enumerate() {
        let (Some(output), Some(reduction)) = (&mut outputs[index], &reductions[index]) else { continue };
        if let Some(sum) = sum {
            let rounded = sum.into_inner().unwrap_or_else(PoisonError::into_inner).round(element);
            reduce::store(output, rounded);
        } else if let Some(all) = unsummed {
            reduce::reduce((element, &all), reduction, ReduceOp::Sum, element, output);
        }
    }
    Ok(())
}

/// The operation itself.
fn write(call: &Call<'_, &[u8]>, outputs: Outputs<'_>, sums: &Sums) -> Result<()> {
    call.check()?;
    let operands = Operands::new(call)?;
    operands.check_outputs(&outputs)?;
    let x = || operands.required(Operand::X, operands.x);
    let g = || operands.required(Operand::G, operands.g);
    let mask = || operands.required(Operand::Mask, operands.mask);
    let names = call.op.info().outputs;
    let [first, second, third, fourth] = outputs;
    match call.op {
        Op::ClipTo if operands.to != operands.element => {
            clip_to::run(&operands, x()?, operands.required(names[0], first)?);
        }
        Op::Clip | Op::ClipTo => clip::run(&operands, operands.required(names[0], first)?),
        Op::ClipBackward => backward::run(&operands, x()?, operands.required(names[0], first)?),
        Op::ClipBackwardBounds => {
            backward::run_bounds(&operands, [x()?, g()?], [first, second, third], sums);
        }
        Op::ClipWithMask => {
            let y = operands.required(names[0], first)?;
            let mask = cast_slice_mut(operands.required(names[1], second)?);
            mask::clip_with_mask(&operands, x()?, y, mask);
        }
        Op::MaskBackward => {
            mask::mask_backward(&operands, mask()?, operands.required(names[0], first)?);
        }
        Op::Quantize | Op::Dequantize | Op::Pack4 | Op::Unpack4 => {
            quantize::convert(&operands, operands.required(names[0], first)?);
        }
        Op::FakeQuantize | Op::FakeQuantizeBackward => {
            quantize::run(&operands, [first, second, third, fourth], sums);
        }
        Op::Affine => affine::run(&operands, operands.params()?, operands.required(names[0], first)?),
        _ => {
            if !functions::run(&operands, [first, second, third, fourth], sums) {
                return Err(call.internal("which the CPU path does not have"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytemuck::{cast_slice, cast_slice_mut};

    use super::*;
    use crate::broadcast::BroadcastInputs;
    use crate::{BackwardRule, OutsideRule};

    /// Under the straight-through rule g is copied, and only if everything else is valid.
    #[test]
    fn the_upstream_gradient_is_copied_or_nothing_is_written() {
        let (x, g) = ([5.0f32, 7.0, 8.0], [1.0f32, 10.0, 100.0]);
        let bounds = BroadcastInputs::values(None, Some(6.0f32)).unwrap();
        let rule = BackwardRule { outside: OutsideRule::StraightThrough, ..BackwardRule::default() };
        let arguments = Arguments { rule, ..Arguments::new(&bounds) };
        let call = |x: &[f32], gx: &mut [f32], ghi: Option<&mut [f32]>, glo: Option<&mut [f32]>| {
            let outputs = &mut [Some(cast_slice_mut(gx)), glo.map(cast_slice_mut), ghi.map(cast_slice_mut)];
            let inputs = [cast_slice(x), cast_slice(&g)];
            run(Op::ClipBackwardBounds, 3, &inputs, outputs, &arguments)
        };
        let (mut gx, mut ghi) = ([9.0; 3], [9.0]);
        call(&x, &mut gx, Some(&mut ghi), None).unwrap();
        assert_eq!((gx, ghi), (g, [110.0]));
        let (mut gx, mut glo, mut long) = ([9.0; 3], [9.0], [9.0; 2]);
        assert!(matches!(call(&x, &mut gx, None, Some(&mut glo)), Err(Error::NoBound { .. })));
        assert!(matches!(call(&x[..2], &mut gx, None, None), Err(Error::LengthMismatch { .. })));
        assert!(matches!(call(&x, &mut gx, Some(&mut long), None), Err(Error::LengthMismatch { .. })));
        assert!(matches!(call(&x, &mut gx[..2], None, None), Err(Error::LengthMismatch { .. })));
        assert_eq!((gx, glo, long), ([9.0; 3], [9.0], [9.0; 2]));
        let outputs = &mut [Some(cast_slice_mut(&mut gx))];
        let refused = run(Op::Clip, 3, &[cast_slice(&x), cast_slice(&g)], outputs, &arguments);
        assert!(matches!(refused, Err(Error::Unsupported { .. })));
    }
}
