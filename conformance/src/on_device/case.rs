//! Runs cases on a device.

use wgclip::bounds::BroadcastInputs;
use wgclip::op::{Arguments, Codes, Op, Operand};
use wgclip::{
    Bound, Bounds, Device, DynTensor, Element, ElementType, Error, Result, Tensor, reference, testing,
};

use crate::case::{Case, Host, Mismatch, Oracle, Tally, Variant};
use crate::parallel;

pub(super) fn on_device<T: Element>(bound: &Bound<T, Host<T>>, device: &Device) -> Result<Bound<T>> {
    match bound {
        Bound::Absent => Ok(Bound::Absent),
        Bound::Value(value) => Ok(Bound::Value(*value)),
        Bound::Tensor(host) => device.tensor(&host.data, &host.dims[..]).map(Bound::Tensor),
    }
}

/// Bytes of x, counted once for each variant, that are recorded before results are read.
const RECORDED_BYTES: usize = 16 << 20;

/// The operands of a case, and where they are.
pub(super) struct Uploaded<'a, T: Element> {
    pub device: &'a Device,
    pub x: Tensor<T>,
    g: Tensor<T>,
    bounds: Bounds<T>,
    others: Vec<Bound<T>>,
}

/// The outputs of a variant.
type Outputs<T> = Vec<(Operand, Tensor<T>)>;

impl<T: Element> Case<T> {
    /// Runs variants of an operation on a device and compares each element of each of their results. The operands are uploaded once,
    /// and as many variants as the memory limit allows are recorded before the first result is read, since a read waits for the device. A
    /// variant that the device reports as unsupported is skipped.
    ///
    /// # Errors
    /// Those of the device.
    pub(crate) fn compare(
        &self,
        device: &Device,
        oracle: &Oracle<T>,
        variants: impl IntoIterator<Item = Variant>,
    ) -> Result<Tally> {
        let mut tally = Tally::default();
        let variants: Vec<_> = variants.into_iter().collect();
        if variants.is_empty() {
            return Ok(tally);
        }
        let upload = |data: &[T]| device.tensor(data, &self.dims[..]);
        let bounds = Bounds::new(on_device(&self.lo, device)?, on_device(&self.hi, device)?)?;
        let others = self.others.iter().map(|input| on_device(input, device)).collect::<Result<_>>()?;
        let uploaded = Uploaded { device, x: upload(&self.x)?, g: upload(&self.g)?, bounds, others };
        let batch = (RECORDED_BYTES / size_of_val(&self.x[..]).max(1)).max(1);
        for variants in variants.chunks(batch) {
            let mut recorded = Vec::new();
            for &variant in variants {
                if variant.op.info().codes != Codes::None {
                    tally.add(self.compare_codes(&uploaded, variant)?);
                } else if variant.op.info().converts {
                    tally.add(supported(self.compare_converted(&uploaded))?.unwrap_or_default());
                } else if let Some(outputs) = supported(self.record(&uploaded, variant))? {
                    recorded.push((variant, outputs));
                }
            }
            for (variant, outputs) in recorded {
                let read = |(operand, tensor): (Operand, Tensor<T>)| Ok((operand, tensor.into_vec()?));
                let actual = outputs.into_iter().map(read).collect::<Result<_>>()?;
                let expected = self.run_reference(oracle, variant);
                tally.add(self.compare_results(&device.info().to_string(), variant, &expected, &actual));
            }
        }
        Ok(tally)
    }

