//! The values of codes in a file, by the scales and zero points beside them.

use std::collections::{HashMap, HashSet};
use std::io::Write;

use anyhow::{Context, Result, bail};
use wgclip::op::Op;
use wgclip::{Bound, Device, DynTensor, ElementType, Tensor, with_element};

use super::codes::{convert, named};
use super::packed::{F4, PACKED, Packing, Pieces, SHAPE, unpack};
use super::scales::{Coded, Scales, numbers};
use super::{SCALE, ZERO_POINT, print};
use crate::args::Dequantize;
use crate::files::{Kind, NewTensor, write_header};
use crate::norm::{self, parts};
use crate::resources::Resources;
use crate::run::warn_of_folders;
use crate::say;
use crate::source::{Place, Source};
use crate::target::{IndexChanges, Target};

/// Writes the values of codes.
pub(crate) fn dequantize(args: &Dequantize) -> Result<()> {
    let mut source = Source::open(&args.input, None)?;
    let coded = find(&mut source)?;
    if coded.is_empty() {
        bail!(
            "{} holds no codes: no tensor of integers of up to 32 bits, or of floats of 8 or 4 bits, has one with its name and {SCALE} beside it",
            args.input.display()
        );
    }
    let mut target = Target::create_safetensors(&source, &args.output)?;
    warn_of_folders(&source, &args.output);
    let mut sources = [(source, coded.iter().map(|coded| coded.codes).collect())];
    let mut resources = norm::resources(&args.effort, args.quiet, &sources, 1)?;
    let [(source, _)] = &mut sources;
    let aside: Vec<_> = coded.iter().flat_map(Coded::aside).collect();
    let mut changes = IndexChanges {
        removed: aside.iter().map(|&place| source.entry(place).name.clone()).collect(),
        ..IndexChanges::default()
    };
    for file in 0..source.files.len() {
        let of = (&coded[..], &aside[..], args.to);
        target.write(file, |out| rewrite(out, (source, file), of, &mut changes, &mut resources))?;
    }
    let direct = target.is_direct();
    target.commit(Some(changes))?;
    resources.end_progress();
    if !args.quiet {
        let noun = if coded.len() == 1 { "tensor" } else { "tensors" };
        let (device, seconds) = (resources.device().info(), resources.start().elapsed().as_secs_f64());
        print(&format!("{} {noun} as {}; {device}; {seconds:.3} s", coded.len(), args.to), direct);
    }
    Ok(())
}

/// The tensors of codes that have scales.
fn find(source: &mut Source) -> Result<Vec<Coded>> {
    let mut coded = Vec::new();
    for codes in source.places().collect::<Vec<_>>() {
        let entry = source.entry(codes).clone();
        let packed = entry.name.strip_suffix(PACKED).filter(|_| entry.element() == Some(ElementType::I32));
        let name = packed.unwrap_or(&entry.name).to_owned();
        let beside = |suffix: &str| source.find(&format!("{name}{suffix}"));
        let Some(scale) = beside(SCALE) else { continue };
        let (zero_point, shape) = (beside(ZERO_POINT), beside(SHAPE));
        let mut dims = entry.shape.dims().to_vec();
        let packing = match &entry.kind {
            _ if packed.is_some() => {
                if let Some(zero_point) = zero_point {
                    bail!(
                        "{} holds the zero points of packed integers, and this command reads symmetric ones alone",
                        source.describe(zero_point)
                    );
                }
                dims = packed_dims(source, codes, shape)?;
                Some((Packing::Int4, shape))
            }
            Kind::Other(kind) if kind == F4 => Some((Packing::E2M1, None)),
            _ => None,
        };
        match entry.element() {
            Some(element) if element.is_code() && packing.is_none() => {
                coded.push(Coded { name, codes, scale, zero_point, packing, dims });
            }
            _ if packing.is_some() => coded.push(Coded { name, codes, scale, zero_point, packing, dims }),
            _ => say(&format!(
                "warning: {} holds {} with a scale, which are no codes that this command knows: both are kept",
                source.describe(codes),
                entry.kind
            )),
        }
    }
    Ok(coded)
}

/// The shape of integers that are packed, which a tensor beside them says.
fn packed_dims(source: &mut Source, codes: Place, shape: Option<Place>) -> Result<Vec<usize>> {
    let mut dims = source.entry(codes).shape.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last *= 8;
    }
    if let Some(shape) = shape {
        let given: Vec<usize> = numbers(source, shape)?.into_iter().map(|len| len as usize).collect();
        if given != dims {
            bail!(
                "{} says {given:?}, and the packed codes have {dims:?}: rows that do not fill whole words are not read",
                source.describe(shape)
            );
        }
    }
    Ok(dims)
}

