//! Exact sums of elements, of their magnitudes, squares or products, as integers that are rounded once, at the end: a Kulisch
//! accumulator or superaccumulator. The twin of `shaders/lib/exact.wgsl`.
//!
//! A finite float is an integer times a power of two, its unit. For floats of up to 32 bits the unit is 2^-149 and the
//! magnitude is below 2^277 units; for their products it is 2^-298, and below 2^554 units. A sum of 2^64 of them has 64
//! bits more: 341 or 618, and a sign, in 384 or 640 bits. For f64 the unit is 2^-1074 (here 2^-1109, so that the two units
//! are a whole number of limbs apart) and a sum has 1,109 + 1,024 + 64 = 2,197 bits, in 2,240; for its products 2^-2154 and
//! 2,154 + 2,048 + 64 = 4,266, in 4,288. So nothing is lost and nothing overflows: the order of additions makes no
//! difference.

use crate::element::BitLayout;
use crate::{Element, ElementType, Error, Result, with_element};

/// What many elements are reduced to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ReduceOp {
    /// The sum.
    Sum,
    /// The sum of the magnitudes: the 1-norm.
    SumAbs,
    /// The sum of the squares, whose root is the 2-norm.
    SumSquares,
    /// The greatest magnitude: the max-norm.
    MaxAbs,
    /// The sum of the products with the elements of another operand: the dot product.
    SumProducts,
}

impl ReduceOp {
    #[cfg(feature = "gpu")]
    pub(crate) const ALL: [Self; 5] =
        [Self::Sum, Self::SumAbs, Self::SumSquares, Self::MaxAbs, Self::SumProducts];
}

/// The memory format of a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SumFormat {
    /// Bit 0 is worth two to this power.
    pub unit: i32,
    /// Limbs of 64 bits.
    pub limbs: usize,
}

impl SumFormat {
    /// The format for elements of `bits` bits. The greatest magnitude is kept as the bits of an f64.
    pub(crate) const fn of(bits: u32, op: ReduceOp) -> Self {
        match (bits == 64, matches!(op, ReduceOp::SumSquares | ReduceOp::SumProducts)) {
            _ if matches!(op, ReduceOp::MaxAbs) => Self { unit: 0, limbs: 1 },
            (false, false) => Self { unit: -149, limbs: 6 },
            (false, true) => Self { unit: -298, limbs: 10 },
            (true, false) => Self { unit: -149 - 64 * 15, limbs: 35 },
            (true, true) => Self { unit: -298 - 64 * 29, limbs: 67 },
        }
    }
}

/// A sum of real numbers, or the greatest of their magnitudes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExactSum {
    op: ReduceOp,
    bits: u32,
    format: SumFormat,
    /// Two's complement, the low limb first.
    limbs: Vec<u64>,
    pub special: Special,
}

/// The non-finite elements seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Special {
    pub nan: bool,
    /// Infinities, the positive and the negative.
    pub infinite: [bool; 2],
}

impl Special {
    /// From the bits that the shaders keep.
    #[cfg(feature = "gpu")]
    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self { nan: bits & 1 != 0, infinite: [bits & 2 != 0, bits & 4 != 0] }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.nan |= other.nan;
        self.infinite[0] |= other.infinite[0];
        self.infinite[1] |= other.infinite[1];
    }
}

/// A positive number: a significand with its leading bit at 63, whose last bit is sticky (set if any lower bit is), and
/// the exponent of the leading bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Leading {
    significand: u64,
    exponent: i32,
}

impl ExactSum {
    pub(crate) fn new(bits: u32, op: ReduceOp) -> Self {
        let format = SumFormat::of(bits, op);
        Self {
            op,
            bits: if bits == 64 { 64 } else { 32 },
            format,
            limbs: vec![0; format.limbs],
            special: Special::default(),
        }
    }

    #[inline]
    pub(crate) fn format(&self) -> SumFormat {
        self.format
    }

    /// Bits of the widest elements that it accepts.
    #[inline]
    pub(crate) fn bits(&self) -> u32 {
        self.bits
    }

    #[inline]
    pub(crate) fn op(&self) -> ReduceOp {
        self.op
    }

