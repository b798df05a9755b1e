//! On the CPU: wgclip's CPU path, on the memory of Burn's tensors.

use burn::backend::Flex;
use burn::tensor::{Bytes, DType, FloatDType, Shape};
use burn_flex::{FlexTensor, Layout};
use wgclip::bounds::BroadcastInputs;
use wgclip::norm::NormState;
use wgclip::op::{MAX_BROADCAST, MAX_OUTPUTS, Op};
use wgclip::reference::Scaling;
use wgclip::{BackwardRule, Element, ElementType, NormKind, NormLimit, bf16, cpu, f16};

use super::{Bound, Broadcast, Call, ClipOps, Input, Limited, Masked, Optional, Outputs, checked, resolve};

/// Evaluates an expression for the element type of a [`DType`].
macro_rules! with_float {
    ($dtype:expr, $T:ident => $body:expr) => {
        with_float!(@ $dtype, $T, $body, F64 f64, F32 f32, F16 f16, BF16 bf16)
    };
    (@ $dtype:expr, $T:ident, $body:expr, $($variant:ident $element:ident),+) => {
        match $dtype {
            $(DType::$variant => {
                type $T = $element;
                $body
            })+
            other => panic!("wgclip has no kernels for {other:?}"),
        }
    };
}

/// An element type of both crates.
trait Float: Element + burn::tensor::Element {}
impl<T: Element + burn::tensor::Element> Float for T {}

/// A contiguous tensor: the same one if it already is, so that its only owner may overwrite it.
fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

fn elements<T: Float>(tensor: &FlexTensor) -> &[T] {
    // The caller has made it contiguous.
    tensor.as_slice().unwrap_or_default()
}

fn of_elements<T: Float>(elements: Vec<T>, shape: Shape) -> FlexTensor {
    FlexTensor::new(
        Bytes::from_elems(elements),
        Layout::contiguous(shape),
        <T as burn::tensor::Element>::dtype(),
    )
}

/// The elements of a contiguous tensor.
fn bytes(tensor: &FlexTensor) -> &[u8] {
    let size = tensor.dtype().size();
    match tensor.layout().contiguous_offsets() {
        Some((start, end)) => &tensor.bytes()[start * size..end * size],
        None => &[],
    }
}

/// All elements of an unshared tensor, to be overwritten.
fn own_elements<T: Float>(tensor: &mut FlexTensor) -> Option<&mut [T]> {
    let (start, end) = tensor.layout().contiguous_offsets()?;
    tensor.try_storage_mut().map(|all| &mut all[start..end])
}

/// The same as bytes.
fn own_bytes(tensor: &mut FlexTensor) -> Option<&mut [u8]> {
    with_float!(tensor.dtype(), T => own_elements::<T>(tensor).map(bytemuck::cast_slice_mut))
}

fn shape_of(tensor: &FlexTensor) -> wgclip::Shape {
    checked(wgclip::Shape::new(tensor.layout().shape().to_vec()))
}

/// The broadcast inputs of an operation: tensors are contiguous, with their shapes.
struct Inputs {
    tensors: [Input<FlexTensor>; MAX_BROADCAST],
    /// The shape of the gradient of a value.
    of_value: Shape,
}

impl Inputs {
    fn new(broadcast: Broadcast<Flex>) -> Self {
        let tensor = |tensor: &FlexTensor| Ok((contiguous(tensor.clone()), shape_of(tensor)));
        let tensors = broadcast.into_array().map(|input| checked(input.map(tensor)));
        Self { tensors, of_value: Shape::new([1]) }
    }

    fn resolve(&self, call: &Call, element: ElementType, x: &wgclip::Shape) -> BroadcastInputs<&[u8]> {
        checked(resolve(call.op, element, x, &self.tensors, bytes))
    }

    /// The shape of the gradient of one.
    fn gradient_shape(&self, index: usize) -> &Shape {
        match &self.tensors[index] {
            wgclip::Bound::Tensor((tensor, _)) => tensor.layout().shape(),
            _ => &self.of_value,
        }
    }
}

