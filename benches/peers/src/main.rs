//! wgclip next to its peers, interleaved in one run: rows as `wgclip bench` writes them, and the ratios.
//!
//! `./run.sh --help`. Nobody is handicapped: results in place where an engine has that, the same wait, all warmed up.

mod gpu;
mod python;
mod rust;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use wgclip::device::DeviceKind;
use wgclip::{Device, Element, ElementType, bf16, f16};
use wgclip_harness::{BenchId, Case, Measurement, Sampling, cpu, measure};

use python::Python;

const SIZES: [usize; 4] = [1 << 12, 1 << 16, 1 << 20, 1 << 24];

#[derive(Parser)]
struct Args {
    /// The adapter to measure next to Burn, by a part of its name [default: the first]
    #[arg(long, value_name = "D")]
    device: Option<String>,
    /// Without a GPU
    #[arg(long)]
    cpu_only: bool,
    /// Without the CPU's engines
    #[arg(long, conflicts_with = "cpu_only")]
    gpu_only: bool,
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
    let effort = if args.quick { Sampling::QUICK } else { Sampling::APART };
    let python = Python::start(&args.python, concat!(env!("CARGO_MANIFEST_DIR"), "/peers.py"))?;
    let fusion = if cfg!(feature = "fusion") { "with" } else { "without" };
    println!("Burn 0.23.0-pre.1 {fusion} fusion, candle, ndarray, {:?}", python.engines());

    let mut rows = Vec::new();
    let mut show = |mut cases: Vec<Case<'static>>| -> Result<()> {
        let measured = measure(&mut cases, effort)?;
        print(&measured);
        rows.extend(measured);
        Ok(())
    };
    if !args.gpu_only {
        for elements in SIZES {
            on_cpu::<f32>("clip", elements, &python)?.into_iter().try_for_each(&mut show)?;
        }
        for elements in [SIZES[2], SIZES[3]] {
            on_cpu::<f32>("clip_backward", elements, &python)?.into_iter().try_for_each(&mut show)?;
        }
        for op in ["sum", "norm", "norm_of_columns", "clip_by_global_norm", "bound_grad"] {
            on_cpu::<f32>(op, SIZES[3], &python)?.into_iter().try_for_each(&mut show)?;
        }
        for op in ["norm", "clip_by_global_norm"] {
            on_cpu::<bf16>(op, SIZES[3], &python)?.into_iter().try_for_each(&mut show)?;
            on_cpu::<f16>(op, SIZES[3], &python)?.into_iter().try_for_each(&mut show)?;
        }
        on_cpu::<f16>("clip", SIZES[2], &python)?.into_iter().try_for_each(&mut show)?;
        on_cpu::<bf16>("clip", SIZES[2], &python)?.into_iter().try_for_each(&mut show)?;
        on_cpu::<i8>("clip", SIZES[2], &python)?.into_iter().try_for_each(&mut show)?;
        on_cpu::<f64>("clip", SIZES[2], &python)?.into_iter().try_for_each(&mut show)?;
    }

    if !args.cpu_only {
        let name = args.device.as_deref().unwrap_or_default().to_lowercase();
        let wanted = |info: &wgclip::device::DeviceInfo| info.to_string().to_lowercase().contains(&name);
        let contexts = wgclip_harness::gpu::open(wanted)?;
        let context = contexts.first().ok_or_else(|| anyhow::anyhow!("there is no such adapter"))?;
        let burn = gpu::burn_device(context);
        for elements in SIZES {
            let mut cases = gpu::chained(context, &burn, elements, 1)?;
            let floor = wgclip_harness::gpu::cases::<f32>(context, elements, &["clip".into()], 1)?;
            cases.extend(floor.into_iter().filter(|case| case.id.engine == "raw_wgpu"));
            show(cases)?;
        }
        for elements in SIZES {
            show(gpu::chained(context, &burn, elements, 20)?)?;
        }
        for elements in SIZES {
            show(gpu::training(context, &burn, elements)?)?;
        }
        if Device::from(context.clone()).info().kind == DeviceKind::Gpu {
            on_cuda(context, &python, &mut show)?;
        }
    }
    if let Some(path) = args.json {
        std::fs::write(path, serde_json::to_string_pretty(&rows)? + "\n")?;
    }
    Ok(())
}

/// An operation by each engine on the CPU, next to this crate's. In pairs: what one leaves behind (threads that look out
/// for work, pages given back) would weigh on who comes next, and not on all alike.
fn on_cpu<T: Element>(op: &str, elements: usize, python: &Python) -> Result<Vec<Vec<Case<'static>>>> {
    let what = BenchId::new(op, T::TYPE, elements, &Device::cpu().info());
    let mut peers = Vec::new();
    if op == "clip" {
        peers.push(rust::ndarray::<T>(what.clone()));
        match T::TYPE {
            ElementType::F32 => peers.push(rust::candle::<f32>(what.clone())?),
            ElementType::F16 => peers.push(rust::candle::<f16>(what.clone())?),
            ElementType::Bf16 => peers.push(rust::candle::<bf16>(what.clone())?),
            ElementType::F64 => peers.push(rust::candle::<f64>(what.clone())?),
            _ => {}
        }
    }
    for engine in python.engines().keys().filter(|engine| !["torch_cuda", "cupy"].contains(&engine.as_str()))
    {
        peers.extend(python.case(what.clone().by(engine))?);
    }
    // The first pair is this crate and the roof.
    let ours = || -> Result<_> {
        let mut cases = cpu::cases::<T>(elements, &[op.to_owned()])?;
        cases.rotate_left(1);
        Ok(cases)
    };
    let mut pairs = vec![ours()?];
    for peer in peers {
        let own = ours()?.into_iter().next();
        pairs.push(own.into_iter().chain([peer]).collect());
    }
    Ok(pairs)
}

/// What Python has on a GPU, next to this crate there.
fn on_cuda(
    context: &wgclip::gpu::Context,
    python: &Python,
    show: &mut dyn FnMut(Vec<Case<'static>>) -> Result<()>,
) -> Result<()> {
    for elements in [1 << 26, 1 << 28] {
        for op in ["clip", "clip_backward", "copy_buffer"] {
            // The backward pass as in training: from the mask that the forward pass saved.
            let own =
                if op == "clip_backward" { ["clip_backward", "mask_backward"].as_slice() } else { &[op] };
            let own: Vec<_> = own.iter().map(|op| (*op).to_owned()).collect();
            let mut cases = wgclip_harness::gpu::cases::<f32>(context, elements, &own, 10)?;
            let what = BenchId::new(op, ElementType::F32, elements, &Device::from(context.clone()).info());
            for engine in
                python.engines().keys().filter(|engine| ["torch_cuda", "cupy"].contains(&engine.as_str()))
            {
                cases.extend(python.case(what.clone().by(engine))?);
            }
            show(cases)?;
        }
    }
    Ok(())
}

/// Each time as a multiple of the first row's, which is this crate's.
fn print(rows: &[Measurement]) {
    let Some(ours) = rows.first() else { return };
    let BenchId { op, r#type, elements, device, batch, .. } = &ours.id;
    println!("{op} {type} {elements} x{batch}, {device}");
    println!("  {:>6}  {:>12.2} us  wgclip", "", ours.median_ns / 1e3);
    for row in &rows[1..] {
        let name = if row.id.op == *op { row.id.engine.clone() } else { row.id.op.clone() };
        println!("  {:6.2}  {:>12.2} us  {name}", row.median_ns / ours.median_ns, row.median_ns / 1e3);
    }
}
