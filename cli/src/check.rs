//! `wgclip check`.

use std::io::{self, Write};
use std::time::Instant;

use anyhow::{Result, bail};
use serde::Serialize;
use wgclip::check::{self, Progress, Row};
use wgclip::{Device, ElementType};

use crate::args::Check;
use crate::progress;

#[derive(Serialize)]
struct Report {
    wgclip: &'static str,
    seed: u64,
    exhaustive: bool,
    devices: Vec<OfDevice>,
}

#[derive(Serialize)]
struct OfDevice {
    device: String,
    kind: &'static str,
    backend: String,
    driver: String,
    seconds: f64,
    cases: u64,
    mismatches: u64,
    rows: Vec<OfRow>,
    /// What the driver makes of WGSL's own floats, which the kernels do not use: for information.
    builtins: Vec<OfBuiltin>,
}

#[derive(Serialize)]
struct OfRow {
    r#type: &'static str,
    op: &'static str,
    cases: u64,
    mismatches: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<String>,
}

#[derive(Serialize)]
struct OfBuiltin {
    builtin: &'static str,
    cases: u64,
    nan_lost: u64,
    subnormal: u64,
    zero: u64,
    other: u64,
}

/// Runs the table on one device or all, and fails at a mismatch.
pub fn check(args: &Check) -> Result<()> {
    let devices = match args.device.trim() {
        "all" => Device::all(),
        name => vec![Device::select(name)?],
    };
    let elements: Vec<_> = match &args.types[..] {
        [] => ElementType::ALL.to_vec(),
        names => names.iter().filter_map(|name| ElementType::from_name(name)).collect(),
    };
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let mut report =
        Report { wgclip: env!("CARGO_PKG_VERSION"), seed, exhaustive: args.exhaustive, devices: Vec::new() };
    for device in &devices {
        let of_device = of_device(device, &elements, args.exhaustive, seed)?;
        if !args.json {
            shown(print(&of_device))?;
        }
        report.devices.push(of_device);
    }
    if args.json {
        let mut out = io::stdout().lock();
        shown(
            serde_json::to_writer_pretty(&mut out, &report).map_err(Into::into).and_then(|()| writeln!(out)),
        )?;
    }
    let wrong: Vec<_> = report.devices.iter().filter(|device| device.mismatches > 0).collect();
    if let Some(first) = wrong.first() {
        let first_row = first.rows.iter().find_map(|row| row.first.as_deref()).unwrap_or_default();
        bail!("{} mismatches on {}, the first: {first_row} (seed {seed})", first.mismatches, first.device);
    }
    Ok(())
}

/// A reader that has seen enough is no failure.
fn shown(printed: io::Result<()>) -> Result<()> {
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => Ok(printed?),
    }
}

fn of_device(device: &Device, elements: &[ElementType], exhaustive: bool, seed: u64) -> Result<OfDevice> {
    let info = device.info();
    let bar = progress::steps(&info.to_string());
    let mut progress = |progress: Progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        bar.set_message(progress.element.name());
    };
    let start = Instant::now();
    let rows = match exhaustive {
        true => check::exhaustive(device, elements, seed, &mut progress)?,
        false => check::run(device, elements, seed, &mut progress)?,
    };
    let seconds = start.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let builtins = check::habits(device, seed)?.into_iter().map(|habit| OfBuiltin {
        builtin: habit.builtin,
        cases: habit.cases,
        nan_lost: habit.nan_lost,
        subnormal: habit.subnormal,
        zero: habit.zero,
        other: habit.other,
    });
    Ok(OfDevice {
        device: info.to_string(),
        kind: info.kind.name(),
        backend: info.backend,
        driver: info.driver,
        seconds: (seconds * 10.0).round() / 10.0,
        cases: rows.iter().map(|row| row.tally.cases).sum(),
        mismatches: rows.iter().map(|row| row.tally.mismatches).sum(),
        rows: rows.iter().map(of_row).collect(),
        builtins: builtins.collect(),
    })
}

fn of_row(row: &Row) -> OfRow {
    OfRow {
        r#type: row.element.name(),
        op: row.op,
        cases: row.tally.cases,
        mismatches: row.tally.mismatches,
        first: row.tally.first.as_ref().map(ToString::to_string),
    }
}

/// A line a type, an operation a column: the cases, and after them the mismatches if there are any.
fn print(report: &OfDevice) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", report.device)?;
    let mut ops: Vec<_> = report.rows.iter().map(|row| row.op).collect();
    ops.sort_by_key(|op| check::Op::NAMES.iter().position(|name| name == op));
    ops.dedup();
    let mut types: Vec<_> = report.rows.iter().map(|row| row.r#type).collect();
    types.dedup();
    let width = |op: &str| op.len().max(13);
    write!(out, "  {:5}", "type")?;
    for op in &ops {
        write!(out, "  {op:>width$}", width = width(op))?;
    }
    writeln!(out)?;
    for name in types {
        write!(out, "  {name:5}")?;
        for op in &ops {
            let row = report.rows.iter().find(|row| row.r#type == name && row.op == *op);
            let cell = match row {
                Some(row) if row.mismatches > 0 => format!("{} ({} wrong)", row.cases, row.mismatches),
                Some(row) => row.cases.to_string(),
                None => "-".into(),
            };
            write!(out, "  {cell:>width$}", width = width(op))?;
        }
        writeln!(out)?;
    }
    writeln!(out, "  {} cases, {} mismatches, {:.1} s", report.cases, report.mismatches, report.seconds)?;
    for builtin in &report.builtins {
        let OfBuiltin { builtin, cases, nan_lost, subnormal, zero, other } = builtin;
        let wrong = nan_lost + subnormal + zero + other;
        writeln!(
            out,
            "  for information: WGSL's own {builtin} differs from IEEE 754 on {wrong} of {cases} inputs \
             ({nan_lost} NaN lost, {subnormal} subnormal, {zero} sign of zero, {other} other)"
        )?;
    }
    Ok(())
}
