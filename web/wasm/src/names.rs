//! What requests have numbers for.

use std::fmt::Write;

use wgclip::{
    BackwardRule, ElementType, NanRule, NonFinite, NormKind, NormLimit, Op, OutsideRule, Result, TieRule,
};

use crate::abi::State;

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
    let rule = |rule: &BackwardRule| BackwardRule::all().position(|other| other == *rule).unwrap_or_default();
    let presets: Vec<_> =
        BackwardRule::PRESETS.iter().map(|(name, preset)| format!(r#""{name}":{}"#, rule(preset))).collect();
    let eps: Vec<_> = NormLimit::PRESETS
        .iter()
        .filter_map(|name| Some(format!(r#""{name}":{:?}"#, NormLimit::like(name, 1.0).ok()?.eps)))
        .collect();
    let _ = write!(text, r#""presets":{{{}}},"eps":{{{}}}}}"#, presets.join(","), eps.join(","));
    Ok(())
}
