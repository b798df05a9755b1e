//! A GPU: tensors that stay on the device, and the copies and the program that are its roof and its floor.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use wgclip::gpu::{Context, Kernels, Prepared};
use wgclip::{Bounds, Device, Element, Gradient, Interval, Wanted};

use crate::values::between;
use crate::{COLUMNS, Case, Clock, What, bounds, values};

/// A copy of the same blocks as a clip's, workgroups and bytes; the body is the operation.
const KERNEL: &str = "
    @group(0) @binding(0) var<storage, read> x: array<vec4<TYPE>>;
    @group(0) @binding(1) var<storage, read_write> y: array<vec4<TYPE>>;
    @group(0) @binding(2) var<uniform> bounds: vec4<TYPE>;

    @compute @workgroup_size(256)
    fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
        let i = id.y * groups.x * 256u + id.x;
        if i < arrayLength(&y) {
            y[i] = OPERATION;
        }
    }
";

/// Something that records its dispatches into a pass.
trait Record {
    fn record(&self, pass: &mut wgpu::ComputePass<'_>);
}

impl Record for Prepared {
    fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        Self::record(self, pass);
    }
}

/// A kernel of a hand-written program: its pipeline and its bind group are made once.
struct Raw {
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    workgroups: [u32; 2],
}

impl Raw {
    /// `operation` on the words of `x`, into `y`.
    fn new(
        device: &wgpu::Device,
        (ty, operation): (&str, &str),
        x: &wgpu::Buffer,
        y: &wgpu::Buffer,
        bytes: u64,
    ) -> Self {
        let source = KERNEL.replace("TYPE", ty).replace("OPERATION", operation);
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: Default::default(),
            cache: None,
        });
        let uniform = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 16,
            usage: wgpu::BufferUsages::UNIFORM,
            mapped_at_creation: true,
        });
        if let Ok(mut view) = uniform.slice(..).get_mapped_range_mut() {
            view.slice(..).copy_from_slice(bytemuck::bytes_of(&[0.0f32, 1.0, 0.0, 0.0]));
        }
        uniform.unmap();
        let part = |buffer| wgpu::BufferBinding { buffer, offset: 0, size: wgpu::BufferSize::new(bytes) };
        let entry = |binding, buffer| wgpu::BindGroupEntry {
            binding,
            resource: wgpu::BindingResource::Buffer(part(buffer)),
        };
        let mut entries = vec![entry(0, x), entry(1, y)];
        if operation.contains("bounds") {
            entries.push(wgpu::BindGroupEntry { binding: 2, resource: uniform.as_entire_binding() });
        }
        let layout = &pipeline.get_bind_group_layout(0);
        let group =
            device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries });
        let groups = bytes.div_ceil(16 * 256) as u32;
        let rows = groups.div_ceil(device.limits().max_compute_workgroups_per_dimension);
        Self { pipeline, group, workgroups: [groups.div_ceil(rows), rows] }
    }
}

impl Record for Raw {
    fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.dispatch_workgroups(self.workgroups[0], self.workgroups[1], 1);
    }
}

/// A device, its queue, and what times its passes where it can.
#[derive(Clone)]
struct Queue {
    device: wgpu::Device,
    queue: wgpu::Queue,
}

impl Queue {
    /// Encodes, submits and waits.
    fn submit(&self, encode: impl FnOnce(&mut wgpu::CommandEncoder)) -> Result<()> {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encode(&mut encoder);
        let submission = self.queue.submit([encoder.finish()]);
        let timeout = Some(Duration::from_secs(60));
        self.device.poll(wgpu::PollType::Wait { submission_index: Some(submission), timeout })?;
        Ok(())
    }

