//! Softmax along slices: `shaders/softmax.wgsl`. The state of each slice, its greatest element and its sum, stays on the device.

use super::api::{Plans, Slice, Step};
use super::dispatch::{BufferPart, Memory, Planner, Sink};
use super::params::ReduceParams;
use super::program::FixedKernel;
use super::reduce::{self, Outputs};
use crate::broadcast::Reduction;
use crate::op::Operand;
use crate::wgsl::{BLOCK_BYTES, Order, Specialization, WORKGROUP};
use crate::{ElementType, Op, Result, Shape};

const fn kernel(entry: &'static str, bindings: &'static [(&'static str, bool)]) -> FixedKernel {
    FixedKernel {
        entry,
        source: include_str!("../../shaders/softmax.wgsl"),
        bindings,
        substitutes: &[("lib/params", "lib/reduce_params")],
    }
}

static CLEAR_SLICES: FixedKernel = kernel("clear_slices", &[("slice_words", false)]);
static FIND_GREATEST: FixedKernel = kernel("find_greatest", &[("x", true), ("slice_words", false)]);
static ADD_EXPONENTIALS: FixedKernel = kernel("add_exponentials", &[("x", true), ("slice_words", false)]);
static ROUND_SUMS: FixedKernel = kernel("round_sums", &[("slice_words", false)]);
static SOFTMAX: FixedKernel = kernel("softmax", &[("slices", true), ("x", true), ("y", false)]);
static SOFTMAX_BACKWARD: FixedKernel =
    kernel("softmax_backward", &[("dots", true), ("x", true), ("g", true), ("y", false)]);

/// The kernels of this file.
#[cfg(feature = "gpu")]
pub(crate) static KERNELS: [&FixedKernel; 6] =
    [&CLEAR_SLICES, &FIND_GREATEST, &ADD_EXPONENTIALS, &ROUND_SUMS, &SOFTMAX, &SOFTMAX_BACKWARD];

/// Bytes of the state of a slice.
const SLICE_BYTES: u64 = 32;

/// Maximum bytes of the states of slices that are computed at once.
const MAX_STATE: u64 = 16 << 20;

/// Maximum parts of a slice: each adds 16-bit halves to words of 32.
const MAX_PARTS: usize = 1 << 16;

/// Elements of a tensor whose slices are computed at once.
struct Batch {
    /// The first element, and the first slice.
    start: usize,
    first: usize,
    reduction: Reduction,
}

impl Batch {
    /// Cuts a tensor along its outermost axis, unless slices lie along that.
    fn all(planner: Planner<'_>, size: usize, reduction: &Reduction) -> Vec<Self> {
        if reduction.sums * reduction.leaves == 0 {
            return Vec::new();
        }
        let whole = || vec![Self { start: 0, first: 0, reduction: reduction.clone() }];
        let Some(&(len, stride, false)) = reduction.axes.first() else { return whole() };
        let slices = reduction.sums / len.max(1);
        let alignment = planner.limits.offset_alignment.max(BLOCK_BYTES) as usize;
        let Some(step) = (1..=alignment).find(|rows| (rows * stride * size).is_multiple_of(alignment)) else {
            return whole();
        };
        let by_state = MAX_STATE.min(planner.limits.max_binding) / SLICE_BYTES;
        let by_elements = planner.limits.max_binding as usize / (stride * size).max(1);
        let rows = (by_state as usize / slices.max(1)).min(by_elements) / step * step;
        let batch = |row: usize| {
            let (count, mut reduction) = (rows.max(step).min(len - row), reduction.clone());
            reduction.axes[0].0 = count;
            reduction.sums = count * slices;
            Self { start: row * stride, first: row * slices, reduction }
        };
        (0..len).step_by(rows.max(step)).map(batch).collect()
    }

    fn bytes(&self, size: usize) -> u64 {
        (self.reduction.sums * self.reduction.leaves * size) as u64
    }

    fn part<M: Memory>(&self, size: usize, part: BufferPart<M>) -> BufferPart<M> {
        part.slice((self.start * size) as u64, self.bytes(size))
    }

    fn params(&self) -> ReduceParams {
        let params =
            ReduceParams { outputs: self.reduction.sums as u32, ..ReduceParams::new(&self.reduction) };
        ReduceParams { parts: 1, row: self.first as u32, ..params }
    }
}

/// How the elements of slices lie: in columns they are evenly spaced.
fn order_of(reduction: &Reduction) -> Order {
    match reduction.axes.iter().filter(|axis| axis.2).count() {
        _ if reduce::is_in_rows(reduction) => Order::Rows,
        1 => Order::Columns,
        _ => Order::Strided,
    }
}

/// Bytes of the states of slices that are computed at once.
pub(crate) fn state_bytes(planner: Planner<'_>, element: ElementType, reduction: &Reduction) -> u64 {
    let batches = Batch::all(planner, element.size(), reduction);
    batches.iter().map(|batch| batch.reduction.sums as u64 * SLICE_BYTES).max().unwrap_or(0)
}

/// Computes the softmax of x into y; `state` has [`state_bytes`].
pub(crate) fn softmax<M: Memory>(
    sink: &dyn Sink<M>,
    element: ElementType,
    [x, y]: [BufferPart<M>; 2],
    reduction: &Reduction,
    state: BufferPart<M>,
) -> Result<()> {
    let (planner, size) = (sink.planner(), element.size());
    check(planner, element, reduction, Op::Softmax)?;
    for batch in Batch::all(planner, size, reduction) {
        let Reduction { sums, leaves, .. } = batch.reduction;
        let [x, y] = [x, y].map(|part| batch.part(size, part));
        let order = order_of(&batch.reduction);
        let specialization = Specialization { order, ..Specialization::of(element) };
        let record = |kernel, params: ReduceParams, invocations: usize, operands: &[BufferPart<M>]| {
            let params = params.into();
            sink.record(&planner.whole(kernel, specialization, params, invocations as u64, operands)?)
        };
        let mut params = batch.params();
        if let Some(&(_, spacing, _)) = batch.reduction.axes.iter().find(|axis| axis.2) {
            params.width = spacing as u32;
        }
        let most = planner.limits.max_invocations() as usize;
        let wanted = reduce::invocations(planner);
        let group = WORKGROUP as usize;
        let (parts, each) = match order {
            Order::Rows => {
                let blocks = (leaves * size).div_ceil(BLOCK_BYTES as usize);
                let per_invocation = reduce::blocks_per_invocation(planner, sums * blocks);
                (blocks.div_ceil(per_invocation * group).min(most / group / sums), group)
            }
            _ => ((wanted / sums).min(leaves.div_ceil(64)).min(most / sums), 1),
        };
        let parts = parts.clamp(1, MAX_PARTS);
        let of_parts = ReduceParams { parts: parts as u32, ..params };
        record(&CLEAR_SLICES, params, sums * SLICE_BYTES as usize / 4, &[state])?;
        record(&FIND_GREATEST, of_parts, sums * parts * each, &[x, state])?;
        record(&ADD_EXPONENTIALS, of_parts, sums * parts * each, &[x, state])?;
        record(&ROUND_SUMS, params, sums, &[state])?;
        record(&SOFTMAX, params, batch.bytes(size).div_ceil(BLOCK_BYTES) as usize, &[state, x, y])?;
    }
    Ok(())
}

/// Computes the gradient of a softmax from its result y, the upstream gradient g and the dot products of their slices.
pub(crate) fn softmax_backward<M: Memory>(
    sink: &dyn Sink<M>,
    element: ElementType,
    [y, g, gx]: [BufferPart<M>; 3],
    reduction: &Reduction,
    dots: BufferPart<M>,
) -> Result<()> {
    let (planner, size) = (sink.planner(), element.size());
    check(planner, element, reduction, Op::SoftmaxBackward)?;
    for batch in Batch::all(planner, size, reduction) {
        let order = order_of(&batch.reduction);
        let specialization = Specialization { order, ..Specialization::of(element) };
        let [y, g, gx] = [y, g, gx].map(|part| batch.part(size, part));
        let blocks = batch.bytes(size).div_ceil(BLOCK_BYTES);
        let params = batch.params().into();
        sink.record(&planner.whole(&SOFTMAX_BACKWARD, specialization, params, blocks, &[dots, y, g, gx])?)?;
    }
    Ok(())
}

/// Refuses what the kernels do not compute, or cannot count.
fn check(planner: Planner<'_>, element: ElementType, reduction: &Reduction, op: Op) -> Result<()> {
    if !op.is_for(element, true) {
        return Err(planner.unsupported(format!("{op} of {element}"), "it takes floats of up to 32 bits"));
    }
    match u32::try_from(reduction.sums * reduction.leaves) {
        Ok(_) => Ok(()),
        Err(_) => Err(planner.unsupported(format!("{op} of 2^32 elements or more"), "split the tensor")),
    }
}

impl Plans {
    /// Plans the softmax of slices of x, into y: `kept` is the shape of x with a length of 1 for each axis along which slices lie. `state` has
    /// [`softmax_bytes`](Self::softmax_bytes).
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for types other than floats of up to 32 bits, and if limits are too low;
    /// [`Error::BroadcastMismatch`](crate::Error::BroadcastMismatch).
    pub fn softmax(
        &self,
        element: ElementType,
        [x, y]: [Slice; 2],
        [shape, kept]: [&Shape; 2],
        state: Slice,
    ) -> Result<Vec<Step>> {
        let reduction = &Reduction::new(shape, kept, Operand::X)?;
        let parts = [x, y].map(|slice| slice.part());
        self.steps(|steps| softmax(steps, element, parts, reduction, state.part()))
    }

    /// Bytes of the state of [`softmax`](Self::softmax).
    ///
    /// # Errors
    /// [`Error::BroadcastMismatch`](crate::Error::BroadcastMismatch).
    pub fn softmax_bytes(&self, element: ElementType, [shape, kept]: [&Shape; 2]) -> Result<u64> {
        Ok(state_bytes(self.planner(), element, &Reduction::new(shape, kept, Operand::X)?))
    }

    /// Plans the gradient of a softmax from its result y and the upstream gradient g, into gx. `scratch` and `dots` have
    /// [`softmax_backward_bytes`](Self::softmax_backward_bytes).
    ///
    /// # Errors
    /// As [`softmax`](Self::softmax).
    pub fn softmax_backward(
        &self,
        element: ElementType,
        operands: [Slice; 3],
        [shape, kept]: [&Shape; 2],
        [scratch, dots]: [Slice; 2],
    ) -> Result<Vec<Step>> {
        let reduction = &Reduction::new(shape, kept, Operand::X)?;
        let [y, g, gx] = operands.map(|slice| slice.part());
        let (scratch, dots) = (scratch.part(), dots.part());
        self.steps(|steps| {
            Outputs::dots(element, reduction).reduce(steps, [y, g], None, [scratch, dots])?;
            softmax_backward(steps, element, [y, g, gx], reduction, dots)
        })
    }

    /// Bytes of the scratch and of the dot products of [`softmax_backward`](Self::softmax_backward).
    ///
    /// # Errors
    /// [`Error::BroadcastMismatch`](crate::Error::BroadcastMismatch).
    pub fn softmax_backward_bytes(
        &self,
        element: ElementType,
        [shape, kept]: [&Shape; 2],
    ) -> Result<[u64; 2]> {
        let reduction = &Reduction::new(shape, kept, Operand::X)?;
        Ok(Outputs::dots(element, reduction).bytes(self.planner()))
    }
}
