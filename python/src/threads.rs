//! The threads among which large arrays are divided.
//!
//! The library uses rayon's pool, whose threads do not exist in a forked process, although it seems to have them: there a separate pool
//! replaces it. A requested thread count is implemented in the same way.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use wgclip::cpu;

use crate::float_mode;

/// The replacement for rayon's own pool.
struct Threads {
    /// The process to which this belongs.
    process: Option<u32>,
    /// Whether that process was forked.
    forked: bool,
    /// The requested number of threads.
    wanted: Option<usize>,
    pool: Option<Arc<ThreadPool>>,
}

static THREADS: Mutex<Threads> =
    Mutex::new(Threads { process: None, forked: false, wanted: None, pool: None });

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Records the process that imports the package.
pub(crate) fn begin() {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner).process = Some(std::process::id());
}

fn build(count: usize) -> Option<Arc<ThreadPool>> {
    // If no threads can be started, the caller's thread does all the work.
    ThreadPoolBuilder::new().num_threads(count).build().ok().map(Arc::new)
}

/// The pool that replaces rayon's, if any.
fn pool() -> Option<Arc<ThreadPool>> {
    let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    if threads.process != Some(process) {
        // The threads of the previous pool were not forked, so they cannot be joined.
        std::mem::forget(threads.pool.take());
        threads.pool = build(threads.wanted.unwrap_or(0));
        threads.process = Some(process);
        threads.forked = true;
    }
    threads.pool.clone()
}

/// Bytes below which the library does not divide work among threads.
const SHARED: usize = 1 << 20;

/// Runs work over this many bytes on the configured threads.
pub(crate) fn install_for<R: Send>(bytes: usize, work: impl FnOnce() -> R + Send) -> R {
    if bytes < SHARED { work() } else { install(work) }
}

/// Runs work while other Python threads may use the interpreter, in the default floating-point mode, which threads that it starts inherit.
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

/// The number of threads that work on a large array.
#[pyfunction]
pub(crate) fn num_threads(py: Python<'_>) -> usize {
    detach(py, || install(|| if ALONE.get() { 1 } else { cpu::threads() }))
}

/// The number of threads that can be requested on any machine.
const MOST: usize = 256;

/// Sets the number of threads that work on a large array, in this process and in those that it forks from now on.
#[pyfunction]
pub(crate) fn set_num_threads(py: Python<'_>, count: usize) -> PyResult<()> {
    // Rayon does not recover from threads that could not be started.
    let most = std::thread::available_parallelism().map_or(1, usize::from) * 4;
    if !(1..=most.max(MOST)).contains(&count) {
        let text = format!("{count} threads cannot do the work here: give 1 to {}", most.max(MOST));
        return Err(PyValueError::new_err(text));
    }
    // No thread waits for the lock while it holds the interpreter.
    if detach(py, || replace_pool(count)) {
        return Ok(());
    }
    Err(PyRuntimeError::new_err(format!("{count} threads could not be started: ask for fewer")))
}

/// Switches to this many threads, and returns whether they could be started.
fn replace_pool(count: usize) -> bool {
    let process = std::process::id();
    let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    // Rayon's own pool is best, since the caller works along with it, but its size can be set only once, before its first use.
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

/// Sets whether calls from this thread stay on it, for one of many worker threads. Returns the previous setting.
#[pyfunction]
pub(crate) fn set_alone(alone: bool) -> bool {
    ALONE.replace(alone)
}
