//! The kernels: an operation with an entry point and bindings, generated from its row in the list.

use std::fmt::Write;

use super::{Layout, Specialization, compose};
use crate::broadcast::{Axis, Broadcast, Side};
use crate::op::{Operand, RuleUse};
use crate::{ElementType, Op, TieRule};

/// Bytes of a block.
pub const BLOCK_BYTES: u64 = 16;

impl Layout {
    #[cfg(feature = "gpu")]
    const TENSORS: [Self; 5] = [Self::Same, Self::One, Self::Rows, Self::Columns, Self::Strided];

    /// Of a bound that is a tensor.
    pub(crate) fn new(broadcast: &Broadcast, side: Side, element: ElementType) -> Self {
        if broadcast.is_same(side) {
            return Self::Same;
        }
        let axes = broadcast.axes();
        let stride = |axis: &Axis| axis.strides[side as usize];
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

/// The buffers of bounds that are tensors.
const BOUNDS: [&str; 2] = ["lo_blocks", "hi_blocks"];

/// A kernel of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Kernel {
    pub op: Op,
    /// Whether the first output overwrites an input.
    pub in_place: bool,
    /// The outputs that are made.
    pub wanted: [bool; 3],
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
    /// A kernel, less what makes no difference to the operation.
    pub(crate) fn new(
        op: Op,
        in_place: bool,
        wanted: [bool; 3],
        shared: bool,
        specialization: Specialization,
    ) -> Self {
        let info = op.info();
        let ties = if info.rule == RuleUse::Ignored { TieRule::Inclusive } else { specialization.ties };
        // To its own type it is a clip.
        let converts = specialization.to != specialization.element;
        let op = if op == Op::ClipTo && !converts { Op::Clip } else { op };
        let outputs = info.outputs.len();
        let wanted = [0, 1, 2].map(|place| place < outputs && wanted[place]);
        Self { op, in_place, wanted, shared, specialization: Specialization { ties, ..specialization } }
    }

    /// Every kernel of a type. Those that share a buffer differ in how it is declared alone, so one type has them all.
    #[cfg(feature = "gpu")]
    pub(crate) fn all(element: ElementType) -> Vec<Self> {
        let mut kernels = Vec::new();
        let alone = Layout::TENSORS
            .into_iter()
            .flat_map(|layout| [[layout, Layout::Value], [Layout::Value, layout], [layout, layout]]);
        let layouts: Vec<_> = std::iter::once([Layout::Value; 2]).chain(alone).collect();
        for (op, in_place) in Op::variants().filter(|(op, _)| !op.info().scalars || affine_kernel(element)) {
            let wanted: &[[bool; 3]] = match op.info().outputs.len() {
                3 => &[[true; 3], [true, true, false], [false, false, true]],
                _ => &[[true; 3]],
            };
            for &layouts in layouts.iter().take(if op.info().bounds { usize::MAX } else { 1 }) {
                let shared = |shared: &bool| !shared || element == ElementType::F32;
                let forms = |ties| [false, true].into_iter().filter(shared).map(move |shared| (ties, shared));
                for (&ties, shared) in TieRule::ALL.iter().flat_map(forms) {
                    for &wanted in wanted {
                        let others = ElementType::ALL.iter().filter(|to| to.is_float() && element.is_float());
                        let to: Vec<_> = others.copied().filter(|_| op.info().converts).collect();
                        for to in if to.is_empty() { vec![element] } else { to } {
                            let specialization =
                                Specialization { to, ties, layouts, ..Specialization::of(element) };
                            kernels.push(Self::new(op, in_place, wanted, shared, specialization));
                        }
                    }
                }
            }
        }
        let mut seen = std::collections::HashSet::new();
        kernels.retain(|kernel| seen.insert(*kernel));
        kernels
    }

    /// Whether what comes out is of another type.
    pub(crate) fn converts(&self) -> bool {
        self.specialization.to != self.specialization.element
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
        let bounds = BOUNDS.iter().zip(self.specialization.layouts);
        let bounds =
            bounds.filter(|(_, layout)| *layout != Layout::Value).map(|(name, _)| binding(name, false, true));
        let overwritten = |input| self.in_place && Some(input) == info.in_place;
        let inputs = info.inputs.iter().filter(|&&input| !overwritten(input));
        let inputs = inputs.map(|input| binding(input.name(), *input == Operand::Mask, true));
        let outputs = info.outputs.iter().enumerate().filter(|&(place, _)| self.wanted[place]);
        let outputs = outputs.map(|(_, output)| binding(output.name(), *output == Operand::Mask, false));
        bounds.chain(inputs).chain(outputs).collect()
    }

    /// The whole source. The entry point is `main`.
    pub(crate) fn source(&self) -> String {
        let info = self.op.info();
        let function = if self.converts() { Op::Clip.name() } else { info.name };
        let mut root = format!("import package::{}::{function};\n", info.module);
        if self.converts() {
            root.push_str("import package::lib::convert::convert;\n");
        }
        root.push_str("import package::lib::params::params;\n");
        if self.specialization.has_tensors() {
            root.push_str("import package::lib::bounds_tensor::bounds_at;\n");
        }
        // Those of the bounds are declared where they are read.
        for (place, binding) in
            self.bindings().iter().enumerate().filter(|(_, b)| !b.name.ends_with("_blocks"))
        {
            let access = if binding.read_only { "read" } else { "read_write" };
            let words = binding.is_mask || (self.converts() && !binding.is_input);
            let item = if words { "u32" } else { "vec4<u32>" };
            let (place, name) = (place + 1, binding.name);
            let _ = writeln!(
                root,
                "@group(0) @binding({place}) var<storage, {access}> {name}_blocks: array<{item}>;"
            );
        }
        root.push_str(&if self.converts() { self.converting_entry() } else { self.entry() });
        let source = compose(&root, self.specialization);
        let source = match self.specialization.layouts {
            [Layout::Value, tensor] if tensor != Layout::Value => one_tensor(&source, "lo", "hi"),
            [tensor, Layout::Value] if tensor != Layout::Value => one_tensor(&source, "hi", "lo"),
            _ => source,
        };
        match self.shared {
            true => source.replace("var<storage, read>", "var<storage, read_write>"),
            false => source,
        }
    }

    /// The loop of a clip into another type. What becomes of one block, or of two, is whole words.
    fn converting_entry(&self) -> String {
        let bounds = if self.specialization.has_tensors() { "bounds_at(i, bounds)" } else { "bounds" };
        format!(
            "
// Blocks that become whole words, and these words.
const GROUP: u32 = max(1u, BITS / (4u * TO_BITS));
const WORDS: u32 = GROUP * 4u * TO_BITS / BITS;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
    let invocation = invocation_index(id);
    let blocks = params.blocks;
    let bounds = load_bounds();
    for (var n = 0u; n < BLOCKS_PER_INVOCATION; n++) {{
        let group = block_of(invocation, n, BLOCKS_PER_INVOCATION);
        var at = group * WORDS;
        var word = 0u;
        var shift = 0u;
        for (var b = 0u; b < GROUP; b++) {{
            let i = group * GROUP + b;
            if i < blocks {{
                let result = clip(x_blocks[i], {bounds});
                for (var e = 0u; e < params.elements; e++) {{
                    let element = convert(element_of(result, e));
                    word |= element.x << shift;
                    shift += TO_BITS;
                    if shift >= 32u {{
                        // What is beyond the last block of elements is not there.
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
        // Of the last of two blocks, where the other is not there.
        if shift > 0u && at < arrayLength(&y_blocks) {{
            y_blocks[at] = word;
        }}
    }}
}}
"
        )
    }

    /// The one loop of all operations: loads, the function of a block, stores.
    fn entry(&self) -> String {
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
        if info.bounds {
            before.push_str("    let bounds = load_bounds();\n");
            arguments.push(
                if self.specialization.has_tensors() { "bounds_at(i, bounds)" } else { "bounds" }.into(),
            );
        }
        if info.rule != RuleUse::Ignored {
            before.push_str("    let rule = load_rule();\n");
            arguments.push("rule".into());
        }
        if info.scalars {
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
        for (_, output) in info.outputs.iter().enumerate().filter(|&(place, _)| self.wanted[place]) {
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
            let result = {name}({arguments});
{stores}        }}
    }}
{after}}}
",
            name = info.name,
            arguments = arguments.join(", "),
        )
    }
}

/// Whether there is an affine kernel of a type: the shaders multiply in f32 alone.
pub(crate) fn affine_kernel(element: ElementType) -> bool {
    element.is_float() && element.size() <= 4
}

/// The text for bounds of which one is a value: that has no buffer, and what would read it is never reached.
fn one_tensor(source: &str, value: &str, tensor: &str) -> String {
    let mut text = String::new();
    for line in source.lines() {
        match line.strip_prefix("@group(0) @binding(") {
            Some(rest) if rest.ends_with(&format!(" {value}_blocks: array<vec4<u32>>;")) => continue,
            Some(rest) if rest.ends_with(&format!(" {tensor}_blocks: array<vec4<u32>>;")) => {
                let declaration = rest.split_once(')').map_or(rest, |(_, declaration)| declaration);
                let _ = write!(text, "@group(0) @binding(1){declaration}");
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    [" ", "("].iter().fold(text, |text, before| {
        text.replace(&format!("{before}{value}_blocks["), &format!("{before}{tensor}_blocks["))
    })
}
