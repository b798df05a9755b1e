//! Tensor files: `.npy`, `.npz`, `.safetensors`. Files are written back in the layout in which they were read.

mod cursor;
mod identify;
mod layout;
mod new;
mod npy;
mod npz;
mod safetensors;

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use wgclip::{Element, ElementType, Shape};

pub(crate) use identify::folder as identify_folder;
pub use layout::Layout;
pub use new::{NewTensor, check_safetensors_output, write_header};

use cursor::Cursor;

/// The kind of a tensor's elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A type that can be clipped.
    Known(ElementType),
    /// numpy's void type of this many bytes, whose meaning only the writer knows.
    Void(usize),
    /// Another type, by its name in the file.
    Other(String),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(element) => element.fmt(f),
            Self::Void(bytes) => write!(f, "V{bytes}"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

/// A tensor of a file.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Empty for the tensor of a `.npy` file.
    pub name: String,
    /// Its content.
    pub kind: Kind,
    /// Its shape.
    pub shape: Shape,
    /// How the elements lie in the file.
    pub layout: Layout,
}

impl Entry {
    /// Its type, if that can be clipped.
    pub fn element(&self) -> Option<ElementType> {
        match self.kind {
            Kind::Known(element) => Some(element),
            _ => None,
        }
    }

    /// Bytes of an element, or 0 for an unknown type.
    pub fn size(&self) -> usize {
        match self.kind {
            Kind::Known(element) => element.size(),
            Kind::Void(bytes) => bytes,
            Kind::Other(_) => 0,
        }
    }

    /// Bytes of its elements, for a known type.
    pub fn bytes(&self) -> u64 {
        self.shape.len() as u64 * self.size() as u64
    }
}

/// Reads elements in file order.
pub type Elements<'a> = dyn FnMut(&mut dyn Read) -> Result<()> + 'a;

/// The new types of tensors that are converted, by tensor index.
pub type Conversions = HashMap<usize, ElementType>;

/// Writes a file like another: its tensors one after the other, in [`TensorFile::order`], each either copied or begun and
/// then written.
pub trait TensorWriter {
    /// Begins a tensor, whose elements are written next.
    ///
    /// # Errors
    /// Those of the writer.
    fn begin(&mut self, index: usize) -> Result<()>;

    /// Writes elements as they are stored in the file.
    ///
    /// # Errors
    /// Those of the writer.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Copies a tensor unchanged from the other file.
    ///
    /// # Errors
    /// Those of the reader and the writer.
    fn copy(&mut self, index: usize) -> Result<()>;

    /// Writes the end.
    ///
    /// # Errors
    /// Those of the writer.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// An opened tensor file.
pub struct TensorFile {
    path: PathBuf,
    entries: Vec<Entry>,
    format: Format,
}

enum Format {
    Npy(npy::Npy),
    Npz(npz::Npz),
    Safetensors(safetensors::Safetensors),
}

impl TensorFile {
    /// Opens a file, and finds its tensors. `-` is stdin.
    ///
    /// # Errors
    /// If its format is not supported, or it is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, false)
    }

