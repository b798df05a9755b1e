//! Tensor files: `.npy`, `.npz`, `.safetensors`. What is written back has the layout of what was read.

mod layout;
mod npy;
mod npz;
mod safetensors;

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use wgclip::{Element, ElementType, Shape};

pub use layout::Layout;

/// A tensor of a file.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Empty for the one of a `.npy` file.
    pub name: String,
    /// The type, or what stands there for one that cannot be clipped.
    pub element: Result<ElementType, String>,
    /// Its shape.
    pub shape: Shape,
}

impl Entry {
    /// Bytes of its elements, of a type that can be clipped.
    pub fn bytes(&self) -> u64 {
        let size = self.element.as_ref().map_or(0, |element| element.size());
        self.shape.len() as u64 * size as u64
    }
}

/// The bytes of a tensor that takes the place of one that was read.
pub trait Bytes {
    /// The bytes.
    fn bytes(&self) -> &[u8];
}

impl<T: Element> Bytes for Vec<T> {
    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self)
    }
}

/// What the elements of a tensor, by its index, go through from the file as it was to the new one: as they lie there.
pub type Pass<'a> = dyn FnMut(usize, &mut dyn Read, &mut dyn Write) -> Result<()> + 'a;

/// A file whose tensors were found, and what is to be written in their place.
pub struct TensorFile {
    path: PathBuf,
    entries: Vec<Entry>,
    layouts: Vec<Layout>,
    replaced: Vec<Option<Box<dyn Bytes>>>,
    kind: Kind,
}

enum Kind {
    Npy(npy::Npy),
    Npz(npz::Npz),
    Safetensors(safetensors::Safetensors),
}

