//! Operations of the list by name.

use burn::backend::ops::FloatTensorOps;
use burn::backend::{Dispatch, TensorMetadata};
use burn::tensor::{DType, Device, Tensor};
use wgclip::op::{self, Codes, MAX_OUTPUTS, Op, Operand};
use wgclip::quantize::QuantRule;
use wgclip::{BackwardRule, Error, Result};

use crate::operands::Like;
use crate::ops::{Bound, Broadcast, Call, ClipOps, composed};
use crate::path::Path;

/// The arguments of an operation, as far as its row of the list has them.
#[derive(Debug, Clone, Default)]
pub struct Arguments {
    /// The broadcast inputs, in the order of [`OpInfo::broadcast`](op::OpInfo::broadcast): numbers, tensors, or [`None`] for an absent bound.
    pub broadcast: Vec<Bound<Dispatch>>,
    /// The backward rule.
    pub rule: BackwardRule,
    /// How values are quantised.
    pub quant: QuantRule,
    /// The parameters, in the order of [`OpInfo::params`](op::OpInfo::params).
    pub params: Vec<f64>,
    /// The type of the output of [`Op::ClipTo`].
    pub to: Option<DType>,
}

/// Runs an elementwise operation of [the list](Op::ELEMENTWISE), and returns the outputs that are named, in that order: for operations without
/// a function of their own here. Inputs and broadcast inputs are those of [`Op::info`]. The gradient of a broadcast input has the shape of that
/// input, with ones before it (all ones for a number), and is summed exactly. Autodiff does not record it: the list has the gradients as well.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use wgclip_burn::op::{Op, Operand};
/// use wgclip_burn::{Arguments, run};
///
/// let x = Tensor::<1>::from_data([-3.0, 0.5, 3.0], &Device::flex());
/// let broadcast = vec![(-1.0).into(), 1.0.into(), 0.25.into()]; // lo, hi, slope
/// let leaky = Op::from_name("leaky_clip").unwrap();
/// let y = run(leaky, &[&x], &[Operand::Y], &Arguments { broadcast, ..Arguments::default() })?.remove(0);
/// assert_eq!(y.into_data().try_into_vec::<f32>().unwrap(), [-1.5, 0.5, 1.5]);
/// # Ok::<(), wgclip_burn::Error>(())
/// ```
///
/// # Errors
/// Those of [`clip`](crate::clip); [`Error::ShapeMismatch`], [`Error::TypeMismatch`] or [`Error::DeviceMismatch`] for inputs that differ;
/// [`Error::NoBound`] for the gradient of an absent bound; [`Error::Unsupported`] for what the operation does not take or make, for operations
/// with a mask, and on [`Path::Composed`] for all but clips and their gradients; [`Error::QuantRange`].
pub fn run<const D: usize>(
    op: Op,
    inputs: &[&Tensor<D>],
    outputs: &[Operand],
    arguments: &Arguments,
) -> Result<Vec<Tensor<D>>> {
    let info = op.info();
    let Some(&x) = inputs.first().filter(|_| inputs.len() == info.inputs.len()) else {
        return Err(unsupported(op, format!("on {} inputs", inputs.len()), "inputs", info.inputs));
    };
    if op.has(Operand::Mask) {
        return Err(Error::Unsupported {
            what: format!("{op} by its name"),
            device: "any device of Burn's".into(),
            instead: "call clip_keeping_mask: a mask has the layout of its device, and is no tensor".into(),
        });
    }
    if info.codes != Codes::None {
        return Err(Error::Unsupported {
            what: format!("{op} of Burn's tensors"),
            device: "any device of Burn's".into(),
            instead: "call fake_quantize: codes are integers, and these tensors are floats".into(),
        });
    }
    check(op, x, inputs, arguments)?;
    let indices = outputs.iter().map(|output| index(op, *output, arguments)).collect::<Result<Vec<_>>>()?;
    let Arguments { broadcast, rule, quant, params, to } = arguments.clone();
    let needs = std::array::from_fn::<_, MAX_OUTPUTS, _>(|index| indices.contains(&index));
    if !needs.contains(&true) {
        return Ok(Vec::new());
    }
    let g = inputs.get(1).map(|&g| g.clone().into_dispatch());
    let call = Call { op, needs, rule, quant, params, to };
    let tensors =
        Dispatch::run(x.clone().into_dispatch(), g.into(), Broadcast::new(broadcast), call).into_array();
    let tensor = |index: usize| {
        let tensor = tensors[index].clone()?;
        let given = tensor.shape();
        let mut dims = vec![1; D.saturating_sub(given.num_dims())];
        dims.extend(given.iter());
        Some(Tensor::from_dispatch(Dispatch::float_reshape(tensor, dims.into())))
    };
    let tensors: Vec<_> = indices.into_iter().filter_map(tensor).collect();
    match tensors.len() == outputs.len() {
        true => Ok(tensors),
        false => Err(Error::Internal { op: op.name(), what: "without an output".into() }),
    }
}

