//! How a kernel reads its broadcast inputs: text generated for each of them, since WGSL cannot pass a buffer to a function. The
//! code common to all is in `shaders/lib/broadcast.wgsl`.

use std::fmt::Write;

use super::Layout;
use super::kernel::Kernel;
use crate::op::Operand;

/// Components of the vector in which a position holds an element of each input.
const COMPONENTS: [&str; 4] = ["x", "y", "z", "w"];

/// A broadcast input of a kernel.
struct Input {
    operand: Operand,
    index: usize,
    layout: Layout,
}

/// The text for the broadcast inputs of a kernel.
#[derive(Default)]
pub(super) struct Reading {
    /// Modules to import.
    pub imports: Vec<&'static str>,
    /// Functions, before the entry point.
    pub functions: String,
    /// Values that are loaded once, before the loop.
    pub before: String,
    /// The reads for block `i`.
    pub of_block: String,
    /// The arguments of the operation's function.
    pub arguments: Vec<String>,
    /// The text at the end of each step of a loop over elements.
    pub after_element: String,
}

/// The broadcast inputs of a kernel.
fn inputs_of(kernel: &Kernel) -> Vec<Input> {
    let inputs = kernel.op.info().broadcast.iter().zip(kernel.specialization.layouts).enumerate();
    inputs.map(|(index, (&operand, layout))| Input { operand, index, layout }).collect()
}

impl Reading {
    /// For a loop over elements: inputs are words, which have no blocks of x's elements.
    pub(super) fn of_elements(kernel: &Kernel) -> Self {
        let inputs = inputs_of(kernel);
        let mut reading = Self::default();
        if inputs.iter().any(Input::is_tensor) {
            reading.imports.push("lib::broadcast::begin");
        }
        if inputs.iter().any(|input| input.layout == Layout::Strided) {
            reading.of_block.push_str("                var position = begin(i);\n");
            reading.after_element.push_str("                    advance(&position);\n");
        }
        for input in inputs {
            let (name, component) = (input.operand.name(), COMPONENTS[input.index]);
            let element = |at: &str| format!("vec2({name}_blocks[{at}], 0u)");
            let _ = match input.layout {
                Layout::Value => {
                    writeln!(reading.before, "    let {name} = params.values[{}].xy;", input.index)
                }
                Layout::One => writeln!(reading.before, "    let {name} = {};", element("0u")),
                Layout::Rows => writeln!(
                    reading.of_block,
                    "                let {name} = {};",
                    element("row_and_column(i).x")
                ),
                // No other layout is among those of such a kernel.
                _ => {
                    reading.arguments.push(element(&format!("position.elements.{component}")));
                    continue;
                }
            };
            reading.arguments.push(name.into());
        }
        reading
    }

    pub(super) fn new(kernel: &Kernel) -> Self {
        let info = kernel.op.info();
        let inputs = inputs_of(kernel);
        let mut reading = Self::default();
        if inputs.iter().any(Input::is_tensor) {
            reading.imports.extend(["lib::broadcast::begin", "lib::element::element_of"]);
        }
        inputs.iter().for_each(|input| reading.functions.push_str(&input.functions()));
        let strided: Vec<_> = inputs.iter().filter(|input| input.layout == Layout::Strided).collect();
        if !strided.is_empty() {
            reading.functions.push_str(&gather(&strided));
            reading.of_block.push_str("            let strided = strided_at(i);\n");
        }
        if info.has_bounds() {
            reading.before.push_str("    let bounds = load_bounds();\n");
            let mut tensors =
                inputs.iter().filter(|input| input.operand.is_bound() && input.is_tensor()).peekable();
            if tensors.peek().is_some() {
                reading.of_block.push_str("            var bounds_of_block = bounds;\n");
                reading.arguments.push("bounds_of_block".into());
            } else {
                reading.arguments.push("bounds".into());
            }
            for input in tensors {
                let (name, block) = (input.operand.name(), input.block());
                let _ = writeln!(reading.of_block, "            bounds_of_block.{name} = {block};");
            }
        }
        for input in inputs.iter().filter(|input| !input.operand.is_bound()) {
            let (name, index) = (input.operand.name(), input.index);
            if input.is_tensor() {
                let _ = writeln!(reading.of_block, "            let {name} = {};", input.block());
            } else {
                let _ = writeln!(reading.before, "    let {name} = splat(params.values[{index}].xy);");
            }
            reading.arguments.push(name.into());
        }
        reading
    }
}

impl Input {
    fn is_tensor(&self) -> bool {
        self.layout != Layout::Value
    }

    /// The elements for block `i`.
    fn block(&self) -> String {
        let name = self.operand.name();
        if self.layout == Layout::Strided { format!("strided.{name}") } else { format!("{name}_at(i)") }
    }

    /// Functions that read a tensor: an element, and those of a block.
    fn functions(&self) -> String {
        let name = self.operand.name();
        let block = match self.layout {
            Layout::Value | Layout::Strided => None,
            Layout::Same => Some(format!("{name}_blocks[i]")),
            Layout::One => Some(format!("splat_element({name}_element(0u))")),
            Layout::Rows => Some(format!("splat_element({name}_element(row_and_column(i).x))")),
            Layout::Columns => Some(format!("{name}_blocks[row_and_column(i).y]")),
        };
        let mut text = String::new();
        if !matches!(self.layout, Layout::Value | Layout::Same | Layout::Columns) {
            let _ = write!(
                text,
                "
fn {name}_element(n: u32) -> vec2<u32> {{
    return element_of({name}_blocks[n / (SUBWORDS * LANES_PER_SUBWORD)], n % (SUBWORDS * LANES_PER_SUBWORD));
}}
"
            );
        }
        if let Some(block) = block {
            let _ = write!(text, "\nfn {name}_at(i: u32) -> vec4<u32> {{\n    return {block};\n}}\n");
        }
        text
    }
}

/// A function that reads all strided inputs of a block, an element at a time: the position in x is computed once.
fn gather(inputs: &[&Input]) -> String {
    let (mut fields, mut zeros, mut stores, mut names) =
        (String::new(), String::new(), String::new(), Vec::new());
    for input in inputs {
        let (name, component) = (input.operand.name(), COMPONENTS[input.index]);
        let _ = writeln!(fields, "    {name}: vec4<u32>,");
        let _ = writeln!(zeros, "    var {name} = vec4(0u);");
        let _ = writeln!(
            stores,
            "        store_element(&{name}, e, {name}_element(position.elements.{component}));"
        );
        names.push(name);
    }
    let names = names.join(", ");
    format!(
        "
struct Strided {{
{fields}}}

fn strided_at(i: u32) -> Strided {{
    var position = begin(i);
{zeros}    for (var e = 0u; e < params.elements; e++) {{
{stores}        advance(&position);
    }}
    return Strided({names});
}}
"
    )
}
