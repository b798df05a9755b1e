//! Sums over the broadcast dimensions: the twin of `shaders/sum.wgsl`.

use rayon::prelude::*;

use crate::Element;
use crate::broadcast::Reduction;
use crate::element::accum::Accumulator;

/// Leaves that a task takes of each sum: a power of two, so that what it returns is a node of the tree.
const LEAVES: usize = 16 * 1024;

/// Elements that one thread sums sooner than two, which have to be woken.
const SMALL: usize = 32 * 1024;

/// The sums of `elements`, one for each element of `result`, in the order of
/// [`reference::sum`](crate::reference::sum).
pub(super) fn sum<T: Element>(elements: &[T], reduction: &Reduction, result: &mut [T]) {
    match reduction.leaves {
        0 => result.fill(T::ZERO),
        // Nothing to add.
        1 => result.iter_mut().enumerate().for_each(|(sum, result)| {
            *result = elements[reduction.element(sum, 0)];
        }),
        // Several sums at once where their elements are neighbours.
        _ if reduction.sum_run(0) >= 16 => tiles::<T, 64>(elements, reduction, result),
        _ => tiles::<T, 1>(elements, reduction, result),
    }
}

/// `N` sums side by side.
fn tiles<T: Element, const N: usize>(elements: &[T], reduction: &Reduction, result: &mut [T]) {
    let sum = |(tile, result): (usize, &mut [T])| {
        let part = |part: usize| part_of::<T, N>(elements, reduction, tile * N, result.len(), part);
        let mut tree = Tree::<T, N>::default();
        match reduction.leaves.div_ceil(LEAVES) {
            1 => tree.push(part(0)),
            parts => {
                let parts: Vec<_> = (0..parts).into_par_iter().map(part).collect();
                parts.into_iter().for_each(|part| tree.push(part));
            }
        }
        for (result, sum) in result.iter_mut().zip(tree.finish()) {
            *result = T::from_accum(sum);
        }
    };
    match elements.len() {
        ..SMALL => result.chunks_mut(N).enumerate().for_each(sum),
        _ => result.par_chunks_mut(N).enumerate().for_each(sum),
    }
}

/// The sums of a task's share of the leaves, for `count` sums from `first` on.
fn part_of<T: Element, const N: usize>(
    elements: &[T],
    reduction: &Reduction,
    first: usize,
    count: usize,
    part: usize,
) -> [T::Accum; N] {
    let neighbours = reduction.sum_run(first) >= count;
    let mut tree = Tree::<T, N>::default();
    let mut leaf = part * LEAVES;
    let end = reduction.leaves.min(leaf + LEAVES);
    while leaf < end {
        let run = reduction.leaf_run(leaf).min(end - leaf);
        let at = reduction.element(first, leaf);
        for i in 0..run {
            let mut sums = [T::Accum::IDENTITY; N];
            if neighbours {
                let elements = &elements[at + i..][..count];
                sums.iter_mut().zip(elements).for_each(|(sum, e)| *sum = e.to_accum());
            } else {
                for (k, sum) in sums.iter_mut().enumerate().take(count) {
                    *sum = elements[reduction.element(first + k, leaf + i)].to_accum();
                }
            }
            tree.push(sums);
        }
        leaf += run;
    }
    tree.finish()
}

/// Pairwise sums of what is pushed, `N` side by side. Level `n` holds the sum of `2^n` leaves that wait for a
/// neighbour.
struct Tree<T: Element, const N: usize> {
    levels: Vec<Option<[T::Accum; N]>>,
}

impl<T: Element, const N: usize> Default for Tree<T, N> {
    fn default() -> Self {
        Self { levels: Vec::new() }
    }
}

impl<T: Element, const N: usize> Tree<T, N> {
    fn push(&mut self, mut sums: [T::Accum; N]) {
        for level in &mut self.levels {
            match level.take() {
                Some(before) => add::<T, N>(&before, &mut sums),
                None => {
                    *level = Some(sums);
                    return;
                }
            }
        }
        self.levels.push(Some(sums));
    }

    /// The root: what has no neighbour goes up a level as it is.
    fn finish(self) -> [T::Accum; N] {
        let mut waiting = self.levels.into_iter().flatten();
        let mut sums = waiting.next().unwrap_or([T::Accum::IDENTITY; N]);
        for before in waiting {
            add::<T, N>(&before, &mut sums);
        }
        sums
    }
}

fn add<T: Element, const N: usize>(before: &[T::Accum; N], sums: &mut [T::Accum; N]) {
    for (&before, sum) in before.iter().zip(sums) {
        *sum = before.add(*sum);
    }
}
