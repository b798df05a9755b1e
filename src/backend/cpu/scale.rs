//! Multiplies elements by coefficients, one for all or one for each slice, and does the backward pass of that: the twin
//! of `shaders/scale.wgsl`.

use bytemuck::cast_slice_mut;

use super::memory;
use super::partition::{Partition, copy_then_apply};
use super::scaling;
use super::simd::vectorised;
use crate::broadcast::Broadcast;
use crate::call::Limiter;
use crate::element::convert::{self, Overflow};
use crate::element::{Real, with_float, with_short_float};
use crate::norm::{Scaling, ScalingBackward};
use crate::{Element, ElementType, Error, NonFinitePolicy, Result};

/// The [`Scaling`] of each output, in f64, which holds every f32.
pub(super) type Scalings = Vec<Scaling<f64>>;

/// The scalings of slices with these norms.
pub(super) fn scalings<R: Real>(norms: &[R], limiter: Limiter<&[u8]>) -> Result<Scalings> {
    let relative: Option<&[R]> =
        limiter.relative.map(|(norms, _)| super::operands::elements(norms)).transpose()?;
    let decide = |(n, &norm): (usize, &R)| {
        let norm = match limiter.average {
            Some(count) => scaling::average(norm, count),
            None => norm,
        };
        let limit = match (relative, limiter.relative) {
            (Some(norms), Some((_, least))) => scaling::relative(limiter.limit, norms[n], least),
            _ => *limiter.limit,
        };
        if limit.nonfinite == NonFinitePolicy::Error && !Real::is_finite(norm) {
            return Err(Error::NonFiniteNorm { what: "a tensor on the CPU".into() });
        }
        Ok(scaling::scaling(norm, &limit).to_f64())
    };
    let mut scalings = Vec::new();
    memory::reserve(&mut scalings, norms.len())?;
    for norm in norms.iter().enumerate() {
        scalings.push(decide(norm)?);
    }
    Ok(scalings)
}

/// Elements of a short type that are scaled at once.
const RUN: usize = 64;

vectorised! {
    fn multiply<T: Element>(coefficient: f64, x: &mut [T]) {
        for x in x {
            *x = product(*x, coefficient);
        }
    }

    fn multiply_each<T: Element>(coefficients: &[f64], x: &mut [T]) {
        for (x, coefficient) in x.iter_mut().zip(coefficients) {
            *x = product(*x, *coefficient);
        }
    }

    /// The same for a short type, in f32: rounded there, and then to the type. That rounds only once unless the first result
    /// is halfway between two numbers of the type, or is not a normal number of the type: those runs are recomputed exactly.
    fn multiply_short<T: Element>(coefficient: f32, x: &mut [T]) {
        let layout = T::TYPE.layout();
        let (excess, least) = layout.f32_rest();
        let mut scaled = [T::ZERO; RUN];
        for x in x.chunks_mut(RUN) {
            let mut doubtful = 0;
            for (scaled, x) in scaled.iter_mut().zip(x.iter()) {
                let product = convert::to_f32(*x, false) * coefficient;
                let size = product.to_bits() & (u32::MAX >> 1);
                let halfway = size << (32 - excess) == 1 << 31;
                let unusual = size.wrapping_sub(1) >= f32::INFINITY.to_bits() - 1;
                let small = size.wrapping_sub(1) < least - 1;
                doubtful |= u32::from(halfway | unusual & (size != 0) | small);
                *scaled = T::from_bits(layout.narrow_normal(product).into());
            }
            match doubtful {
                0 => x.copy_from_slice(&scaled[..x.len()]),
                _ => x.iter_mut().for_each(|x| *x = product(*x, coefficient.into())),
            }
        }
    }
}

