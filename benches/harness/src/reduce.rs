//! Reductions, clipping by norm, and softmax.

use std::cell::{Cell, RefCell};

use anyhow::Result;
use wgclip::norm::AnyTensor;
use wgclip::{
    BackwardRule, Bounds, Device, Element, ElementType, NeedsGrad, NormKind, NormLimit, Tensor,
    clip_by_global_norm,
};

use crate::{BenchId, Case, values};

/// The names of the rows.
pub(crate) const NAMES: [&str; 7] =
    ["sum", "norm", "norm_of_columns", "clip_by_global_norm", "bound_grad", "softmax", "softmax_backward"];

/// The length of the rows of a softmax, as long as there are enough elements.
const ROW: usize = 1024;

/// Tensors that a global norm is of, as long as there are enough elements.
const TENSORS: usize = 128;

/// How often the elements are read or written.
pub(crate) fn passes(name: &str) -> u64 {
    match name {
        "clip_by_global_norm" => 3,
        // Forward: x, y. Backward: x, the upstream gradient, the gradients of x and of the bound, which is read to be summed.
        "bound_grad" => 7,
        "softmax" => 2,
        "softmax_backward" => 3,
        name if NAMES.contains(&name) => 1,
        // A baseline.
        _ => 2,
    }
}

/// The cases of these names on a device, `batch` at a time.
pub(crate) fn cases<T: Element>(
    device: &Device,
    elements: usize,
    ops: &[String],
    batch: u32,
) -> Result<Vec<Case<'static>>> {
    let info = device.info();
    let on_gpu = info.limits.is_some();
    let norms = T::TYPE.is_float() && !(on_gpu && T::TYPE == ElementType::F64);
    let mut cases = Vec::new();
    for name in NAMES.into_iter().filter(|&name| ops.iter().any(|op| op == name)) {
        if !norms && name != "sum" || name.starts_with("softmax") && T::TYPE == ElementType::F64 {
            continue;
        }
        // A list of tensors nearly fills a batch.
        let batch = match name {
            "clip_by_global_norm" => batch.div_ceil(TENSORS as u32).max(batch.min(2)),
            _ => batch,
        };
        let id = BenchId::new(name, T::TYPE, elements, &info).batch(batch);
        let data = values::<T>(elements);
        let wait = device.clone();
        let mut run: Box<dyn FnMut() -> Result<()>> = match name {
            "sum" => {
                let x = device.tensor(&data, [elements])?;
                Box::new(move || {
                    drop(x.sum(..)?);
                    Ok(())
                })
            }
            "norm" => {
                let x = device.tensor(&data, [elements])?;
                Box::new(move || {
                    drop(x.norm(NormKind::L2, ..)?);
                    Ok(())
                })
            }
            "norm_of_columns" => {
                let columns = crate::COLUMNS.min(elements);
                let rows = elements / columns;
                let x = device.tensor(&data[..rows * columns], [rows, columns])?;
                Box::new(move || {
                    drop(x.norm(NormKind::L2, [0])?);
                    Ok(())
                })
            }
            "bound_grad" => bound_grad_case(device, &data)?,
            "softmax" | "softmax_backward" => {
                let row = ROW.min(elements);
                let rows = elements / row;
                let x = device.tensor(&data[..rows * row], [rows, row])?;
                let y = x.softmax([1])?;
                match name {
                    "softmax" => Box::new(move || x.softmax([1]).map(drop).map_err(Into::into)),
                    _ => Box::new(move || y.softmax_backward(&x, [1]).map(drop).map_err(Into::into)),
                }
            }
            _ => clip_by_global_norm_case(device, &data)?,
        };
        cases.push(Case::timed(id, move || {
            for _ in 0..batch {
                run()?;
            }
            Ok(wait.wait()?)
        }));
    }
    Ok(cases)
}

/// A clip to a learned upper bound of one element, and its gradients.
fn bound_grad_case<T: Element>(device: &Device, data: &[T]) -> Result<Box<dyn FnMut() -> Result<()>>> {
    let x = device.tensor(data, [data.len()])?;
    let bounds = Bounds::at_most(device.tensor(&[T::from_f64(1.0)], [1])?)?;
    Ok(Box::new(move || {
        let y = x.clip(&bounds)?;
        drop(x.clip_backward_bounds(&y, &bounds, BackwardRule::default(), NeedsGrad::HI)?);
        Ok(())
    }))
}

/// Each time to a limit that is a little lower, so that there is something to do.
fn clip_by_global_norm_case<T: Element>(
    device: &Device,
    data: &[T],
) -> Result<Box<dyn FnMut() -> Result<()>>> {
    let len = data.len().div_ceil(TENSORS).max(1);
    let tensors = data.chunks(len).map(|part| device.tensor(part, [part.len()]));
    let tensors = RefCell::new(tensors.collect::<Result<Vec<Tensor<T>>, _>>()?);
    let views: Vec<_> = data.iter().map(|x| x.to_f64()).collect();
    let limit = Cell::new(0.9 * views.iter().map(|x| x * x).sum::<f64>().sqrt());
    Ok(Box::new(move || {
        let mut tensors = tensors.borrow_mut();
        let mut list: Vec<&mut dyn AnyTensor> = tensors.iter_mut().map(|x| x as &mut dyn AnyTensor).collect();
        limit.set(0.999 * limit.get());
        drop(clip_by_global_norm(&mut list, NormLimit::new(limit.get()))?);
        Ok(())
    }))
}
