//! The kernels' source: WGSL text, composed of the files in `shaders/`.
//!
//! Each file names what it uses of others by a WESL import (`import package::lib::element::less;`). Names are unique, so
//! composing is no more than to put every file before those that import it, once, with the constants of an element type
//! and a specialization in place of `lib/constants.wgsl`. The entry point and the bindings are generated from the list
//! of operations.
//!
//! [`functions`] gives the element functions of a type to kernels of your own.

mod broadcast;
mod kernel;

use std::collections::HashSet;
use std::fmt::Write;

pub use kernel::BLOCK_BYTES;
pub(crate) use kernel::Kernel;

use crate::broadcast::MAX_BROADCAST;
use crate::element::{BitLayout, NumberClass};
use crate::exact::{ReduceOp, SumFormat};
use crate::{BackwardRule, ElementType, Error, NanRule, Op, OutsideRule, Result, TieRule};

/// Invocations of a workgroup: the most that every WebGPU device allows, and the fastest where measured.
pub(crate) const WORKGROUP: u32 = 256;

/// Blocks that an invocation works on. On llvmpipe four take a third less time than one (16 Mi f32), and more gain little.
pub(crate) const BLOCKS_PER_INVOCATION: u32 = 4;

/// Blocks whose bits fill a word of a mask.
pub(crate) const fn blocks_per_mask_word(element: ElementType) -> u32 {
    2 * element.size() as u32
}

macro_rules! modules {
    ($($path:literal),+ $(,)?) => {
        &[$(($path, include_str!(concat!("../../shaders/", $path, ".wgsl")))),+]
    };
}

/// The files by their paths, those of operations apart.
const MODULES: &[(&str, &str)] = modules![
    "lib/bounds",
    "lib/broadcast",
    "lib/convert",
    "lib/element",
    "lib/exact",
    "lib/mask",
    "lib/params",
    "lib/rule",
    "lib/softfloat",
    "probe",
    "reduce",
    "scale",
    "user",
];

/// What is replaced in each composition.
const CONSTANTS: &str = "lib/constants";

/// The file of a path.
fn module(path: &str) -> Option<&'static str> {
    let of_op = || Op::ALL.iter().find(|op| op.info().module == path).map(|op| op.info().shader);
    MODULES.iter().find(|(known, _)| *known == path).map(|(_, source)| *source).or_else(of_op)
}

/// How a broadcast input lies along x.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Layout {
    /// One value for all, or absent.
    Value,
    /// A tensor with an element for each of x.
    Same,
    /// A tensor of one element.
    One,
    /// A tensor with an element for each row, of whole blocks.
    Rows,
    /// A tensor with an element for each column.
    Columns,
    /// Any other tensor, by strides.
    Strided,
}

/// How the elements of a reduction's outputs lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Order {
    /// Those of an output next to each other.
    Rows = 0,
    /// Those of all outputs next to each other, in whole blocks.
    Columns = 1,
    /// In any other way.
    Strided = 2,
}

/// What a kernel is compiled for besides its operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Specialization {
    pub element: ElementType,
    /// The type of what comes out.
    pub to: ElementType,
    pub ties: TieRule,
    /// How each broadcast input lies along x.
    pub layouts: [Layout; MAX_BROADCAST],
    /// What a reduction makes, and how the elements of an output lie.
    pub reduce: ReduceOp,
    pub order: Order,
}

impl Specialization {
    pub(crate) const fn of(element: ElementType) -> Self {
        Self {
            element,
            to: element,
            ties: TieRule::Inclusive,
            layouts: [Layout::Value; MAX_BROADCAST],
            reduce: ReduceOp::Sum,
            order: Order::Rows,
        }
    }

    pub(crate) fn has_tensors(self) -> bool {
        self.layouts.iter().any(|&layout| layout != Layout::Value)
    }

    fn sum_format(self) -> SumFormat {
        SumFormat::of(self.element.layout().bits, self.reduce)
    }

    /// Limbs of 32 bits of a sum. One of integers is of 128 bits; a greatest magnitude is the first of two.
    pub(crate) fn limbs(self) -> u32 {
        match (self.element.is_float(), self.reduce) {
            (false, _) => 4,
            (true, ReduceOp::MaxAbs) => 2,
            (true, _) => 2 * self.sum_format().limbs as u32,
        }
    }

    /// How many bits the least number of the type is above bit 0 of a sum (for squares, of half of it).
    fn position(self) -> i32 {
        let layout = self.element.layout();
        match layout.class {
            NumberClass::Float { .. } => {
                let least = layout.min_exponent() - layout.fraction_bits() as i32;
                least - SumFormat::of(layout.bits, ReduceOp::Sum).unit
            }
            _ => 0,
        }
    }

