//! numpy's `.npy` files.

use std::io::{self, Read, Write};

use anyhow::{Result, anyhow};
use num_traits::ToPrimitive;
use py_literal::Value;
use wgclip::{Element, ElementType, Shape};

use super::cursor::Cursor;
use super::{Elements, Entry, Kind, Layout, TensorWriter, copy, write_all};

/// Maximum length of a header in bytes, as in numpy: anything longer is an attack, or not a header.
const LONGEST_HEADER: u64 = 10_000;

/// Maximum nesting of brackets in a header: record types nest a few.
const DEEPEST_HEADER: i32 = 8;

/// The first bytes of a file.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// The source of a file.
pub(super) enum Input {
    /// Seekable.
    File(Cursor),
    /// Readable only once.
    Pipe(Box<dyn Read + Send>),
}

impl Read for Input {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buf),
            Self::Pipe(pipe) => pipe.read(buf),
        }
    }
}

/// A `.npy` file whose header was read.
pub(super) struct Npy {
    name: String,
    /// Positioned after the header.
    input: Input,
    header: Header,
}

impl Npy {
    /// Reads the header.
    pub(super) fn open(name: &str, mut input: Input) -> Result<(Self, Entry)> {
        let (header, entry) = read_header(name, &mut input)?;
        Ok((Self { name: name.to_owned(), input, header }, entry))
    }

    /// Reads the elements.
    pub(super) fn elements(&mut self, entry: &Entry, read: &mut Elements<'_>) -> Result<()> {
        self.check_length(entry.bytes())?;
        match &mut self.input {
            Input::File(file) => read(&mut file.clone()),
            Input::Pipe(pipe) => read(pipe),
        }
    }

    /// A reader of the elements.
    pub(super) fn reader(&mut self, entry: &Entry) -> Result<Box<dyn Read + Send>> {
        self.check_length(entry.bytes())?;
        Ok(match &mut self.input {
            Input::File(file) => Box::new(file.clone()),
            Input::Pipe(pipe) => std::mem::replace(pipe, Box::new(io::empty())),
        })
    }

    /// Called before memory is allocated for the elements that the header declares.
    fn check_length(&self, promised: u64) -> Result<()> {
        let Input::File(file) = &self.input else { return Ok(()) };
        let there = file.len().saturating_sub(self.header.bytes.len() as u64);
        if there != promised {
            return Err(damaged(&self.name, promised, &there.to_string()));
        }
        Ok(())
    }

    /// A writer of a file like this, with elements of another type if one is given.
    pub(super) fn writer<'a>(
        &self,
        out: &'a mut dyn Write,
        entry: &Entry,
        to: Option<ElementType>,
    ) -> Result<Box<dyn TensorWriter + 'a>> {
        let header = self.header.with_type(entry, to)?;
        let input = match &self.input {
            Input::File(file) => Some(file.clone()),
            Input::Pipe(_) => None,
        };
        Ok(Box::new(Writer { out, header, input }))
    }
}

struct Writer<'a> {
    out: &'a mut dyn Write,
    header: Vec<u8>,
    input: Option<Cursor>,
}

impl TensorWriter for Writer<'_> {
    fn begin(&mut self, _: usize) -> Result<()> {
        Ok(self.out.write_all(&self.header)?)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(write_all(self.out, bytes)?)
    }

    fn copy(&mut self, index: usize) -> Result<()> {
        self.begin(index)?;
        self.input.as_mut().map_or(Ok(()), |input| copy(input, self.out))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

pub(super) fn damaged(name: &str, promised: u64, holds: &str) -> anyhow::Error {
    anyhow!("{name} is damaged: its header promises {promised} bytes of data, but it holds {holds}")
}

/// Writes a file of one tensor in C order.
pub(super) fn write_one<T: Element>(out: &mut dyn Write, shape: &Shape, data: &[T]) -> Result<()> {
    out.write_all(&header_bytes(T::TYPE, false, false, shape)?)?;
    write_all(out, bytemuck::cast_slice(data))?;
    Ok(())
}

/// The layout of elements with this layout after conversion to a type. Types unknown to numpy have no byte order.
pub(super) fn layout_of(layout: Layout, element: ElementType) -> Layout {
    let swapped = layout.swapped && !numpy_code(element).starts_with('V');
    Layout { swapped, ..layout }
}

/// A header in numpy's format.
fn header_bytes(element: ElementType, swapped: bool, fortran: bool, shape: &Shape) -> Result<Vec<u8>> {
    let order = match (cfg!(target_endian = "little") != swapped, element.size()) {
        (_, 1) if !element.is_float() => '|',
        (true, _) => '<',
        (false, _) => '>',
    };
    let code = numpy_code(element);
    let dims: String = shape.dims().iter().map(|len| format!("{len}, ")).collect();
    let dims = if shape.dims().len() > 1 { dims.trim_end_matches(", ") } else { dims.trim_end() };
    let fortran = if fortran { "True" } else { "False" };
    let text = format!("{{'descr': '{order}{code}', 'fortran_order': {fortran}, 'shape': ({dims}), }}");
    // The elements begin at a multiple of 64, as in numpy.
    let len = (10 + text.len() + 1).next_multiple_of(64) - 10;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(len)?.to_le_bytes());
    bytes.extend(format!("{text:width$}\n", width = len - 1).as_bytes());
    Ok(bytes)
}

