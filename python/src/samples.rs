//! Clipping by norm per sample, over several arrays whose first axis is the sample axis.

use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rayon::prelude::*;
use wgclip::norm::NormState;
use wgclip::reference::Scaling;
use wgclip::{ElementType, Error, NonFinitePolicy, NormLimit, Result, cpu};

use crate::errors::{NonFiniteNormWarning, exception, warn};
use crate::memory::{Memory, run};
use crate::norm::{Limit, becomes, memories, no_norm};

/// A sample's part of one array: to read, and to write.
type Part<'a> = (ElementType, &'a [u8], &'a mut [u8]);

/// Scales each sample of several arrays by the norm of its elements in all of them, into outputs, and writes its norm into `norms`.
#[pyfunction]
pub(crate) fn clip_by_norms_of_samples(
    py: Python<'_>,
    list: Vec<Bound<'_, PyAny>>,
    limit: Limit,
    out: Vec<Bound<'_, PyAny>>,
    norms: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let (list, outputs, norms) = (memories(&list)?, memories(&out)?, Memory::of(norms)?);
    let samples = norms.shape.len();
    for (x, out) in list.iter().zip(&outputs) {
        out.check_like(x)?;
        if !x.element.is_float() {
            return Err(no_norm(x.element));
        }
        if x.shape.dims().first() != Some(&samples) {
            let text = "arrays differ in how many samples they have along the batch axis: give each the same";
            return Err(PyValueError::new_err(text));
        }
    }
    let elements: Vec<_> = list.iter().map(|x| x.element).collect();
    let norm_type = ElementType::of_norm(elements.iter().copied());
    if list.len() != outputs.len() || norms.element != norm_type {
        return Err(exception(Error::TypeMismatch { left: norm_type, right: norms.element }));
    }
    let inputs: Vec<_> = list.iter().collect();
    let written: Vec<_> = outputs.iter().chain([&norms]).collect();
    let bad = run(py, &inputs, &written, |inputs, mut written| {
        let Some(norms) = written.pop() else { return Ok(None) };
        // The part of every array, for each sample.
        let mut parts: Vec<Vec<Part<'_>>> =
            (0..samples).map(|_| Vec::with_capacity(elements.len())).collect();
        for ((&element, from), to) in elements.iter().zip(inputs).zip(written) {
            let bytes = from.len() / samples.max(1);
            if bytes == 0 {
                continue;
            }
            for ((part, from), to) in parts.iter_mut().zip(from.chunks(bytes)).zip(to.chunks_mut(bytes)) {
                part.push((element, from, to));
            }
        }
        let bad = Mutex::new(None);
        let clip = |(n, (parts, norm)): (usize, (&mut Vec<Part<'_>>, &mut [u8]))| -> Result<()> {
            let finite = cpu::on_this_thread(|| clip_sample(parts, norm_type, &limit.0, norm))?;
            if !finite {
                let mut bad = bad.lock().unwrap_or_else(PoisonError::into_inner);
                *bad = Some(bad.map_or(n, |first: usize| first.min(n)));
            }
            Ok(())
        };
        let work = parts.par_iter_mut().zip(norms.par_chunks_mut(norm_type.size())).enumerate();
        work.map(clip).collect::<Result<()>>()?;
        match bad.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(first) if limit.0.nonfinite == NonFinitePolicy::Error => {
                Err(Error::NonFiniteNorm { what: format!("sample {first}, counted from 0,") })
            }
            bad => Ok(bad),
        }
    })?;
    bad.map_or(Ok(()), |first| {
        let text = format!(
            "the norm of sample {first}, counted from 0, is not finite: {}",
            becomes(limit.0.nonfinite)
        );
        warn::<NonFiniteNormWarning>(py, &text)
    })
}

/// Returns whether the norm is finite.
fn clip_sample(
    parts: &mut [Part<'_>],
    norm_type: ElementType,
    limit: &NormLimit,
    norm: &mut [u8],
) -> Result<bool> {
    let list: Vec<_> = parts.iter().map(|&(element, from, _)| (element, from)).collect();
    let mut state = NormState::wide(limit.kind);
    state.add_list(&list)?;
    // Errors are reported for all samples at the end.
    let limit = match limit.nonfinite {
        NonFinitePolicy::Error => limit.nonfinite(NonFinitePolicy::Skip),
        _ => *limit,
    };
    let (finite, scaling): (bool, Scaling<f64>) = match norm_type {
        ElementType::F64 => {
            let made = state.norm::<f64>()?;
            norm.copy_from_slice(&made.to_ne_bytes());
            (made.is_finite(), state.scaling::<f64>(limit)?)
        }
        _ => {
            let made = state.norm::<f32>()?;
            norm.copy_from_slice(&made.to_ne_bytes());
            (made.is_finite(), state.scaling::<f32>(limit)?.to_f64())
        }
    };
    for (_, from, to) in parts.iter_mut() {
        to.copy_from_slice(from);
    }
    let mut list: Vec<_> = parts.iter_mut().map(|(element, _, to)| (*element, &mut **to)).collect();
    cpu::scale_list_in_place(&mut list, scaling)?;
    Ok(finite)
}
