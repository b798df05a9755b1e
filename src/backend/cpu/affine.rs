//! The affine map: the twin of `shaders/affine.wgsl`.

use bytemuck::{cast_slice, cast_slice_mut};

use super::COMPACT;
use super::convert::{BLOCK, widen};
use super::operands::Operands;
use super::partition::{Partition, copy_then_apply};
use super::simd::vectorised;
use crate::element::convert::{Overflow, from_f32};
use crate::element::with_short_float;
use crate::{Element, ElementType};

/// A product and a sum, each rounded once. A NaN element stays; a computed NaN is canonical, since machines differ.
macro_rules! map {
    ($name:ident, $type:ident) => {
        #[inline(always)]
        fn $name(x: $type, scale: $type, offset: $type) -> $type {
            let canonical = |y: $type| if y.is_nan() { $type::NAN } else { y };
            let y = canonical(canonical(x * scale) + offset);
            if x.is_nan() { x } else { y }
        }
    };
}

map!(map_f32, f32);
map!(map_f64, f64);

vectorised! {
    fn affine_f32(x: &mut [f32], scale: f32, offset: f32) {
        x.iter_mut().for_each(|x| *x = map_f32(*x, scale, offset));
    }

    fn affine_f32_into(x: &[f32], y: &mut [f32], scale: f32, offset: f32) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y = map_f32(*x, scale, offset));
    }

    fn affine_f64(x: &mut [f64], scale: f64, offset: f64) {
        x.iter_mut().for_each(|x| *x = map_f64(*x, scale, offset));
    }

    fn affine_f64_into(x: &[f64], y: &mut [f64], scale: f64, offset: f64) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y = map_f64(*x, scale, offset));
    }

    /// Replaces elements by those nearest to numbers. NaNs stay.
    fn replace<T: Element>(numbers: &[f32], x: &mut [T]) {
        for (x, &number) in x.iter_mut().zip(numbers) {
            *x = if Element::is_nan(*x) { *x } else { from_f32(number, Overflow::Infinity) };
        }
    }
}

/// Runs the operation.
pub(super) fn run(operands: &Operands<'_>, [scale, offset]: [f64; 2], y: &mut [u8]) {
    let element = operands.element;
    let parts = Partition::new(element.size(), operands.len);
    parts.for_each_chunk(y, element.size(), &|start, y| {
        let x = operands.x.map(|x| &x[start * element.size()..][..y.len()]);
        let (narrow_scale, narrow_offset) = (scale as f32, offset as f32);
        match (element, x.filter(|_| !COMPACT && !parts.exceeds_cache())) {
            (ElementType::F32, Some(x)) => {
                return affine_f32_into(cast_slice(x), cast_slice_mut(y), narrow_scale, narrow_offset);
            }
            (ElementType::F64, Some(x)) => {
                return affine_f64_into(cast_slice(x), cast_slice_mut(y), scale, offset);
            }
            _ => {}
        }
        copy_then_apply(x, y, &mut |_, y| match element {
            ElementType::F64 => affine_f64(cast_slice_mut(y), scale, offset),
            ElementType::F32 => affine_f32(cast_slice_mut(y), narrow_scale, narrow_offset),
            _ => {
                with_short_float!(element, T => short::<T>(cast_slice_mut(y), narrow_scale, narrow_offset));
            }
        });
    });
}

/// Maps short floats in f32, and rounds.
fn short<T: Element>(x: &mut [T], scale: f32, offset: f32) {
    let mut wide = [0.0; BLOCK];
    for x in x.chunks_mut(BLOCK) {
        let wide = &mut wide[..x.len()];
        widen(x, false, wide);
        affine_f32(wide, scale, offset);
        replace(wide, x);
    }
}
