//! `wgclip devices`.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;
use wgclip::Device;
use wgclip::device::DeviceInfo;

use crate::{ignore_broken_pipe, say};

#[derive(Serialize)]
struct Row {
    index: usize,
    name: String,
    kind: &'static str,
    backend: String,
    driver: String,
    limits: Option<Limits>,
    auto: bool,
}

#[derive(Serialize)]
struct Limits {
    max_buffer_bytes: u64,
    max_binding_bytes: u64,
    max_workgroups: u32,
}

impl Row {
    fn new(index: usize, info: DeviceInfo, auto: Option<usize>) -> Self {
        let limits = info.limits.map(|limits| Limits {
            max_buffer_bytes: limits.max_buffer_bytes,
            max_binding_bytes: limits.max_binding_bytes,
            max_workgroups: limits.max_workgroups,
        });
        Self {
            index,
            kind: info.kind.name(),
            name: info.name,
            backend: info.backend,
            driver: info.driver,
            limits,
            auto: auto == Some(index),
        }
    }
}

/// Prints every device.
pub(crate) fn list(json: bool) -> Result<()> {
    let list = Device::list();
    // The environment may name a missing device; the list is then what the user needs.
    let auto = Device::find("auto", &list);
    let chosen = auto.as_ref().ok().copied();
    let rows: Vec<_> = list.into_iter().enumerate().map(|(i, info)| Row::new(i, info, chosen)).collect();
    let mut out = io::stdout().lock();
    let printed = match json {
        true => {
            serde_json::to_writer_pretty(&mut out, &rows).map_err(Into::into).and_then(|()| writeln!(out))
        }
        false => print(&mut out, &rows),
    };
    ignore_broken_pipe(printed)?;
    if let Err(error) = auto {
        say(&format!("warning: {error}"));
    }
    Ok(())
}

fn print(out: &mut dyn Write, rows: &[Row]) -> io::Result<()> {
    let width = |cell: fn(&Row) -> usize| rows.iter().map(cell).max().unwrap_or(0);
    let (name, backend) = (width(|row| row.name.len()), width(|row| row.backend.len()));
    for row in rows {
        let mark = if row.auto { '*' } else { ' ' };
        let Row { index, name: n, kind, backend: b, driver, .. } = row;
        writeln!(out, "{mark} {index}  {n:name$}  {kind:8}  {b:backend$}  {driver}")?;
        if let Some(limits) = &row.limits {
            let (buffer, binding) = (size(limits.max_buffer_bytes), size(limits.max_binding_bytes));
            writeln!(
                out,
                "     buffers to {buffer}, bindings to {binding}, {} workgroups a row",
                limits.max_workgroups
            )?;
        }
    }
    writeln!(
        out,
        "* is what `auto` takes: a hardware GPU if there is one, else the CPU, which a software adapter never beats."
    )
}

/// `1.5 GiB`, to one decimal place.
fn size(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    let places = usize::from(value.fract() != 0.0);
    format!("{value:.places$} {unit}")
}
