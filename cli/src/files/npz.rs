//! numpy's `.npz` files: zip archives of `.npy` files.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use wgclip::{Element, Shape};
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use super::npy;
use super::{Bytes, Entry, Layout, Pass, write_all};

/// A `.npz` file.
pub(super) struct Npz {
    archive: ZipArchive<BufReader<File>>,
    members: Vec<Member>,
}

/// A `.npy` file in the archive, by its index there.
struct Member {
    name: String,
    index: usize,
    header: Vec<u8>,
}

impl Npz {
    /// Reads the headers of all members.
    pub(super) fn open(path: &Path, file: File) -> Result<(Self, Vec<(Entry, Layout)>)> {
        let name = path.display().to_string();
        let archive = ZipArchive::new(BufReader::new(file));
        let mut archive = archive.with_context(|| format!("{name} is not a .npz file"))?;
        let (mut members, mut found) = (Vec::new(), Vec::new());
        for index in 0..archive.len() {
            let mut file = archive.by_index(index).with_context(|| format!("cannot read {name}"))?;
            let member = file.name().with_context(|| format!("cannot read {name}"))?.into_owned();
            let Some(array) = member.strip_suffix(".npy").map(str::to_owned) else { continue };
            let (header, (mut entry, layout)) = npy::read_header(&super::describe(&name, &array), &mut file)?;
            members.push(Member { name: super::describe(&name, &array), index, header });
            entry.name = array;
            found.push((entry, layout));
        }
        Ok((Self { archive, members }, found))
    }

    /// Reads the elements of a member as they lie there.
    pub(super) fn read<T: Element>(&mut self, index: usize, shape: &Shape) -> Result<Vec<T>> {
        let Self { archive, members } = self;
        let Member { name, index, header } = &members[index];
        let mut file = open(archive, *index, name, header)?;
        let data = npy::read_elements(name, &mut file, shape)?;
        close(file, name, npy::bytes_of::<T>(shape))?;
        Ok(data)
    }

    /// Writes the archive with other elements in some members; the others are copied as they are.
    pub(super) fn write(&mut self, out: &mut dyn Write, replaced: &[Option<Box<dyn Bytes>>]) -> Result<()> {
        let len = |member: usize| replaced[member].as_ref().map(|data| data.bytes().len() as u64);
        self.rewrite(out, &len, &mut |member, _, out| match &replaced[member] {
            Some(data) => Ok(write_all(out, data.bytes())?),
            None => Ok(()),
        })
    }

    /// Writes the archive with the elements of the chosen members passed through `pass`.
    pub(super) fn stream(
        &mut self,
        out: &mut dyn Write,
        chosen: &[(usize, u64)],
        pass: &mut Pass<'_>,
    ) -> Result<()> {
        let len = |member: usize| chosen.iter().find(|(index, _)| *index == member).map(|(_, bytes)| *bytes);
        self.rewrite(out, &len, &mut |member, archive, out| {
            let (Some(bytes), Member { name, index, header }) = (len(member), archive.1) else {
                return Ok(());
            };
            let mut file = open(archive.0, *index, name, header)?;
            pass(member, &mut file, out)?;
            close(file, name, bytes)
        })
    }

    /// Writes the archive. `len` tells which members get other elements, and their bytes; `elements` writes these.
    fn rewrite(
        &mut self,
        out: &mut dyn Write,
        len: &dyn Fn(usize) -> Option<u64>,
        elements: &mut Elements<'_>,
    ) -> Result<()> {
        let Self { archive, members } = self;
        let mut writer = ZipWriter::new_stream(out);
        for index in 0..archive.len() {
            let member = members.iter().position(|member| member.index == index);
            let old = archive.by_index_raw(index)?;
            let Some((member, bytes)) = member.and_then(|member| Some((member, len(member)?))) else {
                writer.raw_copy_file(old)?;
                continue;
            };
            let header = &members[member].header;
            let options = SimpleFileOptions::default()
                .compression_method(old.compression())
                .last_modified_time(old.last_modified().unwrap_or_default())
                .large_file(header.len() as u64 + bytes >= u32::MAX.into());
            let name = old.name()?.into_owned();
            drop(old);
            writer.start_file(name, options)?;
            writer.write_all(header)?;
            elements(member, (archive, &members[member]), &mut writer)?;
        }
        writer.finish()?;
        Ok(())
    }
}

/// Writes the elements of a member, which may be read from the archive as it was.
type Elements<'a> =
    dyn FnMut(usize, (&mut ZipArchive<BufReader<File>>, &Member), &mut dyn Write) -> Result<()> + 'a;

/// A member, from its elements on.
fn open<'a>(
    archive: &'a mut ZipArchive<BufReader<File>>,
    index: usize,
    name: &str,
    header: &[u8],
) -> Result<impl Read + 'a> {
    let mut file = archive.by_index(index).with_context(|| format!("cannot read {name}"))?;
    io::copy(&mut (&mut file).take(header.len() as u64), &mut io::sink())?;
    Ok(file)
}

/// To the end, where the checksum is compared.
fn close(mut file: impl Read, name: &str, bytes: u64) -> Result<()> {
    match io::copy(&mut file, &mut io::sink()).with_context(|| format!("{name} is damaged"))? {
        0 => Ok(()),
        more => Err(npy::damaged(name, bytes, &format!("{more} more"))),
    }
}
