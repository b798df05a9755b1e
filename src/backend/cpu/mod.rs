//! The CPU path: the operations over slices, on the cores of the caller's rayon pool.
//!
//! Elements are compared as numbers here (a CPU follows IEEE 754; 16-bit floats are compared by order keys) and
//! selected, so that the compiler can vectorise for the machine's instructions; the conformance tests check it against
//! `reference`. Large slices are shared among the threads of the pool that the caller runs in:
//! [`rayon::ThreadPool::install`] chooses it, otherwise it is the global one.
//!
//! ```
//! use wgclip::bounds::BroadcastInputs;
//! use wgclip::cpu;
//!
//! let mut x = [-2.0f32, 0.5, 7.0];
//! cpu::clip_in_place(&mut x, &BroadcastInputs::values(Some(0.0f32), Some(1.0))?)?;
//! assert_eq!(x, [0.0, 0.5, 1.0]);
//! # Ok::<(), wgclip::Error>(())
//! ```

mod activation;
mod affine;
mod backend;
mod backward;
mod bound_source;
mod calibrate;
mod clip;
mod clip_to;
mod convert;
mod functions;
mod map;
mod mask;
pub(crate) mod memory;
mod operands;
mod partition;
mod quantile;
mod quantize;
pub(crate) mod reduce;
mod run;
mod scale;
pub(crate) mod scaling;
mod simd;
mod softmax;

pub(crate) use backend::{Buffer, Cpu};
pub use calibrate::{calibrate, calibrate_in_passes};
pub use operands::mask_len;
pub use partition::on_this_thread;
pub use quantile::{quantiles, quantiles_along, quantiles_in_passes};
pub use run::run;
pub(crate) use run::run_call;
pub use softmax::{softmax, softmax_backward};

use bytemuck::{cast_slice, cast_slice_mut};

use operands::check_len;

use crate::broadcast::BroadcastInputs;
use crate::call::Arguments;
use crate::norm::Scaling;
use crate::{BackwardRule, Element, ElementType, Error, Op, Result};

/// Optimise for size: one in-place loop per operation, for bounds of any kind, and no thread pool. A page waits for all the code
/// of its module, and has one thread.
const COMPACT: bool = cfg!(target_arch = "wasm32");

/// The maximum number of threads that the CPU path uses: those of the pool that the caller runs in.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// Clips `x` into `y`: `y[i] = clip(x[i])`, as `clip` of the reference says.
///
/// # Errors
/// [`Error::LengthMismatch`] if slices differ in length or do not fill the shapes of tensor bounds,
/// [`Error::TypeMismatch`] for bounds of another type.
pub fn clip<T: Element>(x: &[T], bounds: &BroadcastInputs<&[T]>, y: &mut [T]) -> Result<()> {
    typed(Op::Clip, &[x], bounds, BackwardRule::default(), &mut [Some(cast_slice_mut(y))])
}

/// Clips `x` into `y`, which may have another float type, as `clip_to` of the reference says.
///
/// # Errors
/// As [`clip`]; [`Error::Unsupported`] for integers, unless both have the same type.
pub fn clip_to<T: Element, U: Element>(x: &[T], bounds: &BroadcastInputs<&[T]>, y: &mut [U]) -> Result<()> {
    check_len(x.len(), y.len())?;
    let bounds = as_bytes(bounds)?;
    let arguments = Arguments { to: Some(U::TYPE), ..Arguments::new(&bounds) };
    run(Op::ClipTo, x.len(), &[cast_slice(x)], &mut [Some(cast_slice_mut(y))], &arguments)
}

/// Clips `x` in place.
///
/// # Errors
/// As [`clip`].
pub fn clip_in_place<T: Element>(x: &mut [T], bounds: &BroadcastInputs<&[T]>) -> Result<()> {
    typed(Op::Clip, &[], bounds, BackwardRule::default(), &mut [Some(cast_slice_mut(x))])
}

/// Computes the gradient that reaches `x`, into `gx`, from the upstream gradient `g`: a copy of `g` under the
/// straight-through rule.
///
/// # Errors
/// As [`clip`].
pub fn clip_backward<T: Element>(
    x: &[T],
    g: &[T],
    bounds: &BroadcastInputs<&[T]>,
    rule: BackwardRule,
    gx: &mut [T],
) -> Result<()> {
    typed(Op::ClipBackward, &[x, g], bounds, rule, &mut [Some(cast_slice_mut(gx))])
}

