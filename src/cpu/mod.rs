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
