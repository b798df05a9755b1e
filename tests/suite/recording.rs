//! Operations that share a submission: their order, their buffers, their budget.

use std::thread;

use crate::devices::Suite;
use pollster::block_on;
use wgclip::{BackwardRule, Bounds, Device, Tensor};

/// More operations than a submission takes, each of which undoes what a lost or reordered one would leave.
fn operations_run_in_order_beyond_the_budget_of_a_submission(device: Device) {
    let mut x = device.tensor(&[0.0f32; 300], [300]).unwrap();
    for step in 1..=1500 {
        x.clip_in_place(Bounds::at_least(step as f32).unwrap()).unwrap();
        if step % 3 == 0 {
            x = x.clip(Bounds::at_most(step as f32 - 0.5).unwrap()).unwrap();
        }
    }
    assert_eq!(x.to_vec().unwrap(), [1499.5; 300], "{device:?}");
}

/// The queue writes before the pending pass runs, so an upload must not get a buffer that the pass reads.
fn an_upload_does_not_overwrite_what_is_pending(device: Device) {
    let wide = Bounds::new(-100.0f32, 100.0).unwrap();
    let mut results = Vec::new();
    for i in 0..20 {
        let x = device.tensor(&[i as f32; 64], [64]).unwrap();
        results.push(x.clip(&wide).unwrap());
        drop(x);
        drop(device.tensor(&[-1.0f32; 64], [64]).unwrap());
    }
    for (i, y) in results.iter().enumerate() {
        assert_eq!(y.to_vec().unwrap(), [i as f32; 64], "{device:?}");
    }
}

fn threads_share_a_device(device: Device) {
    let shared = device.tensor(&[2.0f32; 3000], [3000]).unwrap();
    thread::scope(|scope| {
        for t in 0..8 {
            let (device, shared) = (device.clone(), &shared);
            scope.spawn(move || (0..100).for_each(|step| work(&device, shared, t, step)));
        }
    });
    drop(shared);
    assert_eq!(device.stats().in_use_bytes, 0, "{device:?}");
}

/// Operations, drops and reads, of tensors of the thread's own and of one that all threads read.
fn work(device: &Device, shared: &Tensor<f32>, t: usize, step: usize) {
    let (len, value) = (1000 + 17 * (step % 25), t as f32);
    let right = |tensor: &Tensor<f32>, expected: f32| {
        let read = if (t + step).is_multiple_of(2) { tensor.to_vec() } else { block_on(tensor.read()) };
        let wrong = read.unwrap().into_iter().enumerate().find(|(_, v)| *v != expected);
        assert_eq!(wrong, None, "{device:?}, thread {t}, step {step}: {expected} expected");
    };
    let bounds = Bounds::new(0.0, 3.0).unwrap();
    let x = device.tensor(&vec![value; len], [len]).unwrap();
    let g = device.tensor(&vec![-value; len], [len]).unwrap();
    let (mut y, saved) = x.clip_with_mask(&bounds, BackwardRule::default()).unwrap();
    let gx = x.clip_backward(&g, &bounds, BackwardRule::default()).unwrap();
    let mut other = g.clone();
    saved.backward_in_place(&mut other).unwrap();
    drop((x, g));
    let of_shared = shared.clip(Bounds::at_most(value).unwrap()).unwrap();
    right(&y, value.min(3.0));
    y.clip_in_place(Bounds::at_most(1.0).unwrap()).unwrap();
    right(shared, 2.0);
    right(&y, value.min(1.0));
    for gx in [gx, other] {
        right(&gx, if value <= 3.0 { -value } else { 0.0 });
    }
    right(&of_shared, value.min(2.0));
    if step % 10 == t {
        let mut slice = vec![value; 5 * len];
        device.clip_slice(&mut slice, &bounds).unwrap();
        assert!(slice.iter().all(|v| *v == value.min(3.0)));
        device.trim().unwrap();
    }
}

/// Submissions cost hundreds of microseconds each, so ten thousand small operations must not take as many.
fn ten_thousand_clips_and_a_read_are_a_few_submissions(device: Device) {
    let mut x = device.tensor(&[0.0f32; 64], [64]).unwrap();
    let before = device.stats();
    for i in 0..10_000 {
        x.clip_in_place(Bounds::at_least(i as f32).unwrap()).unwrap();
    }
    assert_eq!(x.to_vec().unwrap(), [9999.0; 64]);
    let after = device.stats();
    assert_eq!(after.dispatches - before.dispatches, 10_000);
    assert!(after.submissions - before.submissions <= 21, "{device:?}: {after:?}");
}

pub(crate) fn register(suite: &mut Suite) {
    suite.per_gpu(&[
        (
            "recording::operations_run_in_order_beyond_the_budget_of_a_submission",
            operations_run_in_order_beyond_the_budget_of_a_submission,
        ),
        (
            "recording::an_upload_does_not_overwrite_what_is_pending",
            an_upload_does_not_overwrite_what_is_pending,
        ),
        ("recording::threads_share_a_device", threads_share_a_device),
        (
            "recording::ten_thousand_clips_and_a_read_are_a_few_submissions",
            ten_thousand_clips_and_a_read_are_a_few_submissions,
        ),
    ]);
}
