//! Norms: exact, and unread.

use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Tensor};
use wgclip::norm::AnyTensor;
use wgclip::{Element, bf16, f16};
use wgclip_burn::{
    Error, LimitGradients, NonFinitePolicy, NormKind, NormLimit, clip_by_global_norm, clip_by_norm,
    clip_gradients,
};

use crate::support::{Float, bits, devices, elements, normal, tensor};

#[derive(Module, Debug)]
struct Two {
    a: Param<Tensor<2>>,
    b: Param<Tensor<1>>,
    again: Param<Tensor<2>>,
    unused: Param<Tensor<1>>,
}

impl Two {
    /// `again` is `a` once more.
    fn new(device: &Device) -> Self {
        let a: Param<Tensor<2>> = Initializer::Zeros.init([33, 65], device);
        let again = a.clone();
        Self {
            a,
            b: Initializer::Zeros.init([1001], device),
            again,
            unused: Initializer::Zeros.init([3], device),
        }
    }
}

fn global_norm_of<T: Float>(scale: f64, limit: NormLimit) {
    let rng = &mut fastrand::Rng::with_seed(9);
    let sized = |len, rng: &mut fastrand::Rng| -> Vec<T> {
        normal::<f32>(len, rng).iter().map(|x| <T as Element>::from_f64(f64::from(*x) * scale)).collect()
    };
    let (a, b) = (sized(33 * 65, rng), sized(1001, rng));
    let cpu = wgclip::Device::cpu();
    let mut expected_a = cpu.tensor(&a, [33, 65]).unwrap();
    let mut expected_b = cpu.tensor(&b, [1001]).unwrap();
    let norm = {
        let list: &mut [&mut dyn AnyTensor] = &mut [&mut expected_a, &mut expected_b];
        wgclip::clip_by_global_norm(list, limit).unwrap()
    };
    let norm = norm.value().unwrap() as f32;
    for device in devices() {
        let module = Two::new(&device);
        let mut grads = GradientsParams::new();
        grads.register(module.a.id, tensor(&a, [33, 65], &device));
        grads.register(module.b.id, tensor(&b, [1001], &device));
        let made = clip_by_global_norm(&module, &mut grads, limit).unwrap();
        let what = format!("{} times {scale}, {limit:?}", T::TYPE);
        assert_eq!(bits(&elements::<f32, 1>(made)), bits(&[norm]), "{what}");
        let made = elements::<T, 2>(grads.remove(module.a.id).unwrap());
        assert_eq!(bits(&made), bits(&expected_a.to_vec().unwrap()), "{what}");
        let made = elements::<T, 1>(grads.remove(module.b.id).unwrap());
        assert_eq!(bits(&made), bits(&expected_b.to_vec().unwrap()), "{what}");
        assert!(grads.is_empty());
    }
}

#[test]
fn a_global_norm_is_that_of_the_library() {
    for kind in NormKind::ALL {
        for limit in [1.0, 1e30] {
            let limit = NormLimit::new(limit).kind(kind);
            global_norm_of::<f32>(1.0, limit);
            global_norm_of::<f16>(1.0, limit);
            global_norm_of::<bf16>(1.0, limit);
        }
    }
    // Where squares overflow, and vanish.
    global_norm_of::<f32>(1e30, NormLimit::new(1.0));
    global_norm_of::<f32>(1e-30, NormLimit::new(1e-31));
    global_norm_of::<f16>(1e4, NormLimit::new(1.0).eps(1e-6));
    global_norm_of::<f32>(f64::INFINITY, NormLimit::new(1.0));
    for policy in [NonFinitePolicy::Zero, NonFinitePolicy::Skip] {
        global_norm_of::<f32>(f64::INFINITY, NormLimit::new(1.0).nonfinite(policy));
    }
}

#[test]
fn a_step_limits_the_norm_first() {
    for device in devices() {
        let device = device.autodiff();
        let model = Linear {
            weight: Param::from_tensor(tensor(&[0.0f32, 0.0], [2, 1], &device)),
            ..LinearConfig::new(2, 1).with_bias(false).init(&device)
        };
        let mut optimizer = SgdConfig::new().init().with_global_norm(5.0).unwrap();
        let y = model.forward(tensor(&[30.0f32, 40.0], [1, 2], &device));
        let grads = GradientsParams::from_grads(y.sum().backward(), &model);
        let model = optimizer.step(1.0, model, grads);
        assert_eq!(elements::<f32, 1>(optimizer.norm().unwrap().clone()), [50.0]);
        assert_eq!(elements::<f32, 2>(model.weight.val()), [-3.0, -4.0]);
    }
}

