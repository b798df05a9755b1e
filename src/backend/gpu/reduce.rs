//! Exact reductions: `shaders/reduce.wgsl`. The limbs of some outputs are cleared, elements are added to them, and each is
//! rounded. No host read is among it.

use super::dispatch::BufferPart;
use super::params::Params;
use super::pipeline::FixedKernel;
use super::pool::FirstWrite;
use super::{Buffer, Context, Sink};
use crate::broadcast::Reduction;
use crate::exact::{ExactSum, ReduceOp, Special};
use crate::wgsl::{BLOCK_BYTES, Order, Specialization, WORKGROUP};
use crate::{DeviceKind, ElementType, Result};

const fn kernel(entry: &'static str, bindings: &'static [(u32, bool)]) -> FixedKernel {
    FixedKernel { entry, source: include_str!("../../../shaders/reduce.wgsl"), bindings }
}

static CLEAR_LIMBS: FixedKernel = kernel("clear_limbs", &[(3, false)]);
static REDUCE: FixedKernel = kernel("reduce", &[(1, true), (4, true), (3, false)]);
static ROUND_OUTPUTS: FixedKernel = kernel("round_outputs", &[(2, false), (3, false)]);
static ROUND_DOTS: FixedKernel = kernel("round_dots", &[(5, true), (2, false), (3, false)]);

/// The kernels of this file.
pub(super) static KERNELS: [&FixedKernel; 4] = [&CLEAR_LIMBS, &REDUCE, &ROUND_OUTPUTS, &ROUND_DOTS];

/// Bytes of the limbs of the outputs that are made at once.
const LIMB_BYTES: u64 = 16 << 20;

/// Invocations that keep a GPU busy, and a software rasteriser, which loses less with fewer.
const INVOCATIONS: usize = 256 * 1024;
const SOFTWARE_INVOCATIONS: usize = 16 * 1024;

/// Blocks that an invocation takes: at the least, and at the most.
const BLOCKS: [usize; 2] = [4, 256];

/// At the least on a software rasteriser, where what an invocation does at its end takes as long as so many blocks.
const SOFTWARE_BLOCKS: usize = 64;

/// Addends of a lane of a window, at the most: it has room for twice as many of any type.
const ADDENDS: usize = 1024;

/// Rows shorter than this are added element by element, an output to an invocation.
const SHORT_ROW: usize = 512;

/// How the elements of a reduction's outputs lie, `each` of them in a block.
fn order_of(reduction: &Reduction, each: usize) -> Order {
    match reduction.axes[..] {
        _ if reduction.is_whole() => Order::Rows,
        [(_, _, false), (len, _, true)] if len >= SHORT_ROW => Order::Rows,
        [(_, _, true), (len, _, false)] if len.is_multiple_of(each) => Order::Columns,
        _ => Order::Strided,
    }
}

/// A reduction that is being recorded.
#[derive(Clone, Copy)]
struct Recording<'a> {
    sink: &'a dyn Sink,
    specialization: Specialization,
    elements: BufferPart<'a>,
    /// What they are multiplied by, or themselves.
    factors: BufferPart<'a>,
    limbs: BufferPart<'a>,
}

impl Context {
    /// Records a reduction into a new buffer of elements of `to`.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for what is too large, and for norms of f64; otherwise as
    /// [`Backend::run`](crate::backend::Backend::run).
    pub(super) fn record_reduction(
        &self,
        element: ElementType,
        elements: &Buffer,
        reduction: &Reduction,
        op: ReduceOp,
        to: ElementType,
    ) -> Result<Buffer> {
        self.check_reduction(element, elements.bytes(), op)?;
        if op == ReduceOp::Sum && reduction.leaves == 1 {
            // Nothing to add: one alone keeps its bits.
            return Ok(elements.clone());
        }
        let specialization = Specialization { to, reduce: op, ..Specialization::of(element) };
        self.record_outputs(
            specialization,
            [elements, elements],
            reduction,
            |recording, result, first, count| recording.round(result, first, count),
        )
    }

    /// Records dot products, each times the power of two that brings the norm of x to between 1 and 2.
    ///
    /// # Errors
    /// As those of a reduction.
    pub(super) fn record_dots(
        &self,
        element: ElementType,
        operands: [&Buffer; 2],
        norms: &Buffer,
        reduction: &Reduction,
    ) -> Result<Buffer> {
        let op = ReduceOp::SumProducts;
        self.check_reduction(element, operands[0].bytes(), op)?;
        let to = ElementType::F32;
        let specialization = Specialization { to, reduce: op, ..Specialization::of(element) };
        self.record_outputs(specialization, operands, reduction, |recording, result, first, count| {
            let params = Params { first: first as u32, outputs: count as u32, ..Params::default() };
            recording.record(&ROUND_DOTS, params, count, &[norms.part(), result, recording.limbs])
        })
    }

