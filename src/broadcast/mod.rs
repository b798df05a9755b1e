//! How inputs broadcast to the tensor that an operation works on: numpy's rules, for several inputs at once.

mod inputs;
mod reduction;
mod slices;

use std::ops::Range;

pub use inputs::BroadcastInputs;
pub(crate) use inputs::{BoundBits, check_not_nan};
pub(crate) use reduction::Reduction;
pub(crate) use slices::Slices;

use crate::op::Operand;
use crate::{Error, Result, Shape};

/// Maximum rank after merging contiguous axes.
pub(crate) const MAX_AXES: usize = 8;

/// Maximum broadcast inputs of an operation: the components of a `vec4` in the shaders.
pub const MAX_BROADCAST: usize = 4;

/// An axis of x, or several merged into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Axis {
    pub len: usize,
    /// The stride of each input along it: 0 if it has one value for all.
    pub strides: [usize; MAX_BROADCAST],
}

/// Maps the elements of x to those of the inputs. Axes are outermost first, none of length 1 unless it is the only one;
/// an input that is not a tensor has strides of 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broadcast {
    axes: Vec<Axis>,
    /// Whether an input has an element for each of x, in the same order.
    same: [bool; MAX_BROADCAST],
}

impl Broadcast {
    /// For inputs of these shapes, each with its operand. As in numpy, dimensions are matched from the last, each
    /// is that of `x` or 1, and missing ones count as 1. An input never enlarges `x`.
    ///
    /// # Errors
    /// [`Error::BroadcastMismatch`], or [`Error::TooManyAxes`].
    pub(crate) fn new(x: &Shape, inputs: &[Option<(&Shape, Operand)>]) -> Result<Self> {
        let mut strides = [const { Vec::new() }; MAX_BROADCAST];
        let mut same = [false; MAX_BROADCAST];
        for (index, strides) in strides.iter_mut().enumerate() {
            *strides = match inputs.get(index).copied().flatten() {
                Some((shape, operand)) => {
                    same[index] = shape.len() == x.len();
                    strides_of(x, shape, operand)?
                }
                None => vec![0; x.dims().len()],
            };
        }

        let mut axes: Vec<Axis> = Vec::new();
        let dims = if x.is_empty() { &[] } else { x.dims() };
        for (d, &len) in dims.iter().enumerate().filter(|&(_, &len)| len != 1) {
            let inner = Axis { len, strides: strides.each_ref().map(|strides| strides[d]) };
            match axes.last_mut() {
                // An outer step then equals all the inner steps.
                Some(outer) if outer.strides == inner.strides.map(|stride| stride * len) => {
                    *outer = Axis { len: outer.len * len, strides: inner.strides };
                }
                _ => axes.push(inner),
            }
        }
        if axes.is_empty() {
            axes = vec![Axis { len: x.len(), strides: [0; MAX_BROADCAST] }];
        }
        if axes.len() > MAX_AXES {
            return Err(Error::TooManyAxes { shape: x.dims().to_vec(), axes: axes.len() });
        }
        Ok(Self { axes, same })
    }

    /// For a single tensor: a bound, or one that holds a value for each slice of x.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn of_one(x: &Shape, tensor: &Shape, operand: Operand) -> Result<Self> {
        Self::new(x, &[Some((tensor, operand))])
    }

    pub(crate) fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// Elements of x.
    pub(crate) fn len(&self) -> usize {
        self.axes.iter().map(|axis| axis.len).product()
    }

    /// The number of elements of an input that are read: all of them, unless x is empty.
    pub(crate) fn input_len(&self, index: usize) -> Option<usize> {
        let moving = self.axes.iter().filter(|axis| axis.strides[index] > 0);
        (self.len() > 0).then(|| moving.map(|axis| axis.len).product())
    }

    /// Whether this input has an element for each of x, in the same order.
    pub(crate) fn is_same(&self, index: usize) -> bool {
        self.same[index]
    }

    /// Cuts a range of x into runs, within each of which every input either advances with x or stays.
    pub(crate) fn runs(&self, range: Range<usize>) -> impl Iterator<Item = Run> {
        let inner = self.axes[self.axes.len() - 1];
        let mut start = range.start;
        std::iter::from_fn(move || {
            let at = start % inner.len.max(1);
            let len = (inner.len - at).min(range.end - start);
            let run =
                (len > 0).then(|| Run { start, len, first: self.offsets(start), strides: inner.strides });
            start += len;
            run
        })
    }

    /// The elements of the inputs that correspond to an element of x.
    fn offsets(&self, element: usize) -> [usize; MAX_BROADCAST] {
        let mut rest = element;
        let mut offsets = [0; MAX_BROADCAST];
        for axis in self.axes.iter().rev() {
            let at = rest % axis.len;
            rest /= axis.len;
            for (offset, stride) in offsets.iter_mut().zip(axis.strides) {
                *offset += at * stride;
            }
        }
        offsets
    }

    /// The coordinates of an element of x, one for each axis.
    pub(crate) fn coordinates(&self, element: u64) -> Vec<u64> {
        let mut rest = element;
        let mut at: Vec<u64> = self
            .axes
            .iter()
            .rev()
            .map(|axis| {
                let len = axis.len as u64;
                let at = rest % len;
                rest /= len;
                at
            })
            .collect();
        at.reverse();
        at
    }
}

