//! Exact reductions: `shaders/reduce.wgsl`. The limbs of some outputs are cleared, elements are added to them, and each is
//! rounded. Nothing is read back to the host.

use super::dispatch::{BufferPart, Memory, Planner, Sink};
use super::params::ReduceParams;
use super::program::FixedKernel;
use crate::broadcast::Reduction;
use crate::norm::exact::ReduceOp;
use crate::wgsl::{BLOCK_BYTES, Order, Specialization, WORKGROUP};
use crate::{DeviceKind, ElementType, Result};

/// The parameters of this family.
const PARAMS: (&str, &str) = ("lib/params", "lib/reduce_params");

const fn kernel(entry: &'static str, bindings: &'static [(&'static str, bool)]) -> FixedKernel {
    FixedKernel { entry, source: include_str!("../../shaders/reduce.wgsl"), bindings, substitutes: &[PARAMS] }
}

static CLEAR_LIMBS: FixedKernel = kernel("clear_limbs", &[("limbs", false)]);
/// Without factors, for engines that do not bind the elements twice.
static REDUCE: FixedKernel = FixedKernel {
    substitutes: &[PARAMS, ("lib/factors", "lib/no_factors")],
    ..kernel("reduce", &[("elements", true), ("limbs", false)])
};
static REDUCE_PRODUCTS: FixedKernel =
    kernel("reduce", &[("elements", true), ("factors", true), ("limbs", false)]);
static ROUND_OUTPUTS: FixedKernel = kernel("round_outputs", &[("result", false), ("limbs", false)]);
static ROUND_DOTS: FixedKernel =
    kernel("round_dots", &[("norms", true), ("result", false), ("limbs", false)]);

/// The kernels of this file.
#[cfg(feature = "gpu")]
pub(crate) static KERNELS: [&FixedKernel; 5] =
    [&CLEAR_LIMBS, &REDUCE, &REDUCE_PRODUCTS, &ROUND_OUTPUTS, &ROUND_DOTS];

/// Bytes of the limbs of the outputs that are computed at once.
const LIMB_BYTES: u64 = 16 << 20;

/// Invocations that keep a GPU busy, or a software rasteriser, which loses less with fewer.
const INVOCATIONS: usize = 256 * 1024;
const SOFTWARE_INVOCATIONS: usize = 16 * 1024;

/// Minimum and maximum blocks of an invocation.
const BLOCKS: [usize; 2] = [4, 256];

/// The minimum on a software rasteriser, where the final work of an invocation takes as long as this many blocks.
const SOFTWARE_BLOCKS: usize = 64;

/// Maximum addends of a lane of a window: it has room for twice as many of any type.
const ADDENDS: usize = 1024;

/// Rows shorter than this are added element by element, one output per invocation.
const SHORT_ROW: usize = 512;

/// Whether the elements of an output are adjacent, and enough for a workgroup.
pub(super) fn is_in_rows(reduction: &Reduction) -> bool {
    match reduction.axes[..] {
        [(_, _, false), (len, _, true)] => len >= SHORT_ROW,
        _ => reduction.is_whole(),
    }
}

/// The number of invocations to aim for.
pub(super) fn invocations(planner: Planner<'_>) -> usize {
    if is_software(planner) { SOFTWARE_INVOCATIONS } else { INVOCATIONS }
}

fn is_software(planner: Planner<'_>) -> bool {
    planner.info.kind == DeviceKind::Software
}

/// How many of these blocks an invocation takes.
pub(super) fn blocks_per_invocation(planner: Planner<'_>, blocks: usize) -> usize {
    let least = if is_software(planner) { SOFTWARE_BLOCKS } else { BLOCKS[0] };
    (blocks / invocations(planner)).clamp(least, BLOCKS[1])
}

/// The order of the elements of a reduction's outputs, with `each` of them in a block.
fn order_of(reduction: &Reduction, each: usize) -> Order {
    match reduction.axes[..] {
        _ if is_in_rows(reduction) => Order::Rows,
        [(_, _, true), (len, _, false)] if len.is_multiple_of(each) => Order::Columns,
        _ => Order::Strided,
    }
}

/// A reduction being recorded.
#[derive(Clone, Copy)]
struct Recording<'a, M> {
    sink: &'a dyn Sink<M>,
    specialization: Specialization,
    elements: BufferPart<M>,
    /// What they are multiplied by, or the elements themselves.
    factors: BufferPart<M>,
    limbs: BufferPart<M>,
}

/// A reduction to outputs, in their type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outputs<'a> {
    pub specialization: Specialization,
    pub reduction: &'a Reduction,
}

