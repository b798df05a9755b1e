//! Conversions of elements, block by block: each is a loop of one type, since a single loop would be compiled for every
//! pair of types.

use super::simd::vectorised;
use crate::Element;
use crate::element::convert::{Overflow, from_f32, to_f32};

/// Elements that are widened to f32, processed and rounded in turn, few enough to stay in a core's L1 cache.
pub(super) const BLOCK: usize = 2048;

vectorised! {
    /// Converts elements to f32. An f64 is rounded: to odd if `odd`, so that rounding it again is rounding once.
    pub(super) fn widen<T: Element>(from: &[T], odd: bool, to: &mut [f32]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = to_f32(from, odd);
        }
    }

    /// Converts numbers to the nearest elements.
    pub(super) fn narrow<T: Element>(from: &[f32], overflow: Overflow, to: &mut [T]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = from_f32(from, overflow);
        }
    }
}
