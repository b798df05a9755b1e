//! Conversions of elements, block by block: each is a loop of one type, where one loop for all would be compiled for every
//! pair of types.

use super::simd::vectorised;
use crate::Element;
use crate::element::convert::{Overflow, from_f32, to_f32};

/// Elements that are widened to f32, worked on and rounded in turn, so few that they stay in a core's first cache.
pub(super) const BLOCK: usize = 2048;

vectorised! {
    /// Elements as f32. An f64 is rounded: to odd if `odd`, so that to round it again is to round once.
    pub(super) fn widen<T: Element>(from: &[T], odd: bool, to: &mut [f32]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = to_f32(from, odd);
        }
    }

    /// The elements nearest to numbers.
    pub(super) fn narrow<T: Element>(from: &[f32], overflow: Overflow, to: &mut [T]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = from_f32(from, overflow);
        }
    }
}
