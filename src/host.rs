//! Host memory for results.

use crate::{Element, Error, Result};

/// Zeroed memory for `len` elements. The pages come from the system as they are touched.
///
/// # Errors
/// [`Error::OutOfMemory`] where the host has no such memory.
pub fn zeroed<T: Element>(len: usize) -> Result<Vec<T>> {
    bytemuck::allocation::try_zeroed_vec(len).map_err(|()| Error::OutOfMemory {
        device: "the host".into(),
        bytes: len as u64 * size_of::<T>() as u64,
    })
}
