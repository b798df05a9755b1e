//! Pipelines: each kernel compiled once for each element type and variant that it meets.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::dispatch::{Params, Variant, constants};
use super::plan::Plan;
use crate::ElementType;

/// An entry point of a shader. The constants of this type stand beside the operations that use them.
#[derive(Debug)]
pub struct Kernel {
    /// A name of its own.
    pub name: &'static str,
    /// The name of the entry point.
    pub entry: &'static str,
    /// The whole source.
    pub source: &'static str,
    /// The storage buffers in the order in which they are bound.
    pub bindings: &'static [Binding],
}

/// Storage buffers of a kernel at the most: WebGPU allows 8.
pub const MAX_BINDINGS: usize = 7;

/// A storage buffer of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Binding {
    pub index: u32,
    pub read_only: bool,
}

impl Binding {
    pub const fn read(index: u32) -> Self {
        Self { index, read_only: true }
    }

    pub const fn write(index: u32) -> Self {
        Self { index, read_only: false }
    }
}

/// The whole source of an operation: the types, the dispatch, and its own files.
macro_rules! shader {
    ($($file:literal),+) => {
        concat!(
            include_str!("../../shaders/lane.wgsl"),
            include_str!("../../shaders/dispatch.wgsl"),
            $(include_str!(concat!("../../shaders/", $file)),)+
        )
    };
}
pub(super) use shader;

/// A kernel for bounds that are values, and its like for tensors of bounds, which come first in its bindings.
macro_rules! bounded {
    ($entry:literal, [$($file:literal),+], [$($binding:expr),+]) => {
        [
            $crate::gpu::pipeline::Kernel {
                name: $entry,
                entry: $entry,
                source: shader!("bounds_value.wgsl", $($file),+),
                bindings: &[$($binding),+],
            },
            $crate::gpu::pipeline::Kernel {
                name: concat!($entry, " beside tensors"),
                entry: $entry,
                source: shader!("bounds_tensor.wgsl", $($file),+),
                bindings: &[Binding::read(1), Binding::read(2), $($binding),+],
            },
        ]
    };
}
pub(super) use bounded;

/// A compiled kernel.
#[derive(Debug)]
pub struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// Alters the source of a shader before it is compiled: how the tests plant faults.
pub type Patch = Box<dyn Fn(&str) -> String + Send + Sync>;

/// The kernel's name, and what it was compiled for.
type Key = (&'static str, ElementType, Variant);

/// The pipelines of a device.
pub struct Pipelines {
    compiled: Mutex<HashMap<Key, Arc<Pipeline>>>,
    created: AtomicU64,
    patch: Option<Patch>,
}

impl Pipelines {
    pub fn new(patch: Option<Patch>) -> Self {
        Self { compiled: Mutex::default(), created: AtomicU64::new(0), patch }
    }

    /// The pipeline of a kernel for an element type and a variant, compiled by `scoped` on first use.
    pub fn get<E>(
        &self,
        device: &wgpu::Device,
        plan: &Plan<'_>,
        scoped: impl FnOnce(&dyn Fn() -> Pipeline) -> Result<Pipeline, E>,
    ) -> Result<Arc<Pipeline>, E> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (plan.kernel.name, plan.element, plan.variant);
        if let Some(pipeline) = compiled.get(&key) {
            return Ok(pipeline.clone());
        }
        let pipeline = Arc::new(scoped(&|| self.compile(device, plan))?);
        self.created.fetch_add(1, Ordering::Relaxed);
        compiled.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    /// Drops what was compiled; what is recorded keeps its own.
    #[cfg(feature = "check")]
    pub fn clear(&self) {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How many were compiled.
    pub fn created(&self) -> u64 {
        self.created.load(Ordering::Relaxed)
    }

    fn compile(&self, device: &wgpu::Device, plan: &Plan<'_>) -> Pipeline {
        let &Plan { kernel, element, variant, .. } = plan;
        let label = format!("wgclip {} {element}", kernel.name);
        let label = Some(label.as_str());
        let source = match &self.patch {
            Some(patch) => patch(kernel.source).into(),
            None => kernel.source.into(),
        };
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label,
            source: wgpu::ShaderSource::Wgsl(source),
        });
        let layout = device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries(kernel) });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let constants = constants(element, variant);
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(kernel.entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                ..Default::default()
            },
            cache: None,
        });
        Pipeline { pipeline, layout }
    }
}

impl std::fmt::Debug for Pipelines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipelines").field("created", &self.created()).finish_non_exhaustive()
    }
}

/// The parameters at binding 0, moved along by a dynamic offset, then the kernel's buffers.
fn entries(kernel: &Kernel) -> Vec<wgpu::BindGroupLayoutEntry> {
    let entry = |binding, ty, has_dynamic_offset, min_binding_size| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size },
        count: None,
    };
    let params = wgpu::BufferSize::new(size_of::<Params>() as u64);
    let buffers = kernel.bindings.iter().map(|binding| {
        let ty = wgpu::BufferBindingType::Storage { read_only: binding.read_only };
        entry(binding.index, ty, false, None)
    });
    std::iter::once(entry(0, wgpu::BufferBindingType::Uniform, true, params)).chain(buffers).collect()
}
