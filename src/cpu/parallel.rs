//! Elementwise maps over slices, on all cores where that pays.

use rayon::prelude::*;

/// Elements that one task takes: enough to pay for its start, few enough to stay in a core's own cache.
/// Shorter slices are done by the calling thread alone.
const CHUNK: usize = 32 * 1024;

/// `y[i] = f(x[i])`. The slices are equally long.
pub fn map<T: Copy + Send + Sync>(x: &[T], y: &mut [T], f: impl Fn(T) -> T + Sync) {
    let run = |x: &[T], y: &mut [T]| {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = f(x);
        }
    };
    if x.len() <= CHUNK {
        return run(x, y);
    }
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| run(x, y));
}

/// `y[i] = f(y[i])`.
pub fn map_in_place<T: Copy + Send + Sync>(y: &mut [T], f: impl Fn(T) -> T + Sync) {
    let run = |y: &mut [T]| {
        for y in y {
            *y = f(*y);
        }
    };
    if y.len() <= CHUNK {
        return run(y);
    }
    y.par_chunks_mut(CHUNK).for_each(run);
}

/// `y[i] = f(a[i], b[i])`. The slices are equally long.
pub fn map2<T: Copy + Send + Sync>(a: &[T], b: &[T], y: &mut [T], f: impl Fn(T, T) -> T + Sync) {
    let run = |a: &[T], b: &[T], y: &mut [T]| {
        for (y, (&a, &b)) in y.iter_mut().zip(a.iter().zip(b)) {
            *y = f(a, b);
        }
    };
    if y.len() <= CHUNK {
        return run(a, b, y);
    }
    let inputs = a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK));
    y.par_chunks_mut(CHUNK).zip(inputs).for_each(|(y, (a, b))| run(a, b, y));
}
