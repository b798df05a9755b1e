//! `.safetensors` files: a header in JSON, then the elements, little-endian, in C order.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorView};
use wgclip::{Element, ElementType, Shape};

use super::{Bytes, Entry, Layout, Pass, npy, write_all};

/// Bytes of the longest header that is read, as the format has it.
const LONGEST_HEADER: u64 = 100_000_000;

/// A `.safetensors` file whose header was read.
pub(super) struct Safetensors {
    name: String,
    file: File,
    header: Vec<u8>,
    /// Where each tensor is, from the end of the header.
    places: Vec<Place>,
}

#[derive(Clone, Copy)]
struct Place {
    start: u64,
    bytes: u64,
}

impl Safetensors {
    /// Reads the header, and checks it against the length of the file.
    pub(super) fn open(path: &Path, mut file: File) -> Result<(Self, Vec<(Entry, Layout)>)> {
        let name = path.display().to_string();
        if !file.metadata().with_context(|| format!("cannot read {name}"))?.is_file() {
            // A pipe is gone through once; this goes back and forth.
            let mut copy = tempfile::tempfile().context("cannot make a temporary file")?;
            io::copy(&mut file, &mut copy).with_context(|| format!("cannot read {name}"))?;
            copy.rewind().context("cannot read a temporary file")?;
            file = copy;
        }
        let (header, metadata) = read_header(&mut file)
            .map_err(|error| anyhow!("{name} is not a .safetensors file, or is damaged: {error}"))?;

        let (mut places, mut found) = (Vec::new(), Vec::new());
        for key in metadata.offset_keys() {
            let Some(info) = metadata.info(&key) else { continue };
            let shape = Shape::new(&info.shape[..]).with_context(|| format!("{name}, tensor '{key}'"))?;
            let element = element(info.dtype).ok_or_else(|| format!("{:?}", info.dtype));
            let (start, end) = info.data_offsets;
            places.push(Place { start: start as u64, bytes: (end - start) as u64 });
            let layout = Layout { swapped: cfg!(target_endian = "big"), fortran: false };
            found.push((Entry { name: key, element, shape }, layout));
        }
        Ok((Self { name, file, header, places }, found))
    }

    /// Reads the elements of a tensor as they lie there.
    pub(super) fn read<T: Element>(&mut self, index: usize, shape: &Shape) -> Result<Vec<T>> {
        self.seek(index).with_context(|| format!("cannot read {}", self.name))?;
        npy::read_elements(&self.name, &mut self.file, shape)
    }

    /// Writes the file with other elements in some tensors. Types and shapes are the same, and so is the header.
    pub(super) fn write(&mut self, out: &mut dyn Write, replaced: &[Option<Box<dyn Bytes>>]) -> Result<()> {
        self.rewrite(out, &mut |index, _, out| {
            let Some(data) = &replaced[index] else { return Ok(false) };
            write_all(out, data.bytes())?;
            Ok(true)
        })
    }

    /// Writes the file with the elements of the chosen tensors passed through `pass`.
    pub(super) fn stream(
        &mut self,
        out: &mut dyn Write,
        chosen: &[usize],
        pass: &mut Pass<'_>,
    ) -> Result<()> {
        self.rewrite(out, &mut |index, file, out| {
            if !chosen.contains(&index) {
                return Ok(false);
            }
            pass(index, file, out).map(|()| true)
        })
    }

    /// Writes the file. `other` writes what is to stand in the place of a tensor, and says whether it did.
    fn rewrite(
        &mut self,
        out: &mut dyn Write,
        other: &mut dyn FnMut(usize, &mut File, &mut dyn Write) -> Result<bool>,
    ) -> Result<()> {
        out.write_all(&self.header)?;
        // In the order of the data, which the keys are in too: the format has no gaps.
        for index in 0..self.places.len() {
            self.seek(index)?;
            if !other(index, &mut self.file, out)? {
                let Place { bytes, .. } = self.places[index];
                copy(&mut (&mut self.file).take(bytes), out)?;
            }
        }
        Ok(())
    }

    fn seek(&mut self, index: usize) -> io::Result<u64> {
        self.file.seek(SeekFrom::Start(self.header.len() as u64 + self.places[index].start))
    }
}

/// In pieces, between which a signal can end the run.
fn copy(from: &mut impl Read, out: &mut dyn Write) -> Result<()> {
    let mut piece = vec![0; 1 << 20];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(()),
            n => out.write_all(&piece[..n])?,
        }
    }
}

/// The header's bytes, its length before it, and what it says.
fn read_header(file: &mut File) -> Result<(Vec<u8>, Metadata)> {
    let size = file.metadata()?.len();
    let mut header = vec![0; 8];
    file.read_exact(&mut header).map_err(|_| anyhow!("it has no header"))?;
    let mut len = [0; 8];
    len.copy_from_slice(&header);
    let len = u64::from_le_bytes(len);
    if len > LONGEST_HEADER || len > size - 8 {
        bail!("its header is too long");
    }
    file.take(len).read_to_end(&mut header)?;
    let metadata: Metadata = serde_json::from_slice(&header[8..])?;
    let data = check_data(&metadata)?;
    if header.len() as u64 + data != size {
        bail!("its header promises {data} bytes of data, but it holds {}", size - header.len() as u64);
    }
    Ok((header, metadata))
}

/// Bytes of the data, which the tensors are to fill one after the other, each with its own.
fn check_data(metadata: &Metadata) -> Result<u64> {
    let mut end = 0;
    for key in metadata.offset_keys() {
        let Some(info) = metadata.info(&key) else { continue };
        let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |bits, &len| bits.checked_mul(len));
        let (start, next) = info.data_offsets;
        let bytes = next.checked_sub(start);
        if start != end || bits.is_none() || bytes.and_then(|bytes| bytes.checked_mul(8)) != bits {
            bail!("the data of tensor '{key}' is not where it should be, or of another length");
        }
        end = next;
    }
    Ok(end as u64)
}

/// Writes a file of one tensor.
pub(super) fn write_one<T: Element>(
    out: &mut dyn Write,
    name: &str,
    shape: &Shape,
    data: &[T],
) -> Result<()> {
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
