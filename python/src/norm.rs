//! Sums, norms, and clipping by norm, over memory that is given.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use wgclip::reference::{self, Scaling};
use wgclip::{DynTensor, ElementType, Error, NonFinitePolicy, NormKind, NormLimit, Result, Shape, cpu};

use crate::bounds::axes;
use crate::errors::{NonFiniteNormWarning, exception, numpy_name, warn};
use crate::memory::{Memory, run};
use crate::norm_state::NormState;

type Any<'a, 'py> = &'a Bound<'py, PyAny>;

/// Which norm: 1, 2 or infinity, as numpy and torch count them, or its name.
pub(crate) struct Ord(pub NormKind);

impl<'a, 'py> FromPyObject<'a, 'py> for Ord {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let kind = match (object.extract::<f64>(), object.extract::<String>()) {
            (Ok(1.0), _) => Some(NormKind::L1),
            (Ok(2.0), _) => Some(NormKind::L2),
            (Ok(f64::INFINITY), _) => Some(NormKind::Max),
            (_, Ok(name)) if name == "inf" => Some(NormKind::Max),
            (_, Ok(name)) => name.parse().ok(),
            _ => None,
        };
        kind.map(Self).ok_or_else(|| {
            PyValueError::new_err(format!(
                "{} is no norm here: give 1, 2 or inf (\"l1\", \"l2\" or \"max\")",
                *object
            ))
        })
    }
}

/// The limit of a norm: the limit, which norm, eps, and the policy of one that is not finite.
pub(crate) struct Limit(pub NormLimit);

impl<'a, 'py> FromPyObject<'a, 'py> for Limit {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let (limit, Ord(kind), eps, policy): (f64, Ord, f64, String) = object.extract()?;
        Self::new(limit, kind, eps, &policy)
    }
}

impl Limit {
    /// # Errors
    /// `ValueError` for a limit or eps that is none, or an unknown policy.
    pub(crate) fn new(limit: f64, kind: NormKind, eps: f64, policy: &str) -> PyResult<Self> {
        let nonfinite = policy.parse::<NonFinitePolicy>().map_err(exception)?;
        let limit = NormLimit::new(limit).kind(kind).eps(eps).nonfinite(nonfinite);
        // The library checks it where it scales.
        wgclip::norm::NormState::new(kind)
            .scaling::<f32>(limit.nonfinite(NonFinitePolicy::Skip))
            .map_err(exception)?;
        Ok(Self(limit))
    }
}

/// The shape that is left of axes, each with a length of 1.
pub(crate) fn kept(x: &Shape, axes: Option<&[usize]>) -> PyResult<Shape> {
    let Some(axes) = axes else { return Shape::new([]).map_err(exception) };
    let dims = x.dims().iter().enumerate().map(|(n, &len)| if axes.contains(&n) { 1 } else { len });
    Shape::new(dims.collect::<Vec<_>>()).map_err(exception)
}

pub(crate) fn check_reduced(out: &Memory, element: ElementType, shape: &Shape) -> PyResult<()> {
    if out.element != element {
        return Err(exception(Error::TypeMismatch { left: element, right: out.element }));
    }
    if out.shape != *shape {
        let [left, right] = [shape, &out.shape].map(|of| of.dims().to_vec());
        return Err(exception(Error::ShapeMismatch { left, right }));
    }
    Ok(())
}

/// A tensor of the CPU path, of a copy.
pub(crate) fn tensor(memory: &Memory, bytes: &[u8]) -> Result<DynTensor> {
    wgclip::Device::cpu().tensor_from_bytes(memory.element, bytes, memory.shape.dims())
}

