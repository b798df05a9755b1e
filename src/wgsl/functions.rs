//! The element functions for kernels of other programs.

use std::collections::HashSet;
use std::fmt::Write;

use super::compose::{Interface, compose, module};
use super::{Layout, Specialization};
use crate::broadcast::MAX_BROADCAST;
use crate::op::Op;
use crate::{BackwardRule, ElementType, Error, NanRule, OutsideRule, Result};

/// The element functions of a type, for your own kernel that must clip exactly: WGSL text to put before it.
///
/// A block is `vec4<u32>`: 16 bytes of elements in memory order. All names begin with `wgclip_` and the type's name,
/// `wgclip_f32_` for example, so that several types can be used at once. These are stable:
///
/// | function | returns |
/// |---|---|
/// | `clip_block(x, lo, hi)` | each element clipped to those of two blocks |
/// | `clip_backward_block(x, g, lo, hi)` | the gradient that reaches x, from the upstream gradient g, by `rule` |
/// | `element_of(block, i) -> vec2<u32>` | the bits of an element, low word first |
/// | `store_element(&block, i, bits)` | stores them where the block is zero |
/// | `splat_element(bits)` | a block full of an element |
///
/// An absent bound is the minimum or maximum of the type (an infinity, for floats): nothing is beyond it, though an
/// element may tie with it.
///
/// ```
/// use wgclip::{BackwardRule, ElementType, wgsl};
///
/// let kernel = format!(
///     "{}
///     @group(0) @binding(0) var<storage, read_write> x: array<vec4<u32>>;
///     @compute @workgroup_size(64)
///     fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
///         let six = wgclip_f16_splat_element(vec2(0x4600u, 0u));
///         x[id.x] = wgclip_f16_clip_block(x[id.x], vec4(0u), six);
///     }}",
///     wgsl::functions(ElementType::F16, BackwardRule::default())?
/// );
/// # assert!(kernel.contains("fn wgclip_f16_clip_block("));
/// # Ok::<(), wgclip::Error>(())
/// ```
///
/// # Errors
/// [`Error::RuleWithoutKernel`] for the straight-through rule: its gradient is g.
pub fn functions(element: ElementType, rule: BackwardRule) -> Result<String> {
    Op::ClipBackward.check_rule(rule)?;
    // The kernel's own bounds may be NaN: they are compared like elements of tensors.
    let layouts = [Layout::Same; MAX_BROADCAST];
    let user =
        module("user").ok_or(Error::Internal { op: "functions", what: "without its module".into() })?;
    let specialization = Specialization { ties: rule.ties, layouts, ..Specialization::of(element) };
    let mut text = compose(user, specialization, &Interface::default());
    let toward = rule.outside == OutsideRule::Toward;
    let nan_zero = rule.nan == NanRule::Zero;
    let _ =
        writeln!(text, "fn user_rule() -> Rule {{\n    return Rule(vec4({toward}), vec4({nan_zero}));\n}}");
    Ok(prefixed(&text, &format!("wgclip_{element}_")))
}

/// Returns the same text without comments, with a prefix before each name that it declares.
fn prefixed(text: &str, prefix: &str) -> String {
    let code: Vec<_> =
        text.lines().map(|line| line.split("//").next().unwrap_or_default().trim_end()).collect();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let declared = |line: &str| {
        let name = ["fn ", "const ", "struct "].iter().find_map(|keyword| line.strip_prefix(keyword))?;
        Some(name[..name.find(|c| !is_name(c)).unwrap_or(name.len())].to_owned())
    };
    let names: HashSet<_> = code.iter().filter_map(|line| declared(line)).collect();
    let mut out = String::with_capacity(text.len());
    for line in code.iter().filter(|line| !line.is_empty()) {
        let mut rest = *line;
        while let Some(first) = rest.chars().next() {
            let end = rest.find(|c| is_name(c) != is_name(first)).unwrap_or(rest.len());
            let (token, after) = rest.split_at(end);
            if names.contains(token) {
                out.push_str(prefix);
            }
            out.push_str(token);
            rest = after;
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_kernels_are_not_taken() {
        let text = functions(ElementType::Bf16, BackwardRule::default()).unwrap();
        for line in text.lines().filter(|line| !line.starts_with([' ', '}'])) {
            assert!(line.contains("wgclip_bf16_"), "{line}");
        }
    }
}
