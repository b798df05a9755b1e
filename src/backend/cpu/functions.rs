//! Operations that are functions of one element and its broadcast inputs, without a faster loop of their own.

use bytemuck::{Pod, cast_slice, cast_slice_mut};

use super::activation;
use super::map::{Block, Function, for_each_block};
use super::operands::{Operands, Outputs, Sums};
use crate::element::convert::{Overflow, from_f32, to_f32};
use crate::element::lane::{Lane, with_lane};
use crate::element::{Real, with_short_float};
use crate::op::{MAX_BROADCAST, MAX_OUTPUTS};
use crate::{Element, ElementType, Op};

/// x, g, and the first three broadcast inputs of an element. Inputs that the operation does not have are x.
type Inputs<T> = [T; 5];

/// Runs the operation, if it is one of these.
pub(super) fn run(operands: &Operands<'_>, outputs: Outputs<'_>, sums: &Sums) -> bool {
    let element = operands.element;
    let function: &Function<'_> = match operands.op {
        Op::HardShrink => &|block, outputs| selection(element, block, outputs, &HardShrink),
        Op::HardShrinkBackward => &|block, outputs| selection(element, block, outputs, &HardShrinkBackward),
        Op::LeakyClip => &|block, outputs| real(element, block, outputs, &LeakyClip),
        Op::LeakyClipBackward => &|block, outputs| real(element, block, outputs, &LeakyClipBackward),
        _ => return activation::run(operands, outputs, sums),
    };
    for_each_block(operands, outputs, sums, function);
    true
}

/// Applies a function to each element of a block.
fn each<T: Pod>(block: &Block<'_>, outputs: Outputs<'_>, function: impl Fn(Inputs<T>) -> [T; MAX_OUTPUTS]) {
    let x: &[T] = cast_slice(block.x);
    let [g, lo, hi, third] = [block.g, block.broadcast[0], block.broadcast[1], block.broadcast[2]]
        .map(|bytes| if bytes.is_empty() { x } else { cast_slice(bytes) });
    let mut outputs = outputs.map(|output| output.map(cast_slice_mut));
    for i in 0..x.len() {
        let results = function([x[i], g[i], lo[i], hi[i], third[i]]);
        for (output, result) in outputs.iter_mut().zip(results) {
            if let Some(output) = output {
                output[i] = result;
            }
        }
    }
}

/// A function that selects the bits of an operand.
trait Selection: Sync {
    fn apply<L: Lane>(&self, inputs: Inputs<L>, format: L::Format) -> [L; MAX_OUTPUTS];
}

fn selection(element: ElementType, block: &Block<'_>, outputs: Outputs<'_>, function: &impl Selection) {
    with_lane!(element, L => select_each::<L>(element, block, outputs, function));
}

fn select_each<L: Lane>(
    element: ElementType,
    block: &Block<'_>,
    outputs: Outputs<'_>,
    function: &impl Selection,
) {
    let format = L::format(element.layout());
    each::<L>(block, outputs, |inputs| function.apply(inputs, format));
}

struct HardShrink;

impl Selection for HardShrink {
    fn apply<L: Lane>(&self, [x, _, lo, hi, _]: Inputs<L>, format: L::Format) -> [L; MAX_OUTPUTS] {
        let y = match [x, lo, hi].into_iter().find(|operand| operand.is_nan(format)) {
            Some(nan) => nan,
            None if x.less(lo, format) | hi.less(x, format) => x,
            None => L::ZERO,
        };
        [y, L::ZERO, L::ZERO, L::ZERO]
    }
}

struct HardShrinkBackward;

impl Selection for HardShrinkBackward {
    fn apply<L: Lane>(&self, [x, g, lo, hi, _]: Inputs<L>, format: L::Format) -> [L; MAX_OUTPUTS] {
        let of_bounds = lo.is_nan(format) | hi.is_nan(format);
        let passes = x.is_nan(format) | (x.less(lo, format) | hi.less(x, format)) & !of_bounds;
        [if passes { g } else { L::ZERO }, L::ZERO, L::ZERO, L::ZERO]
    }
}

/// A function that is computed in f32, or in f64 for f64. `wide` converts an element to that type, `narrow` a number to the nearest
/// element.
trait RealFunction: Sync {
    fn apply<T: Element, R: Real>(
        &self,
        inputs: Inputs<T>,
        present: [bool; MAX_BROADCAST],
        wide: impl Fn(T) -> R,
        narrow: impl Fn(R) -> T,
    ) -> [T; MAX_OUTPUTS];
}

