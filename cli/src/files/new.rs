//! `.safetensors` files whose tensors are not those of another file: with other names, types or shapes.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Result, bail};
use wgclip::{ElementType, with_element};

use super::safetensors::{Info, METADATA, dtype, header_bytes};
use super::{Entry, Format, Layout, TensorFile, copy, extension, write_all};

impl TensorFile {
    /// The metadata of a `.safetensors` file, if it has any.
    pub fn metadata(&self) -> Option<&serde_json::Value> {
        match &self.format {
            Format::Safetensors(safetensors) => safetensors.metadata(),
            Format::Npy(_) | Format::Npz(_) => None,
        }
    }

    /// A tensor as a `.safetensors` file holds it.
    ///
    /// # Errors
    /// If the type is one that `.safetensors` lacks.
    pub fn as_new(&self, index: usize) -> Result<NewTensor> {
        let Entry { name, shape, .. } = &self.entries[index];
        match &self.format {
            Format::Safetensors(safetensors) => {
                let (dtype, bytes) = (safetensors.dtype(index).to_owned(), safetensors.bytes(index));
                Ok(NewTensor { name: name.clone(), dtype, shape: shape.dims().to_vec(), bytes })
            }
            _ => Ok(NewTensor::new(name.clone(), self.element(index)?, shape.dims().to_vec())),
        }
    }

    /// Writes the elements of a tensor as a `.safetensors` file holds them.
    ///
    /// # Errors
    /// Those of the reader and the writer.
    pub fn copy_as_new(&mut self, index: usize, out: &mut dyn Write) -> Result<()> {
        match &self.format {
            Format::Safetensors(safetensors) => {
                let mut reader = safetensors.reader(index).take(safetensors.bytes(index));
                copy(&mut reader, out)
            }
            _ => with_element!(self.element(index)?, T => {
                let little = Layout { swapped: cfg!(target_endian = "big"), fortran: false };
                let mut data = self.read::<T>(index)?;
                little.swap(&mut data);
                Ok(write_all(out, bytemuck::cast_slice(&data))?)
            }),
        }
    }
}

/// A tensor of a file to be written.
#[derive(Debug, Clone)]
pub struct NewTensor {
    /// Its name.
    pub name: String,
    /// The format's name of its type.
    pub dtype: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Bytes of its elements.
    pub bytes: u64,
}

impl NewTensor {
    /// A tensor of a type that the format has.
    pub fn new(name: String, element: ElementType, shape: Vec<usize>) -> Self {
        let bytes = (shape.iter().product::<usize>() * element.size()) as u64;
        Self { name, dtype: dtype(element), shape, bytes }
    }
}

/// Writes the header of a file of these tensors, whose elements follow in the same order, little-endian and in C order. To be aligned, those of longer types
/// come first.
///
/// # Errors
/// Those of `out`, and for two tensors of one name.
pub fn write_header(
    out: &mut dyn Write,
    metadata: Option<&serde_json::Value>,
    tensors: &[NewTensor],
) -> Result<()> {
    let mut header = serde_json::Map::new();
    if let Some(metadata) = metadata {
        header.insert(METADATA.into(), metadata.clone());
    }
    let mut end = 0;
    for NewTensor { name, dtype, shape, bytes } in tensors {
        let info = Info { dtype: dtype.clone(), shape: shape.clone(), data_offsets: (end, end + bytes) };
        if header.insert(name.clone(), serde_json::to_value(info)?).is_some() {
            bail!("there would be two tensors of the name '{name}'");
        }
        end += bytes;
    }
    Ok(out.write_all(&header_bytes(&header)?)?)
}

/// Whether a path names a `.safetensors` file, or one without an ending that says otherwise.
///
/// # Errors
/// If it does not.
pub fn check_safetensors_output(path: &Path) -> Result<()> {
    match extension(path) {
        Some("npy" | "npz") => {
            bail!("{} would hold a .safetensors file: give it that ending", path.display())
        }
        _ => Ok(()),
    }
}
