//! Bounds that are tensors, masks, and activations.

use crate::devices::Suite;
use wgclip::reference;
use wgclip::{
    BackwardRule, Bounds, Device, Element, Error, NanRule, NeedsGrad, OutsideRule, TieRule, bf16, f16,
};

use wgclip::gpu::Adapter;

use crate::devices::{open, seed, with_tiny_limits};

fn random<T: Element>(rng: &mut fastrand::Rng, len: usize) -> Vec<T> {
    (0..len).map(|_| T::from_bits(rng.u64(..))).collect()
}

fn bounds_that_do_not_broadcast_are_errors_that_say_so(device: Device) {
    let mut x = device.tensor(&[0.5f32; 6], [2, 3]).unwrap();
    let g = x.clone();
    for dims in [&[2][..], &[2, 2], &[1, 2, 3], &[4, 3], &[0]] {
        let bound = device.tensor(&vec![0.0f32; dims.iter().product()], dims).unwrap();
        let bounds = Bounds::new(0.0, &bound).unwrap();
        let is_it = |error: Error| {
            assert!(
                matches!(error, Error::BroadcastMismatch { operand: "upper bound", .. }),
                "{dims:?}: {error}"
            );
        };
        is_it(x.clip(&bounds).unwrap_err());
        is_it(x.clip_in_place(&bounds).unwrap_err());
        is_it(x.clip_with_mask(&bounds, BackwardRule::default()).unwrap_err());
        for rule in BackwardRule::all() {
            is_it(x.clip_backward(&g, &bounds, rule).unwrap_err());
        }
        is_it(x.clip_backward_bounds(&g, &bounds, BackwardRule::default(), NeedsGrad::BOTH).unwrap_err());
    }
    assert_eq!(x.to_vec().unwrap(), [0.5; 6], "{device:?}");

    let absent = Bounds::at_most(1.0).unwrap();
    let error = x.clip_backward_bounds(&g, &absent, BackwardRule::default(), NeedsGrad::LO).unwrap_err();
    assert_eq!(error, Error::NoBound { operand: "lower bound" });

    let elsewhere = Device::cpu().tensor(&[0.0f32; 3], [3]).unwrap();
    if device.info().kind != wgclip::device::DeviceKind::Cpu {
        let error = x.clip(Bounds::at_least(elsewhere).unwrap()).unwrap_err();
        assert!(matches!(error, Error::DeviceMismatch { .. }), "{error}");
    }
}

/// A bound that broadcasts but is larger than a binding.
fn what_a_gpu_cannot_bind_is_refused_and_nothing_is_changed(adapter: Adapter) {
    let device = open(&adapter, with_tiny_limits(&adapter));
    let len = 32 * 1024;
    let mut x = device.tensor(&vec![2.0f32; 2 * len], [2, len]).unwrap();
    let bound = device.tensor(&vec![1.0f32; len], [len]).unwrap();
    let error = x.clip_in_place(Bounds::at_most(&bound).unwrap()).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    assert!(x.to_vec().unwrap().iter().all(|&v| v == 2.0));
}

/// More strides than a kernel takes.
fn too_many_axes_are_an_error(device: Device) {
    let dims = [2, 3, 2, 3, 2, 3, 2, 3, 2];
    let x = device.tensor(&[2.0f32; 2592], dims).unwrap();
    let bound = device.tensor(&[1.0f32; 32], [2, 1, 2, 1, 2, 1, 2, 1, 2]).unwrap();
    let error = x.clip(Bounds::at_most(bound).unwrap()).unwrap_err();
    assert!(matches!(error, Error::TooManyAxes { axes: 9, .. }), "{error}");
}

