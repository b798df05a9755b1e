//! Sums, norms and dot products as real numbers: plain natural numbers, and one rounding, which searches all floats for the nearest.

use std::cmp::Ordering;

use crate::element::BitLayout;
use crate::{Element, NormKind};

/// Words of a [`Natural`]: for sums of products of f64, in units of the square of the smallest f64, times the greatest power of
/// two that a [dot product](dot) is multiplied by.
const WORDS: usize = (2 * (1024 + 1074) + 64 + 1074) / 64 + 1;

/// A natural number: 64-bit words, low word first. All numbers here fit.
#[derive(Debug, Clone, Copy)]
struct Natural([u64; WORDS]);

impl Natural {
    const ZERO: Self = Self([0; WORDS]);

    /// Adds `value * 2^shift`.
    fn add_shifted(&mut self, value: u128, shift: u32) {
        let (first, bit) = (shift as usize / 64, shift % 64);
        let (low, high) = (value << bit, if bit == 0 { 0 } else { value >> (128 - bit) });
        let mut carry = false;
        for (at, word) in [low as u64, (low >> 64) as u64, high as u64].into_iter().enumerate() {
            carry = self.add_word(first + at, word, carry);
        }
        let mut at = first + 3;
        while carry {
            carry = self.add_word(at, 0, carry);
            at += 1;
        }
    }

    /// Adds to one word, and returns the carry to the next.
    fn add_word(&mut self, at: usize, word: u64, carry: bool) -> bool {
        if word == 0 && !carry {
            return false;
        }
        let (sum, first) = self.0[at].overflowing_add(word);
        let (sum, second) = sum.overflowing_add(u64::from(carry));
        self.0[at] = sum;
        first || second
    }

    fn plus(mut self, other: &Self) -> Self {
        let mut carry = false;
        for (at, &word) in other.0.iter().enumerate() {
            carry = self.add_word(at, word, carry);
        }
        self
    }

    /// Subtracts a number that is not greater.
    fn minus(mut self, other: &Self) -> Self {
        let mut borrow = false;
        for (word, &taken) in self.0.iter_mut().zip(&other.0) {
            let (left, first) = word.overflowing_sub(taken);
            let (left, second) = left.overflowing_sub(u64::from(borrow));
            (*word, borrow) = (left, first || second);
        }
        self
    }

    fn doubled(self) -> Self {
        self.plus(&self)
    }

    fn times_power(&self, shift: u32) -> Self {
        let mut product = Self::ZERO;
        for (n, word) in self.words() {
            product.add_shifted(word.into(), shift + 64 * n as u32);
        }
        product
    }

    fn times(&self, other: &Self) -> Self {
        let mut product = Self::ZERO;
        for (n, a) in self.words() {
            for (m, b) in other.words() {
                product.add_shifted(u128::from(a) * u128::from(b), 64 * (n + m) as u32);
            }
        }
        product
    }

    /// The words from the first to the last nonzero one, each with its index: those of a float are adjacent.
    fn words(&self) -> impl Iterator<Item = (usize, u64)> {
        let first = self.0.iter().position(|&word| word > 0).unwrap_or(WORDS);
        let last = self.0.iter().rposition(|&word| word > 0).map_or(first, |last| last + 1);
        self.0[first..last].iter().enumerate().map(move |(n, &word)| (first + n, word))
    }

    fn compare(&self, other: &Self) -> Ordering {
        for (word, other) in self.0.iter().zip(&other.0).rev() {
            if word != other {
                return word.cmp(other);
            }
        }
        Ordering::Equal
    }

    /// The magnitude of a finite number, in units of the smallest f64.
    fn of(value: f64) -> Self {
        Self::sum(&[value], |_| true)
    }

    /// The sum of some magnitudes, in the same units.
    fn sum(values: &[f64], takes: impl Fn(f64) -> bool) -> Self {
        let mut sum = Self::ZERO;
        for &value in values.iter().filter(|&&value| takes(value)) {
            let (significand, exponent) = parts(value);
            sum.add_shifted(significand, exponent);
        }
        sum
    }

