//! `wgclip quantize` and `wgclip dequantize`: tensors as codes, with their scales and zero points beside them.

mod codes;
mod dequantize;
mod error;
mod packed;
mod scales;

use std::collections::HashMap;
use std::io::Write;

use anyhow::{Result, bail};
use wgclip::quantize::{Calibration, Grid};
use wgclip::{ElementType, with_element};

use crate::args::{Codes, Quantize, Tensors};
use crate::files::{NewTensor, printable, write_header};
use crate::norm;
use crate::resources::Resources;
use crate::run::warn_of_folders;
use crate::say;
use crate::select::{refuse_scaled, select};
use crate::source::{Place, Source};
use crate::target::{IndexChanges, Target};

pub(crate) use codes::Method;
pub(crate) use dequantize::dequantize;
pub(crate) use error::Errors;
pub(crate) use packed::Packing;

use codes::{Params, each_part, params};

/// What is added to the name of a tensor for its scales and its zero points, as checkpoints name them.
const SCALE: &str = "_scale";
const ZERO_POINT: &str = "_zero_point";

/// The type of `.safetensors` for exponents of powers of two, one byte each: 2^(byte - 127), and 255 for NaN.
const E8M0: &str = "F8_E8M0";

/// A tensor of the output.
enum Content {
    /// One of the input, unchanged.
    Kept(usize),
    /// The codes, the scales, the zero points or the shape of a tensor by its number among those that were chosen.
    Codes(usize),
    Scale(usize),
    ZeroPoint(usize),
    Shape(usize),
}

/// Writes tensors as codes.
pub(crate) fn quantize(args: &Quantize) -> Result<()> {
    let method = Method::new(&args.codes)?;
    // Read twice: for the scales, and for the codes.
    let source = Source::open_again(&args.input, args.tensors.assumed)?;
    let chosen = choose(&source, &args.tensors)?;
    if refuse_scaled(&source, &chosen).is_err() {
        bail!(
            "{} holds codes and their scales already: dequantize it first, or leave them out with --except",
            args.input.display()
        );
    }
    refuse_names(&source, &chosen)?;
    let mut target = Target::create_safetensors(&source, &args.output)?;
    warn_of_folders(&source, &args.output);
    let mut sources = [(source, chosen)];
    let mut resources = norm::resources(&args.effort, args.quiet, &sources, method.passes())?;
    let [(source, chosen)] = &mut sources;
    let mut found = Vec::new();
    for &place in &*chosen {
        found.push(params(source, place, &method, &mut resources)?);
    }
    let (mut changes, mut report) = (IndexChanges::default(), Report::default());
    for file in 0..source.files.len() {
        let of = Rewrite {
            method: &method,
            chosen,
            params: &found,
            changes: &mut changes,
            report: &mut report,
            quiet: args.quiet,
        };
        target.write(file, |out| of.write(out, (source, file), &mut resources))?;
    }
    let direct = target.is_direct();
    target.commit(Some(changes))?;
    resources.end_progress();
    if !args.quiet {
        report.print(&args.codes, &method, &resources, direct);
    }
    Ok(())
}

/// The tensors to quantize: those that are named; by default the floats of two axes or more, which weights are, or else all floats.
pub(crate) fn choose(source: &Source, tensors: &Tensors) -> Result<Vec<Place>> {
    let selection = select(source, &tensors.tensor, &tensors.except)?;
    for &place in &selection.chosen {
        let element = source.element(place)?;
        if !element.is_float() {
            bail!(
                "{} holds {element}, and floats are quantized: choose those with --tensor",
                source.describe(place)
            );
        }
    }
    let is_matrix = |&place: &Place| source.entry(place).shape.dims().len() > 1;
    Ok(match tensors.tensor.is_empty() && selection.chosen.iter().any(is_matrix) {
        true => selection.chosen.into_iter().filter(is_matrix).collect(),
        false => selection.chosen,
    })
}

