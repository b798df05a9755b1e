//! In a wgpu program of the user's: its device, its buffers, its passes.

use crate::devices::{Suite, UserDevice};
use wgclip::bounds::BroadcastInputs;
use wgclip::gpu::{Adapter, Arguments, Kernels};
use wgclip::op::Op;
use wgclip::{
    BackwardRule, Bound, Bounds, Device, Element, ElementType, Error, OutsideRule, Shape, Tensor, TieRule,
    f8_e4m3fn, f8_e5m2, f16, reference,
};
use wgpu::BufferUsages as Usages;

fn buffer(device: &wgpu::Device, size: u64, data: &[u8], usage: Usages) -> wgpu::Buffer {
    let desc = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: true };
    let buffer = device.create_buffer(&desc);
    buffer.slice(..).get_mapped_range_mut().unwrap().slice(..data.len()).copy_from_slice(data);
    buffer.unmap();
    buffer
}

fn values(len: usize) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(11);
    let special = [f32::NAN, -0.0, f32::INFINITY, 1e-40, 1.0, 0.0];
    (0..len).map(|i| if i % 7 == 0 { special[i / 7 % 6] } else { rng.f32() * 4.0 - 2.0 }).collect()
}

fn bits<T: Element>(values: &[T]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

const STORAGE: Usages = Usages::STORAGE.union(Usages::COPY_SRC).union(Usages::COPY_DST);

fn tensors_in_the_callers_buffers_are_clipped_there(adapter: Adapter) {
    let Some(user) = UserDevice::open(&adapter, true) else { return };
    let UserDevice { device, .. } = &user;
    let wgclip = user.wgclip();
    let x = values(1003);
    let clip = |x: &f32| reference::clip(*x, Some(-1.0), Some(1.0));
    let expected: Vec<f32> = x.iter().map(clip).collect();
    // Two tensors in one buffer, the second at an offset.
    let mut bytes = bytemuck::cast_slice(&x).to_vec();
    bytes.resize(4096, 0);
    bytes.extend_from_slice(bytemuck::cast_slice(&x));
    let own = buffer(device, 8112, &bytes, STORAGE);
    let mut second = Tensor::<f32>::from_buffer(&wgclip, own.clone(), 4096, [17, 59]).unwrap();
    let first = Tensor::<f32>::from_buffer(&wgclip, own.clone(), 0, [1003]).unwrap();
    second.clip_in_place(Bounds::new(-1.0, 1.0).unwrap()).unwrap();
    let slice = second.buffer().unwrap().unwrap();
    assert_eq!((slice.buffer(), slice.offset(), slice.size()), (&own, 4096, 4016));
    assert_eq!(bits(&second.to_vec().unwrap()), bits(&expected));
    assert_eq!(bits(&first.to_vec().unwrap()), bits(&x), "the neighbour was touched");
    // Beside bounds and gradients of the pool.
    let lo = wgclip.tensor(&[-1.0f32; 59], [59]).unwrap();
    let y = second.clip(Bounds::new(lo, 1.0).unwrap()).unwrap();
    assert_eq!(bits(&y.to_vec().unwrap()), bits(&expected));
    // It can be dropped and is still the caller's.
    drop((first, second));
    let again = Tensor::<f32>::from_buffer(&wgclip, own, 4096, [1003]).unwrap();
    assert_eq!(bits(&again.to_vec().unwrap()), bits(&expected));
    assert_eq!(user.errors(), 0, "the caller's handler was called");
}

fn what_a_kernel_cannot_work_on_is_refused(adapter: Adapter) {
    let Some(user) = UserDevice::open(&adapter, true) else { return };
    let UserDevice { device, .. } = &user;
    let wgclip = user.wgclip();
    let own = buffer(device, 1024, &[], STORAGE);
    let refused = |buffer: &wgpu::Buffer, offset, len: usize| {
        let tensor = Tensor::<f32>::from_buffer(&wgclip, buffer.clone(), offset, [len]);
        assert!(matches!(tensor, Err(Error::Unsupported { .. })), "{tensor:?}");
    };
    refused(&own, 4, 10);
    refused(&own, 0, 257);
    refused(&own, 768, 65);
    refused(&buffer(device, 1004, &[], STORAGE), 0, 251);
    refused(&buffer(device, 1024, &[], Usages::VERTEX), 0, 16);
    assert!(Tensor::<f32>::from_buffer(&Device::cpu(), own.clone(), 0, [1]).is_err());

    let x = Tensor::<f32>::from_buffer(&wgclip, own.clone(), 0, [64]).unwrap();
    let mut g = Tensor::<f32>::from_buffer(&wgclip, own.clone(), 512, [64]).unwrap();
    let one = Bounds::at_least(1.0).unwrap();
    // Parts of one buffer are as good as two, unless they overlap.
    x.clip_backward_in_place(&mut g, &one, BackwardRule::default()).unwrap();
    let part = |offset| Tensor::<f32>::from_buffer(&wgclip, own.clone(), offset, [128]).unwrap();
    let overlapping = part(0).clip_backward_in_place(&mut part(256), &one, BackwardRule::default());
    assert!(matches!(overlapping, Err(Error::Unsupported { .. })), "{overlapping:?}");
    let unreadable = Tensor::<f32>::from_buffer(&wgclip, buffer(device, 64, &[], Usages::STORAGE), 0, [16]);
    let error = unreadable.unwrap().to_vec().unwrap_err();
    assert!(error.to_string().contains("COPY_SRC"), "{error}");
    assert_eq!(user.errors(), 0, "the caller's handler was called");
}

/// A device of the caller's is watched call by call, since its callbacks are not ours.
fn a_device_lost_under_us_is_learned_from_a_read(adapter: Adapter) {
    let Some(user) = UserDevice::open(&adapter, true) else { return };
    let UserDevice { device, .. } = &user;
    let wgclip = user.wgclip();
    let y = wgclip.tensor(&[1.0f32; 100], [100]).unwrap().clip(Bounds::at_least(2.0).unwrap()).unwrap();
    device.destroy();
    for _ in 0..2 {
        let error = y.to_vec().unwrap_err();
        assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
    }
    assert!(matches!(wgclip.flush(), Err(Error::DeviceLost { .. })));
    assert_eq!(user.errors(), 0, "the caller's handler was called");
}

/// Reads a buffer back with plain wgpu.
fn read<T: Element>(device: &wgpu::Device, queue: &wgpu::Queue, buffer: &wgpu::Buffer) -> Vec<T> {
    let staging = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: buffer.size(),
        usage: Usages::MAP_READ | Usages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
    queue.submit([encoder.finish()]);
    staging.map_async(wgpu::MapMode::Read, .., |mapped| mapped.unwrap());
    device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    let view = staging.get_mapped_range(..).unwrap();
    bytemuck::pod_collect_to_vec(&view)
}

fn kernels_join_the_callers_pass(adapter: Adapter) {
    let Some(user) = UserDevice::open(&adapter, true) else { return };
    let UserDevice { device, queue, .. } = &user;
    let kernels = Kernels::new(device).unwrap();
    let (rows, columns) = (30, 40);
    let len = rows * columns;
    let (x, g) = (values(len), values(len + 1)[1..].to_vec());
    let hi: Vec<f32> = (0..columns).map(|i| i as f32 / 20.0).collect();
    let size = 4 * len as u64;
    let of = |data: &[f32]| buffer(device, 4 * data.len() as u64, bytemuck::cast_slice(data), STORAGE);
    let poisoned = vec![f32::from_bits(0xdead_beef); len];
    let [y, gx, z, h, saved] = [&poisoned, &poisoned, &x, &g, &g].map(|data| of(data));
    let (x_buffer, g_buffer, hi_buffer) = (of(&x), of(&g), of(&hi));
    let mask = buffer(device, Kernels::mask_bytes(ElementType::F32, size), &[], STORAGE);

    let shape = Shape::new([rows, columns]).unwrap();
    let of_columns = Shape::new([columns]).unwrap();
    let tensor = Bound::Tensor((hi_buffer.slice(..), &of_columns));
    let bounds = BroadcastInputs::bounds(&shape, Bound::Value(-0.5f32), tensor).unwrap();
    let rule = BackwardRule { ties: TieRule::Exclusive, ..BackwardRule::default() };
    let arguments = Arguments { rule, ..Arguments::new(&bounds) };
    let none = BroadcastInputs::none(ElementType::F32);
    let of_mask = Arguments::new(&none);
    let ops = [
        kernels.prepare(Op::Clip, &[x_buffer.slice(..)], &[y.slice(..)], &arguments),
        kernels.prepare(
            Op::ClipBackward,
            &[x_buffer.slice(..), g_buffer.slice(..)],
            &[gx.slice(..)],
            &arguments,
        ),
        kernels.prepare(Op::Clip, &[z.slice(..)], &[z.slice(..)], &arguments),
        kernels.prepare(Op::ClipBackward, &[x_buffer.slice(..), h.slice(..)], &[h.slice(..)], &arguments),
        kernels.prepare(Op::ClipWithMask, &[x_buffer.slice(..)], &[y.slice(..), mask.slice(..)], &arguments),
        kernels.prepare(Op::MaskBackward, &[mask.slice(..), saved.slice(..)], &[saved.slice(..)], &of_mask),
    ]
    .map(Result::unwrap);
    let mut encoder = device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    ops.iter().for_each(|op| op.record(&mut pass));
    drop(pass);
    queue.submit([encoder.finish()]);

    let expected: Vec<f32> =
        (0..len).map(|i| reference::clip(x[i], Some(-0.5), Some(hi[i % columns]))).collect();
    let grads: Vec<f32> = (0..len)
        .map(|i| reference::clip_backward(x[i], g[i], Some(-0.5), Some(hi[i % columns]), rule))
        .collect();
    for (name, buffer, expected) in [
        ("clip", &y, &expected),
        ("in place", &z, &expected),
        ("gradient", &gx, &grads),
        ("gradient in place", &h, &grads),
        ("gradient of the mask", &saved, &grads),
    ] {
        assert_eq!(bits(&read::<f32>(device, queue, buffer)), bits(expected), "{name}");
    }
    assert_eq!(user.errors(), 0, "the caller's handler was called");
}

/// Between two parts of one buffer, of which nothing but the result is written.
fn kernels_convert_in_the_callers_buffer(adapter: Adapter) {
    fn converts<T: Element, U: Element>(user: &UserDevice, kernels: &Kernels, len: usize) {
        let UserDevice { device, queue, .. } = user;
        let x: Vec<T> = (0..len).map(|i| T::from_f64(i as f64 / 3.0 - 100.0)).collect();
        let blocks = |size: usize| (len * size).next_multiple_of(16);
        let (before, after) = (blocks(size_of::<T>()), blocks(size_of::<U>()));
        let start = before.next_multiple_of(256);
        let mut data = vec![0xa5u8; start + after + 64];
        data[..len * size_of::<T>()].copy_from_slice(bytemuck::cast_slice(&x));
        let both = buffer(device, data.len() as u64, &data, STORAGE);
        let (lo, hi) = (Some(T::from_f64(-50.0)), Some(T::from_f64(60.0)));
        let bounds = BroadcastInputs::values(lo, hi).unwrap();
        let arguments = Arguments { to: Some(U::TYPE), ..Arguments::new(&bounds) };
        let (from, to) = (both.slice(..before as u64), both.slice(start as u64..(start + after) as u64));
        let clip = kernels.prepare(Op::ClipTo, &[from], &[to], &arguments).unwrap();
        let mut encoder = device.create_command_encoder(&Default::default());
        clip.record(&mut encoder.begin_compute_pass(&Default::default()));
        queue.submit([encoder.finish()]);

        let made = read::<u8>(device, queue, &both);
        let expected: Vec<U> = x.iter().map(|&x| reference::clip_to(x, lo, hi)).collect();
        let expected: &[u8] = bytemuck::cast_slice(&expected);
        assert!(made[start..][..expected.len()] == *expected, "{len} {} to {}", T::TYPE, U::TYPE);
        assert!(made[..start] == data[..start] && made[start + after..] == data[start + after..], "around");
        let short = both.slice(start as u64..start as u64 + 16);
        let error =
            kernels.prepare(Op::ClipTo, &[both.slice(..before as u64)], &[short], &arguments).unwrap_err();
        assert!(matches!(error, Error::ShapeMismatch { .. }), "{error}");
    }
    let Some(user) = UserDevice::open(&adapter, true) else { return };
    let kernels = Kernels::new(&user.device).unwrap();
    for len in [33, 1000, 70_001] {
        converts::<f32, f8_e4m3fn>(&user, &kernels, len);
        converts::<f64, f8_e5m2>(&user, &kernels, len);
        converts::<f8_e5m2, f64>(&user, &kernels, len);
        converts::<f16, f32>(&user, &kernels, len);
    }
    assert_eq!(user.errors(), 0, "the caller's handler was called");
}

fn kernels_refuse_what_they_cannot_work_on(adapter: Adapter) {
    let Some(user) = UserDevice::open(&adapter, true) else { return };
    let UserDevice { device, .. } = &user;
    let kernels = Kernels::new(device).unwrap();
    let (a, b) = (buffer(device, 4096, &[], STORAGE), buffer(device, 4096, &[], STORAGE));
    let unit = BroadcastInputs::values(Some(0.0f32), Some(1.0)).unwrap();
    let with_rule = |rule| Arguments { rule, ..Arguments::new(&unit) };
    let straight =
        with_rule(BackwardRule { outside: OutsideRule::StraightThrough, ..BackwardRule::default() });
    let half = with_rule(BackwardRule { ties: TieRule::Half, ..BackwardRule::default() });
    let unit = Arguments::new(&unit);
    let (long, short) = (Shape::new([1024]).unwrap(), Shape::new([512]).unwrap());
    let tensor = Bound::<f32, _>::Tensor((b.slice(..1024), &long));
    let too_short = BroadcastInputs::bounds(&long, tensor, Bound::Absent).unwrap();
    let tensor = Bound::<f32, _>::Tensor((b.slice(..2048), &short));
    let of_others = BroadcastInputs::bounds(&short, tensor, Bound::Absent).unwrap();
    let masks = BroadcastInputs::none(ElementType::F32);
    let clip = |x, y, arguments: &Arguments<'_, wgpu::BufferSlice<'_>>| {
        kernels.prepare(Op::Clip, &[x], &[y], arguments).unwrap_err()
    };
    let errors_of = [
        clip(a.slice(..), b.slice(..2048), &unit),
        clip(a.slice(16..), b.slice(16..), &unit),
        clip(a.slice(..1000), b.slice(..1000), &unit),
        clip(a.slice(..2048), a.slice(1024..3072), &unit),
        clip(a.slice(..), a.slice(..), &Arguments::new(&too_short)),
        clip(a.slice(..), a.slice(..), &Arguments::new(&of_others)),
        kernels
            .prepare(Op::ClipBackward, &[a.slice(..), b.slice(..)], &[b.slice(..)], &straight)
            .unwrap_err(),
        kernels.prepare(Op::ClipWithMask, &[a.slice(..)], &[b.slice(..), b.slice(..)], &half).unwrap_err(),
        kernels
            .prepare(Op::MaskBackward, &[a.slice(..16), b.slice(..)], &[b.slice(..)], &Arguments::new(&masks))
            .unwrap_err(),
        kernels.prepare(Op::Clip, &[], &[b.slice(..)], &unit).unwrap_err(),
    ];
    for error in errors_of {
        assert!(!matches!(error, Error::Gpu { .. }), "{error}");
    }
    assert_eq!(user.errors(), 0, "the caller's handler was called");
}

fn reads_make_progress_under_tokio_many_at_once(adapter: Adapter) {
    let work = |device: Device| async move {
        let tasks: Vec<_> = (0..32)
            .map(|i| {
                let device = device.clone();
                tokio::spawn(async move {
                    let x = device.tensor(&vec![i as f32; 1000 + i], [1000 + i]).unwrap();
                    let y = x.clip(Bounds::at_most(10.0).unwrap()).unwrap().read().await.unwrap();
                    assert_eq!(y, vec![(i as f32).min(10.0); 1000 + i]);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    };
    let Some(user) = UserDevice::open(&adapter, true) else { return };
    let device = user.wgclip();
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work(device.clone()));
    tokio::runtime::Builder::new_multi_thread().build().unwrap().block_on(work(device));
}

/// Operands that are disjoint parts of one buffer, as engines with pools have them.
fn parts_of_one_buffer_are_operands(adapter: Adapter) {
    let Some(user) = UserDevice::open(&adapter, true) else { return };
    let UserDevice { device, queue, .. } = &user;
    let kernels = Kernels::new(device).unwrap();
    let (x, g) = (values(512), values(513)[1..].to_vec());
    let bytes: Vec<u8> =
        [&x, &g, &g].iter().flat_map(|data| bytemuck::cast_slice::<f32, u8>(data)).copied().collect();
    let pool = buffer(device, 8192, &bytes, STORAGE);
    let part = |n: u64| pool.slice(2048 * n..2048 * (n + 1));
    let bounds = BroadcastInputs::values(Some(-0.5f32), Some(0.75)).unwrap();
    let arguments = Arguments::new(&bounds);
    let ops = [
        kernels.prepare(Op::Clip, &[part(0)], &[part(3)], &arguments).unwrap(),
        kernels.prepare(Op::ClipBackward, &[part(0), part(1)], &[part(1)], &arguments).unwrap(),
        kernels.prepare(Op::ClipBackward, &[part(0), part(2)], &[part(2)], &arguments).unwrap(),
    ];
    let mut encoder = device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    ops.iter().for_each(|op| op.record(&mut pass));
    drop(pass);
    queue.submit([encoder.finish()]);
    let clipped: Vec<f32> = x.iter().map(|&x| reference::clip(x, Some(-0.5), Some(0.75))).collect();
    let rule = BackwardRule::default();
    let grads = x.iter().zip(&g).map(|(&x, &g)| reference::clip_backward(x, g, Some(-0.5), Some(0.75), rule));
    let grads: Vec<f32> = grads.collect();
    let expected = [x, grads.clone(), grads, clipped].concat();
    assert_eq!(bits(&read::<f32>(device, queue, &pool)), bits(&expected));
    let overlapping = kernels.prepare(Op::Clip, &[part(0)], &[pool.slice(1024..3072)], &arguments);
    assert!(matches!(overlapping, Err(Error::Unsupported { .. })), "{overlapping:?}");
    assert_eq!(user.errors(), 0, "the caller's handler was called");
}

pub(crate) fn register(suite: &mut Suite) {
    suite.per_adapter(&[
        (
            "wgpu_interop::tensors_in_the_callers_buffers_are_clipped_there",
            tensors_in_the_callers_buffers_are_clipped_there,
        ),
        ("wgpu_interop::what_a_kernel_cannot_work_on_is_refused", what_a_kernel_cannot_work_on_is_refused),
        (
            "wgpu_interop::a_device_lost_under_us_is_learned_from_a_read",
            a_device_lost_under_us_is_learned_from_a_read,
        ),
        ("wgpu_interop::kernels_join_the_callers_pass", kernels_join_the_callers_pass),
        ("wgpu_interop::kernels_convert_in_the_callers_buffer", kernels_convert_in_the_callers_buffer),
        ("wgpu_interop::kernels_refuse_what_they_cannot_work_on", kernels_refuse_what_they_cannot_work_on),
        (
            "wgpu_interop::reads_make_progress_under_tokio_many_at_once",
            reads_make_progress_under_tokio_many_at_once,
        ),
        ("wgpu_interop::parts_of_one_buffer_are_operands", parts_of_one_buffer_are_operands),
    ]);
}
