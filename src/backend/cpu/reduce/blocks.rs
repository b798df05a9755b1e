//! Adds a block of elements to an exact sum.
//!
//! If the terms of a block are below 2^m, a sum of 128 multiples of 2^(m - 46) is at most 2^53 of these multiples, which an f64
//! holds exactly. It is kept in lanes of that many addends, and added to the exact sum as an integer. Terms with lower bits are
//! split there without an error: adding and subtracting an anchor of 1.5 * 2^(m + 6) rounds them, and the remainder is exact as
//! well, below 2^(m - 47), and summed in its own lanes. The exponents of the greatest and the smallest element determine how
//! many splits that takes. If it would be more than two, the block takes the slow path, on its bits.

use bytemuck::cast_slice;

use super::super::convert::widen;
use super::super::simd::vectorised;
use crate::ElementType;
use crate::element::lane::with_bits;
use crate::element::{BitLayout, with_short_float};
use crate::norm::exact::{ExactSum, ReduceOp};

/// Elements of a block.
pub(in crate::backend::cpu) const BLOCK: usize = LANES * ADDENDS;

/// Maximum addends of a lane.
pub(super) const ADDENDS: usize = 128;

const LANES: usize = 16;

/// Bits of an f64 minus those for a lane's addends.
const KEPT_BITS: i32 = 46;

/// A float that is exact as an f64, or whose square is.
pub(super) trait Wide: Copy + Default + Send + Sync {
    fn wide(self) -> f64;
    /// The greatest magnitude, and the smallest except for zeros, as bits.
    fn ends(elements: &[Self]) -> (u64, u64);
    /// A finite magnitude as an f64.
    fn value(magnitude: u64) -> f64;
    /// The smallest power of two above all numbers with a magnitude's exponent; `None` if it is not finite, or cannot be
    /// split.
    fn power_above(magnitude: u64) -> Option<i32>;
}

impl Wide for f32 {
    #[inline(always)]
    fn wide(self) -> f64 {
        self.into()
    }

    #[inline]
    fn ends(elements: &[Self]) -> (u64, u64) {
        let (greatest, least) = ends_f32(elements);
        (greatest.into(), least.into())
    }

    #[inline]
    fn value(magnitude: u64) -> f64 {
        f32::from_bits(magnitude as u32).into()
    }

    #[inline]
    fn power_above(magnitude: u64) -> Option<i32> {
        let exponent = (magnitude >> 23) as i32;
        (exponent < 255).then_some(exponent.max(1) - 126)
    }
}

impl Wide for f64 {
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }

    #[inline]
    fn ends(elements: &[Self]) -> (u64, u64) {
        ends_f64(elements)
    }

    #[inline]
    fn value(magnitude: u64) -> f64 {
        f64::from_bits(magnitude)
    }

    #[inline]
    fn power_above(magnitude: u64) -> Option<i32> {
        let exponent = (magnitude >> 52) as i32;
        // The range in which anchors and multiples are f64.
        (203..2023).contains(&exponent).then_some(exponent - 1022)
    }
}

/// The term that an element adds.
pub(super) trait Term: Copy {
    fn of(value: f64) -> f64;
}

#[derive(Clone, Copy)]
pub(super) struct Value;
#[derive(Clone, Copy)]
pub(super) struct Magnitude;
#[derive(Clone, Copy)]
pub(super) struct Square;

impl Term for Value {
    #[inline(always)]
    fn of(value: f64) -> f64 {
        value
    }
}

impl Term for Magnitude {
    #[inline(always)]
    fn of(value: f64) -> f64 {
        value.abs()
    }
}

impl Term for Square {
    #[inline(always)]
    fn of(value: f64) -> f64 {
        value * value
    }
}

/// Where the terms of a block are split into `N` parts.
#[derive(Clone, Copy)]
pub(super) struct Cuts<const N: usize> {
    /// For all parts except the last, which is the remainder.
    pub anchors: [f64; N],
    /// The powers of two that the parts are multiples of.
    exponents: [i32; N],
}

