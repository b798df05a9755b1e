//! `wgclip inspect`: statistics of the values in a file before clipping.

mod histogram;
#[cfg(feature = "plot")]
mod plot;
mod summary;

use std::collections::HashSet;
use std::io::{self, Write};
use std::time::Instant;

use anyhow::{Result, bail};
use serde::Serialize;
use wgclip::{Element, with_element};

use crate::args::Inspect;
use crate::batch::Side;
use crate::files::printable;
use crate::ignore_broken_pipe;
use crate::quantile::quantiles;
use crate::quantize::{Errors, Method, choose, errors};
use crate::report::Counts;
use crate::select::{Selection, select};
use crate::session::{Session, Settings};
use crate::source::{CHUNK, Place, Source};

use histogram::Histogram;
use summary::Summary;

#[derive(Serialize)]
struct Report {
    file: String,
    tensors: Vec<Row>,
    histogram: Option<Histogram>,
}

/// A tensor. The fields after the shape are present for inspected tensors.
#[derive(Serialize)]
struct Row {
    name: String,
    r#type: String,
    shape: Vec<usize>,
    elements: usize,
    #[serde(flatten)]
    summary: Option<Summary>,
    /// The errors of its codes, if there are any.
    #[serde(flatten)]
    codes: Option<CodeErrors>,
    /// Elements below and above the bounds, if there are bounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    below: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    above: Option<usize>,
}

/// How far the values of codes are from the elements.
#[derive(Serialize)]
struct CodeErrors {
    /// The ratio of signal to quantization noise in decibels, unless there is no noise or no signal.
    sqnr: Option<f64>,
    greatest_error: f64,
    #[serde(skip)]
    text: String,
}

impl CodeErrors {
    fn of(errors: &Errors) -> Self {
        let ratio = errors.ratio();
        Self {
            sqnr: ratio.filter(|ratio| ratio.is_finite()),
            greatest_error: errors.greatest,
            text: ratio.map_or(String::new(), |ratio| format!("{ratio:.1}")),
        }
    }
}

/// Inspects the values of a file, or of the files of a folder.
pub(crate) fn inspect(args: &Inspect) -> Result<()> {
    let mut source = Source::open_again(&args.input, args.choice.tensors.assumed)?;
    #[cfg(feature = "plot")]
    plot::check_file(args, &source)?;
    if let Some(option) = args.codes.option_without_bits() {
        bail!("{option} is about codes: give their --bits too");
    }
    let method = args.codes.is_given().then(|| Method::new(&args.codes)).transpose()?;
    let coded = match &method {
        Some(_) => choose(&source, &args.choice.tensors)?,
        None => Vec::new(),
    };
    let everything = args.choice.tensors.tensor.is_empty() && args.choice.tensors.except.is_empty();
    let selection = match select(&source, &args.choice.tensors.tensor, &args.choice.tensors.except) {
        Ok(selection) => selection,
        // Other types have only their names and shapes.
        Err(_) if everything => Selection::default(),
        Err(error) => return Err(error),
    };
    let (interval, choice) = (&args.interval, &args.choice);
    let settings = Settings { interval, choice, device: "cpu", quiet: false, to: None, work: "the clip" };
    let mut session = Session::new(settings, Instant::now(), &source, &selection)?;
    #[cfg(feature = "plot")]
    let plot = plot::create(args)?;

    let has_bounds = interval.min.is_some() || interval.max.is_some();
    // Bounds apply to tensors that a clip would select. The others are also inspected, since nothing is changed.
    let clipped: HashSet<_> = selection.chosen.iter().copied().collect();
    let chosen = if everything { known(&source) } else { selection.chosen.clone() };
    let looked_at: HashSet<_> = chosen.iter().copied().collect();
    let mut rows = Vec::new();
    for place in source.places().collect::<Vec<_>>() {
        let is_chosen = looked_at.contains(&place);
        if !is_chosen && !everything {
            continue;
        }
        let entry = source.entry(place).clone();
        let bounded = clipped.contains(&place);
        let found =
            is_chosen.then(|| summarize(args, &mut session, &mut source, place, bounded)).transpose()?;
        let counts = found.as_ref().filter(|_| has_bounds && bounded).map(|(_, counts)| *counts);
        let codes = match &method {
            Some(method) if coded.contains(&place) => {
                let errors = errors(&mut source, place, method, &mut session.resources)?;
                Some(CodeErrors::of(&errors))
            }
            _ => None,
        };
        rows.push(Row {
            codes,
            name: entry.name,
            r#type: entry.kind.to_string(),
            shape: entry.shape.dims().to_vec(),
            elements: entry.shape.len(),
            summary: found.map(|(summary, _)| summary),
            below: counts.map(|counts| counts.below()),
            above: counts.map(|counts| counts.above()),
        });
    }
    let histogram =
        range(&rows).map(|(from, to)| histogram_of(&mut source, &chosen, from, to)).transpose()?;
    #[cfg(feature = "plot")]
    if let Some(plot) = plot {
        plot::draw(plot, args, histogram.as_ref())?;
    }
    let report = Report { file: args.input.display().to_string(), tensors: rows, histogram };
    let mut out = io::stdout().lock();
    let printed = match args.json {
        true => {
            serde_json::to_writer_pretty(&mut out, &report).map_err(Into::into).and_then(|()| writeln!(out))
        }
        false => print(&mut out, args, &report, has_bounds),
    };
    ignore_broken_pipe(printed)
}

/// The tensors of a type that can be clipped.
fn known(source: &Source) -> Vec<Place> {
    source.places().filter(|&place| source.entry(place).element().is_some()).collect()
}

