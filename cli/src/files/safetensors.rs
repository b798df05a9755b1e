//! `.safetensors` files: a header in JSON, then the elements, little-endian, in C order.

use std::fmt;
use std::io::{Read, Write};

use anyhow::{Result, anyhow, bail};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use wgclip::{Element, ElementType, Shape};

use super::cursor::Cursor;
use super::{Conversions, Elements, Entry, Kind, Layout, TensorWriter, copy, write_all};

/// Maximum length of a header in bytes, as defined by the format.
const LONGEST_HEADER: u64 = 100_000_000;

/// The header key that is not a tensor.
pub(super) const METADATA: &str = "__metadata__";

/// A `.safetensors` file whose header was read.
pub(super) struct Safetensors {
    file: Cursor,
    /// Including the length field before it.
    header: Vec<u8>,
    metadata: Option<serde_json::Value>,
    /// The position of each tensor, relative to the end of the header, in data order.
    places: Vec<Place>,
}

#[derive(Clone)]
struct Place {
    dtype: String,
    start: u64,
    bytes: u64,
}

/// The header's entry for a tensor. Types are text, so that types new to the format do no harm.
#[derive(Serialize, Deserialize)]
pub(super) struct Info {
    pub dtype: String,
    pub shape: Vec<usize>,
    pub data_offsets: (u64, u64),
}

/// The content of a header, tensor by tensor, parsed in one pass, since there may be a hundred thousand tensors.
struct Said {
    metadata: Option<serde_json::Value>,
    tensors: Vec<(String, Info)>,
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;

        impl<'de> Visitor<'de> for Items {
            type Value = Said;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tensors by their names")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Said, M::Error> {
                let mut said = Said { metadata: None, tensors: Vec::new() };
                while let Some(key) = map.next_key::<String>()? {
                    match &key[..] {
                        METADATA => said.metadata = Some(map.next_value()?),
                        _ => said.tensors.push((key, map.next_value()?)),
                    }
                }
                Ok(said)
            }
        }
        deserializer.deserialize_map(Items)
    }
}

impl Safetensors {
    /// Whether a file begins like one: with the length of a JSON header.
    pub(super) fn is_one(head: &[u8], len: u64) -> bool {
        let Some((length, rest)) = head.split_first_chunk::<8>() else { return false };
        u64::from_le_bytes(*length) <= len && rest.first() == Some(&b'{')
    }

    /// Reads the header, and checks it against the length of the file.
    pub(super) fn open(name: &str, file: Cursor) -> Result<(Self, Vec<Entry>)> {
        Self::read(file)
            .map_err(|error| anyhow!("{name} is not a .safetensors file, or is damaged: {error:#}"))
    }

    fn read(mut file: Cursor) -> Result<(Self, Vec<Entry>)> {
        let mut header = vec![0; 8];
        file.read_exact(&mut header).map_err(|_| anyhow!("it has no header"))?;
        let len = header.first_chunk().map_or(0, |len| u64::from_le_bytes(*len));
        if len > LONGEST_HEADER || len > file.len() - 8 {
            bail!("its header is too long");
        }
        (&mut file).take(len).read_to_end(&mut header)?;
        let Said { metadata, mut tensors } = serde_json::from_slice(&header[8..])?;
        tensors.sort_by(|(a, left), (b, right)| (left.data_offsets, a).cmp(&(right.data_offsets, b)));

        let (mut places, mut entries, mut end) = (Vec::new(), Vec::new(), 0);
        for (key, Info { dtype, shape, data_offsets: (start, next) }) in tensors {
            let kind = kind(&dtype);
            let shape = Shape::new(&shape[..])
                .map_err(|_| anyhow!("tensor '{key}' has the impossible shape {shape:?}"))?;
            let layout = Layout { swapped: cfg!(target_endian = "big"), fortran: false };
            let entry = Entry { name: key, kind, shape, layout };
            let bytes = next.checked_sub(start);
            let fits = !matches!(entry.kind, Kind::Known(_)) || bytes == Some(entry.bytes());
            let Some(bytes) = bytes.filter(|_| start == end && fits) else {
                bail!("the data of tensor '{}' is not where it should be, or of another length", entry.name);
            };
            end = next;
            places.push(Place { dtype, start, bytes });
            entries.push(entry);
        }
        let there = file.len() - header.len() as u64;
        if there != end {
            bail!("its header promises {end} bytes of data, but it holds {there}");
        }
        Ok((Self { file, header, metadata, places }, entries))
    }

    /// Reads the elements of a tensor.
    pub(super) fn elements(&self, index: usize, read: &mut Elements<'_>) -> Result<()> {
        read(&mut self.place(index))
    }

    /// What the header says besides tensors.
    pub(super) fn metadata(&self) -> Option<&serde_json::Value> {
        self.metadata.as_ref()
    }

    /// The format's name of the type of a tensor.
    pub(super) fn dtype(&self, index: usize) -> &str {
        &self.places[index].dtype
    }

    /// A reader of the elements.
    pub(super) fn reader(&self, index: usize) -> Box<dyn Read + Send> {
        Box::new(self.place(index))
    }

