//! Exact reductions: the twin of `shaders/reduce.wgsl`. Of each output the elements are added up as integers
//! ([`ExactSum`]), block by block: blocks.rs adds a block in floating point, without an error.

mod blocks;
mod columns;
mod integers;

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::partition::Partition;
use crate::broadcast::Reduction;
use crate::exact::{ExactSum, ReduceOp};
use crate::{Element, ElementType, Result, with_element};

pub(crate) use blocks::accumulate;

/// Elements that one thread takes sooner than two, which have to be woken.
const SMALL: usize = 32 * 1024;

/// Elements of an output that a task takes at the most.
const TASK: usize = 256 * 1024;

/// Runs of neighbours shorter than this are gathered first.
const SHORT_RUN: usize = 64;

/// What is made of the elements of some outputs that lie side by side.
trait Tile<T>: Send {
    /// Takes in elements of the one output.
    fn run(&mut self, elements: &[T]);

    /// Takes in rows with an element for each of the outputs, in pieces of neighbours: where each begins, and its length.
    fn rows(&mut self, elements: &[T], pieces: &[(usize, usize)]);

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
        true => with_element!(to, U => {
            let result: &mut [U] = bytemuck::cast_slice_mut(result);
            reduce_tiles(elements, reduction, result, |count| columns::Floats::<T>::new(op, count));
        }),
        false => with_element!(to, U => {
            let result: &mut [U] = bytemuck::cast_slice_mut(result);
            reduce_tiles(elements, reduction, result, integers::Integers::<T>::new);
        }),
    }
    Ok(())
}

fn reduce_tiles<T: Element, U: Element, S: Tile<T>>(
    elements: &[T],
    reduction: &Reduction,
    result: &mut [U],
    new: impl Fn(usize) -> S + Sync,
) {
    if reduction.is_whole() {
        let total = Mutex::new(new(1));
        let parts = Partition::new::<T>(elements.len());
        parts.for_each(elements.chunks(parts.chunk), |chunk| {
            let mut part = new(1);
            part.run(chunk);
            total.lock().unwrap_or_else(PoisonError::into_inner).merge(part);
        });
        let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
        result[0] = U::from_bits(total.output(0, U::TYPE));
        return;
    }
    // Several outputs at once where their elements are neighbours.
    let width = if reduction.sum_run(0) >= 16 { columns::WIDTH } else { 1 };
    let tile = |(tile, result): (usize, &mut [U])| {
        let (first, count) = (tile * width, result.len());
        let per_task = (TASK / width).max(1);
        let task = |task: usize| {
            let mut part = new(count);
            let leaves = task * per_task..reduction.leaves.min((task + 1) * per_task);
            match width {
                1 => run(&mut part, elements, reduction, first, leaves),
                _ => rows(&mut part, elements, reduction, first, count, leaves),
            }
            part
        };
        let tasks = reduction.leaves.div_ceil(per_task);
        let total = match tasks {
            0 => new(count),
            1 => task(0),
            _ => (0..tasks)
                .into_par_iter()
                .map(task)
                .reduce_with(|mut a, b| {
                    a.merge(b);
                    a
                })
                .unwrap_or_else(|| new(count)),
        };
        for (n, result) in result.iter_mut().enumerate() {
            *result = U::from_bits(total.output(n, U::TYPE));
        }
    };
    match elements.len() {
        ..SMALL => result.chunks_mut(width).enumerate().for_each(tile),
        len => {
            let least = (SMALL / (len / result.len().max(1)).max(1)).div_ceil(width).max(1);
            result.par_chunks_mut(width).enumerate().with_min_len(least).for_each(tile);
        }
    }
}

/// Leaves of one output: runs of neighbours, short ones gathered.
fn run<T: Element>(
    part: &mut impl Tile<T>,
    elements: &[T],
    reduction: &Reduction,
    output: usize,
    leaves: std::ops::Range<usize>,
) {
    let mut gathered = Vec::new();
    let mut leaf = leaves.start;
    while leaf < leaves.end {
        let run = reduction.leaf_run(leaf).min(leaves.end - leaf);
        let neighbours = &elements[reduction.element(output, leaf)..][..run];
        leaf += run;
        if run >= SHORT_RUN || run == leaves.len() {
            part.run(neighbours);
            continue;
        }
        gathered.extend_from_slice(neighbours);
        if gathered.len() >= blocks::BLOCK {
            part.run(&gathered);
            gathered.clear();
        }
    }
    part.run(&gathered);
}

/// Leaves of several outputs that are neighbours, most of them.
fn rows<T: Element>(
    part: &mut impl Tile<T>,
    elements: &[T],
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
        part.rows(elements, &pieces);
    }
}

/// Takes several slices into a sum, on all cores.
pub(crate) fn accumulate_all(sum: &mut ExactSum, slices: &[(ElementType, &[u8])]) -> Result<()> {
    for (element, slice) in slices {
        with_element!(*element, T => super::elements::<T>(slice).map(drop))?;
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
