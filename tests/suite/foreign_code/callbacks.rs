//! Callbacks of wgpu that call back, submit and panic.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use pollster::block_on;
use wgclip::gpu::Adapter;
use wgclip::{Bounds, Device, Result, Tensor};
use wgpu::BufferUsages as Usages;

use super::{STORAGE, devices, unit};

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

pub(super) fn a_callback_may_call_back(adapter: Adapter) {
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
pub(super) fn what_callbacks_submit_keeps_the_order(adapter: Adapter) {
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
pub(super) fn a_panic_of_a_callback_is_the_callers(adapter: Adapter) {
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

/// wgpu drops the callbacks behind one that panics, so also that of a read in another thread.
pub(super) fn a_read_outlives_the_panic_of_anothers_callback(adapter: Adapter) {
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
pub(super) fn a_slice_is_whole_after_a_panic_within(adapter: Adapter) {
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
pub(super) fn an_error_of_a_callback_does_not_fail_the_device(adapter: Adapter) {
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
