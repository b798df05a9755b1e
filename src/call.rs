//! One call of one operation of the list: what the layers below tensors pass on, whatever the device. Elements are untyped bits here.

use crate::broadcast::{BroadcastInputs, Reduction};
use crate::op::{Codes, Domain, MAX_OUTPUTS, Operand, Pass, RuleUse, first_outputs, is_cap};
use crate::quantize::{CodeFormat, QuantRule};
use crate::{BackwardRule, ElementType, Error, NormLimit, Op, Result};

/// How each output is summed, if it is.
pub(crate) type Reductions = [Option<Reduction>; MAX_OUTPUTS];

/// What an operation takes besides its inputs and outputs, as far as its row of the list has it. `B` is an operand: bytes, a slice of a buffer.
#[derive(Debug)]
pub struct Arguments<'a, B> {
    /// The broadcast inputs: [`BroadcastInputs::none`] for operations without. Their type is [`Op::broadcast_type`]: that of x, except for operations on codes.
    pub broadcast: &'a BroadcastInputs<B>,
    /// The type of x, if it is not that of the broadcast inputs.
    pub element: Option<ElementType>,
    /// The backward rule.
    pub rule: BackwardRule,
    /// How values are quantised.
    pub quant: QuantRule,
    /// The parameters, in the order of [`OpInfo::params`](crate::op::OpInfo::params).
    pub params: &'a [f64],
    /// The type of the output of an operation that [converts](crate::op::OpInfo::converts).
    pub to: Option<ElementType>,
    /// The axes of an operation on [slices](crate::op::Pass::Slices), counted from 0: all if none are given.
    pub axes: Option<&'a [usize]>,
    /// What limits the norms of slices. [`Op::Norm`] takes its kind alone, the 2-norm if there is none.
    pub limit: Option<&'a NormLimit>,
}

impl<B> Clone for Arguments<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Arguments<'_, B> {}

impl<'a, B> Arguments<'a, B> {
    /// Broadcast inputs, the default rules, and nothing else.
    pub fn new(broadcast: &'a BroadcastInputs<B>) -> Self {
        let (rule, quant) = (BackwardRule::default(), QuantRule::default());
        Self { broadcast, element: None, rule, quant, params: &[], to: None, axes: None, limit: None }
    }

    /// The type of x.
    pub(crate) fn element(&self) -> ElementType {
        self.element.unwrap_or(self.broadcast.element)
    }

    /// The type of the outputs.
    pub(crate) fn to(&self, op: Op) -> ElementType {
        self.to.filter(|_| op.info().converts).unwrap_or(self.element())
    }

    /// Refuses arguments that an operation on [elements](Pass::Elements) does not take. An engine calls it before it allocates outputs.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a type that the operation is not for, and for broadcast inputs, parameters or a type of the output that are
    /// missing, or that it does not have; [`Error::QuantRange`]; [`Error::Cap`].
    pub fn check(&self, op: Op) -> Result<()> {
        let (info, element) = (op.info(), self.element());
        let refuse = |what: String, instead: String| {
            Err(Error::Unsupported { what, device: "any device".into(), instead })
        };
        if info.pass != Pass::Elements {
            return refuse(format!("{op} of elements alone"), "call it on tensors: they have axes".into());
        }
        if info.rule == RuleUse::Quant {
            self.quant.check()?;
        }
        if info.converts && self.to.is_none() {
            return refuse(format!("{op} without the type of its output"), "give Arguments::to".into());
        }
        let to = self.to(op);
        if !op.makes(element, to) {
            let instead = match (info.codes, info.domain) {
                (Codes::None, _) => "it converts floats to floats",
                (Codes::Both, Domain::Pairs) => "it converts u16 to u8",
                (Codes::Both, _) => "it converts u8 to u16",
                _ => "codes are i8, u8, i16, u16, i32, f8_e4m3fn or f8_e5m2",
            };
            return refuse(format!("{op} from {element} to {to}"), instead.into());
        }
        // To its own type a conversion is a clip, of integers too.
        if !info.converts {
            op.check_domain(element)?;
        }
        op.check_codes(self.quant, element, to)?;
        let code = op.code_type(element, to);
        let has_float_codes =
            code.is_some_and(|code| code.is_float8() || self.quant.format == CodeFormat::E2M1);
        if has_float_codes && !self.broadcast.is_zero(Operand::ZeroPoint) {
            let what = format!("{op} with a zero point, where codes are floats");
            return refuse(what, "these have none: give the value 0".into());
        }
        let expected = op.broadcast_type(element, to);
        if self.broadcast.element != expected {
            let what = format!("{op} of {element} with broadcast inputs of {}", self.broadcast.element);
            return refuse(what, format!("give {expected}"));
        }
        if self.params.len() != info.params.len() {
            let what = format!("{op} with {} parameters", self.params.len());
            return refuse(
                what,
                format!("give {} of them in Arguments::params: {:?}", info.params.len(), info.params),
            );
        }
        if let (["cap"], &[cap]) = (info.params, self.params)
            && !is_cap(cap)
        {
            return Err(Error::Cap { cap: cap.to_string() });
        }
        let given = self.broadcast;
        let named = given.operands.iter().zip(&given.inputs).filter(|(_, input)| !input.is_absent());
        let is_known = given.operands == info.broadcast || named.count() == 0;
        let missing = info.others().any(|operand| given.find(operand).1.is_absent());
        if !is_known || missing {
            let what = format!("{op} with the broadcast inputs [{}]", Operand::list(given.operands));
            return refuse(what, format!("give [{}]", Operand::list(info.broadcast)));
        }
        Ok(())
    }