    /// The text of `lib/constants.wgsl` for it.
    fn constants(self) -> String {
        let layout = self.element.layout();
        // Of an element of 64 bits the shaders look at the upper word.
        let shift = 32u32.saturating_sub(layout.bits);
        let word = |bits: u64| if layout.bits == 64 { bits >> 32 } else { bits << shift };
        let lanes = if layout.bits == 64 { 2 } else { 4 };
        let exponent = |layout: BitLayout| match layout.class {
            NumberClass::Float { exponent, .. } => exponent,
            _ => 0,
        };
        let to = self.to.layout();
        let ties = |ties| match ties {
            TieRule::Inclusive => 0,
            TieRule::Exclusive => 1,
            TieRule::Half => 2,
        };
        let mut text = String::new();
        for (name, value) in
            [("FLOAT", self.element.is_float()), ("SIGNED", layout.class == NumberClass::Signed)]
                .into_iter()
                .chain([("SCALAR_BOUNDS", !self.has_tensors())])
        {
            let _ = writeln!(text, "const {name}: bool = {value};");
        }
        let _ = writeln!(text, "const UNIT: i32 = {};", self.sum_format().unit);
        let _ = writeln!(text, "const POSITION: i32 = {};", self.position());
        for (name, value) in [
            ("BITS", layout.bits),
            ("MAX_NUMBER", word(layout.max_number()) as u32),
            ("MAX_FINITE", word(layout.max_finite()) as u32),
            ("MIN_NORMAL", word(layout.min_normal()) as u32),
            ("EXPONENT_BITS", exponent(layout)),
            ("SUBWORDS", 128 / layout.bits / lanes),
            ("LANES_PER_SUBWORD", lanes),
            ("LANE_LSB", 1 << shift),
            ("LANE_SHIFT", shift),
            ("TO_BITS", to.bits),
            ("TO_EXPONENT_BITS", exponent(to)),
            ("TO_MAX_FINITE", to.max_finite() as u32),
            ("TO_MAX_NUMBER", to.max_number() as u32),
            ("TO_QUIET_NAN", to.quiet_nan() as u32),
            ("TIES", ties(self.ties)),
            ("TIES_INCLUSIVE", ties(TieRule::Inclusive)),
            ("TIES_EXCLUSIVE", ties(TieRule::Exclusive)),
            ("TIES_HALF", ties(TieRule::Half)),
            ("REDUCE", self.reduce as u32),
            ("REDUCE_SUM", ReduceOp::Sum as u32),
            ("REDUCE_SUM_ABS", ReduceOp::SumAbs as u32),
            ("REDUCE_SUM_SQUARES", ReduceOp::SumSquares as u32),
            ("REDUCE_MAX_ABS", ReduceOp::MaxAbs as u32),
            ("REDUCE_PRODUCTS", ReduceOp::SumProducts as u32),
            ("LIMBS", self.limbs()),
            ("ORDER", self.order as u32),
            ("ORDER_ROWS", Order::Rows as u32),
            ("ORDER_COLUMNS", Order::Columns as u32),
            ("ORDER_STRIDED", Order::Strided as u32),
            ("WORKGROUP", WORKGROUP),
            ("BLOCKS_PER_INVOCATION", BLOCKS_PER_INVOCATION),
            ("BLOCKS_PER_MASK_WORD", blocks_per_mask_word(self.element)),
        ] {
            let _ = writeln!(text, "const {name}: u32 = {value:#x}u;");
        }
        text
    }
}

/// The whole text of `root` after all that it imports.
pub(crate) fn compose(root: &str, specialization: Specialization) -> String {
    let (mut text, mut seen) = (specialization.constants(), HashSet::from([CONSTANTS.to_owned()]));
    link(root, &mut text, &mut seen);
    text
}

/// Appends a module behind those that it imports, unless they are there.
fn link(source: &str, text: &mut String, seen: &mut HashSet<String>) {
    let (imports, body) = imports(source);
    for path in imports {
        if !seen.insert(path.clone()) {
            continue;
        }
        match module(&path) {
            Some(imported) => link(imported, text, seen),
            // No shader: the compiler's message quotes it.
            None => text.push_str(&format!("error: there is no module {path};\n")),
        }
    }
    text.push_str(body);
}

/// The paths of the modules that a file imports, and what comes after the last import.
fn imports(source: &str) -> (Vec<String>, &str) {
    let (mut paths, mut body) = (Vec::new(), source);
    while let Some(at) = body.find("import package::") {
        let (statement, rest) = body[at..].split_once(';').unwrap_or((&body[at..], ""));
        let names = statement.trim_start_matches("import package::");
        // The last part is a name, or several in braces.
        let module = names.split_once("::{").or_else(|| names.rsplit_once("::"));
        paths.extend(module.map(|(module, _)| module.replace("::", "/")));
        body = rest;
    }
    (paths, body)
}

