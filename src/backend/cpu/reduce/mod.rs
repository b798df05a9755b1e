//! Exact reductions: the twin of `shaders/reduce.wgsl`. Of each output the elements are added up as integers
//! ([`ExactSum`]), block by block: blocks.rs adds a block in floating point, without an error.

mod blocks;
mod columns;
mod integers;
mod products;

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::COMPACT;
use super::memory;
use super::partition::Partition;
use crate::broadcast::Reduction;
use crate::exact::{ExactSum, ReduceOp};
use crate::{Element, ElementType, Result, with_element};

pub(super) use blocks::{BLOCK, accumulate};

/// Elements that one thread takes sooner than two, which have to be woken.
const SMALL: usize = 32 * 1024;

/// Elements of an output that a task takes at the most.
const TASK: usize = 256 * 1024;

/// Runs of neighbours shorter than this are gathered first.
const SHORT_RUN: usize = 64;

/// Neighbours: where they begin, and how many they are.
type Piece = (usize, usize);

/// What is made of the elements of some outputs that lie side by side.
trait Tile: Send {
    /// Takes in elements of the one output.
    fn run(&mut self, pieces: &[Piece]);

    /// Takes in rows with an element for each of the outputs.
    fn rows(&mut self, pieces: &[Piece]);

    fn merge(&mut self, other: Self);

    /// The bits of an output, an element of `to`.
    fn output(&self, n: usize, to: ElementType) -> u64;
}

/// Reduces `elements` to `result`, elements of `to`, one for each that is kept. Sums of integers are clipped to their type.
pub(super) fn reduce<T: Element>(
    elements: &[T],
    reduction: &Reduction,
    op: ReduceOp,
    to: ElementType,
    result: &mut [u8],
) -> Result<()> {
    if op == ReduceOp::Sum && reduction.leaves == 1 {
        // Nothing to add: one alone keeps its bits.
        let result: &mut [T] = bytemuck::cast_slice_mut(result);
        result.iter_mut().enumerate().for_each(|(n, result)| *result = elements[reduction.element(n, 0)]);
        return Ok(());
    }
    match T::TYPE.is_float() {
        true => {
            reduce_tiles::<T, _>(reduction, to, result, |_, count| columns::Floats::new(elements, op, count))
        }
        false => {
            reduce_tiles::<T, _>(reduction, to, result, |_, count| integers::Integers::new(elements, count));
        }
    }
    Ok(())
}

/// The dot products of the elements of each output with others, as f32 or, of f64, as f64: each times the power of two that
/// brings its norm to between 1 and 2.
pub(super) fn dots<T: Element>(
    x: &[T],
    g: &[T],
    reduction: &Reduction,
    norms: &[T::Norm],
) -> Result<Vec<T::Norm>> {
    let mut dots = memory::zeroed::<T::Norm>(reduction.sums)?;
    reduce_tiles::<T, _>(reduction, T::Norm::TYPE, bytemuck::cast_slice_mut(&mut dots), |first, count| {
        products::Products::new(x, g, &norms[first..][..count])
    });
    Ok(dots)
}

/// Reduces elements of T to elements of `to`. `new` makes the tile of so many outputs from one on.
fn reduce_tiles<T: Element, S: Tile>(
    reduction: &Reduction,
    to: ElementType,
    result: &mut [u8],
    new: impl Fn(usize, usize) -> S + Sync,
) {
    let len = reduction.leaves * reduction.sums;
    if reduction.is_whole() {
        let total = Mutex::new(new(0, 1));
        let parts = Partition::new::<T>(len);
        parts.for_each((0..len).step_by(parts.chunk), |start| {
            let mut part = new(0, 1);
            part.run(&[(start, parts.chunk.min(len - start))]);
            total.lock().unwrap_or_else(PoisonError::into_inner).merge(part);
        });
        let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
        store(result, total.output(0, to));
        return;
    }
    // Several outputs at once where their elements are neighbours.
    let width = if reduction.sum_run(0) >= 16 { columns::WIDTH } else { 1 };
    let tile = |(tile, result): (usize, &mut [u8])| {
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
        let tasks = reduction.leaves.div_ceil(per_task);
        let total = match tasks {
            0 => new(first, count),
            1 => task(0),
            _ if COMPACT => {
                let mut total = task(0);
                (1..tasks).for_each(|n| total.merge(task(n)));
                total
            }
            _ => (0..tasks)
                .into_par_iter()
                .map(task)
                .reduce_with(|mut a, b| {
                    a.merge(b);
                    a
                })
                .unwrap_or_else(|| new(first, count)),
        };
        for (n, result) in result.chunks_mut(to.size()).enumerate() {
            store(result, total.output(n, to));
        }
    };
    match len {
        _ if COMPACT || len < SMALL => result.chunks_mut(width * to.size()).enumerate().for_each(tile),
        _ => {
            let least = (SMALL / reduction.leaves.max(1)).div_ceil(width).max(1);
            result.par_chunks_mut(width * to.size()).enumerate().with_min_len(least).for_each(tile);
        }
    }
}

/// An element of so many bytes, by its bits.
fn store(element: &mut [u8], bits: u64) {
    match element.len() {
        1 => element.copy_from_slice(&(bits as u8).to_ne_bytes()),
        2 => element.copy_from_slice(&(bits as u16).to_ne_bytes()),
        4 => element.copy_from_slice(&(bits as u32).to_ne_bytes()),
        _ => element.copy_from_slice(&bits.to_ne_bytes()),
    }
}

/// Leaves of one output: runs of neighbours, short ones together.
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

/// Elements of several pieces, one after the other; those of one are not copied.
fn gather<'a, T: Copy>(elements: &'a [T], pieces: &[Piece], room: &'a mut Vec<T>) -> &'a [T] {
    if let &[(start, len)] = pieces {
        return &elements[start..][..len];
    }
    room.clear();
    for &(start, len) in pieces {
        room.extend_from_slice(&elements[start..][..len]);
    }
    room
}

/// Leaves of several outputs that are neighbours, most of them.
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

/// Takes several slices into a sum, on all cores.
pub(crate) fn accumulate_all(sum: &mut ExactSum, slices: &[(ElementType, &[u8])]) -> Result<()> {
    for (element, slice) in slices {
        with_element!(*element, T => super::operands::elements::<T>(slice).map(drop))?;
    }
    let (bits, op) = (sum.bits(), sum.op());
    let bytes = slices.iter().map(|(_, slice)| slice.len()).sum();
    let count = slices.iter().map(|(_, slice)| Partition::pieces(slice).count()).sum();
    let total = Mutex::new(sum);
    let pieces = slices
        .iter()
        .flat_map(|&(element, slice)| Partition::pieces(slice).map(move |piece| (element, piece)));
    Partition::of_list(bytes, count).for_each(pieces, |(element, piece)| {
        let mut part = ExactSum::new(bits, op);
        with_element!(element, T => accumulate::<T>(&mut part, bytemuck::cast_slice(piece)));
        total.lock().unwrap_or_else(PoisonError::into_inner).merge(&part);
    });
    Ok(())
}