impl<'a> Outputs<'a> {
    /// Dot products, as f32.
    pub(crate) fn dots(element: ElementType, reduction: &'a Reduction) -> Self {
        let (to, reduce) = (ElementType::F32, ReduceOp::SumProducts);
        Self { specialization: Specialization { to, reduce, ..Specialization::of(element) }, reduction }
    }

    /// Bytes of the limbs, and of the result.
    pub(crate) fn bytes(&self, planner: Planner<'_>) -> [u64; 2] {
        let (words, sums) = (self.words(), self.reduction.sums);
        let limbs = 4 * words * outputs_at_once(planner, words, sums);
        [limbs as u64, (sums * self.specialization.to.size()) as u64]
    }

    fn words(&self) -> usize {
        self.specialization.limbs() as usize + 1
    }

    /// Reduces elements, as many outputs at once as there is room for. With norms, computes dot products with the factors, each
    /// times the power of two that brings the norm to between 1 and 2.
    ///
    /// # Errors
    /// Those of the sink.
    pub(crate) fn reduce<M: Memory>(
        &self,
        sink: &dyn Sink<M>,
        [elements, factors]: [BufferPart<M>; 2],
        norms: Option<BufferPart<M>>,
        [limbs, result]: [BufferPart<M>; 2],
    ) -> Result<()> {
        let Self { specialization, reduction } = *self;
        let outputs = outputs_at_once(sink.planner(), self.words(), reduction.sums);
        let recording = Recording { sink, specialization, elements, factors, limbs };
        for first in (0..reduction.sums).step_by(outputs) {
            let count = outputs.min(reduction.sums - first);
            recording.clear(count)?;
            if reduction.leaves > 0 {
                recording.add(reduction, first, count)?;
            }
            match norms {
                None => recording.round(result, first, count)?,
                Some(norms) => {
                    let params = ReduceParams {
                        first: first as u32,
                        outputs: count as u32,
                        ..ReduceParams::default()
                    };
                    recording.record(&ROUND_DOTS, params, count, &[norms, result, limbs])?;
                }
            }
        }
        Ok(())
    }
}

/// Outputs whose limbs, of `words` words each, are computed at once: whole blocks of any type.
fn outputs_at_once(planner: Planner<'_>, words: usize, outputs: usize) -> usize {
    let by_bytes = LIMB_BYTES.min(planner.limits.max_binding) as usize / (4 * words);
    let by_workgroups = planner.limits.max_invocations() as usize / words.max(WORKGROUP as usize);
    by_bytes.min(by_workgroups).min(outputs.next_multiple_of(16)).max(16) / 16 * 16
}

/// Checks that a reduction has kernels.
///
/// # Errors
/// [`Error::Unsupported`](crate::Error::Unsupported) for operands that are too large, and for norms of f64.
pub(crate) fn check(planner: Planner<'_>, element: ElementType, bytes: u64, op: ReduceOp) -> Result<()> {
    if element == ElementType::F64 && op != ReduceOp::Sum {
        return Err(planner.unsupported("a norm of f64", "take it on Device::cpu()"));
    }
    // The kernels count elements in 32 bits.
    if u32::try_from(bytes / element.size() as u64).is_err() {
        return Err(planner.unsupported(
            "a reduction of 2^32 elements or more",
            "split the tensor, and reduce the parts with a NormState or by clip_by_global_norm",
        ));
    }
    Ok(())
}

/// The reduction of a list of tensors: to an f32, whatever their types.
pub(crate) fn of_list(op: ReduceOp) -> Specialization {
    Specialization { reduce: op, ..Specialization::of(ElementType::F32) }
}

