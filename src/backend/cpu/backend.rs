//! The CPU as a device: pooled memory, and the operations over slices.

use std::sync::Arc;

use bytemuck::{cast_slice, cast_slice_mut};

use super::memory::{self, PooledBytes};
use super::operands::{Outputs, check_aligned, elements, mask_len};
use super::scale::{self, Scalings};
use super::{reduce, run, scaling, softmax};
use crate::backend::Backend;
use crate::broadcast::{Broadcast, Reduction, Slices};
use crate::call::{Call, Limiter, Reductions, with_target};
use crate::element::{Real, with_float};
use crate::norm::Scaling;
use crate::norm::exact::{ExactSum, ReduceOp};
use crate::op::{MAX_OUTPUTS, Operand};
use crate::{DeviceInfo, Element, ElementType, Error, NonFinitePolicy, NormLimit, Result};

/// The CPU path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpu;

/// Elements, or the words of a mask, in host memory.
#[derive(Debug, Clone)]
pub(crate) struct Buffer {
    bytes: Arc<PooledBytes>,
}

impl Buffer {
    fn new(bytes: PooledBytes) -> Self {
        Self { bytes: Arc::new(bytes) }
    }
}

impl Cpu {
    fn output(self, call: &Call<'_, &Buffer>, operand: Operand) -> Result<PooledBytes> {
        match operand {
            Operand::Mask => PooledBytes::new(size_of::<u64>(), mask_len(call.len)),
            _ => PooledBytes::new(call.to().size(), call.len),
        }
    }

    /// Runs the call over bytes, into these outputs.
    fn run_into(
        self,
        call: &Call<'_, &Buffer>,
        inputs: &[&Buffer],
        reductions: &Reductions,
        outputs: Outputs<'_>,
    ) -> Result<()> {
        let inputs: Vec<&[u8]> = inputs.iter().map(|input| &input.bytes[..]).collect();
        let broadcast = call.arguments.broadcast.try_map(|input| Ok(&input.bytes[..]))?;
        run::run_summed(&call.with_operands(&inputs, &broadcast), reductions, outputs)
    }
}

/// Only the first output.
fn only(bytes: &mut [u8]) -> Outputs<'_> {
    let mut outputs = [const { None }; MAX_OUTPUTS];
    outputs[0] = Some(bytes);
    outputs
}

/// Outputs that are not summed.
const UNSUMMED: Reductions = [const { None }; MAX_OUTPUTS];

fn sum_of(list: &[(ElementType, &Buffer)], op: ReduceOp, bits: u32) -> Result<ExactSum> {
    let slices: Vec<_> = list.iter().map(|(element, buffer)| (*element, &buffer.bytes[..])).collect();
    let mut sum = ExactSum::new(bits, op);
    reduce::accumulate_all(&mut sum, &slices)?;
    Ok(sum)
}

/// The gradients of elements that are scaled by their norms.
fn scale_backward<T: Element>(
    [x, g]: [&Buffer; 2],
    (reduction, broadcast): (&Reduction, &Broadcast),
    limit: &NormLimit,
    gx: &mut [u8],
) -> Result<()>
where
    T::Norm: Real,
{
    let mut norms = memory::zeroed::<T::Norm>(reduction.sums)?;
    let (x, g) = (elements::<T>(&x.bytes)?, elements::<T>(&g.bytes)?);
    let squares = ReduceOp::SumSquares;
    reduce::reduce((T::TYPE, cast_slice(x)), reduction, squares, T::Norm::TYPE, cast_slice_mut(&mut norms));
    let is_error = |norm: &T::Norm| !Real::is_finite(*norm);
    if limit.nonfinite == NonFinitePolicy::Error && norms.iter().any(is_error) {
        return Err(Error::NonFiniteNorm { what: "a tensor on the CPU".into() });
    }
    let mut scalings = Vec::new();
    memory::reserve(&mut scalings, norms.len())?;
    // If nothing is scaled, they are not used.
    let is_scaled = |&norm: &T::Norm| matches!(scaling::scaling(norm, limit), Scaling::By(_));
    let dots = match norms.iter().any(is_scaled) {
        true => reduce::dots(x, g, reduction, &norms)?,
        false => memory::zeroed(norms.len())?,
    };
    let pairs = norms.iter().zip(dots);
    scalings.extend(pairs.map(|(&norm, dot)| scaling::projection(norm, dot, limit)));
    scale::scale_backward(x, g, cast_slice_mut(gx), &scalings, broadcast);
    Ok(())
}

