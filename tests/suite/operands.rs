//! Bounds that are tensors, what a clip saves, and clips with a name.

use wgclip::reference;
use wgclip::{
    Accumulator, Bounds, Device, Element, ElementType, Error, Gradient, NanGradient, Outside, Ties, Wanted,
    bf16, f16, with_element,
};

use crate::conformance::seed;
use crate::devices::gpus;

fn every_device() -> Vec<Device> {
    std::iter::once(Device::cpu()).chain(gpus()).collect()
}

fn random<T: Element>(rng: &mut fastrand::Rng, len: usize) -> Vec<T> {
    (0..len).map(|_| T::from_bits(rng.u64(..))).collect()
}

/// `gx + glo + ghi == g`: each element's gradient goes to its operands and nowhere else. Compared as selections and
/// halves, since adding floats would round: of the three one is g, or they are halves.
fn gradients_add_up<T: Element>() {
    let rng = &mut fastrand::Rng::with_seed(seed());
    let values = random::<T>(rng, 12);
    for _ in 0..20_000 {
        let pick = |rng: &mut fastrand::Rng| match rng.bool() {
            true => values[rng.usize(..values.len())],
            false => T::from_bits(rng.u64(..)),
        };
        let (x, g) = (pick(rng), pick(rng));
        let (lo, hi) = (rng.bool().then(|| pick(rng)), rng.bool().then(|| pick(rng)));
        for &ties in Ties::ALL {
            let rule = Gradient { ties, ..Gradient::default() };
            let grads = reference::clip_grads(x, g, lo, hi, rule);
            let parts = [grads.x, grads.lo, grads.hi];
            let whole = parts.iter().filter(|part| part.to_bits() == g.to_bits()).count();
            let none = parts.iter().filter(|part| part.to_bits() == 0).count();
            let what = format!("{} x {x:?} g {g:?} in {lo:?}, {hi:?}, {ties}", T::TYPE);
            if whole >= 1 && none == 2 || g.to_bits() == 0 && none == 3 {
                continue;
            }
            assert_eq!(ties, Ties::Half, "{what}: {parts:?}");
            let half = (g.halve(), g.other_half());
            if g.is_nan() || g.halve().to_bits() == g.to_bits() {
                // NaN, infinities and zeros are their own halves.
                assert!(whole + none == 3, "{what}: {parts:?}");
            } else if !T::TYPE.is_float() {
                let sum = parts.into_iter().map(T::to_sum).fold(T::Sum::NONE, T::Sum::add);
                assert_eq!(T::from_sum(sum).to_bits(), g.to_bits(), "{what}: {parts:?}");
            } else if x.is_nan() || parts.iter().any(|part| part.to_bits() == half.1.to_bits()) {
                // Half to one side; the other half is the others', exactly unless it is an odd subnormal.
                let small = g.to_bits() & (T::TYPE.format().sign() - 1) < 4 * T::TYPE.format().normal();
                let sum = parts.into_iter().map(T::to_sum).fold(T::Sum::NONE, T::Sum::add);
                assert!(small || T::from_sum(sum).to_bits() == g.to_bits(), "{what}: {parts:?}");
            } else {
                panic!("{what}: {parts:?}");
            }
        }
    }
}

#[test]
fn gradients_of_the_operands_add_up_for_every_type() {
    for &element in ElementType::ALL {
        with_element!(element, T => gradients_add_up::<T>());
    }
}

#[test]
fn bounds_that_do_not_broadcast_are_errors_that_say_so() {
    for device in every_device() {
        let mut x = device.tensor(&[0.5f32; 6], [2, 3]).unwrap();
        let g = x.clone();
        for dims in [&[2][..], &[2, 2], &[1, 2, 3], &[4, 3], &[0]] {
            let bound = device.tensor(&vec![0.0f32; dims.iter().product()], dims).unwrap();
            let bounds = Bounds::new(0.0, &bound).unwrap();
            let is_it = |error: Error| {
                assert!(matches!(error, Error::BroadcastMismatch { side: "upper", .. }), "{dims:?}: {error}");
            };
            is_it(x.clip(&bounds).unwrap_err());
            is_it(x.clip_in_place(&bounds).unwrap_err());
            is_it(x.clip_saving(&bounds, Gradient::default()).unwrap_err());
            for rule in Gradient::all() {
                is_it(x.clip_grad(&g, &bounds, rule).unwrap_err());
            }
            is_it(x.clip_grads(&g, &bounds, Gradient::default(), Wanted::BOTH).unwrap_err());
        }
        assert_eq!(x.to_vec().unwrap(), [0.5; 6], "{device:?}");

        let absent = Bounds::max(1.0).unwrap();
        let error = x.clip_grads(&g, &absent, Gradient::default(), Wanted::LO).unwrap_err();
        assert_eq!(error, Error::NoBound { side: "lower" });

        let elsewhere = Device::cpu().tensor(&[0.0f32; 3], [3]).unwrap();
        if device.info().kind != wgclip::DeviceKind::Cpu {
            let error = x.clip(&Bounds::min(elsewhere).unwrap()).unwrap_err();
            assert!(matches!(error, Error::DeviceMismatch { .. }), "{error}");
        }
    }
}

