//! How fast it is beside Burn's own operations, on the same tensors, in turn: `cargo run --release --example bench`.
//!
//! Medians. A round waits for the device once, at its end, and keeps what it made until then: fusion does nothing for what nobody has.

use std::any::Any;
use std::time::Instant;

use burn::grad_clipping::GradientClippingConfig;
use burn::module::{Initializer, Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, DeviceKind, Distribution, Tensor};
use clap::Parser;
use wgclip_burn::{LearnedClip, clip, clip_by_global_norm, clip_keeping_mask, path};

/// How fast it is beside Burn's own operations.
#[derive(Debug, Parser)]
struct Options {
    /// Rounds of each.
    #[arg(long, default_value_t = 40)]
    rounds: usize,
    /// Name of a device: cpu, gpu or software; all if none is given.
    device: Vec<String>,
}

fn main() {
    let options = Options::parse();
    for name in ["cpu", "software", "gpu"] {
        let is_wanted = match options.device.is_empty() {
            true => name != "gpu",
            false => options.device.iter().any(|wanted| wanted == name),
        };
        let device = || match name {
            "cpu" => Device::flex(),
            "software" => Device::wgpu(DeviceKind::Cpu),
            _ => Device::wgpu(DeviceKind::DefaultDevice),
        };
        if is_wanted {
            run(name, &device(), options.rounds);
        }
    }
}

/// What a round made.
type Made = Box<dyn Any>;

/// Times both in turn, and prints how many times faster the first is. `overhead` is what neither can avoid.
fn compare(
    what: &str,
    device: &Device,
    rounds: usize,
    ours: impl Fn() -> Made,
    burns: impl Fn() -> Made,
    overhead: Option<&dyn Fn() -> Made>,
) {
    let wait = || device.sync().unwrap_or_else(|error| panic!("{error:?}"));
    let once = |work: &dyn Fn() -> Made| {
        let begin = Instant::now();
        let made = work();
        wait();
        let time = begin.elapsed().as_secs_f64();
        drop(made);
        time
    };
    let works: Vec<&dyn Fn() -> Made> =
        [&ours as &dyn Fn() -> Made, &burns].into_iter().chain(overhead).collect();
    let mut times = vec![Vec::new(); works.len()];
    for round in 0..rounds + 5 {
        for (work, times) in works.iter().zip(&mut times) {
            let time = once(work);
            // The first rounds compile.
            if round >= 5 {
                times.push(time);
            }
        }
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let medians: Vec<_> = times.iter_mut().map(median).collect();
    let micro = |time: f64| format!("{:.0}", time * 1e6);
    // What is lost in the noise of the rest has no ratio.
    let net = medians.get(2).filter(|&&rest| medians[0] > 1.05 * rest);
    let net = net.map(|rest| (medians[1] - rest) / (medians[0] - rest));
    let net = net.map_or(String::new(), |net| format!("{net:.2}"));
    let ratio = medians[1] / medians[0];
    println!("| {what} | {ratio:.2} | {net} | {} | {} |", micro(medians[0]), micro(medians[1]));
}

fn run(name: &str, device: &Device, rounds: usize) {
    println!(
        "\n{name}, {:?}\n\n| | ratio | of the clip alone | wgclip, us | Burn, us |\n|---|---|---|---|---|",
        path(device)
    );
    for (label, len) in [("4 Ki", 4 << 10), ("1 Mi", 1 << 20)] {
        let random = |device: &Device| Tensor::<1>::random([len], Distribution::Normal(0.0, 1.0), device);
        let (x, g) = (random(device), random(device));
        let ok = |y: wgclip_burn::Result<Tensor<1>>| y.unwrap_or_else(|error| panic!("{error}"));
        compare(
            &format!("clip, {label}"),
            device,
            rounds,
            || Box::new(ok(clip(x.clone(), -1.0..=1.0))),
            || Box::new(x.clone().clamp(-1.0, 1.0)),
            None,
        );
        let tracked = device.clone().autodiff();
        let leaf = Tensor::from_inner(x.clone()).require_grad();
        let upstream = Tensor::<1>::from_inner(g.clone());
        let backward = |y: Tensor<1>| -> Made {
            let grads = (y * upstream.clone()).sum().backward();
            Box::new((leaf.grad(&grads), grads))
        };
        let rest = || -> Made { backward(leaf.clone()) };
        compare(
            &format!("clip and its gradient, {label}"),
            device,
            rounds,
            || backward(ok(clip(leaf.clone(), -1.0..=1.0))),
            || backward(leaf.clone().clamp(-1.0, 1.0)),
            Some(&rest),
        );
        compare(
            &format!("the same, keeping a mask, {label}"),
            device,
            rounds,
            || backward(ok(clip_keeping_mask(leaf.clone(), -1.0..=1.0, Default::default()))),
            || backward(leaf.clone().clamp(-1.0, 1.0)),
            Some(&rest),
        );
        let Ok(layer) = LearnedClip::new(-1.0, 1.0, 1, &tracked) else { continue };
        let burns = |x: Tensor<1>| {
            let lo = layer.lo.as_ref().map(|lo| lo.val());
            let raised = lo.map_or(x.clone(), |lo| x.max_pair(lo.expand([len])));
            raised.min_pair(layer.hi.val().expand([len]))
        };
        compare(
            &format!("learned bounds, {label}"),
            device,
            rounds,
            || backward(layer.forward(leaf.clone())),
            || backward(burns(leaf.clone())),
            Some(&rest),
        );
    }
    for len in [1 << 10, 64 << 10] {
        let model = Many::new(len, device);
        let gradients = || {
            let mut grads = GradientsParams::new();
            for param in &model.params {
                grads.register(param.id, param.val());
            }
            grads
        };
        compare(
            &format!("global norm of 100 parameters of {} Ki, Burn each by its own", len >> 10),
            device,
            rounds.min(20),
            || {
                let mut grads = gradients();
                let norm = clip_by_global_norm(&model, &mut grads, 1.0);
                Box::new((norm, grads))
            },
            || {
                let mut grads = gradients();
                model.visit(&mut Each(&mut grads));
                Box::new(grads)
            },
            None,
        );
    }
}

#[derive(Module, Debug)]
struct Many {
    params: Vec<Param<Tensor<2>>>,
}

impl Many {
    fn new(len: usize, device: &Device) -> Self {
        let uniform = Initializer::Uniform { min: -1.0, max: 1.0 };
        Self { params: (0..100).map(|_| uniform.init([len / 64, 64], device)).collect() }
    }
}

/// Burn's own: each gradient by its own norm.
struct Each<'a>(&'a mut GradientsParams);

impl ModuleVisitor for Each<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.0.remove::<D>(param.id) {
            let clipped = GradientClippingConfig::Norm(1.0).init().clip_gradient(gradient);
            self.0.register(param.id, clipped);
        }
    }
}
