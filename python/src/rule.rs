//! The backward rule.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use wgclip::{NanRule, OutsideRule, TieRule};

/// Which gradient passes a clip outside of the bounds, at them, and at NaN.
#[pyclass(frozen, eq, hash, from_py_object, module = "wgclip")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BackwardRule(pub wgclip::BackwardRule);

#[pymethods]
impl BackwardRule {
    #[new]
    #[pyo3(signature = (outside = "masked", ties = "inclusive", nan = "pass"))]
    fn new(outside: &str, ties: &str, nan: &str) -> PyResult<Self> {
        let parsed = || -> wgclip::Result<_> {
            let (outside, ties, nan): (OutsideRule, TieRule, NanRule) =
                (outside.parse()?, ties.parse()?, nan.parse()?);
            Ok(wgclip::BackwardRule { outside, ties, nan })
        };
        parsed().map(Self).map_err(|_| {
            PyValueError::new_err(format!(
                "no rule is outside={outside:?}, ties={ties:?}, nan={nan:?}: outside is masked, straight-through or toward, ties \
                 are inclusive, exclusive or half, nan is pass or zero"
            ))
        })
    }

    /// The rule of a framework, by name: one of `presets()`.
    #[staticmethod]
    fn like(preset: &str) -> PyResult<Self> {
        preset.parse().map(Self).map_err(|_| unknown(preset))
    }

    /// Every rule.
    #[staticmethod]
    fn all() -> Vec<Self> {
        wgclip::BackwardRule::all().map(Self).collect()
    }

    /// The names of the presets.
    #[staticmethod]
    fn presets() -> Vec<&'static str> {
        wgclip::BackwardRule::PRESETS.iter().map(|(name, _)| *name).collect()
    }

    #[getter]
    fn outside(&self) -> &'static str {
        self.0.outside.name()
    }

    #[getter]
    fn ties(&self) -> &'static str {
        self.0.ties.name()
    }

    #[getter]
    fn nan(&self) -> &'static str {
        self.0.nan.name()
    }

    /// The three names, accepted wherever a rule is: `"masked/inclusive/pass"`.
    fn __str__(&self) -> String {
        [self.outside(), self.ties(), self.nan()].join("/")
    }

    fn __repr__(&self) -> String {
        format!("BackwardRule(outside={:?}, ties={:?}, nan={:?})", self.outside(), self.ties(), self.nan())
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> (Py<PyAny>, (&'static str, &'static str, &'static str)) {
        let rule = slf.get();
        (slf.get_type().into_any().unbind(), (rule.outside(), rule.ties(), rule.nan()))
    }
}

fn unknown(name: &str) -> PyErr {
    PyValueError::new_err(format!(
        "no rule is called {name:?}: the presets are {}; or give a BackwardRule",
        BackwardRule::presets().join(", ")
    ))
}

/// A rule argument: a `BackwardRule`, its text, or the name of a preset.
pub(crate) struct AnyRule(pub wgclip::BackwardRule);

impl<'a, 'py> FromPyObject<'a, 'py> for AnyRule {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(rule) = object.cast::<BackwardRule>() {
            return Ok(Self(rule.get().0));
        }
        let Ok(name) = object.extract::<String>() else {
            return Err(PyTypeError::new_err("a rule is a BackwardRule, or the name of a preset"));
        };
        let rule = match name.split('/').collect::<Vec<_>>()[..] {
            [outside, ties, nan] => BackwardRule::new(outside, ties, nan)?,
            _ => BackwardRule::like(&name)?,
        };
        Ok(Self(rule.0))
    }
}
