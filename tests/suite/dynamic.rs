//! Tensors whose type is a value: the list by name.

use wgclip::bounds::BroadcastInputs;
use wgclip::op::{Arguments, Codes, Op, Operand};
use wgclip::quantize::QuantRule;
use wgclip::{
    BackwardRule, Bound, Bounds, Device, DynTensor, Element, ElementType, Error, NormKind, NormLimit, Tensor,
    bf16, f8_e4m3fn,
};

use crate::devices::{Suite, seed};

const DIMS: [usize; 2] = [5, 13];

fn tensor<T: Element>(device: &Device, rng: &mut fastrand::Rng) -> Tensor<T> {
    let data: Vec<T> = (0..DIMS[0] * DIMS[1]).map(|_| T::from_bits(rng.u64(..))).collect();
    device.tensor(&data, DIMS).unwrap()
}

fn bits<T: Element>(tensor: Tensor<T>) -> Vec<u64> {
    tensor.into_vec().unwrap().into_iter().map(Element::to_bits).collect()
}

/// The first output, of an operation between bounds that are a value and a tensor.
fn run<T: Element>(op: Op, inputs: &[&DynTensor], bounds: &Bounds<T>) -> wgclip::Result<Tensor<T>> {
    let given = [bounds.lo().as_dyn(), bounds.hi().as_dyn(), Bound::Value(T::from_f64(0.5))];
    let taken = given.into_iter().take(op.info().broadcast.len());
    let broadcast = BroadcastInputs::new(op.info().broadcast, inputs[0].shape(), taken)?;
    let params = &[1.5, -2.0][..op.info().params.len()];
    let arguments = Arguments { params, to: Some(T::TYPE), ..Arguments::new(&broadcast) };
    DynTensor::run(op, inputs, &[op.info().outputs[0]], &arguments)?.remove(0).try_into()
}

