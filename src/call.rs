//! One call of one operation of the list: what the layers below tensors pass on, whatever the device. Elements are untyped bits here.

use crate::bounds::ResolvedBounds;
use crate::broadcast::Reduction;
use crate::element::convert;
use crate::op::Operand;
use crate::{BackwardRule, ElementType, Error, NormLimit, Op, Result};

/// The most outputs that an operation has.
pub(crate) const MAX_OUTPUTS: usize = 3;

/// How each output is summed, if it is.
pub(crate) type Reductions = [Option<Reduction>; MAX_OUTPUTS];

/// What an operation takes besides its inputs and outputs, as far as its row of the list has it. `B` is an operand: bytes, a slice of a buffer.
#[derive(Debug)]
pub struct Arguments<'a, B> {
    /// The bounds, whose type is that of all elements: [`ResolvedBounds::none`] for operations without.
    pub bounds: &'a ResolvedBounds<B>,
    /// The backward rule.
    pub rule: BackwardRule,
    /// The scale and the offset of [`Op::Affine`].
    pub scalars: Option<[f64; 2]>,
    /// The type of the output of [`Op::ClipTo`].
    pub to: Option<ElementType>,
}

impl<B> Clone for Arguments<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Arguments<'_, B> {}

impl<'a, B> Arguments<'a, B> {
    /// Bounds, the default rule, and nothing else.
    pub fn new(bounds: &'a ResolvedBounds<B>) -> Self {
        Self { bounds, rule: BackwardRule::default(), scalars: None, to: None }
    }

    /// The same with bounds of another kind.
    pub(crate) fn with_bounds<'b, C>(&self, bounds: &'b ResolvedBounds<C>) -> Arguments<'b, C> {
        Arguments { bounds, rule: self.rule, scalars: self.scalars, to: self.to }
    }
}

/// Which outputs are given.
pub(crate) fn wanted<B>(outputs: &[Option<B>]) -> [bool; MAX_OUTPUTS] {
    std::array::from_fn(|place| outputs.get(place).is_some_and(Option::is_some))
}

/// An operation with its operands.
#[derive(Debug)]
pub(crate) struct Call<'a, B> {
    pub op: Op,
    /// Elements of x.
    pub len: usize,
    /// In the order of the list; without the one that is overwritten where it works in place.
    pub inputs: &'a [B],
    pub arguments: Arguments<'a, B>,
    /// Which outputs are to be written.
    pub wanted: [bool; MAX_OUTPUTS],
}

impl<'a, B> Call<'a, B> {
    /// With all outputs.
    pub(crate) fn new(op: Op, len: usize, inputs: &'a [B], arguments: Arguments<'a, B>) -> Self {
        Self { op, len, inputs, arguments, wanted: [true; MAX_OUTPUTS] }
    }

    /// The same on operands of another kind.
    pub(crate) fn with_operands<'b, C>(&self, inputs: &'b [C], bounds: &'b ResolvedBounds<C>) -> Call<'b, C> {
        let arguments = self.arguments.with_bounds(bounds);
        Call { wanted: self.wanted, ..Call::new(self.op, self.len, inputs, arguments) }
    }

    pub(crate) fn element(&self) -> ElementType {
        self.arguments.bounds.element
    }

    /// The type of the outputs.
    pub(crate) fn to(&self) -> ElementType {
        self.arguments.to.filter(|_| self.op.info().converts).unwrap_or(self.element())
    }

    /// The outputs that are to be made, each with its place in the list.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = (usize, Operand)> {
        let outputs = self.op.info().outputs.iter().copied().enumerate();
        outputs.filter(|&(place, _)| self.wanted[place])
    }

    /// Refuses what no kernel does: a rule, factors of integers, or another type of them.
    pub(crate) fn check(&self) -> Result<()> {
        if self.wanted[0] {
            self.op.check_rule(self.arguments.rule)?;
        }
        if !convert::converts(self.element(), self.to()) {
            return Err(Error::Unsupported {
                what: format!("{} from {} to {}", self.op, self.element(), self.to()),
                device: "any device".into(),
                instead: "it converts floats to floats".into(),
            });
        }
        let info = self.op.info();
        if info.scalars && self.arguments.scalars.is_none() || info.converts && self.arguments.to.is_none() {
            return Err(Error::Unsupported {
                what: format!("{} without its arguments", self.op),
                device: "any device".into(),
                instead: "give Arguments::scalars for an affine map, and Arguments::to for a conversion"
                    .into(),
            });
        }
        if info.scalars && !self.element().is_float() {
            return Err(Error::Unsupported {
                what: format!("{} of {}", self.op, self.element()),
                device: "any device".into(),
                instead: "it takes floats".into(),
            });
        }
        Ok(())
    }

    pub(crate) fn internal(&self, what: &str) -> Error {
        Error::Internal { op: self.op.name(), what: what.into() }
    }
}

/// What limits norms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limiter<'a, B> {
    pub limit: &'a NormLimit,
    /// How many elements each norm is to be an average over.
    pub average: Option<usize>,
    /// Norms of the same type, one for each, that the limit is a multiple of, and what these are at the least.
    pub relative: Option<(B, f64)>,
}

/// The inputs of a call in place, with the one that is overwritten back among them.
pub(crate) fn with_target<B: Copy>(call: &Call<'_, B>, target: B) -> Result<Vec<B>> {
    let place = call.op.in_place_input().ok_or_else(|| call.internal("in place"))?;
    let mut inputs = call.inputs.to_vec();
    if place > inputs.len() {
        return Err(call.internal("without its operands"));
    }
    inputs.insert(place, target);
    Ok(inputs)
}
