//! Runs an operation of the list on tensors, whatever their device.

use super::storage::{Storage, Stored, with_storage};
use crate::bounds::Bound;
use crate::broadcast::{BoundBits, BroadcastInputs, Reduction};
use crate::call::{self, Call, Reductions};
use crate::op::{MAX_OUTPUTS, Operand, first_outputs};
use crate::{BackwardRule, Bounds, Device, Element, ElementType, Error, Op, Result, Shape};

/// What an operation takes besides its inputs, as tensors: of a type that is a value, so that what follows is compiled once for all.
pub(crate) struct TensorArguments<'a> {
    pub element: ElementType,
    /// In the order of the operation's row.
    pub broadcast: Vec<BoundBits<(&'a Storage, &'a Shape)>>,
    pub rule: BackwardRule,
    pub params: &'a [f64],
    /// The type of the output of an operation that converts.
    pub to: Option<ElementType>,
    /// Which outputs are to be made.
    pub needs: [bool; MAX_OUTPUTS],
}

impl<'a> TensorArguments<'a> {
    /// Nothing but what every operation has, for elements of this type.
    pub(crate) fn of<T: Element>(op: Op) -> Self {
        let needs = first_outputs(op.info().outputs.len());
        let rule = BackwardRule::default();
        Self { element: T::TYPE, broadcast: Vec::new(), rule, params: &[], to: None, needs }
    }

    pub(crate) fn between<T: Element>(op: Op, bounds: &'a Bounds<T>, rule: BackwardRule) -> Self {
        let broadcast = vec![bits(bounds.lo()), bits(bounds.hi())];
        Self { broadcast, rule, ..Self::of::<T>(op) }
    }

    /// The same with broadcast inputs that a device has resolved.
    fn with_broadcast<'b, B>(&'b self, broadcast: &'b BroadcastInputs<B>) -> call::Arguments<'b, B> {
        call::Arguments { broadcast, rule: self.rule, params: self.params, to: self.to }
    }

    /// The broadcast inputs of an operation as a device sees them.
    fn resolve<B>(
        &self,
        op: Op,
        x: &Shape,
        see: impl Fn(&'a Storage) -> Result<B>,
    ) -> Result<BroadcastInputs<B>> {
        let see = |input: &BoundBits<(&'a Storage, &'a Shape)>| {
            input.try_map(|&(storage, shape)| Ok((see(storage)?, shape)))
        };
        BroadcastInputs::of(self.element, op.info().broadcast, x, self.broadcast.iter().map(see))
    }

    /// How the gradient of a broadcast input is summed: one that is a value has the shape of a scalar.
    fn reduction(&self, op: Op, x: &Shape, of: Operand) -> Result<Reduction> {
        let index = op.info().broadcast.iter().position(|&input| input == of);
        match index.and_then(|index| self.broadcast.get(index)) {
            None | Some(BoundBits::Absent) => Err(Error::NoBound { operand: of.noun() }),
            Some(BoundBits::Value(_)) => Reduction::new(x, &Shape::new([])?, of),
            Some(BoundBits::Tensor((_, shape))) => Reduction::new(x, shape, of),
        }
    }
}

/// A broadcast input as bits.
pub(crate) fn bits<T: Element>(input: &Bound<T>) -> BoundBits<(&Storage, &Shape)> {
    match input {
        Bound::Absent => BoundBits::Absent,
        Bound::Value(value) => BoundBits::Value(value.to_bits()),
        Bound::Tensor(tensor) => BoundBits::Tensor((&tensor.storage, &tensor.shape)),
    }
}

/// The inputs of an operation and the shape that they have: where a mask is among them, it has no shape of its own.
pub(crate) struct Inputs<'a> {
    pub shape: &'a Shape,
    pub storages: &'a [&'a Storage],
}

