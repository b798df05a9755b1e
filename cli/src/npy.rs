//! numpy's `.npy` files.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use npyz::{DType, NpyHeader, Order};
use wgclip::{Element, ElementType, Shape};

/// Bytes of the longest header that is read, as in numpy: more is an attack, or no header.
const LONGEST_HEADER: u64 = 10_000;

/// Brackets within brackets of the deepest header that is read: record types nest a few.
const DEEPEST_HEADER: i32 = 8;

/// A `.npy` file whose header was read and found to hold a tensor that can be clipped.
pub struct Npy {
    path: PathBuf,
    file: File,
    element: ElementType,
    header: Vec<u8>,
    shape: Shape,
}

impl Npy {
    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display();
        let mut file = File::open(path).with_context(|| format!("cannot open {name}"))?;
        if file.metadata().is_ok_and(|there| there.is_dir()) {
            bail!("{name} is a folder: name a .npy file");
        }
        let (header, bytes) = read_header(&mut file).map_err(|error| {
            anyhow!("{name} is not a .npy file ({}): save one with numpy.save", one_line(&error))
        })?;

        let dtype = header.dtype();
        let element = element(&dtype).with_context(|| {
            let types: Vec<_> = ElementType::ALL.iter().map(|element| element.name()).collect();
            let (types, descr) = (types.join(", "), dtype.descr());
            let wanted = format!("{types} in this machine's byte order");
            format!("{name} holds elements of numpy type {descr}, not {wanted}: convert it with .astype()")
        })?;
        if header.order() == Order::Fortran && header.shape().len() > 1 {
            bail!("{name} is in Fortran order: save numpy.ascontiguousarray() of it");
        }
        let dims: Option<Vec<usize>> = header.shape().iter().map(|&d| d.try_into().ok()).collect();
        let shape = dims.and_then(|dims| Shape::new(dims).ok());
        let shape = shape.with_context(|| {
            format!("{name} is damaged: its header claims the impossible shape {:?}", header.shape())
        })?;
        Ok(Self { path: path.to_owned(), file, element, header: bytes, shape })
    }

    /// The type of the elements.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The bytes before the elements, to write a file like this one.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Reads the elements, which are `T`s, in C order.
    pub fn read<T: Element>(mut self) -> Result<Vec<T>> {
        let name = self.path.display().to_string();
        let len = self.shape.len();
        let wanted = len as u64 * size_of::<T>() as u64;
        let damaged = |holds: &str| {
            anyhow!("{name} is damaged: its header promises {wanted} bytes of data, but it holds {holds}")
        };

        // Before memory is taken for what the header promises.
        let metadata = self.file.metadata().with_context(|| format!("cannot read {name}"))?;
        if metadata.is_file() {
            let start = io::Seek::stream_position(&mut self.file)?;
            let there = metadata.len().saturating_sub(start);
            if there != wanted {
                return Err(damaged(&there.to_string()));
            }
        }
        let mut data = bytemuck::allocation::try_zeroed_vec::<T>(len).map_err(|()| {
            anyhow!("out of memory for the {wanted} bytes of {name}: clip it in smaller parts")
        })?;
        match self.file.read_exact(bytemuck::cast_slice_mut(&mut data)) {
            Ok(()) => Ok(data),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(damaged("fewer")),
            Err(error) => Err(error).with_context(|| format!("cannot read {name}")),
        }
    }
}

/// Writes a file with the header of another, for elements of the same type and number.
pub fn write<T: Element>(out: &mut dyn Write, header: &[u8], data: &[T]) -> io::Result<()> {
    out.write_all(header)?;
    // In pieces, between which a signal can end the run.
    bytemuck::cast_slice(data).chunks(4 << 20).try_for_each(|piece| out.write_all(piece))
}

/// Reads a header, and returns its bytes too. Its text is bounded before it is parsed, which takes time
/// exponential in its nesting.
fn read_header(file: &mut impl Read) -> io::Result<(NpyHeader, Vec<u8>)> {
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

/// The element type of a plain numpy type in this machine's byte order.
fn element(dtype: &DType) -> Option<ElementType> {
    let DType::Plain(plain) = dtype else { return None };
    let text = plain.to_string();
    let native = if cfg!(target_endian = "little") { ['<', '|', '='] } else { ['>', '|', '='] };
    ElementType::from_numpy(text.strip_prefix(native)?)
}

fn one_line(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return "its header is cut off".into();
    }
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_end_matches(':').to_owned()
}
