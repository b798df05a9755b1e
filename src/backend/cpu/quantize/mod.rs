//! Quantisation: the twin of `shaders/quantize.wgsl`. The codes of a block come first, as steps from the zero point; values and gradients
//! follow from them.

mod code;
mod convert;
mod pack;
mod stochastic;
mod uniform;

use bytemuck::{cast_slice, cast_slice_mut};

use code::{FAR, Parts, Rule, divide};

use crate::backend::cpu::convert::{narrow, widen};
use crate::backend::cpu::map::{BLOCK, Block, for_each_block};
use crate::backend::cpu::operands::{Operands, Outputs, Sums};
use crate::backend::cpu::simd::vectorised;
use crate::element::convert::{Overflow, round_to_odd};
use crate::element::{Real, with_short_float};
use crate::quantize::{NanCode, Quotient, Rounding};
use crate::{Element, ElementType, NanRule, Op};

/// Runs fake quantisation, or its gradients.
pub(super) fn run(operands: &Operands<'_>, outputs: Outputs<'_>, sums: &Sums) {
    let rule = Rule::new(operands.quant);
    for_each_block(operands, outputs, sums, &|block, outputs| fake(operands, block, rule, outputs));
}

/// Converts to codes, from them, or between one and two a byte.
pub(super) fn convert(operands: &Operands<'_>, y: &mut [u8]) {
    let rule = Rule::new(operands.quant);
    let convert: fn(&Operands<'_>, &Block<'_>, Rule, &mut [u8]) = match operands.op {
        Op::Quantize => convert::quantize,
        Op::Dequantize => convert::dequantize,
        Op::Pack4 => |_, block, _, y| pack::pack4(cast_slice(block.x), y),
        _ => |operands, block, _, y| pack::unpack4(block.x, operands.quant.min < 0, cast_slice_mut(y)),
    };
    for_each_block(operands, [Some(y), None, None, None], &Sums::default(), &|block, [y, ..]| {
        if let Some(y) = y {
            convert(operands, block, rule, y);
        }
    });
}

/// The outputs of a block.
fn fake(operands: &Operands<'_>, block: &Block<'_>, rule: Rule, outputs: Outputs<'_>) {
    // An input that the operation does not have is x.
    let g = if block.g.is_empty() { block.x } else { block.g };
    let inputs = [block.x, g, block.broadcast[0], block.broadcast[1]];
    let start = block.start as u64;
    let mut outputs = outputs;
    if operands.op == Op::FakeQuantize
        && let Some(y) = &mut outputs[0]
        && uniform::fake(operands.element, block, rule, y)
    {
        return;
    }
    if let (Op::FakeQuantizeBackward, [Some(gx), None, None, _]) = (operands.op, &mut outputs)
        && uniform::pass_gradient(operands.element, block, rule, gx)
    {
        return;
    }
    match operands.element {
        ElementType::F64 => {
            let of_block = inputs.map(cast_slice::<u8, f64>);
            write((operands.op, start), of_block, of_block, rule, outputs);
        }
        ElementType::F32 => {
            let of_block = inputs.map(cast_slice::<u8, f32>);
            write((operands.op, start), of_block, of_block, rule, outputs);
        }
        element => {
            with_short_float!(element, T => {
                let of_block = inputs.map(cast_slice::<u8, T>);
                let mut wide = [[0.0; BLOCK]; 4];
                for (wide, of_block) in wide.iter_mut().zip(of_block) {
                    widen(of_block, false, &mut wide[..of_block.len()]);
                }
                let wide = wide.each_ref().map(|wide| &wide[..of_block[0].len()]);
                write((operands.op, start), of_block, wide, rule, outputs);
            });
        }
    }
}

/// Whether the products of steps and scales are exact in f32, or are rounded to that alone: they have the bits of the steps, and at most 11 of an f16 or 8 of others.
fn is_exact_in_f32(element: ElementType, rule: Rule) -> bool {
    element != ElementType::F16 || rule.max - rule.min < f64::from(1 << 13)
}

/// Whether the elements of a block need more than the loop of most blocks.
#[derive(Clone, Copy, Default)]
struct Met {
    /// Whether a quotient, rounded to f32, is a half.
    half: bool,
    /// Whether an operand is NaN.
    nan: bool,
}

