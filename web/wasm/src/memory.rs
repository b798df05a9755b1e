//! Buffers in the module's memory.

use bytemuck::{cast_slice, cast_slice_mut};
use wgclip::Result;

use crate::request::malformed;

/// Buffers by their handles, from 1. Whole words of 64 bits, so that every type of elements is aligned in them.
#[derive(Default)]
pub(crate) struct Buffers(Vec<Option<Vec<u64>>>);

impl Buffers {
    pub(crate) fn allocate(&mut self, bytes: usize) -> usize {
        let mut buffer = Vec::new();
        if buffer.try_reserve_exact(bytes.div_ceil(8)).is_err() {
            return 0;
        }
        buffer.resize(bytes.div_ceil(8), 0);
        match self.0.iter().position(Option::is_none) {
            Some(free) => {
                self.0[free] = Some(buffer);
                free + 1
            }
            None => {
                self.0.push(Some(buffer));
                self.0.len()
            }
        }
    }

    pub(crate) fn address(&self, handle: usize) -> usize {
        self.get(handle).map_or(0, |buffer| buffer.as_ptr().addr())
    }

    pub(crate) fn release(&mut self, handle: usize) {
        self.take(handle);
    }

    /// The first words of a buffer, as floats.
    pub(crate) fn words(&self, handle: usize, words: usize) -> Vec<f64> {
        self.get(handle)
            .and_then(|buffer| buffer.get(..words))
            .map_or(Vec::new(), |words| cast_slice(words).to_vec())
    }

    fn get(&self, handle: usize) -> Option<&Vec<u64>> {
        self.0.get(handle.wrapping_sub(1))?.as_ref()
    }

    /// A buffer, to be changed beside others. It has to be put back.
    pub(crate) fn take(&mut self, handle: usize) -> Option<Vec<u64>> {
        self.0.get_mut(handle.wrapping_sub(1))?.take()
    }

    pub(crate) fn put_back(&mut self, handle: usize, buffer: Option<Vec<u64>>) {
        if let Some(place) = self.0.get_mut(handle.wrapping_sub(1)) {
            *place = buffer;
        }
    }

    /// The first bytes of a buffer.
    pub(crate) fn bytes(&self, handle: usize, bytes: usize) -> Result<&[u8]> {
        self.get(handle).and_then(|buffer| cast_slice(buffer).get(..bytes)).ok_or_else(malformed)
    }
}

/// The first bytes of a buffer that was taken, if one was.
pub(crate) fn bytes_mut(buffer: &mut Option<Vec<u64>>, bytes: usize) -> Result<Option<&mut [u8]>> {
    let Some(buffer) = buffer else { return Ok(None) };
    cast_slice_mut(buffer).get_mut(..bytes).map(Some).ok_or_else(malformed)
}
