//! The resources of a command that writes tensors: device, memory limit, and the cost of its work.

use std::collections::HashSet;
use std::time::Instant;

use anyhow::Result;
use bytesize::ByteSize;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};
use wgclip::Device;
use wgclip::device::DeviceKind;

use crate::batch::{Batch, Cost};
use crate::progress;
use crate::say;

/// The share of the memory for one operand of a batch: each batch has up to four, and several batches are alive.
const SHARE: u64 = 64;

/// The minimum memory limit.
const LEAST: u64 = 1 << 20;

/// Maximum bytes of a batch. On the CPU the data is then still in cache when it is clipped and written.
const LARGEST_ON_CPU: u64 = 2 << 20;
const LARGEST_ON_GPU: u64 = 16 << 20;

pub(crate) struct Resources {
    device: Device,
    memory: u64,
    quiet: bool,
    start: Instant,
    warnings: Warnings,
    cost: Cost,
    bar: progress::Bytes,
}

impl Resources {
    /// Opens the device. `bytes` is the total that will be read, for the progress bar.
    pub(crate) fn new(
        device: &str,
        memory: Option<ByteSize>,
        quiet: bool,
        start: Instant,
        bytes: u64,
    ) -> Result<Self> {
        Ok(Self {
            device: Device::select(device)?,
            memory: memory.map_or_else(quarter_of_memory, |memory| memory.as_u64()).max(LEAST),
            quiet,
            start,
            warnings: Warnings::default(),
            cost: Cost::default(),
            bar: progress::Bytes::new(bytes),
        })
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    pub(crate) fn is_cpu(&self) -> bool {
        self.device.info().kind == DeviceKind::Cpu
    }

    /// Memory that the command may take.
    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }

    /// The start time of the command.
    pub(crate) fn start(&self) -> Instant {
        self.start
    }

    /// The total cost so far.
    pub(crate) fn cost(&self) -> Cost {
        self.cost
    }

    /// Bytes of the elements of a batch.
    pub(crate) fn batch_bytes(&self) -> usize {
        let info = self.device.info();
        let largest = match info.kind {
            DeviceKind::Cpu => LARGEST_ON_CPU,
            _ => info.limits.map_or(LARGEST_ON_GPU, |limits| limits.max_buffer_bytes.min(LARGEST_ON_GPU)),
        };
        (self.memory / SHARE).clamp(64 << 10, largest) as usize
    }

    /// Bytes of a tensor that may be held in memory, and of the part that may be on a device at once: a GPU's state per slice is up to
    /// 16 times as large as the slice.
    pub(crate) fn room(&self) -> (u64, u64) {
        let most = self.memory / 4;
        (most, self.device.info().limits.map_or(most, |limits| most.min(limits.max_binding_bytes / 16)))
    }

    /// Batches on the device at once: one is uploaded while another is processed and a third read.
    pub(crate) fn in_flight(&self) -> usize {
        if self.is_cpu() { 1 } else { 3 }
    }

    pub(crate) fn begin(&mut self, batch: &mut Batch) -> Result<()> {
        let cost = batch.begin(&self.device, !self.quiet)?;
        self.add(cost);
        self.warn_of_nan(cost.nan_bounds);
        Ok(())
    }

    pub(crate) fn finish(&mut self, batch: &mut Batch) -> Result<()> {
        let cost = batch.finish()?;
        self.add(cost);
        Ok(())
    }

    /// Adds the cost of work outside of a batch.
    pub(crate) fn add(&mut self, cost: Cost) {
        self.cost.counts = self.cost.counts + cost.counts;
        self.cost.time += cost.time;
        self.cost.bytes += cost.bytes;
    }

    /// Warns if the lower or the upper bounds hold NaN.
    pub(crate) fn warn_of_nan(&mut self, is_nan: [bool; 2]) {
        for (option, _) in ["--min", "--max"].iter().zip(is_nan).filter(|(_, is_nan)| *is_nan) {
            self.warnings.say(format!("the bounds of {option} hold NaN, which becomes the result there"));
        }
    }

    /// Counts bytes that were read, or read and written.
    pub(crate) fn progress(&mut self, bytes: usize) {
        if !self.quiet {
            self.bar.add(bytes);
        }
    }

    pub(crate) fn end_progress(&self) {
        self.bar.finish();
    }
}

/// Warnings, each printed once.
#[derive(Default)]
pub(crate) struct Warnings(HashSet<String>);

impl Warnings {
    pub(crate) fn say(&mut self, text: String) {
        if self.0.insert(text.clone()) {
            say(&format!("warning: {text}"));
        }
    }
}

/// The default memory limit: less than the free memory of most machines.
fn quarter_of_memory() -> u64 {
    let refresh = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(refresh);
    // A container may have less memory than its machine.
    let total = system.cgroup_limits().map_or(system.total_memory(), |limits| limits.total_memory);
    total / 4
}
