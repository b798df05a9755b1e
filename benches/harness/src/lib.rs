//! Measures wgclip beside the roofs of its devices, interleaved, in rows that other engines share.
//!
//! A [`Case`] is something to be timed, whoever does it; [`measure`] times several in turn, so that what disturbs the
//! machine disturbs them all, and gives a [`Row`] for each. [`cpu`] and [`gpu`] make the cases of this crate and of the
//! roofs: what moves the same bytes and computes nothing. `wgclip bench` and `benches/peers` are the users.

pub mod cpu;
pub mod gpu;
mod measure;
mod row;
mod values;

pub use measure::{Case, Effort, measure};
pub use row::{Clock, Row, What};
pub use values::{bounds, values};

/// The operations of this crate, by the names of the rows.
pub const OPS: [&str; 6] =
    ["clip", "clip_in_place", "clip_saving", "clip_grad", "backward_saved", "bound_grad"];

/// The roofs: copies of as many bytes as a clip moves.
pub const ROOFS: [&str; 3] = ["memcpy", "copy_buffer", "copy_kernel"];

/// Columns of the tensor whose bounds' gradients are summed: one bound for each.
const COLUMNS: usize = 1024;

/// Tensors' worth of bytes that an operation reads and writes; the mask of a saved clip is an element's bit.
pub fn bytes_of(op: &str, elements: usize, size: usize) -> u64 {
    let (tensors, masks) = match op {
        "clip_grad" => (3, 0),
        // x, g and the gradients of x and of the bound at each element, which are then summed.
        "bound_grad" => (5, 0),
        "clip_saving" | "backward_saved" => (2, 1),
        _ => (2, 0),
    };
    (tensors * elements * size + masks * elements.div_ceil(8)) as u64
}