/// A parsed header.
pub(super) struct Header {
    pub bytes: Vec<u8>,
}

impl Header {
    /// The header itself, or one with another type.
    pub(super) fn with_type(&self, entry: &Entry, to: Option<ElementType>) -> Result<Vec<u8>> {
        match to {
            None => Ok(self.bytes.clone()),
            Some(to) => {
                let Layout { swapped, fortran } = layout_of(entry.layout, to);
                header_bytes(to, swapped, fortran, &entry.shape)
            }
        }
    }
}

/// Reads a header: its bytes, and its content.
pub(super) fn read_header(name: &str, from: &mut impl Read) -> Result<(Header, Entry)> {
    let bytes = header_of(from).map_err(|bad| match bad {
        NoHeader::Unreadable(error) => super::unreadable(name, error),
        NoHeader::Other(what) => anyhow!("{name} is not a .npy file ({what}): save one with numpy.save"),
    })?;
    let text = header_text(&bytes);
    let said = parse(&text).map_err(|what| anyhow!("{name} is damaged: {what} in its header {text}"))?;
    let shape = Shape::new(said.dims.clone());
    let shape = shape
        .map_err(|_| anyhow!("{name} is damaged: its header claims the impossible shape {:?}", said.dims))?;
    let layout = Layout { swapped: said.swapped, fortran: said.fortran };
    Ok((Header { bytes }, Entry { name: String::new(), kind: said.kind, shape, layout }))
}

/// The error if there is no header.
enum NoHeader {
    Unreadable(io::Error),
    Other(&'static str),
}

impl From<io::Error> for NoHeader {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

/// The bytes of a header. Its text is limited before it is parsed, since parsing takes time exponential in the nesting.
fn header_of(from: &mut impl Read) -> Result<Vec<u8>, NoHeader> {
    let mut bytes = Vec::new();
    from.take(10).read_to_end(&mut bytes)?;
    if !bytes.starts_with(MAGIC) || bytes.len() < 10 {
        return Err(NoHeader::Other("it does not begin as one"));
    }
    if !(1..=3).contains(&bytes[6]) {
        return Err(NoHeader::Other("its version is not 1, 2 or 3"));
    }
    let text = if bytes[6] < 2 {
        u64::from(u16::from_le_bytes([bytes[8], bytes[9]]))
    } else {
        from.take(2).read_to_end(&mut bytes)?;
        let len = bytes.get(8..12).and_then(|len| len.try_into().ok());
        u64::from(u32::from_le_bytes(len.ok_or(NoHeader::Other("its header is cut off"))?))
    };
    let before = bytes.len();
    from.take(text.min(LONGEST_HEADER)).read_to_end(&mut bytes)?;
    let depth = bytes[before..].iter().scan(0i32, |depth, byte| {
        *depth += i32::from(b"([{".contains(byte)) - i32::from(b")]}".contains(byte));
        Some(*depth)
    });
    if text > LONGEST_HEADER || depth.max() > Some(DEEPEST_HEADER) {
        return Err(NoHeader::Other("its header is too long or too deep"));
    }
    match (bytes.len() - before) as u64 == text {
        true => Ok(bytes),
        false => Err(NoHeader::Other("its header is cut off")),
    }
}

/// The text of a header: Latin-1 before version 3, then UTF-8. The `L` of Python 2's long integers and the `u` of its strings are
/// removed, as in numpy.
fn header_text(bytes: &[u8]) -> String {
    let start = if bytes[6] < 2 { 10 } else { 12 };
    let text = match bytes[6] {
        ..3 => bytes[start..].iter().map(|&byte| char::from(byte)).collect(),
        _ => String::from_utf8_lossy(&bytes[start..]).into_owned(),
    };
    let (mut quoted, mut digit) = (false, false);
    let is_quote = |c: char| c == '\'' || c == '"';
    let text = text.trim();
    let next = text.chars().skip(1).chain([' ']);
    let keep = |&(c, next): &(char, char)| {
        quoted ^= is_quote(c);
        let long = !quoted && digit && c == 'L';
        let prefix = !quoted && c == 'u' && is_quote(next);
        digit = c.is_ascii_digit();
        !(long || prefix)
    };
    text.chars().zip(next).filter(keep).map(|(c, _)| c).collect()
}

/// The content of a header.
struct Said {
    kind: Kind,
    swapped: bool,
    fortran: bool,
    dims: Vec<usize>,
}

fn parse(text: &str) -> Result<Said, &'static str> {
    let Ok(Value::Dict(items)) = text.parse::<Value>() else { return Err("there is no dictionary") };
    let item = |name: &str| {
        items.iter().find(|(key, _)| matches!(key, Value::String(key) if key == name)).map(|(_, value)| value)
    };
    let Some(Value::Boolean(fortran)) = item("fortran_order") else {
        return Err("there is no 'fortran_order'");
    };
    let dims = match item("shape") {
        Some(Value::Tuple(dims) | Value::List(dims)) => dims.iter().map(len).collect(),
        _ => None,
    };
    let dims = dims.ok_or("there is no 'shape' of lengths")?;
    let (kind, swapped) = match item("descr") {
        Some(Value::String(descr)) => kind(descr),
        Some(Value::List(fields)) => (Kind::Other(format!("records of {} fields", fields.len())), false),
        Some(Value::Tuple(_)) => (Kind::Other("arrays".into()), false),
        _ => return Err("there is no 'descr'"),
    };
    Ok(Said { kind, swapped, fortran: *fortran, dims })
}

fn len(value: &Value) -> Option<usize> {
    match value {
        Value::Integer(len) => len.to_usize(),
        _ => None,
    }
}

/// The kind of a numpy type, and whether its byte order differs from the native one.
fn kind(descr: &str) -> (Kind, bool) {
    let native = if cfg!(target_endian = "little") { '<' } else { '>' };
    let (order, code) = match descr.chars().next() {
        Some(order @ ('<' | '>' | '=' | '|')) => (order, &descr[1..]),
        _ => ('=', descr),
    };
    let kind = match code {
        // The second is written by ml_dtypes for its float8_e5m2, and numpy cannot read it.
        "V1" | "f1" => Kind::Void(1),
        "V2" => Kind::Void(2),
        _ => numpy_element(code).map_or_else(|| Kind::Other(descr.to_owned()), Kind::Known),
    };
    let swapped = !['|', '=', native].contains(&order) && !matches!(kind, Kind::Void(_));
    (kind, swapped)
}

/// numpy's type strings, without byte order, and its other names for them. Types of ml_dtypes have no string, but void
/// bytes.
const NUMPY: [(ElementType, &[&str]); 14] = [
    (ElementType::F32, &["f4", "float32", "f"]),
    (ElementType::F16, &["f2", "float16", "e"]),
    (ElementType::Bf16, &["V2", "bfloat16"]),
    (ElementType::F64, &["f8", "float64", "d"]),
    (ElementType::F8E4M3Fn, &["V1", "float8_e4m3fn"]),
    (ElementType::F8E5M2, &["V1", "float8_e5m2"]),
    (ElementType::I8, &["i1", "int8", "b"]),
    (ElementType::U8, &["u1", "uint8", "B"]),
    (ElementType::I16, &["i2", "int16", "h"]),
    (ElementType::U16, &["u2", "uint16", "H"]),
    (ElementType::I32, &["i4", "int32", "i"]),
    (ElementType::U32, &["u4", "uint32", "I"]),
    (ElementType::I64, &["i8", "int64", "q"]),
    (ElementType::U64, &["u8", "uint64", "Q"]),
];

fn numpy_code(element: ElementType) -> &'static str {
    NUMPY.iter().find(|(known, _)| *known == element).map_or("V1", |(_, codes)| codes[0])
}

