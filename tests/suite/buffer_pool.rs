//! Buffers: what a steady loop creates (nothing), what is given back, what a budget allows.

use std::mem::forget;

use crate::devices::Suite;
use wgclip::device::Stats;
use wgclip::{BackwardRule, Bounds, Device, Error, NeedsGrad};

/// A step of a training loop: forward, both backward passes, the gradient of a bound, and reads.
fn step(device: &Device, data: &[f32]) {
    let x = device.tensor(data, [data.len() / 16, 16]).unwrap();
    let rows = device.tensor(&vec![0.5; data.len() / 16], [data.len() / 16, 1]).unwrap();
    let bounds = Bounds::new(0.0, &rows).unwrap();
    let y = x.clip(&bounds).unwrap();
    let grads = x.clip_backward_bounds(&y, &bounds, BackwardRule::default(), NeedsGrad::HI).unwrap();
    let (mut z, saved) = y.clip_with_mask(Bounds::at_most(0.25).unwrap(), BackwardRule::default()).unwrap();
    saved.backward_in_place(&mut z).unwrap();
    z.clip_in_place(Bounds::at_most(0.125).unwrap()).unwrap();
    assert_eq!(z.to_vec().unwrap().len(), data.len());
    assert_eq!(grads.hi.unwrap().to_vec().unwrap().len(), data.len() / 16);
}

/// What is created, of which a steady loop creates none.
fn created(stats: Stats) -> [u64; 3] {
    [stats.buffers_created, stats.bind_groups_created, stats.pipelines_created]
}

fn a_steady_loop_creates_nothing(device: Device) {
    let data: Vec<f32> = (0..4096).map(|i| i as f32 / 4096.0).collect();
    (0..8).for_each(|_| step(&device, &data));
    let before = device.stats();
    (0..100).for_each(|_| step(&device, &data));
    let after = device.stats();
    assert_eq!(created(after), created(before), "{device:?}: {before:?} {after:?}");
    assert!(after.dispatches >= before.dispatches + 700 && after.buffers_reused > before.buffers_reused);
    assert_eq!(after.peak_reserved_bytes, before.peak_reserved_bytes, "{device:?}");
}

/// Whether all that was taken from the pool came back, and can be freed.
fn nothing_leaks(device: &Device) -> bool {
    let in_use = device.stats().in_use_bytes;
    device.trim().unwrap();
    in_use == 0 && device.stats().reserved_bytes == 0
}

fn what_is_dropped_comes_back_and_trim_frees_it(device: Device) {
    step(&device, &[0.5; 1024]);
    let stats = device.stats();
    assert!(stats.reserved_bytes > 0 && stats.peak_reserved_bytes >= stats.reserved_bytes, "{stats:?}");
    assert!(nothing_leaks(&device), "{:?}", device.stats());
    // It goes on after that.
    step(&device, &[0.5; 1024]);
    assert!(nothing_leaks(&device), "{:?}", device.stats());

    let leak = device.tensor(&[1.0f32; 100], [100]).unwrap();
    forget(leak);
    assert!(!nothing_leaks(&device), "a leak that was planted is not seen");
}

fn a_read_that_is_given_up_leaves_nothing_behind(device: Device) {
    let x = device.tensor(&[1.0f32; 1000], [1000]).unwrap();
    for _ in 0..3 {
        let mut read = Box::pin(x.read());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = read.as_mut().poll(&mut cx);
    }
    assert_eq!(x.to_vec().unwrap(), [1.0; 1000]);
    drop(x);
    assert!(nothing_leaks(&device), "{device:?} {:?}", device.stats());
}

fn a_budget_frees_idle_buffers_and_refuses_the_rest(device: Device) {
    device.set_memory_budget(64 << 10);
    let mut held = Vec::new();
    let error = loop {
        match device.tensor(&[1.0f32; 1024], [1024]) {
            Ok(tensor) => held.push(tensor),
            Err(error) => break error,
        }
        assert!(held.len() <= 16, "{device:?}");
    };
    assert!(matches!(error, Error::OutOfMemory { bytes: 4096, .. }), "{error}");
    assert_eq!(held.len(), 16);
    assert!(held[0].clip(Bounds::at_least(0.0).unwrap()).is_err());
    held.pop();
    held.pop();
    assert_eq!(held[0].to_vec().unwrap(), [1.0; 1024]);
    // Of another size: the idle ones make room.
    let small = device.tensor(&[2.0f32; 10], [10]).unwrap();
    assert_eq!(small.to_vec().unwrap(), [2.0; 10]);
    assert!(device.stats().peak_reserved_bytes <= 64 << 10, "{:?}", device.stats());
}

pub(crate) fn register(suite: &mut Suite) {
    suite.per_gpu(&[
        ("buffer_pool::a_steady_loop_creates_nothing", a_steady_loop_creates_nothing),
        (
            "buffer_pool::what_is_dropped_comes_back_and_trim_frees_it",
            what_is_dropped_comes_back_and_trim_frees_it,
        ),
        (
            "buffer_pool::a_read_that_is_given_up_leaves_nothing_behind",
            a_read_that_is_given_up_leaves_nothing_behind,
        ),
        (
            "buffer_pool::a_budget_frees_idle_buffers_and_refuses_the_rest",
            a_budget_frees_idle_buffers_and_refuses_the_rest,
        ),
    ]);
}
