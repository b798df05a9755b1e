//! The kernels' source: WGSL text, composed of the files in `shaders/`.
//!
//! Each file names what it uses of others by a WESL import (`import package::lib::element::less;`). Names are unique, so
//! composing only puts every file before those that import it, once, with the constants of an element type and a
//! specialization instead of `lib/constants.wgsl`. The entry point and the bindings are generated from the list of
//! operations.
//!
//! [`functions`] returns the element functions of a type for your own kernels.

mod broadcast;
mod compose;
mod functions;
mod kernel;
mod specialization;

pub(crate) use compose::{Interface, compose};
pub use functions::functions;
pub use kernel::BLOCK_BYTES;
pub(crate) use kernel::Kernel;
pub(crate) use specialization::{Layout, Order, Specialization};

use crate::ElementType;

/// Invocations of a workgroup: the maximum that every WebGPU device allows, and the fastest where measured.
pub(crate) const WORKGROUP: u32 = 256;

/// Blocks that an invocation works on. On llvmpipe four take a third less time than one (16 Mi f32), and more gain little.
pub(crate) const BLOCKS_PER_INVOCATION: u32 = 4;

/// Blocks whose bits fill a word of a mask.
pub(crate) const fn blocks_per_mask_word(element: ElementType) -> u32 {
    2 * element.size() as u32
}