/// A product, rounded once. A coefficient of f32 is exact as f64.
#[inline(always)]
fn product<T: Element>(x: T, coefficient: f64) -> T {
    let layout = T::TYPE.layout();
    let nan = layout.quiet_nan();
    let bits = match T::TYPE {
        ElementType::F64 => {
            let product = f64::from_bits(Element::to_bits(x)) * coefficient;
            if product.is_nan() { nan } else { product.to_bits() }
        }
        ElementType::F32 => {
            let product = f32::from_bits(Element::to_bits(x) as u32) * coefficient as f32;
            if product.is_nan() { nan } else { product.to_bits().into() }
        }
        _ => {
            let product = f64::from(convert::to_f32(x, false)) * coefficient;
            let near = layout.narrow(convert::round_to_odd(product), Overflow::Infinity).into();
            if product.is_nan() { nan } else { near }
        }
    };
    T::from_bits(bits)
}

/// The same by a coefficient that f32 cannot hold.
fn multiply_wide<T: Element>(coefficient: f64, x: &mut [T]) {
    for x in x {
        *x = wide_product(*x, coefficient);
    }
}

/// The product of a float of up to 32 bits with any f64, rounded once.
fn wide_product<T: Element>(x: T, coefficient: f64) -> T {
    let layout = T::TYPE.layout();
    // In two parts, whose products with x are exact.
    let high = f64::from_bits(coefficient.to_bits() & (u64::MAX << 27));
    let wide = f64::from(convert::to_f32(x, false));
    let (first, second) = (wide * high, wide * (coefficient - high));
    let near = first + second;
    let rest = second - (near - first);
    // To odd: away from or back to zero by one step of the bits.
    let inexact = u64::from(rest != 0.0 && near.is_finite()) & !near.to_bits() & 1;
    let is_away = u64::from((rest < 0.0) == (near < 0.0));
    let odd =
        f64::from_bits(near.to_bits().wrapping_add(inexact * is_away).wrapping_sub(inexact * (1 - is_away)));
    let bits = match T::TYPE {
        _ if odd.is_nan() => layout.quiet_nan(),
        ElementType::F32 => (odd as f32).to_bits().into(),
        _ => layout.narrow(convert::round_to_odd(odd), Overflow::Infinity).into(),
    };
    T::from_bits(bits)
}

/// Applies a scaling to elements in place.
fn apply(scaling: Scaling<f64>, element: ElementType, x: &mut [u8]) {
    let coefficient = match scaling {
        Scaling::Keep => return,
        Scaling::Zero => return x.fill(0),
        Scaling::By(coefficient) => coefficient,
    };
    // A list with f64 has a norm of f64.
    let is_wide = coefficient.is_finite() && f64::from(coefficient as f32) != coefficient;
    match element {
        ElementType::F32 if is_wide => multiply_wide::<f32>(coefficient, cast_slice_mut(x)),
        ElementType::F32 => multiply::<f32>(coefficient, cast_slice_mut(x)),
        ElementType::F64 => multiply::<f64>(coefficient, cast_slice_mut(x)),
        _ if is_wide => {
            with_short_float!(element, T => multiply_wide::<T>(coefficient, cast_slice_mut(x)));
        }
        _ => {
            with_short_float!(element, T => multiply_short::<T>(coefficient as f32, cast_slice_mut(x)));
        }
    }
}

/// Scales elements, by one scaling for all or by that of the output that they broadcast to.
pub(super) fn scale(
    element: ElementType,
    x: &[u8],
    y: &mut [u8],
    scalings: &[Scaling<f64>],
    broadcast: &Broadcast,
) {
    let size = element.size();
    let parts = Partition::new(size, y.len() / size);
    parts.for_each_chunk(y, size, &|start, y| {
        let x = &x[start * size..][..y.len()];
        if let [scaling] = scalings {
            return copy_then_apply(Some(x), y, &mut |_, y| apply(*scaling, element, y));
        }
        y.copy_from_slice(x);
        for run in broadcast.runs(start..start + y.len() / size) {
            let y = &mut y[(run.start - start) * size..][..run.len * size];
            match run.strides[0] {
                0 => apply(scalings[run.first[0]], element, y),
                _ => apply_each(&scalings[run.first[0]..][..run.len], element, y),
            }
        }
    });
}

