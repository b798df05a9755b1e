//! The kernels: an operation with an entry point and bindings, generated from its row in the list.

use std::fmt::Write;

use super::broadcast::Reading;
use super::{Interface, Layout, Specialization, compose};
#[cfg(feature = "gpu")]
use crate::broadcast::MAX_BROADCAST;
use crate::broadcast::{Axis, Broadcast};
use crate::op::{Codes, MAX_OUTPUTS, Operand, RuleUse};
use crate::quantize::QuantRule;
use crate::{ElementType, Op, TieRule};

/// Bytes of a block.
pub const BLOCK_BYTES: u64 = 16;

impl Layout {
    #[cfg(feature = "gpu")]
    const TENSORS: [Self; 5] = [Self::Same, Self::One, Self::Rows, Self::Columns, Self::Strided];

    /// The layout of a tensor input, by its index.
    pub(crate) fn new(broadcast: &Broadcast, index: usize, element: ElementType) -> Self {
        if broadcast.is_same(index) {
            return Self::Same;
        }
        let axes = broadcast.axes();
        let stride = |axis: &Axis| axis.strides[index];
        match axes {
            _ if axes.iter().all(|axis| stride(axis) == 0) => Self::One,
            // Rows of whole blocks.
            [outer, inner] if (inner.len * element.size()).is_multiple_of(BLOCK_BYTES as usize) => {
                match (stride(outer), stride(inner)) {
                    (1, 0) => Self::Rows,
                    (0, 1) => Self::Columns,
                    _ => Self::Strided,
                }
            }
            _ => Self::Strided,
        }
    }
}

/// A kernel of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Kernel {
    pub op: Op,
    /// Whether the first output overwrites an input.
    pub in_place: bool,
    /// The outputs that are computed.
    pub needs: [bool; MAX_OUTPUTS],
    /// Whether operands are parts of one buffer: every binding is then `read_write`.
    pub shared: bool,
    pub specialization: Specialization,
}

/// A storage buffer of a kernel: binding 0 is the parameters, and these follow in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Binding {
    pub name: &'static str,
    pub is_mask: bool,
    pub is_input: bool,
    pub read_only: bool,
}

impl Kernel {
    /// Creates a kernel, without what makes no difference to the operation.
    pub(crate) fn new(
        op: Op,
        in_place: bool,
        needs: [bool; MAX_OUTPUTS],
        shared: bool,
        specialization: Specialization,
    ) -> Self {
        let info = op.info();
        let takes_ties = matches!(info.rule, RuleUse::Any | RuleUse::Mask);
        let ties = if takes_ties { specialization.ties } else { TieRule::Inclusive };
        let given = QuantRule {
            min: QuantRule::EXACT.min,
            max: QuantRule::EXACT.max,
            seed: 0,
            ..specialization.quant
        };
        let forward = QuantRule {
            gradient: QuantRule::EXACT.gradient,
            nan_gradient: QuantRule::EXACT.nan_gradient,
            ..given
        };
        let quant = match info.rule {
            RuleUse::Quant if info.codes == Codes::Input => {
                QuantRule { format: given.format, ..QuantRule::EXACT }
            }
            RuleUse::Quant if info.codes == Codes::Both => QuantRule::EXACT,
            RuleUse::Quant if info.inputs.contains(&Operand::G) => given,
            RuleUse::Quant => forward,
            _ => QuantRule::EXACT,
        };
        // Converting to the same type is a plain clip.
        let converts = specialization.to != specialization.element;
        let op = if op == Op::ClipTo && !converts { Op::Clip } else { op };
        let outputs = info.outputs.len();
        let needs = std::array::from_fn(|index| index < outputs && needs[index]);
        // Where they are of another type they have no blocks of x's elements.
        let layouts = specialization.layouts.map(|layout| match layout {
            Layout::Same | Layout::Columns if info.codes != Codes::None => Layout::Strided,
            layout => layout,
        });
        let specialization = Specialization { ties, quant, layouts, ..specialization };
        Self { op, in_place, needs, shared, specialization }
    }