    /// The same, for reading more than once, even from a pipe.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_again(path: &Path) -> Result<Self> {
        Self::open_with(path, true)
    }

    fn open_with(path: &Path, again: bool) -> Result<Self> {
        let name = path.display().to_string();
        let path = path.to_owned();
        let mut file = File::open(if name == "-" { Path::new("/dev/stdin") } else { &path })
            .with_context(|| format!("cannot open {name}"))?;
        let metadata = file.metadata().with_context(|| format!("cannot read {name}"))?;
        if metadata.is_dir() {
            bail!("{name} is a folder: name a .npy, .npz or .safetensors file");
        }
        if !metadata.is_file() {
            // A pipe can be read only once. This suffices for a .npy file; other formats are copied first.
            let mut head = Vec::new();
            (&mut file)
                .take(npy::MAGIC.len() as u64)
                .read_to_end(&mut head)
                .with_context(|| format!("cannot read {name}"))?;
            let is_npy = head == npy::MAGIC && !again;
            let mut whole = io::Cursor::new(head).chain(file);
            if is_npy {
                let (npy, entry) = npy::Npy::open(&name, npy::Input::Pipe(Box::new(whole)))?;
                return Ok(Self { path, entries: vec![entry], format: Format::Npy(npy) });
            }
            let mut copy = tempfile::tempfile().context("cannot make a temporary file")?;
            io::copy(&mut whole, &mut copy).with_context(|| format!("cannot read {name}"))?;
            copy.rewind().context("cannot read a temporary file")?;
            file = copy;
        }
        let file = Cursor::new(file).with_context(|| format!("cannot read {name}"))?;
        let (format, entries) = open_format(&path, &name, file)?;
        Ok(Self { path, entries, format })
    }

    /// The tensors.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Sets the type of void elements, if they have the size of `element`.
    pub fn assume(&mut self, element: ElementType) {
        for entry in self.entries.iter_mut().filter(|entry| entry.kind == Kind::Void(element.size())) {
            entry.kind = Kind::Known(element);
        }
    }

    /// The type of a tensor, which must be one that can be clipped.
    ///
    /// # Errors
    /// If it is not; the error says what it holds, and what to do.
    pub fn element(&self, index: usize) -> Result<ElementType> {
        let Entry { kind, .. } = &self.entries[index];
        let what = self.describe(index);
        match kind {
            Kind::Known(element) => Ok(*element),
            Kind::Void(bytes) => {
                // numpy has a name for f16.
                let unnamed = |t: &&ElementType| t.is_float() && **t != ElementType::F16;
                let of_size = ElementType::ALL.iter().filter(|t| t.size() == *bytes).filter(unnamed);
                let options: Vec<_> = of_size.map(|t| format!("--type {t}")).collect();
                Err(anyhow!(
                    "{what} holds elements of {bytes} bytes without a type, as numpy saves those of ml_dtypes: say what they \
                     are with {}",
                    options.join(" or ")
                ))
            }
            Kind::Other(found) => {
                let types: Vec<_> = ElementType::ALL.iter().map(|element| element.name()).collect();
                let is_alone = self.entries.iter().all(|entry| entry.element().is_none());
                let hint = if is_alone { "save it as one of those" } else { "choose others with --tensor" };
                Err(anyhow!("{what} holds elements of type {found}, not {}: {hint}", types.join(", ")))
            }
        }
    }

    /// The file, and the name of the tensor in it.
    pub fn describe(&self, index: usize) -> String {
        describe(&self.path.display().to_string(), &self.entries[index].name)
    }

    /// Bytes of a tensor in the file, if known.
    pub fn bytes(&self, index: usize) -> u64 {
        match &self.format {
            Format::Safetensors(safetensors) => safetensors.bytes(index),
            _ => self.entries[index].bytes(),
        }
    }

    /// Whether the only tensor of the file has no name.
    pub fn is_npy(&self) -> bool {
        matches!(self.format, Format::Npy(_))
    }

    /// Reads the elements of a tensor, from the first to the last.
    ///
    /// # Errors
    /// Those of `read`, or if the file is damaged.
    pub fn elements(&mut self, index: usize, read: &mut Elements<'_>) -> Result<()> {
        let entry = &self.entries[index];
        match &mut self.format {
            Format::Npy(npy) => npy.elements(entry, read),
            Format::Npz(npz) => npz.elements(index, entry, read),
            Format::Safetensors(safetensors) => safetensors.elements(index, read),
        }
    }

    /// A reader of the elements of a tensor.
    ///
    /// # Errors
    /// If the file is damaged, or cannot be read.
    pub fn reader(&mut self, index: usize) -> Result<Box<dyn Read + Send>> {
        let entry = &self.entries[index];
        match &mut self.format {
            Format::Npy(npy) => npy.reader(entry),
            Format::Npz(npz) => npz.reader(index, entry),
            Format::Safetensors(safetensors) => Ok(safetensors.reader(index)),
        }
    }

    /// The elements of a tensor of type `T`: in C order, in native byte order.
    ///
    /// # Errors
    /// If the file is damaged, or memory runs out.
    pub fn read<T: Element>(&mut self, index: usize) -> Result<Vec<T>> {
        let (name, Entry { shape, layout, .. }) = (self.describe(index), self.entries[index].clone());
        let mut data = Vec::new();
        self.elements(index, &mut |from| {
            data = room::<T>(&name, shape.len() as u64)?;
            from.read_exact(bytemuck::cast_slice_mut(&mut data)).map_err(|error| unreadable(&name, error))
        })?;
        Ok(layout.decode(data, &shape))
    }

    /// Whether a path names a file of another format.
    ///
    /// # Errors
    /// If it does.
    pub fn check_output(&self, path: &Path) -> Result<()> {
        let own = match self.format {
            Format::Npy(_) => "npy",
            Format::Npz(_) => "npz",
            Format::Safetensors(_) => "safetensors",
        };
        match extension(path) {
            Some(other @ ("npy" | "npz" | "safetensors")) if other != own => {
                bail!("{} would hold a .{own} file: give it that ending", path.display())
            }
            _ => Ok(()),
        }
    }

    /// The layout of a tensor in a file like this, with another type if one is given.
    pub fn written_layout(&self, index: usize, to: Option<ElementType>) -> Layout {
        let layout = self.entries[index].layout;
        match (&self.format, to) {
            (Format::Npy(_) | Format::Npz(_), Some(to)) => npy::layout_of(layout, to),
            _ => layout,
        }
    }

    /// The order in which the tensors of a file like this are written.
    pub fn order(&self, to: &Conversions) -> Vec<usize> {
        match &self.format {
            Format::Safetensors(safetensors) => safetensors.order(&self.entries, to),
            _ => (0..self.entries.len()).collect(),
        }
    }

    /// A writer of a file like this, with the types of tensors changed where `to` says so.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn writer<'a>(&self, out: &'a mut dyn Write, to: &Conversions) -> Result<Box<dyn TensorWriter + 'a>> {
        match &self.format {
            Format::Npy(npy) => npy.writer(out, &self.entries[0], to.get(&0).copied()),
            Format::Npz(npz) => npz.writer(out, &self.entries, to),
            Format::Safetensors(safetensors) => safetensors.writer(out, &self.entries, to),
        }
    }
}