fn element_of(dtype: DType) -> ElementType {
    super::element_of(dtype).unwrap_or_else(|| panic!("wgclip has no kernels for {dtype:?}"))
}

impl ClipOps for Flex {
    fn run(x: FlexTensor, g: Optional<Self>, broadcast: Broadcast<Self>, call: Call) -> Outputs<Self> {
        let (of_x, shape, dtype) = (shape_of(&x), x.layout().shape().clone(), x.dtype());
        let broadcast = Inputs::new(broadcast);
        let resolved = broadcast.resolve(&call, element_of(dtype), &of_x);
        let mut inputs: Vec<_> = std::iter::once(x).chain(g.into_option()).map(contiguous).collect();
        let mut outputs = [const { None }; MAX_OUTPUTS];
        if let Some(upstream) = call.op.identity_input(call.rule).filter(|_| call.needs[0]) {
            // The gradient of x is the upstream gradient itself: a clone, which no kernel writes to.
            outputs[0] = Some(inputs[upstream].clone());
        } else if let Some(index) = call.op.in_place_input().filter(|&index| inputs[index].is_unique()) {
            outputs[0] = call.needs[0].then(|| inputs.remove(index));
        }
        for (index, of) in call.outputs() {
            let shape = of.map_or(&shape, |of| broadcast.gradient_shape(of));
            outputs[index].get_or_insert_with(|| FlexTensor::zeros(shape.clone(), call.to(dtype)));
        }
        let mut written = outputs.each_mut().map(|output| output.as_mut().and_then(own_bytes));
        if written.iter().any(Option::is_some) {
            let read: Vec<_> = inputs.iter().map(bytes).collect();
            let arguments = call.arguments(dtype, &resolved);
            checked(cpu::run(call.op, of_x.len(), &read, &mut written, &arguments));
        }
        Outputs::new(outputs)
    }

    fn clip_with_mask(x: FlexTensor, lo: Bound<Self>, hi: Bound<Self>, rule: BackwardRule) -> Masked<Self> {
        let (broadcast, of_x, x) = (Inputs::new(Broadcast::new([lo, hi])), shape_of(&x), contiguous(x));
        let call = Call::new(Op::ClipWithMask, rule);
        let resolved = broadcast.resolve(&call, element_of(x.dtype()), &of_x);
        let mut mask = vec![0i64; cpu::mask_len(of_x.len())];
        let mut y = FlexTensor::zeros(x.layout().shape().clone(), x.dtype());
        let written = &mut [own_bytes(&mut y), Some(bytemuck::cast_slice_mut(&mut mask))];
        checked(cpu::run(call.op, of_x.len(), &[bytes(&x)], written, &call.arguments(x.dtype(), &resolved)));
        let words = Shape::new([mask.len()]);
        Masked { y, mask: of_elements(mask, words) }
    }

    fn mask_backward(g: FlexTensor, mask: FlexTensor) -> FlexTensor {
        let (len, dtype, mut g) = (g.layout().num_elements(), g.dtype(), contiguous(g));
        if !g.is_unique() {
            g = FlexTensor::from_data(g.into_data());
        }
        let none = BroadcastInputs::none(element_of(dtype));
        let call = Call::new(Op::MaskBackward, BackwardRule::default());
        let written = &mut [own_bytes(&mut g)];
        checked(cpu::run(call.op, len, &[bytes(&mask)], written, &call.arguments(dtype, &none)));
        g
    }

    fn start_norm(x: FlexTensor, kind: NormKind) -> FlexTensor {
        of_state(&add(NormState::wide(kind), x))
    }

    fn add_norm(sum: FlexTensor, x: FlexTensor, kind: NormKind) -> FlexTensor {
        of_state(&add(state_of(&sum, kind), x))
    }

