//! Softmax along axes, over memory that is given.

use pyo3::prelude::*;

use crate::bounds::axes;
use crate::memory::{Memory, run};
use crate::norm::tensor;

type Any<'a, 'py> = &'a Bound<'py, PyAny>;

/// The softmax of x along axes, or of all elements, into out.
#[pyfunction]
pub(crate) fn softmax(
    py: Python<'_>,
    x: Any<'_, '_>,
    along: Option<Vec<i64>>,
    out: Any<'_, '_>,
) -> PyResult<()> {
    let [x, out] = [Memory::of(x)?, Memory::of(out)?];
    out.check_like(&x)?;
    let along = axes(along, &x.shape)?;
    run(py, &[&x], &[&out], |inputs, mut outputs| {
        tensor(&x, inputs[0])?.softmax(along.as_deref())?.copy_to(outputs[0])
    })
}

/// The gradient that reaches what became y by [`softmax`], of the upstream gradient g, into out.
#[pyfunction]
pub(crate) fn softmax_backward(
    py: Python<'_>,
    y: Any<'_, '_>,
    g: Any<'_, '_>,
    along: Option<Vec<i64>>,
    out: Any<'_, '_>,
) -> PyResult<()> {
    let [y, g, out] = [Memory::of(y)?, Memory::of(g)?, Memory::of(out)?];
    g.check_like(&y)?;
    out.check_like(&y)?;
    let along = axes(along, &y.shape)?;
    run(py, &[&y, &g], &[&out], |inputs, mut outputs| {
        let (y, g) = (tensor(&y, inputs[0])?, tensor(&g, inputs[1])?);
        y.softmax_backward(&g, along.as_deref())?.copy_to(outputs[0])
    })
}
