//! The process that opened a device: a forked one does not have it.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// Refuses what was opened before a fork.
pub(crate) fn check_process(process: u32) -> PyResult<()> {
    if process == std::process::id() {
        return Ok(());
    }
    Err(PyRuntimeError::new_err(
        "this device was opened by another process, before a fork: open it in this one, or start processes by spawn",
    ))
}
