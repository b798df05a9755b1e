//! `wgclip norm`, and the norms that `wgclip clip-norm` scales by, computed in chunks for tensors of any size.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use wgclip::norm::{AnyTensor, NormState};
use wgclip::{Element, ElementType, NormKind, Tensor, with_element};

use crate::args::{AUTO, CPU, Effort, Norm, Tensors};
use crate::files::printable;
use crate::ignore_broken_pipe;
use crate::resources::Resources;
use crate::select::select;
use crate::source::{CHUNK, Place, Source};

#[derive(Serialize)]
struct Report {
    kind: &'static str,
    tensors: Vec<Row>,
    global: Value,
}

#[derive(Serialize)]
struct Row {
    /// The file, if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    name: String,
    r#type: &'static str,
    #[serde(flatten)]
    norm: Norms,
}

impl Row {
    fn described(&self) -> String {
        let name = printable(&self.name);
        match &self.file {
            Some(file) => format!("{} {name}", printable(file)),
            None => name.to_string(),
        }
    }
}

/// The norm of a tensor, or the norms of its slices in C order, with their shape.
#[derive(Serialize)]
#[serde(untagged)]
enum Norms {
    Whole(Value),
    Slices {
        shape: Vec<usize>,
        /// Kept compact: in printed form they take ten times as much memory.
        #[serde(serialize_with = "as_values")]
        norms: SliceNorms,
    },
}

/// Norms of one type, in bits.
struct SliceNorms {
    wide: bool,
    bits: Vec<u64>,
}

impl SliceNorms {
    fn values(&self) -> impl Iterator<Item = Value> {
        self.bits.iter().map(|&bits| match self.wide {
            true => Value::new(f64::from_bits(bits)),
            false => Value::new(f32::from_bits(bits as u32)),
        })
    }
}

fn as_values<S: serde::Serializer>(
    norms: &SliceNorms,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_seq(norms.values())
}

/// A norm: a number (null for NaN and infinity, which JSON lacks), and its bits.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Value {
    norm: Option<f64>,
    bits: String,
    #[serde(skip)]
    pub text: String,
}

impl Value {
    fn new<N: Element>(norm: N) -> Self {
        let value = norm.to_f64();
        Self {
            norm: value.is_finite().then(|| norm.to_string().parse().unwrap_or(value)),
            bits: format!("{:#0width$x}", norm.to_bits(), width = 2 + 2 * size_of::<N>()),
            text: number_text(norm),
        }
    }
}

/// A number, in scientific notation if it is very large or small.
pub(crate) fn number_text(number: impl std::fmt::Debug) -> String {
    format!("{number:?}").trim_end_matches(".0").to_owned()
}

/// A norm, rounded once.
pub(crate) fn rounded(state: &NormState, to: ElementType) -> Result<Value> {
    Ok(match to {
        ElementType::F64 => Value::new(state.norm::<f64>()?),
        _ => Value::new(state.norm::<f32>()?),
    })
}

/// Axes of a tensor, counted from 0. Negative ones count from its end.
pub(crate) fn axes_of(axes: &[i64], rank: usize, what: &str) -> Result<Vec<usize>> {
    let axis = |&axis: &i64| {
        let counted = if axis < 0 { axis + rank as i64 } else { axis };
        match usize::try_from(counted) {
            Ok(counted) if counted < rank => Ok(counted),
            _ => bail!("{what} has {rank} axes, and none is axis {axis}"),
        }
    };
    axes.iter().map(axis).collect()
}