fn names_give_the_bits_of_methods(device: Device) {
    let rng = &mut fastrand::Rng::with_seed(seed());
    let (x, g) = (tensor::<bf16>(&device, rng), tensor::<bf16>(&device, rng));
    let hi = device.tensor(&[bf16::from_f32(2.0); 13], [13]).unwrap();
    let (bounds, rule) = (Bounds::new(bf16::from_f32(-1.0), &hi).unwrap(), BackwardRule::default());
    let (one, quant) = (bf16::from_f32(0.5), QuantRule::default());
    let (_, mask) = x.clip_with_mask(&bounds, rule).unwrap();
    let one_type = |op: &&Op| op.info().codes == Codes::None && !op.has(Operand::Mask);
    for &op in Op::ELEMENTWISE.iter().filter(one_type) {
        let expected = match op {
            Op::Clip => x.clip(&bounds),
            Op::ClipTo => x.clip_to(&bounds),
            Op::ClipBackward => x.clip_backward(&g, &bounds, rule),
            Op::ClipBackwardBounds => mask.backward(&g),
            Op::HardShrink => x.hard_shrink(&bounds),
            Op::HardShrinkBackward => x.hard_shrink_backward(&g, &bounds),
            Op::LeakyClip => x.leaky_clip(&bounds, one),
            Op::LeakyClipBackward => x.leaky_clip_backward(&g, &bounds, one).map(|made| made.x),
            Op::FakeQuantize => x.fake_quantize(bf16::from_f32(-1.0), &hi, quant),
            Op::FakeQuantizeBackward => x.fake_quantize_backward_x(&g, bf16::from_f32(-1.0), &hi, quant),
            Op::Affine => x.affine(1.5, -2.0),
            Op::Tanh => x.tanh(),
            Op::TanhBackward => x.tanh_backward(&g),
            Op::Sigmoid => x.sigmoid(),
            Op::SigmoidBackward => x.sigmoid_backward(&g),
            Op::SoftCap => x.soft_cap(1.5),
            Op::SoftCapBackward => x.soft_cap_backward(&g, 1.5),
            _ => panic!("{op} has a method: compare with it"),
        };
        let inputs = [x.as_dyn(), g.as_dyn()];
        let made = run(op, &inputs[..op.info().inputs.len()], &bounds).unwrap();
        assert_eq!(bits(made), bits(expected.unwrap()), "{op} on {device:?}");
    }
    // Scales of codes are f32.
    let grid = [Bound::Value(0.25f32), Bound::Value(-3.0)];
    let grid = BroadcastInputs::new(Op::Quantize.info().broadcast, x.shape(), grid).unwrap();
    let run_to = |op, x: &DynTensor, to| {
        let arguments = Arguments { to: Some(to), ..Arguments::new(&grid) };
        DynTensor::run(op, &[x], &[Operand::Y], &arguments).map(|mut made| made.remove(0))
    };
    let codes = x.quantize::<i16>(0.25, -3.0, quant).unwrap();
    let made = run_to(Op::Quantize, x.as_dyn(), ElementType::I16).unwrap();
    assert_eq!(made.to_bytes().unwrap(), codes.as_dyn().to_bytes().unwrap());
    let values = codes.dequantize::<bf16>(0.25, -3.0, quant).unwrap();
    let made = run_to(Op::Dequantize, codes.as_dyn(), ElementType::Bf16).unwrap();
    assert_eq!(made.to_bytes().unwrap(), values.as_dyn().to_bytes().unwrap());
    for (op, x, to) in [
        (Op::Quantize, x.as_dyn(), ElementType::U8),
        (Op::Quantize, x.as_dyn(), ElementType::F32),
        (Op::Quantize, codes.as_dyn(), ElementType::I16),
        (Op::Dequantize, x.as_dyn(), ElementType::F32),
        (Op::Dequantize, codes.as_dyn(), ElementType::I8),
        (Op::Dequantize, codes.as_dyn(), ElementType::F64),
    ] {
        assert!(matches!(run_to(op, x, to), Err(Error::Unsupported { .. })), "{op} to {to} on {device:?}");
    }
    // A mask has the layout of its device.
    let broadcast = BroadcastInputs::new(
        Op::Clip.info().broadcast,
        x.shape(),
        [bounds.lo(), bounds.hi()].map(Bound::as_dyn),
    );
    let broadcast = broadcast.unwrap();
    let made = DynTensor::run(Op::ClipWithMask, &[x.as_dyn()], &[Operand::Mask], &Arguments::new(&broadcast));
    assert!(matches!(made, Err(Error::Unsupported { .. })));
    let none = BroadcastInputs::none(ElementType::Bf16);
    let (axes, limit) = ([1], NormLimit::new(0.25));
    let arguments = Arguments { axes: Some(&axes), limit: Some(&limit), ..Arguments::new(&none) };
    for &op in Op::SLICES.iter().filter(|&&op| op != Op::ClipByGlobalNorm) {
        let expected = match op {
            Op::Sum => x.sum([1]).map(DynTensor::from),
            Op::Norm => x.norm(NormKind::L2, [1]).map(DynTensor::from),
            Op::ClipByNorm => x.clip_by_norm(limit, [1]).map(DynTensor::from),
            Op::ClipByNormBackward => x.clip_by_norm_backward(&g, limit, [1]).map(DynTensor::from),
            Op::Softmax => x.softmax([1]).map(DynTensor::from),
            Op::SoftmaxBackward => x.softmax_backward(&g, [1]).map(DynTensor::from),
            _ => panic!("{op} has a method: compare with it"),
        };
        let inputs = [x.as_dyn(), g.as_dyn()];
        let outputs = op.info().outputs;
        let made =
            DynTensor::run(op, &inputs[..op.info().inputs.len()], outputs, &arguments).unwrap().remove(0);
        let expected = expected.unwrap();
        assert_eq!((made.element(), made.shape()), (expected.element(), expected.shape()), "{op}");
        assert_eq!(made.to_bytes().unwrap(), expected.to_bytes().unwrap(), "{op} on {device:?}");
    }
}

