//! For this project's own conformance checks and benchmarks: undocumented and unstable.

use crate::backend::any::with_backend;
use crate::backend::{Backend, cpu};
use crate::broadcast::BroadcastInputs;
use crate::call::{Arguments, Call, needed};
use crate::op::{Codes, MAX_OUTPUTS, Operand};
use crate::quantize::QuantRule;
use crate::tensor::{self, Stored};
use crate::{
    BackwardRule, Bound, Bounds, Device, DynTensor, Element, ElementType, Error, Mask, Op, Result, Shape,
    Tensor, with_element,
};

/// What an operation of the list takes.
#[derive(Debug)]
pub struct Operands<'a, T: Element> {
    pub x: &'a Tensor<T>,
    pub g: &'a Tensor<T>,
    /// The mask of x, for an operation that reads one.
    pub mask: Option<&'a Mask<T>>,
    pub bounds: &'a Bounds<T>,
    /// Broadcast inputs besides the bounds, and parameters: an operation takes as many as it has, from the first on.
    pub others: &'a [Bound<T>],
    pub params: &'a [f64],
    pub rule: BackwardRule,
    /// How values are quantised.
    pub quant: QuantRule,
    /// The scale and the zero point of codes.
    pub grid: [f64; 2],
    /// The type of the output of an operation that converts, if that is another. The output is then left out of what is returned.
    pub to: Option<ElementType>,
    pub needs: [bool; MAX_OUTPUTS],
}

impl<'a, T: Element> Operands<'a, T> {
    /// Nothing but bounds.
    pub fn new(x: &'a Tensor<T>, g: &'a Tensor<T>, bounds: &'a Bounds<T>, rule: BackwardRule) -> Self {
        let (quant, needs) = (QuantRule::default(), [true; MAX_OUTPUTS]);
        let grid = [0.25, -3.0];
        Self { x, g, mask: None, bounds, others: &[], params: &[], rule, quant, grid, to: None, needs }
    }

    /// The broadcast inputs that an operation has.
    fn broadcast(&self, op: Op) -> Result<BroadcastInputs<&DynTensor>> {
        let (row, shape) = (op.info().broadcast, self.x.shape());
        match op.info().codes {
            Codes::None | Codes::Both => {}
            _ if T::TYPE == ElementType::F64 => {
                return BroadcastInputs::new(row, shape, self.grid.map(Bound::Value));
            }
            _ => return BroadcastInputs::new(row, shape, self.grid.map(|value| Bound::Value(value as f32))),
        }
        let bounds = [self.bounds.lo(), self.bounds.hi()].into_iter().filter(|_| op.info().has_bounds());
        let inputs = bounds.chain(self.others).map(Bound::as_dyn);
        BroadcastInputs::new(row, shape, inputs)
    }

    fn arguments<'b>(
        &self,
        op: Op,
        broadcast: &'b BroadcastInputs<&'b DynTensor>,
    ) -> Arguments<'b, &'b DynTensor>
    where
        'a: 'b,
    {
        let params = &self.params[..op.info().params.len()];
        let (rule, quant, to) = (self.rule, self.quant, self.to.or(Some(T::TYPE)));
        Arguments { rule, quant, params, to, ..Arguments::new(broadcast) }
    }

    fn input(&self, op: Op, operand: Operand) -> Result<&DynTensor> {
        let mask = || self.mask.and_then(Mask::bits);
        match operand {
            Operand::Mask => {
                mask().ok_or(Error::Internal { op: op.name(), what: "without the mask that it reads".into() })
            }
            Operand::G => Ok(self.g.as_dyn()),
            // The result of a forward pass takes the place of x.
            Operand::X | Operand::Y => Ok(self.x.as_dyn()),
            _ => Err(Error::Internal {
                op: op.name(),
                what: format!("that reads its operand {}", operand.name()),
            }),
        }
    }
}