/// The exact sum along axes, or of all elements, into out, which has a length of 1 along them.
#[pyfunction]
#[pyo3(name = "sum")]
pub(crate) fn sum(py: Python<'_>, x: Any<'_, '_>, along: Option<Vec<i64>>, out: Any<'_, '_>) -> PyResult<()> {
    let [x, out] = [Memory::of(x)?, Memory::of(out)?];
    let along = axes(along, &x.shape)?;
    check_reduced(&out, x.element, &kept(&x.shape, along.as_deref())?)?;
    run(py, &[&x], &[&out], |inputs, mut outputs| {
        tensor(&x, inputs[0])?.sum(along.as_deref())?.copy_to(outputs[0])
    })
}

/// The exact norm along axes, or of all elements, into out, which has a length of 1 along them.
#[pyfunction]
pub(crate) fn norm(
    py: Python<'_>,
    x: Any<'_, '_>,
    along: Option<Vec<i64>>,
    ord: Ord,
    out: Any<'_, '_>,
) -> PyResult<()> {
    let [x, out] = [Memory::of(x)?, Memory::of(out)?];
    if !x.element.is_float() {
        return Err(no_norm(x.element));
    }
    let along = axes(along, &x.shape)?;
    check_reduced(&out, ElementType::of_norm([x.element]), &kept(&x.shape, along.as_deref())?)?;
    run(py, &[&x], &[&out], |inputs, mut outputs| match along {
        Some(axes) => tensor(&x, inputs[0])?.norm(ord.0, &axes[..])?.copy_to(outputs[0]),
        None => {
            let state = state_of(&[(x.element, inputs[0])], ord.0)?;
            match ElementType::of_norm([x.element]) {
                ElementType::F64 => outputs[0].copy_from_slice(&state.norm::<f64>()?.to_ne_bytes()),
                _ => outputs[0].copy_from_slice(&state.norm::<f32>()?.to_ne_bytes()),
            }
            Ok(())
        }
    })
}

/// The state of the elements of several slices.
fn state_of(list: &[(ElementType, &[u8])], kind: NormKind) -> Result<wgclip::norm::NormState> {
    let mut state = NormState::empty(kind, is_double(list));
    state.add_list(list)?;
    Ok(state)
}

pub(crate) fn no_norm(element: ElementType) -> PyErr {
    PyTypeError::new_err(format!(
        "a norm of {} is not supported: norms are of floats, convert it with x.astype(\"float32\")",
        numpy_name(element)
    ))
}

/// The norm of a state, rounded to an f64 or to an f32.
pub(crate) fn norm_of(state: &wgclip::norm::NormState, double: bool) -> Result<f64> {
    if double { state.norm::<f64>() } else { state.norm::<f32>().map(f64::from) }
}

/// Clips x by its norm along axes, or of all elements, into out. With `average` by the norm divided by how many elements it has.
#[pyfunction]
pub(crate) fn clip_by_norm(
    py: Python<'_>,
    x: Any<'_, '_>,
    along: Option<Vec<i64>>,
    limit: Limit,
    average: bool,
    out: Any<'_, '_>,
) -> PyResult<()> {
    let [x, out] = [Memory::of(x)?, Memory::of(out)?];
    out.check_like(&x)?;
    let along = axes(along, &x.shape)?;
    if along.is_none() && !average {
        return scale_list(py, vec![x], vec![out], limit.0, None, &[]).map(drop);
    }
    run(py, &[&x], &[&out], |inputs, mut outputs| {
        let of = tensor(&x, inputs[0])?;
        let made = match average {
            false => of.clip_by_norm(limit.0, along.as_deref())?,
            true => of.clip_by_average_norm(limit.0, along.as_deref())?,
        };
        made.copy_to(outputs[0])
    })
}

/// The gradient that reaches what was clipped by its norm, of the upstream gradient g, into out.
#[pyfunction]
pub(crate) fn clip_by_norm_backward(
    py: Python<'_>,
    x: Any<'_, '_>,
    g: Any<'_, '_>,
    along: Option<Vec<i64>>,
    limit: Limit,
    out: Any<'_, '_>,
) -> PyResult<()> {
    let [x, g, out] = [Memory::of(x)?, Memory::of(g)?, Memory::of(out)?];
    g.check_like(&x)?;
    out.check_like(&x)?;
    let along = axes(along, &x.shape)?;
    run(py, &[&x, &g], &[&out], |inputs, mut outputs| {
        let (of, g) = (tensor(&x, inputs[0])?, tensor(&g, inputs[1])?);
        of.clip_by_norm_backward(&g, limit.0, along.as_deref())?.copy_to(outputs[0])
    })
}