    /// Adds or subtracts `magnitude * 2^exponent`. The exponent must not be below the unit, and the number must fit.
    #[inline]
    pub(crate) fn add(&mut self, negative: bool, magnitude: u128, exponent: i32) {
        let position = (exponent - self.format.unit) as usize;
        let (limb, shift) = (position / 64, position as u32 % 64);
        let (low, high) = (magnitude as u64, (magnitude >> 64) as u64);
        let words = match shift {
            0 => [low, high, 0],
            _ => [low << shift, low >> (64 - shift) | high << shift, high >> (64 - shift)],
        };
        match negative {
            false => carry(&mut self.limbs[limb..], words, u64::overflowing_add),
            true => carry(&mut self.limbs[limb..], words, u64::overflowing_sub),
        }
    }

    /// Adds a signed integer times `2^exponent`.
    #[inline]
    pub(crate) fn add_signed(&mut self, value: i64, exponent: i32) {
        self.add(value < 0, value.unsigned_abs().into(), exponent);
    }

    /// Keeps the greater of two magnitudes, given as the bits of an f64.
    #[inline]
    pub(crate) fn max(&mut self, bits: u64) {
        self.limbs[0] = self.limbs[0].max(bits);
    }

    /// Merges another of the same operation, of elements that are not wider.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.special.merge(other.special);
        if self.op == ReduceOp::MaxAbs {
            return self.max(other.limbs[0]);
        }
        let skipped = (other.format.unit - self.format.unit) as usize / 64;
        let sign = if other.is_negative() { u64::MAX } else { 0 };
        let theirs = std::iter::repeat_n(0, skipped).chain(other.limbs.iter().copied());
        let theirs = theirs.chain(std::iter::repeat(sign)).take(self.limbs.len());
        let mut carry = false;
        for (limb, other) in self.limbs.iter_mut().zip(theirs) {
            let (sum, over) = limb.overflowing_add(other);
            let (sum, again) = sum.overflowing_add(carry.into());
            (*limb, carry) = (sum, over | again);
        }
    }

    fn is_negative(&self) -> bool {
        self.limbs[self.limbs.len() - 1] >> 63 == 1
    }

    /// The bits of the result as an element of `to`: the sum or the norm (for squares, their root), rounded to nearest
    /// once, ties to even. A NaN, or infinities of both signs, give the positive quiet NaN, an exact zero +0.
    pub(crate) fn round(&self, to: ElementType) -> u64 {
        self.round_scaled(to, 0)
    }

    /// Does the same for the sum times two to the power of `scale`.
    pub(crate) fn round_scaled(&self, to: ElementType, scale: i32) -> u64 {
        let layout = to.layout();
        match self.special {
            Special { nan: true, .. } | Special { infinite: [true, true], .. } => return layout.quiet_nan(),
            Special { infinite: [true, _], .. } => return layout.max_finite() + 1,
            Special { infinite: [_, true], .. } => return layout.sign() | (layout.max_finite() + 1),
            _ => {}
        }
        if self.op == ReduceOp::MaxAbs {
            let greatest = f64::from_bits(self.limbs[0]);
            return with_element!(to, T => Element::to_bits(<T as Element>::from_f64(greatest)));
        }
        let negative = self.is_negative();
        let magnitude = if negative { negated(&self.limbs) } else { self.limbs.clone() };
        let Some(leading) = leading(&magnitude, self.format.unit) else { return 0 };
        let rooted = if self.op == ReduceOp::SumSquares { root(&magnitude, leading) } else { leading };
        Leading { exponent: rooted.exponent + scale, ..rooted }.round(layout)
            | if negative { layout.sign() } else { 0 }
    }

    /// The limbs as 32-bit words, low word first; the last has the sign. For a greatest magnitude it is the only word, which
    /// is not negative.
    pub(crate) fn to_words(&self) -> Vec<i64> {
        if self.op == ReduceOp::MaxAbs {
            return vec![self.limbs[0] as i64];
        }
        let words = self.limbs.iter().flat_map(|limb| [*limb as u32, (limb >> 32) as u32]);
        let mut words: Vec<_> = words.map(i64::from).collect();
        if let Some(last) = words.last_mut() {
            *last = i64::from(*last as i32);
        }
        words
    }

    /// Sets the limbs from 32-bit words, which may have carries in their upper halves.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] if their number is not that of [`to_words`](Self::to_words).
    pub(crate) fn set_words(&mut self, words: &[i64]) -> Result<()> {
        let expected = if self.op == ReduceOp::MaxAbs { 1 } else { 2 * self.limbs.len() };
        if words.len() != expected {
            return Err(Error::LengthMismatch { shape: vec![expected], expected, actual: words.len() });
        }
        if self.op == ReduceOp::MaxAbs {
            self.limbs[0] = words[0] as u64;
            return Ok(());
        }
        let mut carry = 0i128;
        for (limb, pair) in self.limbs.iter_mut().zip(words.chunks(2)) {
            let value = i128::from(pair[0]) + (i128::from(pair[1]) << 32) + carry;
            *limb = value as u64;
            carry = value >> 64;
        }
        Ok(())
    }
}

