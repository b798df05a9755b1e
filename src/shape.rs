//! Shapes: how many elements a tensor has along each dimension.

use crate::{Error, Result};

/// The lengths of a tensor's dimensions, outermost first (C order). Without dimensions it is a scalar of one element; a
/// dimension of length 0 means an empty tensor.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: Vec<usize>,
    len: usize,
}

impl Shape {
    /// A shape of these dimensions.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the elements, or their bytes at 8 each, cannot be counted in an `isize`.
    pub fn new(dims: impl Into<Vec<usize>>) -> Result<Self> {
        let dims = dims.into();
        // An empty tensor is empty whatever its other dimensions are.
        let len = if dims.contains(&0) {
            Some(0)
        } else {
            dims.iter().try_fold(1usize, |len, &d| len.checked_mul(d))
        };
        match len {
            Some(len) if len <= isize::MAX as usize / 8 => Ok(Self { dims, len }),
            _ => Err(Error::TooLarge {
                what: format!("a tensor of shape {dims:?}"),
                limit: "the address space".into(),
            }),
        }
    }

    /// The length of each dimension.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Checks that `actual` elements fill the shape.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] if not.
    pub(crate) fn check_len(&self, actual: usize) -> Result<()> {
        if actual == self.len {
            return Ok(());
        }
        Err(Error::LengthMismatch { shape: self.dims.clone(), expected: self.len, actual })
    }

    /// Checks that `other` is the same shape.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if not.
    pub(crate) fn check_same(&self, other: &Self) -> Result<()> {
        if self == other {
            return Ok(());
        }
        Err(Error::ShapeMismatch { left: self.dims.clone(), right: other.dims.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_counted_and_overflow_is_an_error() {
        assert_eq!(Shape::new([]).unwrap().len(), 1);
        assert_eq!(Shape::new([2, 3, 4]).unwrap().len(), 24);
        assert_eq!(Shape::new([usize::MAX, 0, usize::MAX]).unwrap().len(), 0);
        assert!(matches!(Shape::new([usize::MAX, 2]), Err(Error::TooLarge { .. })));
        assert!(matches!(Shape::new([1 << 62]), Err(Error::TooLarge { .. })));
    }
}
