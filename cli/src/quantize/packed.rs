//! 4-bit codes, two a byte, as `.safetensors` files hold them.

use std::io::{self, Write};

use anyhow::{Context, Error, Result, bail};
use wgclip::quantize::{CodeFormat, QuantRule};
use wgclip::{Device, DynTensor, ElementType};

use crate::files::NewTensor;

/// What is added to the name of a tensor for its packed integers, and for its shape, as compressed-tensors names them.
pub(super) const PACKED: &str = "_packed";
pub(super) const SHAPE: &str = "_shape";

/// The type of `.safetensors` for 4-bit floats, two a byte, the first in the low bits.
pub(super) const F4: &str = "F4";

/// 4-bit integers in an I32.
const PER_WORD: usize = 8;

/// Codes of 4 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// Floats, as F4.
    E2M1,
    /// Integers, 8 more than those that are meant, in I32.
    Int4,
}

impl Packing {
    /// How codes that are u8 are read, and their zero point.
    pub(super) fn rule(self) -> (QuantRule, f32) {
        match self {
            Self::E2M1 => (QuantRule::E2M1, 0.0),
            Self::Int4 => (QuantRule { format: CodeFormat::Integer, ..QuantRule::E2M1 }, 8.0),
        }
    }

    /// The tensor of the codes of one of these dimensions, and that of its shape where that is another; and the size that they are aligned to.
    ///
    /// # Errors
    /// For dimensions that do not fill bytes or words.
    pub(super) fn tensors(
        self,
        name: &str,
        dims: &[usize],
        what: &str,
    ) -> Result<(usize, NewTensor, Option<NewTensor>)> {
        let unit = if self == Self::E2M1 { 2 } else { PER_WORD };
        let Some((last, rows)) = dims.split_last().filter(|(last, _)| last.is_multiple_of(unit)) else {
            bail!(
                "{what} has the shape {dims:?}, and packed codes need a last axis of a multiple of {unit}: leave it out with --except"
            );
        };
        Ok(match self {
            Self::E2M1 => {
                let bytes = dims.iter().product::<usize>() as u64 / 2;
                let codes = NewTensor { name: name.into(), dtype: F4.into(), shape: dims.to_vec(), bytes };
                (1, codes, None)
            }
            Self::Int4 => {
                let words = [rows, &[last / PER_WORD]].concat();
                let codes = NewTensor::new(format!("{name}{PACKED}"), ElementType::I32, words);
                let shape = NewTensor::new(format!("{name}{SHAPE}"), ElementType::I64, vec![dims.len()]);
                (4, codes, Some(shape))
            }
        })
    }
}

/// The contents of the tensor of a shape.
pub(super) fn shape_bytes(dims: &[usize]) -> Vec<u8> {
    dims.iter().flat_map(|&len| (len as u64).to_le_bytes()).collect()
}

/// Codes that are bytes, two in each: in whole words they are little-endian, as `.safetensors` files are.
pub(super) fn pack(codes: Vec<u8>) -> Result<Vec<u8>> {
    let len = codes.len();
    Ok(Device::cpu().tensor_from_vec(codes, [len])?.pack4()?.into_vec()?)
}

/// The codes of bytes, as u8 of a shape.
///
/// # Errors
/// For a last axis without pairs.
pub(super) fn unpack(device: &Device, bytes: Vec<u8>, shape: &[usize]) -> Result<DynTensor> {
    let mut packed = shape.to_vec();
    let last = packed.last_mut().filter(|last| last.is_multiple_of(2));
    *last.context("the groups of packed codes have an odd number of elements")? /= 2;
    Ok(device.tensor_from_vec(bytes, packed)?.unpack4::<u8>()?.into())
}

/// Takes bytes in whole pieces, however they are written.
pub(super) struct Pieces<'a> {
    bytes: Vec<u8>,
    len: usize,
    take: &'a mut dyn FnMut(Vec<u8>) -> Result<()>,
    /// Why it takes no more.
    failed: Option<Error>,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(len: usize, take: &'a mut dyn FnMut(Vec<u8>) -> Result<()>) -> Self {
        Self { bytes: Vec::new(), len: len.max(1), take, failed: None }
    }

    /// Passes on the last piece, which may be shorter.
    ///
    /// # Errors
    /// Why a piece was not taken, or else that of the writer.
    pub(super) fn end(self, written: Result<()>) -> Result<()> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        written?;
        if self.bytes.is_empty() { Ok(()) } else { (self.take)(self.bytes) }
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.len - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..count]);
        if self.bytes.len() == self.len {
            (self.take)(std::mem::take(&mut self.bytes)).map_err(|error| {
                self.failed = Some(error);
                io::Error::other("a piece was not taken")
            })?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole_whatever_is_written() {
        let mut pieces = Vec::new();
        let mut take = |piece| {
            pieces.push(piece);
            Ok(())
        };
        let mut writer = Pieces::new(4, &mut take);
        for part in [&[1, 2, 3][..], &[], &[4, 5, 6, 7, 8, 9], &[10]] {
            writer.write_all(part).unwrap();
        }
        writer.end(Ok(())).unwrap();
        assert_eq!(pieces, [vec![1, 2, 3, 4], vec![5, 6, 7, 8], vec![9, 10]]);
        let mut refuse = |_| bail!("no");
        let mut writer = Pieces::new(2, &mut refuse);
        let written = writer.write_all(&[1, 2, 3]).map_err(Error::from);
        assert_eq!(writer.end(written).unwrap_err().to_string(), "no");
    }
}
