//! Codes of a block with one scale and one zero point: by the reciprocal of the scale, which takes a third of the time of quotients. A block in which
//! that might make a difference is left to the loops over quotients.

use bytemuck::{cast_slice, cast_slice_mut};

use super::code::{FAR, Rule};
use super::is_exact_in_f32;
use crate::backend::cpu::convert::{narrow, widen};
use crate::backend::cpu::map::{BLOCK, Block};
use crate::backend::cpu::simd::vectorised;
use crate::element::convert::Overflow;
use crate::element::{with_float, with_short_float};
use crate::quantize::{Quotient, Rounding};
use crate::{Element, ElementType};

/// How far, relative to it, a product with the reciprocal is from the quotient: less than 1.5 units of 2^-23, be the quotient rounded or not.
const MARGIN: f32 = 1.0 / (1 << 22) as f32;

/// Ranges that are greater have so many quotients near to a half, by that margin, that most blocks would be done twice.
const MOST_STEPS: i32 = 1 << 12;

/// What the elements of a block have in common.
#[derive(Clone, Copy)]
pub(super) struct Uniform {
    pub scale: f32,
    /// The code of the zero point.
    pub zero: f32,
    reciprocal: f32,
    /// The steps from the zero point to the least and the greatest code.
    least: f32,
    greatest: f32,
    margin: f32,
    rounding: Rounding,
    /// Between which rounded quotients the gradient passes, unless that depends on unrounded ones.
    passing: [f32; 2],
}

impl Uniform {
    /// None for operands and rules for which a product is not near enough to the quotient.
    pub(super) fn new(scale: f32, zero_point: f32, rule: Rule) -> Option<Self> {
        let (reciprocal, quant) = (1.0 / scale, rule.quant);
        // Neither the reciprocal nor a product that matters is subnormal.
        let is_far_from_ends = (2f32.powi(-100)..2f32.powi(100)).contains(&scale.abs());
        let is_power_of_two = scale.to_bits() << 9 == 0;
        let is_exact = quant.quotient == Quotient::Reciprocal || is_power_of_two;
        let is_near = match quant.rounding {
            // A quotient that is too small for f32 decides too.
            Rounding::Down => quant.quotient == Quotient::Reciprocal,
            Rounding::Stochastic => false,
            _ => is_exact || quant.max - quant.min <= MOST_STEPS,
        };
        if !is_far_from_ends || !is_near || zero_point.is_nan() {
            return None;
        }
        let rule = rule.narrow();
        let zero = rule.zero(zero_point);
        Some(Self {
            scale,
            zero,
            reciprocal,
            least: rule.min - zero,
            greatest: rule.max - zero,
            margin: if is_exact { 0.0 } else { MARGIN },
            rounding: quant.rounding,
            passing: rule.limits.map(|limit| limit - zero),
        })
    }
}

/// What all elements of a block have in common, if they do: the scale, and the zero point.
pub(super) fn of_block(block: &Block<'_>, rule: Rule, of_input: ElementType) -> Option<Uniform> {
    if block.uniform[..2] != [true; 2] || block.x.is_empty() {
        return None;
    }
    let first = |input: &[u8]| with_float!(of_input, T => cast_slice::<u8, T>(input)[0].to_f64() as f32);
    Uniform::new(first(block.broadcast[0])?, first(block.broadcast[1])?, rule)
}

/// Writes the values of a block with one scale and one zero point. Returns false if another loop has to.
pub(super) fn fake(element: ElementType, block: &Block<'_>, rule: Rule, y: &mut [u8]) -> bool {
    if element == ElementType::F64 || !is_exact_in_f32(element, rule) {
        return false;
    }
    let Some(uniform) = of_block(block, rule, element) else { return false };
    if element == ElementType::F32 {
        return !write::<f32>(cast_slice(block.x), uniform, cast_slice_mut(y));
    }
    let written = with_short_float!(element, T => {
        let x: &[T] = cast_slice(block.x);
        let (mut wide, mut values) = ([0.0; BLOCK], [0.0; BLOCK]);
        let (wide, values) = (&mut wide[..x.len()], &mut values[..x.len()]);
        widen(x, false, wide);
        let doubtful = write(wide, uniform, values);
        if !doubtful {
            narrow::<T>(values, Overflow::Infinity, cast_slice_mut(y));
        }
        !doubtful
    });
    written.unwrap_or(false)
}

