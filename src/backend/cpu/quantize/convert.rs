//! Converts floats to codes, and codes to floats. Scales and zero points are f32, or f64 where the floats are f64. Codes that are floats have no
//! zero points.

use bytemuck::{cast_slice, cast_slice_mut};

use super::code::{FAR, Rule, divide};
use super::uniform::integer;
use super::{Wide, canonical, uniform, values, values_to_odd};
use crate::backend::cpu::convert::{narrow, widen};
use crate::backend::cpu::map::{BLOCK, Block};
use crate::backend::cpu::operands::Operands;
use crate::backend::cpu::simd::vectorised;
use crate::element::convert::{Overflow, round_to_odd};
use crate::element::{Code, Real, with_code, with_float, with_float8, with_short_float};
use crate::quantize::{CodeFormat, E2M1, NanCode, Quotient};
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

    /// Quotients of f32, rounded to odd, so that they can be rounded again, and below all infinities; in place of NaN, `of_nan`.
    fn quotients(x: &[f32], scale: &[f32], (quotient, of_nan): (Quotient, f32), to: &mut [f32]) {
        // A loop for each way to divide.
        macro_rules! by {
            ($quotient:expr) => {
                for (to, (&x, &scale)) in to.iter_mut().zip(x.iter().zip(scale)) {
                    *to = signed(divide(x, scale, $quotient), x, scale, of_nan);
                }
            };
        }
        match quotient {
            Quotient::Exact => by!(Quotient::Exact),
            Quotient::Division => by!(Quotient::Division),
            Quotient::Reciprocal => by!(Quotient::Reciprocal),
        }
    }
}

vectorised! {
    /// The nearest 4-bit floats: by how many middles between two magnitudes a number is beyond. A tie goes to the even one.
    fn e2m1_codes(numbers: &[f32], codes: &mut [u8]) {
        for (code, &number) in codes.iter_mut().zip(numbers) {
            let size = number.abs();
            let even = [0.25, 1.25, 2.5, 5.0].map(|middle| u32::from(size > middle));
            let odd = [0.75, 1.75, 3.5].map(|middle| u32::from(size >= middle));
            let magnitude = even[0] + even[1] + even[2] + even[3] + odd[0] + odd[1] + odd[2];
            *code = (magnitude | (number.to_bits() >> 31) << 3) as u8;
        }
    }
}

/// A quotient with its sign, also where it is 0.
#[inline(always)]
fn signed<R: Real>(quotient: f64, x: R, scale: R, of_nan: f32) -> f32 {
    let [x, scale] = [x.to_f64(), scale.to_f64()];
    let magnitude = quotient.abs().min(FAR);
    let negative = x.is_sign_negative() != scale.is_sign_negative();
    let value = round_to_odd(if negative { -magnitude } else { magnitude });
    if x.is_nan() | scale.is_nan() { of_nan } else { value }
}

