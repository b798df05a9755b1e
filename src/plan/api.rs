//! Plans for engines with their own buffers and passes.

use std::cell::RefCell;

use super::dispatch::{self, BufferPart, Dispatch, Memory, Planner, Sink};
use super::geometry::Limits;
use super::kernel::Kernel;
use super::params::Params;
use super::reduce::{self, Outputs};
use crate::broadcast::Reduction;
use crate::call::{Arguments, Call, needed};
use crate::norm::exact::ReduceOp;
use crate::op::Operand;
use crate::wgsl::Specialization;
use crate::{DeviceInfo, DeviceKind, ElementType, Op, Result, Shape};

/// A part of an operand: whole blocks of 16 bytes, all of which are read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slice {
    /// The buffer: operands with the same number are parts of one buffer.
    pub operand: usize,
    /// The offset in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

impl Memory for usize {
    fn is_same(self, other: Self) -> bool {
        self == other
    }

    fn is_alone(self) -> bool {
        false
    }
}

type Part = BufferPart<usize>;

impl Slice {
    pub(super) fn part(self) -> Part {
        Part::new(self.operand, self.offset, self.bytes)
    }
}

/// A kernel to dispatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The kernel to compile.
    pub kernel: Kernel,
    /// Its parameters, the bytes of a uniform.
    pub params: Params,
    /// Its storage buffers, in the order in which they are bound.
    pub bindings: Vec<Slice>,
    /// Workgroups along x and y.
    pub workgroups: [u32; 2],
}

/// Bytes of the mask of `bytes` bytes of elements.
pub fn mask_bytes(element: ElementType, bytes: u64) -> u64 {
    dispatch::mask_bytes(element, bytes)
}

/// Creates plans for a device.
#[derive(Debug, Clone)]
pub struct Plans {
    limits: Limits,
    info: DeviceInfo,
}

impl Plans {
    /// Creates plans under these limits. Software devices get fewer and longer invocations. The name is for messages.
    pub fn new(name: impl Into<String>, kind: DeviceKind, limits: Limits) -> Self {
        let info = DeviceInfo {
            name: name.into(),
            kind,
            backend: "wgsl".into(),
            driver: String::new(),
            limits: None,
        };
        Self { limits, info }
    }

    pub(super) fn planner(&self) -> Planner<'_> {
        Planner { limits: self.limits, info: &self.info }
    }

    pub(super) fn steps(&self, record: impl FnOnce(&Steps<'_>) -> Result<()>) -> Result<Vec<Step>> {
        let steps = Steps { planner: self.planner(), steps: RefCell::default() };
        record(&steps)?;
        Ok(steps.steps.into_inner())
    }

    /// Plans an operation on `len` elements: its inputs and outputs are those of [`Op::info`], in that order; outputs that are None, or omitted at
    /// the end, are not written. If the first output is the same slice as the input that may be overwritten, it works in place. The gradients of
    /// bounds are not summed: they have one element for each of x, see [`sum`](Self::sum).
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for operations without a kernel, if limits are too low, and if the operation's
    /// scalars or type are missing; [`Error::RuleWithoutKernel`](crate::Error::RuleWithoutKernel).
    pub fn op(
        &self,
        op: Op,
        len: usize,
        inputs: &[Slice],
        outputs: &[Option<Slice>],
        arguments: &Arguments<'_, Slice>,
    ) -> Result<Vec<Step>> {
        let mut inputs: Vec<_> = inputs.iter().map(|slice| slice.part()).collect();
        let written: Vec<_> = outputs.iter().flatten().map(|slice| slice.part()).collect();
        if let (Some(index), Some(Some(output))) = (op.in_place_input(), outputs.first())
            && inputs.get(index).is_some_and(|input| input.is_same(&output.part()))
        {
            inputs.remove(index);
        }
        let broadcast = arguments.broadcast.try_map(|slice| Ok(slice.part()))?;
        let arguments = arguments.with_broadcast(&broadcast);
        let call = Call { needs: needed(outputs), ..Call::new(op, len, &inputs, arguments) };
        self.steps(|steps| {
            self.planner().op(&call, &written)?.iter().try_for_each(|dispatch| steps.record(dispatch))
        })
    }

    /// Bytes of the scratch and of the result of [`sum`](Self::sum).
    ///
    /// # Errors
    /// [`Error::BroadcastMismatch`](crate::Error::BroadcastMismatch).
    pub fn sum_bytes(&self, element: ElementType, x: &Shape, bound: &Shape) -> Result<[u64; 2]> {
        let reduction = &Reduction::new(x, bound, Operand::Lo)?;
        Ok(Outputs { specialization: Specialization::of(element), reduction }.bytes(self.planner()))
    }

    /// Sums elements of the shape of x exactly to the shape of a bound that broadcasts to it.
    ///
    /// # Errors
    /// [`Error::BroadcastMismatch`](crate::Error::BroadcastMismatch); [`Error::Unsupported`](crate::Error::Unsupported) if limits are
    /// too low.
    pub fn sum(
        &self,
        element: ElementType,
        elements: Slice,
        [x, bound]: [&Shape; 2],
        [scratch, result]: [Slice; 2],
    ) -> Result<Vec<Step>> {
        let reduction = &Reduction::new(x, bound, Operand::Lo)?;
        reduce::check(self.planner(), element, elements.bytes, ReduceOp::Sum)?;
        let outputs = Outputs { specialization: Specialization::of(element), reduction };
        let into = [scratch.part(), result.part()];
        self.steps(|steps| outputs.reduce(steps, [elements.part(); 2], None, into))
    }
}