/// Adds or subtracts words at the low end, and propagates the carry.
#[inline]
fn carry(limbs: &mut [u64], words: [u64; 3], apply: impl Fn(u64, u64) -> (u64, bool)) {
    let mut carried = false;
    for (n, limb) in limbs.iter_mut().enumerate() {
        if n >= 3 && !carried {
            return;
        }
        let (value, over) = apply(*limb, *words.get(n).unwrap_or(&0));
        let (value, again) = apply(value, carried.into());
        (*limb, carried) = (value, over | again);
    }
}

fn negated(limbs: &[u64]) -> Vec<u64> {
    let mut carry = true;
    let negate = |limb: &u64| {
        let (value, over) = (!limb).overflowing_add(carry.into());
        carry = over;
        value
    };
    limbs.iter().map(negate).collect()
}

/// The 128 bits from the leading one of a positive number on, whether a bit below them is set, and the exponent of the
/// leading bit.
fn top(limbs: &[u64], unit: i32) -> Option<(u128, bool, i32)> {
    let at = limbs.iter().rposition(|&limb| limb != 0)?;
    let limb = |back: usize| at.checked_sub(back).map_or(0, |n| limbs[n]);
    let shift = limbs[at].leading_zeros();
    let high = u128::from(limb(0)) << 64 | u128::from(limb(1));
    // The third limb fills the bits that the shift frees.
    let bits = high << shift | u128::from(limb(2)).checked_shr(64 - shift).unwrap_or(0);
    let below = limb(2).checked_shl(shift).unwrap_or(0) != 0;
    let sticky = below || limbs[..at.saturating_sub(2)].iter().any(|&limb| limb != 0);
    Some((bits, sticky, 64 * at as i32 + 63 - shift as i32 + unit))
}

fn leading(limbs: &[u64], unit: i32) -> Option<Leading> {
    let (bits, sticky, exponent) = top(limbs, unit)?;
    let sticky = sticky || bits as u64 != 0;
    Some(Leading { significand: (bits >> 64) as u64 | u64::from(sticky), exponent })
}

/// The square root of a positive number.
fn root(limbs: &[u64], leading: Leading) -> Leading {
    let Some((bits, sticky, exponent)) = top(limbs, 0) else { return leading };
    // An even power of two times a number of 127 or 128 bits.
    let unit = leading.exponent - exponent;
    let exponent = exponent - 127 + unit;
    let odd = exponent.rem_euclid(2);
    let lost = odd == 1 && bits & 1 == 1;
    // For an odd exponent the number is halved: 127 bits, whose root has 64 as well.
    let (bits, exponent) = (bits >> odd, exponent + odd);
    let root = bits.isqrt();
    let inexact = root * root != bits || lost || sticky;
    Leading { significand: root as u64 | u64::from(inexact), exponent: exponent / 2 + 63 }
}

