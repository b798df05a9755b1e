//! The CPU path, over slices that stay, and a copy of them on all cores.

use std::cell::RefCell;
use std::hint::black_box;
use std::rc::Rc;

use anyhow::Result;
use bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;
use wgclip::op::{Arguments, Operand};
use wgclip::testing::{self, Operands, run_on_slices};
use wgclip::{BackwardRule, Bound, Bounds, Device, Element, cpu};

use crate::values::{OTHERS, between, broadcast};
use crate::{BenchId, COLUMNS, Case, PARAMS, bounds, chosen, converted, needs_of_sums, sums, values};

/// Bytes that a thread copies at once.
const COPIED: usize = 128 * 1024;

/// The cases of these operations and of a parallel memcpy, on `elements` elements of `T`.
///
/// # Errors
/// What the operations return.
pub fn cases<T: Element>(elements: usize, ops: &[String]) -> Result<Vec<Case<'static>>> {
    let device = Device::cpu();
    let info = device.info();
    let id = |op: &str| BenchId::new(op, T::TYPE, elements, &info);
    let x: Rc<Vec<T>> = Rc::new(values(elements));
    let y = Rc::new(RefCell::new(vec![T::ZERO; elements]));
    let mask = vec![0x5555_aaaa_0f0f_f0f0u64; cpu::mask_len(elements)];
    let (lo, hi) = bounds::<T>();
    let rule = BackwardRule::default();

    let mut cases = Vec::new();
    {
        let (x, y) = (x.clone(), y.clone());
        cases.push(Case::timed(id("memcpy"), move || {
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
    for (op, in_place) in chosen::<T>(ops) {
        let id = id(&op.variant_name(in_place));
        if sums(op) {
            let columns = COLUMNS.min(elements);
            let shape = [elements / columns, columns];
            let x = device.tensor(&x[..shape[0] * columns], shape)?;
            let bounds = Bounds::new(lo, device.tensor(&vec![hi; columns], [columns])?)?;
            let others = OTHERS.map(|number| Bound::Value(T::from_f64(number)));
            cases.push(Case::timed(id, move || {
                let needs = needs_of_sums(op);
                let operands = Operands {
                    needs,
                    others: &others,
                    params: &PARAMS,
                    ..Operands::new(black_box(&x), &x, &bounds, rule)
                };
                drop(testing::run(op, &operands)?);
                Ok(())
            }));
            continue;
        }
        // An operand that is overwritten has memory of its own, which stays clipped.
        let y = if in_place { Rc::new(RefCell::new(x.to_vec())) } else { y.clone() };
        let (x, g, mask, written) = (x.clone(), x.to_vec(), mask.clone(), RefCell::new(mask.clone()));
        let (resolved, to) = (broadcast::<T, _>(op)?, converted(op));
        // An output of another type has memory of its own.
        let own = to.map(|to| vec![0u64; (elements * to.size()).div_ceil(size_of::<u64>())]);
        let own = RefCell::new(own.unwrap_or_default());
        cases.push(Case::timed(id, move || {
            let info = op.info();
            let inputs = info.inputs.iter().filter(|&&input| !in_place || Some(input) != info.in_place);
            let inputs: Vec<&[u8]> = inputs
                .map(|input| match input {
                    Operand::Mask => cast_slice(&mask),
                    Operand::G => cast_slice(&g),
                    _ => cast_slice(black_box(&**x)),
                })
                .collect();
            let (mut y, mut written) = (y.borrow_mut(), written.borrow_mut());
            let with_mask = info.outputs.contains(&Operand::Mask);
            let second = with_mask.then(|| cast_slice_mut(&mut written[..]));
            let arguments = Arguments {
                element: Some(T::TYPE),
                rule,
                params: &PARAMS[..info.params.len()],
                to: to.or(Some(T::TYPE)),
                ..Arguments::new(&resolved)
            };
            let mut own = own.borrow_mut();
            let y = match to {
                Some(to) => &mut cast_slice_mut(&mut own[..])[..elements * to.size()],
                None => cast_slice_mut(&mut y[..]),
            };
            Ok(run_on_slices(op, &inputs, [Some(y), second, None, None], elements, &arguments)?)
        }));
    }
    cases.extend(crate::reduce::cases::<T>(&device, elements, ops, 1)?);
    Ok(cases)
}

/// The clip of a tensor, which makes its result: what a user of tensors meets.
///
/// # Errors
/// As [`cases`].
pub fn tensor_case<T: Element>(elements: usize) -> Result<Case<'static>> {
    let device = Device::cpu();
    let id = BenchId::new("clip", T::TYPE, elements, &device.info()).by("wgclip_tensor");
    let (x, bounds) = (device.tensor(&values::<T>(elements), [elements])?, between::<T>()?);
    Ok(Case::timed(id, move || {
        drop(black_box(&x).clip(&bounds)?);
        Ok(())
    }))
}
