//! Exact sums of floats side by side: a tile of rows at a time, cut as blocks.rs cuts a block.

use super::super::simd::vectorised;
use super::Tile;
use super::blocks::{ADDENDS, Cuts, Lane, Magnitude, Square, Term, Value, accumulate, slowly, widen};
use crate::exact::{ExactSum, ReduceOp};
use crate::{Element, ElementType};

/// Outputs of a tile.
pub(super) const WIDTH: usize = 256;

/// Rows of a tile: as many as a lane has addends.
pub(super) const HEIGHT: usize = ADDENDS;

/// How often the terms of a tile are cut.
const CUTS: usize = 2;

/// Sums of floats side by side.
pub(super) struct Floats<T> {
    sums: Vec<ExactSum>,
    /// The rows of a tile, one after the other.
    tile: Vec<T>,
    narrow: Vec<f32>,
}

impl<T: Element> Floats<T> {
    pub(super) fn new(op: ReduceOp, count: usize) -> Self {
        let sums = vec![ExactSum::new(T::TYPE.layout().bits, op); count];
        Self { sums, tile: Vec::new(), narrow: Vec::new() }
    }
}

impl<T: Element> Tile<T> for Floats<T> {
    fn run(&mut self, elements: &[T]) {
        accumulate(&mut self.sums[0], elements);
    }

    fn rows(&mut self, elements: &[T], pieces: &[(usize, usize)]) {
        self.tile.clear();
        for &(start, len) in pieces {
            self.tile.extend_from_slice(&elements[start..][..len]);
        }
        let (sums, tile) = (&mut self.sums[..], &self.tile[..]);
        match T::TYPE {
            ElementType::F32 => whole(sums, bytemuck::cast_slice::<T, f32>(tile), tile),
            ElementType::F64 => whole(sums, bytemuck::cast_slice::<T, f64>(tile), tile),
            _ => {
                self.narrow.resize(tile.len(), 0.0);
                widen(tile, &mut self.narrow);
                whole(sums, &self.narrow, tile);
            }
        }
    }

    fn merge(&mut self, other: Self) {
        self.sums.iter_mut().zip(other.sums).for_each(|(sum, other)| sum.merge(&other));
    }

    fn output(&self, n: usize, to: ElementType) -> u64 {
        self.sums[n].round(to)
    }
}

/// Takes in a tile: what cannot be cut column by column.
fn whole<V: Lane, T: Element>(sums: &mut [ExactSum], wide: &[V], tile: &[T]) {
    let op = sums[0].op();
    let cut = match (op, V::power_above(V::greatest(wide))) {
        (ReduceOp::MaxAbs, _) | (_, None) => None,
        (ReduceOp::Sum, Some(power)) => Some(cut_into(sums, Value, wide, power)),
        (ReduceOp::SumAbs, Some(power)) => Some(cut_into(sums, Magnitude, wide, power)),
        (ReduceOp::SumSquares, Some(_)) if size_of::<V>() == 8 => None,
        (ReduceOp::SumSquares, Some(power)) => Some(cut_into(sums, Square, wide, 2 * power)),
    };
    let width = sums.len();
    let mut column: Vec<T> = Vec::with_capacity(HEIGHT);
    for (n, sum) in sums.iter_mut().enumerate() {
        if cut.is_some_and(|left| left[n] == 0) {
            continue;
        }
        column.clear();
        column.extend(tile.iter().skip(n).step_by(width));
        slowly(sum, &column);
    }
}

/// Takes in the columns that it can; what is left of the others is not 0.
fn cut_into<V: Lane, F: Term>(sums: &mut [ExactSum], term: F, tile: &[V], power: i32) -> [u64; WIDTH] {
    let cuts = Cuts::<CUTS>::new(power, sums[0].format().unit);
    let mut parts = [[0.0; WIDTH]; CUTS];
    let mut left = [0; WIDTH];
    cut(term, tile, sums.len(), cuts.anchors, &mut parts, &mut left);
    // But for the sign of a zero.
    left.iter_mut().for_each(|left| *left <<= 1);
    for (c, sum) in sums.iter_mut().enumerate().filter(|&(c, _)| left[c] == 0) {
        for (n, parts) in parts.iter().enumerate() {
            sum.add_signed(cuts.multiple(n, parts[c]), cuts.exponents[n]);
        }
    }
    left
}

vectorised! {
    fn cut<V: Lane, F: Term>(
        _: F,
        tile: &[V],
        width: usize,
        anchors: [f64; CUTS],
        parts: &mut [[f64; WIDTH]; CUTS],
        left: &mut [u64; WIDTH],
    ) {
        let [first, second] = parts;
        let (first, second, left) = (&mut first[..width], &mut second[..width], &mut left[..width]);
        for row in tile.chunks_exact(width) {
            for c in 0..width {
                let term = F::of(row[c].wide());
                let part = (term + anchors[0]) - anchors[0];
                first[c] += part;
                let term = term - part;
                let part = (term + anchors[1]) - anchors[1];
                second[c] += part;
                left[c] |= (term - part).to_bits();
            }
        }
    }
}