/// The norm state of a tensor's elements, computed on the device.
pub(crate) fn state_of(
    source: &mut Source,
    place: Place,
    kind: NormKind,
    resources: &mut Resources,
) -> Result<NormState> {
    with_element!(source.element(place)?, T => {
        let mut state = NormState::wide(kind);
        if resources.is_cpu() {
            source.chunks::<T>(place, CHUNK, &mut |_, x| {
                state.add_slice(x)?;
                resources.progress(size_of_val(&x[..]));
                Ok(())
            })?;
            return Ok(state);
        }
        let device = resources.device().clone();
        let mut waiting: Vec<Tensor<T>> = Vec::new();
        let mut add = |waiting: &mut Vec<Tensor<T>>| {
            let list: Vec<_> = waiting.iter().map(|x| x as &dyn AnyTensor).collect();
            state.add(&list)?;
            waiting.clear();
            anyhow::Ok(())
        };
        source.chunks::<T>(place, resources.batch_bytes() / size_of::<T>(), &mut |_, x| {
            waiting.push(device.tensor(x, [x.len()])?);
            resources.progress(size_of_val(&x[..]));
            match waiting.len() == resources.in_flight() {
                true => add(&mut waiting),
                false => Ok(()),
            }
        })?;
        add(&mut waiting)?;
        Ok(state)
    })
}

/// Receives a part of a tensor, with its shape.
type TakePart<'a, T> = &'a mut dyn FnMut(Vec<T>, &[usize]) -> Result<()>;

/// Reads a tensor in parts that hold whole slices along some axes, of `part` bytes if possible, and never more than `most`. Each part
/// comes with its shape.
pub(crate) fn parts<T: Element>(
    source: &mut Source,
    place: Place,
    axes: &[usize],
    (most, part): (u64, u64),
    take: TakePart<'_, T>,
) -> Result<()> {
    let (entry, what) = (source.entry(place).clone(), source.describe(place));
    let dims = entry.shape.dims();
    let (first, rest) = dims.split_first().unwrap_or((&1, &[]));
    let row = rest.iter().product::<usize>() * size_of::<T>();
    let is_split = !entry.layout.fortran && !dims.is_empty() && !axes.contains(&0);
    let least = if is_split { row as u64 } else { entry.bytes() };
    if least > most {
        bail!(
            "{what} has slices that are held in memory together, {least} bytes, more than a quarter of --memory: give more"
        );
    }
    if !is_split || row == 0 {
        return take(source.files[place.file].read::<T>(place.index)?, dims);
    }
    let rows = usize::try_from(part.min(most))?.div_euclid(row).min(*first).max(1);
    source.chunks::<T>(place, rows * row / size_of::<T>(), &mut |_, x| {
        let dims: Vec<_> = [size_of_val(&x[..]) / row].into_iter().chain(rest.iter().copied()).collect();
        take(std::mem::take(x), &dims)
    })
}

/// The tensors that have a norm.
pub(crate) fn choose(source: &Source, tensors: &Tensors) -> Result<Vec<Place>> {
    let selection = select(source, &tensors.tensor, &tensors.except)?;
    for &place in &selection.chosen {
        let element = source.element(place)?;
        if !element.is_float() {
            bail!("{} holds {element}, and norms are of floats", source.describe(place));
        }
    }
    Ok(selection.chosen)
}

/// The device and the memory for tensors. GPUs do not compute with f64, so `auto` is the CPU if there is f64.
pub(crate) fn resources(
    args: &Effort,
    quiet: bool,
    sources: &[(Source, Vec<Place>)],
    passes: u64,
) -> Result<Resources> {
    let start = Instant::now();
    let chosen =
        || sources.iter().flat_map(|(source, chosen)| chosen.iter().map(move |&place| (source, place)));
    let bytes = chosen().map(|(source, place)| source.entry(place).bytes()).sum::<u64>();
    let of_f64 = chosen().find(|(source, place)| source.entry(*place).element() == Some(ElementType::F64));
    let device = if args.device == AUTO && of_f64.is_some() { CPU } else { &args.device[..] };
    let resources = Resources::new(device, args.memory, quiet, start, passes * bytes)?;
    match of_f64 {
        Some((source, place)) if !resources.is_cpu() => bail!(
            "{} holds f64, which GPUs do not compute with: give --device cpu, or leave the tensor out with --except",
            source.describe(place)
        ),
        _ => Ok(resources),
    }
}

