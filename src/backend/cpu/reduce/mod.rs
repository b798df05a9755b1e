//! Exact reductions: the twin of `shaders/reduce.wgsl`. The elements of each output are added up as integers
//! ([`ExactSum`]), block by block: blocks.rs adds a block in floating point, without an error.

mod blocks;
mod columns;
mod integers;
mod products;

use std::sync::{Mutex, PoisonError};

use bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use super::COMPACT;
use super::memory;
use super::operands::check_aligned;
use super::partition::Partition;
use crate::broadcast::Reduction;
use crate::element::lane::with_bits;
use crate::element::{Real, with_integer};
use crate::norm::exact::{ExactSum, ReduceOp};
use crate::{Element, ElementType, Result};

pub(super) use blocks::{BLOCK, accumulate};

/// Elements that one thread handles faster than two, which have to be woken.
const SMALL: usize = 32 * 1024;

/// Maximum elements of an output that a task takes.
const TASK: usize = 256 * 1024;

/// Runs of adjacent elements shorter than this are gathered first.
const SHORT_RUN: usize = 64;

/// Adjacent elements: where they begin, and their number.
pub(super) type Piece = (usize, usize);

/// The reduction of the elements of some adjacent outputs.
pub(super) trait Tile: Send {
    /// Adds elements of the only output.
    fn run(&mut self, pieces: &[Piece]);

    /// Adds rows with an element for each output.
    fn rows(&mut self, pieces: &[Piece]);

    fn merge(&mut self, other: Self);

    /// The bits of an output, an element of `to`.
    fn output(&self, n: usize, to: ElementType) -> u64;
}

/// Reduces elements of a type to `result`, elements of `to`, one per output. Sums of integers are clipped to their type.
pub(super) fn reduce(
    (element, elements): (ElementType, &[u8]),
    reduction: &Reduction,
    op: ReduceOp,
    to: ElementType,
    result: &mut [u8],
) {
    let size = element.size();
    if op == ReduceOp::Sum && reduction.leaves == 1 {
        // Nothing to add: a single element keeps its bits.
        for (n, result) in result.chunks_mut(size).enumerate() {
            result.copy_from_slice(&elements[reduction.element(n, 0) * size..][..size]);
        }
        return;
    }
    if element.is_float() {
        return with_bits!(element, B => reduce_tiles(size, reduction, to, result, &|_, count| {
            columns::Floats::<B>::new(element, cast_slice(elements), op, count)
        }));
    }
    with_integer!(element, T => reduce_tiles(size, reduction, to, result, &|_, count| {
        integers::Integers::<T>::new(cast_slice(elements), count)
    }));
}

/// The dot products of the elements of each output with others, as f32 (f64 for f64): each times the power of two that
/// brings its norm to between 1 and 2.
pub(super) fn dots<T: Element>(
    x: &[T],
    g: &[T],
    reduction: &Reduction,
    norms: &[T::Norm],
) -> Result<Vec<T::Norm>>
where
    T::Norm: Real,
{
    let mut dots = memory::zeroed::<T::Norm>(reduction.sums)?;
    let new = |first: usize, count: usize| products::Products::new(x, g, &norms[first..][..count]);
    reduce_tiles(size_of::<T>(), reduction, T::Norm::TYPE, cast_slice_mut(&mut dots), &new);
    Ok(dots)
}

/// Reduces elements of `size` bytes to elements of `to`. `new` creates the tile of some outputs, from the first and
/// their number.
pub(super) fn reduce_tiles<S: Tile>(
    size: usize,
    reduction: &Reduction,
    to: ElementType,
    result: &mut [u8],
    new: &(dyn Fn(usize, usize) -> S + Sync),
) {
    let len = reduction.leaves * reduction.sums;
    if reduction.is_whole() {
        let total = Mutex::new(new(0, 1));
        let parts = Partition::new(size, len);
        parts.for_each(&mut (0..len).step_by(parts.chunk), &|start| {
            let mut part = new(0, 1);
            part.run(&[(start, parts.chunk.min(len - start))]);
            total.lock().unwrap_or_else(PoisonError::into_inner).merge(part);
        });
        let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
        store(result, total.output(0, to));
        return;
    }
    // Several outputs at once if their elements are adjacent.
    let width = if reduction.sum_run(0) >= 16 { columns::WIDTH } else { 1 };
    let tile = |tile: usize, result: &mut [u8]| {
        let (first, count) = (tile * width, result.len() / to.size());
        let per_task = (TASK / width).max(1);
        let task = |task: usize| {
            let mut part = new(first, count);
            let leaves = task * per_task..reduction.leaves.min((task + 1) * per_task);
            match width {
                1 => run(&mut part, reduction, first, leaves),
                _ => rows(&mut part, reduction, first, count, leaves),
            }
            part
        };
        let total = match reduction.leaves.div_ceil(per_task) {
            0 => new(first, count),
            1 => task(0),
            tasks => {
                // In any order: sums are exact.
                let total = Mutex::new(new(first, count));
                for_each_task(tasks, &|n| {
                    let part = task(n);
                    total.lock().unwrap_or_else(PoisonError::into_inner).merge(part);
                });
                total.into_inner().unwrap_or_else(PoisonError::into_inner)
            }
        };
        for (n, result) in result.chunks_mut(to.size()).enumerate() {
            store(result, total.output(n, to));
        }
    };
    let least =
        if len < SMALL { usize::MAX } else { (SMALL / reduction.leaves.max(1)).div_ceil(width).max(1) };
    for_each_tile(result, width * to.size(), least, &tile);
}