/// Computes the same in place of the upstream gradient.
///
/// # Errors
/// As [`clip_backward`].
pub fn clip_backward_in_place<T: Element>(
    x: &[T],
    g: &mut [T],
    bounds: &BroadcastInputs<&[T]>,
    rule: BackwardRule,
) -> Result<()> {
    typed(Op::ClipBackward, &[x], bounds, rule, &mut [Some(cast_slice_mut(g))])
}

/// Computes the gradients that reach `x` and its bounds from the upstream gradient `g`, where requested: into `gx`, and into the
/// two of `of_bounds`, which have an element for each of the lower and of the upper bound (one for a value). These are summed over
/// what a bound broadcasts to, as `sum` of the reference says.
///
/// ```
/// use wgclip::bounds::BroadcastInputs;
/// use wgclip::{BackwardRule, cpu};
///
/// let bounds = BroadcastInputs::values(None, Some(6.0f32))?;
/// let (mut gx, mut ghi) = ([0.0; 3], [0.0]);
/// let of_bounds = [None, Some(&mut ghi[..])];
/// let (x, g) = ([5.0f32, 7.0, 8.0], [1.0, 10.0, 100.0]);
/// cpu::clip_backward_bounds(&x, &g, &bounds, BackwardRule::default(), Some(&mut gx), of_bounds)?;
/// assert_eq!((gx, ghi), ([1.0, 0.0, 0.0], [110.0]));
/// # Ok::<(), wgclip::Error>(())
/// ```
///
/// # Errors
/// As [`clip`]; [`Error::NoBound`] if the gradient of an absent bound is requested.
pub fn clip_backward_bounds<T: Element>(
    x: &[T],
    g: &[T],
    bounds: &BroadcastInputs<&[T]>,
    rule: BackwardRule,
    gx: Option<&mut [T]>,
    of_bounds: [Option<&mut [T]>; 2],
) -> Result<()> {
    let bytes = as_bytes(bounds)?;
    let arguments = Arguments { rule, ..Arguments::new(&bytes) };
    let [lo, hi] = of_bounds.map(|gradient| gradient.map(cast_slice_mut));
    let outputs = &mut [gx.map(cast_slice_mut), lo, hi];
    run(Op::ClipBackwardBounds, x.len(), &[cast_slice(x), cast_slice(g)], outputs, &arguments)
}

/// Clips `x` into `y`, and sets bit `i % 64` of `mask[i / 64]` where the gradient of element `i` reaches x.
///
/// # Errors
/// As [`clip`] (a mask has [`mask_len`] words); [`Error::RuleWithoutKernel`] for a rule that does not
/// [fit a mask](BackwardRule::fits_mask), and for the straight-through rule, which needs no mask.
pub fn clip_with_mask<T: Element>(
    x: &[T],
    bounds: &BroadcastInputs<&[T]>,
    rule: BackwardRule,
    y: &mut [T],
    mask: &mut [u64],
) -> Result<()> {
    let outputs = &mut [Some(cast_slice_mut(y)), Some(cast_slice_mut(mask))];
    typed(Op::ClipWithMask, &[x], bounds, rule, outputs)
}

/// Computes the gradient that reaches x, into `gx`, from a mask and the upstream gradient `g`: `g` where the bit is
/// set, else zero.
///
/// # Errors
/// [`Error::LengthMismatch`] if slices differ in length (a mask has [`mask_len`] words).
pub fn mask_backward<T: Element>(mask: &[u64], g: &[T], gx: &mut [T]) -> Result<()> {
    by_mask(&[cast_slice(mask), cast_slice(g)], gx)
}

/// Computes the same in place of the upstream gradient.
///
/// # Errors
/// As [`mask_backward`].
pub fn mask_backward_in_place<T: Element>(mask: &[u64], g: &mut [T]) -> Result<()> {
    by_mask(&[cast_slice(mask)], g)
}

fn by_mask<T: Element>(inputs: &[&[u8]], gx: &mut [T]) -> Result<()> {
    let bounds = BroadcastInputs::none(T::TYPE);
    let (len, outputs) = (gx.len(), &mut [Some(cast_slice_mut(gx))]);
    run(Op::MaskBackward, len, inputs, outputs, &Arguments::new(&bounds))
}

