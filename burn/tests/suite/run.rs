//! Operations of the list by name: the conformance table, as every device of the library is checked by it.

use burn::backend::ops::FloatTensorOps;
use burn::backend::{Dispatch, read_sync};
use burn::tensor::{DType, Device, Tensor, TensorData};
use wgclip::bounds::Number;
use wgclip::op::{Codes, Op, Operand};
use wgclip::quantize::QuantRule;
use wgclip::{BackwardRule, ElementType, OutsideRule};
use wgclip_burn::ops::{Bound, Broadcast, Call, ClipOps, Optional};
use wgclip_burn::{Arguments, Error, run};
use wgclip_conformance::{ExternalBound, ExternalCase, Tally, Tier, external_cases};

use crate::support::{devices, elements, tensor};

type Primitive = burn::backend::tensor::FloatTensor<Dispatch>;

const TYPES: [(ElementType, DType); 4] = [
    (ElementType::F32, DType::F32),
    (ElementType::F16, DType::F16),
    (ElementType::Bf16, DType::BF16),
    (ElementType::F64, DType::F64),
];

/// A tensor of as many axes as a case has, but one at the least.
fn primitive(bytes: &[u8], dims: &[usize], dtype: DType, device: &Device) -> Primitive {
    let dims = if dims.is_empty() { vec![1] } else { dims.to_vec() };
    Dispatch::float_from_data(TensorData::from_bytes_vec(bytes.to_vec(), dims, dtype), device.as_dispatch())
}

fn bytes(tensor: Primitive) -> Vec<u8> {
    read_sync(Dispatch::float_into_data(tensor)).unwrap().bytes().to_vec()
}

/// Runs a case: a mask is replaced by the gradient that it passes.
fn outputs(case: &dyn ExternalCase, dtype: DType, device: &Device) -> Vec<Vec<u8>> {
    let variant = case.variant();
    let operand = |bytes: &[u8]| primitive(bytes, case.dims(), dtype, device);
    let (x, g) = (operand(case.x()), operand(case.g()));
    let inputs = case.broadcast().into_iter().map(|input| match input {
        ExternalBound::Absent => Bound::Absent,
        ExternalBound::Value(Number::Float(value)) => Bound::Value(value),
        ExternalBound::Value(other) => panic!("a float is {other:?}"),
        ExternalBound::Tensor(bytes, dims) => Bound::Tensor(primitive(bytes, dims, dtype, device)),
    });
    let info = variant.op.info();
    if variant.op.has(Operand::Mask) {
        let mut inputs = inputs;
        let [lo, hi] = std::array::from_fn(|_| inputs.next().unwrap());
        let masked = Dispatch::clip_with_mask(x, lo, hi, variant.rule);
        // The gradient overwrites g only if nobody else has it.
        let kept = (!variant.in_place).then(|| g.clone());
        let gx = Dispatch::mask_backward(g, masked.mask);
        drop(kept);
        return if variant.op == Op::MaskBackward {
            vec![bytes(gx)]
        } else {
            vec![bytes(masked.y), bytes(gx)]
        };
    }
    let needed = case.outputs();
    let needs = std::array::from_fn(|index| info.outputs.get(index).is_some_and(|of| needed.contains(of)));
    let call = Call { needs, params: case.params().to_vec(), ..Call::new(variant.op, variant.rule) };
    let kept = (!variant.in_place).then(|| (x.clone(), g.clone()));
    let g = if info.inputs.contains(&Operand::G) { Optional::Some(g) } else { Optional::None };
    let outputs = Dispatch::run(x, g, Broadcast::new(inputs), call).into_array();
    drop(kept);
    outputs.into_iter().flatten().map(bytes).collect()
}

