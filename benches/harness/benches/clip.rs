//! What a developer of the crate changes: each CPU kernel, and what the host does for a GPU. What a device makes of the
//! kernels, and how they compare, is for `wgclip bench`.
//!
//! `cargo bench -p wgclip-harness` runs all; `cargo bench -p wgclip-harness -- 'cpu/1048576/clip$'` what matches.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pollster::block_on;
use wgclip::gpu::{Context, adapters};
use wgclip::{Bounds, Device};

fn values(len: usize) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(7);
    (0..len).map(|_| rng.f32() * 4.0 - 2.0).collect()
}

/// Every operation, over slices of the caller's: nothing is allocated in the loop.
fn kernels(c: &mut Criterion) {
    let ops = wgclip_harness::ops();
    for len in [4096, 1 << 20, 1 << 24] {
        let mut group = c.benchmark_group(format!("cpu/{len}"));
        group.throughput(Throughput::Elements(len as u64));
        for mut case in wgclip_harness::cpu::cases::<f32>(len, &ops).unwrap() {
            group.bench_function(case.id.op.clone(), |b| {
                b.iter_custom(|times| {
                    let mut total = Duration::ZERO;
                    let mut left = times;
                    while left > 0 {
                        let now = left.min(1 << 20) as u32;
                        total += (case.run)(now).unwrap();
                        left -= u64::from(now);
                    }
                    total
                });
            });
        }
        group.finish();
    }
}

/// What the host does before and after a kernel, on every adapter.
fn host(c: &mut Criterion) {
    for adapter in block_on(adapters()) {
        let context = block_on(Context::request(&adapter, adapter.limits())).unwrap();
        let device = Device::from(context);
        let mut group = c.benchmark_group(adapter.info().to_string());

        // Operations recorded between two waits, which are not timed.
        let batch = 200;
        let (x, bounds) = (device.tensor(&values(64), [64]).unwrap(), Bounds::new(0.0, 1.0).unwrap());
        group.bench_function("record one operation", |b| {
            b.iter_custom(|times| {
                let mut total = Duration::ZERO;
                for _ in 0..times.div_ceil(batch) {
                    let start = Instant::now();
                    (0..batch).for_each(|_| drop(x.clip(&bounds).unwrap()));
                    total += start.elapsed();
                    device.wait().unwrap();
                }
                total.mul_f64(times as f64 / (times.div_ceil(batch) * batch) as f64)
            });
        });
        for len in [4096, 1 << 20] {
            let data = values(len);
            group.throughput(Throughput::Bytes(4 * len as u64));
            group.bench_function(format!("upload/{len}"), |b| {
                b.iter(|| {
                    drop(device.tensor(black_box(&data), [len]).unwrap());
                    device.wait().unwrap();
                });
            });
            let x = device.tensor(&data, [len]).unwrap();
            group.bench_function(format!("read/{len}"), |b| b.iter(|| x.to_vec().unwrap()));
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = kernels, host
}
criterion_main!(benches);
