//! Converts errors of the library to Python exceptions.

use pyo3::exceptions::{
    PyMemoryError, PyRuntimeError, PyRuntimeWarning, PyTypeError, PyUserWarning, PyValueError,
};
use pyo3::prelude::*;
use pyo3::{PyTypeInfo, create_exception, intern};
use wgclip::{ElementType, Error};

use crate::memory::arrays;

create_exception!(
    wgclip,
    DeviceError,
    PyRuntimeError,
    "A GPU is not there, could not be opened, was lost, or failed."
);
create_exception!(
    wgclip,
    BoundWarning,
    PyUserWarning,
    "A bound has become a number of the array's type that its writer may not have meant."
);
create_exception!(
    wgclip,
    NonFiniteNormError,
    PyRuntimeError,
    "A norm is NaN or infinite, and nonfinite=\"error\" was asked for: nothing was changed."
);

create_exception!(
    wgclip,
    NonFiniteNormWarning,
    PyRuntimeWarning,
    "A norm is NaN or infinite, and what is scaled by it is not what it would have been."
);

/// Warns at the Python line that called the package.
pub(crate) fn warn<W: PyTypeInfo>(py: Python<'_>, text: &str) -> PyResult<()> {
    arrays(py)?.call_method1(intern!(py, "warn"), (text, W::type_object(py))).map(drop)
}

/// The name of a type in numpy and ml_dtypes.
pub(crate) fn numpy_name(element: ElementType) -> String {
    match element {
        ElementType::Bf16 => "bfloat16".into(),
        ElementType::F8E4M3Fn => "float8_e4m3fn".into(),
        ElementType::F8E5M2 => "float8_e5m2".into(),
        _ => {
            let (class, bits) = element.name().split_at(1);
            let class = match class {
                "f" => "float",
                "i" => "int",
                _ => "uint",
            };
            format!("{class}{bits}")
        }
    }
}

/// A message of the library with the names used in Python.
fn with_numpy_names(text: &str) -> String {
    let is_of_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut words = String::new();
    for word in text.split_inclusive(|c| !is_of_word(c)) {
        let name = word.trim_end_matches(|c| !is_of_word(c));
        match ElementType::from_name(name) {
            Some(element) => words.extend([&numpy_name(element), &word[name.len()..]]),
            None => words.push_str(word),
        }
    }
    words
}

/// The library's error as the exception that Python users expect.
pub(crate) fn exception(error: Error) -> PyErr {
    let text = with_numpy_names(&error.to_string());
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
