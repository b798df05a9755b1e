//! Norms of data in several places, computed part by part.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use wgclip::{ElementType, NormKind};

use crate::errors::exception;
use crate::float_mode;
use crate::memory::{Memory, run};
use crate::norm::{Ord, no_norm, norm_of, typed};

/// Accumulates the exact norm of elements in several places: chunks of an array larger than memory, or the parts of ranks. States
/// merge in any order, and the norm is rounded once.
///
/// `ord` is 1, 2 or inf. A state that takes float64 must be `wide`.
#[pyclass(frozen, module = "wgclip")]
pub(crate) struct NormState {
    state: Mutex<wgclip::norm::NormState>,
    wide: bool,
}

impl NormState {
    fn lock(&self) -> MutexGuard<'_, wgclip::norm::NormState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn empty(kind: NormKind, wide: bool) -> wgclip::norm::NormState {
        if wide { wgclip::norm::NormState::wide(kind) } else { wgclip::norm::NormState::new(kind) }
    }
}

#[pymethods]
impl NormState {
    #[new]
    #[pyo3(signature = (ord = Ord(NormKind::L2), *, wide = false), text_signature = "(ord=2, *, wide=False)")]
    fn new(ord: Ord, wide: bool) -> Self {
        Self { state: Mutex::new(Self::empty(ord.0, wide)), wide }
    }

    /// Adds the elements of arrays.
    #[pyo3(signature = (*arrays))]
    fn add(&self, py: Python<'_>, arrays: Vec<Bound<'_, PyAny>>) -> PyResult<()> {
        let list: Vec<_> = arrays.iter().map(Memory::of_any).collect::<PyResult<_>>()?;
        for memory in &list {
            if !memory.element.is_float() {
                return Err(no_norm(memory.element));
            }
            if memory.element == ElementType::F64 && !self.wide {
                return Err(PyTypeError::new_err(
                    "a state takes float64 only if it is wide: NormState(ord, wide=True)",
                ));
            }
        }
        let inputs: Vec<_> = list.iter().collect();
        let mut part = Self::empty(self.lock().kind(), self.wide);
        let part = run(py, &inputs, &[], |inputs, _| part.add_list(&typed(&list, inputs)).map(|()| part))?;
        self.lock().merge(&part).map_err(exception)
    }

    /// Merges another state.
    fn merge(&self, other: &Self) -> PyResult<()> {
        let other = other.lock().clone();
        self.lock().merge(&other).map_err(exception)
    }

    /// The state as integers below 2**32. The state of several ranks is the sum of their words, one by one (for ord=inf the maximum), for up
    /// to 2**31 ranks.
    fn words(&self) -> Vec<i64> {
        self.lock().to_words()
    }

    /// Creates a state from words, or from their sums.
    #[staticmethod]
    #[pyo3(signature = (words, ord = Ord(NormKind::L2)), text_signature = "(words, ord=2)")]
    fn from_words(words: Vec<i64>, ord: Ord) -> PyResult<Self> {
        let wide = words.len() > wgclip::norm::NormState::new(ord.0).to_words().len();
        let state = wgclip::norm::NormState::from_words(ord.0, &words).map_err(exception)?;
        Ok(Self { state: Mutex::new(state), wide })
    }

    /// Whether any input was float64, here or on another rank: the norm is then a float64.
    #[getter]
    fn double(&self) -> bool {
        self.lock().norm_type() == ElementType::F64
    }

    /// The norm so far: a float with the value of a float32, or of a float64 if any input was float64, or if `double`.
    #[pyo3(signature = (*, double = None))]
    fn norm(&self, double: Option<bool>) -> PyResult<f64> {
        let state = self.lock();
        let double = double.unwrap_or(state.norm_type() == ElementType::F64);
        float_mode::with_default(|| norm_of(&state, double)).map_err(exception)
    }

    fn __repr__(&self) -> String {
        let state = self.lock();
        let norm = norm_of(&state, true).map_or_else(|error| error.to_string(), |norm| norm.to_string());
        format!("NormState({}, {norm})", state.kind())
    }
}