fn a_mask_is_one_bit_per_element_and_no_longer_needs_x(device: Device) {
    let len = 1 << 16;
    let x: Vec<f32> = (0..len).map(|i| i as f32).collect();
    let bounds = Bounds::new(10.0, 20.0).unwrap();
    let upstream = device.tensor(&vec![3.0f32; len], [len]).unwrap();
    let tensor = device.tensor(&x, [len]).unwrap();
    let (y, mask) = tensor.clip_with_mask(&bounds, BackwardRule::default()).unwrap();
    drop((tensor, y));
    assert_eq!(mask.bytes(), len as u64 / 8, "{device:?}");
    let gx = mask.backward(&upstream).unwrap().to_vec().unwrap();
    assert_eq!(gx.iter().filter(|&&g| g == 3.0).count(), 11, "{device:?}");
    let other = device.tensor(&[0.0], [1]).unwrap();
    assert!(matches!(mask.backward(&other), Err(Error::ShapeMismatch { .. })));

    // Every rule is one that fits, or an error.
    let x = device.tensor(&x, [len]).unwrap();
    for rule in BackwardRule::all() {
        match x.clip_with_mask(&bounds, rule) {
            Ok((_, mask)) => {
                assert!(rule.fits_mask(), "{rule}");
                let of_mask = mask.backward(&upstream).unwrap().to_vec().unwrap();
                let of_x = x.clip_backward(&upstream, &bounds, rule).unwrap().to_vec().unwrap();
                assert_eq!(of_mask, of_x, "{rule}");
                assert!(!rule.is_identity() || mask.bytes() == 0);
            }
            Err(error) => {
                assert!(!rule.fits_mask(), "{rule}");
                assert!(matches!(error, Error::RuleWithoutKernel { .. }), "{error}");
            }
        }
    }
}

/// The straight-through gradient of x, next to those of the bounds.
fn the_identity_rule_shares_the_upstream_gradient(device: Device) {
    let x = device.tensor(&[-1.0f32, 0.5, 2.0], [3]).unwrap();
    let g = device.tensor(&[3.0f32, 5.0, 7.0], [3]).unwrap();
    let rule = BackwardRule { outside: OutsideRule::StraightThrough, ..BackwardRule::default() };
    let grads = x.clip_backward_bounds(&g, 0.0..=1.0, rule, NeedsGrad::HI).unwrap();
    assert_eq!(grads.x.to_vec().unwrap(), [3.0, 5.0, 7.0]);
    assert_eq!(grads.hi.unwrap().to_vec().unwrap(), [7.0]);
    assert!(grads.lo.is_none());
}

fn an_upstream_gradient_that_is_shared_stays(device: Device) {
    let x = device.tensor(&[-1i16, 5, 20], [3]).unwrap();
    let bounds = Bounds::new(0, 10).unwrap();
    let mut g = device.tensor(&[1i16, 2, 3], [3]).unwrap();
    let kept = g.clone();
    x.clip_backward_in_place(&mut g, &bounds, BackwardRule::default()).unwrap();
    assert_eq!((g.to_vec().unwrap(), kept.to_vec().unwrap()), (vec![0, 2, 0], vec![1, 2, 3]), "{device:?}");
    let (_, mask) = x.clip_with_mask(&bounds, BackwardRule::default()).unwrap();
    let mut g = kept.clone();
    mask.backward_in_place(&mut g).unwrap();
    assert_eq!((g.to_vec().unwrap(), kept.to_vec().unwrap()), (vec![0, 2, 0], vec![1, 2, 3]), "{device:?}");
}

fn hard_sigmoid_is_exact<T: Element>(device: &Device) {
    let rng = &mut fastrand::Rng::with_seed(seed());
    let x = random::<T>(rng, 1 << 16);
    let value = |value| Some(T::from_f64(value));
    let y = device.tensor(&x, [x.len()]).unwrap().hard_sigmoid().unwrap().to_vec().unwrap();
    let g = random::<T>(rng, x.len());
    let upstream = device.tensor(&g, [x.len()]).unwrap();
    let tensor = device.tensor(&x, [x.len()]).unwrap();
    let gx = tensor.hard_sigmoid_backward(&upstream).unwrap().to_vec().unwrap();
    let rule = BackwardRule { ties: TieRule::Exclusive, nan: NanRule::Zero, ..BackwardRule::default() };
    for i in 0..x.len() {
        let expected = reference::clip(reference::affine(x[i], 1.0 / 6.0, 0.5), value(0.0), value(1.0));
        assert_eq!(y[i].to_bits(), expected.to_bits(), "{device:?}, {} {:?}", T::TYPE, x[i]);
        let scaled = reference::affine(g[i], 1.0 / 6.0, -0.0);
        let expected = reference::clip_backward(x[i], scaled, value(-3.0), value(3.0), rule);
        assert_eq!(gx[i].to_bits(), expected.to_bits(), "{device:?}, {} x {:?} g {:?}", T::TYPE, x[i], g[i]);
    }
}

