//! `wgclip bench`.

mod plot;
mod table;

use std::io;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use wgclip::device::{DeviceInfo, DeviceKind};
use wgclip::{Device, ElementType, with_element};
use wgclip_harness::{Case, Measurement, Sampling, cpu, gpu, measure};

use crate::args::Bench;
use crate::output::Output;
use crate::{ignore_broken_pipe, progress};

/// The default element counts: from sizes that fit a core's own cache to sizes that fit no cache.
const SIZES: [usize; 4] = [4096, 1 << 16, 1 << 20, 1 << 24];
const QUICK: [usize; 2] = [4096, 1 << 20];

/// Measures, and shows or writes the results.
pub(crate) fn bench(args: &Bench) -> Result<()> {
    let list = Device::list();
    let mut devices: Vec<&DeviceInfo> = Vec::new();
    for name in &args.device {
        match name.trim() {
            "all" => devices.extend(&list),
            name => devices.push(&list[Device::find(name, &list)?]),
        }
    }
    let elements: Vec<_> = match &args.types[..] {
        [] => vec![ElementType::F32],
        names if names.iter().any(|name| name == "all") => ElementType::ALL.to_vec(),
        names => names.iter().filter_map(|name| ElementType::from_name(name)).collect(),
    };
    let sizes: Vec<_> = match &args.sizes[..] {
        [] if args.quick => QUICK.to_vec(),
        [] => SIZES.to_vec(),
        sizes => sizes.iter().map(|size| size.0).collect(),
    };
    let ops = match &args.ops[..] {
        [] => wgclip_harness::ops(),
        ops => ops.to_vec(),
    };
    let sampling = if args.quick { Sampling::QUICK } else { Sampling::FULL };

    // Output errors are found before measuring.
    let output = |path: &Option<PathBuf>| path.as_deref().map(Output::create).transpose();
    let (json, plot) = (output(&args.json)?, output(&args.plot)?);
    let steps = (devices.len() * elements.len() * sizes.len()) as u64;
    let mut rows = Vec::new();
    let bar = progress::steps("bench");
    bar.set_length(steps);
    for info in devices {
        let mut of_device = Vec::new();
        for &element in &elements {
            for &size in &sizes {
                bar.set_message(format!("{} {element} {size}", info.name));
                let measured = with_element!(element, T => one::<T>(info, size, &ops, sampling));
                of_device.extend(measured.with_context(|| format!("{info}, {element}, {size} elements"))?);
                bar.inc(1);
            }
        }
        bar.suspend(|| {
            ignore_broken_pipe(table::print(&mut io::stdout().lock(), &info.to_string(), &of_device))
        })?;
        rows.extend(of_device);
    }
    bar.finish_and_clear();
    if let Some(json) = json {
        json.finish(|out| Ok(writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?))?;
    }
    if let Some(plot) = plot {
        plot.finish(|out| Ok(out.write_all(plot::svg(&rows)?.as_bytes())?))?;
    }
    Ok(())
}

/// The rows of one device, type and size.
fn one<T: wgclip::Element>(
    info: &DeviceInfo,
    size: usize,
    ops: &[String],
    sampling: Sampling,
) -> Result<Vec<Measurement>> {
    if size == 0 {
        bail!("there is nothing to measure in 0 elements");
    }
    let mut cases: Vec<Case<'_>> = Vec::new();
    if info.kind == DeviceKind::Cpu {
        cases.extend(cpu::cases::<T>(size, ops)?);
        if ops.iter().any(|op| op == "clip") {
            cases.push(cpu::tensor_case::<T>(size)?);
        }
        return measure(&mut cases, sampling);
    }
    let opened = gpu::open(|found| found == info)?;
    let context = opened.first().context("the device is gone: see `wgclip devices`")?;
    // It takes many small operations, or few large ones, to fill a batch.
    let batch = match size {
        0..0x1_0000 => 200,
        0x1_0000..0x10_0000 => 50,
        0x10_0000..0x40_0000 => 10,
        _ => 4,
    };
    cases.extend(gpu::cases::<T>(context, size, ops, batch)?);
    if size <= SIZES[1] {
        cases.extend(gpu::cases::<T>(context, size, ops, 1)?);
        if ops.iter().any(|op| op == "clip") {
            cases.push(gpu::recording(context, size)?);
        }
    }
    measure(&mut cases, sampling)
}
