//! The CPU path, over slices that stay, and a copy of them on all cores.

use std::cell::RefCell;
use std::hint::black_box;
use std::rc::Rc;

use anyhow::Result;
use rayon::prelude::*;
use wgclip::{Bounds, Device, Element, Gradient, Interval, Wanted, cpu};

use crate::values::between;
use crate::{COLUMNS, Case, What, bounds, values};

/// Bytes that a thread copies at once.
const COPIED: usize = 128 * 1024;

/// The cases of these operations and of a parallel memcpy, on `elements` elements of `T`.
///
/// # Errors
/// What the operations return.
pub fn cases<T: Element>(elements: usize, ops: &[String]) -> Result<Vec<Case<'static>>> {
    let device = Device::cpu();
    let info = device.info();
    let what = |op: &str| What::new(op, T::TYPE, elements, &info);
    let x: Rc<Vec<T>> = Rc::new(values(elements));
    let y = Rc::new(RefCell::new(vec![T::ZERO; elements]));
    let mask = Rc::new(RefCell::new(vec![0; cpu::mask_len(elements)]));
    let (lo, hi) = bounds::<T>();
    let interval = Interval::values(Some(lo), Some(hi))?;
    let rule = Gradient::default();

    let mut cases = Vec::new();
    {
        let (x, y) = (x.clone(), y.clone());
        cases.push(Case::timed(what("memcpy"), move || {
            let chunk = COPIED / size_of::<T>();
            let (x, y) = (black_box(&**x), &mut **y.borrow_mut());
            if size_of_val(x) <= COPIED {
                y.copy_from_slice(x);
            } else {
                y.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(y, x)| y.copy_from_slice(x));
            }
            Ok(())
        }));
    }
    for op in ops {
        let (x, y, mask, interval) = (x.clone(), y.clone(), mask.clone(), interval.clone());
        let what = what(op);
        cases.push(match op.as_str() {
            "clip" => {
                Case::timed(what, move || Ok(cpu::clip(black_box(&x), &interval, &mut y.borrow_mut())?))
            }
            "clip_in_place" => {
                let mut z = x.to_vec();
                Case::timed(what, move || Ok(cpu::clip_in_place(black_box(&mut z), &interval)?))
            }
            "clip_saving" => Case::timed(what, move || {
                let (y, mask) = (&mut y.borrow_mut(), &mut mask.borrow_mut());
                Ok(cpu::clip_saving(black_box(&x), &interval, rule, y, mask)?)
            }),
            "clip_grad" => {
                let g = x.to_vec();
                Case::timed(what, move || {
                    Ok(cpu::clip_grad(black_box(&x), &g, &interval, rule, &mut y.borrow_mut())?)
                })
            }
            "backward_saved" => {
                let mask = vec![0x5555_aaaa_0f0f_f0f0; cpu::mask_len(elements)];
                Case::timed(what, move || Ok(cpu::saved_grad(black_box(&mask), &x, &mut y.borrow_mut())?))
            }
            "bound_grad" => {
                let columns = COLUMNS.min(elements);
                let shape = [elements / columns, columns];
                let x = device.tensor(&x[..shape[0] * columns], shape)?;
                let bounds = Bounds::new(lo, device.tensor(&vec![hi; columns], [columns])?)?;
                Case::timed(what, move || {
                    drop(black_box(&x).clip_grads(&x, &bounds, rule, Wanted::HI)?);
                    Ok(())
                })
            }
            _ => continue,
        });
    }
    Ok(cases)
}

/// The clip of a tensor, which makes its result: what a user of tensors meets.
///
/// # Errors
/// As [`cases`].
pub fn tensor_case<T: Element>(elements: usize) -> Result<Case<'static>> {
    let device = Device::cpu();
    let what = What::new("clip", T::TYPE, elements, &device.info()).by("wgclip_tensor");
    let (x, bounds) = (device.tensor(&values::<T>(elements), [elements])?, between::<T>()?);
    Ok(Case::timed(what, move || {
        drop(black_box(&x).clip(&bounds)?);
        Ok(())
    }))
}
