//! The CPU path: the same operations over slices, on all cores.
//!
//! Elements are compared as numbers here (a CPU keeps to IEEE 754) and selected, so that the compiler can
//! vectorise; the conformance tests hold it to [`reference`](mod@crate::reference).

mod clip;
mod clip_grad;
mod parallel;

pub use clip::{clip, clip_in_place};
pub use clip_grad::clip_grad;

use crate::{Element, Error, Result};

/// How many threads the CPU path uses.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

fn check_len<T: Element>(a: &[T], b: &[T]) -> Result<()> {
    if a.len() == b.len() {
        return Ok(());
    }
    Err(Error::ShapeMismatch { left: vec![a.len()], right: vec![b.len()] })
}
