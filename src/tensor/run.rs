//! Runs an operation of the list on tensors, whatever their device and their type.

use super::storage::peer;
use super::{DynTensor, Stored, Tensor, with_storage};
use crate::backend::cpu::mask_len;
use crate::broadcast::{BoundBits, BroadcastInputs, Reduction};
use crate::call::{Arguments, Call, Reductions};
use crate::op::{Codes, MAX_OUTPUTS, Operand, Pass, first_outputs};
use crate::{BackwardRule, Bound, Bounds, Element, ElementType, Error, NormKind, Op, Result, Shape};

/// The outputs of an operation, in the order of its row: those that are needed.
pub(crate) type Outputs = [Option<DynTensor>; MAX_OUTPUTS];

/// The type that stands for the words of a mask, which have the layout of the device: no tensor of it leaves the crate.
const MASK: ElementType = ElementType::U64;

impl<T: Element> Tensor<T> {
    /// The first output of an operation between bounds, on inputs of this type.
    pub(super) fn between(
        op: Op,
        inputs: &[&DynTensor],
        bounds: &Bounds<T>,
        rule: BackwardRule,
    ) -> Result<Self> {
        let broadcast = broadcast_inputs(op, inputs[0].shape(), bounds, &[])?;
        first(op, inputs, &Arguments { rule, ..Arguments::new(&broadcast) }).map(Self::of)
    }

    /// The same in place of `target`; `others` are the other inputs.
    pub(super) fn overwrite(
        target: &mut Self,
        op: Op,
        others: &[&DynTensor],
        bounds: &Bounds<T>,
        rule: BackwardRule,
    ) -> Result<()> {
        let broadcast = broadcast_inputs(op, target.shape(), bounds, &[])?;
        target.any.overwrite(op, others, &Arguments { rule, ..Arguments::new(&broadcast) })
    }
}

/// The broadcast inputs of an operation on a tensor of shape `x`: bounds, and then the others of its row.
pub(super) fn broadcast_inputs<'a, T: Element>(
    op: Op,
    x: &Shape,
    bounds: &'a Bounds<T>,
    others: &[&'a Bound<T>],
) -> Result<BroadcastInputs<&'a DynTensor>> {
    let inputs = [bounds.lo(), bounds.hi()].into_iter().chain(others.iter().copied());
    BroadcastInputs::new(op.info().broadcast, x, inputs.map(Bound::as_dyn))
}

impl DynTensor {
    /// Runs an operation of the list into new tensors: the outputs that are named, in that order. `inputs` are those of [`Op::info`], of one
    /// type, shape and device; so are the broadcast inputs, which were resolved for that shape (for operations on [`Codes`] they are f32 or f64).
    ///
    /// The gradient of a broadcast input has its shape (`[]` for a value): it is summed exactly over what the input broadcasts to. Under the
    /// straight-through rule the gradient of x shares the elements of the upstream gradient.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`], [`Error::ShapeMismatch`], [`Error::DeviceMismatch`]; [`Error::LengthMismatch`] for broadcast inputs of another
    /// shape; [`Error::NoBound`] for the gradient of an absent bound; [`Error::RuleWithoutKernel`]; [`Error::Unsupported`] for what the
    /// operation does not take, make, or do on the device, and for operations with a mask; [`Error::OutOfMemory`], [`Error::DeviceLost`] or [`Error::Gpu`].
    pub fn run(
        op: Op,
        inputs: &[&Self],
        outputs: &[Operand],
        arguments: &Arguments<'_, &Self>,
    ) -> Result<Vec<Self>> {
        let row = op.info().outputs;
        let index = |output: &Operand| {
            row.iter().position(|of| of == output).ok_or_else(|| Error::Unsupported {
                what: format!("{} of {op}", output.noun()),
                device: "any device".into(),
                instead: format!("its outputs are {}", Operand::list(row)),
            })
        };
        let indices: Vec<_> = outputs.iter().map(index).collect::<Result<_>>()?;
        if op.info().pass == Pass::Slices {
            let tensors = run_on_slices(op, inputs, arguments)?;
            return Ok(indices.iter().map(|_| tensors.clone()).collect());
        }
        check_no_mask(op)?;
        let needs = std::array::from_fn(|index| indices.contains(&index));
        let tensors = run(op, inputs, needs, arguments)?;
        indices.iter().map(|&index| tensors[index].clone().ok_or_else(|| missing_output(op))).collect()
    }

