//! What a row of the list says.

use super::Operand;

/// Which rules an operation takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RuleUse {
    /// The operation does not depend on the rule.
    Ignored,
    /// Every rule but the identity, which needs no kernel.
    Any,
    /// Rules that [fit a mask](crate::BackwardRule::fits_mask).
    Mask,
    /// None: it takes a [`QuantRule`](crate::quantize::QuantRule).
    Quant,
}

/// The types of elements that an operation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Domain {
    /// All of them.
    All,
    /// Floats.
    Floats,
    /// Floats; on a GPU those of up to 32 bits, since the shaders multiply and add in f32.
    Arithmetic,
    /// Floats of up to 32 bits.
    Floats32,
    /// The types of codes: integers of up to 32 bits, and 8-bit floats.
    Codes,
    /// u16: pairs of 4-bit codes, one a byte, the first in the low byte.
    Pairs,
    /// u8: such pairs in a byte, the first in the low bits.
    Packed,
}

/// Which operands of an operation are codes, that is integers of up to 32 bits, 8-bit floats, or 4-bit floats in a u8. The broadcast inputs are then f32, or f64 where
/// the floats are f64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codes {
    /// None: all operands are of one type.
    None,
    /// The output.
    Output,
    /// The input.
    Input,
    /// Both: pairs of 4-bit codes, one or two a byte.
    Both,
}

/// How exact the outputs are. They have the same bits on every device whichever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Accuracy {
    /// The bit pattern of an operand, or half of it.
    Selected,
    /// The real value of an expression, rounded to nearest even once.
    RoundedOnce,
    /// The result of the steps that the function in [`mod@crate::reference`] spells out.
    Defined,
}

/// What an operation goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Elements: each of an output is computed from those at its place.
    Elements,
    /// Slices along axes, a whole tensor, or a list of tensors: each is reduced, or scaled by what it is reduced to.
    Slices,
}

/// What an operation is: a row of the list.
#[derive(Debug, Clone, Copy)]
pub struct OpInfo {
    /// The operation's name, in reports and on the command line.
    pub name: &'static str,
    /// The inputs with an element for each of x, or a bit.
    pub inputs: &'static [Operand],
    /// The inputs that broadcast to x, each a value or a tensor.
    pub broadcast: &'static [Operand],
    /// The outputs. The first is always there, others as needed.
    pub outputs: &'static [Operand],
    /// The input whose buffer the first output may take.
    pub in_place: Option<Operand>,
    /// The names of its parameters: numbers, the same for all elements, rounded to f32 (not for f64).
    pub params: &'static [&'static str],
    /// Which rules it takes.
    pub rule: RuleUse,
    /// Which types it is for.
    pub domain: Domain,
    /// How exact it is.
    pub accuracy: Accuracy,
    /// Whether its output may be of another type than x.
    pub converts: bool,
    /// Which operands are codes.
    pub codes: Codes,
    /// What it goes over.
    pub pass: Pass,
    /// The WGSL function of its name, of one block: of the inputs in order, then the bounds, the other broadcast inputs, the rule and
    /// the parameters as far as it takes them. With one output it returns a block, with several a struct whose fields have their names.
    pub(crate) shader: &'static str,
    /// The name of the file that has it.
    pub(crate) module: &'static str,
}

impl OpInfo {
    /// Whether it takes a lower and an upper bound.
    pub fn has_bounds(&self) -> bool {
        self.broadcast.iter().any(|operand| operand.is_bound())
    }

    /// The broadcast inputs besides the bounds.
    pub fn others(&self) -> impl Iterator<Item = Operand> {
        self.broadcast.iter().copied().filter(|operand| !operand.is_bound())
    }
}

/// The most outputs that an operation has.
pub const MAX_OUTPUTS: usize = 4;

/// The most parameters.
pub(crate) const MAX_PARAMS: usize = 4;

/// Which outputs of an operation are needed: those with an index below `count`.
pub(crate) fn first_outputs(count: usize) -> [bool; MAX_OUTPUTS] {
    std::array::from_fn(|index| index < count)
}
