//! Pipelines: each kernel compiled once for each element type and specialization that it meets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;

use super::status::DeviceStatus;
use crate::Result;
use crate::plan::{Params, Program};

/// A compiled kernel.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
    /// For each storage buffer, its binding number and whether it is read-only.
    pub bindings: Vec<(u32, bool)>,
    /// The bindings as a number: kernels with the same bindings share their bind groups.
    pub signature: u64,
}

/// Alters the source of a shader before it is compiled, by which the tests plant faults.
pub(super) type Patch = Box<dyn Fn(&str) -> String + Send + Sync>;

/// The pipelines of a device.
pub(super) struct Pipelines {
    compiled: Mutex<FxHashMap<Program, Arc<Pipeline>>>,
    created: AtomicU64,
    patch: Option<Patch>,
}

impl Pipelines {
    pub(super) fn new(patch: Option<Patch>) -> Self {
        Self { compiled: Mutex::default(), created: AtomicU64::new(0), patch }
    }

    /// The pipeline of a kernel, compiled on first use.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory), [`Error::DeviceLost`](crate::Error::DeviceLost) or
    /// [`Error::Gpu`](crate::Error::Gpu).
    pub(super) fn get(
        &self,
        device: &wgpu::Device,
        program: Program,
        status: &DeviceStatus,
    ) -> Result<Arc<Pipeline>> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = compiled.get(&program) {
            return Ok(pipeline.clone());
        }
        let (pipeline, error) = status.watch(|| Arc::new(self.compile(device, program)));
        if let Some(error) = error {
            drop(compiled);
            return Err(status.explain_refusal(0, error));
        }
        self.created.fetch_add(1, Ordering::Relaxed);
        compiled.insert(program, pipeline.clone());
        Ok(pipeline)
    }

    /// Drops the compiled pipelines; recorded work keeps its own.
    pub(super) fn clear(&self) {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The number of compiled pipelines.
    pub(super) fn created(&self) -> u64 {
        self.created.load(Ordering::Relaxed)
    }

    fn compile(&self, device: &wgpu::Device, program: Program) -> Pipeline {
        let label = program.name();
        let label = Some(label.as_str());
        let source = program.source();
        let source = self.patch.as_ref().map_or_else(|| source.clone(), |patch| patch(&source));
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label,
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        let bindings = program.bindings();
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label,
            entries: &entries(&bindings),
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(program.entry()),
            // The kernels zero it themselves, for engines that do not.
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        let signature = bindings
            .iter()
            .fold(0, |all, &(index, read_only)| all << 5 | u64::from(index << 1) | u64::from(read_only));
        Pipeline { pipeline, layout, bindings, signature }
    }
}

impl std::fmt::Debug for Pipelines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipelines").field("created", &self.created()).finish_non_exhaustive()
    }
}

/// The parameters at binding 0, with a dynamic offset, then the kernel's buffers.
fn entries(bindings: &[(u32, bool)]) -> Vec<wgpu::BindGroupLayoutEntry> {
    let entry = |binding, ty, has_dynamic_offset, min_binding_size| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size },
        count: None,
    };
    let params = wgpu::BufferSize::new(size_of::<Params>() as u64);
    let buffers = bindings
        .iter()
        .map(|&(index, read_only)| entry(index, wgpu::BufferBindingType::Storage { read_only }, false, None));
    std::iter::once(entry(0, wgpu::BufferBindingType::Uniform, true, params)).chain(buffers).collect()
}