impl Leading {
    /// The magnitude of the nearest float, ties to even. A number beyond the greatest finite one becomes infinity, or NaN
    /// in a type without infinity.
    fn round(self, layout: BitLayout) -> u64 {
        let fraction = layout.fraction_bits();
        let least = layout.min_exponent();
        // A subnormal number has fewer bits.
        let dropped = 63 - fraction + (least - self.exponent).clamp(0, 64) as u32;
        let all = u128::from(self.significand);
        let kept = (all >> dropped) as u64;
        let rest = all - (u128::from(kept) << dropped);
        let middle = 1u128 << (dropped - 1);
        let up = rest > middle || rest == middle && kept & 1 == 1;
        // The leading bit of a normal number adds one to the exponent.
        let exponent = (self.exponent - least).max(0) as u64;
        let rounded = (exponent << fraction) + kept + u64::from(up);
        rounded.min(layout.max_finite() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(op: ReduceOp, terms: &[f64]) -> ExactSum {
        let mut sum = ExactSum::new(64, op);
        for term in terms {
            let (significand, exponent) =
                crate::element::BitLayout::decompose(ElementType::F64.layout(), term.to_bits());
            match op {
                ReduceOp::SumSquares => {
                    sum.add(false, u128::from(significand) * u128::from(significand), 2 * exponent);
                }
                _ => sum.add(*term < 0.0, significand.into(), exponent),
            }
        }
        sum
    }

    #[test]
    fn sums_are_rounded_once() {
        let round = |terms: &[f64]| f64::from_bits(sum(ReduceOp::Sum, terms).round(ElementType::F64));
        assert_eq!(round(&[1e308, 1e308, -1e308]), 1e308, "nothing overflows on the way");
        assert_eq!(round(&[1e308, 1e-320, -1e308]), 1e-320, "nothing is lost");
        assert_eq!(round(&[1.0, 2f64.powi(-53)]), 1.0, "a tie");
        assert_eq!(round(&[1.0, 2f64.powi(-53), 5e-324]), 1.0 + f64::EPSILON, "and more than a tie");
        assert_eq!(round(&[-1.0, -2f64.powi(-53), -5e-324]), -1.0 - f64::EPSILON);
        assert_eq!(round(&[1.0, -1.0]).to_bits(), 0);
        assert_eq!(round(&[f64::MAX, f64::MAX]), f64::INFINITY);
        let f32s = |terms: &[f64]| f32::from_bits(sum(ReduceOp::Sum, terms).round(ElementType::F32) as u32);
        assert_eq!(f32s(&[f64::from(f32::MAX), 1e30]), f32::MAX);
        assert_eq!(f32s(&[1e-46]), 0.0);
        assert_eq!(f32s(&[-1e-45]), -1e-45);
        assert_eq!(sum(ReduceOp::Sum, &[448.0, 16.0]).round(ElementType::F8E4M3Fn), 0x7e, "a tie to even");
        assert_eq!(sum(ReduceOp::Sum, &[448.0, 17.0]).round(ElementType::F8E4M3Fn), 0x7f, "no infinity");
    }

    #[test]
    fn norms_are_rounded_once() {
        let norm = |terms: &[f64]| f64::from_bits(sum(ReduceOp::SumSquares, terms).round(ElementType::F64));
        assert_eq!(norm(&[3e300, 4e300]), 5e300);
        assert_eq!(norm(&[3e-320]), 3e-320, "a subnormal");
        assert_eq!(norm(&[1.0, 1.0]), 2f64.sqrt());
        assert_eq!(norm(&[2.0; 5]), 20f64.sqrt());
    }

    #[test]
    fn words_and_merges_lose_no_carry() {
        let parts = [[1e30, -1.0], [-3e30, 1e-30], [2e30, 7.0]].map(|terms| sum(ReduceOp::Sum, &terms));
        let mut merged = ExactSum::new(64, ReduceOp::Sum);
        parts.iter().for_each(|part| merged.merge(part));
        assert_eq!(merged, sum(ReduceOp::Sum, &[1e30, -1.0, -3e30, 1e-30, 2e30, 7.0]));
        let words = parts.iter().map(ExactSum::to_words);
        let added = words.reduce(|a, b| a.iter().zip(b).map(|(a, b)| a + b).collect()).unwrap();
        let mut all_reduced = ExactSum::new(64, ReduceOp::Sum);
        all_reduced.set_words(&added).unwrap();
        assert_eq!(all_reduced, merged);

        let mut narrow = ExactSum::new(32, ReduceOp::Sum);
        narrow.add(true, 3, -149);
        let mut wide = ExactSum::new(64, ReduceOp::Sum);
        wide.merge(&narrow);
        assert_eq!(f64::from_bits(wide.round(ElementType::F64)), -3.0 * 2f64.powi(-149));
    }
}
