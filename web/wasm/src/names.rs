//! What requests have numbers for.

use std::fmt::Write;

use wgclip::{
    BackwardRule, ElementType, NanRule, NonFinite, NormKind, NormLimit, Op, OutsideRule, Result, TieRule,
};

use crate::abi::State;
use crate::request::malformed;

/// The number of something in the list that numbers it.
///
/// # Errors
/// If it is not there.
pub(crate) fn number_of<T: PartialEq>(all: impl IntoIterator<Item = T>, wanted: &T) -> Result<usize> {
    all.into_iter().position(|other| other == *wanted).ok_or_else(malformed)
}

/// The names of everything that requests have numbers for, as JSON.
pub(crate) fn names(state: &mut State) -> Result<()> {
    let list = |names: &mut dyn Iterator<Item = &str>| format!("{:?}", names.collect::<Vec<_>>());
    let text = &mut state.response.text;
    let elements = list(&mut ElementType::ALL.iter().map(|element| element.name()));
    let ops = list(&mut Op::ALL.iter().map(|op| op.name()));
    let rules = [
        list(&mut OutsideRule::ALL.iter().map(|rule| rule.name())),
        list(&mut TieRule::ALL.iter().map(|rule| rule.name())),
        list(&mut NanRule::ALL.iter().map(|rule| rule.name())),
    ];
    let kinds = list(&mut NormKind::ALL.iter().map(|kind| kind.name()));
    let policies = list(&mut NonFinite::ALL.iter().map(|policy| policy.name()));
    let _ = write!(text, r#"{{"elements":{elements},"ops":{ops},"kinds":{kinds},"nonfinite":{policies},"#);
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
