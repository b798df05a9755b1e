//! On the CPU: wgclip's CPU path, on the memory of Burn's tensors.

use burn::backend::Flex;
use burn::tensor::{Bytes, DType, FloatDType, Shape};
use burn_flex::{FlexTensor, Layout};
use wgclip::bounds::BroadcastInputs;
use wgclip::norm::NormState;
use wgclip::reference::Scaling;
use wgclip::{BackwardRule, Element, NormKind, NormLimit, bf16, cpu, f16};

use super::{Bound, ClipOps, Gradient, Gradients, Limited, Masked, Needs, checked};

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

/// All elements of an unshared tensor, to be overwritten.
fn own_elements<T: Float>(tensor: &mut FlexTensor) -> Option<&mut [T]> {
    let (start, end) = tensor.layout().contiguous_offsets()?;
    tensor.try_storage_mut().map(|all| &mut all[start..end])
}

/// Both bounds, contiguous, with their shapes.
struct Sides([Option<(FlexTensor, wgclip::Shape)>; 2], [Option<f64>; 2]);

impl Sides {
    fn new(lo: Bound<Flex>, hi: Bound<Flex>) -> Self {
        let value = |bound: &Bound<Flex>| match bound {
            Bound::Value(value) => Some(*value),
            _ => None,
        };
        let values = [value(&lo), value(&hi)];
        let tensors = [lo, hi].map(|bound| {
            let tensor = contiguous(bound.tensor()?.clone());
            let shape = shape_of(&tensor);
            Some((tensor, shape))
        });
        Self(tensors, values)
    }

    fn resolve<T: Float>(&self, x: &FlexTensor) -> BroadcastInputs<&[T]> {
        let side = |n: usize| match (&self.0[n], self.1[n]) {
            (Some((tensor, shape)), _) => wgclip::Bound::Tensor((elements(tensor), shape)),
            (None, Some(value)) => wgclip::Bound::Value(<T as Element>::from_f64(value)),
            (None, None) => wgclip::Bound::Absent,
        };
        checked(BroadcastInputs::bounds::<T>(&shape_of(x), side(0), side(1)))
    }
}

fn shape_of(tensor: &FlexTensor) -> wgclip::Shape {
    checked(wgclip::Shape::new(tensor.layout().shape().to_vec()))
}

impl ClipOps for Flex {
    fn clip(x: FlexTensor, lo: Bound<Self>, hi: Bound<Self>, _: BackwardRule) -> FlexTensor {
        let (sides, mut x) = (Sides::new(lo, hi), contiguous(x));
        with_float!(x.dtype(), T => {
            let bounds = sides.resolve::<T>(&x);
            if let Some(x) = own_elements::<T>(&mut x) {
                checked(cpu::clip_in_place(x, &bounds));
            } else {
                let from = elements::<T>(&x);
                let mut y = bytemuck::zeroed_vec(from.len());
                checked(cpu::clip(from, &bounds, &mut y));
                return of_elements(y, x.layout().shape().clone());
            }
        });
        x
    }

    fn clip_backward(
        x: FlexTensor,
        g: FlexTensor,
        lo: Bound<Self>,
        hi: Bound<Self>,
        rule: BackwardRule,
        needs: Needs,
    ) -> Gradients<Self> {
        let (sides, x, mut g) = (Sides::new(lo, hi), contiguous(x), contiguous(g));
        let is_identity = rule.is_identity();
        with_float!(x.dtype(), T => {
            let (bounds, from) = (sides.resolve::<T>(&x), elements::<T>(&x));
            if !needs.lo && !needs.hi {
                if !is_identity {
                    if let Some(g) = own_elements::<T>(&mut g) {
                        checked(cpu::clip_backward_in_place(from, g, &bounds, rule));
                    } else {
                        let mut gx = bytemuck::zeroed_vec(from.len());
                        checked(cpu::clip_backward(from, elements::<T>(&g), &bounds, rule, &mut gx));
                        g = of_elements(gx, x.layout().shape().clone());
                    }
                }
                return Gradients { x: Gradient::Of(g), lo: Gradient::None, hi: Gradient::None };
            }
            let mut of_x = (needs.x && !is_identity).then(|| bytemuck::zeroed_vec::<T>(from.len()));
            let [mut of_lo, mut of_hi] = [(0, needs.lo), (1, needs.hi)].map(|(side, needs)| {
                let (_, shape) = sides.0[side].as_ref().filter(|_| needs)?;
                Some(bytemuck::zeroed_vec::<T>(shape.len()))
            });
            let of_bounds = [of_lo.as_deref_mut(), of_hi.as_deref_mut()];
            let upstream = elements::<T>(&g);
            checked(cpu::clip_backward_bounds(from, upstream, &bounds, rule, of_x.as_deref_mut(), of_bounds));
            let shaped = |elements: Option<Vec<T>>, of: Option<&FlexTensor>| match (elements, of) {
                (Some(elements), Some(of)) => Gradient::Of(of_elements(elements, of.layout().shape().clone())),
                _ => Gradient::None,
            };
            let of_x = match needs.x && is_identity {
                true => Gradient::Of(g),
                false => shaped(of_x, Some(&x)),
            };
            let bound = |side: usize| sides.0[side].as_ref().map(|(tensor, _)| tensor);
            Gradients { x: of_x, lo: shaped(of_lo, bound(0)), hi: shaped(of_hi, bound(1)) }
        })
    }

    fn clip_with_mask(x: FlexTensor, lo: Bound<Self>, hi: Bound<Self>, rule: BackwardRule) -> Masked<Self> {
        let (sides, x) = (Sides::new(lo, hi), contiguous(x));
        with_float!(x.dtype(), T => {
            let (bounds, from) = (sides.resolve::<T>(&x), elements::<T>(&x));
            let (mut y, mut mask) = (bytemuck::zeroed_vec(from.len()), vec![0; cpu::mask_len(from.len())]);
            checked(cpu::clip_with_mask(from, &bounds, rule, &mut y, &mut mask));
            let words = Shape::new([mask.len()]);
            Masked {
                y: of_elements(y, x.layout().shape().clone()),
                mask: of_elements::<i64>(bytemuck::cast_vec(mask), words),
            }
        })
    }

    fn mask_backward(g: FlexTensor, mask: FlexTensor) -> FlexTensor {
        let mut g = contiguous(g);
        let bits = bytemuck::cast_slice(elements::<i64>(&mask));
        with_float!(g.dtype(), T => {
            if let Some(g) = own_elements::<T>(&mut g) {
                checked(cpu::mask_backward_in_place(bits, g));
            } else {
                let mut gx = elements::<T>(&g).to_vec();
                checked(cpu::mask_backward_in_place(bits, &mut gx));
                return of_elements(gx, g.layout().shape().clone());
            }
        });
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
}

/// x and g as wgclip tensors.
fn scale_backward<T: Float>(x: &FlexTensor, g: &FlexTensor, limit: NormLimit) -> wgclip::Result<Vec<T>> {
    let (device, shape) = (wgclip::Device::cpu(), shape_of(x));
    let (x, g) =
        (device.tensor(elements::<T>(x), shape.dims())?, device.tensor(elements::<T>(g), shape.dims())?);
    x.clip_by_norm_backward(&g, limit, ..)?.into_vec()
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
