//! The conformance check.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use wgclip::ElementType;
use wgclip::op::Op;
use wgclip_conformance as conformance;

use crate::device::Device;
use crate::errors::exception;
use crate::threads;

/// The results for an operation and a type: their names, cases, mismatches, and the first mismatch.
type Row = (String, String, u64, u64, Option<String>);

/// Compares a device with the reference, bit for bit. Ctrl-C takes effect between two operations.
#[pyfunction]
pub(crate) fn check(
    py: Python<'_>,
    device: &Device,
    elements: Option<Vec<String>>,
    ops: Option<Vec<String>>,
    seed: u64,
) -> PyResult<Vec<Row>> {
    let device = device.get()?;
    let unknown = |what: &str, name: &str| PyValueError::new_err(format!("no {what} is called {name:?}"));
    let elements: Vec<_> = match elements {
        None => ElementType::ALL.to_vec(),
        Some(names) => names
            .iter()
            .map(|name| ElementType::from_name(name).ok_or_else(|| unknown("element type", name)))
            .collect::<PyResult<_>>()?,
    };
    let ops: Vec<_> = match ops {
        None => Op::ALL.to_vec(),
        Some(names) => names
            .iter()
            .map(|name| Op::from_name(name).ok_or_else(|| unknown("operation", name)))
            .collect::<PyResult<_>>()?,
    };
    let mut rows = Vec::new();
    for &element in &elements {
        for &op in &ops {
            py.check_signals()?;
            let found =
                threads::detach(py, || conformance::run(device, &[element], &[op], seed, &mut |_| {}));
            rows.extend(found.map_err(exception)?.into_iter().map(|row| {
                let first = row.tally.first.as_ref().map(ToString::to_string);
                (element.name().to_owned(), row.name(), row.tally.cases, row.tally.mismatches, first)
            }));
        }
    }
    Ok(rows)
}
