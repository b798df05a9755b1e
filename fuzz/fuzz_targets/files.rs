//! The command's file layer: whatever the bytes are, an error or tensors that go from file to file with every bit.

#![no_main]

use std::io::{Cursor, Read, Write};

use anyhow::Result;
use libfuzzer_sys::fuzz_target;
use tempfile::NamedTempFile;
use wgclip::{Element, ElementType, with_element};
use wgclip_cli::files::{Conversions, TensorFile, write_one};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Bytes of the largest tensor of an archive that is read. Members are compressed, so the size of the file says nothing
/// of theirs.
const LARGEST: u64 = 1 << 20;

/// What a `.npy` file begins with.
const MAGIC: &[u8] = b"\x93NUMPY";

fuzz_target!(|input: &[u8]| {
    let Some((kind, content)) = input.split_first() else { return };
    match kind % 4 {
        0 => check("npy", content),
        1 => check("npz", content),
        2 => check("safetensors", content),
        // Few mutations of an archive keep its checksums.
        _ => check("npz", &archive(content, kind / 4 % 2 == 1)),
    }
});

fn check(extension: &str, content: &[u8]) {
    let file = put(extension, content);
    let Ok(mut opened) = TensorFile::open(file.path()) else { return };
    let archive = content.starts_with(b"PK");
    let small = |file: &TensorFile, index: usize| !archive || file.entries()[index].bytes() <= LARGEST;
    let clippable: Vec<_> = (0..opened.entries().len())
        .filter(|&index| opened.element(index).is_ok() && small(&opened, index))
        .collect();
    let found: Vec<_> =
        clippable.iter().filter_map(|&index| Some((index, read(&mut opened, index).ok()?))).collect();
    if found.is_empty() {
        return;
    }
    assert!(
        archive || found.iter().all(|(index, _)| opened.entries()[*index].bytes() <= content.len() as u64)
    );
    let (index, data) = &found[0];
    one(&opened, *index, data, if content.len() % 2 == 0 { "npy" } else { "safetensors" });

    let copied = write(&mut opened, &[], &Conversions::new()).expect("what was read is copied");
    same(extension, archive, content, &copied, &found);
    let chosen: Vec<_> = found.iter().map(|(index, _)| *index).collect();
    let written = write(&mut opened, &chosen, &Conversions::new()).expect("what was read is written");
    same(extension, archive, content, &written, &found);
    if chosen != clippable {
        write(&mut opened, &clippable, &Conversions::new()).expect_err("what is not read is not written");
    }
    // The first with another type of its size, and one tensor alone: its bits are the same.
    let other = ElementType::ALL.iter().find(|t| t.size() == data.0.size() && **t != data.0);
    let Some(&other) = other else { return };
    let converted = write(&mut opened, &chosen, &[(*index, other)].into()).expect("a type has a header");
    let file = put(extension, &converted);
    let mut file = TensorFile::open(file.path()).expect("what was written is opened");
    file.assume(other);
    let name = &opened.entries()[*index].name;
    let index = file.entries().iter().position(|entry| entry.name == *name).expect("it has its name");
    let (element, shape, bits) = read(&mut file, index).expect("what was written is read");
    assert_eq!((element, &shape, &bits), (other, &data.1, &data.2));
}

/// A file of the content.
fn put(extension: &str, content: &[u8]) -> NamedTempFile {
    let mut file = tempfile::Builder::new()
        .prefix("wgclip-fuzz-")
        .suffix(&format!(".{extension}"))
        .tempfile_in("/dev/shm")
        .expect("memory for a file");
    file.write_all(content).expect("memory for a file");
    file
}

/// An archive with a member for each `.npy` file of the content.
fn archive(content: &[u8], deflated: bool) -> Vec<u8> {
    let method = if deflated { CompressionMethod::Deflated } else { CompressionMethod::Stored };
    let options = SimpleFileOptions::default().compression_method(method);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let later = (1..content.len()).filter(|&at| content[at..].starts_with(MAGIC));
    let mut start = 0;
    for (n, end) in later.take(8).chain([content.len()]).enumerate() {
        writer.start_file(format!("{n}.npy"), options).expect("a member");
        writer.write_all(&content[start..end]).expect("a member");
        start = end;
    }
    writer.finish().expect("an archive").into_inner()
}

/// A tensor's type, its shape, and its elements.
type Found = (ElementType, Vec<usize>, Vec<u64>);

fn read(file: &mut TensorFile, index: usize) -> Result<Found> {
    let element = file.element(index)?;
    let bits = with_element!(element, T => {
        file.read::<T>(index)?.into_iter().map(Element::to_bits).collect::<Vec<u64>>()
    });
    let shape = &file.entries()[index].shape;
    assert_eq!(bits.len(), shape.len());
    Ok((element, shape.dims().to_vec(), bits))
}

fn values<T: Element>((_, _, bits): &Found) -> Vec<T> {
    bits.iter().map(|&bits| T::from_bits(bits)).collect()
}

/// Writes a tensor alone, and reads it again.
fn one(file: &TensorFile, index: usize, data: &Found, extension: &str) {
    let path = format!("one.{extension}");
    let shape = &file.entries()[index].shape;
    let mut out = Vec::new();
    let written = with_element!(data.0, T => {
        write_one(&mut out, path.as_ref(), "one", shape, &values::<T>(data))
    });
    written.expect("every type has a place in both");
    let again = put(extension, &out);
    let mut again = TensorFile::open(again.path()).expect("what was written is opened");
    again.assume(data.0);
    assert_eq!(again.entries().len(), 1);
    assert_eq!(read(&mut again, 0).expect("what was written is read"), *data);
}

/// The file with some tensors read and written, and the others copied.
fn write(file: &mut TensorFile, chosen: &[usize], to: &Conversions) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut writer = file.writer(&mut out, to)?;
    for index in file.order(to) {
        if !chosen.contains(&index) {
            writer.copy(index)?;
            continue;
        }
        let bytes = file.entries()[index].bytes();
        file.elements(index, &mut |from| {
            writer.begin(index)?;
            let mut elements = Vec::new();
            from.take(bytes).read_to_end(&mut elements)?;
            anyhow::ensure!(elements.len() as u64 == bytes, "it ends too early");
            writer.write(&elements)
        })?;
    }
    writer.finish()?;
    Ok(out)
}

/// Whether a file that was written holds what was read.
fn same(extension: &str, archive: bool, content: &[u8], written: &[u8], found: &[(usize, Found)]) {
    if !archive {
        assert!(content == written, "bytes changed");
        return;
    }
    let file = put(extension, written);
    let mut file = TensorFile::open(file.path()).expect("what was written is opened");
    for (index, data) in found {
        assert_eq!(read(&mut file, *index).expect("what was written is read"), *data);
    }
}
