//! The text of a kernel, for engines that compile it themselves.

use super::program::Program;

/// A kernel: equal for all steps that compile to the same program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kernel(pub(super) Program);

/// Where a kernel's parameters are bound, as a uniform in group 0. The slices of a step get the remaining numbers, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamsBinding {
    /// At 0.
    First,
    /// After all slices.
    Last,
}

impl Kernel {
    /// Its WGSL text. The entry point is `main`; every storage buffer is `read_write`, so that slices may be parts of one buffer.
    pub fn source(&self, params: ParamsBinding) -> String {
        self.0.source_of_parts(params == ParamsBinding::First)
    }

    /// A name, for labels.
    pub fn name(&self) -> String {
        self.0.name()
    }
}
