//! Elementwise maps over slices, on all cores where that pays.
//!
//! The functions to map are `Copy`, and each task has a copy: behind a reference, what they capture might be
//! what they write, for all the compiler knows, and it would not vectorise.

use rayon::prelude::*;

/// Elements that one task takes: enough to pay for its start, few enough to stay in a core's own cache.
/// Shorter slices are done by the calling thread alone.
const CHUNK: usize = 32 * 1024;

/// `y[i] = f(x[i])`. The slices are equally long.
pub fn map<T: Copy + Send + Sync>(x: &[T], y: &mut [T], f: impl Fn(T) -> T + Copy + Send + Sync) {
    if x.len() <= CHUNK {
        return serial_map(x, y, f);
    }
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| serial_map(x, y, f));
}

fn serial_map<T: Copy>(x: &[T], y: &mut [T], f: impl Fn(T) -> T) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = f(x);
    }
}

/// `y[i] = f(y[i])`.
pub fn map_in_place<T: Copy + Send + Sync>(y: &mut [T], f: impl Fn(T) -> T + Copy + Send + Sync) {
    if y.len() <= CHUNK {
        return serial_map_in_place(y, f);
    }
    y.par_chunks_mut(CHUNK).for_each(|y| serial_map_in_place(y, f));
}

fn serial_map_in_place<T: Copy>(y: &mut [T], f: impl Fn(T) -> T) {
    for y in y {
        *y = f(*y);
    }
}

/// `y[i] = f(a[i], b[i])`. The slices are equally long.
pub fn map2<T: Copy + Send + Sync>(
    a: &[T],
    b: &[T],
    y: &mut [T],
    f: impl Fn(T, T) -> T + Copy + Send + Sync,
) {
    if y.len() <= CHUNK {
        return serial_map2(a, b, y, f);
    }
    let inputs = a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK));
    y.par_chunks_mut(CHUNK).zip(inputs).for_each(|(y, (a, b))| serial_map2(a, b, y, f));
}

fn serial_map2<T: Copy>(a: &[T], b: &[T], y: &mut [T], f: impl Fn(T, T) -> T) {
    for (y, (&a, &b)) in y.iter_mut().zip(a.iter().zip(b)) {
        *y = f(a, b);
    }
}
