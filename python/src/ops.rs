//! The operations of the list, over memory that is given: outputs are made by whoever calls.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use wgclip::op::{Arguments, Operand};
use wgclip::{BackwardRule, ElementType, Error, Op, Shape, cpu};

use crate::bounds::Bounds;
use crate::errors::exception;
use crate::memory::{Memory, run as over};
use crate::rule::AnyRule;

type Any<'a, 'py> = &'a Bound<'py, PyAny>;
type Names = Vec<&'static str>;

/// How many words of 64 bits a mask has.
#[pyfunction]
pub(crate) fn mask_len(len: usize) -> usize {
    cpu::mask_len(len)
}

/// The list: of each operation its name, and those of its inputs and outputs; whether it takes bounds, a rule, two scalars, another type for its output.
#[pyfunction]
pub(crate) fn operations() -> Vec<(&'static str, Names, Names, [bool; 4])> {
    let names = |operands: &[Operand]| operands.iter().map(|of| of.name()).collect();
    let row = |op: &Op| {
        let info = op.info();
        let takes = [info.bounds, info.rule != wgclip::op::RuleUse::Ignored, info.scalars, info.converts];
        (info.name, names(info.inputs), names(info.outputs), takes)
    };
    Op::ALL.iter().map(row).collect()
}

/// Clips x into out, which may be x: the way of most calls, with little on it.
#[pyfunction]
pub(crate) fn clip(
    py: Python<'_>,
    x: Any<'_, '_>,
    min: Option<Any<'_, '_>>,
    max: Option<Any<'_, '_>>,
    out: Any<'_, '_>,
) -> PyResult<()> {
    let (x, out) = (Memory::of(x)?, Memory::of(out)?);
    let bounds = Bounds::of(min, max, x.element)?;
    call(py, Op::Clip, &[x], [Some(out), None, None], &bounds, (BackwardRule::default(), None))
}

/// Runs an operation of the list, by its name: inputs and outputs are those of the list, in that order. An output is None where it is not
/// wanted; the first may be the very input that can be overwritten. That of a bound has the bound's shape. The output of a conversion says its type.
#[pyfunction]
#[pyo3(
    signature = (name, inputs, outputs, min=None, max=None, rule=AnyRule(BackwardRule::default()), scalars=None),
    text_signature = "(name, inputs, outputs, min=None, max=None, rule=None, scalars=None)"
)]
#[expect(clippy::too_many_arguments, reason = "they are what an operation takes")]
pub(crate) fn run(
    py: Python<'_>,
    name: &str,
    inputs: Vec<Bound<'_, PyAny>>,
    outputs: Vec<Option<Bound<'_, PyAny>>>,
    min: Option<Any<'_, '_>>,
    max: Option<Any<'_, '_>>,
    rule: AnyRule,
    scalars: Option<[f64; 2]>,
) -> PyResult<()> {
    let unknown = || {
        let names: Vec<_> = Op::ALL.iter().map(|op| op.name()).collect();
        PyValueError::new_err(format!("no operation is called {name:?}: there are {}", names.join(", ")))
    };
    let op = Op::from_name(name).ok_or_else(unknown)?;
    let info = op.info();
    let inputs = inputs.iter().map(Memory::of).collect::<PyResult<Vec<_>>>()?;
    let mut memories: [Option<Memory>; 3] = [const { None }; 3];
    let names = |operands: &[Operand]| operands.iter().map(|of| of.name()).collect::<Vec<_>>().join(", ");
    if inputs.len() != info.inputs.len() || outputs.len() > info.outputs.len() {
        let text = format!("{name} takes {} and gives {}", names(info.inputs), names(info.outputs));
        return Err(PyValueError::new_err(text));
    }
    for (memory, output) in memories.iter_mut().zip(outputs) {
        *memory = output.as_ref().map(Memory::of).transpose()?;
    }
    let element = inputs[shaped(op)].element;
    let bounds = if info.bounds { Bounds::of(min, max, element)? } else { Bounds::none() };
    call(py, op, &inputs, memories, &bounds, (rule.0, scalars))
}

/// The place of the input that has the shape of the work: the first that is no mask.
fn shaped(op: Op) -> usize {
    op.info().inputs.iter().position(|&input| input != Operand::Mask).unwrap_or(0)
}

fn call(
    py: Python<'_>,
    op: Op,
    inputs: &[Memory],
    outputs: [Option<Memory>; 3],
    bounds: &Bounds,
    (rule, scalars): (BackwardRule, Option<[f64; 2]>),
) -> PyResult<()> {
    let info = op.info();
    let x = &inputs[shaped(op)];
    for (input, &operand) in inputs.iter().zip(info.inputs) {
        check(input, operand, x, (x.element, bounds))?;
    }
    // Only the output of a conversion has a type of its own.
    let to = outputs[0].as_ref().filter(|_| info.converts).map_or(x.element, |output| output.element);
    for (output, &operand) in outputs.iter().zip(info.outputs) {
        output.as_ref().map_or(Ok(()), |output| check(output, operand, x, (to, bounds)))?;
    }
    let target = info.in_place.and_then(|target| info.inputs.iter().position(|&input| input == target));
    let in_place = target.filter(|&place| outputs[0].as_ref().is_some_and(|output| inputs[place].is(output)));
    let others = inputs.iter().enumerate().filter(|(place, _)| Some(*place) != in_place);
    let read: Vec<_> = bounds.arrays().chain(others.map(|(_, input)| input)).collect();
    let written: Vec<_> = outputs.iter().flatten().collect();
    let wanted = outputs.each_ref().map(Option::is_some);
    over(py, &read, &written, |read, written| {
        let (arrays, inputs) = read.split_at(bounds.arrays().count());
        let bounds = bounds.resolve(x.element, &x.shape, arrays)?;
        let mut written = written.into_iter();
        let outputs = wanted.map(|wanted| wanted.then(|| written.next()).flatten());
        let arguments = Arguments { rule, scalars, to: Some(to), ..Arguments::new(&bounds) };
        cpu::run(op, x.shape.len(), inputs, outputs, &arguments)
    })
}

/// Whether memory is of the type and the shape of an operand.
fn check(
    memory: &Memory,
    operand: Operand,
    x: &Memory,
    (element, bounds): (ElementType, &Bounds),
) -> PyResult<()> {
    let (element, shape) = match operand {
        // However it is shaped: its length is looked at where it is read.
        Operand::Mask => (ElementType::U64, memory.shape.clone()),
        Operand::Glo => (element, gradient_shape(bounds, 0, "lower")?),
        Operand::Ghi => (element, gradient_shape(bounds, 1, "upper")?),
        _ => (element, x.shape.clone()),
    };
    if memory.element != element {
        return Err(exception(Error::TypeMismatch { left: element, right: memory.element }));
    }
    if memory.shape != shape {
        let [left, right] = [&shape, &memory.shape].map(|of| of.dims().to_vec());
        return Err(exception(Error::ShapeMismatch { left, right }));
    }
    Ok(())
}

fn gradient_shape(bounds: &Bounds, side: usize, name: &'static str) -> PyResult<Shape> {
    bounds.gradient_shape(side).ok_or(Error::NoBound { side: name }).map_err(exception)
}