/// Calls `work` with each number below `count`, on all cores.
fn for_each_task(count: usize, work: &(dyn Fn(usize) + Sync)) {
    match COMPACT {
        true => (0..count).for_each(work),
        false => (0..count).into_par_iter().for_each(work),
    }
}

/// Calls `work` with each piece of `bytes` bytes, on all cores, each of which takes at least `least` pieces.
fn for_each_tile(result: &mut [u8], bytes: usize, least: usize, work: &(dyn Fn(usize, &mut [u8]) + Sync)) {
    match COMPACT || least == usize::MAX {
        true => result.chunks_mut(bytes).enumerate().for_each(|(n, tile)| work(n, tile)),
        false => {
            let tiles = result.par_chunks_mut(bytes).enumerate().with_min_len(least);
            tiles.for_each(|(n, tile)| work(n, tile));
        }
    }
}

/// Stores an element of this many bytes, by its bits.
pub(super) fn store(element: &mut [u8], bits: u64) {
    match element.len() {
        1 => element.copy_from_slice(&(bits as u8).to_ne_bytes()),
        2 => element.copy_from_slice(&(bits as u16).to_ne_bytes()),
        4 => element.copy_from_slice(&(bits as u32).to_ne_bytes()),
        _ => element.copy_from_slice(&bits.to_ne_bytes()),
    }
}

/// Adds leaves of one output: runs of adjacent elements, short ones together.
fn run(part: &mut impl Tile, reduction: &Reduction, output: usize, leaves: std::ops::Range<usize>) {
    let (mut pieces, mut gathered) = (Vec::new(), 0);
    let mut leaf = leaves.start;
    while leaf < leaves.end {
        let run = reduction.leaf_run(leaf).min(leaves.end - leaf);
        let piece = (reduction.element(output, leaf), run);
        leaf += run;
        if run >= SHORT_RUN || run == leaves.len() {
            part.run(&[piece]);
            continue;
        }
        pieces.push(piece);
        gathered += run;
        if gathered >= blocks::BLOCK {
            part.run(&pieces);
            pieces.clear();
            gathered = 0;
        }
    }
    part.run(&pieces);
}

/// Elements of several pieces, one after the other; those of a single piece are not copied.
pub(super) fn gather<'a, T: Copy>(elements: &'a [T], pieces: &[Piece], room: &'a mut Vec<T>) -> &'a [T] {
    if let &[(start, len)] = pieces {
        return &elements[start..][..len];
    }
    room.clear();
    for &(start, len) in pieces {
        room.extend_from_slice(&elements[start..][..len]);
    }
    room
}

/// Adds leaves of several outputs, most of which are adjacent.
fn rows(
    part: &mut impl Tile,
    reduction: &Reduction,
    first: usize,
    count: usize,
    leaves: std::ops::Range<usize>,
) {
    let mut pieces = Vec::with_capacity(columns::HEIGHT);
    for from in leaves.clone().step_by(columns::HEIGHT) {
        pieces.clear();
        for leaf in from..leaves.end.min(from + columns::HEIGHT) {
            let mut output = first;
            while output < first + count {
                let len = reduction.sum_run(output).min(first + count - output);
                pieces.push((reduction.element(output, leaf), len));
                output += len;
            }
        }
        part.rows(&pieces);
    }
}

/// Adds several slices to a sum, on all cores.
pub(crate) fn accumulate_all(sum: &mut ExactSum, slices: &[(ElementType, &[u8])]) -> Result<()> {
    for (element, slice) in slices {
        check_aligned(*element, slice)?;
    }
    let (bits, op) = (sum.bits(), sum.op());
    let bytes = slices.iter().map(|(_, slice)| slice.len()).sum();
    let count = slices.iter().map(|(_, slice)| Partition::pieces(slice).count()).sum();
    let total = Mutex::new(sum);
    let mut pieces = slices
        .iter()
        .flat_map(|&(element, slice)| Partition::pieces(slice).map(move |piece| (element, piece)));
    Partition::of_list(bytes, count).for_each(&mut pieces, &|(element, piece)| {
        let mut part = ExactSum::new(bits, op);
        accumulate(&mut part, element, piece);
        total.lock().unwrap_or_else(PoisonError::into_inner).merge(&part);
    });
    Ok(())
}