    /// The same with broadcast inputs of another kind.
    pub(crate) fn with_broadcast<'b, C>(&self, broadcast: &'b BroadcastInputs<C>) -> Arguments<'b, C>
    where
        'a: 'b,
    {
        let Self { element, rule, quant, params, to, axes, limit, .. } = *self;
        Arguments { broadcast, element, rule, quant, params, to, axes, limit }
    }
}

/// Which outputs are given.
pub(crate) fn needed<B>(outputs: &[Option<B>]) -> [bool; MAX_OUTPUTS] {
    std::array::from_fn(|index| outputs.get(index).is_some_and(Option::is_some))
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
    pub needs: [bool; MAX_OUTPUTS],
}

impl<'a, B> Call<'a, B> {
    /// With all outputs.
    pub(crate) fn new(op: Op, len: usize, inputs: &'a [B], arguments: Arguments<'a, B>) -> Self {
        Self { op, len, inputs, arguments, needs: first_outputs(op.info().outputs.len()) }
    }

    /// The same on operands of another kind.
    pub(crate) fn with_operands<'b, C>(
        &self,
        inputs: &'b [C],
        broadcast: &'b BroadcastInputs<C>,
    ) -> Call<'b, C>
    where
        'a: 'b,
    {
        let arguments = self.arguments.with_broadcast(broadcast);
        Call { needs: self.needs, ..Call::new(self.op, self.len, inputs, arguments) }
    }

    /// The same with other outputs.
    pub(crate) fn with_needs(&self, needs: [bool; MAX_OUTPUTS]) -> Self {
        Self { op: self.op, len: self.len, inputs: self.inputs, arguments: self.arguments, needs }
    }

    pub(crate) fn element(&self) -> ElementType {
        self.arguments.element()
    }

    /// The type of the outputs.
    pub(crate) fn to(&self) -> ElementType {
        self.arguments.to(self.op)
    }

    /// The outputs that are needed, each with its index in the list.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = (usize, Operand)> {
        let outputs = self.op.info().outputs.iter().copied().enumerate();
        outputs.filter(|&(index, _)| self.needs[index])
    }

    /// Refuses what no kernel does: a rule, a type, and other arguments than the operation takes.
    pub(crate) fn check(&self) -> Result<()> {
        if self.needs[0] {
            self.op.check_rule(self.arguments.rule)?;
        }
        self.arguments.check(self.op)
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
    let index = call.op.in_place_input().ok_or_else(|| call.internal("in place"))?;
    let mut inputs = call.inputs.to_vec();
    if index > inputs.len() {
        return Err(call.internal("without its operands"));
    }
    inputs.insert(index, target);
    Ok(inputs)
}