/// Products of 55 bits, next to a tie of f32: rounded to an f64 first they would be the tie, and go the other way.
fn values_of_wide_codes_are_rounded_once(device: Device) {
    let codes = [1549096277, 1645457723, 1090519041, 1205562807, -1549096277, -1090519041];
    let scales = [16777213.0f32, 16777203.0, 16777215.0, 16777209.0, 16777213.0, 16777215.0];
    let values = [25989519270477824.0f32, 27606179320430592.0, 18295871338708992.0, 20225978101923840.0];
    let (codes, scales) = (device.tensor(&codes, [6]).unwrap(), device.tensor(&scales, [6]).unwrap());
    let made = codes.dequantize::<f32>(&scales, 0.0, QuantRule::EXACT).unwrap().to_vec().unwrap();
    assert_eq!(made, [&values[..], &[-values[0], -values[2]]].concat(), "{device:?}");
}

fn gradients_have_the_shapes_of_what_they_are_of(device: Device) {
    let rng = &mut fastrand::Rng::with_seed(seed());
    let (x, g) = (tensor::<f32>(&device, rng).clip(-9.0..=9.0).unwrap(), tensor::<f32>(&device, rng));
    let (hi, op) = (device.tensor(&[1.0f32; 5], [5, 1]).unwrap(), Op::ClipBackwardBounds);
    let bounds = [Bound::Value(0.0), Bound::Tensor((hi.as_dyn(), hi.shape()))];
    let broadcast = BroadcastInputs::new::<f32>(op.info().broadcast, x.shape(), bounds).unwrap();
    let (inputs, arguments) = ([x.as_dyn(), g.as_dyn()], Arguments::new(&broadcast));
    // In the order that is asked for, as often as that.
    let made =
        DynTensor::run(op, &inputs, &[Operand::Ghi, Operand::Gx, Operand::Glo, Operand::Ghi], &arguments);
    let made = made.unwrap();
    let shapes: Vec<_> = made.iter().map(|made| made.shape().dims()).collect();
    assert_eq!(shapes, [&[5, 1][..], &DIMS, &[], &[5, 1]]);
    let bounds = Bounds::new(0.0, &hi).unwrap();
    let gradients =
        x.clip_backward_bounds(&g, &bounds, BackwardRule::default(), wgclip::NeedsGrad::BOTH).unwrap();
    let hi = gradients.hi.unwrap();
    for (made, expected) in made.into_iter().zip([hi.clone(), gradients.x, gradients.lo.unwrap(), hi]) {
        assert_eq!(bits(Tensor::<f32>::try_from(made).unwrap()), bits(expected));
    }
}

fn bytes_go_both_ways(device: Device) {
    let rng = &mut fastrand::Rng::with_seed(seed());
    for &element in ElementType::ALL {
        let bytes: Vec<u8> = (0..7 * element.size()).map(|_| rng.u8(..)).collect();
        let x = device.tensor_from_bytes(element, &bytes, [7]).unwrap();
        assert_eq!((x.element(), x.len(), x.to_bytes().unwrap()), (element, 7, bytes.clone()), "{device:?}");
        let mut copy = vec![0; bytes.len()];
        x.copy_to(&mut copy).unwrap();
        assert_eq!(copy, bytes);
        assert!(matches!(x.copy_to(&mut copy[1..]), Err(Error::LengthMismatch { .. })));
        assert!(matches!(
            device.tensor_from_bytes(element, &bytes, [8]),
            Err(Error::LengthMismatch { expected: 8, actual: 7, .. })
        ));
    }
    assert!(matches!(
        device.tensor_from_bytes(ElementType::F32, &[0; 9], [2]),
        Err(Error::Unsupported { .. })
    ));
    let empty = device.tensor_from_bytes(ElementType::F16, &[], [0, 3]).unwrap();
    assert!(empty.is_empty() && empty.to_bytes().unwrap().is_empty());
    assert!(matches!(
        Tensor::<f32>::try_from(empty),
        Err(Error::TypeMismatch { left: ElementType::F32, right: ElementType::F16 })
    ));
}