impl TensorFile {
    /// Opens a file, and finds its tensors.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display();
        let mut file = File::open(path).with_context(|| format!("cannot open {name}"))?;
        let metadata = file.metadata().with_context(|| format!("cannot read {name}"))?;
        if metadata.is_dir() {
            bail!("{name} is a folder: name a .npy, .npz or .safetensors file");
        }
        // A pipe cannot be read twice, and is taken for a .npy file.
        let mut magic = [0; 2];
        if metadata.is_file() {
            let _ = file.read(&mut magic).with_context(|| format!("cannot read {name}"))?;
            file.rewind().with_context(|| format!("cannot read {name}"))?;
        }
        let (kind, found) = match extension(path) {
            extension if magic == *b"PK" || extension == Some("npz") => {
                let (npz, found) = npz::Npz::open(path, file)?;
                (Kind::Npz(npz), found)
            }
            Some("safetensors") => {
                let (safetensors, found) = safetensors::Safetensors::open(path, file)?;
                (Kind::Safetensors(safetensors), found)
            }
            _ => {
                let (npy, found) = npy::Npy::open(path, file)?;
                (Kind::Npy(npy), vec![found])
            }
        };
        let replaced = found.iter().map(|_| None).collect();
        let (entries, layouts) = found.into_iter().unzip();
        Ok(Self { path: path.to_owned(), entries, layouts, replaced, kind })
    }

    /// A tensor of the file.
    pub fn entry(&self, index: usize) -> &Entry {
        &self.entries[index]
    }

    /// The type of a tensor, which must be one that can be clipped.
    pub fn element(&self, index: usize) -> Result<ElementType> {
        self.entries[index].element.clone().map_err(|found| {
            let types: Vec<_> = ElementType::ALL.iter().map(|element| element.name()).collect();
            let hint = match self.kind {
                Kind::Npy(_) => "convert it with .astype()",
                _ => "choose others with --tensor",
            };
            anyhow!(
                "{} holds elements of type {found}, not {}: {hint}",
                self.describe(index),
                types.join(", ")
            )
        })
    }

    /// The file, and the name that the tensor has there.
    pub fn describe(&self, index: usize) -> String {
        describe(&self.path.display().to_string(), &self.entries[index].name)
    }

    /// The tensors of these names, or all where none is given.
    pub fn select(&self, names: &[String]) -> Result<Vec<usize>> {
        if names.is_empty() {
            if self.entries.is_empty() {
                bail!("{} holds no tensors", self.path.display());
            }
            return Ok((0..self.entries.len()).collect());
        }
        let mut chosen: Vec<usize> = names.iter().map(|name| self.find(name)).collect::<Result<_>>()?;
        chosen.sort_unstable();
        chosen.dedup();
        Ok(chosen)
    }

    /// The index of the tensor of a name.
    pub fn find(&self, name: &str) -> Result<usize> {
        self.entries.iter().position(|entry| entry.name == name).ok_or_else(|| {
            let names: Vec<_> = self.entries.iter().map(|entry| &entry.name[..]).take(20).collect();
            let there = match (&self.kind, &names[..]) {
                (Kind::Npy(_), _) => "it holds one, without a name".to_owned(),
                (_, []) => "it holds none".to_owned(),
                (_, names) => format!("there are {}", names.join(", ")),
            };
            match name {
                "" => anyhow!(
                    "{} holds tensors with names, the other file one without: {there}",
                    self.path.display()
                ),
                name => anyhow!("{} holds no tensor '{name}': {there}", self.path.display()),
            }
        })
    }

    /// The only tensor, of a file that is to hold one.
    pub fn only(&self) -> Result<usize> {
        if self.entries.len() != 1 {
            bail!("{} holds {} tensors: give a file of one", self.path.display(), self.entries.len());
        }
        Ok(0)
    }

    /// Reads a tensor, whose type is `T`: in C order, in this machine's byte order.
    pub fn read<T: Element>(&mut self, index: usize) -> Result<Vec<T>> {
        let shape = self.entries[index].shape.clone();
        let data = match &mut self.kind {
            Kind::Npy(npy) => npy.read(&shape),
            Kind::Npz(npz) => npz.read(index, &shape),
            Kind::Safetensors(safetensors) => safetensors.read(index, &shape),
        };
        Ok(self.layouts[index].decode(data?, &shape))
    }

    /// What is to be written in the place of a tensor: of the same type and shape, as [`read`](Self::read) gives it.
    pub fn replace<T: Element>(&mut self, index: usize, data: Vec<T>) {
        let data = self.layouts[index].encode(data, &self.entries[index].shape);
        self.replaced[index] = Some(Box::new(data));
    }

    /// Bytes of the elements of all tensors.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(Entry::bytes).sum()
    }

    /// How the elements of a tensor lie in the file.
    pub fn layout(&self, index: usize) -> Layout {
        self.layouts[index]
    }

    /// Whether a path names a file of another kind.
    pub fn check_output(&self, path: &Path) -> Result<()> {
        let own = match self.kind {
            Kind::Npy(_) => "npy",
            Kind::Npz(_) => "npz",
            Kind::Safetensors(_) => "safetensors",
        };
        match extension(path) {
            Some(other @ ("npy" | "npz" | "safetensors")) if other != own => {
                bail!("{} would hold a .{own} file: give it that ending", path.display())
            }
            _ => Ok(()),
        }
    }

    /// Writes the file with what was replaced; all else as it was.
    pub fn write(&mut self, out: &mut dyn Write) -> Result<()> {
        match &mut self.kind {
            Kind::Npy(npy) => npy.write(out, self.replaced[0].as_deref()),
            Kind::Npz(npz) => npz.write(out, &self.replaced),
            Kind::Safetensors(safetensors) => safetensors.write(out, &self.replaced),
        }
    }

    /// Writes the file with the elements of the chosen tensors passed through `pass`; all else as it was.
    pub fn stream(&mut self, out: &mut dyn Write, chosen: &[usize], pass: &mut Pass<'_>) -> Result<()> {
        match &mut self.kind {
            Kind::Npy(npy) => npy.stream(out, &self.entries[0], pass),
            Kind::Npz(npz) => {
                let bytes = |&index: &usize| (index, self.entries[index].bytes());
                npz.stream(out, &chosen.iter().map(bytes).collect::<Vec<_>>(), pass)
            }
            Kind::Safetensors(safetensors) => safetensors.stream(out, chosen, pass),
        }
    }
}

/// `x.npz, tensor 'a',`
fn describe(file: &str, tensor: &str) -> String {
    if tensor.is_empty() { file.to_owned() } else { format!("{file}, tensor '{tensor}',") }
}

/// Whether a path names a file that [`write_one`] writes.
pub fn check_one_output(path: &Path) -> Result<()> {
    match extension(path) {
        Some("npz") => bail!("{} is to hold one tensor: name a .npy or .safetensors file", path.display()),
        _ => Ok(()),
    }
}

/// Writes a file of one tensor in C order.
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

/// Memory for the bytes that a header promises, or why not.
fn room<T: Element>(name: &str, len: usize) -> Result<Vec<T>> {
    bytemuck::allocation::try_zeroed_vec::<T>(len).map_err(|()| {
        anyhow!("out of memory for the {} bytes of {name}: clip it in smaller parts", len * size_of::<T>())
    })
}

/// In pieces, between which a signal can end the run.
fn write_all(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    bytes.chunks(4 << 20).try_for_each(|piece| out.write_all(piece))
}
