//! Checks the process that opened a device: forked processes cannot use it.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// Refuses objects that were opened before a fork.
pub(crate) fn check_process(process: u32) -> PyResult<()> {
    if process == std::process::id() {
        return Ok(());
    }
    Err(PyRuntimeError::new_err(
        "this device was opened by another process, before a fork: open it in this one, or start processes by spawn",
    ))
}
