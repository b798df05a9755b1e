//! Random programs in eight threads of one device, checked step by step against a model: every thread knows the bits of each
//! of its tensors. Uploads, clones, drops, operations, reads that are given up, passes of the caller's, callbacks that call
//! back, budgets, bad buffers; and the same on a device that is destroyed at some step.
//!
//! A failed call must have changed nothing, which later reads of the same tensors show.

mod program;

use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use pollster::block_on;
use wgclip::Device;
use wgclip::gpu::{Adapter, Context};

use crate::devices::{Suite, UserDevice, seed};
use program::{Program, Shared, check};

const THREADS: usize = 8;

/// A thread that has not done a step for so long hangs.
const STALLED: Duration = Duration::from_secs(90);

/// How long programs run.
#[derive(Clone, Copy)]
enum Length {
    Steps(usize),
    Time(Duration),
}

/// Runs programs in eight threads. Returns how many steps they took; the first to reach `destroy_at` destroys the device.
fn run(shared: &Shared, seed: u64, length: Length, destroy_at: Option<usize>) -> u64 {
    let begun = Instant::now();
    let ends = |step| match length {
        Length::Steps(steps) => step == steps,
        Length::Time(time) => begun.elapsed() >= time,
    };
    let (sender, steps) = mpsc::channel::<(usize, Option<&'static str>)>();
    thread::scope(|scope| {
        for t in 0..THREADS {
            let (shared, sender) = (shared.clone(), sender.clone());
            scope.spawn(move || {
                let mut program = Program::new(shared, seed + t as u64);
                for step in 0.. {
                    if ends(step) {
                        break;
                    }
                    if destroy_at == Some(step)
                        && t == 0
                        && let Some((device, _)) = &program.shared.wgpu
                    {
                        program.shared.destroyed.store(true, Ordering::Release);
                        device.destroy();
                    }
                    let (what, result) = program.step();
                    check(result, &program.shared, what);
                    let _ = sender.send((t, Some(what)));
                }
                let _ = sender.send((t, None));
            });
        }
        drop(sender);
        // Watches over them.
        let mut last = [(Instant::now(), Some("nothing")); THREADS];
        let mut count = 0;
        loop {
            match steps.recv_timeout(STALLED) {
                Ok((t, what)) => {
                    last[t] = (Instant::now(), what);
                    count += u64::from(what.is_some());
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return count,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            let stalled = last.iter().find(|(at, what)| what.is_some() && at.elapsed() > STALLED);
            if let Some((_, what)) = stalled {
                // The threads cannot be joined.
                eprintln!("WGCLIP_TEST_SEED={seed}: a thread hangs after {what:?}");
                std::process::abort();
            }
        }
    })
}

/// Trims before what is left counts as a leak.
const LAST_TRIMS: usize = 1000;

/// What must hold when all is dropped.
fn check_leaks(shared: &Shared) {
    if !shared.destroyed.load(Ordering::Acquire) {
        shared.device.set_memory_budget(u64::MAX);
        let waited = shared.device.wait();
        check(waited, shared, "the last wait");
        // The thread that polls may still run a callback, whose buffers come back after it: those are freed by the next trim, a leak by none.
        let left = || {
            shared.device.wait().unwrap();
            shared.device.trim().unwrap();
            std::thread::yield_now();
            shared.device.stats()
        };
        let stats =
            (0..LAST_TRIMS).map(|_| left()).find(|stats| stats.reserved_bytes == 0).unwrap_or_else(left);
        assert_eq!((stats.in_use_bytes, stats.reserved_bytes), (0, 0), "a leak: {stats:?}");
    }
}

fn random_programs(name: &str, shared: &Shared, length: Length) {
    let steps = run(shared, seed(), length, None);
    check_leaks(shared);
    println!(
        "{name}: {steps} steps, {} callbacks, {:?}",
        shared.callbacks.load(Ordering::Relaxed),
        shared.refusals
    );
    let others = shared.refusals.others.load(Ordering::Relaxed);
    assert!(others <= 10 + steps / 50, "{name}: {others} of {steps} steps failed for no fault of theirs");
}

fn shared(device: Device, wgpu: Option<(wgpu::Device, wgpu::Queue)>) -> Shared {
    let budgets = wgpu.is_some();
    let (destroyed, callbacks, refusals) = Default::default();
    Shared { budgets, device, wgpu, destroyed, callbacks, refusals }
}

fn on_adapter(adapter: &Adapter, length: Length) {
    let context = block_on(Context::request(adapter, adapter.limits())).unwrap();
    let wgpu = (context.device().clone(), context.queue().clone());
    random_programs("opened here", &shared(context.into(), Some(wgpu)), length);
    if let Some(user) = UserDevice::open(adapter, true) {
        let wgpu = (user.device.clone(), user.queue.clone());
        random_programs("the caller's", &shared(user.wgclip(), Some(wgpu)), length);
        assert_eq!(user.errors(), 0, "the caller's handler was called");
    }
}

fn on_destroyed_devices(adapter: &Adapter, rounds: usize) {
    let seed = seed();
    for round in 0..rounds {
        // Without a handler of the caller's, wgpu panics at what is not in a scope.
        let Some(user) = UserDevice::open(adapter, round % 2 == 0) else { return };
        let shared = shared(user.wgclip(), Some((user.device.clone(), user.queue.clone())));
        let at = Rng::with_seed(seed + round as u64).usize(..60);
        run(&shared, seed + 100 * round as u64, Length::Steps(80), Some(at));
        drop(shared);
        assert_eq!(user.errors(), 0, "round {round}: the caller's handler was called");
    }
}

pub(crate) fn register(suite: &mut Suite) {
    let steps = Length::Steps(suite.settings.rounds(60, 300, 300));
    // Two devices of an adapter share the time.
    let time = |share: u32| suite.settings.stress.map_or(steps, |time| Length::Time(time / share));
    let (whole, half) = (time(1), time(2));
    let rounds = suite.settings.rounds(4, 10, 200);
    if suite.settings.takes("cpu") {
        suite.add("stress::random_programs::cpu".into(), move || {
            random_programs("CPU", &shared(Device::cpu(), None), whole);
        });
    }
    for (slug, adapter) in suite.adapters() {
        let of_random = adapter.clone();
        suite.add(format!("stress::random_programs::{slug}"), move || on_adapter(&of_random, half));
        suite.add(format!("stress::random_programs_on_destroyed_devices::{slug}"), move || {
            on_destroyed_devices(&adapter, rounds);
        });
    }
}