    /// Bytes of a tensor, of any type.
    pub(super) fn bytes(&self, index: usize) -> u64 {
        self.places[index].bytes
    }

    fn place(&self, index: usize) -> Cursor {
        self.file.at(self.header.len() as u64 + self.places[index].start)
    }

    /// The order in which tensors are written: data order, except that larger elements go first if some
    /// tensors change their type, so that all stay aligned.
    pub(super) fn order(&self, entries: &[Entry], to: &Conversions) -> Vec<usize> {
        let mut order: Vec<_> = (0..self.places.len()).collect();
        let size = |index: usize| match to.get(&index) {
            Some(to) => to.size() as u64,
            None if entries[index].size() > 0 => entries[index].size() as u64,
            None => self.places[index].bytes / (entries[index].shape.len() as u64).max(1),
        };
        if !to.is_empty() {
            order.sort_by_key(|&index| std::cmp::Reverse(size(index)));
        }
        order
    }

    /// A writer of a file like this, with the types of tensors changed where `to` says so.
    pub(super) fn writer<'a>(
        &self,
        out: &'a mut dyn Write,
        entries: &[Entry],
        to: &Conversions,
    ) -> Result<Box<dyn TensorWriter + 'a>> {
        match to.is_empty() {
            true => out.write_all(&self.header)?,
            false => out.write_all(&self.converted_header(entries, to)?)?,
        }
        Ok(Box::new(Writer {
            out,
            file: self.file.clone(),
            data: self.header.len() as u64,
            places: self.places.clone(),
        }))
    }

    fn converted_header(&self, entries: &[Entry], to: &Conversions) -> Result<Vec<u8>> {
        let mut header = serde_json::Map::new();
        if let Some(metadata) = &self.metadata {
            header.insert(METADATA.into(), metadata.clone());
        }
        let mut end = 0;
        for index in self.order(entries, to) {
            let (Entry { name, shape, .. }, Place { dtype, bytes, .. }) =
                (&entries[index], &self.places[index]);
            let (dtype, bytes) = match to.get(&index) {
                Some(&to) => (self::dtype(to), shape.len() as u64 * to.size() as u64),
                None => (dtype.clone(), *bytes),
            };
            let info = Info { dtype, shape: shape.dims().to_vec(), data_offsets: (end, end + bytes) };
            header.insert(name.clone(), serde_json::to_value(info)?);
            end += bytes;
        }
        Ok(header_bytes(&header)?)
    }
}

/// A header with its length, padded so that the data is aligned.
pub(super) fn header_bytes(
    header: &serde_json::Map<String, serde_json::Value>,
) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(header)?;
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut text);
    Ok(bytes)
}

struct Writer<'a> {
    out: &'a mut dyn Write,
    file: Cursor,
    /// Where the data begins.
    data: u64,
    places: Vec<Place>,
}

impl TensorWriter for Writer<'_> {
    fn begin(&mut self, _: usize) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(write_all(self.out, bytes)?)
    }

    fn copy(&mut self, index: usize) -> Result<()> {
        let Place { start, bytes, .. } = self.places[index];
        copy(&mut self.file.at(self.data + start).take(bytes), self.out)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// Writes a file of one tensor.
pub(super) fn write_one<T: Element>(
    out: &mut dyn Write,
    name: &str,
    shape: &Shape,
    data: &[T],
) -> Result<()> {
    let layout = Layout { swapped: cfg!(target_endian = "big"), fortran: false };
    let data = layout.encode(data.to_vec(), shape);
    let info = Info {
        dtype: dtype(T::TYPE),
        shape: shape.dims().to_vec(),
        data_offsets: (0, size_of_val(&data[..]) as u64),
    };
    let mut header = serde_json::Map::new();
    header.insert(name.into(), serde_json::to_value(info)?);
    out.write_all(&header_bytes(&header)?)?;
    write_all(out, bytemuck::cast_slice(&data))?;
    Ok(())
}

/// The format's type names are ours in capitals, with these exceptions.
const NAMES: [(ElementType, &str); 2] =
    [(ElementType::F8E4M3Fn, "F8_E4M3"), (ElementType::F8E5M2, "F8_E5M2")];

fn kind(dtype: &str) -> Kind {
    let named = NAMES.iter().find(|(_, name)| *name == dtype).map(|(element, _)| *element);
    let known =
        || ElementType::from_name(&dtype.to_lowercase()).filter(|&element| self::dtype(element) == dtype);
    named.or_else(known).map_or_else(|| Kind::Other(dtype.to_owned()), Kind::Known)
}

pub(super) fn dtype(element: ElementType) -> String {
    let named = NAMES.iter().find(|(known, _)| *known == element).map(|(_, name)| (*name).to_owned());
    named.unwrap_or_else(|| element.name().to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_name() {
        for &element in ElementType::ALL {
            assert_eq!(kind(&dtype(element)).to_string(), element.name());
        }
        assert!(matches!(kind("F8_E4M3FN"), Kind::Other(_)));
        assert!(matches!(kind("BOOL"), Kind::Other(_)));
    }
}