/// Writes a file with values in place of its codes.
fn rewrite(
    out: &mut dyn Write,
    (source, file): (&mut Source, usize),
    (coded, aside, to): (&[Coded], &[Place], ElementType),
    changes: &mut IndexChanges,
    resources: &mut Resources,
) -> Result<()> {
    let aside: HashSet<_> = aside.iter().copied().collect();
    let coded: HashMap<_, _> = coded.iter().map(|coded| (coded.codes, coded)).collect();
    let mut tensors = Vec::new();
    for index in 0..source.files[file].entries().len() {
        let place = Place { file, index };
        if aside.contains(&place) {
            continue;
        }
        let of = coded.get(&place).copied();
        let entry = source.entry(place);
        let (tensor, size) = match of {
            Some(coded) => {
                if coded.name != entry.name {
                    changes.removed.push(entry.name.clone());
                    changes.added.push((coded.name.clone(), file));
                }
                (NewTensor::new(coded.name.clone(), to, coded.dims.clone()), to.size() as u64)
            }
            None => {
                let tensor = source.files[file].as_new(index)?;
                let size = tensor.bytes / entry.shape.len().max(1) as u64;
                (tensor, size)
            }
        };
        tensors.push((size, tensor, place, of));
    }
    tensors.sort_by_key(|(size, ..)| std::cmp::Reverse(*size));
    let header: Vec<_> = tensors.iter().map(|(_, tensor, ..)| tensor.clone()).collect();
    changes.bytes += header.iter().map(|tensor| tensor.bytes).sum::<u64>();
    write_header(out, source.files[file].metadata(), &header)?;
    for (_, _, place, of) in tensors {
        match of {
            None => source.files[file].copy_as_new(place.index, out)?,
            Some(coded) => write_values(out, source, coded, to, resources)?,
        }
    }
    Ok(())
}

/// Writes the values of a tensor of codes, part by part.
fn write_values(
    out: &mut dyn Write,
    source: &mut Source,
    coded: &Coded,
    to: ElementType,
    resources: &mut Resources,
) -> Result<()> {
    let scales = Scales::read(source, coded)?;
    let what = named(source, coded.codes);
    let device = resources.device().clone();
    let (most, part) = resources.room();
    let part = part.min(resources.batch_bytes() as u64);
    let mut row = 0;
    // Takes rows of these dimensions, of which `upload` makes a tensor, and the bytes that they have in the file.
    let mut take = |upload: Upload<'_>, dims: &[usize], bytes: usize| {
        resources.progress(bytes);
        let values = values(&device, upload, dims, (&scales, row), to).with_context(|| what.clone())?;
        row += dims.first().copied().unwrap_or(1);
        write_bytes(out, &values)
    };
    if coded.packing.is_none() {
        let is_one_group = scales.group > 1 && scales.dims.len() == 1;
        let axes = if is_one_group { vec![0] } else { Vec::new() };
        return with_element!(source.element(coded.codes)?, T => {
            parts::<T>(source, coded.codes, &axes, (most, part), &mut |codes, dims| {
                let bytes = size_of_val(&codes[..]);
                take(Box::new(|view| Ok(Tensor::<T>::into(device.tensor_from_vec(codes, view)?))), dims, bytes)
            })
        });
    }
    if coded.dims.is_empty() {
        bail!("{what} is one number, and codes are packed along an axis");
    }
    // Packed codes are read as bytes. A shape of one axis is one row, whose codes are taken at once.
    let rows = if coded.dims.len() > 1 { coded.dims[0].max(1) } else { 1 };
    let of_row = coded.dims.iter().product::<usize>() / rows / 2;
    if of_row == 0 {
        return Ok(());
    }
    let whole = (part as usize / of_row).clamp(1, rows);
    let mut take = |codes: Vec<u8>| {
        let (mut dims, bytes) = (coded.dims.clone(), codes.len());
        if dims.len() > 1 {
            dims[0] = bytes / of_row;
        }
        take(Box::new(|view| unpack(&device, codes, view)), &dims, bytes)
    };
    let mut pieces = Pieces::new(whole * of_row, &mut take);
    let written = source.files[coded.codes.file].copy_as_new(coded.codes.index, &mut pieces);
    pieces.end(written)
}

/// Makes a tensor of codes, in a shape.
type Upload<'a> = Box<dyn FnOnce(&[usize]) -> Result<DynTensor> + 'a>;

/// Writes elements, little-endian.
fn write_bytes(out: &mut dyn Write, values: &DynTensor) -> Result<()> {
    let mut bytes = values.to_bytes()?;
    if cfg!(target_endian = "big") {
        bytes.chunks_mut(values.element().size()).for_each(<[u8]>::reverse);
    }
    Ok(out.write_all(&bytes)?)
}

/// The values of rows of codes, which are uploaded in a shape; the first is row `first`.
fn values(
    device: &Device,
    upload: Upload<'_>,
    dims: &[usize],
    (scales, first): (&Scales, usize),
    to: ElementType,
) -> Result<DynTensor> {
    let (mut view, mut of_scales) = (dims.to_vec(), scales.dims.clone());
    if scales.group > 1 {
        if let Some(last) = view.last_mut() {
            *last /= scales.group;
        }
        view.push(scales.group);
        of_scales.push(1);
    }
    // The scales of these rows.
    let each = scales.dims.iter().skip(1).product::<usize>();
    let is_per_row =
        scales.dims.first().is_some_and(|&rows| rows > 1) && !(scales.group > 1 && dims.len() == 1);
    let rows = if is_per_row { first * each..(first + dims[0]) * each } else { 0..scales.scale.len() };
    if is_per_row {
        of_scales[0] = dims[0];
    }
    let tensor = |numbers: &[f32]| -> Result<Bound<f32>> {
        Ok(match *numbers {
            [number] => Bound::Value(number),
            _ => Bound::Tensor(device.tensor(&numbers[rows.clone()], &of_scales[..])?),
        })
    };
    let inputs = [tensor(&scales.scale)?, tensor(&scales.zero_point)?];
    convert(Op::Dequantize, &upload(&view)?, &inputs, scales.rule, to)
}