    /// Every kernel of a type. Those that share a buffer differ only in its declaration, so only one type has them all.
    #[cfg(feature = "gpu")]
    pub(crate) fn all(element: ElementType) -> Vec<Self> {
        let mut kernels = Vec::new();
        for (op, in_place) in Op::variants().filter(|(op, _)| op.is_for(element, true)) {
            for layouts in layouts_of(op) {
                let shared = |shared: &bool| !shared || element == ElementType::F32;
                let forms = |ties| [false, true].into_iter().filter(shared).map(move |shared| (ties, shared));
                for (&ties, shared) in TieRule::ALL.iter().flat_map(forms) {
                    for needs in op.output_sets() {
                        let info = op.info();
                        // The shaders multiply in f32.
                        let on_gpu = |to: &ElementType| info.codes != Codes::Input || *to != ElementType::F64;
                        let converted = |to: &ElementType| {
                            op.makes(element, *to)
                                && on_gpu(to)
                                && (info.codes != Codes::None || element.is_float())
                        };
                        let others = ElementType::ALL.iter().copied().filter(converted);
                        let to: Vec<_> = others.filter(|_| info.converts).collect();
                        // A rule makes the same difference to every type, layout and form.
                        let is_first = element == ElementType::F32 || info.codes == Codes::Input;
                        let is_first = is_first && !in_place && !shared;
                        let has_rules =
                            is_first && info.rule == RuleUse::Quant && layouts[0] == Layout::Value;
                        let rules = QuantRule::choices().take(if has_rules { usize::MAX } else { 1 });
                        for quant in rules {
                            let to = if to.is_empty() { vec![element] } else { to.clone() };
                            // A range that every type holds: it makes no difference to a kernel.
                            let one = QuantRule { min: 0, max: 0, ..quant };
                            let takes = |to: &ElementType| op.check_codes(one, element, *to).is_ok();
                            for to in to.into_iter().filter(takes) {
                                let specialization = Specialization {
                                    to,
                                    ties,
                                    quant,
                                    layouts,
                                    ..Specialization::of(element)
                                };
                                kernels.push(Self::new(op, in_place, needs, shared, specialization));
                            }
                        }
                    }
                }
            }
        }
        let mut seen = std::collections::HashSet::new();
        kernels.retain(|kernel| seen.insert(*kernel));
        kernels
    }

    /// Whether the output is written as elements of a type, which may be another one than that of x.
    pub(crate) fn converts(&self) -> bool {
        self.specialization.to != self.specialization.element || self.is_elementwise()
    }

    /// Whether it goes over elements, with broadcast inputs of another type than x: words, each an f32.
    pub(crate) fn is_elementwise(&self) -> bool {
        self.op.info().codes != Codes::None
    }

    /// Whether an invocation works on the blocks of a word of a mask.
    pub(crate) fn has_mask(&self) -> bool {
        self.op.has(Operand::Mask)
    }

    /// The storage buffers, in the order of their bindings.
    pub(crate) fn bindings(&self) -> Vec<Binding> {
        let info = self.op.info();
        let binding = |name, is_mask, is_input: bool| Binding {
            name,
            is_mask,
            is_input,
            read_only: is_input && !self.shared,
        };
        let broadcast = info.broadcast.iter().zip(self.specialization.layouts);
        let broadcast = broadcast.filter(|(_, layout)| *layout != Layout::Value);
        let broadcast = broadcast.map(|(input, _)| binding(input.name(), false, true));
        let overwritten = |input| self.in_place && Some(input) == info.in_place;
        let inputs = info.inputs.iter().filter(|&&input| !overwritten(input));
        let inputs = inputs.map(|input| binding(input.name(), *input == Operand::Mask, true));
        let outputs = info.outputs.iter().enumerate().filter(|&(index, _)| self.needs[index]);
        let outputs = outputs.map(|(_, output)| binding(output.name(), *output == Operand::Mask, false));
        broadcast.chain(inputs).chain(outputs).collect()
    }