impl Backend for Cpu {
    type Buffer = Buffer;
    type Scalings = Scalings;

    fn info(&self) -> DeviceInfo {
        DeviceInfo::cpu(super::threads())
    }

    fn same_device(&self, _: &Self) -> bool {
        true
    }

    fn upload(&self, element: ElementType, bytes: &[u8]) -> Result<Buffer> {
        let mut copy = PooledBytes::new(element.size(), bytes.len() / element.size())?;
        copy.copy_from_slice(bytes);
        Ok(Buffer::new(copy))
    }

    fn of_type(&self, buffer: &Buffer, element: ElementType) -> Result<Buffer> {
        match check_aligned(element, &buffer.bytes) {
            Ok(()) => Ok(buffer.clone()),
            Err(_) => self.upload(element, &buffer.bytes),
        }
    }

    fn adopt<T: Element>(&self, data: Vec<T>) -> Result<Buffer> {
        Ok(Buffer::new(data.into()))
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn copy_to_host(&self, buffer: &Buffer, bytes: &mut [u8]) -> Result<()> {
        let len = bytes.len().min(buffer.bytes.len());
        bytes[..len].copy_from_slice(&buffer.bytes[..len]);
        Ok(())
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn take<T: Element>(&self, buffer: Buffer, len: usize) -> Result<Vec<T>> {
        match Arc::try_unwrap(buffer.bytes) {
            Ok(bytes) => bytes.into_vec(len),
            Err(shared) => memory::copy(&shared, len),
        }
    }

    async fn read<T: Element>(&self, buffer: &Buffer, len: usize) -> Result<Vec<T>> {
        memory::copy(&buffer.bytes, len)
    }

    fn bytes(&self, buffer: &Buffer) -> u64 {
        buffer.bytes.len() as u64
    }

    fn run(
        &self,
        call: &Call<'_, &Buffer>,
        reductions: &Reductions,
    ) -> Result<[Option<Buffer>; MAX_OUTPUTS]> {
        let mut buffers = [const { None }; MAX_OUTPUTS];
        for (index, operand) in call.outputs() {
            buffers[index] = Some(match &reductions[index] {
                Some(reduction) => PooledBytes::new(call.element().size(), reduction.sums)?,
                None => self.output(call, operand)?,
            });
        }
        let outputs = buffers.each_mut().map(|output| output.as_deref_mut());
        self.run_into(call, call.inputs, reductions, outputs)?;
        Ok(buffers.map(|output| output.map(Buffer::new)))
    }

    fn run_in_place(&self, call: &Call<'_, &Buffer>, target: &mut Buffer) -> Result<()> {
        if let Some(bytes) = Arc::get_mut(&mut target.bytes) {
            return self.run_into(call, call.inputs, &UNSUMMED, only(bytes));
        }
        let mut output = self.output(call, call.op.info().outputs[0])?;
        let inputs = with_target(call, target)?;
        self.run_into(call, &inputs, &UNSUMMED, only(&mut output))?;
        *target = Buffer::new(output);
        Ok(())
    }

    fn reduce(
        &self,
        element: ElementType,
        from: &Buffer,
        reduction: &Reduction,
        op: ReduceOp,
        to: ElementType,
    ) -> Result<Buffer> {
        let mut output = PooledBytes::new(to.size(), reduction.sums)?;
        check_aligned(element, &from.bytes)?;
        reduce::reduce((element, &from.bytes), reduction, op, to, &mut output);
        Ok(Buffer::new(output))
    }

    fn reduce_list(&self, list: &[(ElementType, &Buffer)], op: ReduceOp, to: ElementType) -> Result<Buffer> {
        let bits = list.iter().map(|(element, _)| element.layout().bits).max().unwrap_or(32);
        let mut output = PooledBytes::new(to.size(), 1)?;
        reduce::store(&mut output, sum_of(list, op, bits)?.round(to));
        Ok(Buffer::new(output))
    }

    async fn exact_sum(&self, list: &[(ElementType, &Buffer)], op: ReduceOp, bits: u32) -> Result<ExactSum> {
        sum_of(list, op, bits)
    }

    fn scalings(&self, norm: ElementType, norms: &Buffer, limiter: Limiter<'_, &Buffer>) -> Result<Scalings> {
        let Limiter { limit, average, relative } = limiter;
        let relative = relative.map(|(norms, least)| (&norms.bytes[..], least));
        let limiter = Limiter { limit, average, relative };
        match norm {
            ElementType::F64 => scale::scalings(elements::<f64>(&norms.bytes)?, limiter),
            _ => scale::scalings(elements::<f32>(&norms.bytes)?, limiter),
        }
    }

    fn known_scaling(&self, _: &[ElementType], scaling: Scaling<f64>) -> Result<Scalings> {
        Ok(vec![scaling])
    }

    fn scale(
        &self,
        element: ElementType,
        x: &Buffer,
        scalings: &Scalings,
        broadcast: &Broadcast,
    ) -> Result<Buffer> {
        let mut output = PooledBytes::new(element.size(), x.bytes.len() / element.size())?;
        check_aligned(element, &x.bytes)?;
        scale::scale(element, &x.bytes, &mut output, scalings, broadcast);
        Ok(Buffer::new(output))
    }

    fn scale_backward(
        &self,
        element: ElementType,
        operands: [&Buffer; 2],
        slices: (&Reduction, &Broadcast),
        limit: &NormLimit,
    ) -> Result<Buffer> {
        let [x, _] = operands;
        let mut output = PooledBytes::new(element.size(), x.bytes.len() / element.size())?;
        let done = with_float!(element, T => {
            scale_backward::<T>(operands, slices, limit, &mut output)
        });
        done.unwrap_or_else(|| {
            Err(Error::Internal { op: "clip_by_norm_backward", what: format!("on elements of {element}") })
        })?;
        Ok(Buffer::new(output))
    }

    fn softmax(&self, element: ElementType, x: &Buffer, slices: &Slices) -> Result<Buffer> {
        let mut output = PooledBytes::new(element.size(), x.bytes.len() / element.size())?;
        softmax::of_slices(element, &x.bytes, &mut output, slices)?;
        Ok(Buffer::new(output))
    }

    fn softmax_backward(
        &self,
        element: ElementType,
        [y, g]: [&Buffer; 2],
        slices: &Slices,
    ) -> Result<Buffer> {
        let mut output = PooledBytes::new(element.size(), y.bytes.len() / element.size())?;
        softmax::backward_of_slices(element, [&y.bytes, &g.bytes], &mut output, slices)?;
        Ok(Buffer::new(output))
    }

    fn scale_list(&self, mut list: Vec<(ElementType, &mut Buffer)>, scalings: &Scalings) -> Result<()> {
        let missing = |what: &str| Error::Internal { op: "clip_by_global_norm", what: what.into() };
        let scaling = *scalings.first().ok_or_else(|| missing("without a norm"))?;
        if scaling == Scaling::Keep {
            return Ok(());
        }
        // Everything that needs memory comes first, so that all are changed or none.
        let mut copies = Vec::new();
        for (element, buffer) in &mut list {
            let shared = Arc::get_mut(&mut buffer.bytes).is_none();
            let copy = || -> Result<_> {
                let mut copy = PooledBytes::new(element.size(), buffer.bytes.len() / element.size())?;
                copy.copy_from_slice(&buffer.bytes);
                Ok(Buffer::new(copy))
            };
            copies.push(shared.then(copy).transpose()?);
        }
        for ((_, buffer), copy) in list.iter_mut().zip(copies) {
            if let Some(copy) = copy {
                **buffer = copy;
            }
        }
        let slices = list.into_iter().map(|(element, buffer)| {
            let bytes =
                Arc::get_mut(&mut buffer.bytes).ok_or_else(|| missing("on a buffer that is shared"))?;
            Ok((element, &mut bytes[..]))
        });
        scale::scale_all(scaling, slices.collect::<Result<_>>()?);
        Ok(())
    }

    fn patterns(&self, start: u32, step: u32, len: usize) -> Result<Buffer> {
        let mut data = memory::zeroed::<u32>(len)?;
        let word = |(i, word): (usize, &mut u32)| *word = start.wrapping_add((i as u32).wrapping_mul(step));
        data.iter_mut().enumerate().for_each(word);
        self.adopt(data)
    }

    fn trim(&self) -> Result<()> {
        memory::trim();
        Ok(())
    }
}
