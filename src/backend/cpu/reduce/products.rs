//! Exact dot products: products of elements of up to 32 bits are f64, and summed as blocks.rs sums a block.

use super::super::convert::widen;
use super::super::scaling::unit_exponent;
use super::super::simd::vectorised;
use super::blocks::{BLOCK, Ends, Value, Wide, cut_into};
use super::{Piece, Tile, gather};
use crate::element::Real;
use crate::norm::exact::{ExactSum, ReduceOp};
use crate::{Element, ElementType};

/// Adjacent dot products.
pub(super) struct Products<'a, T: Element> {
    operands: [&'a [T]; 2],
    norms: &'a [T::Norm],
    sums: Vec<ExactSum>,
    tiles: [Vec<T>; 2],
}

impl<'a, T: Element> Products<'a, T> {
    pub(super) fn new(x: &'a [T], g: &'a [T], norms: &'a [T::Norm]) -> Self {
        let sum = ExactSum::new(T::TYPE.layout().bits, ReduceOp::SumProducts);
        Self { operands: [x, g], norms, sums: vec![sum; norms.len()], tiles: [Vec::new(), Vec::new()] }
    }
}

impl<T: Element> Tile for Products<'_, T>
where
    T::Norm: Real,
{
    fn run(&mut self, pieces: &[Piece]) {
        let ([x, g], [of_x, of_g]) = (self.operands, &mut self.tiles);
        accumulate(&mut self.sums[0], gather(x, pieces, of_x), gather(g, pieces, of_g));
    }

    fn rows(&mut self, pieces: &[Piece]) {
        let ([x, g], [of_x, of_g]) = (self.operands, &mut self.tiles);
        let tiles = [gather(x, pieces, of_x), gather(g, pieces, of_g)];
        let width = self.sums.len();
        let mut columns: [Vec<T>; 2] = Default::default();
        for (n, sum) in self.sums.iter_mut().enumerate() {
            for (column, tile) in columns.iter_mut().zip(tiles) {
                column.clear();
                column.extend(tile.iter().skip(n).step_by(width));
            }
            accumulate(sum, &columns[0], &columns[1]);
        }
    }

    fn merge(&mut self, other: Self) {
        self.sums.iter_mut().zip(other.sums).for_each(|(sum, other)| sum.merge(&other));
    }

    fn output(&self, n: usize, to: ElementType) -> u64 {
        self.sums[n].round_scaled(to, unit_exponent(self.norms[n]))
    }
}

/// Adds products to a sum.
fn accumulate<T: Element>(sum: &mut ExactSum, x: &[T], g: &[T]) {
    for (x, g) in x.chunks(BLOCK).zip(g.chunks(BLOCK)) {
        if !whole(sum, x, g) {
            slowly(sum, x, g);
        }
    }
}

/// Adds a block, unless that is not exact.
fn whole<T: Element>(sum: &mut ExactSum, x: &[T], g: &[T]) -> bool {
    let (mut wide, layout) = ([[0.0; BLOCK]; 2], T::TYPE.layout());
    if layout.bits == 64 {
        // The product of two f64 is not exact in f64.
        return false;
    }
    let [of_x, of_g] = wide.each_mut().map(|wide| &mut wide[..x.len()]);
    widen(x, false, of_x);
    widen(g, false, of_g);
    let ends = [&*of_x, of_g].map(|wide| Ends::of::<f32>(f32::ends(wide), layout, false));
    let [Some(a), Some(b)] = ends else { return false };
    let ends = Ends { power: a.power + b.power, lowest: a.lowest + b.lowest };
    let mut products = [0.0; BLOCK];
    let products = &mut products[..x.len()];
    multiply(of_x, of_g, products);
    cut_into(sum, Value, products, ends)
}

vectorised! {
    fn multiply(x: &[f32], g: &[f32], products: &mut [f64]) {
        for ((product, x), g) in products.iter_mut().zip(x).zip(g) {
            *product = f64::from(*x) * f64::from(*g);
        }
    }
}

/// Adds product by product.
fn slowly<T: Element>(sum: &mut ExactSum, x: &[T], g: &[T]) {
    let layout = T::TYPE.layout();
    for (x, g) in x.iter().zip(g) {
        let (a, b) = (x.to_f64(), g.to_f64());
        if !a.is_finite() || !b.is_finite() {
            match a * b {
                product if product.is_nan() => sum.special.nan = true,
                product => sum.special.infinite[usize::from(product < 0.0)] = true,
            }
            continue;
        }
        let (m, exponent) = layout.decompose(Element::to_bits(*x));
        let (n, other) = layout.decompose(Element::to_bits(*g));
        let negative = a.is_sign_negative() != b.is_sign_negative();
        sum.add(negative, u128::from(m) * u128::from(n), exponent + other);
    }
}
