//! Softmax along slices: rows at once, each in the caches; otherwise the greatest element of each slice, then the exact sum of its exponentials, then every element.

mod exponential;
mod shares;
mod tiles;

use bytemuck::cast_slice_mut;

use super::convert::widen;
use super::memory;
use super::operands::{check_aligned, elements};
use super::partition::Partition;
use super::reduce::{self, reduce_tiles};
use super::simd::vectorised;
use crate::broadcast::Slices;
use crate::element::convert::{Overflow, from_f32, to_f32};
use crate::element::with_short_float;
use crate::{Element, ElementType, Error, Op, Result, Shape};

use exponential::{BLOCK, Lanes, exponentials, greatest_of, to_32_bits, units_of};
use shares::{Slice, divide_all, share};
use tiles::{Exponentials, Greatest};

/// Computes the softmax of slices along axes (counted from 0) of elements of a type: `x` has the shape, and so has `y`.
///
/// # Errors
/// [`Error::Unsupported`] for other elements than floats of up to 32 bits, [`Error::InvalidAxes`], [`Error::TooManyAxes`](crate::Error::TooManyAxes), [`Error::LengthMismatch`],
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
pub fn softmax(element: ElementType, shape: &Shape, axes: &[usize], x: &[u8], y: &mut [u8]) -> Result<()> {
    check(Op::Softmax, element, shape, &[x, y])?;
    let slices = Slices::along(shape, axes)?;
    of_slices(element, x, y, &slices)
}

/// The gradient of [`softmax`] from its result `y`, for the upstream gradient `g`, into `gx`.
///
/// # Errors
/// As [`softmax`].
pub fn softmax_backward(
    element: ElementType,
    shape: &Shape,
    axes: &[usize],
    [y, g]: [&[u8]; 2],
    gx: &mut [u8],
) -> Result<()> {
    check(Op::SoftmaxBackward, element, shape, &[y, g, gx])?;
    let slices = Slices::along(shape, axes)?;
    backward_of_slices(element, [y, g], gx, &slices)
}

fn check(op: Op, element: ElementType, shape: &Shape, operands: &[&[u8]]) -> Result<()> {
    op.check_domain(element)?;
    for operand in operands {
        check_aligned(element, operand)?;
        let (expected, actual) = (shape.len(), operand.len() / element.size());
        if expected != actual {
            return Err(Error::LengthMismatch { shape: shape.dims().to_vec(), expected, actual });
        }
    }
    Ok(())
}

/// Computes the softmax of x into y.
pub(super) fn of_slices(element: ElementType, x: &[u8], y: &mut [u8], slices: &Slices) -> Result<()> {
    match element {
        ElementType::F32 => softmax_of::<f32>(elements(x)?, y, slices),
        _ => with_short_float!(element, T => softmax_of::<T>(elements(x)?, y, slices))
            .unwrap_or_else(|| Op::Softmax.check_domain(element)),
    }
}

/// Computes the gradient of a softmax, from its result y and the upstream gradient g, into gx.
pub(super) fn backward_of_slices(
    element: ElementType,
    [y, g]: [&[u8]; 2],
    gx: &mut [u8],
    slices: &Slices,
) -> Result<()> {
    match element {
        ElementType::F32 => gradient_of::<f32>(elements(y)?, elements(g)?, gx, slices),
        _ => with_short_float!(element, T => gradient_of::<T>(elements(y)?, elements(g)?, gx, slices))
            .unwrap_or_else(|| Op::SoftmaxBackward.check_domain(element)),
    }
}

fn softmax_of<T: Element>(x: &[T], y: &mut [u8], slices: &Slices) -> Result<()> {
    let Slices { reduction, broadcast, .. } = slices;
    let size = size_of::<T>();
    match reduction.axes[..] {
        _ if x.is_empty() => return Ok(()),
        [.., (len, 1, true)] if len == reduction.leaves && len <= MAX_ROW => {
            rows(x, cast_slice_mut(y), len);
            return Ok(());
        }
        _ => {}
    }
    let mut greatest = memory::zeroed::<f32>(reduction.sums)?;
    let found = cast_slice_mut(&mut greatest);
    reduce_tiles(size, reduction, ElementType::F32, found, &|_, count| Greatest::new(x, count));
    let mut sums = memory::zeroed::<u64>(reduction.sums)?;
    let new = |first: usize, count: usize| Exponentials::new(x, &greatest[first..][..count]);
    reduce_tiles(size, reduction, ElementType::U64, cast_slice_mut(&mut sums), &new);
    let mut states = Vec::new();
    memory::reserve(&mut states, sums.len())?;
    states.extend(greatest.iter().zip(sums).map(|(&greatest, sum)| Slice::new(greatest, sum)));

    Partition::new(size, x.len()).for_each_chunk(y, size, &|start, y| {
        let y: &mut [T] = cast_slice_mut(y);
        for run in broadcast.runs(start..start + y.len()) {
            let (x, y) = (&x[run.start..][..run.len], &mut y[run.start - start..][..run.len]);
            let of_run = &states[run.first[0]..];
            for ((n, x), y) in x.chunks(BLOCK).enumerate().zip(y.chunks_mut(BLOCK)) {
                match run.strides[0] {
                    0 => share(x, y, of_run[0]),
                    _ => share(x, y, &of_run[n * BLOCK..][..x.len()]),
                }
            }
        }
    });
    Ok(())
}

