//! The caller's code around this crate's: callbacks of wgpu that call back, buffers that the caller maps or destroys while
//! tensors of them are at work, submissions of its own, devices that it destroys at any moment.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use pollster::block_on;
use wgclip::gpu::{Adapter, Context};
use wgclip::{BackwardRule, Bounds, Device, Error, Result, Tensor};
use wgpu::BufferUsages as Usages;

use crate::devices::{Suite, UserDevice, seed};

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

/// What a callback may do.
type Call = fn(&Device, &Tensor<f32>) -> Result<()>;

const CALLS: &[(&str, Call)] = &[
    ("clip", |_, x| x.clip(unit()).map(drop)),
    ("clip in place", |_, x| x.clone().clip_in_place(unit())),
    ("flush", |device, _| device.flush()),
    ("wait", |device, _| device.wait()),
    ("read", |_, x| x.to_vec().map(drop)),
    ("read of a result", |_, x| x.clip(unit())?.into_vec().map(|y| assert_eq!(y, [1.0; 64]))),
    ("async read", |_, x| block_on(x.read()).map(drop)),
    ("upload", |device, _| device.tensor(&[1.0f32; 8], [8]).map(drop)),
    ("clip of a slice", |device, _| device.clip_slice(&mut vec![3.0f32; 5000], unit())),
    ("600 clips, which submit", |_, x| (0..600).try_for_each(|_| x.clip(unit()).map(drop))),
    ("trim", |device, _| device.trim()),
    ("buffer", |_, x| x.buffer().map(drop)),
];

/// What makes wgpu run callbacks.
const TRIGGERS: &[(&str, Call)] = &[
    ("wait", |device, _| device.wait()),
    ("flush", |device, _| device.flush()),
    ("read", |_, x| x.to_vec().map(drop)),
    ("async read", |_, x| block_on(x.read()).map(drop)),
    ("600 clips", |_, x| (0..600).try_for_each(|_| x.clip(unit()).map(drop))),
];

fn a_callback_may_call_back(adapter: Adapter) {
    for (device, _, queue) in devices(&adapter) {
        let x = device.tensor(&[2.0f32; 64], [64]).unwrap();
        for (trigger, fire) in TRIGGERS {
            for &(name, call) in CALLS {
                let (sender, result) = mpsc::channel();
                let (of_callback, x_too) = (device.clone(), x.clone());
                queue.submit([]);
                queue.on_submitted_work_done(move || sender.send(call(&of_callback, &x_too)).unwrap());
                x.clip(unit()).unwrap();
                let mut fired = None;
                while fired.is_none() {
                    fire(&device, &x).unwrap();
                    fired = result.try_recv().ok();
                }
                assert_eq!(fired, Some(Ok(())), "{name}, fired by {trigger}");
            }
        }
        assert_eq!(x.to_vec().unwrap(), [2.0; 64]);
    }
}

/// Each step undoes what one out of order would leave, and callbacks submit in between.
fn what_callbacks_submit_keeps_the_order(adapter: Adapter) {
    for (device, _, queue) in devices(&adapter) {
        let mut x = device.tensor(&[0.0f32; 300], [300]).unwrap();
        let called = Arc::new(AtomicUsize::new(0));
        for step in 1..=300 {
            x.clip_in_place(Bounds::at_least(step as f32).unwrap()).unwrap();
            let (seen, called) =
                (x.clip(Bounds::at_most(step as f32 - 0.5).unwrap()).unwrap(), called.clone());
            if step % 10 == 0 {
                queue.submit([]);
                queue.on_submitted_work_done(move || {
                    assert_eq!(seen.to_vec().unwrap(), [step as f32 - 0.5; 300]);
                    called.fetch_add(1, Ordering::Relaxed);
                });
                device.flush().unwrap();
            }
        }
        assert_eq!(x.to_vec().unwrap(), [300.0; 300]);
        while called.load(Ordering::Relaxed) < 30 {
            device.wait().unwrap();
        }
    }
}

