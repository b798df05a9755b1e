//! Errors of the library as Python's.

use pyo3::exceptions::{PyMemoryError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::{PyErr, create_exception};
use wgclip::Error;

create_exception!(
    wgclip,
    DeviceError,
    PyRuntimeError,
    "A GPU is not there, could not be opened, was lost, or failed."
);
create_exception!(
    wgclip,
    NonFiniteNormError,
    PyRuntimeError,
    "A norm is NaN or infinite, and nonfinite=\"error\" was asked for: nothing was changed."
);

/// The library's error as the exception that Python's users expect.
pub(crate) fn exception(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::NonFiniteNorm { .. } => NonFiniteNormError::new_err(text),
        Error::OutOfMemory { .. } => PyMemoryError::new_err(text),
        Error::TypeMismatch { .. } | Error::FractionalBound { .. } | Error::Unsupported { .. } => {
            PyTypeError::new_err(text)
        }
        Error::NoSuchDevice { .. }
        | Error::DeviceRequest { .. }
        | Error::DeviceLost { .. }
        | Error::Gpu { .. }
        | Error::Blocked { .. }
        | Error::Internal { .. } => DeviceError::new_err(text),
        _ => PyValueError::new_err(text),
    }
}