impl<const N: usize> Cuts<N> {
    /// For terms below `2^power`.
    #[inline]
    pub(super) fn new(power: i32) -> Self {
        let (mut anchors, mut exponents) = ([0.0; N], [0; N]);
        for n in 0..N {
            exponents[n] = power - KEPT_BITS - n as i32 * (KEPT_BITS + 1);
            anchors[n] = 1.5 * power_of_two(exponents[n] + 52);
        }
        Self { anchors, exponents }
    }

    /// Adds the sums of each part.
    #[inline(always)]
    pub(super) fn add<'a>(&self, sum: &mut ExactSum, parts: impl Fn(usize) -> &'a [f64]) {
        let unit = sum.format().unit;
        for (n, &exponent) in self.exponents.iter().enumerate() {
            let scale = power_of_two(-exponent);
            let multiple: i64 = parts(n).iter().map(|part| (part * scale) as i64).sum();
            // Multiples of a power below the unit are also multiples of the unit.
            match unit - exponent {
                ..=0 => sum.add_signed(multiple, exponent),
                below => sum.add_signed(multiple >> below.min(63), unit),
            }
        }
    }
}

/// How many parts terms with these ends are split into: more than are supported if they cannot be.
#[inline]
pub(super) fn parts_of(ends: Ends) -> usize {
    let below = (ends.power - ends.lowest - KEPT_BITS).max(0) as usize;
    1 + below.div_ceil(KEPT_BITS as usize + 1)
}

/// The powers of two between which the bits of a block's terms lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    /// Above all of them.
    pub power: i32,
    /// The lowest bit of the smallest one.
    pub lowest: i32,
}

impl Ends {
    /// For elements of a layout, or for their squares; `None` if they cannot be split.
    #[inline]
    pub(super) fn of<V: Wide>(
        (greatest, least): (u64, u64),
        layout: BitLayout,
        squares: bool,
    ) -> Option<Self> {
        let power = V::power_above(greatest)?;
        let fraction = layout.fraction_bits() as i32;
        let lowest = (V::power_above(least)? - 1 - fraction).max(layout.min_exponent() - fraction);
        let times = if squares { 2 } else { 1 };
        Some(Self { power: times * power, lowest: times * lowest })
    }
}

#[inline]
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

vectorised! {
    fn ends_f32(elements: &[f32]) -> (u32, u32) {
        let (mut greatest, mut least) = (0, u32::MAX);
        for element in elements {
            let magnitude = element.to_bits() & (u32::MAX >> 1);
            greatest = greatest.max(magnitude);
            // A zero wraps around beyond all others.
            least = least.min(magnitude.wrapping_sub(1));
        }
        (greatest, if least == u32::MAX { greatest } else { least + 1 })
    }

    fn ends_f64(elements: &[f64]) -> (u64, u64) {
        let (mut greatest, mut least) = (0, u64::MAX);
        for element in elements {
            let magnitude = element.to_bits() & (u64::MAX >> 1);
            greatest = greatest.max(magnitude);
            least = least.min(magnitude.wrapping_sub(1));
        }
        (greatest, if least == u64::MAX { greatest } else { least + 1 })
    }

    /// The sums of the parts of each lane.
    fn cut<V: Wide, F: Term, const N: usize>(_: F, elements: &[V], anchors: [f64; N]) -> [[f64; LANES]; N] {
        let mut sums = [[0.0; LANES]; N];
        let (chunks, rest) = elements.as_chunks::<LANES>();
        let mut last = [V::default(); LANES];
        last[..rest.len()].copy_from_slice(rest);
        for chunk in chunks.iter().chain([&last]) {
            // Lane by lane in each step, which vectorises.
            let mut terms = [0.0; LANES];
            for (term, element) in terms.iter_mut().zip(chunk) {
                *term = F::of(element.wide());
            }
            for n in 0..N - 1 {
                for lane in 0..LANES {
                    let part = (terms[lane] + anchors[n]) - anchors[n];
                    sums[n][lane] += part;
                    terms[lane] -= part;
                }
            }
            for lane in 0..LANES {
                sums[N - 1][lane] += terms[lane];
            }
        }
        sums
    }
}

