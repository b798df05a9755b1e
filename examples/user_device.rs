//! wgclip in a wgpu program of your own: its device, its buffers, its pass, its submission.
//!
//! The program's shader makes activations; wgclip's kernel clips them in the same compute pass; and a tensor made of the
//! program's buffer gives their gradient.
//!
//! `cargo run --release --example user_device`

use pollster::block_on;
use wgclip::bounds::BroadcastInputs;
use wgclip::gpu::{Arguments, Kernels};
use wgclip::op::Op;
use wgclip::{BackwardRule, Device, Tensor};

const LEN: usize = 1024;

const ACTIVATIONS: &str = "
    @group(0) @binding(0) var<storage, read_write> x: array<f32>;

    @compute @workgroup_size(64)
    fn activations(@builtin(global_invocation_id) id: vec3<u32>) {
        x[id.x] = f32(id.x) / 128.0 - 4.0;
    }
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter = block_on(instance.request_adapter(&Default::default()))?;
    // No features, and the limits that every WebGPU device has.
    let (device, queue) = block_on(adapter.request_device(&Default::default()))?;

    // The program's own: a buffer for x, one for y, and the shader that fills x.
    let buffer = || {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 4 * LEN as u64,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        })
    };
    let (x, y) = (buffer(), buffer());
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(ACTIVATIONS.into()),
    });
    let activations = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: Default::default(),
        cache: None,
    });
    let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &activations.get_bind_group_layout(0),
        entries: &[wgpu::BindGroupEntry { binding: 0, resource: x.as_entire_binding() }],
    });

    // wgclip's kernel over the same buffers: prepared once, recorded in any pass.
    let bounds = BroadcastInputs::values(Some(0.0f32), Some(1.0))?;
    let kernels = Kernels::new(&device)?;
    let clip = kernels.prepare(Op::Clip, &[x.slice(..)], &[y.slice(..)], &Arguments::new(&bounds))?;

    let mut encoder = device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    pass.set_pipeline(&activations);
    pass.set_bind_group(0, &group, &[]);
    pass.dispatch_workgroups(LEN as u32 / 64, 1, 1);
    clip.record(&mut pass);
    drop(pass);
    queue.submit([encoder.finish()]);

    // The level above: tensors in the program's buffers, on the program's device.
    let wgclip = Device::from_wgpu(device, queue)?;
    let x = Tensor::<f32>::from_buffer(&wgclip, x, 0, [LEN])?;
    let y = Tensor::<f32>::from_buffer(&wgclip, y, 0, [LEN])?;
    let upstream = wgclip.tensor(&[1.0f32; LEN], [LEN])?;
    let gradient = x.clip_backward(&upstream, 0.0..=1.0, BackwardRule::default())?;

    let (x, y, gradient) = (x.to_vec()?, y.to_vec()?, gradient.to_vec()?);
    println!("on {}", wgclip.info());
    for i in (0..LEN).step_by(128) {
        println!("x {:5.2}  y {:5.2}  dx {:5.2}", x[i], y[i], gradient[i]);
    }
    assert!(y.iter().zip(&x).all(|(y, x)| *y == x.clamp(0.0, 1.0)));
    Ok(())
}
