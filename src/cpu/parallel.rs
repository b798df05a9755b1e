//! Elementwise work over slices, on all cores where that pays, and the bounds that go with each element.
//!
//! What an inner loop uses is handed to it by value: behind a reference it might be what the loop writes, for all the
//! compiler knows, and it would not vectorise.

use crate::Element;
use crate::bounds::{Bound, Interval};
use crate::broadcast::Side;

/// Elements that one task takes: enough to pay for its start, few enough to stay in a core's own cache.
/// Rayon leaves a slice of no more to the calling thread. A multiple of the bits of a word of a mask.
pub const CHUNK: usize = 32 * 1024;

/// A bound beside a run of elements. What it is, is known when the loop is compiled.
pub trait Source<T>: Copy {
    /// Whether there is a bound.
    const PRESENT: bool;
    /// Whether it may be NaN.
    const NAN: bool;

    /// The bound of element `i`; where there is none, anything.
    fn at(self, i: usize) -> T;

    /// The same bound of the first `len` elements, so that the compiler knows how many there are.
    fn first(self, len: usize) -> Self;
}

#[derive(Clone, Copy)]
struct Absent;

impl<T: Element> Source<T> for Absent {
    const PRESENT: bool = false;
    const NAN: bool = false;

    #[inline(always)]
    fn at(self, _: usize) -> T {
        T::ZERO
    }

    #[inline(always)]
    fn first(self, _: usize) -> Self {
        self
    }
}

/// One value for the whole run: a number, or an element of a tensor, which may be NaN.
#[derive(Clone, Copy)]
struct Stays<T, const NAN: bool>(T);

impl<T: Element, const NAN: bool> Source<T> for Stays<T, NAN> {
    const PRESENT: bool = true;
    const NAN: bool = NAN;

    #[inline(always)]
    fn at(self, _: usize) -> T {
        self.0
    }

    #[inline(always)]
    fn first(self, _: usize) -> Self {
        self
    }
}

/// An element of a tensor for each element of the run.
#[derive(Clone, Copy)]
struct Moves<'a, T>(&'a [T]);

impl<T: Element> Source<T> for Moves<'_, T> {
    const PRESENT: bool = true;
    const NAN: bool = true;

    #[inline(always)]
    fn at(self, i: usize) -> T {
        self.0[i]
    }

    #[inline(always)]
    fn first(self, len: usize) -> Self {
        Self(&self.0[..len])
    }
}

/// What is done to a chunk of elements.
pub trait Work<T> {
    /// Does it to `len` elements from `start`, counted in the chunk. Bounds are counted from there.
    fn run(&mut self, start: usize, len: usize, lo: impl Source<T>, hi: impl Source<T>);
}

/// Does `work` to the `len` elements from `start`, counted in x, beside their bounds.
pub fn visit<T: Element>(bounds: &Interval<T, &[T]>, start: usize, len: usize, work: &mut impl Work<T>) {
    let Some(broadcast) = &bounds.broadcast else {
        return with_lo(bounds, [0, 0], [0, 0], (0, len), work);
    };
    for run in broadcast.runs(start..start + len) {
        with_lo(bounds, run.bounds, run.strides, (run.start - start, run.len), work);
    }
}

fn with_lo<T: Element>(
    bounds: &Interval<T, &[T]>,
    at: [usize; 2],
    strides: [usize; 2],
    run: (usize, usize),
    work: &mut impl Work<T>,
) {
    match bounds.side(Side::Lo) {
        Bound::Absent => with_hi(bounds, Absent, at, strides, run, work),
        Bound::Value(lo) => with_hi(bounds, Stays::<T, false>(*lo), at, strides, run, work),
        Bound::Tensor(lo) if strides[0] == 0 => {
            with_hi(bounds, Stays::<T, true>(lo[at[0]]), at, strides, run, work)
        }
        Bound::Tensor(lo) => with_hi(bounds, Moves(&lo[at[0]..at[0] + run.1]), at, strides, run, work),
    }
}

fn with_hi<T: Element>(
    bounds: &Interval<T, &[T]>,
    lo: impl Source<T>,
    at: [usize; 2],
    strides: [usize; 2],
    (start, len): (usize, usize),
    work: &mut impl Work<T>,
) {
    match bounds.side(Side::Hi) {
        Bound::Absent => work.run(start, len, lo, Absent),
        Bound::Value(hi) => work.run(start, len, lo, Stays::<T, false>(*hi)),
        Bound::Tensor(hi) if strides[1] == 0 => work.run(start, len, lo, Stays::<T, true>(hi[at[1]])),
        Bound::Tensor(hi) => work.run(start, len, lo, Moves(&hi[at[1]..at[1] + len])),
    }
}