/// Clips the gradient x, each slice of it along axes by the norm of the same slice of its parameter, into out.
#[pyfunction]
pub(crate) fn clip_adaptive(
    py: Python<'_>,
    x: Any<'_, '_>,
    parameter: Any<'_, '_>,
    along: Vec<i64>,
    limit: Limit,
    least: f64,
    out: Any<'_, '_>,
) -> PyResult<()> {
    let [x, parameter, out] = [Memory::of(x)?, Memory::of(parameter)?, Memory::of(out)?];
    parameter.check_like(&x)?;
    out.check_like(&x)?;
    let along = axes(Some(along), &x.shape)?.unwrap_or_default();
    run(py, &[&x, &parameter], &[&out], |inputs, mut outputs| {
        let (of, by) = (tensor(&x, inputs[0])?, tensor(&parameter, inputs[1])?);
        of.clip_adaptive(&by, limit.0, &along[..], least)?.copy_to(outputs[0])
    })
}

pub(crate) fn memories(list: &[Bound<'_, PyAny>]) -> PyResult<Vec<Memory>> {
    list.iter().map(Memory::of).collect()
}

/// The norm of several tensors together: one of f64 where any of them is, else of f32.
#[pyfunction]
pub(crate) fn global_norm(py: Python<'_>, list: Vec<Bound<'_, PyAny>>, ord: Ord) -> PyResult<f64> {
    let list = memories(&list)?;
    if let Some(integers) = list.iter().find(|memory| !memory.element.is_float()) {
        return Err(no_norm(integers.element));
    }
    let inputs: Vec<_> = list.iter().collect();
    run(py, &inputs, &[], |inputs, _| {
        let list = typed(&list, inputs);
        norm_of(&state_of(&list, ord.0)?, is_double(&list))
    })
}

pub(crate) fn typed<'a>(list: &[Memory], bytes: &[&'a [u8]]) -> Vec<(ElementType, &'a [u8])> {
    list.iter().zip(bytes).map(|(memory, &bytes)| (memory.element, bytes)).collect()
}

/// Whether the norm of such a list is one of f64.
fn is_double(list: &[(ElementType, &[u8])]) -> bool {
    ElementType::of_norm(list.iter().map(|(element, _)| *element)) == ElementType::F64
}

/// Clips several tensors by their common norm, into outputs, each of which may be its input. Returns the norm. Names are for messages.
#[pyfunction]
#[pyo3(signature = (list, limit, out, names=vec![]))]
pub(crate) fn clip_by_global_norm(
    py: Python<'_>,
    list: Vec<Bound<'_, PyAny>>,
    limit: Limit,
    out: Vec<Bound<'_, PyAny>>,
    names: Vec<String>,
) -> PyResult<f64> {
    scale_list(py, memories(&list)?, memories(&out)?, limit.0, None, &names)
}

/// The same by a norm that is known: a float that holds one of f64, or, unless `double`, one of f32.
#[pyfunction]
pub(crate) fn scale_by_norm(
    py: Python<'_>,
    list: Vec<Bound<'_, PyAny>>,
    norm: f64,
    double: bool,
    limit: Limit,
    out: Vec<Bound<'_, PyAny>>,
) -> PyResult<()> {
    scale_list(py, memories(&list)?, memories(&out)?, limit.0, Some((norm, double)), &[]).map(drop)
}