vectorised! {
    /// The codes of a block, by halves to even. The quotient is rounded to f32, which makes no difference to an exact one but where that
    /// is a half then: rounding is monotone.
    fn codes(x: &[f32], scale: &[f32], zero_point: &[f32], rule: Rule<f32>, steps: &mut [f32], passes: &mut [bool]) -> Met {
        let (mut half, mut nan) = (false, false);
        // A loop for each way to divide.
        macro_rules! by {
            ($divide:expr) => {{
                let inputs = x.iter().zip(scale).zip(zero_point);
                for ((steps, passes), ((&x, &scale), &zero_point)) in steps.iter_mut().zip(passes).zip(inputs) {
                    let divide: fn(f32, f32) -> f32 = $divide;
                    let quotient = Rule::<f32>::defined(divide(x, scale), x, scale);
                    let rounded = quotient.round_ties_even();
                    half |= (quotient - rounded).abs() == 0.5;
                    nan |= x.is_nan() | scale.is_nan() | zero_point.is_nan();
                    (*steps, *passes) = rule.code(x.is_nan(), quotient, rounded, rule.zero(zero_point));
                }
            }};
        }
        match rule.quant.quotient {
            Quotient::Exact | Quotient::Division => by!(|x, scale| x / scale),
            Quotient::Reciprocal => by!(|x, scale| x * (1.0 / scale)),
        }
        Met { half, nan }
    }

    /// The same with exact quotients, in f64.
    fn exact_codes(x: &[f32], scale: &[f32], zero_point: &[f32], rule: Rule, steps: &mut [f32], passes: &mut [bool]) {
        let inputs = x.iter().zip(scale).zip(zero_point);
        for ((steps, passes), ((&x, &scale), &zero_point)) in steps.iter_mut().zip(passes).zip(inputs) {
            let quotient = divide(x, scale, Quotient::Exact);
            let zero = rule.zero(zero_point.into());
            let code = rule.code(x.is_nan(), quotient, quotient.round_ties_even(), zero);
            (*steps, *passes) = (code.0 as f32, code.1);
        }
    }

    /// Steps times scales, where the products are rounded to f32 alone, or are exact in it.
    fn values(steps: &[f32], scale: &[f32], y: &mut [f32]) {
        for (y, (&steps, &scale)) in y.iter_mut().zip(steps.iter().zip(scale)) {
            let value = steps * scale;
            *y = if value.is_nan() { f32::NAN } else { value };
        }
    }

    /// The same where they are rounded again: to odd.
    fn values_to_odd(steps: &[f32], scale: &[f32], y: &mut [f32]) {
        for (y, (&steps, &scale)) in y.iter_mut().zip(steps.iter().zip(scale)) {
            let value = f64::from(steps) * f64::from(scale);
            *y = if value.is_nan() { f32::NAN } else { round_to_odd(value) };
        }
    }

    /// Adds the codes of zero points.
    fn add_zeros(zero_point: &[f32], rule: Rule<f32>, codes: &mut [f32]) {
        for (code, &zero_point) in codes.iter_mut().zip(zero_point) {
            *code += rule.zero(zero_point);
        }
    }

    /// Elements in place of results where these are NaN.
    fn keep_nan<T: Element>(of: &[T], y: &mut [T]) {
        for (y, &of) in y.iter_mut().zip(of) {
            *y = if Element::is_nan(of) { of } else { *y };
        }
    }

    /// Upstream gradients where they pass.
    fn passed<T: Element>(g: &[T], passes: &[bool], gx: &mut [T]) {
        for (gx, (&g, &passes)) in gx.iter_mut().zip(g.iter().zip(passes)) {
            *gx = if passes { g } else { T::ZERO };
        }
    }

    /// The gradients of scales.
    fn scale_gradients(wide: [&[f32]; 3], steps: &[f32], passes: &[bool], gradients: &mut [f32]) {
        let [x, g, scale] = wide;
        let inputs = x.iter().zip(g).zip(scale).zip(steps).zip(passes);
        for (gradient, ((((&x, &g), &scale), &steps), &passes)) in gradients.iter_mut().zip(inputs) {
            *gradient = scale_gradient(x, g, scale, steps, passes);
        }
    }

    /// The gradients of zero points.
    fn zero_gradients(g: &[f32], scale: &[f32], passes: &[bool], gradients: &mut [f32]) {
        let inputs = g.iter().zip(scale).zip(passes);
        for (gradient, ((&g, &scale), &passes)) in gradients.iter_mut().zip(inputs) {
            *gradient = if passes { 0.0 } else { canonical(g * -scale) };
        }
    }
}

/// A computed NaN has no payload, since machines differ.
#[inline(always)]
fn canonical<R: Real>(value: R) -> R {
    if Element::is_nan(value) { R::from_bits(R::TYPE.layout().quiet_nan()) } else { value }
}

#[inline(always)]
fn scale_gradient<R: Real>(x: R, g: R, scale: R, steps: R, passes: bool) -> R {
    let less = canonical(steps + x / scale * R::nearest(-1.0));
    canonical(g * if passes { less } else { steps })
}

/// How much the real quotient is above one that was rounded: its sign, since the number itself may be too small.
#[inline]
fn error_of(quotient: f64, x: f64, scale: f64) -> f64 {
    (-quotient).mul_add(scale, x) * scale.signum()
}

