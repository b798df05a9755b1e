//! A GPU: tensors that stay on the device, the copies that are its bandwidth limit, and a program written by hand.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use wgclip::gpu::{Arguments, Context, Kernels, Prepared};
use wgclip::op::{MAX_OUTPUTS, Operand};
use wgclip::testing::{self, Operands};
use wgclip::{BackwardRule, Bound, Bounds, Device, Element};

use crate::values::{OTHERS, between, broadcast};
use crate::{BenchId, COLUMNS, Case, Clock, PARAMS, bounds, chosen, converted, needs_of_sums, sums, values};

/// A copy of the same blocks as a clip's, workgroups and bytes; the body is the operation.
const KERNEL: &str = "
    @group(0) @binding(0) var<storage, read> x: array<vec4<TYPE>>;
    @group(0) @binding(1) var<storage, read_write> y: array<vec4<TYPE>>;
    @group(0) @binding(2) var<uniform> bounds: vec4<TYPE>;

    @compute @workgroup_size(256)
    fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
        let i = id.y * groups.x * 256u + id.x;
        if i < arrayLength(&y) {
            STATEMENT
        }
    }
";

/// What reads all and writes nothing, for all that the compiler knows.
const READ: &str = "if all(x[i] == vec4(0x7fc01234u)) { y[i] = x[i]; }";

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
    /// `statement` on the words of `x` and `y`.
    fn new(
        device: &wgpu::Device,
        (ty, statement): (&str, &str),
        x: &wgpu::Buffer,
        y: &wgpu::Buffer,
        bytes: u64,
    ) -> Self {
        let source = KERNEL.replace("TYPE", ty).replace("STATEMENT", statement);
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
        if statement.contains("bounds") {
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
    fn by_host(&self, id: BenchId, kernel: impl Record + 'static) -> Case<'static> {
        let (queue, batch) = (self.clone(), id.batch);
        Case::timed(id, move || {
            queue.submit(|encoder| {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                (0..batch).for_each(|_| kernel.record(&mut pass));
            })
        })
    }

    /// The same by the device's clock.
    fn by_device(&self, id: BenchId, kernel: impl Record + 'static) -> Case<'static> {
        let (queue, batch) = (self.clone(), id.batch);
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
        Case { id, run: Box::new(move |times| (0..times).map(|_| once()).sum()) }
    }
}

/// The cases of these operations and of the device's baselines, on `elements` elements of `T`: with `batch` operations
/// between two waits by the host's clock, and by the device's where it has one and a batch is more than one.
///
/// # Errors
/// BenchId the operations return.
pub fn cases<T: Element>(
    context: &Context,
    elements: usize,
    ops: &[String],
    batch: u32,
) -> Result<Vec<Case<'static>>> {
    let device = Device::from(context.clone());
    let info = device.info();
    let id = |op: &str| BenchId::new(op, T::TYPE, elements, &info).batch(batch);
    let queue = Queue { device: context.device().clone(), queue: context.queue().clone() };
    let data = values::<T>(elements);
    let [x, g, y, z] = [(); 4].map(|()| device.tensor(&data, [elements]));
    let (x, g, y, z) = (x?, g?, y?, z?);
    let (lo, hi) = bounds::<T>();
    let between = between::<T>()?;
    let rule = BackwardRule::default();

    let mut cases = Vec::new();
    let bytes = (elements * size_of::<T>()) as u64;
    let (from, to) = (x.buffer()?.context("no elements")?, y.buffer()?.context("no elements")?);
    // A kernel written by hand does not split its work.
    let fits = bytes.next_multiple_of(16) <= queue.device.limits().max_storage_buffer_binding_size;
    let raw = |ty, statement| {
        let bytes = bytes.next_multiple_of(16);
        Raw::new(&queue.device, (ty, statement), from.buffer(), to.buffer(), bytes)
    };
    let timed = batch > 1 && queue.device.features().contains(wgpu::Features::TIMESTAMP_QUERY);
    let by_device = |op: &str| id(op).clock(Clock::Device);
    if fits {
        cases.push(queue.by_host(id("copy_kernel"), raw("u32", "y[i] = x[i];")));
        cases.push(queue.by_host(id("read_kernel"), raw("u32", READ)));
        if timed {
            cases.push(queue.by_device(by_device("copy_kernel"), raw("u32", "y[i] = x[i];")));
        }
        if T::TYPE == wgclip::ElementType::F32 && ops.iter().any(|op| op == "clip") {
            let clamp = raw("f32", "y[i] = clamp(x[i], bounds.xxxx, bounds.yyyy);");
            cases.push(queue.by_host(id("clip").by("raw_wgpu"), clamp));
        }
    }
    {
        let (queue, from, to) = (queue.clone(), from.buffer().clone(), to.buffer().clone());
        let bytes = bytes.next_multiple_of(16);
        cases.push(Case::timed(id("copy_buffer"), move || {
            queue.submit(|encoder| {
                (0..batch).for_each(|_| encoder.copy_buffer_to_buffer(&from, 0, &to, 0, bytes));
            })
        }));
    }

    let kernels = Kernels::new(&queue.device)?;
    let mask = queue.device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: Kernels::mask_bytes(T::TYPE, bytes),
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    });
    let converted_to = queue.device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: (elements as u64 * 4).next_multiple_of(16),
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    });
    for (op, in_place) in chosen::<T>(ops) {
        let (name, info) = (op.variant_name(in_place), op.info());
        if !op.is_for(T::TYPE, true) {
            continue;
        }
        if timed && !sums(op) {
            let resolved = broadcast::<T, _>(op)?;
            let (g, z) = (g.buffer()?.context("no elements")?, z.buffer()?.context("no elements")?);
            let slice = |operand: &Operand| match operand {
                Operand::Mask => mask.slice(..),
                _ if in_place && Some(*operand) == info.in_place => z,
                Operand::G => g,
                of if info.inputs.contains(of) => from,
                _ if in_place => z,
                _ => match converted(op) {
                    // Of another type.
                    Some(of) => converted_to.slice(..((elements * of.size()) as u64).next_multiple_of(16)),
                    None => to,
                },
            };
            let inputs: Vec<_> = info.inputs.iter().map(slice).collect();
            let outputs: Vec<_> = info.outputs.iter().map(slice).collect();
            let arguments = Arguments {
                element: Some(T::TYPE),
                rule,
                params: &PARAMS[..info.params.len()],
                to: converted(op).or(Some(T::TYPE)),
                ..Arguments::new(&resolved)
            };
            let prepared = kernels.prepare(op, &inputs, &outputs, &arguments)?;
            cases.push(queue.by_device(by_device(&name), prepared));
        }

        let (id, device, x, g) = (id(&name), device.clone(), x.clone(), g.clone());
        let (x, bounds) = match sums(op) {
            true => {
                let columns = COLUMNS.min(elements);
                let shape = [elements / columns, columns];
                let x = device.tensor(&data[..shape[0] * columns], shape)?;
                (x, Bounds::new(lo, device.tensor(&vec![hi; columns], [columns])?)?)
            }
            false => (x, between.clone()),
        };
        let g = if sums(op) { x.clone() } else { g };
        let needs = if sums(op) { needs_of_sums(op) } else { [true; MAX_OUTPUTS] };
        let mask = op.has(Operand::Mask).then(|| x.clip_with_mask(&bounds, rule)).transpose()?;
        let mask = mask.map(|(_, mask)| mask);
        let mut z = device.tensor(&data, [elements])?;
        cases.push(Case::timed(id, move || {
            let (params, to) = (&PARAMS[..], converted(op));
            for _ in 0..batch {
                let mask = mask.as_ref();
                let others = &OTHERS.map(|number| Bound::Value(T::from_f64(number)));
                let operands =
                    Operands { mask, others, params, to, needs, ..Operands::new(&x, &g, &bounds, rule) };
                match in_place {
                    true => testing::run_in_place(op, &operands, &mut z)?,
                    false => drop(testing::run(op, &operands)?),
                }
            }
            Ok(device.wait()?)
        }));
    }
    cases.extend(crate::reduce::cases::<T>(&device, elements, ops, batch)?);
    device.wait()?;
    Ok(cases)
}

/// Opens every adapter that `wanted` chooses.
///
/// # Errors
/// [`wgclip::Error::DeviceRequest`].
pub fn open(wanted: impl Fn(&wgclip::device::DeviceInfo) -> bool) -> Result<Vec<Context>> {
    let adapters = pollster::block_on(wgclip::gpu::adapters());
    let chosen = adapters.iter().filter(|adapter| wanted(adapter.info()));
    chosen.map(|adapter| Ok(pollster::block_on(Context::request(adapter, adapter.limits()))?)).collect()
}

/// Host time of recording one operation in a batch, the submissions that it fills included and the wait not.
///
/// # Errors
/// BenchId the operation returns.
pub fn recording(context: &Context, elements: usize) -> Result<Case<'static>> {
    let device = Device::from(context.clone());
    let batch = 200;
    let id = BenchId::new("clip", wgclip::ElementType::F32, elements, &device.info());
    let id = id.by("wgclip_recording").batch(batch);
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
    Ok(Case { id, run: Box::new(run) })
}
