//! The bounds that go with each element of a slice.

use crate::Element;
use crate::bounds::{Bound, Interval};
use crate::broadcast::{Run, Side};

/// A bound beside a run of elements. What it is, is known when the loop is compiled.
pub trait Source<T>: Copy {
    /// Whether it may be NaN.
    const NAN: bool;

    /// Whether there is a bound: nothing ties with one that is absent.
    fn is_present(self) -> bool;

    /// The bound of element `i`; where there is none, one that no element is beyond.
    fn at(self, i: usize) -> T;

    /// The same bound from element `start` on, for `len` elements, so that the compiler knows how many there are.
    fn part(self, start: usize, len: usize) -> Self;
}

/// One number for the whole run, or none.
#[derive(Clone, Copy)]
struct One<T> {
    value: T,
    present: bool,
}

impl<T: Element> Source<T> for One<T> {
    const NAN: bool = false;

    #[inline(always)]
    fn is_present(self) -> bool {
        self.present
    }

    #[inline(always)]
    fn at(self, _: usize) -> T {
        self.value
    }

    #[inline(always)]
    fn part(self, _: usize, _: usize) -> Self {
        self
    }
}

/// An element of a tensor for each element of the run.
#[derive(Clone, Copy)]
struct Each<'a, T>(&'a [T]);

impl<T: Element> Source<T> for Each<'_, T> {
    const NAN: bool = true;

    #[inline(always)]
    fn is_present(self) -> bool {
        true
    }

    #[inline(always)]
    fn at(self, i: usize) -> T {
        self.0[i]
    }

    #[inline(always)]
    fn part(self, start: usize, len: usize) -> Self {
        Self(&self.0[start..start + len])
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
        let all = Run { start, len, bounds: [0, 0], strides: [0, 0] };
        return with_lo(bounds, all, start, work);
    };
    for run in broadcast.runs(start..start + len) {
        with_lo(bounds, run, start, work);
    }
}

fn with_lo<T: Element>(bounds: &Interval<T, &[T]>, run: Run, chunk: usize, work: &mut impl Work<T>) {
    match source(bounds, Side::Lo, run) {
        Beside::One(lo) => with_hi(bounds, lo, run, chunk, work),
        Beside::Each(lo) => with_hi(bounds, Each(lo), run, chunk, work),
        Beside::Nan(lo) => with_hi(bounds, Each(&vec![lo; run.len]), run, chunk, work),
    }
}

fn with_hi<T: Element>(
    bounds: &Interval<T, &[T]>,
    lo: impl Source<T>,
    run: Run,
    chunk: usize,
    work: &mut impl Work<T>,
) {
    let (start, len) = (run.start - chunk, run.len);
    match source(bounds, Side::Hi, run) {
        Beside::One(hi) => work.run(start, len, lo, hi),
        Beside::Each(hi) => work.run(start, len, lo, Each(hi)),
        Beside::Nan(hi) => work.run(start, len, lo, Each(&vec![hi; len])),
    }
}

/// What a bound is beside a run.
enum Beside<'a, T> {
    One(One<T>),
    Each(&'a [T]),
    /// One NaN for the whole run, which is rare: it goes the way of [`Each`], so that loops with one number need not
    /// look for NaN.
    Nan(T),
}

fn source<'a, T: Element>(bounds: &Interval<T, &'a [T]>, side: Side, run: Run) -> Beside<'a, T> {
    let at = run.bounds[side as usize];
    match *bounds.side(side) {
        Bound::Absent => {
            let format = T::TYPE.format();
            let beyond_all = [format.first(), format.last()][side as usize];
            Beside::One(One { value: T::from_bits(beyond_all), present: false })
        }
        Bound::Value(value) => Beside::One(One { value, present: true }),
        Bound::Tensor(tensor) if run.strides[side as usize] == 1 => Beside::Each(&tensor[at..at + run.len]),
        Bound::Tensor(tensor) if tensor[at].is_nan() => Beside::Nan(tensor[at]),
        Bound::Tensor(tensor) => Beside::One(One { value: tensor[at], present: true }),
    }
}