    /// The sum of the magnitudes of some products, in units of the square of the smallest f64.
    fn sum_of_products(values: &[(f64, f64)], takes: impl Fn(f64, f64) -> bool) -> Self {
        let mut sum = Self::ZERO;
        for &(a, b) in values.iter().filter(|&&(a, b)| takes(a, b)) {
            let ((m, exponent), (n, other)) = (parts(a), parts(b));
            sum.add_shifted(m * n, exponent + other);
        }
        sum
    }
}

/// The significand of a finite float, an integer, and the power of two to multiply it by, in units of the smallest f64.
fn parts(value: f64) -> (u128, u32) {
    let bits = value.to_bits();
    let (exponent, fraction) = (bits >> 52 & 0x7ff, bits & ((1 << 52) - 1));
    let implicit = if exponent == 0 { 0 } else { 1 << 52 };
    ((fraction | implicit).into(), exponent.saturating_sub(1) as u32)
}

/// The product of two floats, rounded to odd if an f64 cannot hold it: to the neighbour with the odd significand, so that rounding
/// it to a shorter type rounds only once.
pub(super) fn product_to_odd(a: f64, b: f64) -> f64 {
    let product = a * b;
    if product == 0.0 || !product.is_finite() {
        return product;
    }
    let [(a, a_exponent), (b, b_exponent)] = [a, b].map(parts);
    let exact = a * b;
    let excess = (u128::BITS - exact.leading_zeros()).saturating_sub(53);
    let kept = (exact >> excess) as u64 | u64::from(exact.trailing_zeros() < excess);
    // The smallest f64 is 2^-1074.
    let exponent = (a_exponent + b_exponent + excess) as i32 - 2 * 1074;
    // A product that is subnormal as an f64 is 0 in every shorter type.
    (kept as f64 * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2)).copysign(product)
}

/// Float elements as f64, which holds them all.
fn wide<T: Element>(elements: &[T]) -> Vec<f64> {
    elements.iter().map(|element| element.to_f64()).collect()
}

/// A float type that a result is rounded to, as a value, so that the code below is compiled only once.
#[derive(Clone, Copy)]
struct Float {
    layout: BitLayout,
    /// The number with these bits.
    value: fn(u64) -> f64,
}

impl Float {
    fn of<T: Element>() -> Self {
        Self { layout: T::TYPE.layout(), value: |bits| T::from_bits(bits).to_f64() }
    }

    /// The magnitude nearest to a number, ties to even, as bits. `at_most` says whether a float is at most the number,
    /// `compare` how the number compares with the midpoint of two floats, of which it gets the double.
    fn nearest(self, at_most: impl Fn(Natural) -> bool, compare: impl Fn(Natural) -> Ordering) -> u64 {
        let max_finite = self.layout.max_finite();
        let float = |bits: u64| Natural::of((self.value)(bits));
        // The greatest float that is at most the number.
        let (mut low, mut high) = (0, max_finite + 1);
        while high - low > 1 {
            let between = low + (high - low) / 2;
            match at_most(float(between)) {
                true => low = between,
                false => high = between,
            }
        }
        // The float after the greatest is what it would be if there were more exponents.
        let both = match low == max_finite {
            true => float(low).doubled().plus(&float(low)).minus(&float(low - 1)),
            false => float(low).plus(&float(low + 1)),
        };
        let up = match compare(both) {
            Ordering::Less => false,
            Ordering::Equal => low % 2 == 1,
            Ordering::Greater => true,
        };
        low + u64::from(up)
    }

    /// The float nearest to a number, given by its magnitude.
    fn nearest_to(self, magnitude: Natural, negative: bool) -> u64 {
        let double = magnitude.doubled();
        let bits = self.nearest(|float| float.compare(&magnitude).is_le(), |both| double.compare(&both));
        if negative { bits | self.layout.sign() } else { bits }
    }