/// More strides than a kernel takes, and a bound that broadcasts but is larger than a binding.
#[test]
fn what_a_gpu_cannot_bind_is_refused_and_nothing_is_changed() {
    for device in crate::devices::tight_gpus() {
        let len = 32 * 1024;
        let mut x = device.tensor(&vec![2.0f32; 2 * len], [2, len]).unwrap();
        let bound = device.tensor(&vec![1.0f32; len], [len]).unwrap();
        let error = x.clip_in_place(&Bounds::max(&bound).unwrap()).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(x.to_vec().unwrap().iter().all(|&v| v == 2.0));
    }
    for device in every_device() {
        let dims = [2, 3, 2, 3, 2, 3, 2, 3, 2];
        let x = device.tensor(&[2.0f32; 2592], dims).unwrap();
        let bound = device.tensor(&[1.0f32; 32], [2, 1, 2, 1, 2, 1, 2, 1, 2]).unwrap();
        let error = x.clip(&Bounds::max(bound).unwrap()).unwrap_err();
        assert!(matches!(error, Error::TooManyAxes { axes: 9, .. }), "{error}");
    }
}

#[test]
fn a_mask_is_a_bit_an_element_and_needs_x_no_more() {
    for device in every_device() {
        let len = 1 << 16;
        let x: Vec<f32> = (0..len).map(|i| i as f32).collect();
        let bounds = Bounds::new(10.0, 20.0).unwrap();
        let upstream = device.tensor(&vec![3.0f32; len], [len]).unwrap();
        let tensor = device.tensor(&x, [len]).unwrap();
        let (y, saved) = tensor.clip_saving(&bounds, Gradient::default()).unwrap();
        drop((tensor, y));
        assert_eq!(saved.mask_bytes(), len as u64 / 8, "{device:?}");
        let gx = saved.backward(&upstream).unwrap().to_vec().unwrap();
        assert_eq!(gx.iter().filter(|&&g| g == 3.0).count(), 11, "{device:?}");
        assert_eq!(saved.backward_all(&upstream, Wanted::HI).unwrap_err(), Error::NotSaved);
        assert!(matches!(
            saved.backward(&device.tensor(&[0.0], [1]).unwrap()),
            Err(Error::ShapeMismatch { .. })
        ));

        // What one bit cannot tell keeps the inputs.
        let x = device.tensor(&x, [len]).unwrap();
        let half = Gradient { ties: Ties::Half, ..Gradient::default() };
        let (_, saved) = x.clip_saving(&bounds, half).unwrap();
        assert_eq!(saved.mask_bytes(), 0);
        assert_eq!(saved.backward(&upstream).unwrap().to_vec().unwrap()[10], 1.5);
        let (_, saved) = x.clip_saving_inputs(&bounds, Gradient::default()).unwrap();
        let grads = saved.backward_all(&upstream, Wanted::BOTH).unwrap();
        assert_eq!(grads.lo.unwrap().to_vec().unwrap(), [30.0]);
        assert_eq!(grads.hi.unwrap().to_vec().unwrap(), [3.0 * (len - 21) as f32]);
        let straight = Gradient { outside: Outside::StraightThrough, ..Gradient::default() };
        let (_, saved) = x.clip_saving(&bounds, straight).unwrap();
        assert_eq!((saved.mask_bytes(), saved.backward(&upstream).unwrap().to_vec().unwrap()[0]), (0, 3.0));
    }
}