/// Refuses operands and arguments that the operation does not take.
fn check<const D: usize>(op: Op, x: &Tensor<D>, inputs: &[&Tensor<D>], arguments: &Arguments) -> Result<()> {
    let (like, path) = Like::of(x)?;
    check_path(op, &like, path, &x.device())?;
    for input in inputs {
        like.check(input.device(), input.dtype())?;
        if input.dims() != x.dims() {
            return Err(Error::ShapeMismatch { left: x.dims().to_vec(), right: input.dims().to_vec() });
        }
    }
    let (row, given) = (op.info().broadcast, &arguments.broadcast);
    if given.len() != row.len() {
        let what = format!("with {} broadcast inputs", given.len());
        return Err(unsupported(op, what, "broadcast inputs", row));
    }
    let resolved = like.resolve(op, x, given)?;
    let to = arguments.to.map(|to| like.element_of(to)).transpose()?;
    let (quant, params) = (arguments.quant, &arguments.params[..]);
    op::Arguments { quant, params, to, ..op::Arguments::new(&resolved) }.check(op)
}

/// Refuses an operation on a device, or a type, that has no kernel for it.
pub(crate) fn check_path(op: Op, like: &Like, path: Path, device: &Device) -> Result<()> {
    let refuse = |what: String, instead: &str| {
        Err(Error::Unsupported { what, device: format!("{device:?}"), instead: instead.into() })
    };
    if path == Path::Composed && !composed::has(op) {
        return refuse(
            op.name().into(),
            "use a device with kernels: Flex, or wgpu where it compiles to WGSL",
        );
    }
    let element = like.element();
    match op.is_for(element, path == Path::Wgsl) {
        true => Ok(()),
        false => refuse(format!("{op} of {element}"), "cast it to f32, f16 or bf16"),
    }
}

/// The index of an output.
fn index(op: Op, output: Operand, arguments: &Arguments) -> Result<usize> {
    let info = op.info();
    let absent = |&(input, bound): &(&Operand, &Bound<Dispatch>)| {
        Some(*input) == output.gradient_of() && matches!(bound, Bound::Absent)
    };
    if let Some((of, _)) = info.broadcast.iter().zip(&arguments.broadcast).find(absent) {
        return Err(Error::NoBound { operand: of.noun() });
    }
    let index = info.outputs.iter().position(|of| *of == output);
    index.ok_or_else(|| unsupported(op, format!("for its {}", output.noun()), "outputs", info.outputs))
}

fn unsupported(op: Op, what: String, operands: &str, row: &[Operand]) -> Error {
    let names: Vec<_> = row.iter().map(|operand| operand.name()).collect();
    Error::Unsupported {
        what: format!("{op} {what}"),
        device: "any device".into(),
        instead: format!("its {operands} are [{}]", names.join(", ")),
    }
}