/// Adds elements of a float type to a sum.
pub(in crate::backend::cpu) fn accumulate(sum: &mut ExactSum, element: ElementType, elements: &[u8]) {
    let layout = element.layout();
    match element {
        ElementType::F32 => each_block(sum, element, elements, &mut |sum, block| {
            whole(sum, cast_slice::<u8, f32>(block), layout)
        }),
        ElementType::F64 => each_block(sum, element, elements, &mut |sum, block| {
            whole(sum, cast_slice::<u8, f64>(block), layout)
        }),
        _ => {
            let mut wide = [0.0; BLOCK];
            each_block(sum, element, elements, &mut |sum, block| {
                let wide = &mut wide[..block.len() / element.size()];
                widen_short(element, block, wide);
                whole(sum, wide, layout)
            });
        }
    }
}

/// Adds block by block, with `slowly` where `whole` cannot.
fn each_block(
    sum: &mut ExactSum,
    element: ElementType,
    elements: &[u8],
    whole: &mut dyn FnMut(&mut ExactSum, &[u8]) -> bool,
) {
    for block in elements.chunks(BLOCK * element.size()) {
        if !whole(sum, block) {
            slowly(sum, element, block);
        }
    }
}

/// Converts elements of a short float type to f32.
pub(super) fn widen_short(element: ElementType, elements: &[u8], wide: &mut [f32]) {
    with_short_float!(element, T => widen::<T>(cast_slice(elements), false, wide));
}

/// Adds a block, of elements that had a layout, unless that is not exact.
#[inline]
fn whole<V: Wide>(sum: &mut ExactSum, block: &[V], layout: BitLayout) -> bool {
    let op = sum.op();
    // An f64 cannot hold the square of an f64. Splitting short blocks costs more than it saves.
    if op == ReduceOp::SumSquares && layout.bits == 64 || op != ReduceOp::MaxAbs && block.len() < LANES {
        return false;
    }
    let ends = V::ends(block);
    if op == ReduceOp::MaxAbs {
        let finite = V::value(ends.0).is_finite();
        if finite {
            sum.max(V::value(ends.0).to_bits());
        }
        return finite;
    }
    let Some(ends) = Ends::of::<V>(ends, layout, op == ReduceOp::SumSquares) else { return false };
    match op {
        ReduceOp::SumAbs => cut_into(sum, Magnitude, block, ends),
        ReduceOp::SumSquares => cut_into(sum, Square, block, ends),
        _ => cut_into(sum, Value, block, ends),
    }
}

#[inline]
pub(super) fn cut_into<V: Wide, F: Term>(sum: &mut ExactSum, term: F, block: &[V], ends: Ends) -> bool {
    match parts_of(ends) {
        1 => cut_parts::<V, F, 1>(sum, term, block, ends),
        2 => cut_parts::<V, F, 2>(sum, term, block, ends),
        3 => cut_parts::<V, F, 3>(sum, term, block, ends),
        _ => return false,
    }
    true
}

#[inline]
fn cut_parts<V: Wide, F: Term, const N: usize>(sum: &mut ExactSum, term: F, block: &[V], ends: Ends) {
    let cuts = Cuts::<N>::new(ends.power);
    let parts = cut(term, block, cuts.anchors);
    cuts.add(sum, |n| &parts[n]);
}

/// Adds element by element, or grouped by exponent first.
pub(super) fn slowly(sum: &mut ExactSum, element: ElementType, block: &[u8]) {
    match element {
        // A constant layout makes the difference for squares of f64, all of which come here.
        ElementType::F64 => {
            slowly_with(sum, const { ElementType::F64.layout() }, cast_slice::<u8, u64>(block))
        }
        _ => with_bits!(element, B => slowly_with(sum, element.layout(), cast_slice::<u8, B>(block))),
    }
}