/// Runs an operation into new buffers, those that are wanted, in the order of the list. The gradients of bounds come
/// summed to the bounds' shapes.
pub(crate) fn apply(
    op: Op,
    inputs: &Inputs<'_>,
    arguments: &TensorArguments<'_>,
) -> Result<[Option<Storage>; MAX_OUTPUTS]> {
    let first = inputs.storages[op.shaped_input()];
    with_storage!(first, backend, _first => apply_on(backend, op, inputs, arguments))
}

fn apply_on<B: Stored>(
    backend: &B,
    op: Op,
    inputs: &Inputs<'_>,
    arguments: &TensorArguments<'_>,
) -> Result<[Option<Storage>; MAX_OUTPUTS]> {
    let first = inputs.storages[op.shaped_input()];
    let buffers: Vec<_> =
        inputs.storages.iter().map(|other| first.peer(backend, other)).collect::<Result<_>>()?;
    let broadcast = arguments.resolve(op, inputs.shape, |input| first.peer(backend, input))?;
    let mut reductions: Reductions = [const { None }; MAX_OUTPUTS];
    for (index, operand) in op.info().outputs.iter().enumerate().filter(|(index, _)| arguments.needs[*index])
    {
        let Some(of) = operand.gradient_of() else { continue };
        let reduction = arguments.reduction(op, inputs.shape, of)?;
        reductions[index] = (!reduction.is_none()).then_some(reduction);
    }
    let mut call = Call {
        needs: arguments.needs,
        ..Call::new(op, inputs.shape.len(), &buffers, arguments.with_broadcast(&broadcast))
    };
    let mut made = [const { None }; MAX_OUTPUTS];
    if let Some(upstream) = op.identity_input(arguments.rule) {
        // The gradient of x is the upstream gradient itself.
        backend.check()?;
        call.needs[0] = false;
        made[0] = arguments.needs[0].then(|| inputs.storages[upstream].clone());
    }
    if call.outputs().next().is_none() {
        return Ok(made);
    }
    for (made, output) in made.iter_mut().zip(backend.run(&call, &reductions)?) {
        *made = output.map(|output| backend.store(output)).or(made.take());
    }
    Ok(made)
}

/// Runs an operation whose first output overwrites `target`, the input that the list names. `others` are the other
/// inputs, in order. Clones of the target keep their elements.
pub(crate) fn apply_in_place(
    op: Op,
    shape: &Shape,
    target: &mut Storage,
    others: &[&Storage],
    arguments: &TensorArguments<'_>,
) -> Result<()> {
    let device = target.device();
    match target {
        Storage::Cpu(cpu, buffer) => overwrite(cpu, op, shape, (&device, buffer), others, arguments),
        #[cfg(feature = "gpu")]
        Storage::Gpu(context, buffer) => overwrite(context, op, shape, (&device, buffer), others, arguments),
    }
}

fn overwrite<B: Stored>(
    backend: &B,
    op: Op,
    shape: &Shape,
    (device, target): (&Device, &mut B::Buffer),
    others: &[&Storage],
    arguments: &TensorArguments<'_>,
) -> Result<()> {
    let peer = |other| {
        backend.downcast(other).ok_or_else(|| Error::DeviceMismatch {
            left: other.device().info().to_string(),
            right: device.info().to_string(),
        })
    };
    let inputs: Vec<_> = others.iter().map(|&other| peer(other)).collect::<Result<_>>()?;
    let broadcast = arguments.resolve(op, shape, peer)?;
    if op.identity_input(arguments.rule).is_some() {
        return backend.check();
    }
    let call = Call::new(op, shape.len(), &inputs, arguments.with_broadcast(&broadcast));
    backend.run_in_place(&call, target)
}

/// The shape of a bound's gradient: a bound that is a value has the shape of a scalar.
pub(crate) fn bound_shape<T: Element>(bound: &Bound<T>) -> Result<Shape> {
    bound.tensor().map_or_else(|| Shape::new([]), |tensor| Ok(tensor.shape.clone()))
}
