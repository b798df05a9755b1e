//! How bounds broadcast to the tensor that they bound: numpy's rules, for one or two tensors of bounds.

use std::ops::Range;

use crate::{Error, Result, Shape};

/// Maximum rank after merging contiguous axes.
pub(crate) const MAX_AXES: usize = 8;

/// The two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The lower bound.
    Lo,
    /// The upper bound.
    Hi,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Lo, Self::Hi];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Lo => "lower",
            Self::Hi => "upper",
        }
    }
}

/// An axis of x, or several that run alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Axis {
    pub len: usize,
    /// How far each bound moves along it: 0 where it has one value for all.
    pub strides: [usize; 2],
}

/// How the bounds' elements are found from those of x. Axes are the outermost first, none of them of length 1
/// unless there is no other; a bound that is no tensor has strides of 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broadcast {
    axes: Vec<Axis>,
    /// Whether a bound has an element for each of x, in the same order.
    same: [bool; 2],
}

impl Broadcast {
    /// For bounds of these shapes. As in numpy, dimensions are matched from the last, each is that of `x` or 1,
    /// and missing ones count as 1. A bound never enlarges `x`.
    ///
    /// # Errors
    /// [`Error::BroadcastMismatch`], or [`Error::TooManyAxes`].
    pub(crate) fn new(x: &Shape, bounds: [Option<&Shape>; 2]) -> Result<Self> {
        let mut strides = [Vec::new(), Vec::new()];
        for side in Side::BOTH {
            strides[side as usize] = match bounds[side as usize] {
                Some(bound) => strides_of(x, bound, side)?,
                None => vec![0; x.dims().len()],
            };
        }

        let mut axes: Vec<Axis> = Vec::new();
        let dims = if x.is_empty() { &[] } else { x.dims() };
        for (d, &len) in dims.iter().enumerate().filter(|&(_, &len)| len != 1) {
            let inner = Axis { len, strides: [strides[0][d], strides[1][d]] };
            match axes.last_mut() {
                // An outer step is then as long as all the inner ones.
                Some(outer) if (0..2).all(|b| outer.strides[b] == inner.strides[b] * len) => {
                    *outer = Axis { len: outer.len * len, strides: inner.strides };
                }
                _ => axes.push(inner),
            }
        }
        if axes.is_empty() {
            axes = vec![Axis { len: x.len(), strides: [0, 0] }];
        }
        if axes.len() > MAX_AXES {
            return Err(Error::TooManyAxes { shape: x.dims().to_vec(), axes: axes.len() });
        }
        let same = bounds.map(|bound| bound.is_some_and(|bound| bound.len() == x.len()));
        Ok(Self { axes, same })
    }

    pub(crate) fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// Elements of x.
    pub(crate) fn len(&self) -> usize {
        self.axes.iter().map(|axis| axis.len).product()
    }

    /// Elements of a bound that are looked at: as many as it has, unless x is empty.
    pub(crate) fn bound_len(&self, side: Side) -> Option<usize> {
        let moving = self.axes.iter().filter(|axis| axis.strides[side as usize] > 0);
        (self.len() > 0).then(|| moving.map(|axis| axis.len).product())
    }

    /// Whether this bound has an element for each of x, in the same order.
    pub(crate) fn is_same(&self, side: Side) -> bool {
        self.same[side as usize]
    }

    /// Cuts a range of x into runs, within each of which every bound either moves along with x or stays.
    pub(crate) fn runs(&self, range: Range<usize>) -> impl Iterator<Item = Run> {
        let inner = self.axes[self.axes.len() - 1];
        let mut start = range.start;
        std::iter::from_fn(move || {
            let at = start % inner.len.max(1);
            let len = (inner.len - at).min(range.end - start);
            let run =
                (len > 0).then(|| Run { start, len, bounds: self.offsets(start), strides: inner.strides });
            start += len;
            run
        })
    }

