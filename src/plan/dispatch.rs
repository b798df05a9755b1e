//! A dispatch: a kernel, its parameters, its operands, and the ranges of the work.

#[cfg(feature = "gpu")]
use std::ops::RangeInclusive;

use super::geometry::{DispatchRange, Granularity, Limits, dispatch_ranges, single_dispatch};
use super::params::{OpParams, Params};
use super::program::{FixedKernel, MAX_BINDINGS, Program};
use crate::broadcast::Broadcast;
use crate::call::{Arguments, Call};
use crate::op::Codes;
use crate::wgsl::{BLOCK_BYTES, Kernel, Layout, Specialization, WORKGROUP, blocks_per_mask_word};
use crate::{DeviceInfo, ElementType, Error, Result};

/// The memory of operands.
pub(crate) trait Memory: Copy {
    /// Whether both are the same buffer.
    fn is_same(self, other: Self) -> bool;

    /// Whether it holds only one operand.
    fn is_alone(self) -> bool;
}

/// A part of a buffer that a kernel works on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BufferPart<M> {
    pub memory: M,
    pub start: u64,
    /// Whole blocks.
    bytes: u64,
    pub binding: BindingRange,
}

/// Which part of an operand is bound for one of several dispatches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BindingRange {
    /// Its blocks.
    Blocks,
    /// The words of a mask, each of this many blocks.
    MaskWords(u32),
    /// Its blocks converted to another type: bytes of an element, and of the original.
    Converted(u32, u32),
    /// All of it.
    Whole,
}

impl<M: Memory> BufferPart<M> {
    pub(crate) fn new(memory: M, start: u64, bytes: u64) -> Self {
        Self { memory, start, bytes: bytes.next_multiple_of(BLOCK_BYTES), binding: BindingRange::Blocks }
    }

    /// A part of it.
    pub(crate) fn slice(self, start: u64, bytes: u64) -> Self {
        Self { start: self.start + start, bytes: bytes.next_multiple_of(BLOCK_BYTES), ..self }
    }

    /// The same, bound in another way.
    pub(crate) fn bound(self, binding: BindingRange) -> Self {
        Self { binding, ..self }
    }

    /// Its bytes: whole blocks.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether both are the same part of the same buffer.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.memory.is_same(other.memory) && self.start == other.start && self.bytes == other.bytes
    }

    /// Whether both have bytes in common.
    fn overlaps(&self, other: &Self) -> bool {
        let end = |part: &Self| part.start + part.bytes;
        self.memory.is_same(other.memory) && self.start < end(other) && other.start < end(self)
    }

    /// The offset and the number of bytes to bind for a dispatch.
    pub(crate) fn range(&self, range: &DispatchRange) -> (u64, u64) {
        let (offset, bytes) = match self.binding {
            BindingRange::Blocks => (range.offset, range.bytes()),
            BindingRange::MaskWords(blocks) => {
                // The words of a workgroup, for the blocks that belong together.
                let unit = u64::from(blocks * WORKGROUP);
                let words = 4 * u64::from(WORKGROUP);
                (range.offset / BLOCK_BYTES / unit * words, u64::from(range.blocks).div_ceil(unit) * words)
            }
            BindingRange::Converted(to, from) => {
                let converted = |bytes: u64| bytes * u64::from(to) / u64::from(from);
                let offset = converted(range.offset);
                // The blocks may reach beyond the elements, and their conversion beyond its last block.
                (offset, converted(range.bytes()).next_multiple_of(BLOCK_BYTES).min(self.bytes - offset))
            }
            BindingRange::Whole => (0, self.bytes),
        };
        (self.start + offset, bytes)
    }
}

/// Bytes of `bytes` bytes of elements when converted to another type: whole blocks, for all of them, or for the minimum
/// that this many blocks may hold.
#[cfg(feature = "gpu")]
pub(crate) fn converted_bytes(from: ElementType, to: ElementType, bytes: u64) -> RangeInclusive<u64> {
    let most = bytes / from.size() as u64;
    let least = bytes.saturating_sub(BLOCK_BYTES) / from.size() as u64 + 1;
    let converted = |elements: u64| (elements * to.size() as u64).next_multiple_of(BLOCK_BYTES);
    match from == to || most == 0 {
        true => bytes..=bytes,
        false => converted(least)..=converted(most),
    }
}

