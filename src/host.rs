//! Host memory for results: used again, since pages that are fresh from the system cost more than a clip.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use crate::{Element, Error, Result};

/// Bytes that are taken and freed each time: the allocator has them ready.
const SMALL: usize = 64 << 10;

/// Bytes of idle memory that are kept. Beyond it the older is freed.
const IDLE: usize = 1 << 30;

/// The idle memory, by its type and its elements.
static POOL: Mutex<Option<Pool>> = Mutex::new(None);

#[derive(Default)]
struct Pool {
    idle: HashMap<(TypeId, usize), Vec<Box<dyn Any + Send>>>,
    bytes: usize,
}

/// Elements that a tensor holds on the CPU.
#[derive(Debug)]
pub struct Memory<T> {
    data: Vec<T>,
    /// What becomes of it: the type of a tensor need not be an element's, as far as its declaration goes.
    free: fn(Vec<T>),
}

impl<T: Element> Memory<T> {
    /// Memory for `len` elements, their values undefined.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where the host has no such memory.
    pub fn new(len: usize) -> Result<Self> {
        if len * size_of::<T>() < SMALL {
            return Ok(zeroed(len)?.into());
        }
        let class = class(len);
        let mut data = match take::<T>(class) {
            Some(data) => data,
            None => zeroed(class)?,
        };
        data.truncate(len);
        // One that was shorter the last time.
        data.resize(len, T::ZERO);
        Ok(data.into())
    }

    /// The elements as a vector.
    pub fn into_vec(mut self) -> Vec<T> {
        mem::take(&mut self.data)
    }
}

impl<T: Element> From<Vec<T>> for Memory<T> {
    fn from(data: Vec<T>) -> Self {
        Self { data, free: give_back }
    }
}

impl<T> Deref for Memory<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.data
    }
}

impl<T> DerefMut for Memory<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data
    }
}

impl<T> Drop for Memory<T> {
    fn drop(&mut self) {
        (self.free)(mem::take(&mut self.data));
    }
}

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

/// Frees what is idle.
pub fn trim() {
    *POOL.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// Elements of the memory that holds `len` of them, in classes that waste an eighth at most.
fn class(len: usize) -> usize {
    let step = (1 << len.max(8).ilog2()) / 8;
    len.next_multiple_of(step)
}

fn take<T: Element>(class: usize) -> Option<Vec<T>> {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    let pool = pool.as_mut()?;
    let data = pool.idle.get_mut(&(TypeId::of::<T>(), class))?.pop()?;
    pool.bytes -= class * size_of::<T>();
    data.downcast().ok().map(|data| *data)
}

fn give_back<T: Element>(data: Vec<T>) {
    let (elements, bytes) = (data.capacity(), data.capacity() * size_of::<T>());
    // Not of a class: it was a vector of the caller's.
    if bytes < SMALL || class(elements) != elements {
        return;
    }
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    let pool = pool.get_or_insert_default();
    if pool.bytes + bytes > IDLE {
        // What comes back now is what is wanted next.
        *pool = Pool::default();
    }
    if bytes <= IDLE {
        pool.bytes += bytes;
        pool.idle.entry((TypeId::of::<T>(), elements)).or_default().push(Box::new(data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its address, and its length.
    fn seen(memory: &Memory<u16>) -> (*const u16, usize) {
        (memory.as_ptr(), memory.len())
    }

    #[test]
    fn memory_is_used_again_for_what_fits_its_class() {
        // Lengths that no other test has.
        let (len, less) = (70_001, 69_990);
        let first = Memory::<u16>::new(len).unwrap();
        let there = first.as_ptr();
        drop(first);
        let second = Memory::<u16>::new(less).unwrap();
        assert_eq!(seen(&second), (there, less));
        let third = Memory::<u16>::new(len).unwrap();
        assert_ne!(third.as_ptr(), there, "in use");
        drop((second, third));
        assert_ne!(Memory::<i16>::new(len).unwrap().as_ptr(), there.cast(), "another type's");
        trim();
        assert_eq!(take::<u16>(class(len)), None);
    }

    #[test]
    fn memory_that_the_host_has_not_is_an_error() {
        let most = isize::MAX as usize;
        assert!(matches!(zeroed::<u8>(most), Err(Error::OutOfMemory { bytes, .. }) if bytes == most as u64));
        assert!(matches!(Memory::<u8>::new(most / 2), Err(Error::OutOfMemory { .. })));
    }

    #[test]
    fn classes_hold_what_they_must_and_waste_little() {
        for len in [1, 8, 70_000, 70_001, 1 << 24, (1 << 24) + 1] {
            let class = class(len);
            assert!((len..=len + len / 8 + 1).contains(&class), "{len} in {class}");
            assert_eq!(super::class(class), class);
        }
    }
}