    /// The bits of a sum with NaN or infinities among its terms, if there are any.
    fn special(self, terms: impl Iterator<Item = f64>) -> Option<u64> {
        let (mut nan, mut positive, mut negative) = (false, false, false);
        for term in terms {
            nan |= term.is_nan();
            positive |= term == f64::INFINITY;
            negative |= term == f64::NEG_INFINITY;
        }
        let infinity = self.layout.max_finite() + 1;
        match (positive, negative) {
            _ if nan || positive && negative => Some(self.layout.quiet_nan()),
            (true, _) => Some(infinity),
            (_, true) => Some(infinity | self.layout.sign()),
            _ => None,
        }
    }

    fn sum(self, elements: &[f64]) -> u64 {
        if let Some(special) = self.special(elements.iter().copied()) {
            return special;
        }
        let total = |negative: bool| Natural::sum(elements, |element| (element < 0.0) == negative);
        let (up, down) = (total(false), total(true));
        let negative = up.compare(&down).is_lt();
        self.nearest_to(if negative { down.minus(&up) } else { up.minus(&down) }, negative)
    }

    fn norm(self, elements: &[f64], kind: NormKind) -> u64 {
        if let Some(special) = self.special(elements.iter().map(|element| element.abs())) {
            return special;
        }
        match kind {
            NormKind::Max => {
                let most = elements.iter().fold(0f64, |most, element| most.max(element.abs()));
                self.nearest_to(Natural::of(most), false)
            }
            NormKind::L1 => self.nearest_to(Natural::sum(elements, |_| true), false),
            NormKind::L2 => {
                let squares: Vec<_> = elements.iter().map(|&element| (element, element)).collect();
                let sum = Natural::sum_of_products(&squares, |_, _| true);
                let four = sum.doubled().doubled();
                self.nearest(
                    |float| float.times(&float).compare(&sum).is_le(),
                    |both| four.compare(&both.times(&both)),
                )
            }
        }
    }

    fn dot(self, products: &[(f64, f64)], scale: i32) -> u64 {
        // Whether a product is finite does not depend on whether f64 can hold it.
        let is_finite = |&(x, g): &(f64, f64)| x.is_finite() && g.is_finite();
        let terms = products.iter().map(|pair| if is_finite(pair) { 0.0 } else { pair.0 * pair.1 });
        if let Some(special) = self.special(terms) {
            return special;
        }
        let is_negative = |x: f64, g: f64| x.is_sign_negative() != g.is_sign_negative();
        let total = |negative: bool| Natural::sum_of_products(products, |x, g| is_negative(x, g) == negative);
        let (up, down) = (total(false), total(true));
        let negative = up.compare(&down).is_lt();
        let sum = if negative { down.minus(&up) } else { up.minus(&down) };
        if sum.compare(&Natural::ZERO).is_eq() {
            return 0;
        }
        // In units of the smallest f64, like a float; the square of this unit is that of the sum.
        let unit = 1074;
        let (of_sum, of_float) = (scale.max(0) as u32, (unit - scale.min(0)) as u32);
        let sum = sum.times_power(of_sum);
        let double = sum.doubled();
        let bits = self.nearest(
            |float| float.times_power(of_float).compare(&sum).is_le(),
            |both| double.compare(&both.times_power(of_float)),
        );
        if negative { bits | self.layout.sign() } else { bits }
    }
}

/// The sum of elements, for example of the gradients that one element of a broadcast bound receives: the sum of the
/// real numbers, rounded to nearest once, ties to even, in any order.
///
/// | elements | sum |
/// |---|---|
/// | a single one | its own bits |
/// | none | +0 |
/// | floats, including a NaN or infinities of both signs | the positive quiet NaN without payload |
/// | floats, including infinities of one sign | that infinity |
/// | floats whose sum is 0 | +0 |
/// | floats whose sum is beyond the range | infinity, or NaN in a type without one, with its sign |
/// | integers whose sum the type cannot hold | the minimum or maximum of the type |
pub fn sum<T: Element>(elements: &[T]) -> T {
    match elements {
        [] => T::ZERO,
        [alone] => *alone,
        _ if !T::TYPE.is_float() => {
            let integer = |element: &T| integer(*element);
            from_integer(elements.iter().map(integer).sum())
        }
        _ => T::from_bits(Float::of::<T>().sum(&wide(elements))),
    }
}

