//! Host memory for results, reused since fresh pages from the system cost more than a clip.

use std::collections::HashMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use bytemuck::allocation::{BoxBytes, try_zeroed_slice_box};

use crate::{Element, Error, Result};

/// Smaller memory is not kept: the allocator has it ready.
const MIN_POOLED: usize = 64 << 10;

/// Bytes of idle memory that are kept. Beyond that, older memory is freed.
const MAX_IDLE: usize = 1 << 30;

/// The idle memory, by alignment and size.
static POOL: Mutex<Option<Pool>> = Mutex::new(None);

#[derive(Default)]
struct Pool {
    idle: HashMap<(usize, usize), Vec<BoxBytes>>,
    bytes: usize,
}

/// Untyped memory that goes back to the pool.
pub(crate) struct PooledBytes {
    /// `None` once it is taken out.
    memory: Option<BoxBytes>,
    /// Bytes in use: the size class may be larger.
    len: usize,
}

impl PooledBytes {
    /// Memory for `len` elements of `size` bytes (1, 2, 4 or 8), aligned to it, with undefined values.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the host lacks the memory.
    pub(crate) fn new(size: usize, len: usize) -> Result<Self> {
        let bytes = len * size;
        if bytes < MIN_POOLED {
            return Ok(Self { memory: Some(zeroed_bytes(size, bytes)?), len: bytes });
        }
        let class = size_class(bytes).next_multiple_of(size);
        let memory = match take(size, class) {
            Some(memory) => memory,
            None => zeroed_bytes(size, class)?,
        };
        Ok(Self { memory: Some(memory), len: bytes })
    }

    /// The first `len` elements as a vector.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], if they have to be copied.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn into_vec<T: Element>(mut self, len: usize) -> Result<Vec<T>> {
        match self.memory.take().map(bytemuck::allocation::try_from_box_bytes::<[T]>) {
            Some(Ok(elements)) => {
                let mut elements = elements.into_vec();
                elements.truncate(len);
                Ok(elements)
            }
            // The alignment differs, or there is no memory.
            Some(Err((_, memory))) => copy(&memory, len),
            None => copy(&[], len),
        }
    }
}

impl<T: Element> From<Vec<T>> for PooledBytes {
    fn from(data: Vec<T>) -> Self {
        let len = size_of_val(&data[..]);
        Self { memory: Some(BoxBytes::from(data.into_boxed_slice())), len }
    }
}

impl Deref for PooledBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| &memory[..self.len])
    }
}

impl DerefMut for PooledBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.memory.as_mut().map_or(&mut [], |memory| &mut memory[..self.len])
    }
}

impl fmt::Debug for PooledBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledBytes").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Drop for PooledBytes {
    fn drop(&mut self) {
        self.memory.take().into_iter().for_each(give_back);
    }
}

/// Copies the first `len` elements of `bytes`.
///
/// # Errors
/// [`Error::OutOfMemory`] if the host lacks the memory.
pub(crate) fn copy<T: Element>(bytes: &[u8], len: usize) -> Result<Vec<T>> {
    let mut data = zeroed(len)?;
    let to: &mut [u8] = bytemuck::cast_slice_mut(&mut data);
    let n = to.len().min(bytes.len());
    to[..n].copy_from_slice(&bytes[..n]);
    Ok(data)
}

/// Zeroed memory for `len` elements. The system provides pages as they are touched.
///
/// # Errors
/// [`Error::OutOfMemory`] if the host lacks the memory.
pub(crate) fn zeroed<T: Element>(len: usize) -> Result<Vec<T>> {
    bytemuck::allocation::try_zeroed_vec(len).map_err(|()| out_of_memory(len.saturating_mul(size_of::<T>())))
}

/// Reserves room for `count` more elements.
///
/// # Errors
/// [`Error::OutOfMemory`] if the host lacks the memory.
pub(crate) fn reserve<T>(elements: &mut Vec<T>, count: usize) -> Result<()> {
    let bytes = count.saturating_mul(size_of::<T>());
    elements.try_reserve_exact(count).map_err(|_| out_of_memory(bytes))
}

