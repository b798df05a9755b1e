//! What a developer of the crate changes: each CPU kernel, and what the host does for a GPU. What a device makes of the
//! kernels, and how they compare, is for `wgclip bench`.
//!
//! `cargo bench` runs all; `cargo bench -- 'cpu/1048576/clip'` what matches.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pollster::block_on;
use rayon::prelude::*;
use wgclip::gpu::{Context, adapters};
use wgclip::{Bounds, Device, Gradient, Interval, cpu};

fn values(len: usize) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(7);
    (0..len).map(|_| rng.f32() * 4.0 - 2.0).collect()
}

/// Slices of the caller's: nothing is allocated in the loop.
fn kernels(c: &mut Criterion) {
    for len in [4096, 1 << 20, 1 << 24] {
        let (mut x, g) = (values(len), values(len));
        let (mut y, mut mask) = (vec![0.0; len], vec![0; cpu::mask_len(len)]);
        let bounds = Interval::values(Some(0.0), Some(1.0)).unwrap();
        let [rule, halving] = ["torch", "jax"].map(|preset| preset.parse::<Gradient>().unwrap());
        let mut group = c.benchmark_group(format!("cpu/{len}"));
        group.throughput(Throughput::Elements(len as u64));
        group.bench_function("memcpy", |b| {
            b.iter(|| {
                y.par_chunks_mut(1 << 15).zip(x.par_chunks(1 << 15)).for_each(|(y, x)| y.copy_from_slice(x))
            });
        });
        group.bench_function("clip", |b| b.iter(|| cpu::clip(black_box(&x), &bounds, &mut y).unwrap()));
        group.bench_function("clip_saving", |b| {
            b.iter(|| cpu::clip_saving(black_box(&x), &bounds, rule, &mut y, &mut mask).unwrap())
        });
        group.bench_function("saved_grad", |b| {
            b.iter(|| cpu::saved_grad(black_box(&mask), &g, &mut y).unwrap())
        });
        group.bench_function("clip_grad", |b| {
            b.iter(|| cpu::clip_grad(black_box(&x), &g, &bounds, rule, &mut y).unwrap())
        });
        group.bench_function("clip_grad, half", |b| {
            b.iter(|| cpu::clip_grad(black_box(&x), &g, &bounds, halving, &mut y).unwrap())
        });
        group.bench_function("saved_grad_in_place", |b| {
            b.iter(|| cpu::saved_grad_in_place(black_box(&mask), &mut y).unwrap())
        });
        group.bench_function("clip_in_place", |b| {
            b.iter(|| cpu::clip_in_place(black_box(&mut x), &bounds).unwrap())
        });
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
