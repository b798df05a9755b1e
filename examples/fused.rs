//! A kernel of your own that clips exactly: bias and clip in one pass, with the element functions of `wgclip::wgsl`.
//!
//! f16 elements are added to in f32 by the kernel, two to a word, and clipped by wgclip's function as a block of 16 bytes.
//! What comes out is checked against the reference, NaN and infinities too.
//!
//! `cargo run --release --example fused`

use pollster::block_on;
use wgclip::{BackwardRule, Device, ElementType, Tensor, f16, reference, wgsl};

const LEN: usize = 4096;

const KERNEL: &str = "
    @group(0) @binding(0) var<storage, read> bias: array<vec4<u32>>;
    @group(0) @binding(1) var<storage, read_write> x: array<vec4<u32>>;

    @compute @workgroup_size(64)
    fn main(@builtin(global_invocation_id) id: vec3<u32>) {
        var block = x[id.x];
        for (var i = 0u; i < 4u; i++) {
            block[i] = pack2x16float(unpack2x16float(block[i]) + unpack2x16float(bias[id.x][i]));
        }
        // From 0 to 6, whose bits in f16 these are.
        let six = wgclip_f16_splat_element(vec2(0x4600u, 0u));
        x[id.x] = wgclip_f16_clip_block(block, vec4(0u), six);
    }
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter = block_on(instance.request_adapter(&Default::default()))?;
    let (device, queue) = block_on(adapter.request_device(&Default::default()))?;
    let wgclip = Device::from_wgpu(device.clone(), queue.clone())?;

    let values: Vec<f16> = (0..LEN).map(|i| f16::from_f32(i as f32 / 256.0 - 8.0)).collect();
    let biases: Vec<f16> = (0..LEN).map(|i| f16::from_f32((i % 8) as f32 / 8.0)).collect();
    let x = wgclip.tensor(&values, [LEN])?;
    let bias = wgclip.tensor(&biases, [LEN])?;

    let functions = wgsl::functions(ElementType::F16, BackwardRule::default())?;
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(format!("{functions}{KERNEL}").into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: Default::default(),
        cache: None,
    });
    let part = |tensor: &Tensor<f16>| -> Result<wgpu::Buffer, Box<dyn std::error::Error>> {
        Ok(tensor.buffer()?.ok_or("no elements")?.buffer().clone())
    };
    let (bias, buffer) = (part(&bias)?, part(&x)?);
    let whole =
        |buffer| wgpu::BufferBinding { buffer, offset: 0, size: wgpu::BufferSize::new(2 * LEN as u64) };
    let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[
            wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(whole(&bias)) },
            wgpu::BindGroupEntry { binding: 1, resource: wgpu::BindingResource::Buffer(whole(&buffer)) },
        ],
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    pass.set_pipeline(&pipeline);
    pass.set_bind_group(0, &group, &[]);
    pass.dispatch_workgroups(LEN as u32 / 8 / 64, 1, 1);
    drop(pass);
    queue.submit([encoder.finish()]);

    let y = x.to_vec()?;
    let (zero, six) = (f16::from_f32(0.0), f16::from_f32(6.0));
    for i in 0..LEN {
        let sum = f16::from_f32(values[i].to_f32() + biases[i].to_f32());
        let expected = reference::clip(sum, Some(zero), Some(six));
        assert_eq!(y[i].to_bits(), expected.to_bits(), "{} + {}", values[i], biases[i]);
    }
    println!("{LEN} sums clipped on {}, to the bit as the reference says", wgclip.info());
    Ok(())
}
