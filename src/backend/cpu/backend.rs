//! The CPU as a device: memory of the pool, and the operations over slices.

use std::sync::Arc;

use super::mask::mask_len;
use super::memory::{self, PooledBytes};
use super::sum;
use crate::backend::{Backend, Call, MAX_OUTPUTS, with_target};
use crate::broadcast::Reduction;
use crate::op::Operand;
use crate::{DeviceInfo, Element, ElementType, Result, with_element};

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
    fn output(self, call: &Call<'_, Buffer>, operand: Operand) -> Result<PooledBytes> {
        match operand {
            Operand::Mask => PooledBytes::new(size_of::<u64>(), mask_len(call.len)),
            _ => PooledBytes::new(call.to().size(), call.len),
        }
    }

    /// The call over bytes, into these outputs.
    fn run_into(
        self,
        call: &Call<'_, Buffer>,
        inputs: &[&Buffer],
        outputs: [Option<&mut [u8]>; MAX_OUTPUTS],
    ) -> Result<()> {
        let inputs: Vec<&[u8]> = inputs.iter().map(|input| &input.bytes[..]).collect();
        let bounds = call.bounds.try_map(|bound| Ok(&bound.bytes[..]))?;
        let Call { op, len, rule, scalars, to, wanted, .. } = *call;
        super::run(&Call { op, len, inputs: &inputs, bounds: &bounds, rule, scalars, to, wanted }, outputs)
    }
}

impl Backend for Cpu {
    type Buffer = Buffer;

    fn info(&self) -> DeviceInfo {
        DeviceInfo::cpu(super::threads())
    }

    fn same_device(&self, _: &Self) -> bool {
        true
    }

    fn upload<T: Element>(&self, data: &[T]) -> Result<Buffer> {
        let mut bytes = PooledBytes::new(size_of::<T>(), data.len())?;
        bytes.copy_from_slice(bytemuck::cast_slice(data));
        Ok(Buffer::new(bytes))
    }

    fn adopt<T: Element>(&self, data: Vec<T>) -> Result<Buffer> {
        Ok(Buffer::new(data.into()))
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn read_blocking<T: Element>(&self, buffer: &Buffer, len: usize) -> Result<Vec<T>> {
        memory::copy(&buffer.bytes, len)
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

    fn run(&self, call: &Call<'_, Buffer>) -> Result<[Option<Buffer>; MAX_OUTPUTS]> {
        let mut made = [None, None, None];
        for (place, operand) in call.outputs() {
            made[place] = Some(self.output(call, operand)?);
        }
        self.run_into(call, call.inputs, made.each_mut().map(|output| output.as_deref_mut()))?;
        Ok(made.map(|output| output.map(Buffer::new)))
    }

    fn run_in_place(&self, call: &Call<'_, Buffer>, target: &mut Buffer) -> Result<()> {
        if let Some(bytes) = Arc::get_mut(&mut target.bytes) {
            return self.run_into(call, call.inputs, [Some(bytes), None, None]);
        }
        let mut made = self.output(call, call.op.info().outputs[0])?;
        self.run_into(call, &with_target(call, target)?, [Some(&mut made), None, None])?;
        *target = Buffer::new(made);
        Ok(())
    }

    fn sum(&self, element: ElementType, from: &Buffer, reduction: &Reduction) -> Result<Buffer> {
        let mut sums = PooledBytes::new(element.size(), reduction.sums)?;
        with_element!(element, T => {
            let from = super::elements::<T>(&from.bytes)?;
            sum::sum(from, reduction, bytemuck::cast_slice_mut(&mut sums));
        });
        Ok(Buffer::new(sums))
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
