//! What requests have numbers for.

use std::fmt::Write;

use wgclip::op::{Codes, Domain, Op, Operand};
use wgclip::{
    BackwardRule, ElementType, NanRule, NonFinitePolicy, NormKind, NormLimit, OutsideRule, Result, TieRule,
};

use crate::request::malformed;
use crate::state::State;

/// The number of something in the list that numbers it.
///
/// # Errors
/// If it is not there.
pub(crate) fn number_of<T: PartialEq>(all: impl IntoIterator<Item = T>, wanted: &T) -> Result<usize> {
    all.into_iter().position(|other| other == *wanted).ok_or_else(malformed)
}

/// A row of the list of operations, as JSON.
fn row(op: Op) -> String {
    let info = op.info();
    let names = |operands: &[Operand]| operands.iter().map(|of| of.name()).collect::<Vec<_>>();
    let gradient_of = |output: &Operand| output.gradient_of().map_or("", Operand::name);
    let gradients: Vec<_> = info.outputs.iter().map(gradient_of).collect();
    format!(
        r#"{{"name":{:?},"inputs":{:?},"broadcast":{:?},"params":{:?},"outputs":{:?},"gradientOf":{gradients:?},"converts":{},"codes":{},"floats":{},"float64":{}}}"#,
        info.name,
        names(info.inputs),
        names(info.broadcast),
        info.params,
        names(info.outputs),
        info.converts,
        info.codes != Codes::None,
        info.domain != Domain::All,
        op.is_for(ElementType::F64, false),
    )
}

/// The names of everything that requests have numbers for, as JSON.
pub(crate) fn names<'a>(state: &mut State, calls: impl Iterator<Item = &'a str>) -> Result<()> {
    let list = |names: &mut dyn Iterator<Item = &str>| format!("{:?}", names.collect::<Vec<_>>());
    let calls = format!("{:?}", calls.collect::<Vec<_>>());
    let text = &mut state.response.text;
    let elements = list(&mut ElementType::ALL.iter().map(|element| element.name()));
    let ops: Vec<_> = Op::ELEMENTWISE.iter().map(|&op| row(op)).collect();
    let ops = ops.join(",");
    let rules = [
        list(&mut OutsideRule::ALL.iter().map(|rule| rule.name())),
        list(&mut TieRule::ALL.iter().map(|rule| rule.name())),
        list(&mut NanRule::ALL.iter().map(|rule| rule.name())),
    ];
    let kinds = list(&mut NormKind::ALL.iter().map(|kind| kind.name()));
    let policies = list(&mut NonFinitePolicy::ALL.iter().map(|policy| policy.name()));
    let _ = write!(
        text,
        r#"{{"calls":{calls},"elements":{elements},"ops":[{ops}],"kinds":{kinds},"nonfinite":{policies},"#
    );
    let _ = write!(text, r#""outside":{},"ties":{},"nan":{},"#, rules[0], rules[1], rules[2]);
    let rule = |rule: &BackwardRule| number_of(BackwardRule::all(), rule);
    let presets = BackwardRule::PRESETS.iter();
    let presets: Vec<_> =
        presets.map(|(name, preset)| Ok(format!(r#""{name}":{}"#, rule(preset)?))).collect::<Result<_>>()?;
    let eps: Vec<_> = NormLimit::PRESETS
        .iter()
        .filter_map(|name| Some(format!(r#""{name}":{:?}"#, NormLimit::like(name, 1.0).ok()?.eps)))
        .collect();
    let _ = write!(text, r#""presets":{{{}}},"eps":{{{}}}}}"#, presets.join(","), eps.join(","));
    Ok(())
}