/// The element functions of a type, for a kernel of your own that is to clip exactly: WGSL text to put before it.
///
/// A block is `vec4<u32>`: 16 bytes of elements as they lie in memory. All names begin with `wgclip_` and the type's
/// name, `wgclip_f32_` for example, so that several types can be used at once. These are stable:
///
/// | function | what it returns |
/// |---|---|
/// | `clip_block(x, lo, hi)` | the clip of each element between those of two blocks |
/// | `clip_backward_block(x, g, lo, hi)` | the gradient that reaches x, of the upstream gradient g, by `rule` |
/// | `element_of(block, i) -> vec2<u32>` | the bits of an element, the low word first |
/// | `store_element(&block, i, bits)` | stores them where the block is zero |
/// | `splat_element(bits)` | a block full of an element |
///
/// A bound that is absent is the least or the greatest value of the type (an infinity, for floats): nothing is
/// beyond it, though an element may tie with it.
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
    // Bounds that the kernel brings may be NaN: they are compared as elements of tensors are.
    let layouts = [Layout::Same; MAX_BROADCAST];
    let user =
        module("user").ok_or(Error::Internal { op: "functions", what: "without its module".into() })?;
    let mut text = compose(user, Specialization { ties: rule.ties, layouts, ..Specialization::of(element) });
    let toward = rule.outside == OutsideRule::Toward;
    let nan_zero = rule.nan == NanRule::Zero;
    let _ =
        writeln!(text, "fn user_rule() -> Rule {{\n    return Rule(vec4({toward}), vec4({nan_zero}));\n}}");
    Ok(prefixed(&text, &format!("wgclip_{element}_")))
}

/// The same text, less its comments, with a prefix before each name that it declares.
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

    fn files() -> impl Iterator<Item = (&'static str, &'static str)> {
        let ops = Op::ALL.iter().map(|op| (op.info().module, op.info().shader));
        MODULES.iter().copied().chain(ops)
    }

    /// The names that a text uses, less those of fields and the paths of imports.
    fn names(text: &str) -> HashSet<&str> {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let mut found = HashSet::new();
        for line in code {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let mut at = 0;
            for name in line.split(|c| !is_name(c)) {
                let field = line[..at].ends_with('.') || line[at + name.len()..].starts_with(':');
                if !field {
                    found.insert(name);
                }
                at += name.len() + 1;
            }
        }
        found
    }

    fn declared(body: &str) -> HashSet<&str> {
        let mut found = HashSet::new();
        for line in body.lines() {
            let line = line.rsplit_once("var<uniform> ").map_or(line, |(_, name)| name);
            for keyword in ["fn ", "const ", "struct ", "params: "] {
                if let Some(name) = line.strip_prefix(keyword) {
                    let name = if keyword == "params: " { "params" } else { name };
                    found
                        .insert(name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap());
                }
            }
        }
        found
    }

    /// Every file imports just what it uses of others: so it can be read alone, by people and by editors.
    #[test]
    fn files_name_their_imports() {
        let mut wrong = Vec::new();
        let constants = include_str!("../../shaders/lib/constants.wgsl");
        let all: Vec<_> = files().chain([(CONSTANTS, constants)]).collect();
        for (path, source) in files() {
            let (_, body) = imports(source);
            let header = &source[..source.len() - body.len()];
            let (used, imported) = (names(body), names(header));
            for (other, text) in all.iter().filter(|(other, _)| *other != path) {
                for name in declared(imports(text).1) {
                    let local = declared(body).contains(name);
                    let (uses, imports) = (used.contains(name) && !local, imported.contains(name) && !local);
                    if uses != imports {
                        wrong.push(format!("{path}: {name} of {other}, used {uses}, imported {imports}"));
                    }
                }
            }
            for module in imports(source).0 {
                assert!(all.iter().any(|(known, _)| *known == module), "{path} imports {module}");
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// The file that stands for the constants declares each of them, with the values of f32.
    #[test]
    fn the_constants_are_those_of_the_file() {
        let file = include_str!("../../shaders/lib/constants.wgsl");
        let lines = |text: &str| -> Vec<(String, i64)> {
            let value = |text: &str| match text {
                "true" => 1,
                "false" => 0,
                hex if hex.starts_with("0x") => {
                    i64::from_str_radix(hex[2..].trim_end_matches('u'), 16).unwrap()
                }
                decimal => decimal.trim_end_matches('u').parse().unwrap(),
            };
            let consts = text.lines().filter(|line| line.starts_with("const "));
            let mut lines: Vec<_> = consts
                .map(|line| line.trim_end_matches(';').split_once(" = ").unwrap())
                .map(|(name, number)| (name.to_owned(), value(number)))
                .collect();
            lines.sort();
            lines
        };
        assert_eq!(lines(file), lines(&Specialization::of(ElementType::F32).constants()));
    }

    #[test]
    fn names_of_other_kernels_are_not_taken() {
        let text = functions(ElementType::Bf16, BackwardRule::default()).unwrap();
        for line in text.lines().filter(|line| !line.starts_with([' ', '}'])) {
            assert!(line.contains("wgclip_bf16_"), "{line}");
        }
    }
}