#[test]
fn an_upstream_gradient_that_is_shared_stays() {
    for device in every_device() {
        let x = device.tensor(&[-1i16, 5, 20], [3]).unwrap();
        let bounds = Bounds::new(0, 10).unwrap();
        let mut g = device.tensor(&[1i16, 2, 3], [3]).unwrap();
        let kept = g.clone();
        x.clip_grad_in_place(&mut g, &bounds, Gradient::default()).unwrap();
        assert_eq!(
            (g.to_vec().unwrap(), kept.to_vec().unwrap()),
            (vec![0, 2, 0], vec![1, 2, 3]),
            "{device:?}"
        );
        let (_, saved) = x.clip_saving(&bounds, Gradient::default()).unwrap();
        let mut g = kept.clone();
        saved.backward_in_place(&mut g).unwrap();
        assert_eq!(
            (g.to_vec().unwrap(), kept.to_vec().unwrap()),
            (vec![0, 2, 0], vec![1, 2, 3]),
            "{device:?}"
        );
    }
}

fn hard_sigmoid_is_exact<T: Element<Sum = f32>>(device: &Device) {
    let rng = &mut fastrand::Rng::with_seed(seed());
    let x = random::<T>(rng, 1 << 16);
    let constant = |value| T::Sum::constant(value).unwrap();
    let (sixth, half, nothing) = (constant(1.0 / 6.0), constant(0.5), constant(-0.0));
    let value = |text| Bounds::<T>::parse(Some(text), None).unwrap().lo().value();
    let y = device.tensor(&x, [x.len()]).unwrap().hard_sigmoid().unwrap().to_vec().unwrap();
    let g = random::<T>(rng, x.len());
    let upstream = device.tensor(&g, [x.len()]).unwrap();
    let tensor = device.tensor(&x, [x.len()]).unwrap();
    let gx = tensor.hard_sigmoid_grad(&upstream).unwrap().to_vec().unwrap();
    let rule = Gradient { ties: Ties::Exclusive, nan: NanGradient::Zero, ..Gradient::default() };
    for i in 0..x.len() {
        let expected = reference::clip(reference::affine(x[i], sixth, half), value("0"), value("1"));
        assert_eq!(y[i].to_bits(), expected.to_bits(), "{device:?}, {} {:?}", T::TYPE, x[i]);
        let scaled = reference::affine(g[i], sixth, nothing);
        let expected = reference::clip_grad(x[i], scaled, value("-3"), value("3"), rule);
        assert_eq!(gx[i].to_bits(), expected.to_bits(), "{device:?}, {} x {:?} g {:?}", T::TYPE, x[i], g[i]);
    }
}

#[test]
fn clips_with_a_name_are_those_of_pytorch() {
    for device in every_device() {
        let x = device.tensor(&[-2.0f32, 0.0, 1.0, 6.0, 7.0, f32::NAN], [6]).unwrap();
        let g = device.tensor(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], [6]).unwrap();
        assert_eq!(x.relu().unwrap().to_vec().unwrap()[..5], [0.0, 0.0, 1.0, 6.0, 7.0]);
        assert_eq!(x.relu_grad(&g).unwrap().to_vec().unwrap(), [0.0, 0.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(x.relu6().unwrap().to_vec().unwrap()[..5], [0.0, 0.0, 1.0, 6.0, 6.0]);
        assert_eq!(x.relu6_grad(&g).unwrap().to_vec().unwrap(), [0.0, 0.0, 3.0, 0.0, 0.0, 6.0]);
        assert_eq!(x.hardtanh(-1.0, 1.0).unwrap().to_vec().unwrap()[..5], [-1.0, 0.0, 1.0, 1.0, 1.0]);
        let hardtanh = x.hardtanh_grad(&g, -1.0, 1.0).unwrap();
        assert_eq!(hardtanh.to_vec().unwrap(), [0.0, 2.0, 0.0, 0.0, 0.0, 6.0]);
        let sigmoid = x.hard_sigmoid_grad(&g).unwrap();
        assert_eq!(sigmoid.to_vec().unwrap(), [1.0 / 6.0, 1.0 / 3.0, 0.5, 0.0, 0.0, 0.0]);
        let integers = device.tensor(&[1u8], [1]).unwrap().hard_sigmoid().unwrap_err();
        assert!(matches!(integers, Error::Unsupported { .. }), "{integers}");

        hard_sigmoid_is_exact::<f32>(&device);
        hard_sigmoid_is_exact::<f16>(&device);
        hard_sigmoid_is_exact::<bf16>(&device);
    }
}