/// The recorded steps of a plan.
pub(super) struct Steps<'a> {
    planner: Planner<'a>,
    steps: RefCell<Vec<Step>>,
}

impl Sink<usize> for Steps<'_> {
    fn planner(&self) -> Planner<'_> {
        self.planner
    }

    fn record(&self, dispatch: &Dispatch<'_, usize>) -> Result<()> {
        let kernel = Kernel(dispatch.program);
        for (range, params) in dispatch.ranges() {
            let binding = |part: &Part| {
                let (offset, bytes) = part.range(range);
                Slice { operand: part.memory, offset, bytes }
            };
            let bindings = dispatch.operands.iter().map(binding).collect();
            self.steps.borrow_mut().push(Step { kernel, params, bindings, workgroups: range.workgroups });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::broadcast::BroadcastInputs;
    use crate::op::Codes;
    use crate::plan::ParamsBinding;
    use crate::{Bound, Error, NormKind, NormLimit};

    #[test]
    fn missing_arguments_are_refused() {
        let plans = Plans::new("a device", DeviceKind::Software, Limits::WEBGPU);
        let slice = |operand| Slice { operand, offset: 0, bytes: 4096 };
        let none = BroadcastInputs::none(ElementType::F32);
        let plan = |op, arguments: &Arguments<'_, Slice>| {
            plans.op(op, 1024, &[slice(0)], &[Some(slice(1))], arguments)
        };
        let bare = Arguments::new(&none);
        for op in [Op::Affine, Op::ClipTo] {
            assert!(matches!(plan(op, &bare), Err(Error::Unsupported { .. })), "{op}");
        }
        let (mut same, mut other, mut to_f16) = (bare, bare, bare);
        same.params = &[1.0, 0.0];
        other.params = &[2.0, 0.5];
        let [same, other] = [same, other].map(|arguments| plan(Op::Affine, &arguments).unwrap());
        assert_ne!(bytemuck::bytes_of(&same[0].params), bytemuck::bytes_of(&other[0].params));
        to_f16.to = Some(ElementType::F16);
        let half = Slice { bytes: 2048, ..slice(1) };
        let planned = plans.op(Op::ClipTo, 1024, &[slice(0)], &[Some(half)], &to_f16).unwrap();
        assert_ne!(planned[0].kernel, plan(Op::Clip, &bare).unwrap()[0].kernel);
    }

    /// Every kernel of the plans, for engines that bind parameters first or last: its bindings are those of the step.
    #[test]
    fn kernels_bind_what_steps_say() {
        let plans = Plans::new("a device", DeviceKind::Software, Limits::WEBGPU);
        let slice = |operand| Slice { operand, offset: 0, bytes: 4096 };
        let limit = NormLimit::new(1.0);
        let mut seen = HashSet::new();
        for element in [ElementType::F32, ElementType::F16, ElementType::I16, ElementType::I64] {
            let len = 4096 / element.size();
            let (x, bound) = (Shape::new([len / 8, 8]).unwrap(), Shape::new([8]).unwrap());
            let mut steps = plans.sum(element, slice(0), [&x, &bound], [1, 2].map(slice)).unwrap();
            let all = Op::ELEMENTWISE.iter().filter(|op| op.is_for(element, true));
            let with_inputs = |&op: &Op| {
                kinds_of_inputs(op, element, &x, &bound).into_iter().map(move |inputs| (op, inputs))
            };
            for (op, broadcast) in all.flat_map(with_inputs) {
                let info = op.info();
                let sized = |(operand, of): (usize, &Operand)| match of {
                    Operand::Mask => Slice { bytes: mask_bytes(element, 4096), ..slice(operand) },
                    _ => slice(operand),
                };
                let operands: Vec<_> =
                    info.inputs.iter().chain(info.outputs).enumerate().map(sized).collect();
                let (inputs, outputs) = operands.split_at(info.inputs.len());
                let params = &[2.0, 0.5, 1.0, 3.0][..info.params.len()];
                let to = match info.codes {
                    Codes::None => element,
                    Codes::Output => ElementType::I32,
                    Codes::Input => ElementType::F32,
                    Codes::Both if element == ElementType::U8 => ElementType::U16,
                    Codes::Both => ElementType::U8,
                };
                let arguments =
                    Arguments { params, element: Some(element), to: Some(to), ..Arguments::new(&broadcast) };
                let outputs: Vec<_> = outputs.iter().copied().map(Some).collect();
                let planned = plans.op(op, len, inputs, &outputs, &arguments).unwrap();
                let bindings = planned[0].bindings.len();
                steps.extend(planned);
                if let Some(index) = op.in_place_input() {
                    let planned = plans.op(op, len, inputs, &[Some(inputs[index])], &arguments).unwrap();
                    assert!(planned[0].bindings.len() < bindings, "{op} in place");
                    steps.extend(planned);
                }
            }
            if element.is_float() {
                steps.extend(plans.clear_norm(NormKind::L2, slice(0)).unwrap());
                let backward = plans.scale_backward(
                    (element, len),
                    [0, 1, 2].map(slice),
                    &limit,
                    [3, 4, 5, 6, 7].map(slice),
                );
                steps.extend(backward.unwrap());
                steps.extend(plans.scale(element, [slice(0), slice(1)], slice(2)).unwrap());
                steps.extend(plans.scale(element, [slice(0), slice(0)], slice(2)).unwrap());
            }
            for step in steps.into_iter().filter(|step| seen.insert(step.kernel)) {
                for params in [ParamsBinding::First, ParamsBinding::Last] {
                    check(&step, params);
                }
            }
        }
        assert!(seen.len() > 20, "{}", seen.len());
    }

    /// All inputs as values, each as the only tensor, and all as tensors. A bound that is not a tensor is absent.
    fn kinds_of_inputs(
        op: Op,
        element: ElementType,
        x: &Shape,
        of_input: &Shape,
    ) -> Vec<BroadcastInputs<Slice>> {
        let operands = op.info().broadcast;
        let count = operands.len();
        let of_inputs = op.broadcast_type(element, ElementType::F32);
        let resolve = |tensors: u32| {
            crate::with_element!(of_inputs, T => {
                let input = |(index, operand): (usize, &Operand)| match tensors >> index & 1 {
                    1 => Bound::<T, _>::Tensor((Slice { operand: 10 + index, offset: 0, bytes: 64 }, of_input)),
                    _ if operand.is_bound() => Bound::Absent,
                    _ => Bound::Value(<T as crate::Element>::ZERO),
                };
                match count {
                    0 => BroadcastInputs::none(element),
                    _ => BroadcastInputs::new(operands, x, operands.iter().enumerate().map(input)).unwrap(),
                }
            })
        };
        let alone = (0..count).map(|index| 1 << index);
        std::iter::once(0).chain(alone).chain([(1 << count) - 1]).map(resolve).collect()
    }

    fn check(step: &Step, params: ParamsBinding) {
        // A buffer bound for writing must not be bound twice: browsers reject it.
        for (n, a) in step.bindings.iter().enumerate() {
            let overlaps = |b: &Slice| {
                a.operand == b.operand && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes
            };
            assert!(!step.bindings[..n].iter().any(overlaps), "{}: {:?}", step.kernel.name(), step.bindings);
        }
        let text = step.kernel.source(params);
        let module = naga::front::wgsl::parse_str(&text)
            .unwrap_or_else(|error| panic!("{}", error.emit_to_string(&text)));
        let flags = naga::valid::ValidationFlags::all();
        let mut validator = naga::valid::Validator::new(flags, naga::valid::Capabilities::all());
        let info = validator.validate(&module).unwrap_or_else(|error| panic!("{error:?}"));
        let main = module.entry_points.iter().position(|entry| entry.name == "main").unwrap();
        let mut used = Vec::new();
        for (handle, global) in module.global_variables.iter() {
            let is_used = !info.get_entry_point(main)[handle].is_empty();
            if let Some(binding) = global.binding.filter(|_| is_used) {
                let is_params = matches!(global.space, naga::AddressSpace::Uniform);
                used.push((binding.binding as usize, is_params));
            }
        }
        used.sort_unstable();
        let slices = step.bindings.len();
        let first = usize::from(params == ParamsBinding::First);
        let of_params = if first == 1 { 0 } else { slices };
        let mut expected: Vec<_> = (first..first + slices).map(|n| (n, false)).collect();
        expected.push((of_params, true));
        expected.sort_unstable();
        assert_eq!(used, expected, "{}", step.kernel.name());
    }
}