/// A panic of a callback goes on to the caller, and leaves the device as it was.
fn a_panic_of_a_callback_is_the_callers(adapter: Adapter) {
    let into_vec: Call = |_, x| x.clip(unit())?.into_vec().map(drop);
    let upload: Call = |device, _| device.tensor(&[3.0f32; 64], [64]).map(drop);
    let triggers = TRIGGERS.iter().filter(|(name, _)| *name != "async read").map(|(_, fire)| *fire);
    for (device, _, queue) in devices(&adapter) {
        let x = device.tensor(&[2.0f32; 64], [64]).unwrap();
        for fire in triggers.clone().chain([into_vec, upload]) {
            queue.submit([]);
            queue.on_submitted_work_done(|| std::panic::resume_unwind(Box::new("the callback's")));
            let mut panicked = None;
            while panicked.is_none() {
                let call = std::panic::AssertUnwindSafe(|| fire(&device, &x).unwrap());
                panicked = std::panic::catch_unwind(call).err();
            }
            assert_eq!(panicked.unwrap().downcast_ref(), Some(&"the callback's"));
            for _ in 0..10 {
                let y = device.tensor(&[-1.0f32; 64], [64]).unwrap().clip(unit()).unwrap();
                assert_eq!(y.into_vec().unwrap(), [0.0; 64]);
                assert_eq!(x.clip(unit()).unwrap().to_vec().unwrap(), [1.0; 64]);
            }
        }
        // On the thread that polls for async reads, which another then takes the place of.
        for _ in 0..3 {
            let ran = Arc::new(AtomicBool::new(false));
            let seen = ran.clone();
            queue.submit([]);
            queue.on_submitted_work_done(move || {
                seen.store(true, Ordering::Release);
                if thread::current().name() == Some("wgclip poller") {
                    std::panic::resume_unwind(Box::new("the callback's"));
                }
            });
            while !ran.load(Ordering::Acquire) {
                assert_eq!(block_on(x.read()).unwrap(), [2.0; 64]);
            }
        }
    }
}

/// What a caller does to its buffer between a record and its submission.
fn a_bad_buffer_fails_what_uses_it_and_nothing_else(adapter: Adapter) {
    let Some(user) = UserDevice::open(&adapter, true) else { return };
    let (other, _) = block_on(adapter.as_wgpu().request_device(&Default::default())).unwrap();
    let desc = |mapped_at_creation| wgpu::BufferDescriptor {
        label: None,
        size: 256,
        usage: STORAGE,
        mapped_at_creation,
    };
    let mapped = user.device.create_buffer(&desc(true));
    let destroyed = user.device.create_buffer(&desc(false));
    for (name, bad, spoil) in [
        ("mapped", mapped, None),
        ("destroyed", destroyed, Some(|buffer: &wgpu::Buffer| buffer.destroy())),
        ("of another device", other.create_buffer(&desc(false)), None),
    ] {
        let device = user.wgclip();
        let good = device.tensor(&[2.0f32; 64], [64]).unwrap();
        let fine = user.device.create_buffer(&desc(false));
        let mut fine = Tensor::<f32>::from_buffer(&device, fine, 0, [64]).unwrap();
        let x = Tensor::<f32>::from_buffer(&device, bad.clone(), 0, [64]).unwrap();
        let rule = BackwardRule::default();

        let before = good.clip(unit()).unwrap();
        fine.clip_in_place(Bounds::at_least(0.25).unwrap()).unwrap();
        let spoiled = x.clip(unit());
        let dependent = spoiled.as_ref().map(|y| good.clip_backward(y, unit(), rule).unwrap());
        let after = fine.clip(Bounds::at_least(0.5).unwrap()).unwrap();
        let last = good.clip(Bounds::at_most(1.5).unwrap()).unwrap();
        if let Some(spoil) = spoil {
            spoil(&bad);
        }

        let invalid = |error: Error| assert!(matches!(error, Error::InvalidBuffer { .. }), "{name}: {error}");
        match (&spoiled, &dependent) {
            (Ok(y), Ok(gx)) => {
                invalid(device.flush().unwrap_err());
                assert_eq!(device.flush(), Ok(()), "{name}: it is said once");
                invalid(y.to_vec().unwrap_err());
                invalid(gx.to_vec().unwrap_err());
                invalid(y.clip(unit()).unwrap_err());
            }
            (Err(error), _) => invalid(error.clone()),
            (_, Err(error)) => invalid((*error).clone()),
        }
        invalid(x.to_vec().unwrap_err());
        for (tensor, value) in [(&good, 2.0), (&before, 1.0), (&fine, 0.25), (&after, 0.5), (&last, 1.5)] {
            assert_eq!(tensor.to_vec().unwrap(), [value; 64], "{name}");
        }
        // And it goes on.
        assert_eq!(device.tensor(&[7.0f32], [1]).unwrap().clip(unit()).unwrap().to_vec().unwrap(), [1.0]);
        if name == "mapped" {
            bad.unmap();
            assert_eq!(x.clip(unit()).unwrap().to_vec().unwrap(), [0.0; 64], "good again");
        }
    }
    assert_eq!(user.errors(), 0, "the caller's handler was called");
}