    /// Records a reduction: as many outputs at once as there is room for, `round` from its limbs to the result.
    fn record_outputs(
        &self,
        specialization: Specialization,
        [elements, factors]: [&Buffer; 2],
        reduction: &Reduction,
        round: impl Fn(&Recording<'_>, BufferPart<'_>, usize, usize) -> Result<()>,
    ) -> Result<Buffer> {
        let words = specialization.limbs() as usize + 1;
        let outputs = self.outputs_at_once(words, reduction.sums);
        let limbs = self.buffer((4 * words * outputs) as u64, FirstWrite::Recorded)?;
        let result = self.buffer((reduction.sums * specialization.to.size()) as u64, FirstWrite::Recorded)?;
        let (elements, factors, limbs) = (elements.part(), factors.part(), limbs.part());
        let recording = Recording { sink: self, specialization, elements, factors, limbs };
        for first in (0..reduction.sums).step_by(outputs) {
            let count = outputs.min(reduction.sums - first);
            recording.clear(count)?;
            if reduction.leaves > 0 {
                recording.add(reduction, first, count)?;
            }
            round(&recording, result.part(), first, count)?;
        }
        Ok(result)
    }

    /// Records the limbs of all elements of several buffers.
    fn record_limbs(&self, list: &[(ElementType, &Buffer)], op: ReduceOp) -> Result<Buffer> {
        for &(element, elements) in list {
            self.check_reduction(element, elements.bytes(), op)?;
        }
        let limbs = self.buffer(limb_bytes(op), FirstWrite::Recorded)?;
        let parts = list.iter().map(|&(element, elements)| {
            (element, elements.bytes() as usize / element.size(), elements.part())
        });
        add_list(self, &parts.collect::<Vec<_>>(), op, limbs.part())?;
        Ok(limbs)
    }

    /// Records the same, rounded to f32.
    pub(super) fn record_list(
        &self,
        list: &[(ElementType, &Buffer)],
        op: ReduceOp,
        to: ElementType,
    ) -> Result<Buffer> {
        if to != ElementType::F32 {
            self.check_reduction(to, 0, op)?;
        }
        let limbs = self.record_limbs(list, op)?;
        let result = self.buffer(4, FirstWrite::Recorded)?;
        round_list(self, op, limbs.part(), result.part())?;
        Ok(result)
    }

    /// The exact sum of all elements of several buffers, read to the host.
    pub(super) async fn read_sum(
        &self,
        list: &[(ElementType, &Buffer)],
        op: ReduceOp,
        bits: u32,
    ) -> Result<ExactSum> {
        let limbs = self.record_limbs(list, op)?;
        let count = of_list(op).limbs() as usize;
        let words: Vec<u32> = self.read_elements(&limbs, count + 1).await?;
        let mut sum = ExactSum::new(32, op);
        sum.special = Special::from_bits(words[count]);
        match op {
            ReduceOp::MaxAbs => sum.max(f64::from(f32::from_bits(words[0])).to_bits()),
            _ => {
                let mut words: Vec<_> = words[..count].iter().map(|&word| i64::from(word)).collect();
                if let Some(last) = words.last_mut() {
                    *last = i64::from(*last as i32);
                }
                sum.set_words(&words)?;
            }
        }
        let mut of_all = ExactSum::new(bits, op);
        of_all.merge(&sum);
        Ok(of_all)
    }

    fn check_reduction(&self, element: ElementType, bytes: u64, op: ReduceOp) -> Result<()> {
        if element == ElementType::F64 && op != ReduceOp::Sum {
            return Err(self.planner().unsupported("a norm of f64", "take it on Device::cpu()"));
        }
        // The kernels count elements in 32 bits.
        if u32::try_from(bytes / element.size() as u64).is_err() {
            return Err(self.planner().unsupported(
                "a reduction of 2^32 elements or more",
                "split the tensor, and reduce the parts with a NormState or by clip_by_global_norm",
            ));
        }
        Ok(())
    }

    /// Outputs whose limbs, of `words` words each, are made at once: whole blocks of any type.
    fn outputs_at_once(&self, words: usize, outputs: usize) -> usize {
        let by_bytes = LIMB_BYTES.min(self.planner().limits.max_binding) as usize / (4 * words);
        let by_workgroups = self.planner().limits.max_invocations() as usize / words.max(WORKGROUP as usize);
        by_bytes.min(by_workgroups).min(outputs.next_multiple_of(16)).max(16) / 16 * 16
    }
}

/// What a list of tensors is reduced to: an f32, whatever their types.
fn of_list(op: ReduceOp) -> Specialization {
    Specialization { reduce: op, ..Specialization::of(ElementType::F32) }
}

