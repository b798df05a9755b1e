//! The threads that large arrays are shared among.
//!
//! The library uses rayon's pool, whose threads a forked process does not have, although it seems to: there a pool of its own takes its
//! place. The same serves a count of threads that is asked for.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use wgclip::cpu;

use crate::float_mode;

/// What stands in for rayon's own pool.
struct Threads {
    /// The process that all this is of.
    process: Option<u32>,
    /// Whether that is one that was forked.
    forked: bool,
    /// How many were asked for.
    wanted: Option<usize>,
    pool: Option<Arc<ThreadPool>>,
}

static THREADS: Mutex<Threads> =
    Mutex::new(Threads { process: None, forked: false, wanted: None, pool: None });

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Notes which process it is that imports the package.
pub(crate) fn begin() {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner).process = Some(std::process::id());
}

fn build(count: usize) -> Option<Arc<ThreadPool>> {
    // Without threads the caller's does it all.
    ThreadPoolBuilder::new().num_threads(count).build().ok().map(Arc::new)
}

/// The pool that stands in for rayon's, if one does.
fn pool() -> Option<Arc<ThreadPool>> {
    let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    if threads.process != Some(process) {
        // The threads of the pool before were not forked, so nobody can end them.
        std::mem::forget(threads.pool.take());
        threads.pool = build(threads.wanted.unwrap_or(0));
        threads.process = Some(process);
        threads.forked = true;
    }
    threads.pool.clone()
}

/// Bytes below which the library does not share work.
const SHARED: usize = 1 << 20;

/// Runs work over so many bytes on the threads that are to do it.
pub(crate) fn install_for<R: Send>(bytes: usize, work: impl FnOnce() -> R + Send) -> R {
    if bytes < SHARED { work() } else { install(work) }
}

/// Runs work while other Python threads have the interpreter, in the mode of floats in which programs start: threads that it starts inherit that.
pub(crate) fn detach<R: Send>(py: Python<'_>, work: impl FnOnce() -> R + Send) -> R {
    py.detach(|| float_mode::with_default(work))
}

fn install<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    if ALONE.get() {
        return cpu::on_this_thread(work);
    }
    match pool() {
        Some(pool) => pool.install(work),
        None => work(),
    }
}

/// How many threads work on a large array.
#[pyfunction]
pub(crate) fn num_threads(py: Python<'_>) -> usize {
    detach(py, || install(|| if ALONE.get() { 1 } else { cpu::threads() }))
}

/// Threads that may be asked for on any machine.
const MOST: usize = 256;

/// Lets so many threads work on a large array, in this process and in those that it forks from now on.
#[pyfunction]
pub(crate) fn set_num_threads(py: Python<'_>, count: usize) -> PyResult<()> {
    // Rayon does not recover from threads that could not be started.
    let most = std::thread::available_parallelism().map_or(1, usize::from) * 4;
    if !(1..=most.max(MOST)).contains(&count) {
        let text = format!("{count} threads cannot do the work here: give 1 to {}", most.max(MOST));
        return Err(PyValueError::new_err(text));
    }
    // Nobody waits for the lock with the interpreter in hand.
    if detach(py, || replace_pool(count)) {
        return Ok(());
    }
    Err(PyRuntimeError::new_err(format!("{count} threads could not be started: ask for fewer")))
}

/// Has so many threads work from now on, and returns whether they could be started.
fn replace_pool(count: usize) -> bool {
    let process = std::process::id();
    let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    // Rayon's own pool is the best, since the caller works beside it: it takes a count once, before its first use.
    let own = threads.process == Some(process) && !threads.forked;
    let global = own
        && (ThreadPoolBuilder::new().num_threads(count).build_global().is_ok()
            || rayon::current_num_threads() == count);
    let pool = if global { None } else { build(count) };
    if pool.is_none() && !global {
        return false;
    }
    *threads = Threads { process: Some(process), forked: !own, wanted: Some(count), pool };
    true
}

/// Whether what this thread calls is to stay on it: for a thread that is one of many workers. Returns what was so before.
#[pyfunction]
pub(crate) fn set_alone(alone: bool) -> bool {
    ALONE.replace(alone)
}
