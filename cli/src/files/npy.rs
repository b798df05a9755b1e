//! numpy's `.npy` files.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use npyz::{DType, NpyHeader, Order};
use wgclip::{Element, ElementType, Shape};

use super::{Bytes, Entry, Layout, Pass, room, write_all};

/// Bytes of the longest header that is read, as in numpy: more is an attack, or no header.
const LONGEST_HEADER: u64 = 10_000;

/// Brackets within brackets of the deepest header that is read: record types nest a few.
const DEEPEST_HEADER: i32 = 8;

/// A `.npy` file whose header was read.
pub(super) struct Npy {
    name: String,
    file: File,
    header: Vec<u8>,
}

impl Npy {
    /// Reads the header.
    pub(super) fn open(path: &Path, mut file: File) -> Result<(Self, (Entry, Layout))> {
        let name = path.display().to_string();
        let (header, found) = read_header(&name, &mut file)?;
        Ok((Self { name, file, header }, found))
    }

    /// Reads the elements as they lie there.
    pub(super) fn read<T: Element>(&mut self, shape: &Shape) -> Result<Vec<T>> {
        // Before memory is taken for what the header promises.
        self.check_length(bytes_of::<T>(shape))?;
        read_elements(&self.name, &mut self.file, shape)
    }

    fn check_length(&mut self, promised: u64) -> Result<()> {
        let metadata = self.file.metadata().with_context(|| format!("cannot read {}", self.name))?;
        if metadata.is_file() {
            let start = self.file.stream_position()?;
            let there = metadata.len().saturating_sub(start);
            if there != promised {
                return Err(damaged(&self.name, promised, &there.to_string()));
            }
        }
        Ok(())
    }

    /// Writes the file with its elements passed through `pass`.
    pub(super) fn stream(&mut self, out: &mut dyn Write, entry: &Entry, pass: &mut Pass<'_>) -> Result<()> {
        self.check_length(entry.bytes())?;
        out.write_all(&self.header)?;
        pass(0, &mut self.file, out)
    }

    /// Writes the file with other elements.
    pub(super) fn write(&self, out: &mut dyn Write, data: Option<&dyn Bytes>) -> Result<()> {
        out.write_all(&self.header)?;
        data.map_or(Ok(()), |data| Ok(write_all(out, data.bytes())?))
    }
}

/// Reads as many elements as the shape holds.
pub(super) fn read_elements<T: Element>(name: &str, from: &mut impl Read, shape: &Shape) -> Result<Vec<T>> {
    let mut data = room::<T>(name, shape.len())?;
    match from.read_exact(bytemuck::cast_slice_mut(&mut data)) {
        Ok(()) => Ok(data),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(damaged(name, bytes_of::<T>(shape), "fewer"))
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {name}")),
    }
}

pub(super) fn bytes_of<T: Element>(shape: &Shape) -> u64 {
    shape.len() as u64 * size_of::<T>() as u64
}

pub(super) fn damaged(name: &str, promised: u64, holds: &str) -> anyhow::Error {
    anyhow!("{name} is damaged: its header promises {promised} bytes of data, but it holds {holds}")
}

/// Writes a file of one tensor in C order.
pub(super) fn write_one<T: Element>(out: &mut dyn Write, shape: &Shape, data: &[T]) -> Result<()> {
    let Some(code) = numpy_code(T::TYPE) else {
        bail!("a .npy file cannot hold {}: name a .safetensors file", T::TYPE);
    };
    let order = match (cfg!(target_endian = "little"), size_of::<T>()) {
        (_, 1) => '|',
        (true, _) => '<',
        (false, _) => '>',
    };
    let dims: String = shape.dims().iter().map(|len| format!("{len}, ")).collect();
    let text =
        format!("{{'descr': '{order}{code}', 'fortran_order': False, 'shape': ({}), }}", dims.trim_end());
    // The elements begin at a multiple of 64, as numpy has it.
    let len = (10 + text.len() + 1).next_multiple_of(64) - 10;
    out.write_all(b"\x93NUMPY\x01\x00")?;
    out.write_all(&u16::try_from(len)?.to_le_bytes())?;
    out.write_all(format!("{text:width$}\n", width = len - 1).as_bytes())?;
    write_all(out, bytemuck::cast_slice(data))?;
    Ok(())
}

