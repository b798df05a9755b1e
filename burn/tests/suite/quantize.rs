//! Fake quantisation, and layers that train with it.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use wgclip::reference;
use wgclip_burn::quantize::{QuantRule, Rounding, Scheme};
use wgclip_burn::{Error, FakeQuantize, LearnedFakeQuantize, Pact, fake_quantize};

use crate::support::{bits, devices, elements, normal, tensor};

/// Values and all gradients, by scales and zero points of each row.
#[test]
fn values_and_gradients_are_those_of_the_reference() {
    let rng = &mut fastrand::Rng::with_seed(5);
    for device in devices() {
        let device = device.autodiff();
        let random = QuantRule { rounding: Rounding::Stochastic, seed: 9, ..QuantRule::EXACT };
        let [three, four] = [QuantRule::EXACT.bits(3), QuantRule::BREVITAS_STE.bits(4)].map(Result::unwrap);
        for rule in [three, four, QuantRule::TORCH, random] {
            let [x, g]: [Vec<f32>; 2] = std::array::from_fn(|_| normal(3 * 67, rng));
            let scale = [0.5f32, 0.01, 3.0];
            let zero = [0.0f32, -2.0, 1.0];
            let (of_x, of_g) = (tensor(&x, [3, 67], &device).require_grad(), tensor(&g, [3, 67], &device));
            let of_scale = tensor(&scale, [3, 1], &device).require_grad();
            let of_zero = tensor(&zero, [3, 1], &device).require_grad();
            let y = fake_quantize(of_x.clone(), &of_scale, &of_zero, rule).unwrap();
            let grads = (y.clone() * of_g).sum().backward();
            let row = |n: usize| n / 67;
            let expected: Vec<f32> = (0..x.len())
                .map(|n| reference::fake_quantize(x[n], scale[row(n)], zero[row(n)], rule, n as u64))
                .collect();
            assert_eq!(bits(&elements::<f32, 2>(y)), bits(&expected), "{rule}");
            let each: Vec<[f32; 3]> = (0..x.len())
                .map(|n| {
                    reference::fake_quantize_backward(x[n], g[n], scale[row(n)], zero[row(n)], rule, n as u64)
                })
                .collect();
            let gx: Vec<f32> = each.iter().map(|[gx, ..]| *gx).collect();
            assert_eq!(bits(&elements::<f32, 2>(of_x.grad(&grads).unwrap())), bits(&gx), "{rule}");
            let summed = |index: usize| -> Vec<f32> {
                let rows = each.chunks(67);
                rows.map(|row| reference::sum(&row.iter().map(|each| each[index]).collect::<Vec<_>>()))
                    .collect()
            };
            for (of, index) in [(&of_scale, 1), (&of_zero, 2)] {
                let gradient = elements::<f32, 2>(of.grad(&grads).unwrap());
                assert_eq!(bits(&gradient), bits(&summed(index)), "{rule}, {index}");
            }
        }
    }
}

#[test]
fn mistakes_are_errors() {
    let x = tensor(&[1.0f32], [1], &Device::flex());
    let quantized = |scale: f64, rule| fake_quantize(x.clone(), scale, 0.0, rule).unwrap_err();
    let crossed = QuantRule { min: 1, max: 0, ..QuantRule::EXACT };
    assert!(matches!(quantized(1.0, crossed), Error::QuantRange { .. }));
    assert!(matches!(quantized(f64::NAN, QuantRule::EXACT), Error::NanBound { operand: "scale" }));
    let without = fake_quantize(x.clone(), None, 0.0, QuantRule::EXACT);
    assert!(matches!(without, Err(Error::Unsupported { .. })));
    let device = &Device::flex();
    assert!(FakeQuantize::new(crossed, Scheme::Affine, 0.1, device).is_err());
    assert!(LearnedFakeQuantize::new(1.0, 0, QuantRule::EXACT, device).is_err());
    assert!(LearnedFakeQuantize::new(f64::NAN, 1, QuantRule::EXACT, device).is_err());
    assert!(Pact::new(1, 6.0, 1, device).is_err());
}

