//! Quantiles, over given memory.

use pyo3::prelude::*;
use wgclip::{Shape, cpu, with_element};

use crate::bounds::axes;
use crate::errors::exception;
use crate::memory::{Memory, run};
use crate::norm::{check_reduced, kept};

/// The quantiles of all elements, or of slices along axes, into out: its first axis is that of the shares, the others are those of x, with a
/// length of 1 along the axes.
#[pyfunction]
pub(crate) fn quantiles(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    along: Option<Vec<i64>>,
    shares: Vec<f64>,
    out: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let [x, out] = [Memory::of(x)?, Memory::of(out)?];
    let along = axes(along, &x.shape)?;
    let kept = kept(&x.shape, along.as_deref())?;
    let dims: Vec<_> = [shares.len()].into_iter().chain(kept.dims().iter().copied()).collect();
    check_reduced(&out, x.element, &Shape::new(dims).map_err(exception)?)?;
    run(py, &[&x], &[&out], |inputs, mut outputs| {
        with_element!(x.element, T => {
            let elements = bytemuck::cast_slice::<u8, T>(inputs[0]);
            let found = match along {
                None => cpu::quantiles(elements, &shares)?,
                Some(axes) => cpu::quantiles_along(elements, &x.shape, &axes, &shares)?.concat(),
            };
            outputs[0].copy_from_slice(bytemuck::cast_slice::<T, u8>(&found));
            Ok(())
        })
    })
}
