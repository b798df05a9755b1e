//! Tensors as their users meet them: sharing, mistakes, and a lost device.

use crate::devices::Suite;
use pollster::block_on;
use wgclip::{BackwardRule, Bounds, Device, Error, OutsideRule};

use wgclip::gpu::Adapter;

use crate::devices::open;

fn unit() -> Bounds<f32> {
    Bounds::new(0.0, 1.0).unwrap()
}

fn clones_keep_their_elements_when_one_is_clipped_in_place(device: Device) {
    let mut x = device.tensor(&[-1.0f32, 0.5, 2.0], [3]).unwrap();
    let kept = x.clone();
    x.clip_in_place(unit()).unwrap();
    assert_eq!(x.to_vec().unwrap(), [0.0, 0.5, 1.0], "{device:?}");
    assert_eq!(kept.to_vec().unwrap(), [-1.0, 0.5, 2.0], "{device:?}");
    x.clip_in_place(Bounds::at_most(0.25).unwrap()).unwrap();
    assert_eq!(x.into_vec().unwrap(), [0.0, 0.25, 0.25], "{device:?}");
}

fn reads_blocking_and_async_agree_many_at_once(device: Device) {
    let x = device.tensor_from_vec(vec![-1.0f32, 0.5, 2.0], [3, 1]).unwrap();
    let y = x.clip(unit()).unwrap();
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

fn empty_and_scalar_tensors_work(device: Device) {
    let empty = device.tensor::<f32>(&[], [4, 0]).unwrap();
    let clipped = empty.clip(unit()).unwrap();
    assert_eq!(clipped.to_vec().unwrap(), [0.0; 0], "{device:?}");
    assert_eq!(clipped.shape().dims(), [4, 0]);
    let scalar = device.tensor(&[7.0f32], []).unwrap();
    assert_eq!(scalar.clip(unit()).unwrap().to_vec().unwrap(), [1.0], "{device:?}");
}

fn mistakes_are_errors_that_say_what_to_do(device: Device) {
    let wrong_len = device.tensor(&[0.0f32; 5], [2, 3]).unwrap_err();
    assert_eq!(wrong_len, Error::LengthMismatch { shape: vec![2, 3], expected: 6, actual: 5 });

    let (x, g) = (device.tensor(&[0.0f32; 6], [2, 3]).unwrap(), device.tensor(&[0.0f32; 6], [6]).unwrap());
    for rule in BackwardRule::all() {
        let error = x.clip_backward(&g, unit(), rule).unwrap_err();
        assert_eq!(error, Error::ShapeMismatch { left: vec![2, 3], right: vec![6] });
    }
}

fn tensors_of_two_devices_do_not_mix(adapter: Adapter) {
    let straight = BackwardRule { outside: OutsideRule::StraightThrough, ..BackwardRule::default() };
    let on = |device: &Device| device.tensor(&[0.0f32; 6], [6]).unwrap();
    // Two devices of one adapter are two devices.
    let (a, b) = (&open(&adapter, adapter.limits()), &open(&adapter, adapter.limits()));
    for (left, right) in [(on(a), on(b)), (on(a), on(&Device::cpu())), (on(&Device::cpu()), on(b))] {
        for rule in [BackwardRule::default(), straight] {
            let error = left.clip_backward(&right, unit(), rule).unwrap_err();
            assert!(matches!(error, Error::DeviceMismatch { .. }), "{error}");
        }
    }
}

fn straight_through_shares_the_upstream_gradient(device: Device) {
    let straight = BackwardRule { outside: OutsideRule::StraightThrough, ..BackwardRule::default() };
    let x = device.tensor(&[-1.0f32, 2.0], [2]).unwrap();
    let g = device.tensor(&[3.0f32, f32::INFINITY], [2]).unwrap();
    let mut gx = x.clip_backward(&g, unit(), straight).unwrap();
    assert_eq!(gx.to_vec().unwrap(), [3.0, f32::INFINITY]);
    gx.clip_in_place(unit()).unwrap();
    assert_eq!(g.to_vec().unwrap(), [3.0, f32::INFINITY], "{device:?}: g was written");
}

fn a_tensor_too_large_for_a_buffer_is_an_error_and_the_device_goes_on(adapter: Adapter) {
    let limits = wgpu::Limits { max_buffer_size: 1 << 20, ..adapter.limits() };
    let device = crate::devices::open(&adapter, limits);
    let just_fits = vec![2.0f32; 1 << 18];
    let error = device.tensor(&[&just_fits[..], &[0.0]].concat(), [(1 << 18) + 1]).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    let x = device.tensor(&just_fits, [1 << 18]).unwrap();
    assert!(x.clip(unit()).unwrap().to_vec().unwrap().iter().all(|&y| y == 1.0));
}

fn everything_may_be_sent_to_and_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>(_: T) {}
    shared::<Device>();
    shared::<wgclip::Tensor<f32>>();
    shared::<wgclip::gpu::Context>();
    shared::<wgclip::Mask<f32>>();
    shared::<wgclip::gpu::Kernels>();
    shared::<Error>();
    sent(Device::cpu().tensor(&[0.0f32], [1]).unwrap().read());
    sent(Device::request("cpu"));
}

pub(crate) fn register(suite: &mut Suite) {
    suite.per_adapter(&[
        ("tensor_api::tensors_of_two_devices_do_not_mix", tensors_of_two_devices_do_not_mix),
        (
            "tensor_api::a_tensor_too_large_for_a_buffer_is_an_error_and_the_device_goes_on",
            a_tensor_too_large_for_a_buffer_is_an_error_and_the_device_goes_on,
        ),
    ]);
    suite.per_device(&[
        (
            "tensor_api::clones_keep_their_elements_when_one_is_clipped_in_place",
            clones_keep_their_elements_when_one_is_clipped_in_place,
        ),
        (
            "tensor_api::reads_blocking_and_async_agree_many_at_once",
            reads_blocking_and_async_agree_many_at_once,
        ),
        ("tensor_api::empty_and_scalar_tensors_work", empty_and_scalar_tensors_work),
        ("tensor_api::mistakes_are_errors_that_say_what_to_do", mistakes_are_errors_that_say_what_to_do),
        (
            "tensor_api::straight_through_shares_the_upstream_gradient",
            straight_through_shares_the_upstream_gradient,
        ),
    ]);
    suite.once(&[(
        "tensor_api::everything_may_be_sent_to_and_shared_by_threads",
        everything_may_be_sent_to_and_shared_by_threads,
    )]);
}
