//! The bounds of each element of a slice.

use bytemuck::cast_slice;

use crate::broadcast::{BoundBits, BroadcastInputs, MAX_BROADCAST, Run};
use crate::element::lane::Lane;
use crate::op::Operand;

/// Both bounds of a run of elements. A loop is compiled for two kinds: [`Splats`] for the common case, and [`Blocks`] for
/// the rest.
pub(super) trait BoundSource<L>: Copy {
    /// Whether a bound may be NaN.
    const NAN: bool;

    /// Which bounds are present: nothing ties with an absent one.
    fn present(self) -> [bool; 2];

    /// The bounds of element `i`; the type's extreme value if a bound is absent.
    fn at(self, i: usize) -> [L; 2];

    /// The same bounds from element `start` on, for `len` elements, so that the compiler knows their number.
    fn part(self, start: usize, len: usize) -> Self;
}

/// One number for the whole run on either side, or an absent bound.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Clone, Copy)]
pub(super) struct Splats<L> {
    values: [L; 2],
    present: [bool; 2],
}

#[cfg(not(target_arch = "wasm32"))]
impl<L: Lane> BoundSource<L> for Splats<L> {
    const NAN: bool = false;

    #[inline(always)]
    fn present(self) -> [bool; 2] {
        self.present
    }

    #[inline(always)]
    fn at(self, _: usize) -> [L; 2] {
        self.values
    }

    #[inline(always)]
    fn part(self, _: usize, _: usize) -> Self {
        self
    }
}

/// A lower and an upper bound for each element of the run.
#[derive(Clone, Copy)]
pub(super) struct Blocks<'a, L> {
    values: [&'a [L]; 2],
    present: [bool; 2],
}

impl<L: Lane> BoundSource<L> for Blocks<'_, L> {
    const NAN: bool = true;

    #[inline(always)]
    fn present(self) -> [bool; 2] {
        self.present
    }

    #[inline(always)]
    fn at(self, i: usize) -> [L; 2] {
        let [lo, hi] = self.values;
        [lo[i], hi[i]]
    }

    #[inline(always)]
    fn part(self, start: usize, len: usize) -> Self {
        let [lo, hi] = self.values;
        Self { values: [&lo[start..start + len], &hi[start..start + len]], ..self }
    }
}

/// The bounds of a run of elements.
pub(super) enum RunBounds<'a, L> {
    // Compact builds have only one kind.
    #[cfg(not(target_arch = "wasm32"))]
    Splats(Splats<L>),
    Blocks(Blocks<'a, L>),
}

/// Runs a block with the bounds of a run, of either kind.
macro_rules! with_bounds {
    ($bounds:expr, $name:ident => $body:expr) => {
        match $bounds {
            #[cfg(not(target_arch = "wasm32"))]
            $crate::backend::cpu::bound_source::RunBounds::Splats($name) => $body,
            $crate::backend::cpu::bound_source::RunBounds::Blocks($name) => $body,
        }
    };
}
pub(super) use with_bounds;

/// One side of the bounds of a run.
#[derive(Clone, Copy)]
enum Source<'a, L> {
    Splat { value: L, present: bool },
    PerElement(&'a [L]),
}

/// Calls `run` for each run of the `len` elements from `start`, counted in x: with its start, counted from `start`, its
/// length and its bounds.
pub(super) fn for_each_run<L: Lane>(
    bounds: &BroadcastInputs<&[u8]>,
    (start, len): (usize, usize),
    run: &mut dyn FnMut(usize, usize, RunBounds<'_, L>),
) {
    let mut spread = Spread::default();
    for_each_source(bounds, (start, len), &mut |at, len, sides| {
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(splats) = splats(sides, L::format(bounds.element.layout())) {
            return run(at, len, RunBounds::Splats(splats));
        }
        spread.run(sides, (at, len), &mut |at, len, blocks| run(at, len, RunBounds::Blocks(blocks)));
    });
}

/// Does the same for a loop that is compiled only for blocks, since it is rare.
pub(super) fn for_each_block<L: Lane>(
    bounds: &BroadcastInputs<&[u8]>,
    (start, len): (usize, usize),
    run: &mut dyn FnMut(usize, usize, Blocks<'_, L>),
) {
    let mut spread = Spread::default();
    for_each_source(bounds, (start, len), &mut |at, len, sides| spread.run(sides, (at, len), run));
}

/// Takes the start of a run, its length, and both sides.
type OnSources<'a, L> = dyn FnMut(usize, usize, [Source<'_, L>; 2]) + 'a;