/// A callback, within the time in which a bad buffer is dealt with, records what reads a result that will be missing.
fn what_is_recorded_while_a_bad_buffer_is_dealt_with(adapter: Adapter) {
    for (device, wgpu_device, queue) in devices(&adapter) {
        for _ in 0..10 {
            let desc =
                wgpu::BufferDescriptor { label: None, size: 256, usage: STORAGE, mapped_at_creation: true };
            let bad = Tensor::<f32>::from_buffer(&device, wgpu_device.create_buffer(&desc), 0, [64]).unwrap();
            let good = device.tensor(&[2.0f32; 64], [64]).unwrap();
            let (y, fine) = (bad.clip(unit()).unwrap(), good.clip(unit()).unwrap());
            let (sender, recorded) = mpsc::channel();
            queue.submit([]);
            let (of_bad, of_good) = (y.clone(), fine.clone());
            queue.on_submitted_work_done(move || {
                sender.send([of_bad, of_good].map(|y| y.clip(Bounds::at_least(0.5).unwrap()))).unwrap();
            });
            let flushed = device.flush();
            assert!(matches!(flushed, Err(Error::InvalidBuffer { .. })), "{flushed:?}");
            while recorded.recv_timeout(Duration::ZERO).map(|[of_bad, of_good]| {
                let read = of_bad.and_then(|z| z.to_vec());
                assert!(matches!(read, Err(Error::InvalidBuffer { .. })), "{read:?}");
                assert_eq!(of_good.unwrap().to_vec().unwrap(), [1.0; 64]);
            }) == Err(mpsc::RecvTimeoutError::Timeout)
            {
                let _ = device.wait();
            }
            assert_eq!(fine.to_vec().unwrap(), [1.0; 64]);
            let _ = device.flush();
        }
    }
}

/// A callback exports a tensor's buffer and destroys it, while a read of the tensor in another thread waits to be submitted.
fn a_read_that_waits_learns_of_an_export(adapter: Adapter) {
    for (device, _, queue) in devices(&adapter) {
        for _ in 0..5 {
            let x = device.tensor(&[2.0f32; 64], [64]).unwrap();
            let (of_callback, its_x, read_is_done) =
                (device.clone(), x.clone(), Arc::new(AtomicBool::new(false)));
            let (began, is_done) = (device.stats().in_use_bytes, read_is_done.clone());
            let (sender, begin) = mpsc::channel();
            queue.submit([]);
            queue.on_submitted_work_done(move || {
                sender.send(()).unwrap();
                // The read has its staging buffer before it waits.
                while of_callback.stats().in_use_bytes == began && !is_done.load(Ordering::Acquire) {
                    thread::yield_now();
                }
                its_x.buffer().unwrap().unwrap().buffer().destroy();
            });
            let read = thread::scope(|scope| {
                let (x, read_is_done) = (&x, &read_is_done);
                let reader = scope.spawn(move || {
                    begin.recv().unwrap();
                    let read = x.to_vec();
                    read_is_done.store(true, Ordering::Release);
                    read
                });
                while !read_is_done.load(Ordering::Acquire) {
                    let _ = device.flush();
                }
                reader.join().unwrap()
            });
            match read {
                Ok(read) => assert_eq!(read, [2.0; 64]),
                Err(error) => assert!(matches!(error, Error::InvalidBuffer { .. }), "{error}"),
            }
            assert_eq!(device.tensor(&[7.0f32], [1]).unwrap().clip(unit()).unwrap().to_vec().unwrap(), [1.0]);
        }
    }
}

