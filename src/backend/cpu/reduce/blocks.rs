//! A block of elements into an exact sum.
//!
//! Of a block whose terms are below 2^m, each term is cut without an error at multiples of 2^(m - 46): to add and take off an
//! anchor of 1.5 * 2^(m + 6) rounds it there, and what is left is exact too. 128 of these parts have a sum of at most 2^53
//! multiples, which an f64 holds exactly; it is kept in lanes of so many addends, and goes to the sum as an integer. What is
//! left is cut again, 47 bits lower. Where something is left then, the block takes the slow road, bit for bit.

use super::super::simd::vectorised;
use crate::element::convert;
use crate::exact::{ExactSum, ReduceOp};
use crate::{Element, ElementType};

/// Elements of a block.
pub(super) const BLOCK: usize = LANES * ADDENDS;

/// Addends of a lane, at the most.
pub(super) const ADDENDS: usize = 128;

const LANES: usize = 16;

/// Bits of an f64 less those of a lane's addends.
const KEPT_BITS: i32 = 46;

/// A float whose squares, or itself, are exact as f64.
pub(super) trait Lane: Copy + Default + Send + Sync {
    fn wide(self) -> f64;
    /// The greatest of the magnitudes.
    fn greatest(elements: &[Self]) -> u64;
    /// A finite magnitude as an f64.
    fn value(magnitude: u64) -> f64;
    /// The least power of two above all finite numbers of a magnitude, and `None` if it is not finite.
    fn power_above(magnitude: u64) -> Option<i32>;
}

impl Lane for f32 {
    #[inline(always)]
    fn wide(self) -> f64 {
        self.into()
    }

    fn greatest(elements: &[Self]) -> u64 {
        greatest_f32(elements).into()
    }

    fn value(magnitude: u64) -> f64 {
        f32::from_bits(magnitude as u32).into()
    }

    fn power_above(magnitude: u64) -> Option<i32> {
        let exponent = (magnitude >> 23) as i32;
        (exponent < 255).then_some(exponent.max(1) - 126)
    }
}

impl Lane for f64 {
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }

    fn greatest(elements: &[Self]) -> u64 {
        greatest_f64(elements)
    }

    fn value(magnitude: u64) -> f64 {
        f64::from_bits(magnitude)
    }

    fn power_above(magnitude: u64) -> Option<i32> {
        let exponent = (magnitude >> 52) as i32;
        // Where the anchors are f64.
        (123..2023).contains(&exponent).then_some(exponent - 1022)
    }
}

/// What is added of an element.
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

/// Where the terms of a block are cut, `N` times.
#[derive(Clone, Copy)]
pub(super) struct Cuts<const N: usize> {
    pub anchors: [f64; N],
    /// The multiples that the parts are of, as powers of two.
    pub exponents: [i32; N],
}

impl<const N: usize> Cuts<N> {
    /// For terms below `2^power` that are multiples of `2^unit`.
    pub(super) fn new(power: i32, unit: i32) -> Self {
        // What is cut at the unit leaves nothing.
        let power = power.max(unit + KEPT_BITS + (N as i32 - 1) * (KEPT_BITS + 1));
        let exponents = std::array::from_fn(|n| power - KEPT_BITS - n as i32 * (KEPT_BITS + 1));
        Self { anchors: exponents.map(|exponent| 1.5 * power_of_two(exponent + 52)), exponents }
    }

    /// The multiple that a sum of parts is.
    #[inline(always)]
    pub(super) fn multiple(&self, n: usize, sum: f64) -> i64 {
        (sum * power_of_two(-self.exponents[n])) as i64
    }
}

fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

vectorised! {
    fn greatest_f32(elements: &[f32]) -> u32 {
        elements.iter().fold(0, |most, element| most.max(element.to_bits() & (u32::MAX >> 1)))
    }

    fn greatest_f64(elements: &[f64]) -> u64 {
        elements.iter().fold(0, |most, element| most.max(element.to_bits() & (u64::MAX >> 1)))
    }

    /// The sums of the parts of each lane, and whether nothing is left.
    fn cut<V: Lane, F: Term, const N: usize>(_: F, elements: &[V], anchors: [f64; N]) -> ([[f64; LANES]; N], bool) {
        let mut sums = [[0.0; LANES]; N];
        let mut left = [0; LANES];
        let (chunks, rest) = elements.as_chunks::<LANES>();
        let mut last = [V::default(); LANES];
        last[..rest.len()].copy_from_slice(rest);
        for chunk in chunks.iter().chain([&last]) {
            for lane in 0..LANES {
                let mut term = F::of(chunk[lane].wide());
                for n in 0..N {
                    let part = (term + anchors[n]) - anchors[n];
                    sums[n][lane] += part;
                    term -= part;
                }
                left[lane] |= term.to_bits();
            }
        }
        // But for the sign of a zero.
        (sums, left.iter().fold(0, |all, left| all | left << 1) == 0)
    }

    pub(super) fn widen<T: Element>(elements: &[T], wide: &mut [f32]) {
        for (wide, element) in wide.iter_mut().zip(elements) {
            *wide = convert::to_f32(*element, false);
        }
    }
}

