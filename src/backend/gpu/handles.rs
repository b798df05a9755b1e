//! The handles that recording and submitting need.

use super::pool::Pool;
use super::status::DeviceStatus;

/// The device that a recorder records for. A recorder does not own it, so it is passed along.
#[derive(Clone, Copy)]
pub(super) struct Gpu<'a> {
    pub device: &'a wgpu::Device,
    pub queue: &'a wgpu::Queue,
    pub pool: &'a Pool,
    pub status: &'a DeviceStatus,
}