    /// A case of a pass with `batch` operations, by the host's clock.
    fn by_host(&self, what: What, kernel: impl Record + 'static) -> Case<'static> {
        let (queue, batch) = (self.clone(), what.batch);
        Case::timed(what, move || {
            queue.submit(|encoder| {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                (0..batch).for_each(|_| kernel.record(&mut pass));
            })
        })
    }

    /// The same by the device's clock.
    fn by_device(&self, what: What, kernel: impl Record + 'static) -> Case<'static> {
        let (queue, batch) = (self.clone(), what.batch);
        let buffer = |usage| {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: 16,
                usage,
                mapped_at_creation: false,
            })
        };
        let resolved = buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC);
        let read = buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
        let set = self.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: None,
            ty: wgpu::QueryType::Timestamp,
            count: 2,
        });
        let once = move || -> Result<Duration> {
            queue.submit(|encoder| {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: None,
                    timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                        query_set: &set,
                        beginning_of_pass_write_index: Some(0),
                        end_of_pass_write_index: Some(1),
                    }),
                });
                (0..batch).for_each(|_| kernel.record(&mut pass));
                drop(pass);
                encoder.resolve_query_set(&set, 0..2, &resolved, 0);
                encoder.copy_buffer_to_buffer(&resolved, 0, &read, 0, 16);
            })?;
            read.map_async(wgpu::MapMode::Read, .., |_| {});
            queue.device.poll(wgpu::PollType::wait_indefinitely())?;
            let ticks: [u64; 2] = bytemuck::pod_read_unaligned(&read.get_mapped_range(..)?);
            read.unmap();
            let ns = ticks[1].wrapping_sub(ticks[0]) as f64 * f64::from(queue.queue.get_timestamp_period());
            Ok(Duration::from_nanos(ns as u64))
        };
        Case { what, run: Box::new(move |times| (0..times).map(|_| once()).sum()) }
    }
}

