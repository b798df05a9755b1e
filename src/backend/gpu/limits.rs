//! The limits of a wgpu device, in the form that plans take.

use super::recorder::parameter_bytes;
use crate::plan::{Limits, MAX_BINDINGS, Params};
use crate::wgsl::{BLOCK_BYTES, WORKGROUP, blocks_per_mask_word};
use crate::{DeviceInfo, ElementType, Error, Result};

impl Limits {
    pub(super) fn of(limits: &wgpu::Limits) -> Self {
        Self {
            max_binding: limits.max_storage_buffer_binding_size,
            offset_alignment: limits.min_storage_buffer_offset_alignment.into(),
            max_workgroups: limits.max_compute_workgroups_per_dimension,
            max_buffers: limits.max_storage_buffers_per_shader_stage,
        }
    }

    /// The limits of a device that can run kernels.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the name of the limit that is too low.
    pub(super) fn checked(limits: &wgpu::Limits, info: &DeviceInfo) -> Result<Self> {
        // A binding holds a workgroup's words of a mask, for the type with the most blocks per word.
        let binding = u64::from(blocks_per_mask_word(ElementType::F64) * WORKGROUP) * BLOCK_BYTES;
        let needed = [
            ("max_compute_workgroups_per_dimension", limits.max_compute_workgroups_per_dimension.into(), 1),
            (
                "max_compute_invocations_per_workgroup",
                limits.max_compute_invocations_per_workgroup.into(),
                WORKGROUP.into(),
            ),
            ("max_compute_workgroup_size_x", limits.max_compute_workgroup_size_x.into(), WORKGROUP.into()),
            // Those of a clip. Operations that need more report it themselves.
            ("max_storage_buffers_per_shader_stage", limits.max_storage_buffers_per_shader_stage.into(), 2),
            ("max_storage_buffer_binding_size", limits.max_storage_buffer_binding_size, binding),
            ("max_uniform_buffers_per_shader_stage", limits.max_uniform_buffers_per_shader_stage.into(), 1),
            (
                "max_dynamic_uniform_buffers_per_pipeline_layout",
                limits.max_dynamic_uniform_buffers_per_pipeline_layout.into(),
                1,
            ),
            (
                "max_uniform_buffer_binding_size",
                limits.max_uniform_buffer_binding_size,
                size_of::<Params>() as u64,
            ),
            // Those of the operation with the most buffers, and the parameters.
            (
                "max_bindings_per_bind_group",
                limits.max_bindings_per_bind_group.into(),
                MAX_BINDINGS as u64 + 1,
            ),
            ("max_bind_groups", limits.max_bind_groups.into(), 1),
            ("max_buffer_size", limits.max_buffer_size, parameter_bytes(limits)),
        ];
        match needed.into_iter().find(|(_, limit, least)| limit < least) {
            None => Ok(Self::of(limits)),
            Some((name, limit, least)) => Err(Error::Unsupported {
                what: format!("clipping under the limit {name} = {limit}"),
                device: info.to_string(),
                instead: format!(
                    "request a device with at least {least}; wgpu::Limits::default() has enough of all"
                ),
            }),
        }
    }
}