/// A scaling for each element.
fn apply_each(scalings: &[Scaling<f64>], element: ElementType, y: &mut [u8]) {
    let mut coefficients = [0.0; 256];
    for (scalings, y) in scalings.chunks(256).zip(y.chunks_mut(256 * element.size())) {
        let all: Option<()> =
            scalings.iter().zip(&mut coefficients).try_for_each(|(scaling, coefficient)| {
                *coefficient = match scaling {
                    Scaling::By(by) => *by,
                    // A NaN would lose its payload.
                    Scaling::Keep | Scaling::Zero => return None,
                };
                Some(())
            });
        if all.is_some() {
            with_float!(element, T => multiply_each::<T>(&coefficients, cast_slice_mut(y)));
            continue;
        }
        for (scaling, y) in scalings.iter().zip(y.chunks_mut(element.size())) {
            apply(*scaling, element, y);
        }
    }
}

/// The gradients that reach elements, by one scaling for all or by that of the output that they broadcast to.
pub(super) fn scale_backward<T: Element>(
    x: &[T],
    g: &[T],
    gx: &mut [T],
    scalings: &[ScalingBackward<T::Norm>],
    broadcast: &Broadcast,
) {
    let parts = Partition::new(size_of::<T>(), gx.len());
    parts.for_each_chunk(cast_slice_mut(gx), size_of::<T>(), &|start, gx| {
        let gx: &mut [T] = cast_slice_mut(gx);
        let (x, g) = (&x[start..][..gx.len()], &g[start..][..gx.len()]);
        for run in broadcast.runs(start..start + gx.len()) {
            let here = run.start - start..run.start - start + run.len;
            let (x, g, gx) = (&x[here.clone()], &g[here.clone()], &mut gx[here]);
            match run.strides[0] {
                0 => apply_backward(scalings[run.first[0]], x, g, gx),
                _ => apply_backward_each(&scalings[run.first[0]..][..run.len], x, g, gx),
            }
        }
    });
}

fn apply_backward<T: Element>(scaling: ScalingBackward<T::Norm>, x: &[T], g: &[T], gx: &mut [T]) {
    match scaling {
        ScalingBackward::Keep => gx.copy_from_slice(g),
        ScalingBackward::Zero => gx.fill(T::ZERO),
        ScalingBackward::Nan => gx.fill(T::from_bits(T::TYPE.layout().quiet_nan())),
        ScalingBackward::By { coefficient, unit, projection } => {
            let by = [coefficient, unit, projection].map(Element::to_f64);
            project(move |_| by, x, g, gx);
        }
    }
}

/// A scaling for each element.
fn apply_backward_each<T: Element>(scalings: &[ScalingBackward<T::Norm>], x: &[T], g: &[T], gx: &mut [T]) {
    let mut factors = [[0.0; 3]; 256];
    for (((scalings, x), g), gx) in
        scalings.chunks(256).zip(x.chunks(256)).zip(g.chunks(256)).zip(gx.chunks_mut(256))
    {
        let all: Option<()> = scalings.iter().zip(&mut factors).try_for_each(|(scaling, factors)| {
            *factors = match *scaling {
                ScalingBackward::By { coefficient, unit, projection } => {
                    [coefficient, unit, projection].map(Element::to_f64)
                }
                _ => return None,
            };
            Some(())
        });
        match all {
            Some(()) => project(|i| factors[i], x, g, gx),
            None => {
                for (i, scaling) in scalings.iter().enumerate() {
                    apply_backward(*scaling, &x[i..=i], &g[i..=i], &mut gx[i..=i]);
                }
            }
        }
    }
}

vectorised! {
    fn project<T: Element, F: Fn(usize) -> [f64; 3]>(by: F, x: &[T], g: &[T], gx: &mut [T]) {
        let layout = T::TYPE.layout();
        for (i, ((gx, x), g)) in gx.iter_mut().zip(x).zip(g).enumerate() {
            let by = by(i);
            let (c, u, p) = (by[0] as f32, by[1] as f32, by[2] as f32);
            let bits = match T::TYPE {
                ElementType::F64 => {
                    let [c, u, p] = by;
                    let (x, g) = (f64::from_bits(Element::to_bits(*x)), f64::from_bits(Element::to_bits(*g)));
                    let gradient = g * c - x * u * p;
                    if gradient.is_nan() { layout.quiet_nan() } else { gradient.to_bits() }
                }
                ElementType::F32 => {
                    let (x, g) = (convert::to_f32(*x, false), convert::to_f32(*g, false));
                    let gradient = g * c - x * u * p;
                    if gradient.is_nan() { layout.quiet_nan() } else { gradient.to_bits().into() }
                }
                _ => {
                    let gradient = convert::to_f32(*g, false) * c - convert::to_f32(*x, false) * u * p;
                    let near = u64::from(layout.narrow(gradient, Overflow::Infinity));
                    // Beyond the range, a type without infinity has NaN.
                    if near & (layout.sign() - 1) > layout.max_number() { layout.quiet_nan() } else { near }
                }
            };
            *gx = T::from_bits(bits);
        }
    }
}