/// The cases of these operations and of the device's roofs, on `elements` elements of `T`: with `batch` operations
/// between two waits by the host's clock, and by the device's where it has one and a batch is more than one.
///
/// # Errors
/// What the operations return.
pub fn cases<T: Element>(
    context: &Context,
    elements: usize,
    ops: &[String],
    batch: u32,
) -> Result<Vec<Case<'static>>> {
    let device = Device::from(context.clone());
    let info = device.info();
    let what = |op: &str| What::new(op, T::TYPE, elements, &info).batch(batch);
    let queue = Queue { device: context.device().clone(), queue: context.queue().clone() };
    let data = values::<T>(elements);
    let [x, g, y, z] = [(); 4].map(|()| device.tensor(&data, [elements]));
    let (x, g, y, z) = (x?, g?, y?, z?);
    let (lo, hi) = bounds::<T>();
    let between = between::<T>()?;
    let rule = Gradient::default();

    let mut cases = Vec::new();
    let bytes = (elements * size_of::<T>()) as u64;
    let (from, to) = (x.buffer()?.context("no elements")?, y.buffer()?.context("no elements")?);
    // A kernel written by hand does not split its work.
    let fits = bytes.next_multiple_of(16) <= queue.device.limits().max_storage_buffer_binding_size;
    let raw = |ty, operation| {
        let bytes = bytes.next_multiple_of(16);
        Raw::new(&queue.device, (ty, operation), from.buffer(), to.buffer(), bytes)
    };
    let timed = batch > 1 && queue.device.features().contains(wgpu::Features::TIMESTAMP_QUERY);
    let by_device = |op| what(op).clock(Clock::Device);
    if fits {
        cases.push(queue.by_host(what("copy_kernel"), raw("u32", "x[i]")));
        if timed {
            cases.push(queue.by_device(by_device("copy_kernel"), raw("u32", "x[i]")));
        }
        if T::TYPE == wgclip::ElementType::F32 && ops.iter().any(|op| op == "clip") {
            let clamp = raw("f32", "clamp(x[i], bounds.xxxx, bounds.yyyy)");
            cases.push(queue.by_host(what("clip").by("raw_wgpu"), clamp));
        }
    }
    {
        let (queue, from, to) = (queue.clone(), from.buffer().clone(), to.buffer().clone());
        let bytes = bytes.next_multiple_of(16);
        cases.push(Case::timed(what("copy_buffer"), move || {
            queue.submit(|encoder| {
                (0..batch).for_each(|_| encoder.copy_buffer_to_buffer(&from, 0, &to, 0, bytes));
            })
        }));
    }

    let kernels = Kernels::new(&queue.device);
    let interval = Interval::values(Some(lo), Some(hi))?;
    for op in ops {
        if timed {
            let (x, y, z) = (from, to, z.buffer()?.context("no elements")?);
            let g = g.buffer()?.context("no elements")?;
            let mask = queue.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: Kernels::mask_bytes::<T>(bytes),
                usage: wgpu::BufferUsages::STORAGE,
                mapped_at_creation: false,
            });
            let prepared = match op.as_str() {
                "clip" => Some(kernels.clip::<T>(x, y, &interval)?),
                "clip_in_place" => Some(kernels.clip_in_place::<T>(z, &interval)?),
                "clip_saving" => Some(kernels.clip_saving::<T>(x, y, mask.slice(..), &interval, rule)?),
                "clip_grad" => Some(kernels.clip_grad::<T>(x, g, y, &interval, rule)?),
                "backward_saved" => Some(kernels.saved_grad::<T>(mask.slice(..), g, y)?),
                _ => None,
            };
            cases.extend(prepared.map(|prepared| queue.by_device(by_device(op), prepared)));
        }

        let what = what(op);
        let (device, x, g, between) = (device.clone(), x.clone(), g.clone(), between.clone());
        let batched = move |device: Device, mut once: Box<dyn FnMut() -> wgclip::Result<()>>| {
            move || {
                (0..batch).try_for_each(|_| once())?;
                Ok(device.wait()?)
            }
        };
        let once: Box<dyn FnMut() -> wgclip::Result<()>> = match op.as_str() {
            "clip" => Box::new(move || x.clip(&between).map(drop)),
            "clip_in_place" => {
                let mut z = device.tensor(&data, [elements])?;
                Box::new(move || z.clip_in_place(&between))
            }
            "clip_saving" => Box::new(move || x.clip_saving(&between, rule).map(drop)),
            "clip_grad" => Box::new(move || x.clip_grad(&g, &between, rule).map(drop)),
            "backward_saved" => {
                let (_, saved) = x.clip_saving(&between, rule)?;
                Box::new(move || saved.backward(&g).map(drop))
            }
            "bound_grad" => {
                let columns = COLUMNS.min(elements);
                let shape = [elements / columns, columns];
                let x = device.tensor(&data[..shape[0] * columns], shape)?;
                let bounds = Bounds::new(lo, device.tensor(&vec![hi; columns], [columns])?)?;
                Box::new(move || x.clip_grads(&x, &bounds, rule, Wanted::HI).map(drop))
            }
            _ => continue,
        };
        cases.push(Case::timed(what, batched(device, once)));
    }
    device.wait()?;
    Ok(cases)
}

/// Opens every adapter that `wanted` chooses.
///
/// # Errors
/// [`wgclip::Error::DeviceRequest`].
pub fn open(wanted: impl Fn(&wgclip::DeviceInfo) -> bool) -> Result<Vec<Context>> {
    let adapters = pollster::block_on(wgclip::gpu::adapters());
    let chosen = adapters.iter().filter(|adapter| wanted(adapter.info()));
    chosen.map(|adapter| Ok(pollster::block_on(Context::request(adapter, adapter.limits()))?)).collect()
}

/// Host time of recording one operation in a batch, the submissions that it fills included and the wait not.
///
/// # Errors
/// What the operation returns.
pub fn recording(context: &Context, elements: usize) -> Result<Case<'static>> {
    let device = Device::from(context.clone());
    let batch = 200;
    let what = What::new("clip", wgclip::ElementType::F32, elements, &device.info());
    let what = what.by("wgclip_recording").batch(batch);
    let (x, bounds) = (device.tensor(&values::<f32>(elements), [elements])?, between::<f32>()?);
    let run = move |times| {
        let mut total = Duration::ZERO;
        for _ in 0..times {
            let start = Instant::now();
            for _ in 0..batch {
                drop(x.clip(&bounds)?);
            }
            total += start.elapsed();
            device.wait()?;
        }
        Ok(total)
    };
    Ok(Case { what, run: Box::new(run) })
}