    fn limit_norm(sum: FlexTensor, limit: NormLimit, to: FloatDType) -> Limited<Self> {
        let state = state_of(&sum, limit.kind);
        fn limited<N: Float>(state: &NormState, limit: NormLimit) -> (FlexTensor, Scaling<f64>) {
            let norm = of_elements(vec![checked(state.norm::<N>())], Shape::new([1]));
            (norm, checked(state.scaling::<N>(limit)).to_f64())
        }
        let (norm, scaling) = match to {
            FloatDType::F64 => limited::<f64>(&state, limit),
            _ => limited::<f32>(&state, limit),
        };
        let words = match scaling {
            Scaling::Keep => [0, 0],
            Scaling::Zero => [1, 0],
            Scaling::By(coefficient) => [2, coefficient.to_bits() as i64],
        };
        Limited { norm, scaling: of_elements(words.to_vec(), Shape::new([2])) }
    }

    fn scale(x: FlexTensor, scaling: FlexTensor) -> FlexTensor {
        let scaling = match *elements::<i64>(&scaling) {
            [2, bits] => Scaling::By(f64::from_bits(bits as u64)),
            [1, _] => Scaling::Zero,
            _ => return x,
        };
        let mut x = contiguous(x);
        with_float!(x.dtype(), T => {
            if let Some(x) = own_elements::<T>(&mut x) {
                cpu::scale_in_place(x, scaling);
            } else {
                let mut y = elements::<T>(&x).to_vec();
                cpu::scale_in_place(&mut y, scaling);
                return of_elements(y, x.layout().shape().clone());
            }
        });
        x
    }

    fn scale_backward(x: FlexTensor, g: FlexTensor, limit: NormLimit) -> FlexTensor {
        let (x, g) = (contiguous(x), contiguous(g));
        with_float!(x.dtype(), T => {
            of_elements(checked(scale_backward::<T>(&x, &g, limit)), x.layout().shape().clone())
        })
    }

    fn softmax_along(x: FlexTensor, axes: Vec<usize>) -> FlexTensor {
        let x = contiguous(x);
        with_float!(x.dtype(), T => {
            let y = of_wgclip::<T>(&x).and_then(|x| x.softmax(&axes[..])?.into_vec());
            of_elements(checked(y), x.layout().shape().clone())
        })
    }

    fn softmax_backward(y: FlexTensor, g: FlexTensor, axes: Vec<usize>) -> FlexTensor {
        let (y, g) = (contiguous(y), contiguous(g));
        with_float!(y.dtype(), T => {
            let gx = of_wgclip::<T>(&y).and_then(|y| y.softmax_backward(&of_wgclip(&g)?, &axes[..])?.into_vec());
            of_elements(checked(gx), y.layout().shape().clone())
        })
    }
}

/// A contiguous tensor as one of wgclip.
fn of_wgclip<T: Float>(x: &FlexTensor) -> wgclip::Result<wgclip::Tensor<T>> {
    wgclip::Device::cpu().tensor(elements::<T>(x), shape_of(x).dims())
}

fn scale_backward<T: Float>(x: &FlexTensor, g: &FlexTensor, limit: NormLimit) -> wgclip::Result<Vec<T>> {
    of_wgclip::<T>(x)?.clip_by_norm_backward(&of_wgclip(g)?, limit, ..)?.into_vec()
}

/// Adds the elements of x to a sum.
fn add(mut state: NormState, x: FlexTensor) -> NormState {
    let x = contiguous(x);
    with_float!(x.dtype(), T => checked(state.add_slice(elements::<T>(&x))));
    state
}

/// The words of a sum as a tensor.
fn of_state(state: &NormState) -> FlexTensor {
    let words = state.to_words();
    let shape = Shape::new([words.len()]);
    of_elements(words, shape)
}

fn state_of(words: &FlexTensor, kind: NormKind) -> NormState {
    checked(NormState::from_words(kind, elements(words)))
}
