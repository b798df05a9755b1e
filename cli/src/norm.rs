//! `wgclip norm` and `wgclip clip-norm`: on the CPU, in chunks, whatever the size of the tensors.

use std::io::{self, Write};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use wgclip::reference::{self, Scaling};
use wgclip::{
    Device, Element, ElementType, Error, NonFinite, NormKind, NormLimit, NormState, cpu, with_element,
};

use crate::args::{ClipNorm, Norm};
use crate::files::{Conversions, TensorWriter, printable};
use crate::progress::Bytes;
use crate::select::{refuse_scaled, select};
use crate::source::{Place, Source};
use crate::target::Target;
use crate::{ignore_broken_pipe, say};

#[derive(Serialize)]
struct Report {
    kind: &'static str,
    tensors: Vec<Row>,
    global: Value,
}

#[derive(Serialize)]
struct Row {
    /// The file, where there are several.
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

/// The norm of a tensor, or those of its slices in C order, with the shape that they have.
#[derive(Serialize)]
#[serde(untagged)]
enum Norms {
    Whole(Value),
    Slices { shape: Vec<usize>, norms: Vec<Value> },
}

/// A norm: a number (of JSON, which has no NaN and no infinity, then null), and its bits.
#[derive(Debug, Clone, Serialize)]
struct Value {
    norm: Option<f64>,
    bits: String,
    #[serde(skip)]
    text: String,
}

impl Value {
    fn new<N: Element>(norm: N) -> Self {
        let value = norm.to_f64();
        Self {
            norm: value.is_finite().then(|| norm.to_string().parse().unwrap_or(value)),
            bits: format!("{:#0width$x}", norm.to_bits(), width = 2 + 2 * size_of::<N>()),
            // Of what is very large or small, in powers of ten.
            text: format!("{norm:?}").trim_end_matches(".0").to_owned(),
        }
    }
}

/// A norm, rounded once.
fn rounded(state: &NormState, to: ElementType) -> Result<Value> {
    Ok(match to {
        ElementType::F64 => Value::new(state.norm::<f64>()?),
        _ => Value::new(state.norm::<f32>()?),
    })
}

/// Axes of a tensor, counted from 0. Negative ones count from its end.
fn axes_of(axes: &[i64], rank: usize, what: &str) -> Result<Vec<usize>> {
    let axis = |&axis: &i64| {
        let counted = if axis < 0 { axis + rank as i64 } else { axis };
        match usize::try_from(counted) {
            Ok(counted) if counted < rank => Ok(counted),
            _ => bail!("{what} has {rank} axes, and none is axis {axis}"),
        }
    };
    axes.iter().map(axis).collect()
}

/// The exact norm so far of a tensor's elements.
fn state_of(source: &mut Source, place: Place, kind: NormKind, bar: &mut Bytes) -> Result<NormState> {
    with_element!(source.element(place)?, T => {
        let mut state = NormState::wide(kind);
        source.chunks::<T>(place, &mut |_, x| {
            state.add_slice(x)?;
            bar.add(size_of_val(&x[..]));
            Ok(())
        })?;
        Ok(state)
    })
}

/// Those tensors that have a norm.
fn choose(source: &Source, tensor: &[String], except: &[String]) -> Result<Vec<Place>> {
    let selection = select(source, tensor, except)?;
    for &place in &selection.chosen {
        let element = source.element(place)?;
        if !element.is_float() {
            bail!("{} holds {element}, and norms are of floats", source.describe(place));
        }
    }
    Ok(selection.chosen)
}

/// Prints the norms of the tensors of files, and that of all.
pub(crate) fn norm(args: &Norm) -> Result<()> {
    let (mut rows, mut all, mut elements) = (Vec::new(), NormState::wide(args.kind), Vec::new());
    for path in &args.inputs {
        let mut source = Source::open(path, args.tensors.assumed)?;
        let chosen = choose(&source, &args.tensors.tensor, &args.tensors.except)?;
        let mut bar = Bytes::new(chosen.iter().map(|&place| source.entry(place).bytes()).sum());
        for place in chosen {
            let element = source.element(place)?;
            let (name, what) = (source.entry(place).name.clone(), source.describe(place));
            let norm = match &args.axes {
                None => {
                    let state = state_of(&mut source, place, args.kind, &mut bar)?;
                    all.merge(&state)?;
                    Norms::Whole(rounded(&state, ElementType::of_norm([element]))?)
                }
                Some(axes) => with_element!(element, T => {
                    let shape = source.entry(place).shape.clone();
                    let axes = axes_of(axes, shape.dims().len(), &what)?;
                    let x = source.files[place.file].read::<T>(place.index)?;
                    all.add_slice(&x)?;
                    let norms = Device::cpu().tensor_from_vec(x, shape.dims())?.norm_along(&axes, args.kind)?;
                    bar.add(source.entry(place).bytes() as usize);
                    let norms_read = norms.to_vec()?;
                    let mut values = Vec::new();
                    let room = values.try_reserve_exact(norms_read.len());
                    room.with_context(|| format!("{what} has more norms than there is memory for"))?;
                    values.extend(norms_read.into_iter().map(Value::new));
                    Norms::Slices { shape: norms.shape().dims().to_vec(), norms: values }
                }),
            };
            let file = (args.inputs.len() > 1).then(|| path.display().to_string());
            rows.push(Row { file, name, r#type: element.name(), norm });
            elements.push(element);
        }
        bar.finish();
    }
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
                for norm in norms {
                    writeln!(out, "  {}  {}", norm.text, norm.bits)?;
                }
            }
        }
    }
    writeln!(out, "{:<width$}  {:<8}  {}  {}", "global", report.kind, report.global.text, report.global.bits)
}

