//! `wgclip check`.

use std::io::{self, Write};
use std::time::Instant;

use anyhow::{Result, bail};
use serde::Serialize;
use wgclip::op::Op;
use wgclip::{Device, ElementType};
use wgclip_conformance::{self as conformance, Builtin, Progress, Row};

use crate::args::Check;
use crate::{ignore_broken_pipe, progress};

#[derive(Serialize)]
struct Report {
    wgclip: &'static str,
    seed: u64,
    exhaustive: bool,
    devices: Vec<DeviceReport>,
}

#[derive(Serialize)]
struct DeviceReport {
    device: String,
    kind: &'static str,
    backend: String,
    driver: String,
    seconds: f64,
    cases: u64,
    mismatches: u64,
    rows: Vec<RowReport>,
    /// The driver's behaviour for WGSL's own floats, which the kernels do not use: for information.
    builtins: Vec<BuiltinReport>,
}

#[derive(Serialize)]
struct RowReport {
    r#type: &'static str,
    op: String,
    cases: u64,
    mismatches: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<String>,
}

#[derive(Serialize)]
struct BuiltinReport {
    builtin: &'static str,
    cases: u64,
    nan_lost: u64,
    subnormal: u64,
    zero: u64,
    other: u64,
}

/// Runs the table on one device or all, and fails on a mismatch.
pub(crate) fn check(args: &Check) -> Result<()> {
    let devices = match args.device.trim() {
        "all" => Device::all(),
        name => vec![Device::select(name)?],
    };
    let elements: Vec<_> = match &args.types[..] {
        [] => ElementType::ALL.to_vec(),
        names => names.iter().filter_map(|name| ElementType::from_name(name)).collect(),
    };
    let ops: Vec<_> = match &args.ops[..] {
        [] => Op::ALL.to_vec(),
        names => names.iter().filter_map(|name| Op::from_name(name)).collect(),
    };
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let mut report =
        Report { wgclip: env!("CARGO_PKG_VERSION"), seed, exhaustive: args.exhaustive, devices: Vec::new() };
    for device in &devices {
        let device_report = device_report(device, &elements, &ops, args.exhaustive, seed)?;
        if !args.json {
            ignore_broken_pipe(print(&device_report))?;
        }
        report.devices.push(device_report);
    }
    if args.json {
        let mut out = io::stdout().lock();
        ignore_broken_pipe(
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

fn device_report(
    device: &Device,
    elements: &[ElementType],
    ops: &[Op],
    exhaustive: bool,
    seed: u64,
) -> Result<DeviceReport> {
    let info = device.info();
    let bar = progress::steps(&info.to_string());
    let mut progress = |progress: Progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        bar.set_message(progress.element.name());
    };
    let start = Instant::now();
    let rows = match exhaustive {
        true => conformance::exhaustive(device, elements, seed, &mut progress)?,
        false => conformance::run(device, elements, ops, seed, &mut progress)?,
    };
    let seconds = start.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let builtins = conformance::builtins(device, seed)?.into_iter().map(|builtin| {
        let Builtin { name, cases, nan_lost, subnormal, zero, other } = builtin;
        BuiltinReport { builtin: name, cases, nan_lost, subnormal, zero, other }
    });
    Ok(DeviceReport {
        device: info.to_string(),
        kind: info.kind.name(),
        backend: info.backend,
        driver: info.driver,
        seconds: (seconds * 10.0).round() / 10.0,
        cases: rows.iter().map(|row| row.tally.cases).sum(),
        mismatches: rows.iter().map(|row| row.tally.mismatches).sum(),
        rows: rows.iter().map(row_report).collect(),
        builtins: builtins.collect(),
    })
}

fn row_report(row: &Row) -> RowReport {
    RowReport {
        r#type: row.element.name(),
        op: row.name(),
        cases: row.tally.cases,
        mismatches: row.tally.mismatches,
        first: row.tally.first.as_ref().map(ToString::to_string),
    }
}

/// One line per type, one column per operation: the cases, followed by the mismatches if there are any.
fn print(report: &DeviceReport) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", report.device)?;
    let mut ops: Vec<&str> = Vec::new();
    for row in &report.rows {
        if !ops.contains(&row.op.as_str()) {
            ops.push(&row.op);
        }
    }
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
            let row = report.rows.iter().find(|row| row.r#type == name && row.op == **op);
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
        let BuiltinReport { builtin, cases, nan_lost, subnormal, zero, other } = builtin;
        let wrong = nan_lost + subnormal + zero + other;
        writeln!(
            out,
            "  for information: WGSL's own {builtin} differs from IEEE 754 on {wrong} of {cases} inputs \
             ({nan_lost} NaN lost, {subnormal} subnormal, {zero} sign of zero, {other} other)"
        )?;
    }
    Ok(())
}
