//! The operations of the list, over memory that is given: outputs are made by whoever calls.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use wgclip::op::{Arguments, Codes, MAX_OUTPUTS, Op, Operand, RuleUse};
use wgclip::{ElementType, Error, cpu};

use crate::bounds::{Broadcast, keyword};
use crate::errors::exception;
use crate::memory::{Memory, run as over};
use crate::quantize::Rules;

type Any<'a, 'py> = &'a Bound<'py, PyAny>;
type Names = Vec<&'static str>;
type Outputs = Vec<(&'static str, Option<&'static str>)>;
type Row = (&'static str, Names, Names, Outputs, Names, (bool, bool, bool));

/// How many words of 64 bits a mask has.
#[pyfunction]
pub(crate) fn mask_len(len: usize) -> usize {
    cpu::mask_len(len)
}

/// The list: of each operation its name, and the names of its inputs, its broadcast inputs, its outputs and its parameters; whether it takes a
/// rule, whether its output may be of another type, and whether that or its input are codes. An output that is the gradient of a broadcast input comes with that one's name.
#[pyfunction]
pub(crate) fn operations() -> Vec<Row> {
    let names = |operands: &[Operand]| operands.iter().map(|of| of.name()).collect();
    let row = |op: &Op| {
        let info = op.info();
        let broadcast = info.broadcast.iter().copied().map(keyword).collect();
        let outputs = info.outputs.iter().map(|of| (of.name(), of.gradient_of().map(keyword))).collect();
        let takes = (info.rule != RuleUse::Ignored, info.converts, info.codes != Codes::None);
        (info.name, names(info.inputs), broadcast, outputs, info.params.to_vec(), takes)
    };
    Op::ELEMENTWISE.iter().map(row).collect()
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
    let bounds = Broadcast::of(Op::Clip, [min, max], x.element)?;
    call(py, Op::Clip, &[x], &[Some(out)], &bounds, (Rules::default(), &[]))
}

/// Runs an operation of the list, by its name: inputs, outputs, broadcast inputs and parameters are those of the list, in that order. An output is
/// None where it is not needed; the first may be the very input that can be overwritten. That of a broadcast input has its shape. The output of a
/// conversion says its type.
#[pyfunction]
#[pyo3(
    signature = (name, inputs, outputs, broadcast=Vec::new(), rule=None, params=Vec::new()),
    text_signature = "(name, inputs, outputs, broadcast=(), rule=None, params=())"
)]
pub(crate) fn run(
    py: Python<'_>,
    name: &str,
    inputs: Vec<Bound<'_, PyAny>>,
    outputs: Vec<Option<Bound<'_, PyAny>>>,
    broadcast: Vec<Option<Bound<'_, PyAny>>>,
    rule: Option<Bound<'_, PyAny>>,
    params: Vec<f64>,
) -> PyResult<()> {
    let op = operation(name)?;
    let info = op.info();
    let inputs = inputs.iter().map(Memory::of).collect::<PyResult<Vec<_>>>()?;
    if inputs.len() != info.inputs.len() || outputs.len() > info.outputs.len() {
        let names = |operands: &[Operand]| operands.iter().map(|of| of.name()).collect::<Vec<_>>().join(", ");
        let text = format!("{name} takes {} and gives {}", names(info.inputs), names(info.outputs));
        return Err(PyValueError::new_err(text));
    }
    let memory = |output: &Option<Bound<'_, PyAny>>| output.as_ref().map(Memory::of).transpose();
    let outputs = outputs.iter().map(memory).collect::<PyResult<Vec<_>>>()?;
    let element = inputs[shaped(op)].element;
    let to = outputs.first().and_then(Option::as_ref).map_or(element, |output| output.element);
    let of_type = op.broadcast_type(element, to);
    let broadcast = Broadcast::of(op, broadcast.iter().map(Option::as_ref), of_type)?;
    call(py, op, &inputs, &outputs, &broadcast, (Rules::of(op, rule.as_ref())?, &params))
}

/// The operation of a name.
pub(crate) fn operation(name: &str) -> PyResult<Op> {
    let unknown = || {
        let names: Vec<_> = Op::ALL.iter().map(|op| op.name()).collect();
        PyValueError::new_err(format!("no operation is called {name:?}: there are {}", names.join(", ")))
    };
    Op::from_name(name).ok_or_else(unknown)
}

/// The index of the input that has the shape of the work: the first that is no mask.
pub(crate) fn shaped(op: Op) -> usize {
    op.info().inputs.iter().position(|&input| input != Operand::Mask).unwrap_or(0)
}

fn call(
    py: Python<'_>,
    op: Op,
    inputs: &[Memory],
    outputs: &[Option<Memory>],
    broadcast: &Broadcast,
    (Rules { rule, quant }, params): (Rules, &[f64]),
) -> PyResult<()> {
    let info = op.info();
    let x = &inputs[shaped(op)];
    for (input, &operand) in inputs.iter().zip(info.inputs) {
        check(input, operand, x, (x.element, broadcast))?;
    }
    // Only the output of a conversion has a type of its own.
    let first = outputs.first().and_then(Option::as_ref);
    let to = first.filter(|_| info.converts).map_or(x.element, |output| output.element);
    for (output, &operand) in outputs.iter().zip(info.outputs) {
        output.as_ref().map_or(Ok(()), |output| check(output, operand, x, (to, broadcast)))?;
    }
    let target = info.in_place.and_then(|target| info.inputs.iter().position(|&input| input == target));
    let in_place = target.filter(|&index| first.is_some_and(|output| inputs[index].is(output)));
    let others = inputs.iter().enumerate().filter(|(index, _)| Some(*index) != in_place);
    let read: Vec<_> = broadcast.arrays().chain(others.map(|(_, input)| input)).collect();
    let written: Vec<_> = outputs.iter().flatten().collect();
    over(py, &read, &written, |read, written| {
        let (arrays, inputs) = read.split_at(broadcast.arrays().count());
        let broadcast = broadcast.resolve(&x.shape, arrays)?;
        let mut written = written.into_iter();
        let mut made = [const { None }; MAX_OUTPUTS];
        for (made, output) in made.iter_mut().zip(outputs) {
            *made = output.as_ref().and_then(|_| written.next());
        }
        let (element, to) = (Some(x.element), Some(to));
        let arguments = Arguments { element, rule, quant, params, to, ..Arguments::new(&broadcast) };
        cpu::run(op, x.shape.len(), inputs, &mut made, &arguments)
    })
}

/// Whether memory is of the type and the shape of an operand.
fn check(
    memory: &Memory,
    operand: Operand,
    x: &Memory,
    (element, broadcast): (ElementType, &Broadcast),
) -> PyResult<()> {
    let (element, shape) = match operand.gradient_of() {
        // However it is shaped: its length is looked at where it is read.
        _ if operand == Operand::Mask => (ElementType::U64, memory.shape.clone()),
        Some(of) => {
            let shape = broadcast.gradient_shape(of);
            (element, shape.ok_or(Error::NoBound { operand: of.noun() }).map_err(exception)?)
        }
        None => (element, x.shape.clone()),
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
