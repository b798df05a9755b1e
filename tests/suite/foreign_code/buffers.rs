//! Buffers of the caller's that are mapped, destroyed, or submitted elsewhere.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use pollster::block_on;
use wgclip::gpu::Adapter;
use wgclip::{BackwardRule, Bounds, Error, Tensor};
use wgpu::BufferUsages as Usages;

use crate::devices::UserDevice;

use super::{STORAGE, devices, unit};

/// What a caller does to its buffer between a record and its submission.
pub(super) fn a_bad_buffer_fails_what_uses_it_and_nothing_else(adapter: Adapter) {
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
pub(super) fn what_is_recorded_while_a_bad_buffer_is_dealt_with(adapter: Adapter) {
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
pub(super) fn a_read_that_waits_learns_of_an_export(adapter: Adapter) {
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

/// A callback unmaps a buffer when it was refused already. What else was submitted with it is right, whatever becomes of it.
pub(super) fn a_bad_buffer_that_turns_good_fails_no_other(adapter: Adapter) {
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
pub(super) fn a_buffer_that_was_given_out_is_never_another_tensors(adapter: Adapter) {
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
pub(super) fn reads_and_the_callers_submissions_of_one_tensor(adapter: Adapter) {
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
pub(super) fn uploads_alone_are_submitted_and_their_memory_is_used_again(adapter: Adapter) {
    for (device, ..) in devices(&adapter) {
        let before = device.stats();
        for i in 0..8_000 {
            drop(device.tensor(&[i as f32; 3], [3]).unwrap());
        }
        let after = device.stats();
        assert!(after.submissions - before.submissions >= 8, "{device:?}: {after:?}");
        assert!(after.buffers_created - before.buffers_created <= 4096, "{device:?}: {after:?}");
    }
}