/// Bytes of the limbs of a list.
pub(crate) fn limb_bytes(op: ReduceOp) -> u64 {
    4 * u64::from(of_list(op).limbs() + 1)
}

/// Clears limbs, and adds all elements of tensors to them, each tensor with its number of elements.
#[cfg(feature = "gpu")]
pub(crate) fn add_list<M: Memory>(
    sink: &dyn Sink<M>,
    list: &[(ElementType, usize, BufferPart<M>)],
    op: ReduceOp,
    limbs: BufferPart<M>,
) -> Result<()> {
    clear_list(sink, op, limbs)?;
    add_to_list(sink, list, op, limbs)
}

/// Clears the limbs of a list.
pub(crate) fn clear_list<M: Memory>(sink: &dyn Sink<M>, op: ReduceOp, limbs: BufferPart<M>) -> Result<()> {
    Recording { sink, specialization: of_list(op), elements: limbs, factors: limbs, limbs }.clear(1)
}

/// Adds all elements of tensors to limbs, each tensor with its number of elements.
pub(crate) fn add_to_list<M: Memory>(
    sink: &dyn Sink<M>,
    list: &[(ElementType, usize, BufferPart<M>)],
    op: ReduceOp,
    limbs: BufferPart<M>,
) -> Result<()> {
    for &(element, len, elements) in list.iter().filter(|(_, len, _)| *len > 0) {
        let specialization =
            Specialization { to: ElementType::F32, reduce: op, ..Specialization::of(element) };
        Recording { sink, specialization, elements, factors: elements, limbs }.add(
            &Reduction::all(len),
            0,
            1,
        )?;
    }
    Ok(())
}

/// Rounds the limbs of a list.
pub(crate) fn round_list<M: Memory>(
    sink: &dyn Sink<M>,
    op: ReduceOp,
    limbs: BufferPart<M>,
    result: BufferPart<M>,
) -> Result<()> {
    Recording { sink, specialization: of_list(op), elements: limbs, factors: limbs, limbs }
        .round(result, 0, 1)
}