    /// Compares a conversion to other float types.
    fn compare_converted(&self, on: &Uploaded<'_, T>) -> Result<Tally> {
        let mut tally = Tally::default();
        let floats: Vec<_> = ElementType::ALL.iter().filter(|to| to.is_float()).collect();
        // Any one will do: upstream gradients are random.
        let any = self.g.iter().map(|g| g.to_bits()).fold(0, u64::wrapping_add) as usize % floats.len();
        let clip = |i: usize| reference::clip(self.x[i], self.at(&self.lo, i), self.at(&self.hi, i));
        let clipped = parallel::map_many(self.x.len(), &clip);
        for (_, &&to) in floats.iter().enumerate().filter(|&(n, _)| self.all_types || n == any) {
            poison(on.device, to, self.x.len(), 1)?;
            let actual = converted(&on.x, &on.bounds, to)?;
            let convert = |i: usize| reference::converted_bits(clipped[i], to);
            let expected = parallel::map_many(self.x.len(), &convert);
            tally.compare(&expected, &actual, |mismatch| Mismatch {
                device: on.device.info().to_string(),
                element: T::TYPE,
                op: format!("clip_to {to}"),
                operands: self.describe(),
                inputs: Some([self.x.get(mismatch.index).map_or(0, |x| x.to_bits()), 0]),
                ..mismatch
            });
        }
        Ok(tally)
    }

    /// Records a variant, without waiting for its outputs.
    fn record(&self, on: &Uploaded<'_, T>, variant: Variant) -> Result<Outputs<T>> {
        let Variant { op, in_place, rule, quant } = variant;
        let Uploaded { device, x, g, bounds, others } = on;
        if !in_place {
            poison(device, T::TYPE, self.x.len(), op.info().outputs.len())?;
        }
        // Operations that produce or read a mask are compared by the gradient that the mask passes.
        let masked = op.has(Operand::Mask).then(|| x.clip_with_mask(bounds, rule)).transpose()?;
        if let (Op::ClipWithMask, Some((y, mask))) = (op, &masked) {
            let passed = mask.backward(g)?;
            return Ok(vec![(Operand::Y, y.clone()), (Operand::Mask, passed)]);
        }
        let mask = masked.as_ref().map(|(_, mask)| mask);
        let outputs = op.info().outputs;
        let needs =
            std::array::from_fn(|index| outputs.get(index).is_some_and(|&output| self.needs(op, output)));
        let (others, params) = (&others[..], self.params_of(op));
        let operands = testing::Operands {
            mask,
            others,
            params,
            quant,
            needs,
            ..testing::Operands::new(x, g, bounds, rule)
        };
        if !in_place {
            return testing::run(op, &operands);
        }
        // Not shared, so that it can be overwritten.
        let target = if op.info().in_place == Some(Operand::G) { &self.g } else { &self.x };
        let mut target = device.tensor(target, &self.dims[..])?;
        testing::run_in_place(op, &operands, &mut target)?;
        Ok(vec![(outputs[0], target)])
    }
}

/// The bits of a clip into a type that is a value.
fn converted<T: Element>(x: &Tensor<T>, bounds: &Bounds<T>, to: ElementType) -> Result<Vec<u64>> {
    let bounds = [bounds.lo().as_dyn(), bounds.hi().as_dyn()];
    let broadcast = BroadcastInputs::new(Op::ClipTo.info().broadcast, x.shape(), bounds)?;
    let arguments = Arguments { to: Some(to), ..Arguments::new(&broadcast) };
    bits_of(&DynTensor::run(Op::ClipTo, &[x.as_dyn()], &[Operand::Y], &arguments)?, to)
}

/// The bits of the first of some outputs, of a type that is a value.
pub(super) fn bits_of(outputs: &[DynTensor], to: ElementType) -> Result<Vec<u64>> {
    let bytes = outputs.first().map_or(Ok(Vec::new()), DynTensor::to_bytes)?;
    let bits = |element: &[u8]| element.iter().rev().fold(0, |bits, &byte| bits << 8 | u64::from(byte));
    Ok(bytes.chunks_exact(to.size()).map(bits).collect())
}

/// Allocates and frees memory filled with a pattern, which the pool reuses for the next outputs.
pub(super) fn poison(device: &Device, element: ElementType, len: usize, outputs: usize) -> Result<()> {
    let made: Vec<_> = (0..outputs).map(|_| testing::poison(device, element, len)).collect::<Result<_>>()?;
    drop(made);
    Ok(())
}

/// Treats a case that a device reports as unsupported as no case.
pub(super) fn supported<T>(done: Result<T>) -> Result<Option<T>> {
    match done {
        Err(Error::Unsupported { .. }) => Ok(None),
        done => done.map(Some),
    }
}