fn what_does_not_fit_is_refused_and_changes_nothing(device: Device) {
    let x = device.tensor(&[-1.0f32, 0.5, 3.0, 4.0], [4]).unwrap();
    let (short, other) =
        (device.tensor(&[1.0f32; 2], [2]).unwrap(), device.tensor(&[f8_e4m3fn::ZERO; 4], [4]).unwrap());
    let broadcast = BroadcastInputs::values(Some(0.0f32), None).unwrap();
    let arguments = Arguments::new(&broadcast);
    let refused = |op, inputs: &[&DynTensor], outputs: &[Operand]| {
        DynTensor::run(op, inputs, outputs, &arguments).unwrap_err()
    };
    let (on, back) = (x.as_dyn(), Op::ClipBackward);
    assert!(matches!(refused(back, &[on, short.as_dyn()], &[Operand::Gx]), Error::ShapeMismatch { .. }));
    assert!(matches!(refused(back, &[on, other.as_dyn()], &[Operand::Gx]), Error::TypeMismatch { .. }));
    assert!(matches!(refused(back, &[on], &[Operand::Gx]), Error::Unsupported { .. }));
    assert!(matches!(refused(Op::Clip, &[on], &[Operand::Gx]), Error::Unsupported { .. }));
    assert!(matches!(refused(Op::Affine, &[on], &[Operand::Y]), Error::Unsupported { .. }));
    assert!(matches!(refused(Op::ClipByNorm, &[on], &[Operand::Y]), Error::Unsupported { .. }));
    assert!(matches!(refused(Op::ClipByGlobalNorm, &[on], &[Operand::Y]), Error::Unsupported { .. }));
    assert!(matches!(refused(Op::MaskBackward, &[on, on], &[Operand::Gx]), Error::Unsupported { .. }));
    let bounds = Op::ClipBackwardBounds;
    assert!(matches!(refused(bounds, &[on, on], &[Operand::Ghi]), Error::NoBound { operand: "upper bound" }));
    assert!(matches!(refused(Op::Clip, &[other.as_dyn()], &[Operand::Y]), Error::TypeMismatch { .. }));
    // Resolved for another shape.
    let hi = Bound::Tensor((short.as_dyn(), short.shape()));
    let of_short =
        BroadcastInputs::new::<f32>(Op::Clip.info().broadcast, short.shape(), [Bound::Absent, hi]).unwrap();
    let mut target = x.clone().into_dyn();
    let error = target.run_in_place(Op::Clip, &[], &Arguments::new(&of_short)).unwrap_err();
    assert!(matches!(error, Error::LengthMismatch { .. }), "{error}");
    assert!(matches!(target.run_in_place(Op::Clip, &[on], &arguments), Err(Error::Unsupported { .. })));
    assert!(matches!(target.run_in_place(Op::ClipTo, &[], &arguments), Err(Error::Unsupported { .. })));
    // Clones keep theirs.
    target.run_in_place(Op::Clip, &[], &arguments).unwrap();
    assert_eq!(Tensor::<f32>::try_from(target).unwrap().to_vec().unwrap(), [0.0, 0.5, 3.0, 4.0]);
    assert_eq!(x.to_vec().unwrap(), [-1.0, 0.5, 3.0, 4.0]);
}

pub(crate) fn register(suite: &mut Suite) {
    suite.per_device(&[
        ("dynamic::names_give_the_bits_of_methods", names_give_the_bits_of_methods),
        (
            "dynamic::gradients_have_the_shapes_of_what_they_are_of",
            gradients_have_the_shapes_of_what_they_are_of,
        ),
        ("dynamic::values_of_wide_codes_are_rounded_once", values_of_wide_codes_are_rounded_once),
        ("dynamic::bytes_go_both_ways", bytes_go_both_ways),
        ("dynamic::what_does_not_fit_is_refused", what_does_not_fit_is_refused_and_changes_nothing),
    ]);
}
