//! The shares of exponentials of the sums of their slices: quotients, rounded once.

use super::exponential::{BLOCK, exponentials, units_of};
use crate::backend::cpu::convert::widen;
use crate::backend::cpu::simd::vectorised;
use crate::element::convert::{Overflow, from_f32, round_to_odd};
use crate::{Element, ElementType};

/// The greatest element and the sum of a slice, as its elements need them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slice {
    /// Its greatest element in units of 2^-32.
    units: f64,
    /// The sum of its exponentials: 32 bits; NaN if it has no softmax.
    sum: f64,
    /// The power of two that goes with them, inverted.
    power: f64,
}

impl Slice {
    pub(super) fn new(greatest: f32, sum: u64) -> Self {
        let digits = if greatest.is_finite() { f64::from(sum as u32) } else { f64::NAN };
        Self {
            units: units_of(greatest),
            sum: digits,
            power: f64::from_bits((1023 + 62 - (sum >> 32).min(96)) << 52),
        }
    }
}

/// The slices of adjacent elements: one for all, or one for each.
pub(super) trait SliceOf: Copy {
    fn at(self, i: usize) -> Slice;
}

impl SliceOf for Slice {
    #[inline(always)]
    fn at(self, _: usize) -> Slice {
        self
    }
}

impl SliceOf for &[Slice] {
    #[inline(always)]
    fn at(self, i: usize) -> Slice {
        self[i]
    }
}

/// The shares of a block's elements of the sums of their slices.
pub(super) fn share<T: Element>(x: &[T], y: &mut [T], slices: impl SliceOf) {
    let (mut wide, mut e) = ([0.0; BLOCK], [0.0; BLOCK]);
    let (wide, e) = (&mut wide[..x.len()], &mut e[..x.len()]);
    widen(x, false, wide);
    exponentials(wide, |i| slices.at(i).units, e);
    divide_all(e, slices, y);
}

pub(super) fn divide_all<T: Element>(exponentials: &[f64], slices: impl SliceOf, y: &mut [T]) {
    if divide(exponentials, slices, y) && T::TYPE == ElementType::F32 {
        mend(exponentials, slices, y);
    }
}

vectorised! {
    /// Quotients of integers of 32 bits, to 53 bits: those are never a tie of a short float without being exact. Whether any may be a tie of f32 there.
    fn divide<T: Element, S: SliceOf>(exponentials: &[f64], slices: S, y: &mut [T]) -> bool {
        let mut any = 0;
        for (i, (y, &e)) in y.iter_mut().zip(exponentials).enumerate() {
            let Slice { sum, power, .. } = slices.at(i);
            let quotient = e / sum * power;
            let near = match T::TYPE {
                ElementType::F32 => T::from_bits((quotient as f32).to_bits().into()),
                _ => from_f32(round_to_odd(quotient), Overflow::Infinity),
            };
            *y = if quotient.is_nan() { T::from_bits(T::TYPE.layout().quiet_nan()) } else { near };
            let subnormal = (quotient < SMALLEST_NORMAL) & (quotient > 0.0);
            any |= u64::from((quotient.to_bits() & BELOW_F32 == TIE_OF_F32) | subnormal);
        }
        any != 0
    }
}

const SMALLEST_NORMAL: f64 = f32::MIN_POSITIVE as f64;

/// The bits of an f64 that an f32 does not have, and what they are in the middle of two f32.
const BELOW_F32: u64 = 0x1fff_ffff;
const TIE_OF_F32: u64 = 0x1000_0000;

/// Rounds quotients anew that in f64 are ties of f32: these have 57 bits that matter, so the remainder says which are ties, and on which side others are.
fn mend<T: Element>(exponentials: &[f64], slices: impl SliceOf, y: &mut [T]) {
    for (i, (y, &e)) in y.iter_mut().zip(exponentials).enumerate() {
        let Slice { sum, power, .. } = slices.at(i);
        let quotient = e / sum;
        let is_tie = match quotient * power {
            small if small < SMALLEST_NORMAL => {
                // In halves of the smallest f32.
                let halves = small * 2f64.powi(150);
                halves == halves.trunc() && halves as u64 % 2 == 1
            }
            normal => normal.to_bits() & BELOW_F32 == TIE_OF_F32,
        };
        if is_tie {
            // Exact: the quotient has 25 bits, and each half of the sum 16.
            let high = f64::from(sum as u32 & 0xffff_0000);
            let rest = (e - quotient * high) - quotient * (sum - high);
            let beside = quotient.to_bits() + u64::from(rest > 0.0) - u64::from(rest < 0.0);
            *y = T::from_bits(((f64::from_bits(beside) * power) as f32).to_bits().into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quotients nearer to a tie of f32 than f64 can show, on both sides of it, and ties: random inputs meet none of them.
    #[test]
    fn ties_are_told_by_their_remainders() {
        let rng = &mut fastrand::Rng::with_seed(3);
        let mut tried = 0;
        while tried < 3000 {
            // With 25 bits the tie of a normal number, with 24 that of a subnormal one.
            let (bits, power) = [(25, 0), (24, -126)][tried % 2];
            let sum = rng.u64(1 << 31..1 << 32) | 1;
            // The inverse of the sum modulo a power of two: their product is one more than a multiple of it.
            let inverse = (0..5)
                .fold(sum, |inverse, _| inverse.wrapping_mul(2u64.wrapping_sub(sum.wrapping_mul(inverse))));
            let modulus = 1u64 << bits;
            let tie = if rng.bool() { inverse % modulus } else { modulus - inverse % modulus };
            if tie < modulus / 2 {
                continue;
            }
            tried += 1;
            // e / sum is just below or just above tie / modulus.
            let e = (u128::from(tie) * u128::from(sum) + 1) >> bits;
            let digits = (e << 52) / u128::from(sum);
            let odd = digits as u64 | u64::from((e << 52) % u128::from(sum) > 0);
            let scale = 2f64.powi(power);
            let expected = (odd as f64 * 2f64.powi(-52) * scale) as f32;
            let slice = Slice { units: 0.0, sum: sum as f64, power: scale };
            let mut y = [0f32];
            divide_all(&[e as f64], slice, &mut y);
            assert_eq!(y[0].to_bits(), expected.to_bits(), "{e} / {sum}");
        }
    }
}
