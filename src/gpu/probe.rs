//! What serves the check alone: `shaders/probe.wgsl`.

use super::dispatch::{BLOCK, Params};
use super::pipeline::{Binding, Kernel, shader};
use super::pool::FirstWrite;
use super::{Buffer, Context};
use crate::{Element, Result};

const fn kernel(entry: &'static str, bindings: &'static [Binding]) -> Kernel {
    Kernel { name: entry, entry, source: shader!("probe.wgsl"), bindings }
}

const PATTERNS: Kernel = kernel("patterns", &[Binding::write(5)]);
const BUILTIN_CLAMP: Kernel = kernel("builtin_clamp", &[Binding::read(3), Binding::write(5)]);
const BUILTIN_ADD: Kernel = kernel("builtin_add", &[Binding::read(3), Binding::read(4), Binding::write(5)]);

impl Context {
    /// Records words `start`, `start + step`, and so on: elements of 4 bytes.
    pub(crate) fn patterns<T: Element>(&self, start: u32, step: u32, len: usize) -> Result<Buffer> {
        let y = self.buffer(4 * len as u64, FirstWrite::Recorded)?;
        self.probe::<T>(&PATTERNS, [start, step, 0, 0], &[&y])?;
        Ok(y)
    }

    /// Records `clamp` as the driver has it.
    pub(crate) fn builtin_clamp(&self, x: &Buffer, lo: f32, hi: f32) -> Result<Buffer> {
        let y = self.buffer(x.bytes(), FirstWrite::Recorded)?;
        self.probe::<f32>(&BUILTIN_CLAMP, [lo.to_bits(), hi.to_bits(), 0, 0], &[x, &y])?;
        Ok(y)
    }

    /// Records `a + b` as the driver has it.
    pub(crate) fn builtin_add(&self, a: &Buffer, b: &Buffer) -> Result<Buffer> {
        let y = self.buffer(a.bytes(), FirstWrite::Recorded)?;
        self.probe::<f32>(&BUILTIN_ADD, [0; 4], &[a, b, &y])?;
        Ok(y)
    }

    fn probe<T: Element>(&self, kernel: &'static Kernel, words: [u32; 4], buffers: &[&Buffer]) -> Result<()> {
        let blocks = buffers.first().map_or(0, |buffer| buffer.bytes().div_ceil(BLOCK));
        self.record_whole::<T>(kernel, Params::of_words(words), blocks, buffers)
    }
}