fn activations_are_those_of_pytorch(device: Device) {
    let x = device.tensor(&[-2.0f32, 0.0, 1.0, 6.0, 7.0, f32::NAN], [6]).unwrap();
    let g = device.tensor(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], [6]).unwrap();
    assert_eq!(x.relu().unwrap().to_vec().unwrap()[..5], [0.0, 0.0, 1.0, 6.0, 7.0]);
    assert_eq!(x.relu_backward(&g).unwrap().to_vec().unwrap(), [0.0, 0.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(x.relu6().unwrap().to_vec().unwrap()[..5], [0.0, 0.0, 1.0, 6.0, 6.0]);
    assert_eq!(x.relu6_backward(&g).unwrap().to_vec().unwrap(), [0.0, 0.0, 3.0, 0.0, 0.0, 6.0]);
    assert_eq!(x.hardtanh(-1.0, 1.0).unwrap().to_vec().unwrap()[..5], [-1.0, 0.0, 1.0, 1.0, 1.0]);
    let hardtanh = x.hardtanh_backward(&g, -1.0, 1.0).unwrap();
    assert_eq!(hardtanh.to_vec().unwrap(), [0.0, 2.0, 0.0, 0.0, 0.0, 6.0]);
    let sigmoid = x.hard_sigmoid_backward(&g).unwrap();
    assert_eq!(sigmoid.to_vec().unwrap(), [1.0 / 6.0, 1.0 / 3.0, 0.5, 0.0, 0.0, 0.0]);
    let integers = device.tensor(&[1u8], [1]).unwrap().hard_sigmoid().unwrap_err();
    assert!(matches!(integers, Error::Unsupported { .. }), "{integers}");

    hard_sigmoid_is_exact::<f32>(&device);
    hard_sigmoid_is_exact::<f16>(&device);
    hard_sigmoid_is_exact::<bf16>(&device);
}

fn what_is_converted_is_a_float(device: Device) {
    let x = device.tensor(&[-300i32, 5, 300], [3, 1]).unwrap();
    let error = x.clip_to::<f32>(-1..=9).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("clip_to from i32 to f32"), "{error}");
    assert_eq!(x.clip_to::<i32>(-1..=9).unwrap().to_vec().unwrap(), [-1, 5, 9], "its own type is no other");
    let floats = device.tensor(&[0.5f32], [1]).unwrap();
    assert!(matches!(floats.clip_to::<u8>(0.0..), Err(Error::Unsupported { .. })));
    let y = floats.clip_to::<f64>(0.0..).unwrap();
    assert_eq!((y.shape().dims(), y.to_vec().unwrap()), (&[1][..], vec![0.5f64]));
    let none = device.tensor::<f32>(&[], [0, 4]).unwrap().clip_to::<f16>(..=1.0).unwrap();
    assert_eq!((none.shape().dims(), none.to_vec().unwrap().len()), (&[0, 4][..], 0));
    // What was made is a tensor like others.
    let again = y.clip_to::<f16>((0.0, &y)).unwrap().clip(..=f16::ZERO).unwrap();
    assert_eq!(again.to_vec().unwrap(), [f16::ZERO]);
}

pub(crate) fn register(suite: &mut Suite) {
    suite.per_adapter(&[(
        "operands::what_a_gpu_cannot_bind_is_refused_and_nothing_is_changed",
        what_a_gpu_cannot_bind_is_refused_and_nothing_is_changed,
    )]);
    suite.per_device(&[
        (
            "operands::bounds_that_do_not_broadcast_are_errors_that_say_so",
            bounds_that_do_not_broadcast_are_errors_that_say_so,
        ),
        ("operands::too_many_axes_are_an_error", too_many_axes_are_an_error),
        (
            "operands::a_mask_is_one_bit_per_element_and_no_longer_needs_x",
            a_mask_is_one_bit_per_element_and_no_longer_needs_x,
        ),
        (
            "operands::the_identity_rule_shares_the_upstream_gradient",
            the_identity_rule_shares_the_upstream_gradient,
        ),
        ("operands::an_upstream_gradient_that_is_shared_stays", an_upstream_gradient_that_is_shared_stays),
        ("operands::what_is_converted_is_a_float", what_is_converted_is_a_float),
        ("operands::activations_are_those_of_pytorch", activations_are_those_of_pytorch),
    ]);
}
