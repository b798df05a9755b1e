//! Burn on wgpu, and this crate on the same adapter.

use anyhow::{Result, anyhow};
use burn::tensor::{Device, DeviceKind, Tensor, TensorData};
use wgclip::device::DeviceKind as Kind;
use wgclip::gpu::Context;
use wgclip::{BackwardRule, Bounds, ElementType};
use wgclip_harness::{BenchId, Case, values};

/// Burn's device for the adapter of this crate's context.
pub fn burn_device(context: &Context) -> Device {
    Device::wgpu(match wgclip::Device::from(context.clone()).info().kind {
        Kind::Software => DeviceKind::Cpu,
        _ => DeviceKind::DefaultDevice,
    })
}

/// One clip after the other of the same tensor, `batch` of them and a wait.
pub fn chained(context: &Context, burn: &Device, elements: usize, batch: u32) -> Result<Vec<Case<'static>>> {
    let device = wgclip::Device::from(context.clone());
    let op = if batch == 1 { "clip" } else { "clip_chain" };
    let what = BenchId { op: op.into(), ..BenchId::new("clip", ElementType::F32, elements, &device.info()) };
    let what = what.batch(batch);
    let (data, unit) = (values::<f32>(elements), Bounds::new(0.0, 1.0)?);

    let ours = {
        let x = device.tensor(&data, [elements])?;
        let device = device.clone();
        Case::timed(what.clone(), move || {
            let mut y = x.clone();
            for _ in 0..batch {
                y = y.clip(&unit)?;
            }
            Ok(device.wait()?)
        })
    };
    let theirs = {
        let x = Tensor::<1>::from_data(TensorData::new(data, [elements]), burn);
        let burn = burn.clone();
        Case::timed(what.by("burn"), move || {
            let mut y = x.clone();
            for _ in 0..batch {
                y = y.clamp(0.0, 1.0);
            }
            wait(&burn)?;
            drop(y);
            Ok(())
        })
    };
    Ok(vec![ours, theirs])
}

/// The forward pass and the masked backward pass, as in training, and a wait. The upstream gradient is ones, which is
/// what Burn takes for a tensor that it is asked to go back from.
pub fn training(context: &Context, burn: &Device, elements: usize) -> Result<Vec<Case<'static>>> {
    let device = wgclip::Device::from(context.clone());
    let what = BenchId {
        op: "forward_backward".into(),
        bytes: wgclip_harness::bytes_of("clip", elements, 4) * 2,
        ..BenchId::new("clip", ElementType::F32, elements, &device.info())
    };
    let (data, unit) = (values::<f32>(elements), Bounds::new(0.0, 1.0)?);
    let rule: BackwardRule = "burn".parse()?;

    let ours = {
        let x = device.tensor(&data, [elements])?;
        let upstream = device.tensor(&vec![1.0f32; elements], [elements])?;
        Case::timed(what.clone(), move || {
            let (y, saved) = x.clip_with_mask(&unit, rule)?;
            let gradient = saved.backward(&upstream)?;
            device.wait()?;
            drop((y, gradient));
            Ok(())
        })
    };
    // As it is asked to go back from the clamp itself, and as it is used: from a loss.
    let theirs = |engine: &str, loss: bool| {
        let autodiff = burn.clone().autodiff();
        let data = TensorData::new(data.clone(), [elements]);
        let x = Tensor::<1>::from_data(data, &autodiff).require_grad();
        let burn = burn.clone();
        Case::timed(what.clone().by(engine), move || {
            let y = x.clone().clamp(0.0, 1.0);
            let gradients = if loss { y.clone().sum().backward() } else { y.backward() };
            let gradient = x.grad(&gradients);
            wait(&burn)?;
            drop((y, gradient));
            Ok(())
        })
    };
    Ok(vec![ours, theirs("burn", false), theirs("burn, of a sum", true)])
}

fn wait(device: &Device) -> Result<()> {
    device.sync().map_err(|error| anyhow!("Burn: {error:?}"))
}
