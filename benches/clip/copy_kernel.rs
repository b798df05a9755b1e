//! The roof of every kernel: a plain WGSL copy of the same blocks, workgroups and bytes, on the same device.

const SOURCE: &str = "
    @group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;
    @group(0) @binding(1) var<storage, read_write> y: array<vec4<u32>>;

    @compute @workgroup_size(256)
    fn copy(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
        let i = id.y * groups.x * 256u + id.x;
        if i < arrayLength(&y) {
            y[i] = x[i];
        }
    }
";

/// A copy of `len` words from one buffer of its own to another.
pub struct CopyKernel {
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    workgroups: [u32; 2],
}

impl CopyKernel {
    pub fn new(device: &wgpu::Device, len: usize) -> Self {
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(SOURCE.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: Some("copy"),
            compilation_options: Default::default(),
            cache: None,
        });
        let buffer = || {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: 4 * len as u64,
                usage: wgpu::BufferUsages::STORAGE,
                mapped_at_creation: false,
            })
        };
        let (x, y) = (buffer(), buffer());
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: x.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 1, resource: y.as_entire_binding() },
            ],
        });
        let groups = (len as u32).div_ceil(4 * 256);
        let rows = groups.div_ceil(device.limits().max_compute_workgroups_per_dimension);
        Self { pipeline, group, workgroups: [groups.div_ceil(rows), rows] }
    }

    /// Copies `times` times in one pass, and waits.
    pub fn run(&self, device: &wgpu::Device, queue: &wgpu::Queue, times: u32) {
        let mut encoder = device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &self.group, &[]);
            for _ in 0..times {
                pass.dispatch_workgroups(self.workgroups[0], self.workgroups[1], 1);
            }
        }
        queue.submit([encoder.finish()]);
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    }
}