    /// Runs an operation whose first output overwrites this tensor, the input that the operation's row names; `others` are its other inputs, in
    /// order. Clones of this tensor keep their elements.
    ///
    /// # Errors
    /// As [`run`](Self::run). The tensor is then as it was.
    pub fn run_in_place(&mut self, op: Op, others: &[&Self], arguments: &Arguments<'_, &Self>) -> Result<()> {
        check_no_mask(op)?;
        self.overwrite(op, others, arguments)
    }

    /// The same, with a mask too.
    pub(crate) fn overwrite(
        &mut self,
        op: Op,
        others: &[&Self],
        arguments: &Arguments<'_, &Self>,
    ) -> Result<()> {
        let row = op.info();
        if op.in_place_input().is_none() || others.len() + 1 != row.inputs.len() {
            return Err(unsupported(op, others.len() + 1, "in place"));
        }
        let operands = row.inputs.iter().copied().filter(|&operand| Some(operand) != row.in_place);
        check(self, others.iter().copied().zip(operands), arguments)?;
        let len = self.len();
        with_storage!(&mut self.storage, backend, x => overwrite_on(backend, op, len, x, others, arguments))
    }
}

/// Runs an operation on slices, which has one output.
fn run_on_slices(op: Op, inputs: &[&DynTensor], arguments: &Arguments<'_, &DynTensor>) -> Result<DynTensor> {
    let (axes, limit) = (arguments.axes, arguments.limit.copied());
    let limited = || {
        limit.ok_or_else(|| Error::Unsupported {
            what: format!("{op} without a limit"),
            device: "any device".into(),
            instead: "give Arguments::limit".into(),
        })
    };
    match (op, inputs) {
        (Op::Sum, [x]) => x.sum(axes),
        (Op::Norm, [x]) => x.norm(limit.map_or(NormKind::L2, |limit| limit.kind), axes),
        (Op::ClipByNorm, [x]) => x.clip_by_norm(limited()?, axes),
        (Op::ClipByNormBackward, [x, g]) => x.clip_by_norm_backward(g, limited()?, axes),
        (Op::Softmax, [x]) => x.softmax(axes),
        (Op::SoftmaxBackward, [y, g]) => y.softmax_backward(g, axes),
        (Op::ClipByGlobalNorm, _) => Err(Error::Unsupported {
            what: format!("{op} by its name"),
            device: "any device".into(),
            instead: "call norm::clip_by_global_norm, which takes a list of tensors".into(),
        }),
        _ => Err(unsupported(op, inputs.len(), "")),
    }
}

/// The first output of an operation.
pub(super) fn first(
    op: Op,
    inputs: &[&DynTensor],
    arguments: &Arguments<'_, &DynTensor>,
) -> Result<DynTensor> {
    let [output, ..] = run(op, inputs, first_outputs(1), arguments)?;
    output.ok_or_else(|| missing_output(op))
}

/// The error of an operation without its output.
pub(super) fn missing_output(op: Op) -> Error {
    Error::Internal { op: op.name(), what: "without its output".into() }
}

/// Masks do not leave the crate as tensors.
fn check_no_mask(op: Op) -> Result<()> {
    if !op.has(Operand::Mask) {
        return Ok(());
    }
    Err(Error::Unsupported {
        what: format!("{op} by its name"),
        device: "any device".into(),
        instead: "call Tensor::clip_with_mask: a mask has the layout of its device, and is no tensor".into(),
    })
}

fn unsupported(op: Op, inputs: usize, how: &str) -> Error {
    Error::Unsupported {
        what: format!("{op} on {inputs} inputs {how}").trim_end().into(),
        device: "any device".into(),
        instead: format!("its inputs are {}", Operand::list(op.info().inputs)),
    }
}

/// Refuses inputs and broadcast inputs of another type or shape than x.
fn check<'a>(
    x: &DynTensor,
    inputs: impl Iterator<Item = (&'a DynTensor, Operand)>,
    arguments: &Arguments<'_, &DynTensor>,
) -> Result<()> {
    for (input, operand) in inputs {
        if operand == Operand::Mask {
            input.check_type(MASK)?;
            input.shape.check_same(&mask_shape(x)?)?;
        } else {
            input.check_type(x.element)?;
            x.shape.check_same(&input.shape)?;
        }
    }
    let broadcast = arguments.broadcast;
    x.check_type(arguments.element())?;
    broadcast.check_len(x.len(), |input| input.len())?;
    broadcast.tensors().try_for_each(|(_, input)| input.check_type(broadcast.element))
}