/// The type in which elements are computed.
trait Wide: Real {
    /// The steps from the zero points to the codes of a block, and whether their gradients pass; `start` is the index of its first element in x.
    /// Returns whether an operand may be NaN.
    fn codes(operands: [&[Self]; 3], rule: Rule, start: u64, steps: &mut [f32], passes: &mut [bool]) -> bool;

    /// Adds the codes of the zero points.
    fn add_zeros(zero_point: &[Self], rule: Rule, codes: &mut [f32]);

    /// Steps times scales, the gradients of the scales and of the zero points: as elements.
    fn values<T: Element>(steps: &[f32], scale: &[Self], rule: Rule, y: &mut [T]);
    fn scale_gradients<T: Element>(wide: [&[Self]; 3], steps: &[f32], passes: &[bool], to: &mut [T]);
    fn zero_gradients<T: Element>(g: &[Self], scale: &[Self], passes: &[bool], to: &mut [T]);
}

/// Computes in f32, and rounds to elements.
fn through_f32<T: Element>(to: &mut [T], compute: impl FnOnce(&mut [f32])) {
    if T::TYPE == ElementType::F32 {
        return compute(cast_slice_mut(to));
    }
    let mut wide = [0.0; BLOCK];
    let wide = &mut wide[..to.len()];
    compute(wide);
    narrow(wide, Overflow::Infinity, to);
}

impl Wide for f32 {
    fn codes(
        [x, scale, zero]: [&[f32]; 3],
        rule: Rule,
        start: u64,
        steps: &mut [f32],
        passes: &mut [bool],
    ) -> bool {
        if rule.quant.rounding == Rounding::HalfEven {
            let Met { half, nan } = codes(x, scale, zero, rule.narrow(), steps, passes);
            if rule.quant.quotient == Quotient::Exact && (half || rule.unrounded) {
                exact_codes(x, scale, zero, rule, steps, passes);
            }
            return nan;
        }
        for i in 0..x.len() {
            let quotient = divide(x[i], scale[i], rule.quant.quotient);
            let zero = rule.zero(zero[i].into());
            let rounded = match rule.quant.rounding {
                Rounding::Stochastic => {
                    let random = stochastic::philox(rule.quant.seed, start + i as u64);
                    let exact = rule.quant.quotient == Quotient::Exact;
                    let error = if exact { error_of(quotient, x[i].into(), scale[i].into()) } else { 0.0 };
                    stochastic::rounded(quotient, error, random)
                }
                rounding => Parts::new(quotient, 0.0).rounded(rounding),
            };
            let code = rule.code(x[i].is_nan(), quotient, rounded, zero);
            (steps[i], passes[i]) = (code.0 as f32, code.1);
        }
        true
    }

    fn add_zeros(zero_point: &[f32], rule: Rule, codes: &mut [f32]) {
        add_zeros(zero_point, rule.narrow(), codes);
    }

    fn values<T: Element>(steps: &[f32], scale: &[f32], rule: Rule, y: &mut [T]) {
        let is_exact = is_exact_in_f32(T::TYPE, rule);
        through_f32(y, |y| if is_exact { values(steps, scale, y) } else { values_to_odd(steps, scale, y) });
    }

    fn scale_gradients<T: Element>(wide: [&[f32]; 3], steps: &[f32], passes: &[bool], to: &mut [T]) {
        through_f32(to, |to| scale_gradients(wide, steps, passes, to));
    }

    fn zero_gradients<T: Element>(g: &[f32], scale: &[f32], passes: &[bool], to: &mut [T]) {
        through_f32(to, |to| zero_gradients(g, scale, passes, to));
    }
}

impl Wide for f64 {
    fn codes(
        [x, scale, zero]: [&[f64]; 3],
        rule: Rule,
        start: u64,
        steps: &mut [f32],
        passes: &mut [bool],
    ) -> bool {
        for i in 0..x.len() {
            let (mut x, mut scale, zero) = (x[i], scale[i], rule.zero(zero[i]));
            let exact = rule.quant.quotient == Quotient::Exact;
            // So that no remainder is too small for an f64.
            if exact && scale.abs() < 2f64.powi(-960) {
                (x, scale) = (x * 2f64.powi(100), scale * 2f64.powi(100));
            }
            let quotient = match rule.quant.quotient {
                Quotient::Reciprocal => x * (1.0 / scale),
                Quotient::Exact | Quotient::Division => x / scale,
            };
            let quotient = Rule::<f64>::defined(quotient, x, scale);
            let is_random = rule.quant.rounding == Rounding::Stochastic;
            let at_edge = is_random || (quotient * 2.0).fract() == 0.0 && quotient.abs() <= FAR;
            let error = if exact && at_edge { error_of(quotient, x, scale) } else { 0.0 };
            let parts = Parts::new(quotient, error);
            let rounded = match rule.quant.rounding {
                Rounding::Stochastic => stochastic::rounded(
                    quotient,
                    error,
                    stochastic::philox(rule.quant.seed, start + i as u64),
                ),
                rounding => parts.rounded(rounding),
            };
            let code = rule.code(x.is_nan(), parts.value(), rounded, zero);
            (steps[i], passes[i]) = (code.0 as f32, code.1);
        }
        true
    }

