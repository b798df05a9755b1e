//! numpy's `.npz` files: zip archives of `.npy` files.

use std::io::{self, BufReader, Read, Seek, Write};

use anyhow::{Context, Result, bail};
use wgclip::Shape;
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::cursor::Cursor;
use super::npy::{self, Header};
use super::{Conversions, Elements, Entry, Kind, Layout, TensorWriter, identify, write_all};

type Archive = ZipArchive<Cursor>;

/// A member of up to this many bytes is held in memory if it is read together with another file; a larger one goes through a
/// temporary file.
const SMALL: u64 = 64 << 20;

/// The compressions that are read: all of Python's except zstd, which it has since 3.14.
const METHODS: [CompressionMethod; 4] = [
    CompressionMethod::Stored,
    CompressionMethod::Deflated,
    CompressionMethod::Bzip2,
    CompressionMethod::Lzma,
];

/// A `.npz` file.
pub(super) struct Npz {
    archive: Archive,
    members: Vec<Member>,
}

/// A `.npy` file in the archive, by its index there.
#[derive(Clone)]
struct Member {
    name: String,
    index: usize,
    header: std::rc::Rc<Header>,
}

impl Npz {
    /// Reads the headers of all members.
    pub(super) fn open(name: &str, file: Cursor) -> Result<(Self, Vec<Entry>)> {
        let archive = ZipArchive::new(file);
        let mut archive =
            archive.with_context(|| format!("{name} is damaged, or is not a .npz file: save it again"))?;
        let (mut members, mut entries, all) = (Vec::new(), Vec::new(), archive.len());
        let mut others = Vec::new();
        for index in 0..all {
            let raw = archive.by_index_raw(index).with_context(|| format!("cannot read {name}"))?;
            let known = METHODS.contains(&raw.compression());
            drop(raw);
            let file = if known { archive.by_index(index) } else { archive.by_index_raw(index) };
            let mut file = file.with_context(|| format!("cannot read {name}"))?;
            let path = file.name().with_context(|| format!("cannot read {name}"))?.into_owned();
            if path.ends_with("data.pkl") && all > 1 {
                bail!("{name} {}", identify::PYTORCH);
            }
            let Some(array) = path.strip_suffix(".npy") else {
                others.push(path);
                continue;
            };
            let described = super::describe(name, array);
            let found = npy::read_header(&described, &mut file);
            let (header, mut entry) = match found {
                Ok(found) => found,
                // A member that is not an array, or whose compression is unknown, is kept unchanged.
                Err(error) => {
                    if known && !error.to_string().contains("does not begin as one") {
                        return Err(error);
                    }
                    // The checksum decides: it may be a damaged array.
                    if known {
                        io::copy(&mut file, &mut io::sink())
                            .with_context(|| format!("{described} is damaged"))?;
                    }
                    let kind =
                        Kind::Other(if known { "no array".into() } else { "an unknown compression".into() });
                    let shape = Shape::new([0])?;
                    let entry = Entry { name: String::new(), kind, shape, layout: Layout::default() };
                    (Header { bytes: Vec::new() }, entry)
                }
            };
            members.push(Member { name: described, index, header: header.into() });
            array.clone_into(&mut entry.name);
            entries.push(entry);
        }
        if members.is_empty() {
            bail!("{name} {}", identify::archive(others.iter().map(|other| &other[..])));
        }
        Ok((Self { archive, members }, entries))
    }

    /// Has the elements of a member read.
    pub(super) fn elements(&self, index: usize, entry: &Entry, read: &mut Elements<'_>) -> Result<()> {
        let mut archive = self.archive.clone();
        let Member { name, index, header } = &self.members[index];
        let mut file = open(&mut archive, *index, name, header)?;
        read(&mut file)?;
        close(file, name, entry.bytes())
    }