#[test]
fn no_gradients_have_the_norm_0() {
    for device in devices() {
        let module = Two::new(&device);
        let norm = clip_by_global_norm(&module, &mut GradientsParams::new(), 1.0).unwrap();
        assert_eq!(elements::<f32, 1>(norm), [0.0]);
    }
}

#[test]
fn gradients_are_clipped_by_value() {
    for device in devices() {
        let module = Two::new(&device);
        let mut grads = GradientsParams::new();
        grads.register(module.b.id, tensor(&[-2.0f32, 0.01, f32::NAN, 7.0], [4], &device));
        clip_gradients(&module, &mut grads, -0.1..=0.1).unwrap();
        let made = elements::<f32, 1>(grads.remove(module.b.id).unwrap());
        assert_eq!(bits(&made), bits(&[-0.1f32, 0.01, f32::NAN, 0.1]));
    }
}

/// What cannot be clipped stops all of it.
#[test]
fn gradients_are_clipped_all_or_none() {
    let device = Device::flex();
    let module = Two::new(&device);
    let mut grads = GradientsParams::new();
    grads.register(module.a.id, tensor(&[7.0f32], [1, 1], &device));
    grads.register(module.b.id, tensor(&[bf16::ONE], [1], &device));
    let hi = tensor(&[1.0f32], [1], &device);
    let made = clip_gradients(&module, &mut grads, (None, &hi));
    assert!(matches!(made, Err(Error::TypeMismatch { .. })), "{made:?}");
    assert_eq!(elements::<f32, 2>(grads.remove(module.a.id).unwrap()), [7.0]);
}

/// Gradients of one module may be on several devices.
#[test]
fn gradients_on_two_devices_have_one_norm() {
    let [flex, other] = devices();
    let module = Two::new(&flex);
    let mut grads = GradientsParams::new();
    grads.register(module.a.id, tensor(&[3.0f32], [1, 1], &flex));
    grads.register(module.b.id, tensor(&[4.0f32], [1], &other));
    let norm = clip_by_global_norm(&module, &mut grads, 2.5).unwrap();
    assert_eq!(elements::<f32, 1>(norm), [5.0]);
    let b = grads.remove::<1>(module.b.id).unwrap();
    assert_eq!(b.device(), other);
    assert_eq!(elements::<f32, 1>(b), [2.0]);
    assert_eq!(elements::<f32, 2>(grads.remove(module.a.id).unwrap()), [1.5]);
}

/// Of f64 on the CPU a norm is an f64; a GPU has none.
#[test]
fn norms_of_f64() {
    let [flex, gpu] = devices();
    for (x, limit) in [([3e200, 4e200], 1.0), ([3e-200, 4e-200], 1e-200), ([1.0, 1.0 + 1e-12], 1.25)] {
        let expected = wgclip::Device::cpu().tensor(&x, [2]).unwrap();
        let expected = expected.clip_by_norm(limit, ..).unwrap().to_vec().unwrap();
        let made = clip_by_norm(tensor(&x, [2], &flex), limit).unwrap();
        assert_eq!(bits(&elements::<f64, 1>(made)), bits(&expected));
        let module = Two::new(&flex);
        let mut grads = GradientsParams::new();
        grads.register(module.b.id, tensor(&x, [2], &flex));
        let norm = clip_by_global_norm(&module, &mut grads, limit).unwrap();
        assert_eq!(elements::<f64, 1>(norm), [wgclip::reference::norm(&x, NormKind::L2)]);
        assert_eq!(bits(&elements::<f64, 1>(grads.remove(module.b.id).unwrap())), bits(&expected));
    }
    let x = || tensor(&[3.0f64, 4.0], [2], &gpu);
    assert!(matches!(clip_by_norm(x(), 1.0), Err(Error::Unsupported { .. })));
    let module = Two::new(&gpu);
    let mut grads = GradientsParams::new();
    grads.register(module.b.id, x());
    assert!(matches!(clip_by_global_norm(&module, &mut grads, 1.0), Err(Error::Unsupported { .. })));
    assert_eq!(elements::<f64, 1>(grads.remove(module.b.id).unwrap()), [3.0, 4.0]);
}

