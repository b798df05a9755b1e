//! Sums of integers, in integers of so many bits that none overflows.

use super::Tile;
use crate::element::accum::Accumulator;
use crate::{Element, ElementType};

/// Sums side by side.
pub(super) struct Integers<T: Element> {
    sums: Vec<T::Accum>,
}

impl<T: Element> Integers<T> {
    pub(super) fn new(count: usize) -> Self {
        Self { sums: vec![T::ZERO.to_accum(); count] }
    }
}

impl<T: Element> Tile<T> for Integers<T> {
    fn run(&mut self, elements: &[T]) {
        self.sums[0] = elements.iter().fold(self.sums[0], |sum, element| sum.add(element.to_accum()));
    }

    fn rows(&mut self, elements: &[T], pieces: &[(usize, usize)]) {
        let mut output = 0;
        for &(start, len) in pieces {
            for (sum, element) in self.sums[output..].iter_mut().zip(&elements[start..][..len]) {
                *sum = sum.add(element.to_accum());
            }
            output = (output + len) % self.sums.len();
        }
    }

    fn merge(&mut self, other: Self) {
        self.sums.iter_mut().zip(other.sums).for_each(|(sum, other)| *sum = sum.add(other));
    }

    fn output(&self, n: usize, _: ElementType) -> u64 {
        Element::to_bits(T::from_accum(self.sums[n]))
    }
}