/// Bytes of the limbs of a list.
pub(super) fn limb_bytes(op: ReduceOp) -> u64 {
    4 * u64::from(of_list(op).limbs() + 1)
}

/// Clears limbs, and adds to them all elements of tensors, each with its number.
pub(super) fn add_list(
    sink: &dyn Sink,
    list: &[(ElementType, usize, BufferPart<'_>)],
    op: ReduceOp,
    limbs: BufferPart<'_>,
) -> Result<()> {
    Recording { sink, specialization: of_list(op), elements: limbs, factors: limbs, limbs }.clear(1)?;
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
pub(super) fn round_list(
    sink: &dyn Sink,
    op: ReduceOp,
    limbs: BufferPart<'_>,
    result: BufferPart<'_>,
) -> Result<()> {
    Recording { sink, specialization: of_list(op), elements: limbs, factors: limbs, limbs }
        .round(result, 0, 1)
}

impl<'a> Recording<'a> {
    fn words(&self) -> usize {
        self.specialization.limbs() as usize + 1
    }

    fn record(
        &self,
        kernel: &'static FixedKernel,
        params: Params,
        invocations: usize,
        operands: &[BufferPart<'_>],
    ) -> Result<()> {
        let planner = self.sink.planner();
        let dispatch = planner.whole(kernel, self.specialization, params, invocations as u64, operands)?;
        self.sink.record(&dispatch)
    }

    /// Adds a part of the operands to the limbs.
    fn reduce(
        &self,
        params: Params,
        invocations: usize,
        part: impl Fn(BufferPart<'a>) -> BufferPart<'a>,
    ) -> Result<()> {
        let operands = [part(self.elements), part(self.factors), self.limbs];
        self.record(&REDUCE, params, invocations, &operands)
    }

    /// How many are wanted.
    fn invocations(&self) -> usize {
        if self.is_software() { SOFTWARE_INVOCATIONS } else { INVOCATIONS }
    }

    fn is_software(&self) -> bool {
        self.sink.planner().info.kind == DeviceKind::Software
    }

    fn clear(&self, outputs: usize) -> Result<()> {
        let words = outputs * self.words();
        self.record(&CLEAR_LIMBS, Params::default(), words, &[self.limbs])
    }

    fn round(&self, result: BufferPart<'_>, first: usize, outputs: usize) -> Result<()> {
        let params = Params { first: first as u32, outputs: outputs as u32, ..Params::default() };
        let each = BLOCK_BYTES as usize / self.specialization.to.size();
        self.record(&ROUND_OUTPUTS, params, outputs.div_ceil(each), &[result, self.limbs])
    }

    /// Adds the elements of some outputs.
    fn add(&self, reduction: &Reduction, first: usize, outputs: usize) -> Result<()> {
        let each = BLOCK_BYTES as usize / self.specialization.element.size();
        let params = Params { outputs: outputs as u32, ..Params::of_reduction(reduction) };
        let order = order_of(reduction, each);
        let ordered = Self { specialization: Specialization { order, ..self.specialization }, ..*self };
        match order {
            Order::Rows => ordered.add_rows(params, reduction.leaves, first, outputs),
            Order::Columns => ordered.add_columns(params, reduction, first, outputs),
            Order::Strided => {
                let parts = (self.invocations() / outputs).clamp(1, reduction.leaves.div_ceil(64));
                let parts = parts.max(reduction.leaves.div_ceil(ADDENDS));
                let most = self.sink.planner().limits.max_invocations() as usize;
                let parts = parts.min((most / outputs).max(1));
                let params = Params { first: first as u32, parts: parts as u32, ..params };
                ordered.reduce(params, outputs * parts, |part| part)
            }
        }
    }

    /// Outputs in rows, as many at once as a binding holds, or a part of one.
    fn add_rows(&self, params: Params, leaves: usize, first: usize, outputs: usize) -> Result<()> {
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
        let least = if self.is_software() { SOFTWARE_BLOCKS } else { BLOCKS[0] };
        let per_invocation = (blocks / self.invocations()).clamp(least, BLOCKS[1]);
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
                let params = Params {
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

    /// Outputs side by side, as many rows at once as a binding holds.
    fn add_columns(&self, params: Params, reduction: &Reduction, first: usize, outputs: usize) -> Result<()> {
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
            let parts = (self.invocations() / columns).clamp(1, count.div_ceil(32));
            let parts = parts.max(count.div_ceil(ADDENDS)).min(most.max(1));
            let params = Params { first: first as u32, leaves: count as u32, parts: parts as u32, ..params };
            let rows =
                |part: BufferPart<'a>| part.slice((row * row_bytes) as u64, (count * row_bytes) as u64);
            self.reduce(params, columns * parts, rows)?;
        }
        Ok(())
    }
}