/// Does the same for elements of a layout.
fn slowly_with<B: Copy + Into<u64>>(sum: &mut ExactSum, layout: BitLayout, block: &[B]) {
    let all = block.iter().map(|&bits| -> u64 { bits.into() });
    let op = sum.op();
    let magnitude = |bits: u64| bits & (layout.sign() - 1);
    let negative = |bits: u64| op == ReduceOp::Sum && bits & layout.sign() != 0;
    for bits in all.clone().filter(|&bits| magnitude(bits) > layout.max_finite()) {
        match magnitude(bits) > layout.max_number() {
            true => sum.special.nan = true,
            false => sum.special.infinite[usize::from(negative(bits))] = true,
        }
    }
    let finite = all.clone().filter(|&bits| magnitude(bits) <= layout.max_finite());
    if op == ReduceOp::MaxAbs {
        let value = |bits: u64| match layout.bits {
            64 => f64::from_bits(bits),
            32 => f32::from_bits(bits as u32).into(),
            _ => layout.widen(bits as u32).into(),
        };
        finite.for_each(|bits| sum.max(value(magnitude(bits)).to_bits()));
        return;
    }
    let term = |bits: u64| {
        let (significand, exponent) = layout.decompose(bits);
        match op {
            ReduceOp::SumSquares => (false, u128::from(significand) * u128::from(significand), 2 * exponent),
            _ => (negative(bits), significand.into(), exponent),
        }
    };
    if layout.bits > 32 || block.len() < 256 {
        let is_long = op == ReduceOp::SumSquares && block.len() >= 64;
        if is_long && squares_by_exponent(sum, layout, all) {
            return;
        }
        for (negative, magnitude, exponent) in finite.map(term) {
            sum.add(negative, magnitude, exponent);
        }
        return;
    }
    // Squares have 48 bits, so a block of them fits into an i64.
    let unit = layout.min_exponent() - layout.fraction_bits() as i32;
    let step = if op == ReduceOp::SumSquares { 2 } else { 1 };
    let mut by_exponent = [0i64; 256];
    for (negative, magnitude, exponent) in finite.map(term) {
        let magnitude = magnitude as i64;
        by_exponent[((exponent - step * unit) / step) as usize & 255] +=
            if negative { -magnitude } else { magnitude };
    }
    for (n, &total) in by_exponent.iter().enumerate().filter(|&(_, &total)| total != 0) {
        sum.add_signed(total, step * (n as i32 + unit));
    }
}

/// Adds the squares of the finite elements, grouped by exponent: twice as fast as one at a time. Returns false, and adds nothing, if
/// the exponents are too far apart.
fn squares_by_exponent(
    sum: &mut ExactSum,
    layout: BitLayout,
    all: impl Iterator<Item = u64> + Clone,
) -> bool {
    // A square has at most 106 bits, and the sum of a block 117.
    let mut by_exponent = [0u128; 64];
    let (fraction, magnitude) = (layout.fraction_bits(), |bits: u64| bits & (layout.sign() - 1));
    let (mut least, mut greatest) = (u64::MAX, 0);
    for bits in all.clone() {
        // Zeros add nothing.
        let field = (magnitude(bits) >> fraction).max(1);
        least = least.min(if magnitude(bits) == 0 { u64::MAX } else { field });
        greatest = greatest.max(if magnitude(bits) > layout.max_finite() { 0 } else { field });
    }
    if greatest.saturating_sub(least) >= by_exponent.len() as u64 {
        return false;
    }
    let unit = layout.min_exponent() - fraction as i32;
    for bits in all.filter(|&bits| magnitude(bits).wrapping_sub(1) < layout.max_finite()) {
        let (significand, exponent) = layout.decompose(bits);
        let bin = (exponent - unit) as u64 + 1 - least;
        by_exponent[bin as usize & 63] += u128::from(significand) * u128::from(significand);
    }
    for (bin, &total) in by_exponent.iter().enumerate().filter(|&(_, &total)| total != 0) {
        sum.add(false, total, 2 * (bin as i32 + least as i32 - 1 + unit));
    }
    true
}