    fn add_zeros(zero_point: &[f64], rule: Rule, codes: &mut [f32]) {
        for (code, &zero_point) in codes.iter_mut().zip(zero_point) {
            *code += rule.zero(zero_point) as f32;
        }
    }

    fn values<T: Element>(steps: &[f32], scale: &[f64], _: Rule, y: &mut [T]) {
        for ((y, &steps), &scale) in y.iter_mut().zip(steps).zip(scale) {
            *y = T::from_bits(canonical(f64::from(steps) * scale).to_bits());
        }
    }

    fn scale_gradients<T: Element>([x, g, scale]: [&[f64]; 3], steps: &[f32], passes: &[bool], to: &mut [T]) {
        for (i, to) in to.iter_mut().enumerate() {
            let gradient = scale_gradient(x[i], g[i], scale[i], steps[i].into(), passes[i]);
            *to = T::from_bits(gradient.to_bits());
        }
    }

    fn zero_gradients<T: Element>(g: &[f64], scale: &[f64], passes: &[bool], to: &mut [T]) {
        for (i, to) in to.iter_mut().enumerate() {
            let gradient = if passes[i] { 0.0 } else { canonical(g[i] * -scale[i]) };
            *to = T::from_bits(gradient.to_bits());
        }
    }
}

/// Writes the outputs of a block: of elements x, g, scale and zero point, and of the same in the type in which they are computed.
fn write<T: Element, R: Wide>(
    (op, start): (Op, u64),
    [x, g, scale, zero]: [&[T]; 4],
    [wide_x, wide_g, wide_scale, wide_zero]: [&[R]; 4],
    rule: Rule,
    outputs: Outputs<'_>,
) {
    let (mut steps, mut passes) = ([0.0; BLOCK], [false; BLOCK]);
    let (steps, passes) = (&mut steps[..x.len()], &mut passes[..x.len()]);
    let any_nan = R::codes([wide_x, wide_scale, wide_zero], rule, start, steps, passes);
    let stays = rule.quant.nan == NanCode::Nan;
    let [first, second, third, _] = outputs.map(|output| output.map(cast_slice_mut::<u8, T>));
    if op == Op::FakeQuantize {
        if let Some(y) = first {
            R::values(steps, wide_scale, rule, y);
            // The first NaN is the result.
            for of in
                [Some(zero), Some(scale), Some(x).filter(|_| stays)].into_iter().flatten().filter(|_| any_nan)
            {
                keep_nan(of, y);
            }
        }
        return;
    }
    // Whose NaN is the result: of x, of the scale, of the zero point.
    let from = |i: usize| {
        let from_x = stays & Element::is_nan(x[i]);
        let from_scale = Element::is_nan(scale[i]) & !from_x;
        (from_x, from_scale, Element::is_nan(zero[i]) & !from_x & !from_scale)
    };
    let mend = |gradients: &mut [T], of: &dyn Fn(usize, T) -> T| {
        if any_nan {
            gradients.iter_mut().enumerate().for_each(|(i, gradient)| *gradient = of(i, *gradient));
        }
    };
    if let Some(gx) = first {
        passed(g, passes, gx);
        let nan_passes = rule.quant.nan_gradient == NanRule::Pass;
        mend(gx, &|i, gradient| match from(i) {
            (_, true, _) | (_, _, true) => T::ZERO,
            _ if Element::is_nan(x[i]) => {
                if nan_passes {
                    g[i]
                } else {
                    T::ZERO
                }
            }
            _ => gradient,
        });
    }
    if let Some(gscale) = second {
        R::scale_gradients([wide_x, wide_g, wide_scale], steps, passes, gscale);
        mend(gscale, &|i, gradient| match from(i) {
            (true, _, _) | (_, _, true) => T::ZERO,
            (_, true, _) => g[i],
            _ => gradient,
        });
    }
    if let Some(gzero) = third {
        R::zero_gradients(wide_g, wide_scale, passes, gzero);
        mend(gzero, &|i, gradient| match from(i) {
            (true, _, _) | (_, true, _) => T::ZERO,
            (_, _, true) => g[i],
            _ => gradient,
        });
    }
}