/// wgpu drops the callbacks behind one that panics, so also that of a read in another thread.
fn a_read_outlives_the_panic_of_anothers_callback(adapter: Adapter) {
    let caught = |call: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err();
    for (device, wgpu_device, _) in devices(&adapter) {
        let x = device.tensor(&[2.0f32; 64], [64]).unwrap();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Acquire) {
                    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| x.to_vec()));
                    // The panic is that of whoever polls.
                    assert!(read.is_err() || read.unwrap() == Ok(vec![2.0; 64]));
                }
            });
            for _ in 0..150 {
                let usage = Usages::MAP_READ | Usages::COPY_DST;
                let desc = wgpu::BufferDescriptor { label: None, size: 64, usage, mapped_at_creation: false };
                let buffer = wgpu_device.create_buffer(&desc);
                let panic = |_| std::panic::resume_unwind(Box::new("the callback's"));
                buffer.map_async(wgpu::MapMode::Read, .., panic);
                caught(&|| drop(device.wait()));
            }
            over.store(true, Ordering::Release);
        });
        while caught(&|| device.wait().unwrap()) {}
        assert_eq!(x.to_vec().unwrap(), [2.0; 64]);
    }
}

/// Callbacks panic in the middle of a slice.
fn a_slice_is_whole_after_a_panic_within(adapter: Adapter) {
    for (device, _, queue) in devices(&adapter) {
        for later in 2..6 {
            let (mut slice, before) = (vec![5.0f32; 24 << 20], device.stats().submissions);
            let done = AtomicBool::new(false);
            let clipped = thread::scope(|scope| {
                scope.spawn(|| {
                    while device.stats().submissions < before + later && !done.load(Ordering::Acquire) {
                        thread::yield_now();
                    }
                    queue.on_submitted_work_done(|| std::panic::resume_unwind(Box::new("the callback's")));
                });
                let call = std::panic::AssertUnwindSafe(|| device.clip_slice(&mut slice, unit()));
                let clipped = std::panic::catch_unwind(call);
                done.store(true, Ordering::Release);
                clipped
            });
            let first = slice[0];
            assert!(slice.iter().all(|v| *v == first), "half a slice was clipped: {clipped:?}");
            // Those that were not called yet.
            while std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| device.wait())).is_err() {}
            assert_eq!(device.tensor(&[7.0f32], [1]).unwrap().clip(unit()).unwrap().to_vec().unwrap(), [1.0]);
        }
    }
}

/// What a callback does wrong within a submission of ours is not ours.
fn an_error_of_a_callback_does_not_fail_the_device(adapter: Adapter) {
    for (device, wgpu_device, queue) in devices(&adapter) {
        let create = |mapped_at_creation| {
            let desc = wgpu::BufferDescriptor { label: None, size: 256, usage: STORAGE, mapped_at_creation };
            wgpu_device.create_buffer(&desc)
        };
        let x = device.tensor(&[2.0f32; 64], [64]).unwrap();
        for _ in 0..5 {
            let (mapped, to, its_device, its_queue) =
                (create(true), create(false), wgpu_device.clone(), queue.clone());
            let ran = Arc::new(AtomicBool::new(false));
            let seen = ran.clone();
            queue.submit([]);
            queue.on_submitted_work_done(move || {
                let mut encoder = its_device.create_command_encoder(&Default::default());
                encoder.copy_buffer_to_buffer(&mapped, 0, &to, 0, 256);
                its_queue.submit([encoder.finish()]);
                seen.store(true, Ordering::Release);
            });
            while !ran.load(Ordering::Acquire) {
                let y = x.clip(unit()).unwrap();
                device.flush().unwrap();
                assert_eq!(y.to_vec().unwrap(), [1.0; 64]);
            }
            assert_eq!(x.clip(unit()).unwrap().to_vec().unwrap(), [1.0; 64]);
        }
    }
}