/// Scales `x` in place, on all cores, as `scale` of the reference says.
pub fn scale_in_place<T: Element>(x: &mut [T], scaling: Scaling<f64>) {
    scale::scale_all(scaling, vec![(T::TYPE, cast_slice_mut(x))]);
}

/// Scales several slices, whose types are given as values: bytes, aligned to their elements.
///
/// # Errors
/// [`Error::Unsupported`] for bytes that are misaligned, or not a whole number of elements. Nothing is changed then.
pub fn scale_list_in_place(list: &mut [(ElementType, &mut [u8])], scaling: Scaling<f64>) -> Result<()> {
    for (element, slice) in list.iter() {
        operands::check_aligned(*element, slice)?;
    }
    scale::scale_all(scaling, list.iter_mut().map(|(element, slice)| (*element, &mut **slice)).collect());
    Ok(())
}

fn typed<T: Element>(
    op: Op,
    inputs: &[&[T]],
    bounds: &BroadcastInputs<&[T]>,
    rule: BackwardRule,
    outputs: &mut [Option<&mut [u8]>],
) -> Result<()> {
    let len = outputs[0].as_ref().map_or(0, |output| output.len() / size_of::<T>());
    let bounds = as_bytes(bounds)?;
    let inputs: Vec<&[u8]> = inputs.iter().map(|input| cast_slice(input)).collect();
    run(op, len, &inputs, outputs, &Arguments { rule, ..Arguments::new(&bounds) })
}