fn mask_shape(x: &DynTensor) -> Result<Shape> {
    Shape::new([mask_len(x.len())])
}

/// Runs an operation into new tensors.
pub(crate) fn run(
    op: Op,
    inputs: &[&DynTensor],
    needs: [bool; MAX_OUTPUTS],
    arguments: &Arguments<'_, &DynTensor>,
) -> Result<Outputs> {
    let row = op.info().inputs;
    let x = inputs.get(op.shaped_input()).filter(|_| inputs.len() == row.len());
    let x = *x.ok_or_else(|| unsupported(op, inputs.len(), ""))?;
    let mut arguments = *arguments;
    if op.info().codes != Codes::None {
        arguments.element = Some(x.element);
    }
    let arguments = &arguments;
    check(x, inputs.iter().copied().zip(row.iter().copied()), arguments)?;
    with_storage!(&x.storage, backend, _x => run_on(backend, op, x, inputs, needs, arguments))
}

fn run_on<B: Stored>(
    backend: &B,
    op: Op,
    x: &DynTensor,
    inputs: &[&DynTensor],
    needs: [bool; MAX_OUTPUTS],
    arguments: &Arguments<'_, &DynTensor>,
) -> Result<Outputs> {
    let buffers: Vec<_> = inputs.iter().map(|input| peer(backend, &input.storage)).collect::<Result<_>>()?;
    let broadcast = arguments.broadcast.try_map(|&input| peer(backend, &input.storage))?;
    let mut reductions: Reductions = [const { None }; MAX_OUTPUTS];
    let mut call = Call { needs, ..Call::new(op, x.len(), &buffers, arguments.with_broadcast(&broadcast)) };
    let mut shapes = [const { None }; MAX_OUTPUTS];
    for (index, operand) in call.outputs() {
        shapes[index] = Some(match operand.gradient_of() {
            Some(of) => {
                let shape = gradient_shape(arguments.broadcast, of)?;
                let reduction = Reduction::new(&x.shape, &shape, of)?;
                reductions[index] = (!reduction.is_none()).then_some(reduction);
                shape
            }
            None if operand == Operand::Mask => mask_shape(x)?,
            None => x.shape.clone(),
        });
    }
    let mut tensors = [const { None }; MAX_OUTPUTS];
    if let Some(upstream) = op.identity_input(arguments.rule) {
        // The gradient of x is the upstream gradient itself.
        backend.check()?;
        call.needs[0] = false;
        tensors[0] = needs[0].then(|| inputs[upstream].clone());
    }
    if call.outputs().next().is_none() {
        return Ok(tensors);
    }
    let outputs = backend.run(&call, &reductions)?.into_iter().zip(shapes);
    for ((index, tensor), (output, shape)) in tensors.iter_mut().enumerate().zip(outputs) {
        if let (Some(output), Some(shape)) = (output, shape) {
            let is_mask = op.info().outputs.get(index) == Some(&Operand::Mask);
            let element = if is_mask { MASK } else { call.to() };
            *tensor = Some(DynTensor::new(element, backend.store(output), shape));
        }
    }
    Ok(tensors)
}

/// The shape of the gradient of a broadcast input: that of a scalar for a value.
fn gradient_shape(broadcast: &BroadcastInputs<&DynTensor>, of: Operand) -> Result<Shape> {
    match broadcast.find(of).1 {
        BoundBits::Absent => Err(Error::NoBound { operand: of.noun() }),
        BoundBits::Value(_) => Shape::new([]),
        BoundBits::Tensor(tensor) => Ok(tensor.shape.clone()),
    }
}

fn overwrite_on<B: Stored>(
    backend: &B,
    op: Op,
    len: usize,
    target: &mut B::Buffer,
    others: &[&DynTensor],
    arguments: &Arguments<'_, &DynTensor>,
) -> Result<()> {
    let inputs: Vec<_> = others.iter().map(|input| peer(backend, &input.storage)).collect::<Result<_>>()?;
    let broadcast = arguments.broadcast.try_map(|&input| peer(backend, &input.storage))?;
    if op.identity_input(arguments.rule).is_some() {
        return backend.check();
    }
    let call = Call::new(op, len, &inputs, arguments.with_broadcast(&broadcast));
    backend.run_in_place(&call, target)
}