/// Every operation of the list that a device has, of every type: on a GPU of f32.
#[test]
fn the_whole_list_keeps_the_contract() {
    for (device, on_gpu) in devices().iter().zip([false, true]) {
        for (element, dtype) in
            TYPES.into_iter().filter(|(element, _)| !on_gpu || *element == ElementType::F32)
        {
            for (op, in_place) in Op::variants().filter(|(op, _)| {
                op.is_for(element, on_gpu) && op.info().codes == Codes::None && *op != Op::ClipTo
            }) {
                let mut tally = Tally::default();
                for case in external_cases(element, (op, in_place), Tier::Quick, 9) {
                    // CubeCL 0.12 panics on tensors of 11 axes.
                    if on_gpu && case.dims().len() > 8 {
                        continue;
                    }
                    let outputs = outputs(&*case, dtype, device);
                    let outputs: Vec<_> = outputs.iter().map(|bytes| &bytes[..]).collect();
                    tally.add(case.compare(&format!("{device:?}"), &outputs));
                }
                assert_eq!(tally.first, None, "{op} of {element} on {device:?}, in place: {in_place}");
                assert!(tally.cases > 0, "{op} of {element} on {device:?}");
            }
        }
    }
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    elements(tensor)
}

/// Gradients of broadcast inputs have their shapes, with ones before them.
#[test]
fn outputs_are_those_that_are_named() {
    for device in devices() {
        let x = tensor(&[-3.0f32, 0.5, 2.0, 4.0], [2, 2], &device);
        let g = tensor(&[1.0f32, 10.0, 100.0, 1000.0], [2, 2], &device);
        let slope = tensor(&[0.5f32, 0.25], [2], &device);
        let broadcast = vec![(-1.0).into(), 1.0.into(), slope.into()];
        let arguments = Arguments { broadcast, ..Arguments::default() };
        let y = run(Op::LeakyClip, &[&x], &[Operand::Y], &arguments).unwrap().remove(0);
        assert_eq!(values(y), [-2.0, 0.5, 1.5, 1.75]);
        let outputs = [Operand::Gslope, Operand::Ghi, Operand::Gx];
        let gradients = run(Op::LeakyClipBackward, &[&x, &g], &outputs, &arguments).unwrap();
        assert_eq!(
            gradients.iter().map(|gradient| gradient.dims()).collect::<Vec<_>>(),
            [[1, 2], [1, 1], [2, 2]]
        );
        let gradients: Vec<_> = gradients.into_iter().map(values).collect();
        assert_eq!(gradients, [vec![98.0, 3000.0], vec![50.0 + 750.0], vec![0.5, 10.0, 50.0, 250.0]]);
        // x and g are as they were.
        assert_eq!([x, g].map(values), [[-3.0, 0.5, 2.0, 4.0], [1.0, 10.0, 100.0, 1000.0]]);
    }
}

#[test]
fn rules_parameters_and_types_are_passed_on() {
    for device in devices() {
        let x = tensor(&[0.3f32, -7.0, 1.5, 200.0], [4], &device);
        let quant = QuantRule::EXACT.bits(8).unwrap();
        let broadcast = vec![0.5.into(), 0.0.into()];
        let arguments = Arguments { broadcast, quant, ..Arguments::default() };
        let y = run(Op::FakeQuantize, &[&x], &[Operand::Y], &arguments).unwrap().remove(0);
        assert_eq!(elements::<f32, 1>(y), [0.5, -7.0, 1.5, 63.5]);
        let arguments = Arguments { params: vec![2.0, 1.0], ..Arguments::default() };
        let y = run(Op::Affine, &[&x], &[Operand::Y], &arguments).unwrap().remove(0);
        assert_eq!(elements::<f32, 1>(y), [1.6, -13.0, 4.0, 401.0]);
        let to = Some(DType::F16);
        let arguments = Arguments { broadcast: vec![None.into(), 2.0.into()], to, ..Arguments::default() };
        let y = run(Op::ClipTo, &[&x], &[Operand::Y], &arguments).unwrap().remove(0);
        assert_eq!(y.dtype(), DType::F16);
        assert_eq!(elements::<wgclip::f16, 1>(y), [0.3, -7.0, 1.5, 2.0].map(wgclip::f16::from_f64));
        let broadcast = vec![None.into(), 2.0.into()];
        let rule = BackwardRule { outside: OutsideRule::StraightThrough, ..BackwardRule::default() };
        let arguments = Arguments { broadcast, rule, ..Arguments::default() };
        let outputs = [Operand::Gx, Operand::Ghi];
        let gradients = run(Op::ClipBackwardBounds, &[&x, &x], &outputs, &arguments).unwrap();
        let gradients: Vec<_> = gradients.into_iter().map(elements::<f32, 1>).collect();
        assert_eq!(gradients, [vec![0.3, -7.0, 1.5, 200.0], vec![200.0]]);
    }
}

