//! The greatest elements and the sums of slices whose elements lie anywhere.

use super::exponential::{
    BLOCK, Lanes, add_each, exponentials, greatest_of, keep_greatest, to_32_bits, total, units_of,
};
use crate::backend::cpu::convert::widen;
use crate::backend::cpu::reduce::{Piece, Tile, gather};
use crate::{Element, ElementType};

/// The greatest elements of adjacent slices.
pub(super) struct Greatest<'a, T> {
    x: &'a [T],
    found: Vec<f32>,
    room: Vec<T>,
}

impl<'a, T: Element> Greatest<'a, T> {
    pub(super) fn new(x: &'a [T], count: usize) -> Self {
        Self { x, found: vec![f32::NEG_INFINITY; count], room: Vec::new() }
    }
}

impl<T: Element> Tile for Greatest<'_, T> {
    fn run(&mut self, pieces: &[Piece]) {
        let mut wide = [0.0; BLOCK];
        for x in gather(self.x, pieces, &mut self.room).chunks(BLOCK) {
            let wide = &mut wide[..x.len()];
            widen(x, false, wide);
            keep_greatest(&[greatest_of(wide)], &mut self.found);
        }
    }

    fn rows(&mut self, pieces: &[Piece]) {
        let mut wide = vec![0.0; self.found.len()];
        for x in gather(self.x, pieces, &mut self.room).chunks(wide.len()) {
            widen(x, false, &mut wide);
            keep_greatest(&wide, &mut self.found);
        }
    }

    fn merge(&mut self, other: Self) {
        keep_greatest(&other.found, &mut self.found);
    }

    fn output(&self, n: usize, _: ElementType) -> u64 {
        self.found[n].to_bits().into()
    }
}

/// The sums of the exponentials of adjacent slices.
pub(super) struct Exponentials<'a, T> {
    x: &'a [T],
    /// The greatest elements in units of 2^-32.
    units: Vec<f64>,
    sums: Vec<u128>,
    room: Vec<T>,
}

impl<'a, T: Element> Exponentials<'a, T> {
    pub(super) fn new(x: &'a [T], greatest: &[f32]) -> Self {
        let units = greatest.iter().map(|&x| units_of(x)).collect();
        Self { x, units, sums: vec![0; greatest.len()], room: Vec::new() }
    }
}

impl<T: Element> Tile for Exponentials<'_, T> {
    fn run(&mut self, pieces: &[Piece]) {
        let (mut wide, mut e, mut lanes) = ([0.0; BLOCK], [0.0; BLOCK], Lanes::new());
        for x in gather(self.x, pieces, &mut self.room).chunks(BLOCK) {
            let (wide, e) = (&mut wide[..x.len()], &mut e[..x.len()]);
            widen(x, false, wide);
            let units = self.units[0];
            exponentials(wide, |_| units, e);
            lanes.add(e);
        }
        self.sums[0] += lanes.total();
    }

    fn rows(&mut self, pieces: &[Piece]) {
        let count = self.units.len();
        let (mut wide, mut e) = (vec![0.0; count], vec![0.0; count]);
        let (mut high, mut low) = (vec![0.0; count], vec![0.0; count]);
        // So few rows that the sums are exact.
        for x in gather(self.x, pieces, &mut self.room).chunks(count) {
            widen(x, false, &mut wide);
            let units = &self.units[..];
            exponentials(&wide, |i| units[i], &mut e);
            add_each(&e, &mut high, &mut low);
        }
        for ((sum, high), low) in self.sums.iter_mut().zip(high).zip(low) {
            *sum += total((high, low));
        }
    }

    fn merge(&mut self, other: Self) {
        self.sums.iter_mut().zip(other.sums).for_each(|(sum, other)| *sum += other);
    }

    fn output(&self, n: usize, _: ElementType) -> u64 {
        to_32_bits(self.sums[n])
    }
}