/// Maximum elements of a row whose exponentials are kept.
const MAX_ROW: usize = 16 * 1024;

/// Bytes of rows that a task takes.
const TASK: usize = 128 * 1024;

/// The softmax of rows, each exponential computed once.
fn rows<T: Element>(x: &[T], y: &mut [T], len: usize) {
    let per_task = (TASK / size_of_val(&x[..len])).max(1) * len;
    let work = |(x, y): (&[T], &mut [T])| {
        let (mut wide, mut e) = (vec![0.0; len], vec![0.0; len]);
        for (x, y) in x.chunks(len).zip(y.chunks_mut(len)) {
            widen(x, false, &mut wide);
            let greatest = greatest_of(&wide);
            let units = units_of(greatest);
            exponentials(&wide, |_| units, &mut e);
            let mut lanes = Lanes::new();
            lanes.add(&e);
            divide_all(&e, Slice::new(greatest, to_32_bits(lanes.total())), y);
        }
    };
    let count = x.len().div_ceil(per_task);
    let mut tasks = x.chunks(per_task).zip(y.chunks_mut(per_task));
    Partition::of_list(size_of_val(x), count).for_each(&mut tasks, &work);
}

fn gradient_of<T: Element<Norm = f32>>(y: &[T], g: &[T], gx: &mut [u8], slices: &Slices) -> Result<()> {
    let Slices { reduction, broadcast, .. } = slices;
    // A norm of 1 leaves the products as they are.
    let mut ones = memory::zeroed::<f32>(reduction.sums)?;
    ones.fill(1.0);
    let dots = reduce::dots(y, g, reduction, &ones)?;
    let size = size_of::<T>();
    Partition::new(size, y.len()).for_each_chunk(gx, size, &|start, gx| {
        let gx: &mut [T] = cast_slice_mut(gx);
        for run in broadcast.runs(start..start + gx.len()) {
            let here = run.start..run.start + run.len;
            let (y, g, gx) = (&y[here.clone()], &g[here], &mut gx[run.start - start..][..run.len]);
            let first = run.first[0];
            match run.strides[0] {
                0 => project(|_| dots[first], y, g, gx),
                _ => project(|i| dots[first + i], y, g, gx),
            }
        }
    });
    Ok(())
}

vectorised! {
    /// `y * (g - along)`, in f32 with a rounding after each step.
    fn project<T: Element, F: Fn(usize) -> f32>(along: F, y: &[T], g: &[T], gx: &mut [T]) {
        for (i, ((gx, &y), &g)) in gx.iter_mut().zip(y).zip(g).enumerate() {
            let gradient = to_f32(y, false) * (to_f32(g, false) - along(i));
            let nan = T::from_bits(T::TYPE.layout().quiet_nan());
            *gx = if gradient.is_nan() { nan } else { from_f32(gradient, Overflow::Infinity) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_errors_and_change_nothing() {
        let shape = Shape::new([2, 3]).unwrap();
        let (x, mut y) = ([0u8; 24], [7u8; 24]);
        let run = |element, axes: &[usize], x: &[u8], y: &mut [u8]| softmax(element, &shape, axes, x, y);
        let f32 = ElementType::F32;
        assert!(matches!(run(f32, &[2], &x, &mut y), Err(Error::InvalidAxes { .. })));
        assert!(matches!(run(f32, &[1], &x[..20], &mut y), Err(Error::LengthMismatch { .. })));
        assert!(matches!(run(ElementType::I32, &[1], &x, &mut y), Err(Error::Unsupported { .. })));
        assert!(matches!(run(ElementType::F64, &[1], &x, &mut y), Err(Error::Unsupported { .. })));
        let backward = softmax_backward(f32, &shape, &[1], [&x, &x[..20]], &mut y);
        assert!(matches!(backward, Err(Error::LengthMismatch { .. })));
        assert_eq!(y, [7; 24]);
    }
}
