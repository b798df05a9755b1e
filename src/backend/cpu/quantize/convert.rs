//! Converts floats to codes, and codes to floats. Scales and zero points are f32, or f64 where the floats are f64.

use bytemuck::{cast_slice, cast_slice_mut};

use super::code::Rule;
use super::uniform::integer;
use super::{Wide, canonical, uniform, values, values_to_odd};
use crate::backend::cpu::convert::{narrow, widen};
use crate::backend::cpu::map::{BLOCK, Block};
use crate::backend::cpu::operands::Operands;
use crate::backend::cpu::simd::vectorised;
use crate::element::convert::Overflow;
use crate::element::{Code, with_code, with_float, with_short_float};
use crate::{Element, ElementType};

vectorised! {
    /// Codes as elements.
    fn store<C: Code>(codes: &[f32], to: &mut [C]) {
        for (to, &code) in to.iter_mut().zip(codes) {
            *to = C::of(integer(code));
        }
    }

    /// The steps from zero points to codes that f32 holds.
    fn steps_of<C: Code>(codes: &[C], zero_point: &[f32], rule: Rule<f32>, steps: &mut [f32]) {
        for (steps, (&code, &zero_point)) in steps.iter_mut().zip(codes.iter().zip(zero_point)) {
            let zero = if zero_point.is_nan() { zero_point } else { rule.zero(zero_point) };
            let code: i32 = code.into();
            *steps = code as f32 - zero;
        }
    }
}

/// Writes the codes of a block.
pub(super) fn quantize(operands: &Operands<'_>, block: &Block<'_>, rule: Rule, y: &mut [u8]) {
    let [scale, zero_point, ..] = block.broadcast;
    if operands.element == ElementType::F64 {
        return write_codes([block.x, scale, zero_point].map(cast_slice::<u8, f64>), rule, operands.to, y);
    }
    let [scale, zero_point] = [scale, zero_point].map(cast_slice::<u8, f32>);
    let mut wide = [0.0; BLOCK];
    let x = match operands.element {
        ElementType::F32 => cast_slice(block.x),
        element => {
            let wide = &mut wide[..scale.len()];
            with_short_float!(element, T => widen(cast_slice::<u8, T>(block.x), false, wide));
            &*wide
        }
    };
    let written = uniform(block, rule, ElementType::F32).and_then(|uniform| {
        let doubtful = with_code!(operands.to, C => uniform::write::<C>(x, uniform, cast_slice_mut(y)))?;
        (!doubtful).then_some(())
    });
    if written.is_none() {
        write_codes([x, scale, zero_point], rule, operands.to, y);
    }
}

fn write_codes<R: Wide>([x, scale, zero_point]: [&[R]; 3], rule: Rule, to: ElementType, y: &mut [u8]) {
    let (mut codes, mut passes) = ([0.0; BLOCK], [false; BLOCK]);
    let codes = &mut codes[..x.len()];
    let any_nan = R::codes(x, scale, zero_point, rule, codes, &mut passes[..x.len()]);
    R::add_zeros(zero_point, rule, codes);
    if any_nan {
        for (i, code) in codes.iter_mut().enumerate() {
            if [x[i], scale[i], zero_point[i]].into_iter().any(Element::is_nan) {
                *code = rule.nan_code(zero_point[i].to_f64());
            }
        }
    }
    with_code!(to, C => store::<C>(codes, cast_slice_mut(y)));
}

/// Writes the values of a block of codes.
pub(super) fn dequantize(operands: &Operands<'_>, block: &Block<'_>, rule: Rule, y: &mut [u8]) {
    with_code!(operands.element, C => {
        let codes: &[C] = cast_slice(block.x);
        let [scale, zero_point, ..] = block.broadcast;
        match (operands.to, C::TYPE) {
            (ElementType::F64, _) => {
                let [scale, zero_point] = [scale, zero_point].map(cast_slice::<u8, f64>);
                for (i, y) in cast_slice_mut::<u8, f64>(y).iter_mut().enumerate() {
                    *y = canonical((f64::from(Into::<i32>::into(codes[i])) - zero_of(zero_point[i], rule)) * scale[i]);
                }
            }
            (to, ElementType::I32) => {
                let [scale, zero_point] = [scale, zero_point].map(cast_slice::<u8, f32>);
                with_float!(to, T => {
                    for (i, y) in cast_slice_mut::<u8, T>(y).iter_mut().enumerate() {
                        let steps = f64::from(Into::<i32>::into(codes[i])) - zero_of(zero_point[i].into(), rule);
                        *y = element(product_to_odd(steps, scale[i]));
                    }
                });
            }
            (to, _) => {
                let [scale, zero_point] = [scale, zero_point].map(cast_slice::<u8, f32>);
                let (mut steps, mut wide) = ([0.0; BLOCK], [0.0; BLOCK]);
                let (steps, wide) = (&mut steps[..codes.len()], &mut wide[..codes.len()]);
                steps_of(codes, zero_point, rule.narrow(), steps);
                if to == ElementType::F32 {
                    values(steps, scale, cast_slice_mut(y));
                } else {
                    values_to_odd(steps, scale, wide);
                    with_short_float!(to, T => narrow::<T>(wide, Overflow::Infinity, cast_slice_mut(y)));
                }
            }
        }
    });
}

/// The code of a zero point, or NaN.
fn zero_of(zero_point: f64, rule: Rule) -> f64 {
    if zero_point.is_nan() { zero_point } else { rule.zero(zero_point) }
}

/// The element nearest to a number; a NaN is the quiet one.
fn element<T: Element>(value: f64) -> T {
    if value.is_nan() { T::from_bits(T::TYPE.layout().quiet_nan()) } else { T::from_f64(value) }
}

/// The product of an integer of up to 33 bits and an f32, which may have more bits than an f64: rounded to odd then, so that it can be rounded
/// again. The products of both halves of the integer are exact, and so is what their sum lacks.
fn product_to_odd(steps: f64, scale: f32) -> f64 {
    const HALF: f64 = 65536.0;
    let scale = f64::from(scale);
    if scale == 0.0 || !scale.is_finite() {
        return steps * scale;
    }
    let high = (steps / HALF).trunc() * HALF;
    let (large, small) = (high * scale, (steps - high) * scale);
    let sum = large + small;
    let lacks = small - (sum - large);
    if lacks == 0.0 || sum.to_bits() & 1 == 1 {
        return sum;
    }
    match (lacks > 0.0) == (sum > 0.0) {
        true => f64::from_bits(sum.to_bits() + 1),
        false => f64::from_bits(sum.to_bits() - 1),
    }
}