/// What is done to the tensors of a file.
enum Plan {
    /// Each as its own norm says, or all as their common one.
    Whole(Vec<Scaling<f64>>),
    /// Slices along axes.
    Slices(Vec<i64>),
}

/// Scales tensors down to a norm.
pub(crate) fn clip_norm(args: &ClipNorm) -> Result<()> {
    let start = Instant::now();
    let limit = args.limit();
    // It is read twice: for the norms, and to be scaled.
    let mut source = Source::open_again(&args.input, args.tensors.assumed)?;
    let chosen = choose(&source, &args.tensors.tensor, &args.tensors.except)?;
    if args.tensors.tensor.is_empty() {
        refuse_scaled(&source, &chosen)?;
    }
    let bytes: u64 = chosen.iter().map(|&place| source.entry(place).bytes()).sum();
    let mut bar = Bytes::new(2 * bytes);
    // What cannot be written is known before the norms are taken.
    let mut target = Target::create(&source, &args.output)?;
    let (plan, told) = match &args.axes {
        Some(axes) => (Plan::Slices(axes.clone()), format!("norms along {axes:?}")),
        None => whole_plan(args, &limit, &mut source, &chosen, &mut bar)?,
    };
    for file in 0..source.files.len() {
        target
            .write(file, |out| rewrite(args, &limit, out, (&mut source, file), (&chosen, &plan), &mut bar))?;
    }
    let direct = target.is_direct();
    target.commit(None)?;
    bar.finish();
    if !args.quiet && !direct {
        let tensors = chosen.len();
        let noun = if tensors == 1 { "tensor" } else { "tensors" };
        println!(
            "{tensors} {noun}: {told}, limited to {} ({}), whole {:.3} s",
            args.max,
            limit.kind,
            start.elapsed().as_secs_f64()
        );
    } else if !args.quiet {
        say(&format!("{told}, limited to {}", args.max));
    }
    Ok(())
}

/// The scaling of each tensor, and what is to be told of their norms.
fn whole_plan(
    args: &ClipNorm,
    limit: &NormLimit,
    source: &mut Source,
    chosen: &[Place],
    bar: &mut Bytes,
) -> Result<(Plan, String)> {
    let mut all = NormState::wide(limit.kind);
    let (mut scalings, mut elements, mut len) = (Vec::new(), Vec::new(), 0);
    let mut odd = NonFiniteTensors::default();
    for &place in chosen {
        let element = source.element(place)?;
        let state = state_of(source, place, limit.kind, bar)?;
        let count = source.entry(place).shape.len();
        let (norm, scaling) = scaling(&state, ElementType::of_norm([element]), count, args, limit)?;
        if !norm.is_finite() {
            odd.add(&source.describe(place), norm);
        }
        scalings.push(scaling);
        all.merge(&state)?;
        elements.push(element);
        len += count;
    }
    let to = ElementType::of_norm(elements);
    let (norm, common) = scaling(&all, to, len, args, limit)?;
    if !norm.is_finite() && odd.count == 0 {
        odd.add("all tensors together", norm);
    }
    if odd.count > 0 && limit.nonfinite == NonFinite::Error {
        return Err(Error::NonFiniteNorm { what: odd.described() }.into());
    }
    odd.warn(limit.nonfinite);
    if args.per_tensor {
        let count = |is: fn(&Scaling<f64>) -> bool| scalings.iter().filter(|&scaling| is(scaling)).count();
        let scaled = count(|scaling| matches!(scaling, Scaling::By(_)));
        let zeroed = match count(|scaling| *scaling == Scaling::Zero) {
            0 => String::new(),
            zeroed => format!(", {zeroed} set to zero"),
        };
        return Ok((Plan::Whole(scalings), format!("{scaled} scaled by norms of their own{zeroed}")));
    }
    let told = match common {
        Scaling::Keep => "kept",
        Scaling::Zero => "set to zero",
        Scaling::By(_) => "scaled",
    };
    let norm = rounded(&all, to)?.text;
    Ok((Plan::Whole(vec![common; chosen.len()]), format!("norm {norm}, {told}")))
}

