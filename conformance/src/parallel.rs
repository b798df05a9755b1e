//! Work on all cores. The work is a trait object, so that this code is compiled once, not for each type and operation.

use std::sync::OnceLock;

use rayon::prelude::*;

/// The minimum number of elements for a task.
const CHUNK: usize = 1 << 14;

/// Calls `work` with each number below `count`.
fn for_each(count: usize, work: &(dyn Fn(usize) + Sync)) {
    (0..count).into_par_iter().for_each(work);
}

/// The results of `make` for each number below `count`.
pub(crate) fn map<U: Send + Sync>(count: usize, make: &(dyn Fn(usize) -> U + Sync)) -> Vec<U> {
    let made: Vec<OnceLock<U>> = (0..count).map(|_| OnceLock::new()).collect();
    for_each(count, &|n| drop(made[n].set(make(n))));
    made.into_iter().filter_map(OnceLock::into_inner).collect()
}

/// The same for many numbers that each take little time.
pub(crate) fn map_many<U: Copy + Send + Sync>(count: usize, make: &(dyn Fn(usize) -> U + Sync)) -> Vec<U> {
    let chunk = |n: usize| (n * CHUNK..count.min((n + 1) * CHUNK)).map(make).collect::<Vec<U>>();
    map(count.div_ceil(CHUNK), &chunk).concat()
}
