//! numpy's `.npz` files: zip archives of `.npy` files.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use wgclip::{Element, Shape};
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use super::npy;
use super::{Bytes, Entry, Layout, write_all};

/// A `.npz` file.
pub struct Npz {
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
    pub fn open(path: &Path, file: File) -> Result<(Self, Vec<(Entry, Layout)>)> {
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
    pub fn read<T: Element>(&mut self, index: usize, shape: &Shape) -> Result<Vec<T>> {
        let member = &self.members[index];
        let name = &member.name;
        let mut file = self.archive.by_index(member.index).with_context(|| format!("cannot read {name}"))?;
        io::copy(&mut (&mut file).take(member.header.len() as u64), &mut io::sink())?;
        let data = npy::read_elements(name, &mut file, shape)?;
        // To the end, where the checksum is compared.
        match io::copy(&mut file, &mut io::sink()).with_context(|| format!("{name} is damaged"))? {
            0 => Ok(data),
            more => Err(npy::damaged::<T>(name, shape, &format!("{more} more"))),
        }
    }

    /// Writes the archive with other elements in some members; the others are copied as they are.
    pub fn write(&mut self, out: &mut dyn Write, replaced: &[Option<Box<dyn Bytes>>]) -> io::Result<()> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for index in 0..self.archive.len() {
            let member = self.members.iter().position(|member| member.index == index);
            let new = member.and_then(|m| Some((&self.members[m].header, replaced[m].as_ref()?)));
            let old = self.archive.by_index_raw(index)?;
            match new {
                None => writer.raw_copy_file(old)?,
                Some((header, data)) => {
                    let large = (header.len() + data.bytes().len()) as u64 >= u32::MAX.into();
                    let options = SimpleFileOptions::default()
                        .compression_method(old.compression())
                        .last_modified_time(old.last_modified().unwrap_or_default())
                        .large_file(large);
                    let name = old.name()?.into_owned();
                    drop(old);
                    writer.start_file(name, options)?;
                    writer.write_all(header)?;
                    write_all(&mut writer, data.bytes())?;
                }
            }
        }
        write_all(out, writer.finish()?.get_ref())
    }
}