/// A callback unmaps a buffer when it was refused already. What else was submitted with it is right, whatever becomes of it.
fn a_bad_buffer_that_turns_good_fails_no_other(adapter: Adapter) {
    for (device, wgpu_device, queue) in devices(&adapter) {
        for _ in 0..10 {
            let desc =
                wgpu::BufferDescriptor { label: None, size: 256, usage: STORAGE, mapped_at_creation: true };
            let bad = wgpu_device.create_buffer(&desc);
            let x = Tensor::<f32>::from_buffer(&device, bad.clone(), 0, [64]).unwrap();
            let mut good = device.tensor(&[2.0f32; 64], [64]).unwrap();
            queue.submit([]);
            queue.on_submitted_work_done(move || bad.unmap());
            let y = x.clip(Bounds::at_least(0.5).unwrap()).unwrap();
            good.clip_in_place(unit()).unwrap();
            let _ = device.flush();
            assert_eq!(good.to_vec().unwrap(), [1.0; 64]);
            match y.to_vec() {
                Ok(y) => assert_eq!(y, [0.5; 64]),
                Err(error) => assert!(matches!(error, Error::InvalidBuffer { .. }), "{error}"),
            }
            let _ = device.wait();
        }
    }
}

/// A tensor's buffer that the caller was given, and destroyed.
fn a_buffer_that_was_given_out_is_never_another_tensors(adapter: Adapter) {
    let Some(user) = UserDevice::open(&adapter, true) else { return };
    let device = user.wgclip();
    let x = device.tensor(&[2.0f32; 64], [64]).unwrap();
    let given = x.buffer().unwrap().unwrap().buffer().clone();
    drop(x);
    device.wait().unwrap();
    given.destroy();
    for _ in 0..20 {
        let x = device.tensor(&[3.0f32; 64], [64]).unwrap();
        assert_eq!(x.clip(unit()).unwrap().to_vec().unwrap(), [1.0; 64]);
    }
    let x = device.tensor(&[2.0f32; 64], [64]).unwrap();
    x.buffer().unwrap().unwrap().buffer().destroy();
    let error = x.clip(unit()).and_then(|y| y.to_vec()).unwrap_err();
    assert!(matches!(error, Error::InvalidBuffer { .. }), "{error}");
    assert_eq!(device.tensor(&[7.0f32], [1]).unwrap().to_vec().unwrap(), [7.0]);
    assert_eq!(user.errors(), 0, "the caller's handler was called");
}

/// A read in one thread, while another submits what uses the same tensor.
fn reads_and_the_callers_submissions_of_one_tensor(adapter: Adapter) {
    for (device, wgpu_device, queue) in devices(&adapter) {
        let n = 1 << 16;
        let x = device.tensor(&vec![0.5f32; n], [n]).unwrap();
        let to = wgpu_device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 4 * n as u64,
            usage: Usages::COPY_DST,
            mapped_at_creation: false,
        });
        thread::scope(|scope| {
            scope.spawn(|| (0..100).for_each(|_| assert!(x.to_vec().unwrap().iter().all(|v| *v == 0.5))));
            scope.spawn(|| {
                (0..100).for_each(|_| assert!(x.clone().into_vec().unwrap().iter().all(|v| *v == 0.5)))
            });
            scope.spawn(|| {
                for _ in 0..100 {
                    let slice = x.buffer().unwrap().unwrap();
                    let mut encoder = wgpu_device.create_command_encoder(&Default::default());
                    encoder.copy_buffer_to_buffer(slice.buffer(), slice.offset(), &to, 0, 4 * n as u64);
                    queue.submit([encoder.finish()]);
                }
            });
        });
        device.wait().unwrap();
    }
}

/// Uploads alone set themselves moving, and their memory is used again.
fn uploads_alone_are_submitted_and_their_memory_is_used_again(adapter: Adapter) {
    for (device, ..) in devices(&adapter) {
        let before = device.stats();
        for i in 0..20_000 {
            drop(device.tensor(&[i as f32; 3], [3]).unwrap());
        }
        let after = device.stats();
        assert!(after.submissions - before.submissions >= 20_000 / 1000, "{device:?}: {after:?}");
        assert!(after.buffers_created - before.buffers_created <= 4096, "{device:?}: {after:?}");
    }
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
