//! wgclip beside its peers, interleaved in one run: rows as `wgclip bench` writes them, and the ratios.
//!
//! `./run.sh --help`. Nobody is handicapped: results in place where an engine has that, the same wait, all warmed up.

mod gpu;
mod python;
mod rust;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use wgclip::{Device, DeviceKind, Element, ElementType, bf16, f16};
use wgclip_harness::{Case, Effort, Row, What, cpu, measure};

use python::Python;

const SIZES: [usize; 4] = [1 << 12, 1 << 16, 1 << 20, 1 << 24];

#[derive(Parser)]
struct Args {
    /// The adapter to measure beside Burn, by a part of its name [default: the first]
    #[arg(long, value_name = "D")]
    device: Option<String>,
    /// Without a GPU
    #[arg(long)]
    cpu_only: bool,
    /// The Python that has torch, numpy, jax, tensorflow or cupy
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: String,
    /// Fewer samples
    #[arg(long)]
    quick: bool,
    /// Write the rows: a JSON array
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let effort = if args.quick { Effort::QUICK } else { Effort::FULL };
    let python = Python::start(&args.python, concat!(env!("CARGO_MANIFEST_DIR"), "/peers.py"))?;
    println!("wgclip {}, {:?}", env!("CARGO_PKG_VERSION"), python.engines());

    let mut rows = Vec::new();
    let mut show = |mut cases: Vec<Case<'static>>| -> Result<()> {
        let measured = measure(&mut cases, effort)?;
        print(&measured);
        rows.extend(measured);
        Ok(())
    };
    for elements in SIZES {
        show(on_cpu::<f32>("clip", elements, &python)?)?;
    }
    for elements in [SIZES[2], SIZES[3]] {
        show(on_cpu::<f32>("clip_grad", elements, &python)?)?;
    }
    show(on_cpu::<f16>("clip", SIZES[2], &python)?)?;
    show(on_cpu::<bf16>("clip", SIZES[2], &python)?)?;
    show(on_cpu::<i8>("clip", SIZES[2], &python)?)?;
    show(on_cpu::<f64>("clip", SIZES[2], &python)?)?;

    if !args.cpu_only {
        let name = args.device.as_deref().unwrap_or_default().to_lowercase();
        let wanted = |info: &wgclip::DeviceInfo| info.to_string().to_lowercase().contains(&name);
        let contexts = wgclip_harness::gpu::open(wanted)?;
        let context = contexts.first().ok_or_else(|| anyhow::anyhow!("there is no such adapter"))?;
        let burn = gpu::burn_device(context);
        for elements in SIZES {
            let mut cases = gpu::chained(context, &burn, elements, 1)?;
            let floor = wgclip_harness::gpu::cases::<f32>(context, elements, &["clip".into()], 1)?;
            cases.extend(floor.into_iter().filter(|case| case.what.engine == "raw_wgpu"));
            show(cases)?;
        }
        for elements in SIZES {
            show(gpu::chained(context, &burn, elements, 20)?)?;
        }
        for elements in SIZES {
            show(gpu::training(context, &burn, elements)?)?;
        }
        if context.info().kind == DeviceKind::Gpu {
            on_cuda(context, &python, &mut show)?;
        }
    }
    if let Some(path) = args.json {
        std::fs::write(path, serde_json::to_string_pretty(&rows)? + "\n")?;
    }
    Ok(())
}

/// An operation by every engine on the CPU, this crate's first.
fn on_cpu<T: Element>(op: &str, elements: usize, python: &Python) -> Result<Vec<Case<'static>>> {
    let mut cases = cpu::cases::<T>(elements, &[op.to_owned()])?;
    cases.rotate_left(1);
    let what = What::new(op, T::TYPE, elements, &Device::cpu().info());
    if op == "clip" {
        cases.push(rust::ndarray::<T>(what.clone()));
        match T::TYPE {
            ElementType::F32 => cases.push(rust::candle::<f32>(what.clone())?),
            ElementType::F16 => cases.push(rust::candle::<f16>(what.clone())?),
            ElementType::Bf16 => cases.push(rust::candle::<bf16>(what.clone())?),
            ElementType::F64 => cases.push(rust::candle::<f64>(what.clone())?),
            _ => {}
        }
    }
    for engine in python.engines().keys().filter(|engine| !["torch_cuda", "cupy"].contains(&engine.as_str())) {
        cases.extend(python.case(what.clone().by(engine))?);
    }
    Ok(cases)
}

/// What Python has on a GPU, beside this crate there.
fn on_cuda(
    context: &wgclip::gpu::Context,
    python: &Python,
    show: &mut dyn FnMut(Vec<Case<'static>>) -> Result<()>,
) -> Result<()> {
    for elements in [1 << 26, 1 << 28] {
        for op in ["clip", "clip_grad", "copy_buffer"] {
            // The backward pass as in training: from the mask that the forward pass saved.
            let own = if op == "clip_grad" { ["clip_grad", "backward_saved"].as_slice() } else { &[op] };
            let own: Vec<_> = own.iter().map(|op| (*op).to_owned()).collect();
            let mut cases = wgclip_harness::gpu::cases::<f32>(context, elements, &own, 10)?;
            let what = What::new(op, ElementType::F32, elements, context.info());
            for engine in python.engines().keys().filter(|engine| ["torch_cuda", "cupy"].contains(&engine.as_str())) {
                cases.extend(python.case(what.clone().by(engine))?);
            }
            show(cases)?;
        }
    }
    Ok(())
}

/// Each time as a multiple of the first row's, which is this crate's.
fn print(rows: &[Row]) {
    let Some(ours) = rows.first() else { return };
    let What { op, r#type, elements, device, batch, .. } = &ours.what;
    println!("{op} {type} {elements} x{batch}, {device}");
    for row in rows {
        let name = if row.what.op == *op { row.what.engine.clone() } else { row.what.op.clone() };
        println!("  {:6.2}  {:>12.2} us  {name}", row.median_ns / ours.median_ns, row.median_ns / 1e3);
    }
}
