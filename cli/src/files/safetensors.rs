//! `.safetensors` files: a header in JSON, then the elements, little-endian, in C order.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use wgclip::{Element, ElementType, Shape};

use super::{Bytes, Entry, Layout, room, write_all};

/// A `.safetensors` file, in memory.
pub struct Safetensors {
    bytes: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

impl Safetensors {
    /// Reads the file, and checks its header.
    pub fn open(path: &Path, mut file: File) -> Result<(Self, Vec<(Entry, Layout)>)> {
        let name = path.display();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(|| format!("cannot read {name}"))?;
        let invalid = |error| anyhow!("{name} is not a .safetensors file: {error}");
        // This checks the offsets against the data.
        SafeTensors::deserialize(&bytes).map_err(invalid)?;
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(invalid)?;
        let start = 8 + header;

        let (mut ranges, mut found) = (Vec::new(), Vec::new());
        for key in metadata.offset_keys() {
            let Some(info) = metadata.info(&key) else { continue };
            let shape = Shape::new(&info.shape[..]).with_context(|| format!("{name}, tensor '{key}'"))?;
            let element = element(info.dtype).ok_or_else(|| format!("{:?}", info.dtype));
            ranges.push(start + info.data_offsets.0..start + info.data_offsets.1);
            let layout = Layout { swapped: cfg!(target_endian = "big"), fortran: false };
            found.push((Entry { name: key, element, shape }, layout));
        }
        Ok((Self { bytes, ranges }, found))
    }

    /// Reads the elements of a tensor as they lie there.
    pub fn read<T: Element>(&mut self, index: usize, shape: &Shape) -> Result<Vec<T>> {
        let mut data = room::<T>("the tensor", shape.len())?;
        bytemuck::cast_slice_mut(&mut data).copy_from_slice(&self.bytes[self.ranges[index].clone()]);
        Ok(data)
    }

    /// Writes the file with other elements in some tensors. Types and shapes are the same, and so is the header.
    pub fn write(&mut self, out: &mut dyn Write, replaced: &[Option<Box<dyn Bytes>>]) -> io::Result<()> {
        for (range, data) in self.ranges.iter().zip(replaced) {
            if let Some(data) = data {
                self.bytes[range.clone()].copy_from_slice(data.bytes());
            }
        }
        write_all(out, &self.bytes)
    }
}

/// Writes a file of one tensor.
pub fn write_one<T: Element>(out: &mut dyn Write, name: &str, shape: &Shape, data: &[T]) -> Result<()> {
    let data = Layout { swapped: cfg!(target_endian = "big"), fortran: false }.encode(data.to_vec(), shape);
    let dtype = dtype(T::TYPE).with_context(|| format!("a .safetensors file cannot hold {}", T::TYPE))?;
    let view = TensorView::new(dtype, shape.dims().to_vec(), data.bytes())?;
    out.write_all(&safetensors::serialize([(name, view)], None)?)?;
    Ok(())
}

/// The format's names are those of the types, in capitals.
fn element(dtype: Dtype) -> Option<ElementType> {
    ElementType::from_name(&dtype.to_string().to_lowercase())
}

fn dtype(element: ElementType) -> Option<Dtype> {
    serde_json::from_value(element.name().to_uppercase().into()).ok()
}
