//! The command's file layer: whatever the bytes are, an error or tensors that go from file to file with every bit.

#![no_main]

use std::io::{self, Cursor, Read, Write};
use std::path::Path;

use anyhow::Result;
use libfuzzer_sys::fuzz_target;
use tempfile::NamedTempFile;
use wgclip::{Element, ElementType, with_element};
use wgclip_cli::files::{TensorFile, write_one};
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
    let Ok(all) = opened.select(&[]) else { return };
    let archive = extension == "npz" || content.starts_with(b"PK");
    let promised = opened.bytes();
    assert!(archive || extension == "npy" || promised <= content.len() as u64);

    let small = |file: &TensorFile, index| !archive || file.entry(index).bytes() <= LARGEST;
    let clippable: Vec<_> =
        all.into_iter().filter(|&index| opened.element(index).is_ok() && small(&opened, index)).collect();
    let found: Vec<_> =
        clippable.iter().filter_map(|&index| Some((index, read(&mut opened, index).ok()?))).collect();
    if found.is_empty() {
        return;
    }
    assert!(archive || found.iter().all(|(index, _)| opened.entry(*index).bytes() <= content.len() as u64));

    for (index, data) in &found {
        replace(&mut opened, *index, data);
    }
    let (index, data) = &found[0];
    one(&opened, *index, data, if content.len() % 2 == 0 { "npy" } else { "safetensors" });
    let mut written = Vec::new();
    opened.write(&mut written).expect("what was read is written");
    same(extension, archive, content, &written, &found);

    let chosen: Vec<_> = found.iter().map(|(index, _)| *index).collect();
    let streamed = stream(file.path(), &chosen).expect("what was read is streamed");
    if streamed != written {
        same(extension, archive, content, &streamed, &found);
    }
    if chosen != clippable {
        stream(file.path(), &clippable).expect_err("what is not read is not streamed");
    }
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
    let shape = &file.entry(index).shape;
    assert_eq!(bits.len(), shape.len());
    Ok((element, shape.dims().to_vec(), bits))
}

fn values<T: Element>((_, _, bits): &Found) -> Vec<T> {
    bits.iter().map(|&bits| T::from_bits(bits)).collect()
}

fn replace(file: &mut TensorFile, index: usize, data: &Found) {
    with_element!(data.0, T => file.replace(index, values::<T>(data)));
}

/// Writes a tensor alone, and reads it again.
fn one(file: &TensorFile, index: usize, data: &Found, extension: &str) {
    let path = format!("one.{extension}");
    let shape = &file.entry(index).shape;
    let mut out = Vec::new();
    let written = with_element!(data.0, T => {
        write_one(&mut out, path.as_ref(), "one", shape, &values::<T>(data))
    });
    match written {
        Ok(()) => {
            let again = put(extension, &out);
            let mut again = TensorFile::open(again.path()).expect("what was written is opened");
            let index = again.only().expect("it holds one tensor");
            assert_eq!(read(&mut again, index).expect("what was written is read"), *data);
        }
        Err(error) => assert!(data.0 == ElementType::Bf16 && extension == "npy", "{error}"),
    }
}

/// The file with its chosen tensors copied.
fn stream(path: &Path, chosen: &[usize]) -> Result<Vec<u8>> {
    let mut file = TensorFile::open(path)?;
    let bytes: Vec<_> = chosen.iter().map(|&index| (index, file.entry(index).bytes())).collect();
    let mut out = Vec::new();
    file.stream(&mut out, chosen, &mut |index, from, to| {
        let (_, bytes) = bytes.iter().find(|(chosen, _)| *chosen == index).expect("it was chosen");
        let copied = io::copy(&mut from.take(*bytes), to)?;
        anyhow::ensure!(copied == *bytes, "it ends too early");
        Ok(())
    })?;
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
