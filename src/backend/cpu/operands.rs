//! The operands of an operation on the CPU: bytes, whose type is a value, checked once.

use std::sync::Mutex;

use crate::broadcast::BroadcastInputs;
use crate::call::Call;
use crate::element::lane::with_bits;
use crate::norm::exact::ExactSum;
use crate::op::{MAX_OUTPUTS, Operand};
use crate::quantize::QuantRule;
use crate::{BackwardRule, Element, ElementType, Error, Op, Result};

/// Bits of a word of a mask.
pub(super) const WORD: usize = u64::BITS as usize;

/// Words of the mask of `len` elements.
pub fn mask_len(len: usize) -> usize {
    len.div_ceil(WORD)
}

/// The sums that unwritten outputs are added to.
pub(super) type Sums = [Option<Mutex<ExactSum>>; MAX_OUTPUTS];

/// The outputs of an operation, in the order of the list.
pub(super) type Outputs<'a> = [Option<&'a mut [u8]>; MAX_OUTPUTS];

/// The inputs of an operation: as many elements as x has, aligned to their type.
pub(super) struct Operands<'a> {
    pub op: Op,
    /// Elements of x.
    pub len: usize,
    pub element: ElementType,
    /// The type of the output.
    pub to: ElementType,
    /// Absent if the operation does not have it, or overwrites it.
    pub x: Option<&'a [u8]>,
    pub g: Option<&'a [u8]>,
    pub mask: Option<&'a [u64]>,
    pub broadcast: &'a BroadcastInputs<&'a [u8]>,
    pub rule: BackwardRule,
    pub quant: QuantRule,
    pub params: &'a [f64],
}

impl<'a> Operands<'a> {
    /// The operands of a call.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`], or [`Error::Unsupported`] for misaligned bytes.
    pub(super) fn new(call: &'a Call<'a, &'a [u8]>) -> Result<Self> {
        let element = call.element();
        let broadcast = call.arguments.broadcast;
        broadcast.tensors().try_for_each(|(_, input)| check_aligned(broadcast.element, input))?;
        broadcast.check_len(call.len, |input| input.len() / broadcast.element.size())?;
        let mut operands = Self {
            op: call.op,
            len: call.len,
            element,
            to: call.to(),
            x: None,
            g: None,
            mask: None,
            broadcast,
            rule: call.arguments.rule,
            quant: call.arguments.quant,
            params: call.arguments.params,
        };
        let info = call.op.info();
        let in_place = call.inputs.len() < info.inputs.len();
        let given = info.inputs.iter().filter(|&&input| !in_place || Some(input) != info.in_place);
        for (&operand, &bytes) in given.zip(call.inputs) {
            match operand {
                Operand::Mask => operands.mask = Some(words(bytes, call.len)?),
                Operand::G => operands.g = Some(checked(element, bytes, call.len)?),
                // The result of a forward pass takes the place of x.
                Operand::X | Operand::Y => operands.x = Some(checked(element, bytes, call.len)?),
                _ => {
                    let what = format!("that reads its operand {}", operand.name());
                    return Err(Error::Internal { op: call.op.name(), what });
                }
            }
        }
        Ok(operands)
    }

    /// Checks that each given output has the required length.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(super) fn check_outputs(&self, outputs: &[Option<&mut [u8]>; MAX_OUTPUTS]) -> Result<()> {
        for (&operand, output) in self.op.info().outputs.iter().zip(outputs) {
            match output {
                Some(output) if operand == Operand::Mask => drop(words(output, self.len)?),
                Some(output) => drop(checked(self.to, output, self.len)?),
                None => {}
            }
        }
        Ok(())
    }

    /// The parameters.
    ///
    /// # Errors
    /// [`Error::Internal`] if their number is wrong.
    pub(super) fn params<const N: usize>(&self) -> Result<[f64; N]> {
        let what = || format!("with {} parameters", self.params.len());
        self.params.try_into().map_err(|_| Error::Internal { op: self.op.name(), what: what() })
    }

    /// An operand that the operation requires.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub(super) fn required<T>(&self, operand: Operand, given: Option<T>) -> Result<T> {
        let what = || format!("without its operand {}", operand.name());
        given.ok_or_else(|| Error::Internal { op: self.op.name(), what: what() })
    }
}

/// Bytes as elements.
pub(super) fn elements<T: Element>(bytes: &[u8]) -> Result<&[T]> {
    bytemuck::try_cast_slice(bytes).map_err(unaligned)
}

fn unaligned(error: bytemuck::PodCastError) -> Error {
    Error::Unsupported {
        what: format!("an operation on these bytes ({error})"),
        device: "the CPU".into(),
        instead: "give whole elements, at an address that is aligned to them".into(),
    }
}

/// Checks that bytes are whole elements of a type, and aligned to it.
pub(super) fn check_aligned(element: ElementType, bytes: &[u8]) -> Result<()> {
    with_bits!(element, B => bytemuck::try_cast_slice::<u8, B>(bytes).map(drop)).map_err(unaligned)
}

fn checked(element: ElementType, bytes: &[u8], len: usize) -> Result<&[u8]> {
    check_aligned(element, bytes)?;
    check_len(bytes.len() / element.size(), len)?;
    Ok(bytes)
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