fn for_each_source<L: Lane>(
    bounds: &BroadcastInputs<&[u8]>,
    (start, len): (usize, usize),
    run: &mut OnSources<'_, L>,
) {
    let sides = |piece: Run| [source(bounds, Operand::Lo, piece), source(bounds, Operand::Hi, piece)];
    let still = [0; MAX_BROADCAST];
    match &bounds.broadcast {
        None => run(0, len, sides(Run { start, len, first: still, strides: still })),
        Some(broadcast) => broadcast
            .runs(start..start + len)
            .for_each(|piece| run(piece.start - start, piece.len, sides(piece))),
    }
}

fn source<'a, L: Lane>(bounds: &BroadcastInputs<&'a [u8]>, operand: Operand, run: Run) -> Source<'a, L> {
    let (index, bound) = bounds.find(operand);
    let at = run.first[index];
    match *bound {
        // A bound that no element is beyond.
        BoundBits::Absent => {
            let [least, greatest] = bounds.element.layout().ends();
            let bits = if operand == Operand::Hi { greatest } else { least };
            Source::Splat { value: L::from_bits(bits), present: false }
        }
        BoundBits::Value(bits) => Source::Splat { value: L::from_bits(bits), present: true },
        BoundBits::Tensor(tensor) => match run.strides[index] {
            0 => Source::Splat { value: cast_slice(tensor)[at], present: true },
            _ => Source::PerElement(&cast_slice(tensor)[at..at + run.len]),
        },
    }
}

/// Two numbers for a run. A NaN for a whole run is rare: it is not a splat, so that loops with one number need not check for
/// NaN.
#[cfg(not(target_arch = "wasm32"))]
fn splats<L: Lane>(sides: [Source<'_, L>; 2], format: L::Format) -> Option<Splats<L>> {
    let [Source::Splat { value: lo, present: has_lo }, Source::Splat { value: hi, present: has_hi }] = sides
    else {
        return None;
    };
    let nan = lo.is_nan(format) | hi.is_nan(format);
    (!nan).then_some(Splats { values: [lo, hi], present: [has_lo, has_hi] })
}

/// Elements of a block that a number is spread over: whole words of a mask.
const BLOCK: usize = 512;

/// Room for a number of each side, spread over the elements of a block.
struct Spread<L>([Vec<L>; 2]);

impl<L> Default for Spread<L> {
    fn default() -> Self {
        Self([const { Vec::new() }; 2])
    }
}

impl<L: Lane> Spread<L> {
    /// Calls `run` for blocks with bounds for each element.
    fn run(
        &mut self,
        sides: [Source<'_, L>; 2],
        (start, len): (usize, usize),
        run: &mut dyn FnMut(usize, usize, Blocks<'_, L>),
    ) {
        if let [Source::PerElement(lo), Source::PerElement(hi)] = sides {
            return run(start, len, Blocks { values: [lo, hi], present: [true; 2] });
        }
        let mut present = [true; 2];
        for ((side, room), present) in sides.iter().zip(&mut self.0).zip(&mut present) {
            if let Source::Splat { value, present: there } = *side {
                room.clear();
                room.resize(len.min(BLOCK), value);
                *present = there;
            }
        }
        for at in (0..len).step_by(BLOCK) {
            let here = BLOCK.min(len - at);
            let values = [0, 1].map(|n: usize| match sides[n] {
                Source::Splat { .. } => &self.0[n][..here],
                Source::PerElement(elements) => &elements[at..at + here],
            });
            run(start + at, here, Blocks { values, present });
        }
    }
}