fn real(element: ElementType, block: &Block<'_>, outputs: Outputs<'_>, function: &impl RealFunction) {
    let present = block.present;
    match element {
        ElementType::F64 => {
            each::<f64>(block, outputs, |inputs| function.apply(inputs, present, |x| x, |y| y))
        }
        ElementType::F32 => {
            each::<f32>(block, outputs, |inputs| function.apply(inputs, present, |x| x, |y| y))
        }
        _ => {
            with_short_float!(element, T => each::<T>(block, outputs, |inputs| {
                let narrow = |y: f32| from_f32(y, Overflow::Infinity);
                function.apply(inputs, present, |x: T| to_f32(x, false), narrow)
            }));
        }
    }
}

/// A computed NaN has no payload, since machines differ.
fn canonical<R: Real>(value: R) -> R {
    if value.is_nan() { R::from_bits(R::TYPE.layout().quiet_nan()) } else { value }
}

fn add<R: Real>(a: R, b: R) -> R {
    canonical(a + b)
}

fn sub<R: Real>(a: R, b: R) -> R {
    canonical(a + b * R::nearest(-1.0))
}

fn mul<R: Real>(a: R, b: R) -> R {
    canonical(a * b)
}

/// How far x lies below lo, and the result of the lower bound above hi.
struct Beyond<R> {
    lo: Option<R>,
    hi: Option<R>,
    y: R,
}

impl<R: Real> Beyond<R> {
    /// In a type without infinities, an absent bound is a number as well.
    fn new([x, lo, hi, slope]: [R; 4], [has_lo, has_hi]: [bool; 2]) -> Self {
        let below = (has_lo & (x < lo)).then(|| sub(x, lo));
        let raised = below.map_or(x, |by| add(mul(slope, by), lo));
        let above = (has_hi & (raised > hi)).then(|| sub(raised, hi));
        Self { lo: below, hi: above, y: above.map_or(raised, |by| add(mul(slope, by), hi)) }
    }
}

struct LeakyClip;

impl RealFunction for LeakyClip {
    fn apply<T: Element, R: Real>(
        &self,
        [x, _, lo, hi, slope]: Inputs<T>,
        [has_lo, has_hi, ..]: [bool; MAX_BROADCAST],
        wide: impl Fn(T) -> R,
        narrow: impl Fn(R) -> T,
    ) -> [T; MAX_OUTPUTS] {
        let y = match [x, lo, hi].into_iter().find(|operand| Element::is_nan(*operand)) {
            Some(nan) => nan,
            None => match Beyond::new([x, lo, hi, slope].map(wide), [has_lo, has_hi]) {
                Beyond { lo: None, hi: None, .. } => x,
                Beyond { y, .. } => narrow(y),
            },
        };
        [y, T::ZERO, T::ZERO, T::ZERO]
    }
}

struct LeakyClipBackward;

impl RealFunction for LeakyClipBackward {
    fn apply<T: Element, R: Real>(
        &self,
        [x, g, lo, hi, slope]: Inputs<T>,
        [has_lo, has_hi, ..]: [bool; MAX_BROADCAST],
        wide: impl Fn(T) -> R,
        narrow: impl Fn(R) -> T,
    ) -> [T; MAX_OUTPUTS] {
        let none = T::ZERO;
        match [x, lo, hi].map(Element::is_nan) {
            [true, _, _] => return [g, none, none, none],
            [_, true, _] => return [none, g, none, none],
            [_, _, true] => return [none, none, g, none],
            _ => {}
        }
        let (of_y, slope) = (wide(g), wide(slope));
        let beyond = Beyond::new([wide(x), wide(lo), wide(hi), slope], [has_lo, has_hi]);
        let rest = sub(R::nearest(1.0), slope);
        let of_raised = if beyond.hi.is_some() { mul(of_y, slope) } else { of_y };
        let gx = match (&beyond.lo, &beyond.hi) {
            (None, None) => g,
            (None, Some(_)) => narrow(of_raised),
            (Some(_), _) => narrow(mul(of_raised, slope)),
        };
        let glo = if beyond.lo.is_some() { narrow(mul(of_raised, rest)) } else { none };
        let ghi = if beyond.hi.is_some() { narrow(mul(of_y, rest)) } else { none };
        let of_hi = beyond.hi.map(|by| mul(of_y, by));
        let of_lo = beyond.lo.map(|by| mul(of_raised, by));
        let gslope = match (of_lo, of_hi) {
            (Some(a), Some(b)) => narrow(add(b, a)),
            (Some(of_one), None) | (None, Some(of_one)) => narrow(of_one),
            (None, None) => none,
        };
        [gx, glo, ghi, gslope]
    }
}
