//! The slices of a tensor: what is reduced, scaled or divided together.

use super::{Broadcast, Reduction};
use crate::op::Operand;
use crate::{Error, Result, Shape};

/// The slices of a tensor.
#[derive(Debug)]
pub(crate) struct Slices {
    pub reduction: Reduction,
    pub broadcast: Broadcast,
    /// The shape of a tensor with an element for each of them.
    pub kept: Shape,
}

impl Slices {
    /// One, of all elements.
    ///
    /// # Errors
    /// [`Error::TooManyAxes`].
    pub(crate) fn whole(x: &Shape) -> Result<Self> {
        let kept = Shape::new([])?;
        let broadcast = Broadcast::of_one(x, &kept, Operand::X)?;
        Ok(Self { reduction: Reduction::all(x.len()), broadcast, kept })
    }

    /// Along some axes; those that are left have a slice for each of their elements.
    ///
    /// # Errors
    /// [`Error::InvalidAxes`], [`Error::TooManyAxes`].
    pub(crate) fn along(x: &Shape, axes: &[usize]) -> Result<Self> {
        let mut dims = x.dims().to_vec();
        for (n, &axis) in axes.iter().enumerate() {
            match dims.get_mut(axis) {
                Some(len) if !axes[..n].contains(&axis) => *len = 1,
                _ => return Err(Error::InvalidAxes { axes: axes.to_vec(), shape: x.dims().to_vec() }),
            }
        }
        let kept = Shape::new(dims)?;
        let reduction = Reduction::new(x, &kept, Operand::X)?;
        Ok(Self { reduction, broadcast: Broadcast::of_one(x, &kept, Operand::X)?, kept })
    }
}