/// Scales several slices in place by one scaling, on all cores.
pub(super) fn scale_all(scaling: Scaling<f64>, slices: Vec<(ElementType, &mut [u8])>) {
    let bytes = slices.iter().map(|(_, slice)| slice.len()).sum();
    let chunk =
        |(element, slice): (ElementType, _)| Partition::pieces_mut(slice).map(move |piece| (element, piece));
    let count = slices.iter().map(|(_, slice)| Partition::pieces(slice).count()).sum();
    let mut chunks = slices.into_iter().flat_map(chunk);
    Partition::of_list(bytes, count)
        .for_each(&mut chunks, &|(element, piece)| apply(scaling, element, piece));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bf16, cpu, f8_e4m3fn, f8_e5m2, f16, reference};

    /// Coefficients of f64, which come from lists with f64, with shorter elements: also some whose product, rounded to f64
    /// first, would lie halfway between two elements.
    fn scales_by_any_f64<T: Element>(rng: &mut fastrand::Rng) {
        let layout = T::TYPE.layout();
        for n in 0..2_000 {
            let half = (-f64::from(layout.fraction_bits() + 1)).exp2();
            let coefficient = match n % 4 {
                0 => rng.f64(),
                1 => f64::from_bits(rng.u64(..)),
                2 => 1.0 + half + [f64::EPSILON, -f64::EPSILON, 0.0][rng.usize(..3)],
                _ => 0.5 - half * [1.0, 0.5, 3.0][rng.usize(..3)] * (1.0 - f64::EPSILON),
            };
            if coefficient.is_nan() {
                continue;
            }
            let mut x: Vec<T> = (0..33).map(|_| T::from_bits(rng.u64(..) & layout.mask())).collect();
            x.extend([T::from_f64(1.0), T::from_f64(-1.0), T::ZERO]);
            let expected: Vec<_> = x.iter().map(|&x| reference::scale(x, Scaling::By(coefficient))).collect();
            cpu::scale_in_place(&mut x, Scaling::By(coefficient));
            let bits = |x: &[T]| x.iter().map(|&x| Element::to_bits(x)).collect::<Vec<_>>();
            assert_eq!(bits(&x), bits(&expected), "{} by {coefficient:e}", T::TYPE);
        }
    }

    #[test]
    fn products_with_any_f64_are_rounded_once() {
        let rng = &mut fastrand::Rng::with_seed(5);
        scales_by_any_f64::<f32>(rng);
        scales_by_any_f64::<f16>(rng);
        scales_by_any_f64::<bf16>(rng);
        scales_by_any_f64::<f8_e4m3fn>(rng);
        scales_by_any_f64::<f8_e5m2>(rng);
        // 1 + 2^-24 is halfway between 1 and the next f32; a little more is not.
        let coefficient = 1.0 + 2f64.powi(-24) + f64::EPSILON;
        assert_eq!(reference::scale(1f32, Scaling::By(coefficient)), 1.0 + f32::EPSILON);
        let mut x = [1f32 + f32::EPSILON];
        // 1 + 2^-23 times this is 1 + 2^-24 plus a sixteenth of the last place of an f64.
        let coefficient = 1.0 - 2f64.powi(-24) + 2f64.powi(-47) + 2f64.powi(-52);
        let expected = reference::scale(x[0], Scaling::By(coefficient));
        cpu::scale_in_place(&mut x, Scaling::By(coefficient));
        assert_eq!(x[0], expected);
    }
}