/// Reads a header: its bytes, and what it says.
pub(super) fn read_header(name: &str, from: &mut impl Read) -> Result<(Vec<u8>, (Entry, Layout))> {
    let (header, bytes) = parse_header(from).map_err(|error| {
        anyhow!("{name} is not a .npy file ({}): save one with numpy.save", one_line(&error))
    })?;
    let dtype = header.dtype();
    let (element, swapped) = match element(&dtype) {
        Some((element, swapped)) => (Ok(element), swapped),
        None => (Err(dtype.descr()), false),
    };
    let dims: Option<Vec<usize>> = header.shape().iter().map(|&d| d.try_into().ok()).collect();
    let shape = dims.and_then(|dims| Shape::new(dims).ok());
    let shape = shape.with_context(|| {
        format!("{name} is damaged: its header claims the impossible shape {:?}", header.shape())
    })?;
    let layout = Layout { swapped, fortran: header.order() == Order::Fortran };
    Ok((bytes, (Entry { name: String::new(), element, shape }, layout)))
}

/// Reads a header, and returns its bytes too. Its text is bounded before it is parsed, which takes time
/// exponential in its nesting.
fn parse_header(file: &mut impl Read) -> io::Result<(NpyHeader, Vec<u8>)> {
    let invalid = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    let mut bytes = Vec::new();
    file.take(10).read_to_end(&mut bytes)?;
    if !bytes.starts_with(b"\x93NUMPY") || bytes.len() < 10 {
        return invalid("it does not begin as one");
    }
    let text = if bytes[6] < 2 {
        u64::from(u16::from_le_bytes([bytes[8], bytes[9]]))
    } else {
        bytes.resize(12, 0);
        file.read_exact(&mut bytes[10..])?;
        u64::from(u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]))
    };
    let before = bytes.len();
    file.take(text.min(LONGEST_HEADER)).read_to_end(&mut bytes)?;
    let depth = bytes[before..].iter().scan(0i32, |depth, byte| {
        *depth += i32::from(b"([{".contains(byte)) - i32::from(b")]}".contains(byte));
        Some(*depth)
    });
    if text > LONGEST_HEADER || depth.max() > Some(DEEPEST_HEADER) {
        return invalid("its header is too long or too deep");
    }
    Ok((NpyHeader::from_reader(&bytes[..])?, bytes))
}

/// The element type of a plain numpy type, and whether it is against this machine's byte order.
fn element(dtype: &DType) -> Option<(ElementType, bool)> {
    let DType::Plain(plain) = dtype else { return None };
    let text = plain.to_string();
    let (order, code) = text.split_at_checked(1)?;
    let native = if cfg!(target_endian = "little") { "<" } else { ">" };
    Some((numpy_element(code)?, !["|", "=", native].contains(&order)))
}

fn one_line(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return "its header is cut off".into();
    }
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_end_matches(':').to_owned()
}

/// numpy's type strings, less their byte order. It has no name for bf16.
const NUMPY: [(ElementType, &str); 11] = [
    (ElementType::F32, "f4"),
    (ElementType::F16, "f2"),
    (ElementType::F64, "f8"),
    (ElementType::I8, "i1"),
    (ElementType::U8, "u1"),
    (ElementType::I16, "i2"),
    (ElementType::U16, "u2"),
    (ElementType::I32, "i4"),
    (ElementType::U32, "u4"),
    (ElementType::I64, "i8"),
    (ElementType::U64, "u8"),
];

fn numpy_code(element: ElementType) -> Option<&'static str> {
    NUMPY.iter().find(|(known, _)| *known == element).map(|(_, code)| *code)
}

fn numpy_element(code: &str) -> Option<ElementType> {
    NUMPY.iter().find(|(_, known)| *known == code).map(|(element, _)| *element)
}