/// Writes the codes of a block.
pub(super) fn quantize(operands: &Operands<'_>, block: &Block<'_>, rule: Rule, y: &mut [u8]) {
    let [scale, zero_point, ..] = block.broadcast;
    let is_e2m1 = rule.quant.format == CodeFormat::E2M1;
    let float = (is_e2m1 || operands.to.is_float8()).then_some(operands.to);
    if operands.element == ElementType::F64 {
        if let Some(to) = float {
            let [x, scale] = [block.x, scale].map(cast_slice::<u8, f64>);
            return write_floats(x.len(), to, y, |to| {
                for (to, (&x, &scale)) in to.iter_mut().zip(x.iter().zip(scale)) {
                    *to = signed(to_odd_f64(x, scale, rule.quant.quotient), x, scale, of_nan(rule));
                }
            });
        }
        let inputs = [block.x, scale, zero_point].map(cast_slice::<u8, f64>);
        return write_codes(inputs, rule, (block.start, operands.to), y);
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
    if let Some(to) = float {
        return write_floats(x.len(), to, y, |to| {
            quotients(x, scale, (rule.quant.quotient, of_nan(rule)), to);
        });
    }
    let written = uniform::of_block(block, rule, ElementType::F32).and_then(|uniform| {
        let doubtful = with_code!(operands.to, C => uniform::write::<C>(x, uniform, cast_slice_mut(y)))?;
        (!doubtful).then_some(())
    });
    if written.is_none() {
        write_codes([x, scale, zero_point], rule, (block.start, operands.to), y);
    }
}

/// The number that becomes the code of a NaN where codes are floats. No 4-bit one is NaN.
fn of_nan(rule: Rule) -> f32 {
    match rule.quant.nan {
        NanCode::Nan if rule.quant.format == CodeFormat::E2M1 => 0.0,
        NanCode::Nan => f32::NAN,
        NanCode::Zero => 0.0,
        NanCode::Least => -FAR as f32,
        NanCode::Greatest => FAR as f32,
    }
}

/// Writes codes that are 8-bit floats, or 4-bit ones as u8, by the quotients that `compute` writes. None is infinite: all saturate.
fn write_floats(len: usize, to: ElementType, y: &mut [u8], compute: impl FnOnce(&mut [f32])) {
    let mut quotients = [0.0; BLOCK];
    let quotients = &mut quotients[..len];
    compute(quotients);
    if to == ElementType::U8 {
        return e2m1_codes(quotients, y);
    }
    with_float8!(to, C => narrow::<C>(quotients, Overflow::Saturate, cast_slice_mut(y)));
}

/// A quotient of f64, rounded to odd where the rule does not round it.
fn to_odd_f64(x: f64, scale: f64, quotient: Quotient) -> f64 {
    let (mut x, mut scale) = (x, scale);
    // So that no remainder is too small for an f64. A quotient that is, is nearer to 0 than any code.
    if quotient == Quotient::Exact && scale.abs() < 2f64.powi(-900) {
        (x, scale) = (x * 2f64.powi(100), scale * 2f64.powi(100));
    }
    let value = match quotient {
        Quotient::Reciprocal => x * (1.0 / scale),
        Quotient::Exact | Quotient::Division => x / scale,
    };
    let value = Rule::<f64>::defined(value, x, scale);
    if quotient != Quotient::Exact || value.abs() > FAR || value.abs() < 1.0 / FAR || scale.is_infinite() {
        return value;
    }
    let error = (-value).mul_add(scale, x) * scale.signum();
    match value.to_bits() & 1 == 1 || error == 0.0 {
        true => value,
        false if (error > 0.0) == (value > 0.0) => f64::from_bits(value.to_bits() + 1),
        false => f64::from_bits(value.to_bits() - 1),
    }
}

fn write_codes<R: Wide>(
    [x, scale, zero_point]: [&[R]; 3],
    rule: Rule,
    (start, to): (usize, ElementType),
    y: &mut [u8],
) {
    let (mut codes, mut passes) = ([0.0; BLOCK], [false; BLOCK]);
    let codes = &mut codes[..x.len()];
    let passes = &mut passes[..x.len()];
    let any_nan = R::codes([x, scale, zero_point], rule, start as u64, codes, passes);
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
    if operands.element.is_float8() || rule.quant.format == CodeFormat::E2M1 {
        return dequantize_floats(operands, block, y);
    }
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
                let mut steps = [0.0; BLOCK];
                let steps = &mut steps[..codes.len()];
                steps_of(codes, zero_point, rule.narrow(), steps);
                write_values(steps, scale, to, y);
            }
        }
    });
}

/// Writes the values of a block of codes that are 8-bit floats, or 4-bit ones as u8.
fn dequantize_floats(operands: &Operands<'_>, block: &Block<'_>, y: &mut [u8]) {
    let scale = block.broadcast[0];
    let mut codes = [0.0; BLOCK];
    let codes = &mut codes[..block.x.len()];
    if operands.element == ElementType::U8 {
        codes.iter_mut().zip(block.x).for_each(|(to, code)| *to = E2M1[usize::from(code & 0xf)]);
    } else {
        with_float8!(operands.element, C => widen(cast_slice::<u8, C>(block.x), false, codes));
    }
    match operands.to {
        ElementType::F64 => {
            let inputs = codes.iter().zip(cast_slice::<u8, f64>(scale));
            for (y, (&code, &scale)) in cast_slice_mut::<u8, f64>(y).iter_mut().zip(inputs) {
                *y = canonical(f64::from(code) * scale);
            }
        }
        to => write_values(codes, cast_slice(scale), to, y),
    }
}

/// Writes steps times scales as floats of up to 32 bits.
fn write_values(steps: &[f32], scale: &[f32], to: ElementType, y: &mut [u8]) {
    if to == ElementType::F32 {
        return values(steps, scale, cast_slice_mut(y));
    }
    let mut wide = [0.0; BLOCK];
    let wide = &mut wide[..steps.len()];
    values_to_odd(steps, scale, wide);
    with_short_float!(to, T => narrow::<T>(wide, Overflow::Infinity, cast_slice_mut(y)));
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
