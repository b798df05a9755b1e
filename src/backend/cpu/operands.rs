//! The operands of an operation on the CPU: bytes of a type that is a value, as slices of it.

use bytemuck::cast_slice_mut;

use super::mask::mask_len;
use super::summed::Sums;
use crate::backend::{Call, MAX_OUTPUTS};
use crate::bounds::ResolvedBounds;
use crate::op::Operand;
use crate::{BackwardRule, Element, Error, Op, Result};

/// The operands of an operation as slices.
pub(super) struct Typed<'a, T> {
    pub op: Op,
    pub x: Option<&'a [T]>,
    pub g: Option<&'a [T]>,
    pub mask: Option<&'a [u64]>,
    pub bounds: ResolvedBounds<&'a [T]>,
    pub rule: BackwardRule,
    pub scalars: [f64; 2],
    pub outputs: [Option<&'a mut [T]>; MAX_OUTPUTS],
    pub mask_output: Option<&'a mut [u64]>,
    pub sums: &'a Sums,
}

impl<'a, T: Element> Typed<'a, T> {
    pub(super) fn new(call: &Call<'a, [u8]>, outputs: [Option<&'a mut [u8]>; MAX_OUTPUTS]) -> Result<Self> {
        let bounds = call.bounds.try_map(|bound| elements(bound))?;
        bounds.check_len(call.len, |bound| bound.len())?;
        let mut operands = Self {
            op: call.op,
            x: None,
            g: None,
            mask: None,
            bounds,
            rule: call.rule,
            scalars: call.scalars,
            outputs: [None, None, None],
            mask_output: None,
            sums: &[const { None }; MAX_OUTPUTS],
        };
        let info = call.op.info();
        let in_place = call.inputs.len() < info.inputs.len();
        let given = info.inputs.iter().filter(|&&input| !in_place || Some(input) != info.in_place);
        for (&operand, bytes) in given.zip(call.inputs) {
            match operand {
                Operand::Mask => operands.mask = Some(words(bytes, call.len)?),
                Operand::G => operands.g = Some(checked(elements(bytes)?, call.len)?),
                _ => operands.x = Some(checked(elements(bytes)?, call.len)?),
            }
        }
        for (place, (&operand, output)) in info.outputs.iter().zip(outputs).enumerate() {
            let Some(output) = output else { continue };
            match operand {
                Operand::Mask => {
                    words(output, call.len)?;
                    operands.mask_output = Some(cast_slice_mut(output));
                }
                _ => {
                    checked(elements::<T>(output)?, call.len)?;
                    operands.outputs[place] = Some(cast_slice_mut(output));
                }
            }
        }
        Ok(operands)
    }

    /// An operand that the list has is not there.
    pub(super) fn missing(&self) -> Error {
        Error::Internal { op: self.op.name(), what: "without its operands".into() }
    }
}

/// Bytes as elements.
pub(super) fn elements<T: Element>(bytes: &[u8]) -> Result<&[T]> {
    bytemuck::try_cast_slice(bytes)
        .map_err(|error| Error::Internal { op: "a CPU operation", what: format!("on bytes: {error}") })
}

fn checked<T>(slice: &[T], len: usize) -> Result<&[T]> {
    check_len(slice.len(), len)?;
    Ok(slice)
}

/// Bytes as the words of the mask of `len` elements.
fn words(bytes: &[u8], len: usize) -> Result<&[u64]> {
    let words = elements::<u64>(bytes)?;
    check_len(words.len(), mask_len(len))?;
    Ok(words)
}

pub(super) fn check_len(actual: usize, expected: usize) -> Result<()> {
    if actual == expected {
        return Ok(());
    }
    Err(Error::LengthMismatch { shape: vec![expected], expected, actual })
}