/// Bytes of the mask of `bytes` bytes of a tensor: whole workgroups of words.
pub(crate) fn mask_bytes(element: ElementType, bytes: u64) -> u64 {
    let blocks = bytes.div_ceil(BLOCK_BYTES);
    blocks.div_ceil((blocks_per_mask_word(element) * WORKGROUP).into()) * u64::from(4 * WORKGROUP)
}

/// A kernel over its operands, which are in the order of its bindings.
#[derive(Debug)]
pub(crate) struct Dispatch<'a, M> {
    pub program: Program,
    pub operands: Vec<BufferPart<M>>,
    params: Params,
    broadcast: Option<&'a Broadcast>,
    ranges: Vec<DispatchRange>,
}

/// The device that a dispatch is planned for.
#[derive(Clone, Copy)]
pub(crate) struct Planner<'a> {
    pub limits: Limits,
    pub info: &'a DeviceInfo,
}

/// Takes dispatches.
pub(crate) trait Sink<M> {
    fn planner(&self) -> Planner<'_>;

    /// # Errors
    /// Those of the device.
    fn record(&self, dispatch: &Dispatch<'_, M>) -> Result<()>;
}

impl Planner<'_> {
    pub(crate) fn unsupported(&self, what: impl Into<String>, instead: impl Into<String>) -> Error {
        Error::Unsupported { what: what.into(), device: self.info.to_string(), instead: instead.into() }
    }