/// Runs an operation of the list. Outputs that are masks are left out.
///
/// # Errors
/// As [`DynTensor::run`].
pub fn run<T: Element>(op: Op, operands: &Operands<'_, T>) -> Result<Vec<(Operand, Tensor<T>)>> {
    let info = op.info();
    let inputs: Vec<_> = info.inputs.iter().map(|&input| operands.input(op, input)).collect::<Result<_>>()?;
    let broadcast = operands.broadcast(op)?;
    let outputs = tensor::run(op, &inputs, operands.needs, &operands.arguments(op, &broadcast))?;
    let outputs = info.outputs.iter().zip(outputs).filter_map(|(&operand, output)| Some((operand, output?)));
    let outputs = outputs.filter(|(operand, _)| *operand != Operand::Mask && operands.to.is_none());
    outputs.map(|(operand, output)| Ok((operand, output.try_into()?))).collect()
}

/// Runs an operation of the list in place of `target`, of the shape of x.
///
/// # Errors
/// As [`DynTensor::run_in_place`].
pub fn run_in_place<T: Element>(op: Op, operands: &Operands<'_, T>, target: &mut Tensor<T>) -> Result<()> {
    let info = op.info();
    let others = info.inputs.iter().filter(|&&input| Some(input) != info.in_place);
    let others: Vec<_> = others.map(|&input| operands.input(op, input)).collect::<Result<_>>()?;
    let broadcast = operands.broadcast(op)?;
    target.as_dyn_mut().overwrite(op, &others, &operands.arguments(op, &broadcast))
}

/// An operation of the list over slices on the CPU, into outputs that are there: as [`cpu::run`], but that the gradients of bounds are not
/// summed.
///
/// # Errors
/// As that.
pub fn run_on_slices(
    op: Op,
    inputs: &[&[u8]],
    outputs: [Option<&mut [u8]>; MAX_OUTPUTS],
    len: usize,
    arguments: &Arguments<'_, &[u8]>,
) -> Result<()> {
    let call = Call { needs: needed(&outputs), ..Call::new(op, len, inputs, *arguments) };
    cpu::run_call(&call, outputs)
}

/// A pattern that no operation makes, in memory for `len` elements. Once it is dropped that is the memory of the next output of its
/// size, where an element that is not written shows.
///
/// # Errors
/// As [`Device::tensor`].
pub fn poison(device: &Device, element: ElementType, len: usize) -> Result<Poison> {
    const BITS: u32 = 0xdead_beef;
    let words = (len * element.size()).div_ceil(size_of_val(&BITS)).max(1);
    // Written on a GPU, which takes less time than a copy, if one dispatch does.
    let written = device.info().limits.and_then(|_| patterns::<f32>(device, BITS, 0, words).ok());
    let tensor = match written {
        Some(written) => written.into_dyn(),
        None => with_element!(element, T => {
            let bits = u64::from(BITS) << 32 | u64::from(BITS);
            device.tensor(&vec![<T as Element>::from_bits(bits); len], [len])?.into_dyn()
        }),
    };
    Ok(Poison { _tensor: tensor })
}

/// Memory with a [`poison`] in it.
#[derive(Debug)]
pub struct Poison {
    _tensor: DynTensor,
}

/// A tensor of elements of 4 bytes whose bits are `start`, `start + step`, and so on; written on the device.
///
/// # Errors
/// As [`Device::tensor`].
pub fn patterns<T: Element>(device: &Device, start: u32, step: u32, len: usize) -> Result<Tensor<T>> {
    let shape = Shape::new([len])?;
    let storage =
        with_backend!(device.backend(), backend => backend.store(backend.patterns(start, step, len)?));
    Ok(Tensor::new(storage, shape))
}

/// Drops the compiled kernels. Mesa's software driver keeps the code of so many instructions in all: with every kernel
/// of every type alive it compiles one anew for each dispatch, and a check takes three to five times as long.
pub fn drop_pipelines(device: &Device) {
    with_backend!(device.backend(), backend => backend.drop_pipelines());
}

/// No builtins of WGSL without a GPU.
///
/// # Errors
/// None.
#[cfg(not(feature = "gpu"))]
pub fn builtin(_: &Device, _: &[&[f32]], _: Option<(f32, f32)>) -> Result<Option<Vec<f32>>> {
    Ok(None)
}

#[cfg(feature = "gpu")]
pub use crate::backend::gpu::testing::*;