fn zeroed_bytes(size: usize, bytes: usize) -> Result<BoxBytes> {
    let memory = match size {
        1 => try_zeroed_slice_box::<u8>(bytes).map(BoxBytes::from),
        2 => try_zeroed_slice_box::<u16>(bytes / 2).map(BoxBytes::from),
        4 => try_zeroed_slice_box::<u32>(bytes / 4).map(BoxBytes::from),
        _ => try_zeroed_slice_box::<u64>(bytes.div_ceil(8)).map(BoxBytes::from),
    };
    memory.map_err(|()| out_of_memory(bytes))
}

fn out_of_memory(bytes: usize) -> Error {
    Error::OutOfMemory { device: "the host".into(), bytes: bytes as u64 }
}

/// Frees idle memory.
pub(crate) fn trim() {
    *POOL.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// The size of the memory for `bytes`, in classes that waste at most an eighth.
fn size_class(bytes: usize) -> usize {
    let step = (1 << bytes.max(8).ilog2()) / 8;
    bytes.next_multiple_of(step)
}

fn take(align: usize, class: usize) -> Option<BoxBytes> {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    let pool = pool.as_mut()?;
    let memory = pool.idle.get_mut(&(align, class))?.pop()?;
    pool.bytes -= class;
    Some(memory)
}

fn give_back(memory: BoxBytes) {
    let bytes = memory.len();
    // Not a size class: it was a vector of the caller.
    if bytes < MIN_POOLED || size_class(bytes) != bytes {
        return;
    }
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    let pool = pool.get_or_insert_default();
    if pool.bytes + bytes > MAX_IDLE {
        // The memory that comes back now is needed next.
        *pool = Pool::default();
    }
    if bytes <= MAX_IDLE {
        pool.bytes += bytes;
        pool.idle.entry((memory.layout().align(), bytes)).or_default().push(memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_for_what_fits_its_class() {
        // Lengths that no other test uses.
        let (len, less) = (170_001, 169_990);
        let first = PooledBytes::new(2, len).unwrap();
        let address = first.as_ptr();
        drop(first);
        let second = PooledBytes::new(2, less).unwrap();
        assert_eq!((second.as_ptr(), second.len()), (address, 2 * less));
        let third = PooledBytes::new(2, len).unwrap();
        assert_ne!(third.as_ptr(), address, "in use");
        assert_eq!(third.into_vec::<i16>(len).unwrap().len(), len);
        drop(second);
        assert_ne!(PooledBytes::new(1, 2 * len).unwrap().as_ptr(), address, "of another alignment");
        trim();
        assert!(take(2, size_class(2 * len)).is_none());
    }

    #[test]
    fn a_vector_comes_back_as_it_went_in() {
        let data: Vec<f64> = (0..100).map(f64::from).collect();
        let address = data.as_ptr();
        let back = PooledBytes::from(data.clone()).into_vec::<f64>(100).unwrap();
        assert_eq!(back, data);
        let back = PooledBytes::from(data).into_vec::<f64>(100).unwrap();
        assert_eq!(back.as_ptr(), address, "it was copied");
        assert_eq!(PooledBytes::from(vec![1.0f32; 4]).into_vec::<u8>(3).unwrap(), [0, 0, 128], "copied");
        assert!(PooledBytes::from(Vec::<f32>::new()).is_empty());
    }

    #[test]
    fn memory_that_the_host_has_not_is_an_error() {
        let most = isize::MAX as usize;
        assert!(matches!(zeroed::<u8>(most), Err(Error::OutOfMemory { bytes, .. }) if bytes == most as u64));
        assert!(matches!(PooledBytes::new(1, most / 2), Err(Error::OutOfMemory { .. })));
    }

    #[test]
    fn classes_hold_what_they_must_and_waste_little() {
        for len in [1, 8, 70_000, 70_001, 1 << 24, (1 << 24) + 1] {
            let class = size_class(len);
            assert!((len..=len + len / 8 + 1).contains(&class), "{len} in {class}");
            assert_eq!(size_class(class), class);
        }
    }
}