/// Adjacent elements of x.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub start: usize,
    pub len: usize,
    /// The elements of the inputs that correspond to the first one.
    pub first: [usize; MAX_BROADCAST],
    /// 1 if an input advances, 0 if it stays.
    pub strides: [usize; MAX_BROADCAST],
}

/// The stride of an input along each dimension of `x`.
fn strides_of(x: &Shape, input: &Shape, operand: Operand) -> Result<Vec<usize>> {
    let (x_dims, dims) = (x.dims(), input.dims());
    let mismatch =
        || Error::BroadcastMismatch { operand: operand.noun(), from: dims.to_vec(), shape: x_dims.to_vec() };
    let missing = x_dims.len().checked_sub(dims.len()).ok_or_else(mismatch)?;
    let mut strides = vec![0; x_dims.len()];
    let mut stride = 1;
    for (d, &len) in dims.iter().enumerate().rev() {
        match len {
            1 => {}
            len if len == x_dims[missing + d] => strides[missing + d] = stride,
            _ => return Err(mismatch()),
        }
        // The strides of an empty input do not matter, whatever its other dimensions are.
        stride = usize::saturating_mul(stride, len);
    }
    Ok(strides)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(dims: &[usize]) -> Shape {
        Shape::new(dims).unwrap()
    }

    fn broadcast(x: &[usize], inputs: &[&[usize]]) -> Result<Broadcast> {
        let operands = [Operand::Lo, Operand::Hi, Operand::X, Operand::G];
        let shapes: Vec<_> = inputs.iter().map(|dims| shape(dims)).collect();
        let inputs: Vec<_> = shapes.iter().zip(operands).map(Some).collect();
        Broadcast::new(&shape(x), &inputs)
    }

    fn axes(x: &[usize], inputs: &[&[usize]]) -> Vec<(usize, [usize; MAX_BROADCAST])> {
        broadcast(x, inputs).unwrap().axes.iter().map(|axis| (axis.len, axis.strides)).collect()
    }

    #[test]
    fn axes_that_run_alike_are_joined() {
        assert_eq!(axes(&[2, 3, 4], &[&[2, 3, 4], &[]]), [(24, [1, 0, 0, 0])]);
        assert_eq!(axes(&[2, 3, 4], &[&[4], &[1, 1, 4]]), [(6, [0; 4]), (4, [1, 1, 0, 0])]);
        assert_eq!(axes(&[2, 3, 4], &[&[2, 1, 1], &[]]), [(2, [1, 0, 0, 0]), (12, [0; 4])]);
        let three: [&[usize]; 3] = [&[3, 1], &[4], &[2, 1, 1]];
        assert_eq!(axes(&[2, 3, 4], &three), [(2, [0, 0, 1, 0]), (3, [1, 0, 0, 0]), (4, [0, 1, 0, 0])]);
        assert_eq!(axes(&[1, 5, 1], &[&[1, 5, 1], &[1]]), [(5, [1, 0, 0, 0])]);
        assert_eq!(axes(&[1, 1], &[&[1], &[]]), [(1, [0; 4])]);
        assert_eq!(axes(&[4, 0, 3], &[&[0, 3], &[4, 1, 1]]), [(0, [0; 4])]);
    }

    #[test]
    fn an_input_never_enlarges_x() {
        for (x, input) in [(&[3][..], &[1, 3][..]), (&[1], &[3]), (&[2, 3], &[2]), (&[0], &[2]), (&[], &[1])]
        {
            for (operand, inputs) in [("lower bound", [input, &[]]), ("upper bound", [&[], input])] {
                let refused = broadcast(x, &inputs);
                assert!(
                    matches!(refused, Err(Error::BroadcastMismatch { operand: of, .. }) if of == operand)
                );
            }
        }
        let alternating: Vec<_> = (0..10).map(|d| if d % 2 == 0 { 2 } else { 1 }).collect();
        assert!(matches!(broadcast(&[2; 10], &[&alternating]), Err(Error::TooManyAxes { axes: 10, .. })));
        assert!(broadcast(&[2; 10], &[&[2; 10]]).is_ok());
    }

    #[test]
    fn runs_cover_a_range_once() {
        let broadcast = broadcast(&[2, 3, 4], &[&[3, 1], &[4], &[], &[2, 1, 1]]).unwrap();
        let runs: Vec<_> = broadcast.runs(2..17).map(|run| (run.start, run.len, run.first)).collect();
        let expected = [
            (2, 2, [0, 2, 0, 0]),
            (4, 4, [1, 0, 0, 0]),
            (8, 4, [2, 0, 0, 0]),
            (12, 4, [0, 0, 0, 1]),
            (16, 1, [1, 0, 0, 1]),
        ];
        assert_eq!(runs, expected);
        assert_eq!(broadcast.coordinates(17), [1, 1, 1]);
    }
}