/// Takes elements into a sum.
pub(crate) fn accumulate<T: Element>(sum: &mut ExactSum, elements: &[T]) {
    let mut wide = [0.0; BLOCK];
    for block in elements.chunks(BLOCK) {
        let done = match T::TYPE {
            ElementType::F32 => whole(sum, bytemuck::cast_slice::<T, f32>(block), 32),
            ElementType::F64 => whole(sum, bytemuck::cast_slice::<T, f64>(block), 64),
            _ => {
                let wide = &mut wide[..block.len()];
                widen(block, wide);
                whole(sum, wide, T::TYPE.layout().bits)
            }
        };
        if !done {
            slowly(sum, block);
        }
    }
}

/// Takes in a block, of elements that had `bits` bits, unless that is not exact.
fn whole<V: Lane>(sum: &mut ExactSum, block: &[V], bits: u32) -> bool {
    // Of short blocks the parts cost more.
    if block.len() < 16 && sum.op() != ReduceOp::MaxAbs {
        return false;
    }
    let greatest = V::greatest(block);
    let Some(power) = V::power_above(greatest) else { return false };
    match sum.op() {
        ReduceOp::MaxAbs => {
            sum.max(V::value(greatest).to_bits());
            true
        }
        ReduceOp::Sum => {
            cut_into::<V, _, 1>(sum, Value, block, power) || cut_into::<V, _, 2>(sum, Value, block, power)
        }
        ReduceOp::SumAbs => {
            cut_into::<V, _, 1>(sum, Magnitude, block, power)
                || cut_into::<V, _, 2>(sum, Magnitude, block, power)
        }
        // The square of an f64 is none.
        ReduceOp::SumSquares if bits == 64 => false,
        ReduceOp::SumSquares => {
            bits <= 16 && cut_into::<V, _, 1>(sum, Square, block, 2 * power)
                || cut_into::<V, _, 2>(sum, Square, block, 2 * power)
        }
    }
}

fn cut_into<V: Lane, F: Term, const N: usize>(sum: &mut ExactSum, term: F, block: &[V], power: i32) -> bool {
    let cuts = Cuts::<N>::new(power, sum.format().unit);
    let (parts, exact) = cut(term, block, cuts.anchors);
    if exact {
        for (n, lanes) in parts.iter().enumerate() {
            let multiple = lanes.iter().map(|&lane| cuts.multiple(n, lane)).sum();
            sum.add_signed(multiple, cuts.exponents[n]);
        }
    }
    exact
}

/// Element by element: those of a type of up to 32 bits by exponents first.
pub(super) fn slowly<T: Element>(sum: &mut ExactSum, block: &[T]) {
    let layout = T::TYPE.layout();
    let op = sum.op();
    let finite = |element: &T| Element::to_bits(*element) & (layout.sign() - 1) <= layout.max_finite();
    for element in block.iter().filter(|element| !finite(element)) {
        let negative = op == ReduceOp::Sum && Element::to_bits(*element) & layout.sign() != 0;
        match element.is_nan() {
            true => sum.special.nan = true,
            false => sum.special.infinite[usize::from(negative)] = true,
        }
    }
    let finite = block.iter().filter(|element| finite(element));
    if op == ReduceOp::MaxAbs {
        finite.for_each(|element| sum.max(element.to_f64().abs().to_bits()));
        return;
    }
    let term = |element: &T| {
        let bits = Element::to_bits(*element);
        let (significand, exponent) = layout.decompose(bits);
        let negative = op == ReduceOp::Sum && bits & layout.sign() != 0;
        match op {
            ReduceOp::SumSquares => (false, u128::from(significand) * u128::from(significand), 2 * exponent),
            _ => (negative, significand.into(), exponent),
        }
    };
    if layout.bits > 32 || block.len() < 256 {
        for (negative, magnitude, exponent) in finite.map(term) {
            sum.add(negative, magnitude, exponent);
        }
        return;
    }
    // Squares have 48 bits, so that a block of them is within an i64.
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
