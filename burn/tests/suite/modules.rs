//! Layers, paths and mistakes.

use burn::tensor::{DType, Device, DeviceKind, Tensor};
use wgclip_burn::{
    ClipByValue, Error, HardSigmoid, HardTanh, LearnedClip, Path, Relu6, StraightThroughClip, clip, path,
};

use crate::support::{devices, elements, tensor};

#[test]
fn paths() {
    assert_eq!(path(&Device::flex()), Path::Cpu);
    assert_eq!(path(&Device::flex().autodiff()), Path::Cpu);
    assert_eq!(path(&Device::wgpu(DeviceKind::Cpu)), Path::Wgsl);
}

/// What a layer puts out, and the gradient that reaches its input.
fn run(layer: impl Fn(Tensor<2>) -> Tensor<2>, x: &[f32], device: &Device) -> (Vec<f32>, Vec<f32>) {
    let x = tensor(x, [1, x.len()], &device.clone().autodiff()).require_grad();
    let y = layer(x.clone());
    let grads = (y.clone() * 3.0).sum().backward();
    (elements::<f32, 2>(y), elements::<f32, 2>(x.grad(&grads).unwrap()))
}

#[test]
fn layers_limit_what_they_put_out() {
    for device in devices() {
        let x = [-9.0, -1.0, -0.5, 0.0, 1.0, 6.0, 9.0];
        let clipped = |lo: f32, hi: f32| x.map(|x: f32| x.clamp(lo, hi)).to_vec();
        let masked = |passes: [u8; 7]| passes.map(|passes| 3.0 * f32::from(passes)).to_vec();
        let layer = ClipByValue::new(-1.0, 6.0).unwrap();
        assert_eq!(
            run(|x| layer.forward(x), &x, &device),
            (clipped(-1.0, 6.0), masked([0, 1, 1, 1, 1, 1, 0]))
        );
        let layer = ClipByValue::new(f64::NEG_INFINITY, 1.0).unwrap().with_rule("torch".parse().unwrap());
        assert_eq!(
            run(|x| layer.forward(x), &x, &device),
            (clipped(-9.0, 1.0), masked([1, 1, 1, 1, 0, 0, 0]))
        );
        let layer = StraightThroughClip::new(-1.0, 1.0).unwrap();
        assert_eq!(run(|x| layer.forward(x), &x, &device), (clipped(-1.0, 1.0), masked([1; 7])));
        let made = run(|x| HardTanh::new().forward(x), &x, &device);
        assert_eq!(made, (clipped(-1.0, 1.0), masked([0, 0, 1, 1, 0, 0, 0])));
        let made = run(|x| Relu6::new().forward(x), &x, &device);
        assert_eq!(made, (clipped(0.0, 6.0), masked([0, 0, 0, 0, 1, 0, 0])));
        let below_3 = 3f32.next_down();
        let x = [-9.0, -3.0, 0.0, 1.5, below_3, 3.0, 9.0, f32::NAN];
        let (y, gradient) = run(|x| HardSigmoid::new().forward(x), &x, &device);
        assert_eq!(y[..4], [0.0, 0.0, 0.5, 0.75]);
        assert_eq!(y[5..7], [1.0, 1.0]);
        assert!(y[7].is_nan());
        assert_eq!(gradient, [0.0, 0.0, 0.5, 0.5, 0.5, 0.0, 0.0, 0.0]);
    }
}

#[test]
fn bounds_learn() {
    for device in devices() {
        let device = device.autodiff();
        let x = || tensor(&[-5.0f32, 1.0, 9.0, 2.0, 7.0, -1.0], [2, 3], &device);
        let layer = LearnedClip::new(-1.0, 6.0, 1, &device).unwrap();
        let y = layer.forward(x());
        assert_eq!(elements::<f32, 2>(y.clone()), [-1.0, 1.0, 6.0, 2.0, 6.0, -1.0]);
        let grads = (y * 3.0).sum().backward();
        let lo = layer.lo.as_ref().unwrap().val();
        // What ties with a bound is the bound's.
        assert_eq!(elements::<f32, 1>(lo.grad(&grads).unwrap()), [6.0]);
        assert_eq!(elements::<f32, 1>(layer.hi.val().grad(&grads).unwrap()), [6.0]);
        let layer = LearnedClip::pact(6.0, 3, &device).unwrap();
        let grads = (layer.forward(x()) * 3.0).sum().backward();
        assert_eq!(elements::<f32, 1>(layer.hi.val().grad(&grads).unwrap()), [0.0, 3.0, 3.0]);
    }
}

#[test]
fn mistakes_are_errors() {
    for device in devices() {
        let x = || tensor(&[1.0f32, 2.0, 3.0], [3], &device);
        assert!(matches!(clip(x(), f64::NAN..=1.0), Err(Error::NanBound { operand: "lower bound" })));
        assert!(matches!(clip(x(), ..=f64::NAN), Err(Error::NanBound { operand: "upper bound" })));
        let two = tensor(&[1.0f32, 2.0], [2], &device);
        assert!(matches!(
            clip(x(), (two.clone(), None)),
            Err(Error::BroadcastMismatch { operand: "lower bound", .. })
        ));
        let deep = Tensor::<2>::zeros([1, 3], &device);
        assert!(matches!(clip(x(), (deep, None)), Err(Error::BroadcastMismatch { .. })));
        assert!(ClipByValue::new(f64::NAN, 1.0).is_err());
        assert!(matches!(LearnedClip::pact(6.0, 0, &device), Err(Error::Unsupported { .. })));
    }
    let flex = Device::flex();
    let other = tensor(&[1.0f32], [1], &flex).cast(DType::F16);
    let x = tensor(&[1.0f32], [1], &flex);
    assert!(matches!(clip(x, (other, None)), Err(Error::TypeMismatch { .. })));
    let elsewhere = tensor(&[1.0f32], [1], &Device::wgpu(DeviceKind::Cpu));
    let flexible = elsewhere.clone().cast(DType::Flex32);
    assert!(matches!(clip(flexible, 0.0..=1.0), Err(Error::Unsupported { .. })));
    let x = tensor(&[1.0f32], [1], &flex);
    assert!(matches!(clip(x, (elsewhere, None)), Err(Error::DeviceMismatch { .. })));
}