/// The tensors whose norms are not finite.
#[derive(Default)]
struct NonFiniteTensors {
    /// The first, and its norm.
    first: String,
    norm: f64,
    count: usize,
}

impl NonFiniteTensors {
    fn add(&mut self, what: &str, norm: f64) {
        if self.count == 0 {
            (self.first, self.norm) = (what.to_owned(), norm);
        }
        self.count += 1;
    }

    fn described(&self) -> String {
        match self.count {
            0 | 1 => self.first.clone(),
            count => format!("{} (the first of {count})", self.first),
        }
    }

    /// Says what becomes of them.
    fn warn(&self, policy: NonFinite) {
        if self.count == 0 {
            return;
        }
        let becomes = match policy {
            NonFinite::Propagate => "what is scaled by it becomes 0 or NaN",
            NonFinite::Zero => "what would be scaled by it is set to zero",
            NonFinite::Skip | NonFinite::Error => "what would be scaled by it is kept",
        };
        say(&format!(
            "warning: the norm of {} is {}: {becomes} (see --nonfinite)",
            self.described(),
            self.norm
        ));
    }
}

/// The norm of elements, and what becomes of them.
fn scaling(
    state: &NormState,
    to: ElementType,
    count: usize,
    args: &ClipNorm,
    limit: &NormLimit,
) -> Result<(f64, Scaling<f64>)> {
    fn of<N: Element>(
        state: &NormState,
        count: usize,
        average: bool,
        limit: &NormLimit,
    ) -> Result<(f64, Scaling<f64>)> {
        let norm = state.norm::<N>()?;
        let limited = if average { reference::average(norm, count.max(1)) } else { norm };
        Ok((norm.to_f64(), reference::scaling(limited, limit).to_f64()))
    }
    match to {
        ElementType::F64 => of::<f64>(state, count, args.average, limit),
        _ => of::<f32>(state, count, args.average, limit),
    }
}

/// Writes a file with the chosen tensors scaled.
fn rewrite(
    args: &ClipNorm,
    limit: &NormLimit,
    out: &mut dyn Write,
    (source, number): (&mut Source, usize),
    (chosen, plan): (&[Place], &Plan),
    bar: &mut Bytes,
) -> Result<()> {
    let to = Conversions::new();
    let mut writer = source.files[number].writer(out, &to)?;
    for index in source.files[number].order(&to) {
        let place = Place { file: number, index };
        match (chosen.iter().position(|&other| other == place), plan) {
            (None, _) => writer.copy(index)?,
            (Some(n), Plan::Whole(scalings)) => {
                with_element!(source.element(place)?, T => {
                    write_scaled::<T>(source, place, &mut *writer, scalings[n], bar)?;
                });
            }
            (Some(_), Plan::Slices(axes)) => {
                with_element!(source.element(place)?, T => {
                    write_slices::<T>(source, place, &mut *writer, (axes, args.average), limit)?;
                });
                bar.add(2 * source.entry(place).bytes() as usize);
            }
        }
    }
    writer.finish()
}

fn write_scaled<T: Element>(
    source: &mut Source,
    place: Place,
    writer: &mut dyn TensorWriter,
    scaling: Scaling<f64>,
    bar: &mut Bytes,
) -> Result<()> {
    let layout = source.entry(place).layout;
    writer.begin(place.index)?;
    source.chunks::<T>(place, &mut |_, x| {
        cpu::scale_in_place(x, scaling);
        layout.swap(x);
        bar.add(size_of_val(&x[..]));
        writer.write(bytemuck::cast_slice(x))
    })
}

/// Slices need all of a tensor.
fn write_slices<T: Element>(
    source: &mut Source,
    place: Place,
    writer: &mut dyn TensorWriter,
    (axes, average): (&[i64], bool),
    limit: &NormLimit,
) -> Result<()> {
    let (entry, what) = (source.entry(place).clone(), source.describe(place));
    let axes = axes_of(axes, entry.shape.dims().len(), &what)?;
    let x = source.files[place.file].read::<T>(place.index)?;
    let x = Device::cpu().tensor_from_vec(x, entry.shape.dims())?;
    let clipped = match average {
        true => x.clip_by_average_norm_along(&axes, *limit),
        false => x.clip_by_norm_along(&axes, *limit),
    };
    let clipped = clipped.with_context(|| what)?.into_vec()?;
    writer.begin(place.index)?;
    writer.write(bytemuck::cast_slice(&entry.layout.encode(clipped, &entry.shape)))
}
