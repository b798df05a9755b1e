//! The bounds that go with each element of a slice.

use crate::Element;
use crate::bounds::{BoundBits, ResolvedBounds};
use crate::broadcast::{Run, Side};

/// A bound of a run of elements. Which kind it is, is known when the loop is compiled.
pub(super) trait BoundSource<T>: Copy {
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
pub(super) struct Splat<T> {
    value: T,
    present: bool,
}

impl<T: Element> Splat<T> {
    /// No bound.
    pub(super) fn absent(side: Side) -> Self {
        let layout = T::TYPE.layout();
        let unreachable = [layout.total_order_min(), layout.total_order_max()][side as usize];
        Self { value: T::from_bits(unreachable), present: false }
    }
}

impl<T: Element> BoundSource<T> for Splat<T> {
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
#[cfg(not(target_arch = "wasm32"))]
#[derive(Clone, Copy)]
struct PerElement<'a, T>(&'a [T]);

#[cfg(not(target_arch = "wasm32"))]
impl<T: Element> BoundSource<T> for PerElement<'_, T> {
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

/// A loop over a run of elements between bounds.
pub(super) trait RunKernel<T> {
    /// Works on `len` elements from `start`, counted in the chunk. Bounds are counted from there.
    fn run(&mut self, start: usize, len: usize, lo: impl BoundSource<T>, hi: impl BoundSource<T>);
}

/// Runs a kernel on the `len` elements from `start`, counted in x, with their bounds.
pub(super) fn for_each_run<T: Element>(
    bounds: &ResolvedBounds<&[T]>,
    start: usize,
    len: usize,
    kernel: &mut impl RunKernel<T>,
) {
    let Some(broadcast) = &bounds.broadcast else {
        let all = Run { start, len, bounds: [0, 0], strides: [0, 0] };
        return run_between(bounds, all, start, kernel);
    };
    for run in broadcast.runs(start..start + len) {
        run_between(bounds, run, start, kernel);
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn run_between<T: Element>(
    bounds: &ResolvedBounds<&[T]>,
    run: Run,
    chunk: usize,
    kernel: &mut impl RunKernel<T>,
) {
    match source(bounds, Side::Lo, run) {
        RunSource::Splat(lo) => with_hi(bounds, lo, run, chunk, kernel),
        RunSource::PerElement(lo) => with_hi(bounds, PerElement(lo), run, chunk, kernel),
        RunSource::Nan(lo) => with_hi(bounds, PerElement(&vec![lo; run.len]), run, chunk, kernel),
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn with_hi<T: Element>(
    bounds: &ResolvedBounds<&[T]>,
    lo: impl BoundSource<T>,
    run: Run,
    chunk: usize,
    kernel: &mut impl RunKernel<T>,
) {
    let (start, len) = (run.start - chunk, run.len);
    match source(bounds, Side::Hi, run) {
        RunSource::Splat(hi) => kernel.run(start, len, lo, hi),
        RunSource::PerElement(hi) => kernel.run(start, len, lo, PerElement(hi)),
        RunSource::Nan(hi) => kernel.run(start, len, lo, PerElement(&vec![hi; len])),
    }
}

/// What a bound is for a run.
enum RunSource<'a, T> {
    Splat(Splat<T>),
    PerElement(&'a [T]),
    /// One NaN for the whole run, which is rare: it goes the way of [`PerElement`], so that loops with one number need
    /// not look for NaN.
    Nan(T),
}

fn source<'a, T: Element>(bounds: &ResolvedBounds<&'a [T]>, side: Side, run: Run) -> RunSource<'a, T> {
    let at = run.bounds[side as usize];
    match *bounds.side(side) {
        BoundBits::Absent => RunSource::Splat(Splat::absent(side)),
        BoundBits::Value(bits) => RunSource::Splat(Splat { value: T::from_bits(bits), present: true }),
        BoundBits::Tensor(tensor) if run.strides[side as usize] == 1 => {
            RunSource::PerElement(&tensor[at..at + run.len])
        }
        BoundBits::Tensor(tensor) if tensor[at].is_nan() => RunSource::Nan(tensor[at]),
        BoundBits::Tensor(tensor) => RunSource::Splat(Splat { value: tensor[at], present: true }),
    }
}

/// Where code has to be [small](super::COMPACT): numbers are spread over the elements of a block, so that all bounds are of one kind.
#[cfg(target_arch = "wasm32")]
mod compact {
    use super::*;

    /// Elements of a block: whole words of a mask.
    const BLOCK: usize = 512;

    #[derive(Clone, Copy)]
    struct Block<'a, T> {
        values: &'a [T],
        present: bool,
    }

    impl<T: Element> BoundSource<T> for Block<'_, T> {
        const NAN: bool = true;

        #[inline(always)]
        fn is_present(self) -> bool {
            self.present
        }

        #[inline(always)]
        fn at(self, i: usize) -> T {
            self.values[i]
        }

        #[inline(always)]
        fn part(self, start: usize, len: usize) -> Self {
            Self { values: &self.values[start..start + len], ..self }
        }
    }

    pub(super) fn run_between<T: Element>(
        bounds: &ResolvedBounds<&[T]>,
        run: Run,
        chunk: usize,
        kernel: &mut impl RunKernel<T>,
    ) {
        let layout = T::TYPE.layout();
        let spread = |side| match source(bounds, side, run) {
            // Where there is no bound, one that is no NaN.
            RunSource::Splat(Splat { value, present: false }) if value.is_nan() => {
                let sign = if side == Side::Lo { layout.sign() } else { 0 };
                ([T::from_bits(layout.max_number() | sign); BLOCK], &[][..], false)
            }
            RunSource::Splat(Splat { value, present }) => ([value; BLOCK], &[][..], present),
            RunSource::Nan(value) => ([value; BLOCK], &[][..], true),
            RunSource::PerElement(values) => ([T::ZERO; BLOCK], values, true),
        };
        let sides = Side::BOTH.map(spread);
        for at in (0..run.len).step_by(BLOCK) {
            let len = BLOCK.min(run.len - at);
            let [lo, hi] = sides.each_ref().map(|(splat, values, present)| Block {
                values: values.get(at..at + len).unwrap_or(&splat[..len]),
                present: *present,
            });
            kernel.run(run.start - chunk + at, len, lo, hi);
        }
    }
}
#[cfg(target_arch = "wasm32")]
use compact::run_between;
