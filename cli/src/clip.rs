//! `wgclip value` and `wgclip grad`.

use std::io::Write;
use std::time::Instant;

use anyhow::{Result, bail};
use wgclip::{Bounds, Device, Element, with_element};

use crate::args::{Common, Grad, Value};
use crate::npy::{self, Npy};
use crate::output::Output;
use crate::report::Report;

/// Clips the values of a file.
pub fn value(args: &Value) -> Result<()> {
    let input = Npy::open(&args.input)?;
    with_element!(input.element(), T => value_of::<T>(args, input))
}

fn value_of<T: Element>(args: &Value, input: Npy) -> Result<()> {
    let bounds = bounds::<T>(&args.common)?;
    let device = Device::select(&args.common.device)?;
    let output = Output::create(&args.output)?;
    let (header, shape) = (input.header().to_vec(), input.shape().clone());
    let x = input.read::<T>()?;

    let start = Instant::now();
    let y = device.tensor(&x, shape.dims())?.clip(&bounds)?.into_vec()?;
    let time = start.elapsed();

    output.finish(|out| npy::write(out, &header, &y))?;
    print(&args.common, || Report::new(&x, &bounds, device.info(), time, 2));
    Ok(())
}

/// The backward pass of [`value`].
pub fn grad(args: &Grad) -> Result<()> {
    let input = Npy::open(&args.input)?;
    let upstream = Npy::open(&args.upstream)?;
    let (x, g) = (args.input.display(), args.upstream.display());
    if input.element() != upstream.element() {
        bail!("{x} holds {}, but {g} holds {}: both need the same type", input.element(), upstream.element());
    }
    if input.shape() != upstream.shape() {
        let (left, right) = (input.shape().dims(), upstream.shape().dims());
        bail!("{x} has shape {left:?}, but {g} has {right:?}: both need the same shape");
    }
    with_element!(input.element(), T => grad_of::<T>(args, input, upstream))
}

fn grad_of<T: Element>(args: &Grad, input: Npy, upstream: Npy) -> Result<()> {
    let bounds = bounds::<T>(&args.common)?;
    let device = Device::select(&args.common.device)?;
    let output = Output::create(&args.output)?;
    let (header, shape) = (input.header().to_vec(), input.shape().clone());
    let (x, g) = (input.read::<T>()?, upstream.read::<T>()?);

    let start = Instant::now();
    let upstream = device.tensor_from_vec(g, shape.dims())?;
    let gx = device.tensor(&x, shape.dims())?.clip_grad(&upstream, &bounds, args.rule.gradient())?;
    drop(upstream);
    let gx = gx.into_vec()?;
    let time = start.elapsed();

    output.finish(|out| npy::write(out, &header, &gx))?;
    print(&args.common, || Report::new(&x, &bounds, device.info(), time, 3));
    Ok(())
}

/// The bounds as numbers of the tensor's type.
fn bounds<T: Element>(args: &Common) -> Result<Bounds<T>> {
    let bounds = Bounds::parse(args.interval.min.as_deref(), args.interval.max.as_deref())?;
    if bounds.is_inverted() {
        eprintln!("warning: --min is above --max, so every number becomes --max");
    }
    Ok(bounds)
}

/// Says what was done, unless nobody wants to know.
fn print(args: &Common, report: impl FnOnce() -> Report) {
    if !args.quiet {
        // The work is done and in place: a closed stdout makes no failure of it.
        let _ = writeln!(std::io::stdout(), "{}", report());
    }
}