fn numpy_element(code: &str) -> Option<ElementType> {
    NUMPY.iter().find(|(_, codes)| codes.contains(&code)).map(|(element, _)| *element)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(text: &str) -> (String, bool, bool, Vec<usize>) {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        let said = parse(&header_text(&bytes)).unwrap();
        (said.kind.to_string(), said.swapped, said.fortran, said.dims)
    }

    #[test]
    fn headers_of_all_times_are_read() {
        let f32s = |swapped, dims: &[usize]| ("f32".to_owned(), swapped, false, dims.to_vec());
        assert_eq!(
            says("{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 30L), }"),
            f32s(false, &[2, 30])
        );
        assert_eq!(says("{'shape': (), 'descr': '=f4', 'fortran_order': False}"), f32s(false, &[]));
        assert_eq!(says("{u'descr': u'<f4', u'fortran_order': False, u'shape': (2,)}"), f32s(false, &[2]));
        assert_eq!(says("{'descr': \">f4\", 'fortran_order': False, 'shape': (0,)}\n"), f32s(true, &[0]));
        assert_eq!(says("{'descr': 'bfloat16', 'fortran_order': True, 'shape': (1,)}").0, "bf16");
        assert_eq!(
            says("{'descr': [('L5L', '<f4')], 'fortran_order': True, 'shape': (1,)}").0,
            "records of 1 fields"
        );
        assert_eq!(says("{'descr': '<V2', 'fortran_order': True, 'shape': (1,)}").0, "V2");
    }

    #[test]
    fn what_is_written_is_what_numpy_writes() {
        let header = |element, dims: &[usize]| {
            let bytes = header_bytes(element, false, false, &Shape::new(dims).unwrap()).unwrap();
            assert_eq!(bytes.len() % 64, 0);
            header_text(&bytes)
        };
        assert_eq!(
            header(ElementType::F32, &[2, 3]),
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
        );
        assert_eq!(
            header(ElementType::I8, &[7]),
            "{'descr': '|i1', 'fortran_order': False, 'shape': (7,), }"
        );
        assert_eq!(header(ElementType::Bf16, &[]), "{'descr': '<V2', 'fortran_order': False, 'shape': (), }");
    }
}
