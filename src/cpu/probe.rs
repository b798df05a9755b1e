//! What serves the check alone: the twin of `shaders/probe.wgsl`.

use rayon::prelude::*;

use crate::Element;

/// Fills `y` with the elements whose bits are `start`, `start + step`, and so on.
pub fn patterns<T: Element>(start: u32, step: u32, y: &mut [T]) {
    y.par_iter_mut().enumerate().for_each(|(i, v)| {
        *v = T::from_bits(start.wrapping_add((i as u32).wrapping_mul(step)).into());
    });
}
