//! The `wgclip` command.

use std::ffi::OsString;

use pyo3::prelude::*;

use crate::threads;

/// Runs the command with these arguments, the first of which is its name. Returns the exit code.
#[pyfunction]
pub(crate) fn run_command(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    threads::detach(py, || wgclip_cli::run(arguments))
}