    /// The whole source. The entry point is `main`.
    pub(crate) fn source(&self, interface: &Interface<'_>) -> String {
        let info = self.op.info();
        let reading = if self.is_elementwise() { Reading::of_elements(self) } else { Reading::new(self) };
        let clips = self.converts() && !self.is_elementwise();
        let function = if clips { Op::Clip.name() } else { info.name };
        let mut root = format!("import package::{}::{function};\n", info.module);
        let converts: &[_] = match (clips, self.converts()) {
            (true, _) => &["lib::convert::convert", "lib::element::element_of"],
            (_, true) => &["lib::element::element_of"],
            _ => &[],
        };
        for path in reading.imports.iter().copied().chain(converts.iter().copied()).chain([
            "lib::arguments::load_bounds",
            "lib::dispatch::block_of",
            "lib::params::params",
        ]) {
            let _ = writeln!(root, "import package::{path};");
        }
        // The linker assigns the numbers.
        for binding in self.bindings() {
            let is_x = info.inputs.iter().any(|input| input.name() == binding.name);
            let words =
                binding.is_mask || (self.converts() && !binding.is_input) || (self.is_elementwise() && !is_x);
            let item = if words { "u32" } else { "vec4<u32>" };
            let _ =
                writeln!(root, "@group(0) @binding(0) var<storage> {}_blocks: array<{item}>;", binding.name);
        }
        root.push_str(&reading.functions);
        let mut arguments = vec!["element_of(block, e)".to_owned()];
        arguments.extend(reading.arguments.iter().cloned());
        root.push_str(&match (self.converts(), self.is_elementwise()) {
            (true, false) => converting_entry(
                &reading,
                &format!("let result = clip(x_blocks[i], {});", reading.arguments.join(", ")),
                "convert(element_of(result, e))",
            ),
            (true, true) => converting_entry(
                &reading,
                "let block = x_blocks[i];",
                &format!("{function}({}, params.codes, vec2(i, e))", arguments.join(", ")),
            ),
            (false, _) => self.entry(reading),
        });
        compose(&root, self.specialization, interface)
    }

    /// The one loop of all operations: loads, the function of a block, stores.
    fn entry(&self, reading: Reading) -> String {
        let info = self.op.info();
        let count = if self.has_mask() { "BLOCKS_PER_MASK_WORD" } else { "BLOCKS_PER_INVOCATION" };
        let mask_input = info.inputs.contains(&Operand::Mask);
        let mask_output = info.outputs.contains(&Operand::Mask);
        let (mut before, mut after) = (String::new(), String::new());
        let mut arguments = Vec::new();
        for &input in info.inputs {
            arguments.push(match input {
                Operand::Mask => "bits >> (n * SUBWORDS * LANES_PER_SUBWORD)".to_owned(),
                // In place, the output holds it.
                _ if self.in_place && Some(input) == info.in_place => {
                    format!("{}_blocks[i]", info.outputs[0].name())
                }
                _ => format!("{}_blocks[i]", input.name()),
            });
        }
        before.push_str(&reading.before);
        arguments.extend(reading.arguments);
        let rule = match info.rule {
            RuleUse::Ignored => None,
            RuleUse::Any | RuleUse::Mask => Some(("rule", "load_rule()")),
            RuleUse::Quant => Some(("codes", "params.codes")),
        };
        let at = (info.rule == RuleUse::Quant).then(|| "i".to_owned());
        if let Some((name, value)) = rule {
            let _ = writeln!(before, "    let {name} = {value};");
            arguments.push(name.into());
        }
        arguments.extend(at);
        if !info.params.is_empty() {
            before.push_str("    let scalars = params.scalars;\n");
            arguments.push("scalars".into());
        }
        if self.has_mask() {
            // The last workgroups may reach beyond the mask.
            before.push_str(
                "    if block_of(invocation, 0u, BLOCKS_PER_MASK_WORD) >= blocks {\n        return;\n    }\n",
            );
        }
        if mask_input {
            before.push_str("    let bits = mask_blocks[invocation];\n");
        }
        if mask_output {
            before.push_str("    var bits = 0u;\n");
            after.push_str("    mask_blocks[invocation] = bits;\n");
        }
        let mut stores = String::new();
        for (_, output) in info.outputs.iter().enumerate().filter(|&(index, _)| self.needs[index]) {
            let name = output.name();
            let value = if info.outputs.len() == 1 { "result".to_owned() } else { format!("result.{name}") };
            let _ = match output {
                Operand::Mask => {
                    writeln!(stores, "            bits |= {value} << (n * SUBWORDS * LANES_PER_SUBWORD);")
                }
                _ => writeln!(stores, "            {name}_blocks[i] = {value};"),
            };
        }
        format!(
            "
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
    let invocation = invocation_index(id);
    let blocks = params.blocks;
{before}    for (var n = 0u; n < {count}; n++) {{
        let i = block_of(invocation, n, {count});
        if i < blocks {{
{of_block}            let result = {name}({arguments});
{stores}        }}
    }}
{after}}}
",
            name = info.name,
            of_block = reading.of_block,
            arguments = arguments.join(", "),
        )
    }
}