/// Returns bounds as bytes, if they are of this type.
fn as_bytes<'a, T: Element>(bounds: &BroadcastInputs<&'a [T]>) -> Result<BroadcastInputs<&'a [u8]>> {
    if bounds.element != T::TYPE {
        return Err(Error::TypeMismatch { left: T::TYPE, right: bounds.element });
    }
    bounds.try_map(|bound| Ok(cast_slice(bound)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bound, OutsideRule, Shape, TieRule, reference};

    /// Lengths that one thread handles, that several share, and that are copied block by block.
    #[test]
    fn slices_of_every_size_are_right_to_the_last_element() {
        let (lo, hi, rule) = (Some(60u8), Some(190), BackwardRule::default());
        let bounds = BroadcastInputs::values(lo, hi).unwrap();
        for len in [100_003, (1 << 20) + 67, (3 << 20) + 1, (16 << 20) + 32 * 1024 + 37] {
            // The period divides no block.
            let x: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let g: Vec<u8> = (0..len).map(|i| (i % 241) as u8 + 1).collect();
            let clipped: Vec<u8> = x.iter().map(|&x| reference::clip(x, lo, hi)).collect();
            let grad: Vec<u8> =
                x.iter().zip(&g).map(|(&x, &g)| reference::clip_backward(x, g, lo, hi, rule)).collect();
            let (mut y, mut mask) = (vec![7; len], vec![0x5555; mask_len(len)]);
            clip(&x, &bounds, &mut y).unwrap();
            assert!(y == clipped, "clip of {len}");
            y.copy_from_slice(&x);
            clip_in_place(&mut y, &bounds).unwrap();
            assert!(y == clipped, "clip in place of {len}");
            y.fill(7);
            clip_with_mask(&x, &bounds, rule, &mut y, &mut mask).unwrap();
            assert!(y == clipped, "clip with mask of {len}");
            y.fill(7);
            mask_backward(&mask, &g, &mut y).unwrap();
            assert!(y == grad, "gradient from the mask of {len}");
            y.copy_from_slice(&g);
            mask_backward_in_place(&mask, &mut y).unwrap();
            assert!(y == grad, "gradient from the mask in place of {len}");
            y.fill(7);
            clip_backward(&x, &g, &bounds, rule, &mut y).unwrap();
            assert!(y == grad, "gradient of {len}");
            y.copy_from_slice(&g);
            clip_backward_in_place(&x, &mut y, &bounds, rule).unwrap();
            assert!(y == grad, "gradient in place of {len}");
        }
    }

    /// Bounds of every kind of layout, and values.
    #[test]
    fn gradients_of_bounds_are_sums() {
        let (x_shape, rule) = (Shape::new([31, 17]).unwrap(), BackwardRule::default());
        let rng = &mut fastrand::Rng::with_seed(12);
        let x: Vec<f32> = (0..527).map(|_| rng.f32() * 4.0 - 2.0).collect();
        let g: Vec<f32> = (0..527).map(|_| f32::from_bits(rng.u32(..) & 0x7dff_ffff)).collect();
        for dims in [&[][..], &[17], &[31, 1], &[31, 17], &[1, 1]] {
            let shape = Shape::new(dims).unwrap();
            let (lo, hi) = (vec![-0.5f32; shape.len()], vec![0.75f32; shape.len()]);
            fn side<'a>(of: &'a [f32], shape: &'a Shape) -> Bound<f32, (&'a [f32], &'a Shape)> {
                if shape.dims().is_empty() { Bound::Value(of[0]) } else { Bound::Tensor((of, shape)) }
            }
            let bounds =
                BroadcastInputs::bounds::<f32>(&x_shape, side(&lo, &shape), side(&hi, &shape)).unwrap();
            let (mut gx, mut of_lo, mut of_hi) =
                ([7.0f32; 527], vec![7.0f32; shape.len()], vec![7.0f32; shape.len()]);
            let of_bounds = [Some(&mut of_lo[..]), Some(&mut of_hi[..])];
            clip_backward_bounds(&x, &g, &bounds, rule, Some(&mut gx), of_bounds).unwrap();
            let tensors = crate::Device::cpu();
            let [of_x, of_g] = [&x, &g].map(|of| tensors.tensor(of, [31, 17]).unwrap());
            let [of_lower, of_upper] = [&lo, &hi].map(|of| tensors.tensor(of, dims).unwrap());
            let expected = of_x
                .clip_backward_bounds(&of_g, (&of_lower, &of_upper), rule, crate::NeedsGrad::BOTH)
                .unwrap();
            assert_eq!(gx.to_vec(), expected.x.to_vec().unwrap(), "{dims:?}");
            assert_eq!(of_lo, expected.lo.unwrap().to_vec().unwrap(), "{dims:?}");
            assert_eq!(of_hi, expected.hi.unwrap().to_vec().unwrap(), "{dims:?}");
            let only = [None, Some(&mut of_hi[..])];
            of_lo.fill(7.0);
            clip_backward_bounds(&x, &g, &bounds, rule, None, only).unwrap();
            assert!(of_lo.iter().all(|&of_lo| of_lo == 7.0), "{dims:?}");
            let short = [Some(&mut of_lo[1..]), None];
            let result = clip_backward_bounds(&x, &g, &bounds, rule, None, short);
            assert!(matches!(result, Err(Error::LengthMismatch { .. })), "{dims:?}: {result:?}");
        }
        let none = BroadcastInputs::values(Some(0.0f32), None).unwrap();
        let result = clip_backward_bounds(&x, &g, &none, rule, None, [None, Some(&mut [0.0])]);
        assert!(matches!(result, Err(Error::NoBound { operand: "upper bound" })));
    }

    #[test]
    fn what_a_mask_cannot_tell_is_an_error_not_a_wrong_mask() {
        let bounds = BroadcastInputs::values(Some(0.0f32), None).unwrap();
        let (x, mut y, mut mask) = ([1.0f32; 4], [7.0f32; 4], [7u64]);
        for rule in BackwardRule::all() {
            let done = clip_with_mask(&x, &bounds, rule, &mut y, &mut mask);
            let fits = rule.outside == OutsideRule::Masked && rule.ties != TieRule::Half;
            assert_eq!(done.is_ok(), fits, "{rule}");
            assert!(fits || matches!(done, Err(Error::RuleWithoutKernel { .. })), "{rule}");
        }
    }

    #[test]
    fn mistakes_are_errors() {
        let bounds = BroadcastInputs::values(Some(0.0f32), None).unwrap();
        let mut y = [0.0f32; 4];
        assert!(matches!(clip(&[0.0; 3], &bounds, &mut y), Err(Error::LengthMismatch { .. })));
        assert!(matches!(mask_backward(&[0; 2], &[0.0; 4], &mut y), Err(Error::LengthMismatch { .. })));
        let other = BroadcastInputs::values(Some(0i32), None).unwrap();
        let other = other.try_map(|_: &&[i32]| Ok(&[][..])).unwrap();
        assert!(matches!(clip(&[0.0; 4], &other, &mut y), Err(Error::TypeMismatch { .. })));
    }
}
