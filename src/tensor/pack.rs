//! 4-bit codes, one or two a byte.

use super::run::first;
use super::{DynTensor, Stored, Tensor, with_storage};
use crate::backend::Backend;
use crate::broadcast::BroadcastInputs;
use crate::op::Arguments;
use crate::quantize::QuantRule;
use crate::{Element, ElementType, Error, Op, Result, Shape};

impl DynTensor {
    /// Packs 4-bit codes, each the low bits of an i8 or u8, two into a byte: the first of a pair in the low bits, as in ONNX and safetensors. The
    /// last axis has half as many bytes.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another type, and for a last axis without pairs; otherwise as [`run`](Self::run).
    #[must_use = "the tensor itself is not changed"]
    pub fn pack4(&self) -> Result<Self> {
        check_codes(self.element)?;
        let shape = self.with_last(|last| last.is_multiple_of(2).then_some(last / 2))?;
        convert(Op::Pack4, &self.of_type(ElementType::U16, shape)?, ElementType::U8, QuantRule::EXACT)
    }

    /// The reverse: the two codes of each packed byte, a u8, as i8 or u8. As i8 they are integers with a sign.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for other types, and for a tensor without axes; otherwise as [`run`](Self::run).
    #[must_use = "the tensor itself is not changed"]
    pub fn unpack4(&self, to: ElementType) -> Result<Self> {
        self.check_type(ElementType::U8)?;
        check_codes(to)?;
        let rule = if to == ElementType::I8 { QuantRule::EXACT } else { QuantRule::E2M1 };
        let shape = self.with_last(|last| last.checked_mul(2))?;
        convert(Op::Unpack4, self, ElementType::U16, rule)?.of_type(to, shape)
    }

    /// The shape with another length of the last axis.
    fn with_last(&self, len: impl FnOnce(usize) -> Option<usize>) -> Result<Shape> {
        let mut dims = self.shape.dims().to_vec();
        let Some((last, len)) = dims.last_mut().and_then(|last| len(*last).map(|len| (last, len))) else {
            return Err(Error::Unsupported {
                what: format!("pairs of 4-bit codes in a tensor of shape {:?}", self.shape.dims()),
                device: "any device".into(),
                instead: "give a last axis with an even number of codes".into(),
            });
        };
        *last = len;
        Shape::new(dims)
    }

    /// The same bytes as elements of another type, in a shape with as many bytes.
    fn of_type(&self, element: ElementType, shape: Shape) -> Result<Self> {
        let storage = with_storage!(&self.storage, backend, x => backend.store(backend.of_type(x, element)?));
        Ok(Self::new(element, storage, shape))
    }
}

fn convert(op: Op, x: &DynTensor, to: ElementType, quant: QuantRule) -> Result<DynTensor> {
    let none = BroadcastInputs::none(x.element);
    first(op, &[x], &Arguments { quant, to: Some(to), ..Arguments::new(&none) })
}

fn check_codes(element: ElementType) -> Result<()> {
    match element {
        ElementType::I8 | ElementType::U8 => Ok(()),
        _ => Err(Error::Unsupported {
            what: format!("4-bit codes of {element}"),
            device: "any device".into(),
            instead: "they are i8 or u8".into(),
        }),
    }
}

impl<T: Element> Tensor<T> {
    /// Packs 4-bit codes, each the low bits of an i8 or u8, two into a byte: the first of a pair in the low bits, as in ONNX and safetensors. The
    /// last axis has half as many bytes.
    ///
    /// ```
    /// use wgclip::Device;
    ///
    /// let codes = Device::cpu().tensor(&[3i8, -2, 7, -8], [2, 2])?;
    /// let packed = codes.pack4()?;
    /// assert_eq!((packed.shape().dims(), packed.to_vec()?), (&[2, 1][..], vec![0xe3, 0x87]));
    /// assert_eq!(packed.unpack4::<i8>()?.to_vec()?, codes.to_vec()?);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`DynTensor::pack4`].
    #[must_use = "the tensor itself is not changed"]
    pub fn pack4(&self) -> Result<Tensor<u8>> {
        self.as_dyn().pack4().map(Tensor::of)
    }

    /// The reverse: the two codes of each packed byte, a u8, as i8 or u8. As i8 they are integers with a sign.
    ///
    /// # Errors
    /// As [`DynTensor::unpack4`].
    #[must_use = "the tensor itself is not changed"]
    pub fn unpack4<C: Element>(&self) -> Result<Tensor<C>> {
        self.as_dyn().unpack4(C::TYPE).map(Tensor::of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;

    #[test]
    fn every_pair_of_codes_comes_back() {
        let device = Device::cpu();
        let pairs: Vec<u8> = (0..=255u8).flat_map(|byte| [byte & 15, byte >> 4]).collect();
        let packed = device.tensor(&pairs, [16, 32]).unwrap().pack4().unwrap();
        assert_eq!((packed.shape().dims(), packed.to_vec().unwrap()), (&[16, 16][..], (0..=255).collect()));
        assert_eq!(packed.unpack4::<u8>().unwrap().to_vec().unwrap(), pairs);
        let signed = packed.unpack4::<i8>().unwrap();
        let expected: Vec<_> = pairs.iter().map(|&code| (code << 4) as i8 >> 4).collect();
        assert_eq!((signed.shape().dims(), signed.to_vec().unwrap()), (&[16, 32][..], expected));
        assert_eq!(signed.pack4().unwrap().to_vec().unwrap(), packed.to_vec().unwrap());
    }

    #[test]
    fn what_has_no_pairs_is_refused() {
        let device = Device::cpu();
        let odd = device.tensor(&[1i8, 2, 3], [3]).unwrap();
        let scalar = device.tensor(&[1u8], []).unwrap();
        let words = device.tensor(&[1u16, 2], [2]).unwrap();
        for refused in [odd.pack4(), scalar.pack4(), words.pack4(), scalar.unpack4(), odd.unpack4()] {
            assert!(
                matches!(refused, Err(Error::Unsupported { .. } | Error::TypeMismatch { .. })),
                "{refused:?}"
            );
        }
        assert!(matches!(
            device.tensor(&[1u8, 2], [2]).unwrap().unpack4::<u16>(),
            Err(Error::Unsupported { .. })
        ));
        let empty = device.tensor::<i8>(&[], [0, 4]).unwrap().pack4().unwrap();
        assert_eq!(empty.shape().dims(), [0, 2]);
    }
}
