//! Measures wgclip next to copies of the same bytes, the bandwidth limit of its devices: interleaved, in rows that other
//! engines share.
//!
//! A [`Case`] is something to be timed, whoever does it; [`measure`] times several in turn, so that what disturbs the
//! machine disturbs them all, and gives a [`Measurement`] for each. [`cpu`] and [`gpu`] make the cases of every operation
//! of the crate's list, and of the baselines. `wgclip bench` and `benches/peers` are the users.

pub mod cpu;
pub mod gpu;
mod measure;
mod reduce;
mod row;
mod values;

use wgclip::op::{Codes, MAX_OUTPUTS, Op, Operand};
use wgclip::{Element, ElementType};

pub use measure::{Case, Sampling, measure};
pub use row::{BenchId, Clock, Measurement};
pub use values::{bounds, values};

/// The operations of this crate, by the names of the rows: each, again each that works in place, and reductions.
pub fn ops() -> Vec<String> {
    let ops = Op::variants().map(|(op, in_place)| op.variant_name(in_place));
    ops.chain(reduce::NAMES.map(str::to_owned)).collect()
}

/// The bandwidth baselines: copies of as many bytes as a clip moves.
pub const BASELINES: [&str; 4] = ["memcpy", "copy_buffer", "copy_kernel", "read_kernel"];

/// Parameters, of which an operation takes as many as it has.
const PARAMS: [f64; 4] = [1.0 / 6.0, 0.5, 3.0, -0.25];

/// The type that floats are converted to.
const CONVERTED: ElementType = ElementType::F8E4M3Fn;

/// The type of the output of an operation, if that is another: codes are bytes, of floats and as floats.
fn converted(op: Op) -> Option<ElementType> {
    op.info().converts.then_some(match op.info().codes {
        Codes::None => CONVERTED,
        Codes::Output => ElementType::I8,
        Codes::Input => ElementType::F32,
        Codes::Both if op == Op::Pack4 => ElementType::U8,
        Codes::Both => ElementType::U16,
    })
}

/// Columns of the tensor whose bounds' gradients are summed: one bound for each.
const COLUMNS: usize = 1024;

/// The operations and forms of these names that there are for a type.
fn chosen<T: Element>(ops: &[String]) -> impl Iterator<Item = (Op, bool)> {
    Op::variants().filter(|&(op, in_place)| {
        let exists = op.is_for(T::TYPE, false) && converted(op) != Some(T::TYPE);
        exists && ops.iter().any(|name| *name == op.variant_name(in_place))
    })
}

/// Whether an operation makes gradients of broadcast inputs, which are summed.
fn sums(op: Op) -> bool {
    op.info().outputs.iter().any(|output| output.gradient_of().is_some())
}

/// The outputs of such an operation that are timed: all but the gradient of the lower bound.
fn needs_of_sums(op: Op) -> [bool; MAX_OUTPUTS] {
    std::array::from_fn(|index| op.info().outputs.get(index).is_some_and(|&output| output != Operand::Glo))
}

/// Bytes that an operation reads and writes; a mask is one bit per element. Baselines move a tensor twice.
pub fn bytes_of(op: &str, elements: usize, size: usize) -> u64 {
    let Some(op) = Op::from_name(op.trim_end_matches("_in_place")) else {
        return reduce::passes(op) * (elements * size) as u64;
    };
    let operands = op.info().inputs.iter().chain(op.info().outputs);
    let bytes = |operand: &Operand| match operand {
        Operand::Mask => elements.div_ceil(8),
        // Of one bound alone: it is written, and read again to be summed.
        Operand::Glo => 0,
        Operand::Ghi => 2 * elements * size,
        Operand::Y => elements * converted(op).map_or(size, ElementType::size),
        _ => elements * size,
    };
    operands.map(bytes).sum::<usize>() as u64
}