/// The errors of the codes of a tensor, which are not kept.
pub(crate) fn errors(
    source: &mut Source,
    place: Place,
    method: &Method,
    resources: &mut Resources,
) -> Result<Errors> {
    let params = params(source, place, method, resources)?;
    let mut errors = Errors::default();
    with_element!(source.element(place)?, T => {
        each_part::<T>(source, place, (method, &params), resources, &mut |part| {
            errors.add(&part, &part.bytes()?, method);
            Ok(())
        })?;
    });
    Ok(errors)
}

/// Refuses names that the scales and zero points would share with other tensors.
fn refuse_names(source: &Source, chosen: &[Place]) -> Result<()> {
    for &place in chosen {
        let name = source.entry(place).name.clone();
        for taken in
            [SCALE, ZERO_POINT, packed::PACKED, packed::SHAPE].map(|suffix| format!("{name}{suffix}"))
        {
            if source.find(&taken).is_some() {
                bail!("{} has a tensor '{taken}' beside it: rename that first", source.describe(place));
            }
        }
    }
    Ok(())
}

/// The name of a tensor in the output: that of its file for the tensor of a `.npy` file.
fn name_of(source: &Source, place: Place) -> String {
    let name = &source.entry(place).name;
    let stem = source.path().file_stem().filter(|stem| *stem != "-").and_then(|stem| stem.to_str());
    if name.is_empty() { stem.unwrap_or("x").to_owned() } else { name.clone() }
}

/// The output of one file.
struct Rewrite<'a> {
    method: &'a Method,
    chosen: &'a [Place],
    params: &'a [Params],
    changes: &'a mut IndexChanges,
    report: &'a mut Report,
    /// Whether errors need not be known.
    quiet: bool,
}

impl Rewrite<'_> {
    fn write(
        self,
        out: &mut dyn Write,
        (source, file): (&mut Source, usize),
        resources: &mut Resources,
    ) -> Result<()> {
        let tensors = self.tensors(source, file)?;
        let header: Vec<_> = tensors.iter().map(|(tensor, _)| tensor.clone()).collect();
        for (tensor, content) in &tensors {
            self.changes.bytes += tensor.bytes;
            match content {
                Content::Kept(_) => continue,
                Content::Codes(n) => {
                    let name = name_of(source, self.chosen[*n]);
                    if tensor.name != name {
                        self.changes.removed.push(name);
                        self.changes.added.push((tensor.name.clone(), file));
                    }
                }
                Content::Scale(_) | Content::ZeroPoint(_) | Content::Shape(_) => {
                    self.changes.added.push((tensor.name.clone(), file))
                }
            }
            self.report.after += tensor.bytes;
        }
        write_header(out, source.files[file].metadata(), &header)?;
        for (_, content) in tensors {
            match content {
                Content::Kept(index) => {
                    source.files[file].copy_as_new(index, out)?;
                    self.report.kept += 1;
                }
                Content::Scale(n) => out.write_all(&self.params[n].scale_bytes(self.method.exponents))?,
                Content::ZeroPoint(n) => out.write_all(&self.params[n].zero_point_bytes(self.method.to))?,
                Content::Shape(n) => {
                    let dims = source.entry(self.chosen[n]).shape.dims();
                    out.write_all(&packed::shape_bytes(dims))?;
                }
                Content::Codes(n) => {
                    let (place, mut errors) = (self.chosen[n], Errors::default());
                    let before = source.files[file].bytes(place.index);
                    with_element!(source.element(place)?, T => {
                        let of = (self.method, &self.params[n]);
                        each_part::<T>(source, place, of, resources, &mut |part| {
                            let bytes = part.bytes()?;
                            if !self.quiet {
                                errors.add(&part, &bytes, self.method);
                            }
                            let bytes = if self.method.packing.is_some() { packed::pack(bytes)? } else { bytes };
                            Ok(out.write_all(&bytes)?)
                        })?;
                    });
                    self.report.before += before;
                    self.report.add(name_of(source, place), errors);
                }
            }
        }
        Ok(())
    }

    /// The tensors of the output, those of longer types first.
    fn tensors(&self, source: &Source, file: usize) -> Result<Vec<(NewTensor, Content)>> {
        let to = self.method.to;
        let numbers: HashMap<_, _> = self.chosen.iter().enumerate().map(|(n, &place)| (place, n)).collect();
        let mut tensors = Vec::new();
        for index in 0..source.files[file].entries().len() {
            let place = Place { file, index };
            let Some(&n) = numbers.get(&place) else {
                let tensor = source.files[file].as_new(index)?;
                let tensor = NewTensor { name: name_of(source, place), ..tensor };
                let len = source.entry(place).shape.len().max(1) as u64;
                tensors.push((tensor.bytes / len, tensor, Content::Kept(index)));
                continue;
            };
            let (name, params) = (name_of(source, place), &self.params[n]);
            let new = |suffix, element: ElementType, shape: &[usize]| {
                (element.size() as u64, NewTensor::new(format!("{name}{suffix}"), element, shape.to_vec()))
            };
            let dims = source.entry(place).shape.dims();
            match self.method.packing {
                None => {
                    let (size, codes) = new("", to, dims);
                    tensors.push((size, codes, Content::Codes(n)));
                }
                Some(packing) => {
                    let (size, codes, shape) = packing.tensors(&name, dims, &codes::named(source, place))?;
                    tensors.push((size as u64, codes, Content::Codes(n)));
                    tensors.extend(shape.map(|shape| (8, shape, Content::Shape(n))));
                }
            }
            // An exponent has a byte.
            let of_scale = if self.method.exponents { ElementType::U8 } else { ElementType::F32 };
            let (size, mut scales) = new(SCALE, of_scale, &params.shape);
            if self.method.exponents {
                scales.dtype = E8M0.into();
            }
            tensors.push((size, scales, Content::Scale(n)));
            if self.method.has_zero_points() {
                let (size, zero_points) = new(ZERO_POINT, to, &params.shape);
                tensors.push((size, zero_points, Content::ZeroPoint(n)));
            }
        }
        tensors.sort_by_key(|(size, ..)| std::cmp::Reverse(*size));
        Ok(tensors.into_iter().map(|(_, tensor, content)| (tensor, content)).collect())
    }
}