/// The norm of elements, in f32 (f64 for f64): that of the real numbers, rounded to nearest once, ties to even, in any
/// order. Nothing overflows or underflows before. A NaN gives the positive quiet NaN without payload, otherwise an infinity
/// gives +infinity, and no elements give +0. Floats only: integers have no norm.
pub fn norm<T: Element>(elements: &[T], kind: NormKind) -> T::Norm {
    T::Norm::from_bits(Float::of::<T::Norm>().norm(&wide(elements), kind))
}

/// The dot product of `x` and `g`, times two to the power of `scale`: that of the real numbers, rounded to nearest once, ties
/// to even, in any order, in f32 (f64 for f64). NaN and infinities among the products have the same effect as in a [`sum`],
/// and a product of 0 and infinity is NaN. An exact 0 is +0. Floats only.
pub fn dot<T: Element>(x: &[T], g: &[T], scale: i32) -> T::Norm {
    let products: Vec<_> = x.iter().zip(g).map(|(x, g)| (x.to_f64(), g.to_f64())).collect();
    T::Norm::from_bits(Float::of::<T::Norm>().dot(&products, scale))
}

/// An integer's value.
pub(super) fn integer<T: Element>(element: T) -> i128 {
    let bits = i128::from(element.to_bits());
    let layout = T::TYPE.layout();
    match layout.total_order_min() {
        // Signed: the top bit has negative weight.
        least if least == layout.sign() && bits & i128::from(least) != 0 => bits - 2 * i128::from(least),
        _ => bits,
    }
}