    /// The elements of the bounds that belong to an element of x.
    fn offsets(&self, element: usize) -> [usize; 2] {
        let mut rest = element;
        let mut offsets = [0, 0];
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

/// Elements of x next to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub start: usize,
    pub len: usize,
    /// The elements of the bounds that belong to the first of them.
    pub bounds: [usize; 2],
    /// 1 where a bound moves along, 0 where it stays.
    pub strides: [usize; 2],
}

/// The stride of a bound along each dimension of `x`.
fn strides_of(x: &Shape, bound: &Shape, side: Side) -> Result<Vec<usize>> {
    let (x_dims, dims) = (x.dims(), bound.dims());
    let mismatch =
        || Error::BroadcastMismatch { side: side.name(), bound: dims.to_vec(), shape: x_dims.to_vec() };
    let missing = x_dims.len().checked_sub(dims.len()).ok_or_else(mismatch)?;
    let mut strides = vec![0; x_dims.len()];
    let mut stride = 1;
    for (d, &len) in dims.iter().enumerate().rev() {
        match len {
            1 => {}
            len if len == x_dims[missing + d] => strides[missing + d] = stride,
            _ => return Err(mismatch()),
        }
        // Of an empty bound no stride matters, whatever its other dimensions are.
        stride = usize::saturating_mul(stride, len);
    }
    Ok(strides)
}

/// How the gradient of a bound is summed from one element for each of x.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reduction {
    /// Axes of x, the outermost first: the length, the stride in x, and whether it is summed over.
    pub axes: Vec<(usize, usize, bool)>,
    /// Sums: the elements of the bound.
    pub sums: usize,
    /// Elements of x in each sum.
    pub leaves: usize,
}

impl Reduction {
    /// Of the gradient of a bound of shape `bound`, which broadcasts to `x`. A bound that is a value has the
    /// shape of a scalar.
    ///
    /// # Errors
    /// As [`Broadcast::new`].
    pub(crate) fn new(x: &Shape, bound: &Shape, side: Side) -> Result<Self> {
        let mut shapes = [None, None];
        shapes[side as usize] = Some(bound);
        Ok(Self::of(&Broadcast::new(x, shapes)?, side, bound.len()))
    }

    /// Of the gradient of a bound that has `sums` elements.
    pub(crate) fn of(broadcast: &Broadcast, side: Side, sums: usize) -> Self {
        let mut stride = 1;
        let mut axes: Vec<_> = broadcast
            .axes
            .iter()
            .rev()
            .map(|axis| {
                let reduced = (axis.len, stride, axis.strides[side as usize] == 0);
                stride *= axis.len;
                reduced
            })
            .collect();
        axes.reverse();
        let leaves = axes.iter().filter(|axis| axis.2).map(|axis| axis.0).product();
        Self { axes, sums, leaves }
    }

    /// Whether there is nothing to sum: the gradient is that of each element.
    pub(crate) fn is_none(&self) -> bool {
        self.leaves == 1
    }

    /// Of all elements, to one output.
    pub(crate) fn all(len: usize) -> Self {
        Self { axes: vec![(len, 1, true)], sums: 1, leaves: len }
    }

    /// Whether there is one output, of all elements.
    pub(crate) fn is_whole(&self) -> bool {
        self.sums == 1 && self.axes.iter().all(|axis| axis.2)
    }

    /// How many sums from `sum` on have elements next to each other, leaf by leaf.
    pub(crate) fn sum_run(&self, sum: usize) -> usize {
        self.run(sum, false)
    }

    /// How many leaves from `leaf` on are next to each other.
    pub(crate) fn leaf_run(&self, leaf: usize) -> usize {
        self.run(leaf, true)
    }

    /// What is left of the last axis, if it is of this kind.
    fn run(&self, n: usize, summed: bool) -> usize {
        match self.axes.last() {
            Some(&(len, _, reduced)) if reduced == summed => len - n % len,
            _ => 1,
        }
    }