/// Prints the norms of the tensors of files, and that of all.
pub(crate) fn norm(args: &Norm) -> Result<()> {
    let open = |path: &PathBuf| {
        let source = Source::open(path, args.tensors.assumed)?;
        let chosen = choose(&source, &args.tensors)?;
        Ok((source, chosen))
    };
    let mut sources = args.inputs.iter().map(open).collect::<Result<Vec<_>>>()?;
    let mut resources = resources(&args.effort, false, &sources, 1)?;
    let (mut rows, mut all, mut elements) = (Vec::new(), NormState::wide(args.kind), Vec::new());
    for (path, (source, chosen)) in args.inputs.iter().zip(&mut sources) {
        for &place in &*chosen {
            let element = source.element(place)?;
            let name = source.entry(place).name.clone();
            let norm = match &args.axes {
                None => {
                    let state = state_of(source, place, args.kind, &mut resources)?;
                    all.merge(&state)?;
                    Norms::Whole(rounded(&state, ElementType::of_norm([element]))?)
                }
                Some(axes) => {
                    with_element!(element, T => along::<T>(source, place, axes, (&mut all, &mut resources))?)
                }
            };
            let file = (args.inputs.len() > 1).then(|| path.display().to_string());
            rows.push(Row { file, name, r#type: element.name(), norm });
            elements.push(element);
        }
    }
    resources.end_progress();
    let global = rounded(&all, ElementType::of_norm(elements))?;
    let report = Report { kind: args.kind.name(), tensors: rows, global };
    let mut out = io::stdout().lock();
    ignore_broken_pipe(match args.json {
        true => {
            serde_json::to_writer_pretty(&mut out, &report).map_err(Into::into).and_then(|()| writeln!(out))
        }
        false => print(&mut out, &report),
    })
}

/// The norms of a tensor's slices. Also adds its elements to the common norm.
fn along<T: Element>(
    source: &mut Source,
    place: Place,
    axes: &[i64],
    (all, resources): (&mut NormState, &mut Resources),
) -> Result<Norms> {
    let (shape, what) = (source.entry(place).shape.clone(), source.describe(place));
    let axes = axes_of(axes, shape.dims().len(), &what)?;
    let mut norms = Vec::new();
    let (device, room) = (resources.device().clone(), resources.room());
    parts::<T>(source, place, &axes, room, &mut |x, dims| {
        resources.progress(size_of_val(&x[..]));
        let x = device.tensor_from_vec(x, dims)?;
        all.add(&[&x])?;
        let of_part = x.norm(all.kind(), &axes[..])?.to_vec()?;
        let room = norms.try_reserve(of_part.len());
        room.with_context(|| format!("{what} has more norms than there is memory for"))?;
        norms.extend(of_part.into_iter().map(Element::to_bits));
        Ok(())
    })?;
    let kept = shape.dims().iter().enumerate();
    let shape = kept.map(|(axis, &len)| if axes.contains(&axis) { 1 } else { len }).collect();
    let wide = ElementType::of_norm([T::TYPE]) == ElementType::F64;
    Ok(Norms::Slices { shape, norms: SliceNorms { wide, bits: norms } })
}

fn print(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    let names: Vec<_> = report.tensors.iter().map(Row::described).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(6);
    for (row, name) in report.tensors.iter().zip(names) {
        let element = row.r#type;
        match &row.norm {
            Norms::Whole(norm) => {
                writeln!(out, "{name:<width$}  {element:<8}  {}  {}", norm.text, norm.bits)?
            }
            Norms::Slices { shape, norms } => {
                writeln!(out, "{name:<width$}  {element:<8}  {shape:?}")?;
                for norm in norms.values() {
                    writeln!(out, "  {}  {}", norm.text, norm.bits)?;
                }
            }
        }
    }
    writeln!(out, "{:<width$}  {:<8}  {}  {}", "global", report.kind, report.global.text, report.global.bits)
}
