//! Clip and its backward pass on the CPU and on every adapter, each beside the copy that is its roof.
//!
//! `cargo bench` runs all; `cargo bench -- 'clip/1048576'` what matches.

mod copy_kernel;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pollster::block_on;
use rayon::prelude::*;
use wgclip::gpu::{Context, adapters};
use wgclip::{Bounds, Device, Gradient, Interval};

use copy_kernel::CopyKernel;

const SIZES: [usize; 3] = [4096, 1 << 20, 1 << 24];

/// Operations between two waits on a GPU: what remains is the time of one.
const BATCH: u32 = 8;

fn values(len: usize) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(7);
    (0..len).map(|_| rng.f32() * 4.0 - 2.0).collect()
}

fn unit() -> Bounds<f32> {
    Bounds::new(0.0, 1.0).unwrap()
}

/// Slices of the caller's: nothing is allocated in the loop.
fn cpu(c: &mut Criterion) {
    for len in SIZES {
        let (mut x, g) = (values(len), values(len));
        let mut y = vec![0.0; len];
        let bounds = Interval::values(Some(0.0), Some(1.0)).unwrap();
        let mut group = c.benchmark_group(format!("cpu/{len}"));
        group.throughput(Throughput::Bytes(8 * len as u64));
        group.bench_function("parallel memcpy", |b| {
            b.iter(|| {
                y.par_chunks_mut(1 << 15).zip(x.par_chunks(1 << 15)).for_each(|(y, x)| y.copy_from_slice(x))
            });
        });
        group.bench_function("clip", |b| {
            b.iter(|| wgclip::cpu::clip(black_box(&x), &bounds, &mut y).unwrap())
        });
        group.throughput(Throughput::Bytes(12 * len as u64));
        group.bench_function("clip_grad", |b| {
            b.iter(|| {
                wgclip::cpu::clip_grad(black_box(&x), &g, &bounds, Gradient::default(), &mut y).unwrap()
            });
        });
        group.throughput(Throughput::Bytes(8 * len as u64));
        group.bench_function("clip_in_place", |b| {
            b.iter(|| wgclip::cpu::clip_in_place(black_box(&mut x), &bounds).unwrap())
        });
        group.finish();
    }
}

/// Tensors that stay on the device, [`BATCH`] operations and a wait; the time shown is that of the batch.
fn gpu(c: &mut Criterion) {
    for adapter in block_on(adapters()) {
        let context = block_on(Context::request(&adapter, adapter.limits())).unwrap();
        let device = Device::from(context.clone());
        let name = adapter.info().to_string();
        for len in SIZES {
            let mut group = c.benchmark_group(format!("{name}/{len}"));
            let bytes = |tensors: u64| Throughput::Bytes(u64::from(BATCH) * tensors * 4 * len as u64);
            let id = |op: &str| BenchmarkId::new(op, BATCH);

            let mut x = device.tensor(&values(len), [len]).unwrap();
            let g = device.tensor(&values(len), [len]).unwrap();
            let bounds = unit();
            let copy = CopyKernel::new(context.device(), len);
            group.throughput(bytes(2));
            group.bench_function(id("copy kernel"), |b| {
                b.iter(|| copy.run(context.device(), context.queue(), BATCH));
            });
            group.bench_function(id("clip"), |b| {
                b.iter(|| {
                    (0..BATCH).for_each(|_| drop(x.clip(&bounds).unwrap()));
                    device.wait().unwrap();
                });
            });
            group.throughput(bytes(3));
            group.bench_function(id("clip_grad"), |b| {
                b.iter(|| {
                    (0..BATCH).for_each(|_| drop(x.clip_grad(&g, &bounds, Gradient::default()).unwrap()));
                    device.wait().unwrap();
                });
            });
            group.throughput(bytes(2));
            group.bench_function(id("clip_in_place"), |b| {
                b.iter(|| {
                    (0..BATCH).for_each(|_| x.clip_in_place(&bounds).unwrap());
                    device.wait().unwrap();
                });
            });
            group.finish();
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = cpu, gpu
}
criterion_main!(benches);