/// Statistics of a tensor, and its counts relative to the bounds.
fn summarize(
    args: &Inspect,
    session: &mut Session<'_>,
    source: &mut Source,
    place: Place,
    bounded: bool,
) -> Result<(Summary, Counts)> {
    let (entry, what) = (source.entry(place).clone(), source.describe(place));
    let element = source.element(place)?;
    let none = || (Side::Absent, None);
    let Session { bounds, resources, .. } = session;
    let bounds = match bounded {
        true => bounds
            .of((&entry, element, &what), (&mut *source, place), &mut |bytes| resources.progress(bytes))?,
        false => [none(), none()],
    };
    let [(lo, mut los), (hi, mut his)] = bounds;
    with_element!(element, T => {
        let value = |side: Side| side.value::<T>();
        let (mut summary, mut counts) = (summary::Values::<T>::new(args.head), Counts::default());
        let (mut lows, mut highs) = (Vec::<T>::new(), Vec::<T>::new());
        source.chunks::<T>(place, CHUNK, &mut |start, x| {
            for (operand, bounds) in [(&mut los, &mut lows), (&mut his, &mut highs)] {
                if let Some(operand) = operand {
                    bounds.resize(x.len(), T::ZERO);
                    operand.fill(start, bytemuck::cast_slice_mut(bounds))?;
                }
            }
            summary.add(x);
            counts = counts + Counts::between(x, (value(lo), &lows), (value(hi), &highs));
            session.resources.warn_of_nan([&lows, &highs].map(|bounds| bounds.iter().any(|bound| bound.is_nan())));
            Ok(())
        })?;
        if let Some(unit) = summary.wants_unit() {
            source.chunks::<T>(place, CHUNK, &mut |_, x| {
                summary.add_moments(x, unit);
                Ok(())
            })?;
        }
        let shares: Vec<_> = args.percentiles.iter().map(|percentile| percentile.share).collect();
        let resources = &mut session.resources;
        let room = resources.memory() / 4;
        let of = (&mut *source, place);
        let percentiles = quantiles::<T>(of, &shares, None, room, &mut |bytes| resources.progress(bytes))?;
        let names = args.percentiles.iter().map(|percentile| &percentile.name[..]);
        let percentiles = percentiles.into_iter().flatten().filter_map(|(values, _)| values.first().copied());
        let percentiles = names.zip(percentiles);
        Ok((summary.finish(&percentiles.collect::<Vec<_>>()), counts))
    })
}

/// The smallest and the greatest finite number of all, if they differ.
fn range(rows: &[Row]) -> Option<(f64, f64)> {
    let ends = rows.iter().filter_map(|row| row.summary.as_ref()?.range());
    let (from, to) = ends.reduce(|all, ends| (all.0.min(ends.0), all.1.max(ends.1)))?;
    (from < to).then_some((from, to))
}

/// The distribution of the finite numbers of the selected tensors: a second pass, now that the range is known.
fn histogram_of(source: &mut Source, chosen: &[Place], from: f64, to: f64) -> Result<Histogram> {
    let mut histogram = Histogram::new(from, to);
    for &place in chosen {
        with_element!(source.element(place)?, T => {
            source.chunks::<T>(place, CHUNK, &mut |_, x| {
                histogram.add(x);
                Ok(())
            })?;
        });
    }
    Ok(histogram)
}

fn print(out: &mut dyn Write, args: &Inspect, report: &Report, has_bounds: bool) -> io::Result<()> {
    let mut header = vec!["name", "type", "shape", "min", "max", "mean", "std", "NaN", "inf", "zeros"];
    header.extend(args.percentiles.iter().map(|percentile| &percentile.name[..]));
    let of_summary = header.len();
    let has_codes = args.codes.is_given();
    if has_codes {
        header.extend(["SQNR dB", "max error"]);
    }
    let of_codes = header.len();
    if has_bounds {
        header.extend(["below", "above"]);
    }
    let mut table: Vec<Vec<String>> = vec![header.into_iter().map(str::to_owned).collect()];
    for row in &report.tensors {
        let dims: Vec<_> = row.shape.iter().map(ToString::to_string).collect();
        let mut cells = vec![printable(&row.name), printable(&row.r#type), format!("[{}]", dims.join(", "))];
        if let Some(summary) = &row.summary {
            cells.extend(summary.cells().into_iter().chain(summary.percentiles()));
        }
        cells.resize(of_summary, String::new());
        if let Some(codes) = &row.codes {
            cells.extend([codes.text.clone(), summary::moment_text(codes.greatest_error)]);
        }
        cells.resize(of_codes, String::new());
        let share = |count: usize| match count {
            0 => "0".to_owned(),
            count => format!("{:.3} %", 100.0 * count as f64 / row.elements.max(1) as f64),
        };
        cells.extend([row.below, row.above].into_iter().flatten().map(share));
        table.push(cells);
    }
    let columns = table[0].len();
    let width = |column: usize| {
        table.iter().filter_map(|cells| cells.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    for (n, cells) in table.iter().enumerate() {
        let mut line = String::new();
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            // Names to the left, numbers to the right.
            match column {
                ..3 => line.push_str(&format!("{cell:<width$}  ")),
                _ => line.push_str(&format!("{cell:>width$}  ")),
            }
        }
        writeln!(out, "{}", line.trim_end())?;
        // Below the row of their tensor; the first row is the header.
        let row = n.checked_sub(1).and_then(|n| report.tensors.get(n));
        if let Some(summary) = row.and_then(|row| row.summary.as_ref())
            && args.head > 0
        {
            writeln!(out, "  {}", summary.first().join(" "))?;
        }
    }
    match &report.histogram {
        Some(histogram) => write!(out, "\n{histogram}"),
        None => Ok(()),
    }
}
