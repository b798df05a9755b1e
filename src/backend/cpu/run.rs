//! Runs an operation of the list. Some outputs may come summed: the gradients of bounds.

use std::sync::{Mutex, PoisonError};

use bytemuck::cast_slice_mut;

use super::memory::PooledBytes;
use super::operands::Operands;
use super::{affine, backward, clip, clip_to, mask, reduce};
use crate::call::{Call, MAX_OUTPUTS, Reductions};
use crate::exact::{ExactSum, ReduceOp};
use crate::op::Operand;
use crate::{Op, Result};

/// What outputs that are not written are added to.
pub(super) type Sums = [Option<Mutex<ExactSum>>; MAX_OUTPUTS];

/// Runs an operation over bytes that are aligned to their elements. Where an input is missing, the first output is overwritten in
/// place. An output with a reduction is as long as that has sums: a sum of all floats is made on the way, others of what is
/// written first.
pub(super) fn run(
    call: &Call<'_, &[u8]>,
    reductions: &Reductions,
    mut outputs: [Option<&mut [u8]>; MAX_OUTPUTS],
) -> Result<()> {
    let element = call.element();
    let (mut sums, mut unsummed) = (Sums::default(), [const { None }; MAX_OUTPUTS]);
    for (place, output) in outputs.iter().enumerate() {
        match &reductions[place] {
            // One alone keeps its bits.
            Some(reduction) if output.is_none() || reduction.is_none() => {}
            Some(reduction) if reduction.is_whole() && element.is_float() => {
                sums[place] = Some(Mutex::new(ExactSum::new(element.layout().bits, ReduceOp::Sum)));
            }
            Some(_) => unsummed[place] = Some(PooledBytes::new(element.size(), call.len)?),
            None => {}
        }
    }
    let mut written = [const { None }; MAX_OUTPUTS];
    for (place, (output, unsummed)) in outputs.iter_mut().zip(&mut unsummed).enumerate() {
        written[place] = match unsummed {
            _ if sums[place].is_some() => None,
            Some(all) => Some(&mut all[..]),
            None => output.as_deref_mut(),
        };
    }
    write(call, written, &sums)?;
    for (place, (sum, unsummed)) in sums.into_iter().zip(unsummed).enumerate() {
        let (Some(output), Some(reduction)) = (&mut outputs[place], &reductions[place]) else { continue };
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
fn write(call: &Call<'_, &[u8]>, outputs: [Option<&mut [u8]>; MAX_OUTPUTS], sums: &Sums) -> Result<()> {
    call.check()?;
    let operands = Operands::new(call)?;
    operands.check_outputs(&outputs)?;
    let x = || operands.required(Operand::X, operands.x);
    let g = || operands.required(Operand::G, operands.g);
    let mask = || operands.required(Operand::Mask, operands.mask);
    let [first, second, third] = outputs;
    let names = call.op.info().outputs;
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
        Op::Affine => affine::run(&operands, operands.required(names[0], first)?),
    }
    Ok(())
}
