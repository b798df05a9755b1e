//! Sums of integers, in integers of so many bits that none overflows.

use super::{Piece, Tile};
use crate::{Element, ElementType};

/// An integer that can be summed.
pub(super) trait Integer: Element {
    /// Of so many bits that no sum of a slice overflows.
    type Sum: Copy + Default + Send + std::ops::Add<Output = Self::Sum> + From<Self>;

    /// The nearest to a sum: one beyond the range of the type is clipped to it.
    fn clipped(sum: Self::Sum) -> Self;
}

macro_rules! integer {
    ($($type:ident: $sum:ident),+) => {$(
        impl Integer for $type {
            type Sum = $sum;

            fn clipped(sum: $sum) -> Self {
                sum.clamp($type::MIN.into(), $type::MAX.into()) as $type
            }
        }
    )+};
}

integer! { i8: i64, u8: i64, i16: i64, u16: i64, i32: i128, u32: i128, i64: i128, u64: i128 }

/// Sums side by side.
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