    /// A reader of the elements.
    pub(super) fn reader(&self, index: usize, entry: &Entry) -> Result<Box<dyn Read + Send>> {
        if entry.bytes() <= SMALL {
            let mut bytes = Vec::new();
            self.elements(index, entry, &mut |from| {
                bytes = super::room(&self.members[index].name, entry.bytes())?;
                from.read_exact(&mut bytes)
                    .map_err(|error| super::unreadable(&self.members[index].name, error))
            })?;
            return Ok(Box::new(io::Cursor::new(bytes)));
        }
        let mut spilled = tempfile::tempfile().context("cannot make a temporary file")?;
        self.elements(index, entry, &mut |from| {
            let copied = io::copy(&mut from.take(entry.bytes()), &mut spilled);
            match copied.with_context(|| format!("cannot read {}", self.members[index].name))? {
                copied if copied == entry.bytes() => Ok(()),
                copied => Err(npy::damaged(&self.members[index].name, entry.bytes(), &copied.to_string())),
            }
        })?;
        spilled.rewind().context("cannot read a temporary file")?;
        Ok(Box::new(BufReader::new(spilled)))
    }

    /// A writer of an archive like this, with the element types changed where `to` says so.
    pub(super) fn writer<'a>(
        &self,
        out: &'a mut dyn Write,
        entries: &[Entry],
        to: &Conversions,
    ) -> Result<Box<dyn TensorWriter + 'a>> {
        let header = |(index, member): (usize, &Member)| {
            member.header.with_type(&entries[index], to.get(&index).copied())
        };
        let headers = self.members.iter().enumerate().map(header).collect::<Result<_>>()?;
        let bytes = |(index, entry): (usize, &Entry)| {
            let size = to.get(&index).map_or(entry.size(), |to| to.size());
            entry.shape.len() as u64 * size as u64
        };
        Ok(Box::new(Writer {
            archive: self.archive.clone(),
            members: self.members.clone(),
            headers,
            bytes: entries.iter().enumerate().map(bytes).collect(),
            zip: ZipWriter::new_stream(out),
            next: 0,
        }))
    }
}

struct Writer<'a> {
    archive: Archive,
    members: Vec<Member>,
    headers: Vec<Vec<u8>>,
    /// Of the elements of each.
    bytes: Vec<u64>,
    zip: ZipWriter<StreamWriter<&'a mut dyn Write>>,
    /// The first member of the archive that is not yet written.
    next: usize,
}

impl Writer<'_> {
    /// Copies members up to a given one, including those that are not arrays.
    fn copy_to(&mut self, end: usize) -> Result<()> {
        for index in self.next..end {
            self.zip.raw_copy_file(self.archive.by_index_raw(index)?).map_err(io::Error::from)?;
        }
        self.next = end;
        Ok(())
    }
}

impl TensorWriter for Writer<'_> {
    fn begin(&mut self, index: usize) -> Result<()> {
        let (at, header) = (self.members[index].index, &self.headers[index]);
        let len = header.len() as u64 + self.bytes[index];
        self.copy_to(at)?;
        self.next = at + 1;
        let old = self.archive.by_index_raw(at)?;
        let method = match old.compression() {
            method @ (CompressionMethod::Stored | CompressionMethod::Bzip2) => method,
            // Python also reads LZMA, but no writer for it is available here.
            _ => CompressionMethod::Deflated,
        };
        let options = SimpleFileOptions::default()
            .compression_method(method)
            .last_modified_time(old.last_modified().unwrap_or_default())
            .large_file(len >= u32::MAX.into());
        let name = old.name()?.into_owned();
        drop(old);
        self.zip.start_file(name, options).map_err(io::Error::from)?;
        Ok(self.zip.write_all(&self.headers[index])?)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(write_all(&mut self.zip, bytes)?)
    }

    fn copy(&mut self, index: usize) -> Result<()> {
        self.copy_to(self.members[index].index + 1)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.copy_to(self.archive.len())?;
        self.zip.set_raw_comment(self.archive.comment().into()).map_err(io::Error::from)?;
        self.zip.finish().map_err(io::Error::from)?;
        Ok(())
    }
}

/// A member, from its elements on.
fn open<'a>(archive: &'a mut Archive, index: usize, name: &str, header: &Header) -> Result<impl Read + 'a> {
    let mut file = archive.by_index(index).with_context(|| format!("cannot read {name}"))?;
    io::copy(&mut (&mut file).take(header.bytes.len() as u64), &mut io::sink())
        .with_context(|| format!("{name} is damaged"))?;
    Ok(file)
}

/// Reads to the end, where the checksum is compared.
fn close(mut file: impl Read, name: &str, bytes: u64) -> Result<()> {
    match io::copy(&mut file, &mut io::sink()).with_context(|| format!("{name} is damaged"))? {
        0 => Ok(()),
        more => Err(npy::damaged(name, bytes, &format!("{more} more"))),
    }
}