/// What was done.
#[derive(Default)]
struct Report {
    tensors: usize,
    kept: usize,
    before: u64,
    after: u64,
    all: Errors,
    /// The tensor with the lowest ratio, if there are several.
    worst: Option<(f64, String)>,
}

impl Report {
    fn add(&mut self, name: String, errors: Errors) {
        self.tensors += 1;
        self.all.merge(&errors);
        if let Some(ratio) = errors.ratio()
            && self.worst.as_ref().is_none_or(|(worst, _)| ratio < *worst)
        {
            self.worst = Some((ratio, name));
        }
    }

    fn print(&self, args: &Codes, method: &Method, resources: &Resources, direct: bool) {
        let noun = if self.tensors == 1 { "tensor" } else { "tensors" };
        let megabytes = |bytes: u64| bytesize::ByteSize(bytes).display().si();
        let Calibration { range, scheme, .. } = args.calibration();
        let codes = match method.grid {
            Grid::Integers(rule) => format!("{} codes, {scheme}", rule.max - rule.min + 1),
            Grid::Floats(codes) => format!("scales {}", codes.scale),
        };
        let mut report = format!(
            "{} {noun} as {}, {codes}, {range}: {} to {}; {}",
            self.tensors,
            args.code_type().name(),
            megabytes(self.before),
            megabytes(self.after),
            self.all,
        );
        if let Some((ratio, name)) = self.worst.as_ref().filter(|_| self.tensors > 1) {
            report.push_str(&format!(", {ratio:.1} dB for '{name}'"));
        }
        if self.kept > 0 {
            report.push_str(&format!("; {} kept", self.kept));
        }
        let seconds = resources.start().elapsed().as_secs_f64();
        report.push_str(&format!("; {}; {seconds:.3} s", resources.device().info()));
        print(&report, direct);
    }
}

/// Prints a summary: to stderr if the output itself may go to stdout.
fn print(report: &str, direct: bool) {
    match direct {
        true => say(report),
        // The output is complete: a closed stdout is not a failure.
        false => drop(writeln!(std::io::stdout(), "{}", printable(report))),
    }
}