#[test]
fn what_an_operation_does_not_take_is_refused() {
    for device in devices() {
        let x = tensor(&[1.0f32, 2.0], [2], &device);
        let short = tensor(&[1.0f32], [1], &device);
        let half = tensor(&[wgclip::f16::ONE; 2], [2], &device);
        let of = |broadcast: &[Option<f64>]| Arguments {
            broadcast: broadcast.iter().map(|&value| value.into()).collect(),
            ..Arguments::default()
        };
        let bounds = of(&[Some(0.0), None]);
        let refused = |op, inputs: &[&Tensor<1>], outputs: &[Operand], arguments: &Arguments| {
            run(op, inputs, outputs, arguments).unwrap_err()
        };
        let y = &[Operand::Y];
        for (op, inputs, outputs, arguments) in [
            (Op::Clip, vec![&x, &x], y, &bounds),
            (Op::Clip, vec![], y, &bounds),
            (Op::Clip, vec![&x], &[Operand::Gx], &bounds),
            (Op::Clip, vec![&x], y, &of(&[Some(0.0)])),
            (Op::ClipWithMask, vec![&x], y, &bounds),
            (Op::ClipTo, vec![&x], y, &bounds),
            (Op::Affine, vec![&x], y, &of(&[])),
            (Op::Quantize, vec![&x], y, &of(&[Some(1.0), Some(0.0)])),
            (Op::FakeQuantize, vec![&x], y, &bounds),
            (Op::Sum, vec![&x], &[Operand::Sum], &of(&[])),
        ] {
            let error = refused(op, &inputs, outputs, arguments);
            assert!(matches!(error, Error::Unsupported { .. }), "{op}: {error}");
        }
        let gradients =
            |inputs: &[&Tensor<1>], output| refused(Op::ClipBackwardBounds, inputs, &[output], &bounds);
        assert!(matches!(gradients(&[&x, &x], Operand::Ghi), Error::NoBound { .. }));
        assert!(matches!(gradients(&[&x, &short], Operand::Gx), Error::ShapeMismatch { .. }));
        assert!(matches!(gradients(&[&x, &half], Operand::Gx), Error::TypeMismatch { .. }));
        let nan = refused(Op::Clip, &[&x], y, &of(&[Some(f64::NAN), None]));
        assert!(matches!(nan, Error::NanBound { operand: "lower bound" }));
        let range = QuantRule { min: 1, max: 0, ..QuantRule::EXACT };
        let crossed = Arguments { quant: range, ..of(&[Some(1.0), Some(0.0)]) };
        assert_eq!(refused(Op::FakeQuantize, &[&x], y, &crossed), Error::QuantRange { min: 1, max: 0 });
        assert!(run(Op::Clip, &[&x], &[], &bounds).unwrap().is_empty());
    }
    let double = tensor(&[1.0f64], [1], &devices()[1]);
    let arguments = Arguments { params: vec![1.0, 0.0], ..Arguments::default() };
    assert!(matches!(run(Op::Affine, &[&double], &[Operand::Y], &arguments), Err(Error::Unsupported { .. })));
}

/// The library's table says which operations have a function of their own here.
#[test]
fn the_table_of_packages_says_what_is_here() {
    let table = include_str!("../../../docs/operations.md");
    let elementwise = table.split("\n## ").next().unwrap();
    let by_name: Vec<_> = elementwise
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(|cell| cell.trim().trim_matches('`')).collect::<Vec<_>>())
        .filter(|cells| cells[6] == "-")
        .map(|cells| cells[1])
        .collect();
    let has = [
        "clip",
        "clip_backward",
        "clip_backward_bounds",
        "clip_with_mask",
        "mask_backward",
        "fake_quantize",
        "fake_quantize_backward",
        "tanh",
        "tanh_backward",
        "soft_cap",
        "soft_cap_backward",
        "sigmoid",
        "sigmoid_backward",
    ];
    let of_list: Vec<_> = Op::ELEMENTWISE.iter().map(|op| op.name()).filter(|op| !has.contains(op)).collect();
    assert_eq!(by_name, of_list);
}