/// How the broadcast inputs of an operation may lie along x: all as values, each as the only tensor, and all as
/// tensors.
#[cfg(feature = "gpu")]
fn layouts_of(op: Op) -> Vec<[Layout; MAX_BROADCAST]> {
    let count = op.info().broadcast.len();
    let mut layouts = vec![[Layout::Value; MAX_BROADCAST]];
    for layout in Layout::TENSORS.into_iter().filter(|_| count > 0) {
        for alone in 0..count {
            layouts.push(std::array::from_fn(|index| if index == alone { layout } else { Layout::Value }));
        }
        layouts.push(std::array::from_fn(|index| if index < count { layout } else { Layout::Value }));
    }
    layouts
}

/// The loop of an operation whose output has another type. `each_block` is a statement for block i, `element` an expression for element e of the
/// output. One converted block, or two, fill whole words.
fn converting_entry(reading: &Reading, each_block: &str, element: &str) -> String {
    let Reading { before, of_block, after_element, .. } = reading;
    format!(
        "
// Blocks that convert to whole words, and those words.
const GROUP: u32 = max(1u, BITS / (4u * TO_BITS));
const WORDS: u32 = GROUP * 4u * TO_BITS / BITS;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
    let invocation = invocation_index(id);
    let blocks = params.blocks;
{before}    for (var n = 0u; n < BLOCKS_PER_INVOCATION; n++) {{
        let group = block_of(invocation, n, BLOCKS_PER_INVOCATION);
        var at = group * WORDS;
        var word = 0u;
        var shift = 0u;
        for (var b = 0u; b < GROUP; b++) {{
            let i = group * GROUP + b;
            if i < blocks {{
{of_block}                {each_block}
                for (var e = 0u; e < params.elements; e++) {{
                    let element = {element};
{after_element}                    word |= element.x << shift;
                    shift += TO_BITS;
                    if shift >= 32u {{
                        // The buffer may end with the last block of elements.
                        if at < arrayLength(&y_blocks) {{
                            y_blocks[at] = word;
                        }}
                        at++;
                        if TO_BITS == 64u && at < arrayLength(&y_blocks) {{
                            y_blocks[at] = element.y;
                        }}
                        at += TO_BITS / 64u;
                        word = 0u;
                        shift = 0u;
                    }}
                }}
            }}
        }}
        // The half word of a last block without its pair.
        if shift > 0u && at < arrayLength(&y_blocks) {{
            y_blocks[at] = word;
        }}
    }}
}}
"
    )
}