fn norm_of<T: Float>() {
    let rng = &mut fastrand::Rng::with_seed(10);
    for len in [1, 5, 1000, 70_001] {
        let (x, g) = (normal::<T>(len, rng), normal::<T>(len, rng));
        let cpu = wgclip::Device::cpu();
        let (of_x, of_g) = (cpu.tensor(&x, [len]).unwrap(), cpu.tensor(&g, [len]).unwrap());
        for limit in [0.5, 1e9] {
            let limit = NormLimit::new(limit).eps(1e-6);
            let y = of_x.clip_by_norm(limit, ..).unwrap().to_vec().unwrap();
            let gx = of_x.clip_by_norm_backward(&of_g, limit, ..).unwrap().to_vec().unwrap();
            for device in devices() {
                let made = clip_by_norm(tensor(&x, [len], &device), limit).unwrap();
                assert_eq!(bits(&elements::<T, 1>(made)), bits(&y), "{len} to {limit:?}");
                if T::TYPE != wgclip::ElementType::F32 {
                    continue;
                }
                let device = device.autodiff();
                let leaf = tensor(&x, [len], &device).require_grad();
                let loss = (clip_by_norm(leaf.clone(), limit).unwrap() * tensor(&g, [len], &device)).sum();
                let made = leaf.grad(&loss.backward()).unwrap();
                assert_eq!(bits(&elements::<T, 1>(made)), bits(&gx), "gradient of {len} to {limit:?}");
            }
        }
    }
}

#[test]
fn clipping_by_norm_is_that_of_the_library() {
    norm_of::<f32>();
    norm_of::<f16>();
    norm_of::<bf16>();
}

/// Where a gradient exists, it is what differences say.
#[test]
fn finite_differences() {
    let rng = &mut fastrand::Rng::with_seed(11);
    let (x, g) = (normal::<f32>(9, rng), normal::<f32>(9, rng));
    let device = Device::flex().autodiff();
    let loss = |x: &[f64]| -> f64 {
        let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt();
        x.iter().zip(&g).map(|(x, &g)| x * (2.0 / norm).min(1.0) * f64::from(g)).sum()
    };
    let leaf = tensor(&x, [9], &device).require_grad();
    let y = clip_by_norm(leaf.clone(), 2.0).unwrap() * tensor(&g, [9], &device);
    let gradient = elements::<f32, 1>(leaf.grad(&y.sum().backward()).unwrap());
    for n in 0..9 {
        let step = |by: f64| {
            let mut x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
            x[n] += by;
            loss(&x)
        };
        let expected = (step(1e-4) - step(-1e-4)) / 2e-4;
        assert!((f64::from(gradient[n]) - expected).abs() < 1e-5, "{n}: {} and {expected}", gradient[n]);
    }
}

#[test]
fn mistakes_are_errors() {
    let device = Device::flex();
    let module = Two::new(&device);
    for limit in [-1.0, f64::NAN] {
        let made = clip_by_global_norm(&module, &mut GradientsParams::new(), limit);
        assert!(matches!(made, Err(Error::InvalidLimit { .. })));
        assert!(matches!(SgdConfig::new().init().with_global_norm(limit), Err(Error::InvalidLimit { .. })));
    }
    let x = || tensor(&[1.0f32], [1], &device);
    let reads = NormLimit::new(1.0).nonfinite(NonFinitePolicy::Error);
    assert!(matches!(clip_by_norm(x(), reads), Err(Error::Unsupported { .. })));
    let made = clip_gradients(&module, &mut GradientsParams::new(), f64::NAN..=1.0);
    assert!(matches!(made, Err(Error::NanBound { .. })));
    let other = NormLimit::new(1.0).kind(NormKind::Max);
    assert!(matches!(clip_by_norm(x(), other), Err(Error::Unsupported { .. })));
}