    /// Plans an operation: several dispatches if a kernel cannot bind all outputs at once. `call` has its inputs without the
    /// overwritten one, `outputs` are those that it needs.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for operations without a kernel, for broadcast bounds that are too large, and for
    /// operands that overlap.
    pub(crate) fn op<'a, M: Memory>(
        self,
        call: &Call<'a, BufferPart<M>>,
        outputs: &[BufferPart<M>],
    ) -> Result<Vec<Dispatch<'a, M>>> {
        call.check()?;
        let reads = call.inputs.len() + call.arguments.broadcast.tensors().count();
        let most = (self.limits.max_buffers as usize).min(MAX_BINDINGS);
        let indices: Vec<_> = call.outputs().map(|(index, _)| index).collect();
        if indices.len() != outputs.len() {
            return Err(call.internal("without its outputs"));
        }
        let at_once = most.saturating_sub(reads).max(1);
        let parts = indices.chunks(at_once).zip(outputs.chunks(at_once));
        parts
            .map(|(indices, outputs)| {
                let needs = std::array::from_fn(|index| indices.contains(&index));
                self.op_at_once(&call.with_needs(needs), outputs)
            })
            .collect()
    }

    fn op_at_once<'a, M: Memory>(
        self,
        call: &Call<'a, BufferPart<M>>,
        outputs: &[BufferPart<M>],
    ) -> Result<Dispatch<'a, M>> {
        let (op, element, inputs) = (call.op, call.element(), call.inputs);
        let Arguments { broadcast: given, rule, quant, .. } = call.arguments;
        if !op.is_for(element, true) && op.is_for(element, false) {
            return Err(self.unsupported(format!("{op} of {element}"), "do it on Device::cpu()"));
        }
        let in_place = inputs.len() < op.info().inputs.len();
        let layouts = std::array::from_fn(|index| match (&given.broadcast, given.inputs[index].tensor()) {
            (Some(broadcast), Some(_)) => Layout::new(broadcast, index, element),
            _ => Layout::Value,
        });
        let to = call.to();
        if op.info().codes == Codes::Input && to == ElementType::F64 {
            return Err(self.unsupported(format!("{op} to {to}"), "do it on Device::cpu()"));
        }
        let ties = rule.ties;
        let specialization = Specialization { to, ties, quant, layouts, ..Specialization::of(element) };
        let mut kernel = Kernel::new(op, in_place, call.needs, false, specialization);

        let mut operands = Vec::new();
        for (index, part) in given.tensors() {
            let same = kernel.specialization.layouts[index] == Layout::Same;
            let input = part.bound(if same { BindingRange::Blocks } else { BindingRange::Whole });
            let what = format!("a {} that broadcasts", given.operands[index].noun());
            self.fits(input, &what, "give it the tensor's own shape")?;
            operands.push(input);
        }
        // The kernel counts along an axis in 32 bits.
        let axes = given.broadcast.iter().flat_map(Broadcast::axes);
        if axes.into_iter().any(|axis| u32::try_from(axis.len).is_err()) {
            return Err(self.unsupported(
                "a tensor of 2^32 elements or more between bounds that broadcast",
                "split it, or give bounds of its own shape",
            ));
        }
        operands.extend(inputs.iter().chain(outputs));
        let bytes = (call.len * element.size()) as u64;
        let bindings = kernel.bindings();
        if bindings.len() != operands.len() {
            return Err(call.internal("without its operands"));
        }
        if bindings.len() > self.limits.max_buffers as usize {
            return Err(self.unsupported(
                format!(
                    "{op} on {} buffers under the limit max_storage_buffers_per_shader_stage = {}",
                    bindings.len(),
                    self.limits.max_buffers
                ),
                "request a device with more, or give bounds that are values",
            ));
        }
        let word = BindingRange::MaskWords(blocks_per_mask_word(element));
        for (_, operand) in bindings.iter().zip(&mut operands).filter(|(binding, _)| binding.is_mask) {
            *operand = operand.bound(word);
        }
        if let Some(output) = operands.last_mut().filter(|_| kernel.converts()) {
            *output = output.bound(BindingRange::Converted(to.size() as u32, element.size() as u32));
        }
        // wgpu rejects a buffer that is bound for reading and for writing, even in parts.
        for (i, (binding, operand)) in bindings.iter().zip(&operands).enumerate() {
            let others = || operands.iter().enumerate().filter(|&(j, _)| j != i).map(|(_, other)| other);
            let is_apart = operand.memory.is_alone() || others().all(|o| !o.memory.is_same(operand.memory));
            if binding.read_only || is_apart {
                continue;
            }
            if others().any(|other| other.overlaps(operand)) {
                return Err(self.unsupported(
                    "writing a part of a buffer that the same operation reads or writes elsewhere",
                    "give each tensor a part of its own, or work in place",
                ));
            }
            kernel.shared = true;
        }
        let granularity = match kernel.has_mask() {
            true => Granularity::MaskWord(blocks_per_mask_word(element)),
            false if kernel.converts() => {
                Granularity::Converted { to: to.size() as u32, from: element.size() as u32 }
            }
            false => Granularity::Blocks,
        };
        Ok(Dispatch {
            program: Program::Op(kernel),
            operands,
            params: OpParams::new(&call.arguments).into(),
            broadcast: given.broadcast.as_ref(),
            ranges: dispatch_ranges(bytes, granularity, self.limits).collect(),
        })
    }

    /// A kernel that works on whole buffers with this many invocations.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the operands are too large.
    pub(crate) fn whole<'a, M: Memory>(
        self,
        kernel: &'static FixedKernel,
        specialization: Specialization,
        params: Params,
        invocations: u64,
        operands: &[BufferPart<M>],
    ) -> Result<Dispatch<'a, M>> {
        let advice = "split the tensor";
        let operands: Vec<_> = operands.iter().map(|part| part.bound(BindingRange::Whole)).collect();
        for &operand in &operands {
            self.fits(operand, "a tensor that is reduced", advice)?;
        }
        let what = || format!("a reduction in {invocations} invocations");
        let range =
            single_dispatch(invocations, self.limits).ok_or_else(|| self.unsupported(what(), advice))?;
        let program = Program::Fixed(kernel, specialization);
        Ok(Dispatch { program, operands, params, broadcast: None, ranges: vec![range] })
    }

    /// Rejects a buffer that must be bound whole but is too large for that.
    fn fits<M: Memory>(self, operand: BufferPart<M>, what: &str, instead: &str) -> Result<()> {
        let (bytes, most) = (operand.bytes(), self.limits.max_binding);
        if operand.binding != BindingRange::Whole || bytes <= most {
            return Ok(());
        }
        Err(self.unsupported(format!("{what} of {bytes} bytes, more than the {most} of a binding,"), instead))
    }
}

impl<M> Dispatch<'_, M> {
    /// The ranges, and the parameters of each.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (&DispatchRange, Params)> {
        let element = self.program.element();
        let of_op = (matches!(self.program, Program::Op(_)), self.broadcast);
        self.ranges.iter().map(move |range| (range, self.params.for_dispatch(range, of_op, element)))
    }
}
