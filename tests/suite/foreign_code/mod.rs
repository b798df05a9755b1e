//! The caller's code around this crate's: callbacks of wgpu that call back, buffers that the caller maps or destroys while
//! tensors of them are at work, submissions of its own, devices that it destroys at any moment.

mod buffers;
mod callbacks;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pollster::block_on;
use wgclip::gpu::{Adapter, Context};
use wgclip::{Bounds, Device, Error};
use wgpu::BufferUsages as Usages;

use crate::devices::{Suite, UserDevice, seed};
use buffers::*;
use callbacks::*;

const STORAGE: Usages = Usages::STORAGE.union(Usages::COPY_SRC).union(Usages::COPY_DST);

fn unit() -> Bounds<f32> {
    Bounds::new(0.0, 1.0).unwrap()
}

/// A device that was opened here, and one of the caller's.
fn devices(adapter: &Adapter) -> Vec<(Device, wgpu::Device, wgpu::Queue)> {
    let context = block_on(Context::request(adapter, adapter.limits())).unwrap();
    let (device, queue) = (context.device().clone(), context.queue().clone());
    let mut all = vec![(Device::from(context), device, queue)];
    all.extend(
        UserDevice::open(adapter, true).map(|user| (user.wgclip(), user.device.clone(), user.queue.clone())),
    );
    all
}

/// Another thread destroys the device at some moment of a call that changes host memory.
fn a_device_destroyed_at_any_moment_leaves_host_data_whole(adapter: &Adapter, rounds: usize) {
    const LEN: usize = 24 << 20;
    let mut rng = fastrand::Rng::with_seed(seed());
    let (mut lost, mut done) = (0, 0);
    // As long as a round takes on this adapter.
    let mut longest = Duration::from_millis(20);
    for round in 0..rounds {
        let Some(user) = UserDevice::open(adapter, round % 2 == 0) else { return };
        let device = user.wgclip();
        let (mut slice, moment) = (vec![5.0f32; LEN], longest.mul_f64(rng.f64()));
        let begun = AtomicBool::new(false);
        let x = device.tensor(&slice[..1 << 20], [1 << 20]).unwrap();
        let (clipped, took) = thread::scope(|scope| {
            scope.spawn(|| {
                while !begun.load(Ordering::Acquire) {
                    thread::yield_now();
                }
                // The moment is the test's input; nothing is asserted of time.
                let from = Instant::now();
                while from.elapsed() < moment {
                    thread::yield_now();
                }
                user.device.destroy();
            });
            begun.store(true, Ordering::Release);
            let from = Instant::now();
            let clipped = match round % 3 {
                0 | 1 => device.clip_slice(&mut slice, unit()),
                _ => x.clip(unit()).and_then(|y| y.to_vec()).and_then(|y| {
                    assert!(y.iter().all(|y| *y == 1.0));
                    device.tensor(&slice, [LEN])?.to_vec().map(|x| assert!(x == slice))
                }),
            };
            (clipped, from.elapsed())
        });
        longest = longest.max(took);
        let value = if clipped.is_ok() && round % 3 < 2 { 1.0 } else { 5.0 };
        assert!(
            slice.iter().all(|v| *v == value),
            "round {round}: half a slice was changed, after {clipped:?}"
        );
        match clipped {
            Ok(()) => done += 1,
            Err(Error::DeviceLost { .. }) => lost += 1,
            Err(error) => panic!("round {round}: {error}"),
        }
        assert_eq!(user.errors(), 0, "round {round}: the caller's handler was called");
    }
    println!("{}: {lost} lost, {done} done", adapter.info());
}

pub(crate) fn register(suite: &mut Suite) {
    suite.per_adapter(&[
        ("foreign_code::a_callback_may_call_back", a_callback_may_call_back),
        ("foreign_code::what_callbacks_submit_keeps_the_order", what_callbacks_submit_keeps_the_order),
        ("foreign_code::a_panic_of_a_callback_is_the_callers", a_panic_of_a_callback_is_the_callers),
        (
            "foreign_code::a_bad_buffer_fails_what_uses_it_and_nothing_else",
            a_bad_buffer_fails_what_uses_it_and_nothing_else,
        ),
        (
            "foreign_code::what_is_recorded_while_a_bad_buffer_is_dealt_with",
            what_is_recorded_while_a_bad_buffer_is_dealt_with,
        ),
        ("foreign_code::a_read_that_waits_learns_of_an_export", a_read_that_waits_learns_of_an_export),
        (
            "foreign_code::a_read_outlives_the_panic_of_anothers_callback",
            a_read_outlives_the_panic_of_anothers_callback,
        ),
        ("foreign_code::a_slice_is_whole_after_a_panic_within", a_slice_is_whole_after_a_panic_within),
        (
            "foreign_code::an_error_of_a_callback_does_not_fail_the_device",
            an_error_of_a_callback_does_not_fail_the_device,
        ),
        (
            "foreign_code::a_bad_buffer_that_turns_good_fails_no_other",
            a_bad_buffer_that_turns_good_fails_no_other,
        ),
        (
            "foreign_code::a_buffer_that_was_given_out_is_never_another_tensors",
            a_buffer_that_was_given_out_is_never_another_tensors,
        ),
        (
            "foreign_code::reads_and_the_callers_submissions_of_one_tensor",
            reads_and_the_callers_submissions_of_one_tensor,
        ),
        (
            "foreign_code::uploads_alone_are_submitted_and_their_memory_is_used_again",
            uploads_alone_are_submitted_and_their_memory_is_used_again,
        ),
    ]);
    let rounds = suite.settings.rounds(3, 9, 200);
    for (slug, adapter) in suite.adapters() {
        let name = format!("foreign_code::a_device_destroyed_at_any_moment_leaves_host_data_whole::{slug}");
        suite.add(name, move || a_device_destroyed_at_any_moment_leaves_host_data_whole(&adapter, rounds));
    }
}