/// Writes the gradient of x alone for a block with one scale and one zero point. Returns false if another loop has to.
pub(super) fn pass_gradient(element: ElementType, block: &Block<'_>, rule: Rule, gx: &mut [u8]) -> bool {
    if element == ElementType::F64 || rule.unrounded {
        return false;
    }
    let Some(uniform) = of_block(block, rule, element) else { return false };
    if element == ElementType::F32 {
        return !pass::<f32>(cast_slice(block.x), cast_slice(block.g), uniform, cast_slice_mut(gx));
    }
    let written = with_short_float!(element, T => {
        let x: &[T] = cast_slice(block.x);
        let mut wide = [0.0; BLOCK];
        let wide = &mut wide[..x.len()];
        widen(x, false, wide);
        !pass::<T>(wide, cast_slice(block.g), uniform, cast_slice_mut(gx))
    });
    written.unwrap_or(false)
}

/// What is written: values, or codes.
pub(super) trait Written: Copy {
    /// Of the steps from the zero point to a code.
    fn of(steps: f32, uniform: Uniform) -> Self;
}

impl Written for f32 {
    #[inline(always)]
    fn of(steps: f32, uniform: Uniform) -> Self {
        // Steps of -0 are none.
        (steps + 0.0) * uniform.scale
    }
}

macro_rules! codes {
    ($($type:ident),+) => {$(
        impl Written for $type {
            #[inline(always)]
            fn of(steps: f32, uniform: Uniform) -> Self {
                integer(steps + uniform.zero) as $type
            }
        }
    )+};
}

codes!(i8, u8, i16, u16, i32);

/// An integer of up to 22 bits. A sum with 1.5 * 2^23 has it in its low bits; the conversion of the language saturates, which takes three times as long.
#[inline(always)]
pub(super) fn integer(number: f32) -> i32 {
    const SHIFT: f32 = 1.5 * (1 << 23) as f32;
    (number + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits()) as i32
}

/// Rounds the products of elements and the reciprocal, in a loop for each rounding, and stores each beside what `$out` goes over. Evaluates to whether one is NaN, or
/// too near to where the code changes: the results are of no use then.
macro_rules! for_each_rounded {
    ($x:expr, $uniform:expr, $out:expr, $store:expr) => {{
        let Uniform { reciprocal, margin, .. } = $uniform;
        // As wide as an element, so that it takes a lane of the same vector.
        let mut doubtful = 0u32;
        // Of a product, and of its nearest integer. A product that is NaN stays, and is doubtful: no comparison holds.
        macro_rules! by {
            ($round:expr) => {
                for (out, &x) in $out.zip($x) {
                    let round: fn(f32, f32) -> f32 = $round;
                    let product = at_most(at_least(x * reciprocal, -FAR as f32), FAR as f32);
                    let nearest = product.round_ties_even();
                    let is_clear = 0.5 - (product - nearest).abs() >= product.abs() * margin;
                    doubtful |= u32::from(!is_clear);
                    $store(out, round(product, nearest));
                }
            };
        }
        match $uniform.rounding {
            Rounding::HalfEven => by!(|_, nearest| nearest),
            Rounding::HalfUp => by!(|product, nearest| nearest + if product - nearest == 0.5 { 1.0 } else { 0.0 }),
            Rounding::HalfAway => by!(|product, nearest| {
                let toward_zero = (product - nearest).abs() == 0.5 && nearest.abs() < product.abs();
                nearest + if toward_zero { product.signum() } else { 0.0 }
            }),
            Rounding::Down => by!(|product, _| product.floor()),
            // Not near enough to the quotient.
            Rounding::Stochastic => doubtful = 1,
        }
        doubtful != 0
    }};
}

vectorised! {
    /// Writes what the elements become. Returns whether they are of no use.
    pub(super) fn write<T: Written>(x: &[f32], uniform: Uniform, y: &mut [T]) -> bool {
        let Uniform { least, greatest, .. } = uniform;
        for_each_rounded!(x, uniform, y.iter_mut(), |y: &mut T, rounded: f32| {
            *y = T::of(at_most(at_least(rounded, least), greatest), uniform);
        })
    }

    /// Writes the upstream gradients where the rounded quotients lie between limits, and 0 elsewhere. Returns whether they are of no use.
    pub(super) fn pass<T: Element>(x: &[f32], g: &[T], uniform: Uniform, gx: &mut [T]) -> bool {
        let [least, greatest] = uniform.passing;
        for_each_rounded!(x, uniform, gx.iter_mut().zip(g), |(gx, &g): (&mut T, &T), rounded: f32| {
            *gx = if (rounded >= least) & (rounded <= greatest) { g } else { T::ZERO };
        })
    }
}

/// The greater of two; NaN stays. Unlike `f32::max` it is one instruction.
#[inline(always)]
fn at_least(value: f32, least: f32) -> f32 {
    if least > value { least } else { value }
}

/// The lesser of two; NaN stays.
#[inline(always)]
fn at_most(value: f32, greatest: f32) -> f32 {
    if greatest < value { greatest } else { value }
}
