//! `wgclip value` and `wgclip grad`.

use std::io::Write;
use std::time::Instant;

use anyhow::{Result, bail};
use wgclip::{Bounds, Device, Element, with_element};

use crate::args::{Common, Grad, Value};
use crate::npy::{self, Npy};
use crate::output::Output;
use crate::report::{Counts, Report};
use crate::say;

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
    let (bytes, counts) = (2 * size_of_val(&x[..]), counts(&args.common, &x, &bounds));

    let start = Instant::now();
    let mut tensor = device.tensor_from_vec(x, shape.dims())?;
    tensor.clip_in_place(&bounds)?;
    let y = tensor.into_vec()?;
    let time = start.elapsed();

    let direct = output.is_direct();
    output.finish(|out| npy::write(out, &header, &y))?;
    print(direct, counts.map(|counts| Report { counts, device: device.info(), time, bytes }));
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
    let (bytes, counts) = (3 * size_of_val(&x[..]), counts(&args.common, &x, &bounds));

    let start = Instant::now();
    let (x, g) = (device.tensor_from_vec(x, shape.dims())?, device.tensor_from_vec(g, shape.dims())?);
    let gx = x.clip_grad(&g, &bounds, args.rule.gradient())?;
    // The result may share the elements of `g`, and is not copied out of them once it alone does.
    drop((x, g));
    let gx = gx.into_vec()?;
    let time = start.elapsed();

    let direct = output.is_direct();
    output.finish(|out| npy::write(out, &header, &gx))?;
    print(direct, counts.map(|counts| Report { counts, device: device.info(), time, bytes }));
    Ok(())
}

/// The bounds as numbers of the tensor's type.
fn bounds<T: Element>(args: &Common) -> Result<Bounds<T>> {
    let bounds = Bounds::parse(args.interval.min.as_deref(), args.interval.max.as_deref())?;
    if bounds.is_inverted() {
        say("warning: --min is above --max, so every number becomes --max");
    }
    Ok(bounds)
}

/// What there is to say, unless nobody wants to know.
fn counts<T: Element>(args: &Common, x: &[T], bounds: &Bounds<T>) -> Option<Counts> {
    (!args.quiet).then(|| Counts::of(x, bounds))
}

/// Prints the report: to stdout, or to stderr where the tensor may have gone to stdout.
fn print(direct: bool, report: Option<Report>) {
    match report {
        Some(report) if direct => say(&report.to_string()),
        // The work is done and in place: a closed stdout makes no failure of it.
        Some(report) => drop(writeln!(std::io::stdout(), "{report}")),
        None => {}
    }
}
