//! The CPU path: the same operations over slices, on all cores.
//!
//! Elements are compared as numbers here (a CPU keeps to IEEE 754; 16-bit floats by order keys) and selected, so that
//! the compiler can vectorise, for the instructions that the machine has; the conformance tests hold it to [`reference`](mod@crate::reference).
//!
//! ```
//! use wgclip::{Interval, cpu};
//!
//! let mut x = [-2.0f32, 0.5, 7.0];
//! cpu::clip_in_place(&mut x, &Interval::values(Some(0.0), Some(1.0))?)?;
//! assert_eq!(x, [0.0, 0.5, 1.0]);
//! # Ok::<(), wgclip::Error>(())
//! ```

mod affine;
mod beside;
mod clip;
mod clip_grad;
mod clip_saving;
mod parallel;
#[cfg(feature = "check")]
mod probe;
mod sum;
mod vector;

pub(crate) use affine::affine;
pub use clip::{clip, clip_in_place};
pub use clip_grad::{clip_grad, clip_grad_in_place, clip_grads};
pub use clip_saving::{clip_saving, mask_len, saved_grad, saved_grad_in_place};
#[cfg(feature = "check")]
pub(crate) use probe::patterns;
pub(crate) use sum::sum;

use crate::{Element, Error, Interval, Result};

/// How many threads the CPU path uses.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// Whether bounds that are tensors are as long as the shapes that they were given say, and `x` too.
fn check_bounds<T: Element>(x: &[T], bounds: &Interval<T, &[T]>) -> Result<()> {
    bounds.check_len(x.len(), |bound| bound.len())
}

fn check_len<T: Element>(a: &[T], b: &[T]) -> Result<()> {
    if a.len() == b.len() {
        return Ok(());
    }
    Err(Error::ShapeMismatch { left: vec![a.len()], right: vec![b.len()] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Gradient, reference};

    /// Lengths that one thread works on, that several share, and that are copied block by block.
    #[test]
    fn slices_of_every_size_are_right_to_the_last_element() {
        let (lo, hi, rule) = (Some(60), Some(190), Gradient::default());
        let bounds = Interval::values(lo, hi).unwrap();
        for len in [100_003, (1 << 20) + 67, (3 << 20) + 1, (16 << 20) + 32 * 1024 + 37] {
            // Of a period that no block has.
            let x: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let g: Vec<u8> = (0..len).map(|i| (i % 241) as u8 + 1).collect();
            let clipped: Vec<u8> = x.iter().map(|&x| reference::clip(x, lo, hi)).collect();
            let grad: Vec<u8> =
                x.iter().zip(&g).map(|(&x, &g)| reference::clip_grad(x, g, lo, hi, rule)).collect();
            let (mut y, mut mask) = (vec![7; len], vec![0x5555; mask_len(len)]);
            // A loop, so that the other threads are awake.
            for _ in 0..3 {
                y.fill(7);
                clip(&x, &bounds, &mut y).unwrap();
                assert!(y == clipped, "clip of {len}");
            }
            y.fill(7);
            clip_saving(&x, &bounds, rule, &mut y, &mut mask).unwrap();
            assert!(y == clipped, "saving clip of {len}");
            y.fill(7);
            saved_grad(&mask, &g, &mut y).unwrap();
            assert!(y == grad, "gradient from the mask of {len}");
            clip_grad(&x, &g, &bounds, rule, &mut y).unwrap();
            assert!(y == grad, "gradient of {len}");
        }
    }
}
