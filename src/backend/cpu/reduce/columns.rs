//! Exact sums of floats in adjacent columns: a tile of rows at a time, split as blocks.rs splits a block.

use bytemuck::{Pod, cast_slice, cast_slice_mut};

use super::super::simd::vectorised;
use super::blocks::{
    ADDENDS, Cuts, Ends, Magnitude, Square, Term, Value, Wide, accumulate, parts_of, slowly, widen_short,
};
use super::{Piece, Tile, gather};
use crate::ElementType;
use crate::norm::exact::{ExactSum, ReduceOp};

/// Outputs of a tile.
pub(super) const WIDTH: usize = 256;

/// Rows of a tile: as many as a lane has addends.
pub(super) const HEIGHT: usize = ADDENDS;

/// Columns that are summed at once.
const LANES: usize = 16;

/// Rows that are summed before the sums go to memory.
const STEP: usize = 4;

/// Sums of floats in adjacent columns: the type is a value, and its bits are `B`.
pub(super) struct Floats<'a, B> {
    element: ElementType,
    elements: &'a [B],
    sums: Vec<ExactSum>,
    /// The rows of a tile, one after the other.
    tile: Vec<B>,
    wide: Vec<f32>,
}

impl<'a, B: Pod> Floats<'a, B> {
    pub(super) fn new(element: ElementType, elements: &'a [B], op: ReduceOp, count: usize) -> Self {
        let sums = vec![ExactSum::new(element.layout().bits, op); count];
        Self { element, elements, sums, tile: Vec::new(), wide: Vec::new() }
    }
}

impl<B: Pod + Send + Sync> Tile for Floats<'_, B> {
    fn run(&mut self, pieces: &[Piece]) {
        let elements = gather(self.elements, pieces, &mut self.tile);
        accumulate(&mut self.sums[0], self.element, cast_slice(elements));
    }

    fn rows(&mut self, pieces: &[Piece]) {
        let (sums, element) = (&mut self.sums[..], self.element);
        let tile: &[u8] = cast_slice(gather(self.elements, pieces, &mut self.tile));
        match element {
            ElementType::F32 => whole(sums, cast_slice::<u8, f32>(tile), element, tile),
            ElementType::F64 => whole(sums, cast_slice::<u8, f64>(tile), element, tile),
            _ => {
                self.wide.resize(tile.len() / element.size(), 0.0);
                widen_short(element, tile, &mut self.wide);
                whole(sums, &self.wide, element, tile);
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

/// Adds a tile, column by column if it cannot be split.
fn whole<V: Wide>(sums: &mut [ExactSum], wide: &[V], element: ElementType, tile: &[u8]) {
    let (op, layout) = (sums[0].op(), element.layout());
    // An f64 cannot hold the square of an f64.
    let cuts = op != ReduceOp::MaxAbs && !(op == ReduceOp::SumSquares && layout.bits == 64);
    let ends = if cuts { Ends::of::<V>(V::ends(wide), layout, op == ReduceOp::SumSquares) } else { None };
    let done = ends.is_some_and(|ends| match op {
        ReduceOp::SumAbs => cut_into(sums, Magnitude, wide, ends),
        ReduceOp::SumSquares => cut_into(sums, Square, wide, ends),
        _ => cut_into(sums, Value, wide, ends),
    });
    if done {
        return;
    }
    let (width, size) = (sums.len(), element.size());
    let mut column = [0u64; HEIGHT];
    let column: &mut [u8] = cast_slice_mut(&mut column);
    for (n, sum) in sums.iter_mut().enumerate() {
        let elements = tile.chunks(size).skip(n).step_by(width);
        let mut len = 0;
        for (to, from) in column.chunks_mut(size).zip(elements) {
            to.copy_from_slice(from);
            len += size;
        }
        slowly(sum, element, &column[..len]);
    }
}

fn cut_into<V: Wide, F: Term>(sums: &mut [ExactSum], term: F, tile: &[V], ends: Ends) -> bool {
    match parts_of(ends) {
        1 => cut_parts::<V, F, 1>(sums, term, tile, ends),
        2 => cut_parts::<V, F, 2>(sums, term, tile, ends),
        3 => cut_parts::<V, F, 3>(sums, term, tile, ends),
        _ => return false,
    }
    true
}

fn cut_parts<V: Wide, F: Term, const N: usize>(sums: &mut [ExactSum], term: F, tile: &[V], ends: Ends) {
    let cuts = Cuts::<N>::new(ends.power);
    let mut parts = [[0.0; WIDTH]; N];
    cut(term, tile, sums.len(), cuts.anchors, &mut parts);
    for (c, sum) in sums.iter_mut().enumerate() {
        cuts.add(sum, |n| &parts[n][c..=c]);
    }
}

vectorised! {
    fn cut<V: Wide, F: Term, const N: usize>(
        _: F,
        tile: &[V],
        width: usize,
        anchors: [f64; N],
        parts: &mut [[f64; WIDTH]; N],
    ) {
        // Zeros pad the last step.
        let none = [V::default(); WIDTH];
        let rows = tile.len() / width;
        for first in (0..rows).step_by(STEP) {
            let row = |n: usize| match first + n < rows {
                true => &tile[(first + n) * width..][..width],
                false => &none[..width],
            };
            let step: [&[V]; STEP] = [row(0), row(1), row(2), row(3)];
            // This many columns in each step, which vectorises.
            for c in (0..width).step_by(LANES) {
                let lanes = LANES.min(width - c);
                let mut sums = [[0.0; LANES]; N];
                for row in step {
                    let mut terms = [0.0; LANES];
                    for (term, element) in terms.iter_mut().zip(&row[c..][..lanes]) {
                        *term = F::of(element.wide());
                    }
                    for n in 0..N - 1 {
                        for lane in 0..LANES {
                            let part = (terms[lane] + anchors[n]) - anchors[n];
                            sums[n][lane] += part;
                            terms[lane] -= part;
                        }
                    }
                    for lane in 0..LANES {
                        sums[N - 1][lane] += terms[lane];
                    }
                }
                for n in 0..N {
                    for (part, sum) in parts[n][c..].iter_mut().zip(sums[n]) {
                        *part += sum;
                    }
                }
            }
        }
    }
}