    /// The element of x that is leaf `leaf` of sum `sum`.
    pub(crate) fn element(&self, sum: usize, leaf: usize) -> usize {
        let (mut kept, mut summed, mut offset) = (sum, leaf, 0);
        for &(len, stride, reduced) in self.axes.iter().rev() {
            let rest = if reduced { &mut summed } else { &mut kept };
            offset += *rest % len * stride;
            *rest /= len;
        }
        offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(dims: &[usize]) -> Shape {
        Shape::new(dims).unwrap()
    }

    fn broadcast(x: &[usize], lo: &[usize], hi: &[usize]) -> Result<Broadcast> {
        Broadcast::new(&shape(x), [Some(&shape(lo)), Some(&shape(hi))])
    }

    fn axes(x: &[usize], lo: &[usize], hi: &[usize]) -> Vec<(usize, [usize; 2])> {
        broadcast(x, lo, hi).unwrap().axes.iter().map(|axis| (axis.len, axis.strides)).collect()
    }

    #[test]
    fn axes_that_run_alike_are_joined() {
        assert_eq!(axes(&[2, 3, 4], &[2, 3, 4], &[]), [(24, [1, 0])]);
        assert_eq!(axes(&[2, 3, 4], &[4], &[1, 1, 4]), [(6, [0, 0]), (4, [1, 1])]);
        assert_eq!(axes(&[2, 3, 4], &[2, 1, 1], &[]), [(2, [1, 0]), (12, [0, 0])]);
        assert_eq!(axes(&[2, 3, 4], &[3, 1], &[4]), [(2, [0, 0]), (3, [1, 0]), (4, [0, 1])]);
        assert_eq!(axes(&[1, 5, 1], &[1, 5, 1], &[1]), [(5, [1, 0])]);
        assert_eq!(axes(&[1, 1], &[1], &[]), [(1, [0, 0])]);
        assert_eq!(axes(&[4, 0, 3], &[0, 3], &[4, 1, 1]), [(0, [0, 0])]);
    }

    #[test]
    fn a_bound_never_enlarges_x() {
        for (x, bound) in [(&[3][..], &[1, 3][..]), (&[1], &[3]), (&[2, 3], &[2]), (&[0], &[2]), (&[], &[1])]
        {
            assert!(matches!(broadcast(x, bound, &[]), Err(Error::BroadcastMismatch { side: "lower", .. })));
            assert!(matches!(broadcast(x, &[], bound), Err(Error::BroadcastMismatch { side: "upper", .. })));
        }
        let alternating: Vec<_> = (0..10).map(|d| if d % 2 == 0 { 2 } else { 1 }).collect();
        assert!(matches!(broadcast(&[2; 10], &alternating, &[]), Err(Error::TooManyAxes { axes: 10, .. })));
        assert!(broadcast(&[2; 10], &[2; 10], &[]).is_ok());
    }

    #[test]
    fn runs_cover_a_range_once() {
        let broadcast = broadcast(&[2, 3, 4], &[3, 1], &[4]).unwrap();
        let runs: Vec<_> = broadcast.runs(2..17).map(|run| (run.start, run.len, run.bounds)).collect();
        assert_eq!(runs, [(2, 2, [0, 2]), (4, 4, [1, 0]), (8, 4, [2, 0]), (12, 4, [0, 0]), (16, 1, [1, 0])]);
        assert_eq!(broadcast.coordinates(17), [1, 1, 1]);
    }

    #[test]
    fn leaves_of_a_sum_are_in_the_order_of_x() {
        let columns = Reduction::new(&shape(&[2, 3, 4]), &shape(&[3, 1]), Side::Lo).unwrap();
        assert_eq!((columns.sums, columns.leaves), (3, 8));
        let leaves: Vec<_> = (0..8).map(|leaf| columns.element(1, leaf)).collect();
        assert_eq!(leaves, [4, 5, 6, 7, 16, 17, 18, 19]);
        assert_eq!((columns.leaf_run(1), columns.leaf_run(4), columns.sum_run(0)), (3, 4, 1));
        let rows = Reduction::new(&shape(&[2, 3]), &shape(&[3]), Side::Lo).unwrap();
        assert_eq!((rows.leaf_run(0), rows.sum_run(0), rows.sum_run(2)), (1, 3, 1));
        assert!(Reduction::new(&shape(&[2, 3]), &shape(&[2, 3]), Side::Hi).unwrap().is_none());
        let empty = Reduction::new(&shape(&[0, 3]), &shape(&[3]), Side::Hi).unwrap();
        assert_eq!((empty.sums, empty.leaves), (3, 0));
    }
}