/// Which of several tensors have a norm that is not finite: the first, and how many.
fn non_finite(
    list: &[Memory],
    froms: &[Option<&[u8]>],
    written: &[&mut [u8]],
    (kind, names): (NormKind, &[String]),
) -> Result<String> {
    let mut indices = Vec::new();
    for (n, ((x, from), to)) in list.iter().zip(froms).zip(written).enumerate() {
        let part = [(x.element, from.unwrap_or(&**to))];
        if !norm_of(&state_of(&part, kind)?, is_double(&part))?.is_finite() {
            indices.push(n);
        }
    }
    let name =
        |n: usize| names.get(n).cloned().unwrap_or(format!("array {n} of {}, counted from 0,", list.len()));
    Ok(match (indices[..].split_first(), list.len()) {
        (_, 1) if names.is_empty() => "the array".into(),
        (Some((&first, [])), _) => name(first),
        (Some((&first, others)), _) => format!("{} and of {} more,", name(first), others.len()),
        // Each is finite, but not all together, or it is not here.
        (None, _) => "all arrays together".into(),
    })
}

fn scale_list(
    py: Python<'_>,
    list: Vec<Memory>,
    outputs: Vec<Memory>,
    limit: NormLimit,
    known: Option<(f64, bool)>,
    names: &[String],
) -> PyResult<f64> {
    if list.len() != outputs.len() {
        let text = format!("{} tensors, but {} outputs: give one for each", list.len(), outputs.len());
        return Err(PyValueError::new_err(text));
    }
    for (x, out) in list.iter().zip(&outputs) {
        out.check_like(x)?;
        if !x.element.is_float() {
            return Err(no_norm(x.element));
        }
    }
    let apart: Vec<_> = list.iter().zip(&outputs).map(|(x, out)| !x.is(out)).collect();
    let inputs: Vec<_> = list.iter().zip(&apart).filter(|(_, apart)| **apart).map(|(x, _)| x).collect();
    let written: Vec<_> = outputs.iter().collect();
    let (norm, warning) = run(py, &inputs, &written, |inputs, mut written| {
        let mut inputs = inputs.iter();
        let froms: Vec<Option<&[u8]>> =
            apart.iter().map(|apart| apart.then(|| inputs.next().copied()).flatten()).collect();
        let (norm, double) = match known {
            Some(known) => known,
            None => {
                let reads = froms.iter().zip(&written).map(|(from, to)| from.unwrap_or(&**to));
                let read: Vec<_> = list.iter().map(|x| x.element).zip(reads).collect();
                let double = is_double(&read);
                (norm_of(&state_of(&read, limit.kind)?, double)?, double)
            }
        };
        let mut warning = None;
        if !norm.is_finite() && (known.is_none() || limit.nonfinite == NonFinitePolicy::Error) {
            let what = non_finite(&list, &froms, &written, (limit.kind, names))?;
            if limit.nonfinite == NonFinitePolicy::Error {
                return Err(Error::NonFiniteNorm { what });
            }
            warning = Some(format!("the norm of {what} is {norm}: {}", becomes(limit.nonfinite)));
        }
        let scaling: Scaling<f64> = match double {
            true => reference::scaling(norm, &limit),
            false => reference::scaling(norm as f32, &limit).to_f64(),
        };
        for (from, to) in froms.iter().zip(&mut written) {
            if let Some(from) = from {
                to.copy_from_slice(from);
            }
        }
        let mut scaled: Vec<_> = list.iter().map(|x| x.element).zip(written).collect();
        cpu::scale_list_in_place(&mut scaled, scaling)?;
        Ok((norm, warning))
    })?;
    if let Some(text) = warning {
        warn::<NonFiniteNormWarning>(py, &text)?;
    }
    Ok(norm)
}

/// What becomes of arrays whose norm is not finite.
pub(crate) fn becomes(policy: NonFinitePolicy) -> &'static str {
    match policy {
        NonFinitePolicy::Propagate => "what is scaled by it becomes 0 or NaN",
        NonFinitePolicy::Zero => "what would be scaled by it is set to zero",
        NonFinitePolicy::Skip | NonFinitePolicy::Error => "what would be scaled by it is kept",
    }
}
