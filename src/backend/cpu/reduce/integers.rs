//! Sums of integers, in integers with enough bits that none overflows.

use super::{Piece, Tile};
use crate::element::Integer;
use crate::{Element, ElementType};

/// Adjacent sums.
pub(super) struct Integers<'a, T: Integer> {
    elements: &'a [T],
    sums: Vec<T::Sum>,
}

impl<'a, T: Integer> Integers<'a, T> {
    pub(super) fn new(elements: &'a [T], count: usize) -> Self {
        Self { elements, sums: vec![T::Sum::default(); count] }
    }
}

impl<T: Integer> Tile for Integers<'_, T> {
    fn run(&mut self, pieces: &[Piece]) {
        for &(start, len) in pieces {
            let elements = self.elements[start..][..len].iter();
            self.sums[0] = elements.fold(self.sums[0], |sum, &element| sum + element.into());
        }
    }

    fn rows(&mut self, pieces: &[Piece]) {
        let mut output = 0;
        for &(start, len) in pieces {
            for (sum, &element) in self.sums[output..].iter_mut().zip(&self.elements[start..][..len]) {
                *sum = *sum + element.into();
            }
            output = (output + len) % self.sums.len();
        }
    }

    fn merge(&mut self, other: Self) {
        self.sums.iter_mut().zip(other.sums).for_each(|(sum, other)| *sum = *sum + other);
    }

    fn output(&self, n: usize, _: ElementType) -> u64 {
        Element::to_bits(T::clipped(self.sums[n]))
    }
}
