//! The affine map of a hard sigmoid: the twin of `shaders/affine.wgsl`.

use rayon::prelude::*;

use super::check_len;
use crate::{Element, Result, reference};

/// `y[i] = scale * x[i] + offset`, to the bit as [`reference::affine`] says.
pub fn affine<T: Element>(x: &[T], scale: T::Sum, offset: T::Sum, y: &mut [T]) -> Result<()> {
    check_len(x, y)?;
    y.par_iter_mut().zip(x).for_each(|(y, &x)| *y = reference::affine(x, scale, offset));
    Ok(())
}
