//! Elements that are hard to sum.

use wgclip::Element;

use super::{float_bits, ordinary, specials};

/// Elements that are hard to sum, of one of several kinds, by `kind`.
pub(crate) fn hard_to_sum<T: Element>(rng: &mut fastrand::Rng, kind: usize, len: usize) -> Vec<T> {
    let layout = T::TYPE.layout();
    let sign = |rng: &mut fastrand::Rng| if rng.bool() { layout.sign() } else { 0 };
    let specials = specials::<T>();
    let mut elements: Vec<T> = match kind % SUM_KINDS {
        0 => (0..len).map(|_| ordinary(rng)).collect(),
        // Random finite bits.
        1 => (0..len).map(|_| T::from_bits(rng.u64(..=layout.max_finite()) | sign(rng))).collect(),
        // The greatest next to the smallest, which are subnormal.
        2 => {
            let ends = [layout.max_finite() - 1, 0, layout.min_normal()];
            (0..len)
                .map(|_| T::from_bits((ends[rng.usize(..3)] + rng.u64(..2)) & layout.mask() | sign(rng)))
                .collect()
        }
        // All subnormal.
        3 => (0..len).map(|_| T::from_bits(rng.u64(..layout.min_normal().max(2)) | sign(rng))).collect(),
        // Everything cancels except for one.
        4 => {
            let mut elements: Vec<T> = Vec::with_capacity(len);
            while elements.len() + 1 < len {
                let bits = rng.u64(..=layout.max_finite());
                elements.extend([bits, bits | layout.sign()].map(T::from_bits));
            }
            elements.truncate(len.saturating_sub(1));
            elements.resize(len, T::from_bits(1));
            elements
        }
        // Each greater than the one before.
        5 => {
            let mut bits: Vec<_> = (0..len).map(|_| rng.u64(..=layout.max_finite())).collect();
            bits.sort_unstable();
            bits.into_iter().map(T::from_bits).collect()
        }
        // The same value repeated, which causes the most carries.
        6 => vec![T::from_bits(layout.max_finite() & (layout.sign() - 1)); len],
        // Mostly zeros.
        7 => (0..len)
            .map(|_| if rng.u8(..) == 0 { T::from_bits(rng.u64(..=layout.max_finite())) } else { T::ZERO })
            .collect(),
        // Special values with infinities of both signs, without NaN, which would hide them.
        8 => {
            let numbers: Vec<T> = specials.iter().copied().filter(|special| !special.is_nan()).collect();
            (0..len).map(|_| numbers[rng.usize(..numbers.len())]).collect()
        }
        // All special values.
        _ => (0..len).map(|_| specials[rng.usize(..specials.len())]).collect(),
    };
    if matches!(kind % SUM_KINDS, 1 | 2 | 4) {
        rng.shuffle(&mut elements);
    }
    elements
}

/// Elements whose sum is just above the midpoint between two numbers, by a tiny amount; or whose squares are, by less than
/// the guard bits of a square root can show.
pub(crate) fn above_middle<T: Element>(len: usize, squares: bool) -> Vec<T> {
    let power = f64::from(T::TYPE.layout().min_normal().trailing_zeros() + 1).exp2();
    let bits = match squares {
        true => [float_bits::<T>(power), float_bits::<T>((2.0 * power + 1.0).sqrt().floor() + 1.0), 0],
        false => [float_bits::<T>(power), float_bits::<T>(1.0), 1],
    };
    bits.into_iter().chain(std::iter::repeat(0)).take(len).map(T::from_bits).collect()
}

/// The number of kinds.
pub(crate) const SUM_KINDS: usize = 10;