/// The format of a file: by its first bytes, or if they are inconclusive by its name.
fn open_format(path: &Path, name: &str, file: Cursor) -> Result<(Format, Vec<Entry>)> {
    let mut head = Vec::new();
    file.clone()
        .take(identify::HEAD as u64)
        .read_to_end(&mut head)
        .with_context(|| format!("cannot read {name}"))?;
    let npy = |file| {
        let (npy, entry) = npy::Npy::open(name, npy::Input::File(file))?;
        Ok((Format::Npy(npy), vec![entry]))
    };
    let npz = |file| npz::Npz::open(name, file).map(|(npz, entries)| (Format::Npz(npz), entries));
    let safetensors = |file| {
        let (safetensors, entries) = safetensors::Safetensors::open(name, file)?;
        Ok((Format::Safetensors(safetensors), entries))
    };
    match &head[..] {
        head if head.starts_with(npy::MAGIC) => npy(file),
        head if head.starts_with(b"PK") => npz(file),
        head if safetensors::Safetensors::is_one(head, file.len()) => safetensors(file),
        head => match (identify::identify(head), extension(path)) {
            (Some(what), _) => Err(anyhow!("{name} {what}")),
            (None, Some("npz")) => npz(file),
            (None, Some("safetensors")) => safetensors(file),
            (None, Some("npy")) => npy(file),
            _ => Err(anyhow!(
                "{name} is not a .npy, .npz or .safetensors file: save its tensors as one of those"
            )),
        },
    }
}

/// `x.npz, tensor 'a',`
fn describe(file: &str, tensor: &str) -> String {
    if tensor.is_empty() { file.to_owned() } else { format!("{file}, tensor '{}',", printable(tensor)) }
}

/// Text without characters that a terminal acts on: control characters, and direction and line marks.
pub(crate) fn printable(text: &str) -> String {
    let acts = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        match acts(c) {
            true => printable.extend(c.escape_default()),
            false => printable.push(c),
        }
    }
    printable
}

/// Whether a path names a file that [`write_one`] writes.
///
/// # Errors
/// If it does not.
pub fn check_one_output(path: &Path) -> Result<()> {
    match extension(path) {
        Some("npz") => bail!("{} is to hold one tensor: name a .npy or .safetensors file", path.display()),
        _ => Ok(()),
    }
}

/// Writes a file of one tensor in C order.
///
/// # Errors
/// Those of `out`.
pub fn write_one<T: Element>(
    out: &mut dyn Write,
    path: &Path,
    name: &str,
    shape: &Shape,
    data: &[T],
) -> Result<()> {
    match extension(path) {
        Some("safetensors") => safetensors::write_one(out, name, shape, data),
        _ => npy::write_one(out, shape, data),
    }
}

fn extension(path: &Path) -> Option<&str> {
    path.extension().and_then(|extension| extension.to_str())
}

/// Memory for the elements that a header declares, or an error.
fn room<T: bytemuck::Pod>(name: &str, len: u64) -> Result<Vec<T>> {
    let room = usize::try_from(len).ok().map(bytemuck::allocation::try_zeroed_vec::<T>);
    room.and_then(Result::ok).with_context(|| {
        format!(
            "out of memory for the {} bytes of {name}: clip it in smaller parts",
            len * size_of::<T>() as u64
        )
    })
}

/// Why elements could not be read.
pub(crate) fn unreadable(name: &str, error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => anyhow!("{name} is damaged: its data ends too early"),
        // The error kinds of zip and its decoders for bad data.
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
            anyhow!("{name} is damaged: {error}")
        }
        _ => anyhow!("cannot read {name}: {error}"),
    }
}

/// Writes in pieces, so that a signal can end the run in between.
fn write_all(out: &mut (impl Write + ?Sized), bytes: &[u8]) -> io::Result<()> {
    bytes.chunks(4 << 20).try_for_each(|piece| out.write_all(piece))
}

/// The same from a reader.
fn copy(from: &mut impl Read, out: &mut dyn Write) -> Result<()> {
    let mut piece = vec![0; 1 << 20];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(()),
            n => out.write_all(&piece[..n])?,
        }
    }
}