/// The nearest integer of a type.
pub(super) fn from_integer<T: Element>(sum: i128) -> T {
    let layout = T::TYPE.layout();
    let (least, most) =
        (integer(T::from_bits(layout.total_order_min())), integer(T::from_bits(layout.total_order_max())));
    T::from_bits(sum.clamp(least, most) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{f8_e4m3fn, f16};

    #[test]
    fn sums_are_those_of_real_numbers() {
        assert_eq!(sum(&[2e20f32, 3e38, -3e38, 1e-45]), 2e20, "nothing is lost or overflows");
        assert_eq!(sum(&[3e38f32, 1e-45, -3e38]), 1e-45);
        assert_eq!(sum(&[1.0f32, f32::EPSILON / 2.0]), 1.0, "a tie");
        assert_eq!(sum(&[1.0f32, f32::EPSILON / 2.0, 1e-45]), 1.0 + f32::EPSILON);
        assert_eq!(sum(&[-1e38f32, -3e38]), f32::NEG_INFINITY);
        assert_eq!(sum(&[f32::MAX, 2f32.powi(102)]), f32::MAX);
        assert_eq!(sum(&[f32::MAX, 2f32.powi(103)]), f32::INFINITY, "a tie");
        assert_eq!(sum(&[-0.0f32, -0.0]).to_bits(), 0);
        assert_eq!(sum(&[-0.0f32]).to_bits(), 1 << 31);
        assert_eq!(sum::<f16>(&[]).to_bits(), 0);
        assert_eq!(sum(&[f32::INFINITY, -1.0]), f32::INFINITY);
        assert_eq!(sum(&[f32::INFINITY, f32::NEG_INFINITY]).to_bits(), f32::NAN.to_bits());
        assert_eq!(sum(&[f32::from_bits(0xffc0_0001), 1.0]).to_bits(), f32::NAN.to_bits());
        assert_eq!(sum(&[f8_e4m3fn::MAX, f8_e4m3fn::MAX]).to_bits(), f8_e4m3fn::NAN.to_bits());
        assert_eq!(sum(&[f64::MAX, f64::MAX, -f64::MAX, 5e-324]), f64::MAX);
    }

    #[test]
    fn sums_of_integers_are_clipped_to_the_type() {
        assert_eq!(sum(&[100i8, 100, -1]), 127);
        assert_eq!(sum(&[-100i8, -100, 1, 127]), -72);
        assert_eq!(sum(&[u64::MAX, 1]), u64::MAX);
        assert_eq!(sum(&[i64::MIN, -1, 1]), i64::MIN);
        assert_eq!(sum::<u8>(&[]), 0);
    }

    #[test]
    fn dot_products_are_rounded_once() {
        assert_eq!(dot(&[3.0f32, 1e-30], &[2.0, 1e-30], 0), 6.0);
        assert_eq!(dot(&[3e30f32, 1.0, 3e30], &[1e30, 1.0, -1e30], 0), 1.0, "nothing overflows or is lost");
        assert_eq!(
            dot(&[1.5f32, 2f32.powi(-30)], &[1.0 + f32::EPSILON, 1.0], 0),
            1.5 + 2.0 * f32::EPSILON,
            "no tie"
        );
        assert_eq!(
            dot(&[3e30f32], &[4e30], -127),
            (3e30f32 as f64 * 4e30f32 as f64 * 2f64.powi(-127)) as f32
        );
        assert_eq!(dot(&[1e-30f32], &[-1e-30], 100), -((1e-30f32 as f64).powi(2) * 2f64.powi(100)) as f32);
        assert_eq!(dot(&[f16::from_f32(6e4)], &[f16::from_f32(6e4)], 0), 3.6e9);
        assert_eq!(dot(&[5e-324f64], &[5e-324], 1022), 5e-324 * 2f64.powi(-52));
        assert_eq!(dot(&[-0.0f32, 1.0, -1.0], &[1.0; 3], 0).to_bits(), 0);
        assert_eq!(dot(&[f32::INFINITY, 1.0], &[-1.0, f32::MAX], 0), f32::NEG_INFINITY);
        assert!(dot(&[f32::INFINITY, 1.0], &[0.0, 1.0], 0).is_nan());
        assert_eq!(dot::<f32>(&[], &[], 0).to_bits(), 0);
    }

    #[test]
    fn norms_neither_overflow_nor_vanish() {
        assert_eq!(norm(&[f16::from_f32(300.0)], NormKind::L2), 300.0);
        assert_eq!(norm(&[f16::from_f32(6e4); 2], NormKind::L2), (2.0f64 * 6e4 * 6e4).sqrt() as f32);
        assert_eq!(norm(&[1e20f32, -1e20], NormKind::L2), 1.414_213_6e20);
        let small = f64::from(1e-25f32) * 2f64.sqrt();
        assert_eq!(norm(&[1e-25f32, 1e-25], NormKind::L2), small as f32);
        assert_eq!(norm(&[3.0f32, -4.0], NormKind::L2), 5.0);
        assert_eq!(norm(&[3.0f32, -4.0], NormKind::L1), 7.0);
        assert_eq!(norm(&[3.0f32, -4.0], NormKind::Max), 4.0);
        assert_eq!(norm(&[f32::from_bits(1)], NormKind::L2).to_bits(), 1);
        assert_eq!(norm(&[2f64.powi(1022); 2], NormKind::L2), 2f64.powi(1022) * 2f64.sqrt());
        for kind in NormKind::ALL {
            assert_eq!(norm::<f32>(&[], kind).to_bits(), 0);
            assert_eq!(norm(&[f32::NEG_INFINITY, f32::INFINITY], kind), f32::INFINITY);
            assert_eq!(norm(&[f32::INFINITY, -f32::NAN], kind).to_bits(), f32::NAN.to_bits());
        }
    }
}