/// As torch's moving average does: of the first batch, then a tenth of the way to each.
#[test]
fn an_observed_range_moves_in_training_alone() {
    for device in devices() {
        let layer =
            FakeQuantize::new(QuantRule::EXACT, Scheme::Symmetric, 0.1, &device.clone().autodiff()).unwrap();
        let run = |x: [f32; 3], device: &Device| elements::<f32, 1>(layer.forward(tensor(&x, [3], device)));
        let training = device.clone().autodiff();
        assert_eq!(run([0.3, 1.0, -2.0], &device), [0.3, 1.0, -2.0], "without a range");
        let step = |range: f32, x: f32| {
            let scale = range / 127.0;
            (x / scale).round_ties_even() * scale
        };
        assert_eq!(run([0.3, 1.0, -1.27], &training), [0.3, 1.0, -1.27].map(|x| step(1.27, x)));
        // The least moves from -1.27 to -1.27 + 0.1 * (-11.27 + 1.27) = -2.27, and x is clipped to the code -128 of 127.
        let moved = run([-11.27, 0.0, 0.0], &training)[0];
        assert!((moved + 2.27 * 128.0 / 127.0).abs() < 1e-5, "{moved}");
        assert_eq!(run([-90.0, 0.0, 0.0], &device)[0], moved);
        assert_eq!(layer.valid().range.value_sync().dims(), [2]);
    }
}

#[test]
fn scales_learn() {
    for device in devices() {
        let device = device.autodiff();
        let rule = QuantRule::EXACT.bits(4).unwrap();
        let x = tensor(&[1.0f32, -2.0, 30.0, 0.0], [2, 2], &device).require_grad();
        let layer = LearnedFakeQuantize::of(&x, rule).unwrap();
        let scale = elements::<f32, 1>(layer.scale.val())[0];
        assert!((f64::from(scale) - 2.0 * 8.25 / 7f64.sqrt()).abs() < 1e-5, "{scale}");
        let layer = LearnedFakeQuantize::new(1.0, 2, rule, &device).unwrap().with_learned_zero_point();
        let y = layer.forward(x.clone());
        assert_eq!(elements::<f32, 2>(y.clone()), [1.0, -2.0, 7.0, 0.0]);
        let grads = (y * 3.0).sum().backward();
        assert_eq!(elements::<f32, 2>(x.grad(&grads).unwrap()), [3.0, 3.0, 0.0, 3.0]);
        // Two elements share a scale, the greatest code is 7.
        let factor = (1.0 / 14f64.sqrt()) as f32;
        let of_scale = elements::<f32, 1>(layer.scale.val().grad(&grads).unwrap());
        let of_zero = elements::<f32, 1>(layer.zero_point.as_ref().unwrap().val().grad(&grads).unwrap());
        for (gradient, expected) in [(&of_scale, 21.0), (&of_zero, -3.0)] {
            assert!((gradient[0] - expected * factor).abs() < 1e-5 && gradient[1] == 0.0, "{gradient:?}");
        }
    }
}

#[test]
fn a_learned_bound_is_the_greatest_code() {
    for device in devices() {
        let device = device.autodiff();
        let layer = Pact::new(2, 6.0, 1, &device).unwrap();
        let x = tensor(&[-1.0f32, 0.9, 1.1, 5.0, 6.0, 9.0], [6], &device).require_grad();
        let y = layer.forward(x.clone());
        assert_eq!(elements::<f32, 1>(y.clone()), [0.0, 0.0, 2.0, 4.0, 6.0, 6.0]);
        let grads = (y * 3.0).sum().backward();
        assert_eq!(elements::<f32, 1>(x.grad(&grads).unwrap()), [0.0, 3.0, 3.0, 3.0, 0.0, 0.0]);
        let of_bound: Tensor<1> = layer.clip.hi.val().grad(&grads).unwrap();
        assert_eq!(elements::<f32, 1>(of_bound), [6.0]);
    }
}
