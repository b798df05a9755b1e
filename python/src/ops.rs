//! The operations of one element, over memory that is given: outputs are made by whoever calls.

use pyo3::prelude::*;
use wgclip::{ElementType, Error, cpu, with_element};

use crate::bounds::Bounds;
use crate::errors::exception;
use crate::memory::{Memory, run};
use crate::rule::AnyRule;

type Any<'a, 'py> = &'a Bound<'py, PyAny>;

/// How many of the inputs are bounds: they come first.
fn split<'a, 'b>(inputs: &'b [&'a [u8]], bounds: &Bounds) -> (&'b [&'a [u8]], &'b [&'a [u8]]) {
    inputs.split_at(bounds.arrays().count())
}

/// Clips x into out, which may be x.
#[pyfunction]
pub(crate) fn clip(
    py: Python<'_>,
    x: Any<'_, '_>,
    min: Option<Any<'_, '_>>,
    max: Option<Any<'_, '_>>,
    out: Any<'_, '_>,
) -> PyResult<()> {
    let (x, out) = (Memory::of(x)?, Memory::of(out)?);
    out.check_like(&x)?;
    let bounds = Bounds::of(min, max, x.element)?;
    let mut inputs: Vec<_> = bounds.arrays().collect();
    let in_place = x.is(&out);
    if !in_place {
        inputs.push(&x);
    }
    let (element, shape) = (x.element, &x.shape);
    run(py, &inputs, &[&out], |inputs, mut outputs| {
        let (arrays, inputs) = split(inputs, &bounds);
        with_element!(element, T => {
            let resolved = bounds.resolve::<T>(shape, arrays)?;
            let y = bytemuck::cast_slice_mut(outputs[0]);
            match inputs {
                [x] => cpu::clip::<T>(bytemuck::cast_slice(x), &resolved, y),
                _ => cpu::clip_in_place::<T>(y, &resolved),
            }
        })
    })
}

/// Clips floats into an output of another type of them.
#[pyfunction]
pub(crate) fn clip_to(
    py: Python<'_>,
    x: Any<'_, '_>,
    min: Option<Any<'_, '_>>,
    max: Option<Any<'_, '_>>,
    out: Any<'_, '_>,
) -> PyResult<()> {
    let (x, out) = (Memory::of(x)?, Memory::of(out)?);
    if x.shape != out.shape {
        let [left, right] = [&x, &out].map(|of| of.shape.dims().to_vec());
        return Err(exception(Error::ShapeMismatch { left, right }));
    }
    let bounds = Bounds::of(min, max, x.element)?;
    let inputs: Vec<_> = bounds.arrays().chain([&x]).collect();
    let (element, to, shape) = (x.element, out.element, &x.shape);
    run(py, &inputs, &[&out], |inputs, mut outputs| {
        let (arrays, inputs) = split(inputs, &bounds);
        with_element!(element, T => {
            let resolved = bounds.resolve::<T>(shape, arrays)?;
            with_element!(to, U => {
                cpu::clip_to::<T, U>(bytemuck::cast_slice(inputs[0]), &resolved, bytemuck::cast_slice_mut(outputs[0]))
            })
        })
    })
}

/// The gradient that reaches x, of the upstream gradient g, into out, which may be g.
#[pyfunction]
pub(crate) fn clip_backward(
    py: Python<'_>,
    x: Any<'_, '_>,
    g: Any<'_, '_>,
    min: Option<Any<'_, '_>>,
    max: Option<Any<'_, '_>>,
    rule: AnyRule,
    out: Any<'_, '_>,
) -> PyResult<()> {
    let [x, g, out] = [Memory::of(x)?, Memory::of(g)?, Memory::of(out)?];
    g.check_like(&x)?;
    out.check_like(&x)?;
    let bounds = Bounds::of(min, max, x.element)?;
    let mut inputs: Vec<_> = bounds.arrays().chain([&x]).collect();
    if !g.is(&out) {
        inputs.push(&g);
    }
    let (element, shape, rule) = (x.element, &x.shape, rule.0);
    run(py, &inputs, &[&out], |inputs, mut outputs| {
        let (arrays, inputs) = split(inputs, &bounds);
        with_element!(element, T => {
            let resolved = bounds.resolve::<T>(shape, arrays)?;
            let (x, gx) = (bytemuck::cast_slice(inputs[0]), bytemuck::cast_slice_mut(outputs[0]));
            match inputs {
                [_, g] if rule.is_identity() => outputs[0].copy_from_slice(g),
                [_] if rule.is_identity() => {}
                [_, g] => cpu::clip_backward::<T>(x, bytemuck::cast_slice(g), &resolved, rule, gx)?,
                _ => cpu::clip_backward_in_place::<T>(x, gx, &resolved, rule)?,
            }
            Ok(())
        })
    })
}

