//! Tensors as their users meet them: sharing, mistakes, and a lost device.

use pollster::block_on;
use wgclip::{Bounds, Device, Error, Gradient, Outside};

use crate::devices::{gpu_adapters, gpus};

fn unit() -> Bounds<f32> {
    Bounds::new(0.0, 1.0).unwrap()
}

fn every_device() -> Vec<Device> {
    std::iter::once(Device::cpu()).chain(gpus()).collect()
}

#[test]
fn clones_keep_their_elements_when_one_is_clipped_in_place() {
    for device in every_device() {
        let mut x = device.tensor(&[-1.0f32, 0.5, 2.0], [3]).unwrap();
        let kept = x.clone();
        x.clip_in_place(&unit()).unwrap();
        assert_eq!(x.to_vec().unwrap(), [0.0, 0.5, 1.0], "{device:?}");
        assert_eq!(kept.to_vec().unwrap(), [-1.0, 0.5, 2.0], "{device:?}");
        x.clip_in_place(&Bounds::max(0.25).unwrap()).unwrap();
        assert_eq!(x.into_vec().unwrap(), [0.0, 0.25, 0.25], "{device:?}");
    }
}

#[test]
fn reads_blocking_and_async_agree_many_at_once() {
    for device in every_device() {
        let x = device.tensor_from_vec(vec![-1.0f32, 0.5, 2.0], [3, 1]).unwrap();
        let y = x.clip(&unit()).unwrap();
        let reads = block_on(async {
            let (mut first, mut second) = (Box::pin(x.read()), Box::pin(y.read()));
            // Both in flight, awaited in the other order.
            let second = second.as_mut().await;
            (first.as_mut().await, second)
        });
        assert_eq!(reads, (Ok(vec![-1.0, 0.5, 2.0]), Ok(vec![0.0, 0.5, 1.0])), "{device:?}");
        assert_eq!(y.to_vec(), reads.1);
        assert_eq!(y.shape().dims(), [3, 1]);
    }
}

#[test]
fn empty_and_scalar_tensors_work() {
    for device in every_device() {
        let empty = device.tensor::<f32>(&[], [4, 0]).unwrap();
        let clipped = empty.clip(&unit()).unwrap();
        assert_eq!(clipped.to_vec().unwrap(), [0.0; 0], "{device:?}");
        assert_eq!(clipped.shape().dims(), [4, 0]);
        let scalar = device.tensor(&[7.0f32], []).unwrap();
        assert_eq!(scalar.clip(&unit()).unwrap().to_vec().unwrap(), [1.0], "{device:?}");
    }
}

#[test]
fn mistakes_are_errors_that_say_what_to_do() {
    for device in every_device() {
        let wrong_len = device.tensor(&[0.0f32; 5], [2, 3]).unwrap_err();
        assert_eq!(wrong_len, Error::LengthMismatch { shape: vec![2, 3], expected: 6, actual: 5 });

        let (x, g) =
            (device.tensor(&[0.0f32; 6], [2, 3]).unwrap(), device.tensor(&[0.0f32; 6], [6]).unwrap());
        for rule in Gradient::all() {
            let error = x.clip_grad(&g, &unit(), rule).unwrap_err();
            assert_eq!(error, Error::ShapeMismatch { left: vec![2, 3], right: vec![6] });
        }
    }
}

#[test]
fn tensors_of_two_devices_do_not_mix() {
    let straight = Gradient { outside: Outside::StraightThrough, ..Gradient::default() };
    let on = |device: &Device| device.tensor(&[0.0f32; 6], [6]).unwrap();
    // Two devices of one adapter are two devices.
    for (a, b) in gpus().iter().zip(&gpus()) {
        for (left, right) in [(on(a), on(b)), (on(a), on(&Device::cpu())), (on(&Device::cpu()), on(b))] {
            for rule in [Gradient::default(), straight] {
                let error = left.clip_grad(&right, &unit(), rule).unwrap_err();
                assert!(matches!(error, Error::DeviceMismatch { .. }), "{error}");
            }
        }
    }
}

#[test]
fn straight_through_shares_the_upstream_gradient() {
    let straight = Gradient { outside: Outside::StraightThrough, ..Gradient::default() };
    for device in every_device() {
        let x = device.tensor(&[-1.0f32, 2.0], [2]).unwrap();
        let g = device.tensor(&[3.0f32, f32::INFINITY], [2]).unwrap();
        let mut gx = x.clip_grad(&g, &unit(), straight).unwrap();
        assert_eq!(gx.to_vec().unwrap(), [3.0, f32::INFINITY]);
        gx.clip_in_place(&unit()).unwrap();
        assert_eq!(g.to_vec().unwrap(), [3.0, f32::INFINITY], "{device:?}: g was written");
    }
}

#[test]
fn a_tensor_too_large_for_a_buffer_is_an_error_and_the_device_goes_on() {
    for adapter in gpu_adapters() {
        let limits = wgpu::Limits { max_buffer_size: 1 << 20, ..adapter.limits() };
        let device = crate::devices::open(&adapter, limits);
        let just_fits = vec![2.0f32; 1 << 18];
        let error = device.tensor(&[&just_fits[..], &[0.0]].concat(), [(1 << 18) + 1]).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
        let x = device.tensor(&just_fits, [1 << 18]).unwrap();
        assert!(x.clip(&unit()).unwrap().to_vec().unwrap().iter().all(|&y| y == 1.0));
    }
}

#[test]
fn everything_may_be_sent_to_and_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>(_: T) {}
    shared::<Device>();
    shared::<wgclip::Tensor<f32>>();
    shared::<wgclip::gpu::Context>();
    shared::<wgclip::gpu::Buffer>();
    shared::<Error>();
    sent(Device::cpu().tensor(&[0.0f32], [1]).unwrap().read());
    sent(Device::request("cpu"));
}
