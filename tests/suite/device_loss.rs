//! When things break: what is injected, and what comes back. Never a panic or a hang, never altered host data; every
//! later call says so too, and a new device works.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as Waiting, Poll, Waker};
use std::thread;
use std::time::Duration;

use crate::devices::Suite;
use pollster::block_on;
use wgclip::gpu::{Adapter, Context};
use wgclip::{BackwardRule, Bounds, Device, Error, Result, Tensor};

use crate::devices::open;

/// A device about to break.
struct DoomedDevice {
    context: Context,
    device: Device,
}

impl DoomedDevice {
    fn of(adapter: &Adapter) -> Self {
        let context = block_on(Context::request(adapter, adapter.limits())).unwrap();
        Self { device: context.clone().into(), context }
    }

    fn destroy(&self) {
        self.context.device().destroy();
    }

    fn tensor(&self, len: usize) -> Tensor<f32> {
        self.device.tensor(&data(len), [len]).unwrap()
    }
}

fn data(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i % 251) as f32).collect()
}

fn unit() -> Bounds<f32> {
    Bounds::new(0.0, 1.0).unwrap()
}

/// What is injected, and the error that is to come back.
type Fault = (&'static str, fn(&DoomedDevice) -> Error);

/// Each leaves the device lost.
const FAULTS: &[Fault] = &[
    ("destroyed before an upload", |doomed| {
        doomed.destroy();
        doomed.device.tensor(&data(100), [100]).unwrap_err()
    }),
    ("destroyed before an upload into a reused buffer", |doomed| {
        drop(doomed.tensor(100));
        doomed.device.wait().unwrap();
        doomed.destroy();
        // Nothing is created that could fail.
        doomed.device.tensor(&data(100), [100]).unwrap_err()
    }),
    ("destroyed between a record and its submission", |doomed| {
        let _y = doomed.tensor(100).clip(unit()).unwrap();
        doomed.destroy();
        doomed.device.flush().unwrap_err()
    }),
    ("destroyed between a record and a wait", |doomed| {
        let _y = doomed.tensor(100).clip(unit()).unwrap();
        doomed.destroy();
        doomed.device.wait().unwrap_err()
    }),
    ("destroyed between a record and a read", |doomed| {
        let y = doomed.tensor(100).clip(unit()).unwrap();
        doomed.destroy();
        y.to_vec().unwrap_err()
    }),
    ("destroyed between a record and an async read", |doomed| {
        let y = doomed.tensor(100).clip(unit()).unwrap();
        doomed.destroy();
        block_on(y.read()).unwrap_err()
    }),
    ("destroyed during a read", |doomed| {
        let y = doomed.tensor(1 << 20).clip(unit()).unwrap();
        let mut read = Box::pin(y.read());
        let mut cx = Waiting::from_waker(Waker::noop());
        let begun = read.as_mut().poll(&mut cx);
        doomed.destroy();
        // What was submitted may still be done.
        let result = if let Poll::Ready(result) = begun { result } else { block_on(read) };
        match result {
            Ok(y) => assert!(y.iter().all(|y| (0.0..=1.0).contains(y))),
            Err(error) => drop(lost(error)),
        }
        y.to_vec().unwrap_err()
    }),
    ("destroyed between a push and its pop", |doomed| {
        let mut stream = doomed.device.clip_stream(unit()).unwrap();
        for _ in 0..2 {
            assert_eq!(stream.push(data(1 << 20)), Ok(None));
        }
        doomed.destroy();
        let error = stream.push(data(1000)).unwrap_err();
        let chunks: Vec<_> = stream.into_chunks().collect();
        assert!(chunks == [data(1 << 20), data(1 << 20), data(1000)], "the chunks were altered");
        error
    }),
    ("destroyed before a slice is clipped", |doomed| {
        doomed.destroy();
        let mut slice = data(1000);
        let error = doomed.device.clip_slice(&mut slice, unit()).unwrap_err();
        assert_eq!(slice, data(1000));
        error
    }),
    ("destroyed while a slice is clipped", |doomed| {
        let mut slice = data(40 << 20);
        let (done, before) = (AtomicBool::new(false), doomed.device.stats().submissions);
        let clipped = thread::scope(|scope| {
            scope.spawn(|| {
                while doomed.device.stats().submissions < before + 5 && !done.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
                doomed.destroy();
            });
            let clipped = doomed.device.clip_slice(&mut slice, unit());
            done.store(true, Ordering::Relaxed);
            clipped
        });
        let whole = |value: fn(usize) -> f32| slice.iter().enumerate().all(|(i, &v)| v == value(i));
        match clipped {
            Ok(()) => assert!(whole(|i| (i % 251).min(1) as f32), "half a slice was clipped"),
            Err(_) => assert!(whole(|i| (i % 251) as f32), "a failed call altered the slice"),
        }
        doomed.device.wait().unwrap_err()
    }),
    ("destroyed while eight threads work", |doomed| {
        thread::scope(|scope| {
            for t in 0..8 {
                scope.spawn(move || {
                    for i in 0.. {
                        if t == 0 && i == 20 {
                            doomed.destroy();
                        }
                        if let Err(error) = forward_and_backward(&doomed.device) {
                            lost(error);
                            break;
                        }
                    }
                });
            }
        });
        doomed.device.flush().unwrap_err()
    }),
    ("no answer in time", |doomed| {
        let x = doomed.tensor(1 << 22);
        let _ = (0..50).try_for_each(|_| x.clip(unit()).map(drop));
        doomed.context.set_timeout(Duration::ZERO);
        let Err(error) = doomed.device.wait() else {
            // A driver that works while it is submitted to has nothing left to wait for.
            doomed.destroy();
            return doomed.device.wait().unwrap_err();
        };
        assert!(error.to_string().contains("did not finish within"), "{error}");
        error
    }),
];

fn forward_and_backward(device: &Device) -> Result<()> {
    let x = device.tensor(&data(1000), [1000])?;
    let (y, saved) = x.clip_with_mask(unit(), BackwardRule::default())?;
    let gx = saved.backward(&y)?.to_vec()?;
    assert!(
        y.to_vec()?
            .iter()
            .zip(gx)
            .zip(data(1000))
            .all(|((y, gx), x)| { *y == x.clamp(0.0, 1.0) && gx == if x <= 1.0 { x } else { 0.0 } })
    );
    Ok(())
}

fn lost(error: Error) -> Error {
    assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
    error
}

fn a_lost_device_says_so_from_every_call_and_a_new_one_works(adapter: Adapter) {
    for (name, inject) in FAULTS {
        let doomed = DoomedDevice::of(&adapter);
        let mut x = doomed.tensor(100);
        let saved = x.clip_with_mask(unit(), BackwardRule::default()).unwrap().1;
        println!("{}: {name}: {}", adapter.info(), lost(inject(&doomed)));

        let (device, mut slice) = (&doomed.device, data(10));
        let later: [Option<Error>; 13] = [
            device.tensor(&data(3), [3]).err(),
            x.clip(unit()).err(),
            x.clip_in_place(unit()).err(),
            x.clip_backward(&x, unit(), BackwardRule::default()).err(),
            saved.backward(&x).err(),
            x.to_vec().err(),
            block_on(x.read()).err(),
            x.buffer().err(),
            device.flush().err(),
            device.wait().err(),
            device.trim().err(),
            device.clip_slice(&mut slice, unit()).err(),
            device.clip_stream(unit()).unwrap().push(data(10)).err(),
        ];
        for (i, error) in later.into_iter().enumerate() {
            lost(error.unwrap_or_else(|| panic!("{name}: later call {i} says nothing")));
        }
        assert_eq!(slice, data(10), "{name}");
    }
    let fresh = open(&adapter, adapter.limits());
    forward_and_backward(&fresh).unwrap();
}

fn out_of_memory_is_an_error_and_the_device_goes_on(adapter: Adapter) {
    let device = open(&adapter, adapter.limits());
    let x = device.tensor(&data(100_000), [100_000]).unwrap();
    device.set_memory_budget(1 << 20);
    // Each makes room for the next.
    (0..5).for_each(|_| drop(x.clip(unit()).unwrap()));
    let held: Vec<_> = (0..3).map_while(|_| x.clip(unit()).ok()).collect();
    assert_eq!(held.len(), 1, "x, one more, and no staging");
    let mut slice = data(1 << 20);
    let error = device.clip_slice(&mut slice, unit()).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    assert_eq!(slice, data(1 << 20));
    drop(held);
    device.set_memory_budget(u64::MAX);
    device.clip_slice(&mut slice, unit()).unwrap();
    forward_and_backward(&device).unwrap();
}

/// Memory that the driver says is used up: wgpu's own threshold, set to nothing.
fn a_driver_without_memory_is_an_error() {
    let mut desc = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    desc.memory_budget_thresholds.for_resource_creation = Some(0);
    let instance = wgpu::Instance::new(desc);
    let mut refused = 0;
    for adapter in block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN)) {
        let (device, queue) = block_on(adapter.request_device(&Default::default())).unwrap();
        let Ok(wgclip) = Device::from_wgpu(device, queue) else {
            refused += 1;
            continue;
        };
        match wgclip.tensor(&data(1 << 20), [1 << 20]) {
            Err(error) => {
                assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
                refused += 1;
            }
            Ok(x) => assert_eq!(x.to_vec().unwrap(), data(1 << 20)),
        }
        assert_eq!(wgclip.clip_slice(&mut [3.0f32], unit()).is_ok(), refused == 0);
    }
    // Not every driver tells wgpu how much there is.
    println!("{refused} adapters without memory");
}

fn an_adapter_that_refuses_is_an_error(adapter: Adapter) {
    let limits = wgpu::Limits { max_buffer_size: u64::MAX, ..adapter.limits() };
    let error = block_on(Context::request(&adapter, limits)).unwrap_err();
    assert!(matches!(error, Error::DeviceRequest { .. }), "{error}");
    forward_and_backward(&open(&adapter, adapter.limits())).unwrap();
    assert!(matches!(Device::select("no such adapter").unwrap_err(), Error::NoSuchDevice { .. }));
}

pub(crate) fn register(suite: &mut Suite) {
    suite.per_adapter(&[
        (
            "device_loss::a_lost_device_says_so_from_every_call_and_a_new_one_works",
            a_lost_device_says_so_from_every_call_and_a_new_one_works,
        ),
        (
            "device_loss::out_of_memory_is_an_error_and_the_device_goes_on",
            out_of_memory_is_an_error_and_the_device_goes_on,
        ),
        ("device_loss::an_adapter_that_refuses_is_an_error", an_adapter_that_refuses_is_an_error),
    ]);
    suite.once(&[("device_loss::a_driver_without_memory_is_an_error", a_driver_without_memory_is_an_error)]);
}