impl<M: Memory> Recording<'_, M> {
    fn words(&self) -> usize {
        self.specialization.limbs() as usize + 1
    }

    fn record(
        &self,
        kernel: &'static FixedKernel,
        params: ReduceParams,
        invocations: usize,
        operands: &[BufferPart<M>],
    ) -> Result<()> {
        let planner = self.sink.planner();
        let dispatch =
            planner.whole(kernel, self.specialization, params.into(), invocations as u64, operands)?;
        self.sink.record(&dispatch)
    }

    /// Adds a part of the operands to the limbs.
    fn reduce(
        &self,
        params: ReduceParams,
        invocations: usize,
        part: impl Fn(BufferPart<M>) -> BufferPart<M>,
    ) -> Result<()> {
        let (elements, factors) = (part(self.elements), part(self.factors));
        match self.specialization.reduce {
            ReduceOp::SumProducts => {
                self.record(&REDUCE_PRODUCTS, params, invocations, &[elements, factors, self.limbs])
            }
            _ => self.record(&REDUCE, params, invocations, &[elements, self.limbs]),
        }
    }

    fn clear(&self, outputs: usize) -> Result<()> {
        let words = outputs * self.words();
        self.record(&CLEAR_LIMBS, ReduceParams::default(), words, &[self.limbs])
    }

    fn round(&self, result: BufferPart<M>, first: usize, outputs: usize) -> Result<()> {
        let params = ReduceParams { first: first as u32, outputs: outputs as u32, ..ReduceParams::default() };
        let each = BLOCK_BYTES as usize / self.specialization.to.size();
        self.record(&ROUND_OUTPUTS, params, outputs.div_ceil(each), &[result, self.limbs])
    }

    /// Adds the elements of some outputs.
    fn add(&self, reduction: &Reduction, first: usize, outputs: usize) -> Result<()> {
        let each = BLOCK_BYTES as usize / self.specialization.element.size();
        let params = ReduceParams { outputs: outputs as u32, ..ReduceParams::new(reduction) };
        let order = order_of(reduction, each);
        let ordered = Self { specialization: Specialization { order, ..self.specialization }, ..*self };
        match order {
            Order::Rows => ordered.add_rows(params, reduction.leaves, first, outputs),
            Order::Columns => ordered.add_columns(params, reduction, first, outputs),
            Order::Strided => {
                let parts =
                    (invocations(self.sink.planner()) / outputs).clamp(1, reduction.leaves.div_ceil(64));
                let parts = parts.max(reduction.leaves.div_ceil(ADDENDS));
                let most = self.sink.planner().limits.max_invocations() as usize;
                let parts = parts.min((most / outputs).max(1));
                let params = ReduceParams { first: first as u32, parts: parts as u32, ..params };
                ordered.reduce(params, outputs * parts, |part| part)
            }
        }
    }

    /// Adds outputs in rows, as many at once as a binding holds, or a part of one.
    fn add_rows(&self, params: ReduceParams, leaves: usize, first: usize, outputs: usize) -> Result<()> {
        let limits = self.sink.planner().limits;
        let size = self.specialization.element.size();
        let alignment = limits.offset_alignment as usize;
        let room = (limits.max_binding as usize - alignment) / size;
        let workgroups = limits.max_invocations() as usize / WORKGROUP as usize;
        let (rows, piece) = match leaves <= room {
            true => ((room / leaves).min(workgroups), leaves),
            false => (1, room),
        };
        let blocks = outputs * leaves * size / BLOCK_BYTES as usize;
        let per_invocation = blocks_per_invocation(self.sink.planner(), blocks);
        for row in (0..outputs).step_by(rows) {
            let count = rows.min(outputs - row);
            for from in (0..leaves).step_by(piece) {
                let len = piece.min(leaves - from);
                let start = ((first + row) * leaves + from) * size;
                let aligned = start / alignment * alignment;
                let end = start + count.saturating_sub(1) * leaves * size + len * size;
                let blocks = (len * size).div_ceil(BLOCK_BYTES as usize);
                let parts =
                    blocks.div_ceil(per_invocation * WORKGROUP as usize).min((workgroups / count).max(1));
                let params = ReduceParams {
                    first: ((start - aligned) / size) as u32,
                    leaves: len as u32,
                    outputs: count as u32,
                    parts: parts as u32,
                    row: row as u32,
                    ..params
                };
                let invocations = count * parts * WORKGROUP as usize;
                self.reduce(params, invocations, |part| part.slice(aligned as u64, (end - aligned) as u64))?;
            }
        }
        Ok(())
    }

    /// Adds outputs in columns, as many rows at once as a binding holds.
    fn add_columns(
        &self,
        params: ReduceParams,
        reduction: &Reduction,
        first: usize,
        outputs: usize,
    ) -> Result<()> {
        let limits = self.sink.planner().limits;
        let size = self.specialization.element.size();
        let row_bytes = reduction.sums * size;
        let alignment = limits.offset_alignment as usize;
        // Rows until the next one begins at an aligned offset.
        let step = (1..=alignment).find(|rows| (rows * row_bytes).is_multiple_of(alignment)).unwrap_or(1);
        let rows = limits.max_binding as usize / row_bytes / step * step;
        let rows = if rows == 0 { reduction.leaves } else { rows };
        // A subword of a block at a time.
        let lanes = if size == 8 { 2 } else { 4 };
        for row in (0..reduction.leaves).step_by(rows) {
            let count = rows.min(reduction.leaves - row);
            let columns = outputs / lanes;
            let most = limits.max_invocations() as usize / columns;
            let parts = (invocations(self.sink.planner()) / columns).clamp(1, count.div_ceil(32));
            let parts = parts.max(count.div_ceil(ADDENDS)).min(most.max(1));
            let params =
                ReduceParams { first: first as u32, leaves: count as u32, parts: parts as u32, ..params };
            let rows = |part: BufferPart<M>| part.slice((row * row_bytes) as u64, (count * row_bytes) as u64);
            self.reduce(params, columns * parts, rows)?;
        }
        Ok(())
    }
}