/// The gradients that reach x and its bounds, of the upstream gradient g, into those outputs that are not None: that of a bound has the
/// bound's shape.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "they are the operation's operands")]
pub(crate) fn clip_backward_bounds(
    py: Python<'_>,
    x: Any<'_, '_>,
    g: Any<'_, '_>,
    min: Option<Any<'_, '_>>,
    max: Option<Any<'_, '_>>,
    rule: AnyRule,
    gx: Option<Any<'_, '_>>,
    gmin: Option<Any<'_, '_>>,
    gmax: Option<Any<'_, '_>>,
) -> PyResult<()> {
    let [x, g] = [Memory::of(x)?, Memory::of(g)?];
    g.check_like(&x)?;
    let bounds = Bounds::of(min, max, x.element)?;
    let given = [gx, gmin, gmax].map(|output| output.map(Memory::of).transpose());
    let [gx, gmin, gmax] = given;
    let made = [gx?, gmin?, gmax?];
    if let Some(gx) = &made[0] {
        gx.check_like(&x)?;
    }
    for (side, name) in [(0, "lower"), (1, "upper")] {
        let Some(gradient) = &made[1 + side] else { continue };
        let shape = bounds.gradient_shape(side).ok_or(Error::NoBound { side: name }).map_err(exception)?;
        if gradient.element != x.element {
            return Err(exception(Error::TypeMismatch { left: x.element, right: gradient.element }));
        }
        if gradient.shape != shape {
            let [left, right] = [&shape, &gradient.shape].map(|of| of.dims().to_vec());
            return Err(exception(Error::ShapeMismatch { left, right }));
        }
    }
    let inputs: Vec<_> = bounds.arrays().chain([&x, &g]).collect();
    let outputs: Vec<_> = made.iter().flatten().collect();
    let wanted = [0, 1, 2].map(|n| made[n].is_some());
    let (element, shape, rule) = (x.element, &x.shape, rule.0);
    run(py, &inputs, &outputs, |inputs, outputs| {
        let (arrays, inputs) = split(inputs, &bounds);
        let mut outputs = outputs.into_iter();
        let [gx, glo, ghi] = wanted.map(|wanted| wanted.then(|| outputs.next()).flatten());
        with_element!(element, T => {
            let resolved = bounds.resolve::<T>(shape, arrays)?;
            let gx = match gx {
                Some(gx) if rule.is_identity() => {
                    gx.copy_from_slice(inputs[1]);
                    None
                }
                gx => gx,
            };
            if gx.is_none() && glo.is_none() && ghi.is_none() {
                return Ok(());
            }
            let [x, g] = [inputs[0], inputs[1]].map(bytemuck::cast_slice);
            let of_bounds = [glo, ghi].map(|gradient| gradient.map(bytemuck::cast_slice_mut));
            cpu::clip_backward_bounds::<T>(x, g, &resolved, rule, gx.map(bytemuck::cast_slice_mut), of_bounds)
        })
    })
}

/// How many words of 64 bits a mask has.
#[pyfunction]
pub(crate) fn mask_len(len: usize) -> usize {
    cpu::mask_len(len)
}

/// Clips x into out, and tells in a mask, an array of uint64, where the gradient passes.
#[pyfunction]
pub(crate) fn clip_with_mask(
    py: Python<'_>,
    x: Any<'_, '_>,
    min: Option<Any<'_, '_>>,
    max: Option<Any<'_, '_>>,
    rule: AnyRule,
    out: Any<'_, '_>,
    mask: Any<'_, '_>,
) -> PyResult<()> {
    let [x, out, mask] = [Memory::of(x)?, Memory::of(out)?, Memory::of(mask)?];
    out.check_like(&x)?;
    check_mask(&mask)?;
    let bounds = Bounds::of(min, max, x.element)?;
    let inputs: Vec<_> = bounds.arrays().chain([&x]).collect();
    let (element, shape, rule) = (x.element, &x.shape, rule.0);
    run(py, &inputs, &[&out, &mask], |inputs, outputs| {
        let (arrays, inputs) = split(inputs, &bounds);
        let Ok([y, mask]) = <[_; 2]>::try_from(outputs) else { return Ok(()) };
        with_element!(element, T => {
            let resolved = bounds.resolve::<T>(shape, arrays)?;
            let (y, mask) = (bytemuck::cast_slice_mut(y), bytemuck::cast_slice_mut(mask));
            cpu::clip_with_mask::<T>(bytemuck::cast_slice(inputs[0]), &resolved, rule, y, mask)
        })
    })
}

/// The gradient that reaches x by a mask, of the upstream gradient g, into out, which may be g.
#[pyfunction]
pub(crate) fn mask_backward(
    py: Python<'_>,
    mask: Any<'_, '_>,
    g: Any<'_, '_>,
    out: Any<'_, '_>,
) -> PyResult<()> {
    let [mask, g, out] = [Memory::of(mask)?, Memory::of(g)?, Memory::of(out)?];
    check_mask(&mask)?;
    out.check_like(&g)?;
    let inputs: Vec<_> = [Some(&mask), (!g.is(&out)).then_some(&g)].into_iter().flatten().collect();
    run(py, &inputs, &[&out], |inputs, mut outputs| {
        with_element!(g.element, T => {
            let (mask, gx) = (bytemuck::cast_slice(inputs[0]), bytemuck::cast_slice_mut(outputs[0]));
            match inputs {
                [_, g] => cpu::mask_backward::<T>(mask, bytemuck::cast_slice(g), gx),
                _ => cpu::mask_backward_in_place::<T>(mask, gx),
            }
        })
    })
}

fn check_mask(mask: &Memory) -> PyResult<()> {
    match mask.element {
        ElementType::U64 => Ok(()),
        other => Err(exception(Error::TypeMismatch { left: ElementType::U64, right: other })),
    }
}
