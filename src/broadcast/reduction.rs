//! How elements are summed to the shape of an input that broadcasts to them: the reverse of a broadcast.

use super::Broadcast;
use crate::op::Operand;
use crate::{Result, Shape};

/// How the gradient of a broadcast input is summed from one element for each of x.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reduction {
    /// Axes of x, the outermost first: the length, the stride in x, and whether it is summed over.
    pub axes: Vec<(usize, usize, bool)>,
    /// Sums: the elements of the input.
    pub sums: usize,
    /// Elements of x in each sum.
    pub leaves: usize,
}

impl Reduction {
    /// For a tensor that broadcasts to `x`: a bound, or one that holds a value for each slice. A value has the shape of a scalar.
    ///
    /// # Errors
    /// As [`Broadcast::new`].
    pub(crate) fn new(x: &Shape, input: &Shape, operand: Operand) -> Result<Self> {
        Ok(Self::of(&Broadcast::of_one(x, input, operand)?, 0, input.len()))
    }

    /// For one of the inputs of a broadcast, which has `sums` elements.
    pub(crate) fn of(broadcast: &Broadcast, index: usize, sums: usize) -> Self {
        let mut stride = 1;
        let mut axes: Vec<_> = broadcast
            .axes
            .iter()
            .rev()
            .map(|axis| {
                let reduced = (axis.len, stride, axis.strides[index] == 0);
                stride *= axis.len;
                reduced
            })
            .collect();
        axes.reverse();
        let leaves = axes.iter().filter(|axis| axis.2).map(|axis| axis.0).product();
        Self { axes, sums, leaves }
    }

    /// Whether there is nothing to sum: each element is its own sum.
    pub(crate) fn is_none(&self) -> bool {
        self.leaves == 1
    }

    /// The reduction of all elements to one output.
    pub(crate) fn all(len: usize) -> Self {
        Self { axes: vec![(len, 1, true)], sums: 1, leaves: len }
    }

    /// Whether there is one output, of all elements.
    pub(crate) fn is_whole(&self) -> bool {
        self.sums == 1 && self.axes.iter().all(|axis| axis.2)
    }

    /// How many sums from `sum` on have adjacent elements, leaf by leaf.
    pub(crate) fn sum_run(&self, sum: usize) -> usize {
        self.run(sum, false)
    }

    /// How many leaves from `leaf` on are adjacent.
    pub(crate) fn leaf_run(&self, leaf: usize) -> usize {
        self.run(leaf, true)
    }

    /// The rest of the last axis, if it is of this kind.
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

    #[test]
    fn leaves_of_a_sum_are_in_the_order_of_x() {
        let reduction =
            |x: &[usize], input: &[usize]| Reduction::new(&shape(x), &shape(input), Operand::Lo).unwrap();
        let columns = reduction(&[2, 3, 4], &[3, 1]);
        assert_eq!((columns.sums, columns.leaves), (3, 8));
        let leaves: Vec<_> = (0..8).map(|leaf| columns.element(1, leaf)).collect();
        assert_eq!(leaves, [4, 5, 6, 7, 16, 17, 18, 19]);
        assert_eq!((columns.leaf_run(1), columns.leaf_run(4), columns.sum_run(0)), (3, 4, 1));
        let rows = reduction(&[2, 3], &[3]);
        assert_eq!((rows.leaf_run(0), rows.sum_run(0), rows.sum_run(2)), (1, 3, 1));
        assert!(reduction(&[2, 3], &[2, 3]).is_none());
        let empty = reduction(&[0, 3], &[3]);
        assert_eq!((empty.sums, empty.leaves), (3, 0));
    }
}
