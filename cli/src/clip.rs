//! `wgclip value` and `wgclip grad`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use wgclip::{Bound, Bounds, Device, Element, ElementType, Shape, Tensor, Wanted, with_element};

use crate::args::{Common, Grad, Limit, Value};
use crate::files::{TensorFile, check_one_output, write_one};
use crate::output::Output;
use crate::report::{Counts, Report};
use crate::say;

/// Clips the values of a file.
pub fn value(args: &Value) -> Result<()> {
    let mut file = TensorFile::open(&args.input)?;
    let chosen = file.select(&args.common.tensor)?;
    let elements: Vec<_> = chosen.iter().map(|&index| file.element(index)).collect::<Result<_>>()?;
    file.check_output(&args.output)?;
    let mut run = Run::begin(&args.common, &elements)?;
    let output = Output::create(&args.output)?;

    for (&index, &element) in chosen.iter().zip(&elements) {
        with_element!(element, T => {
            let shape = file.entry(index).shape.clone();
            let bounds = run.bounds::<T>(&file.describe(index))?;
            let x = file.read::<T>(index)?;
            run.count(&x, &shape, &bounds)?;
            let y = run.timed(2 * size_of_val(&x[..]), |device| {
                let mut tensor = device.tensor_from_vec(x, shape.dims())?;
                tensor.clip_in_place(&bounds)?;
                Ok(tensor.into_vec()?)
            })?;
            file.replace(index, y);
        });
    }
    let direct = output.is_direct();
    output.finish(|out| Ok(file.write(out)?))?;
    run.report(direct);
    Ok(())
}

/// The backward pass of [`value`]. The tensors that are not chosen keep what upstream holds for them: nothing clipped
/// them.
pub fn grad(args: &Grad) -> Result<()> {
    let mut file = TensorFile::open(&args.input)?;
    let mut upstream = TensorFile::open(&args.upstream)?;
    let chosen = file.select(&args.common.tensor)?;
    let pairs = chosen.into_iter().map(|index| Ok((index, upstream.find(&file.entry(index).name)?)));
    let pairs: Vec<_> = pairs.collect::<Result<_>>()?;
    let mut elements = Vec::new();
    for &(index, g_index) in &pairs {
        let (element, other) = (file.element(index)?, upstream.element(g_index)?);
        let (x, g) = (file.describe(index), upstream.describe(g_index));
        if element != other {
            bail!("{x} holds {element}, but {g} holds {other}: both need the same type");
        }
        let (left, right) = (file.entry(index).shape.dims(), upstream.entry(g_index).shape.dims());
        if left != right {
            bail!("{x} has shape {left:?}, but {g} has {right:?}: both need the same shape");
        }
        elements.push(element);
    }
    upstream.check_output(&args.output)?;
    let wanted = Wanted { lo: args.min_grad.is_some(), hi: args.max_grad.is_some() };
    if wanted != Wanted::default() && pairs.len() != 1 {
        bail!("--min-grad and --max-grad take one tensor, not {}: choose it with --tensor", pairs.len());
    }

    let outputs = [Some(&args.output), args.min_grad.as_ref(), args.max_grad.as_ref()];
    let outputs: Vec<_> = outputs.into_iter().flatten().map(std::path::absolute).collect::<Result<_, _>>()?;
    outputs[1..].iter().try_for_each(|output| check_one_output(output))?;
    if (1..outputs.len()).any(|i| outputs[..i].contains(&outputs[i])) {
        bail!("the gradients would be written to one file: give each its own");
    }

    let mut run = Run::begin(&args.common, &elements)?;
    let output = Output::create(&args.output)?;
    let mut bound_outputs = [bound_output(&args.min_grad)?, bound_output(&args.max_grad)?];
    let rule = args.rule.gradient();
    let mut finish: Vec<Box<dyn FnOnce() -> Result<()>>> = Vec::new();
    for (&(index, g_index), &element) in pairs.iter().zip(&elements) {
        with_element!(element, T => {
            let shape = file.entry(index).shape.clone();
            let bounds = run.bounds::<T>(&file.describe(index))?;
            let (x, g) = (file.read::<T>(index)?, upstream.read::<T>(g_index)?);
            run.count(&x, &shape, &bounds)?;
            let (gx, of_bounds) = run.timed(3 * size_of_val(&x[..]), |device| {
                let (x, g) = (device.tensor_from_vec(x, shape.dims())?, device.tensor_from_vec(g, shape.dims())?);
                let (gx, of_bounds) = match wanted == Wanted::default() {
                    true => (x.clip_grad(&g, &bounds, rule)?, [None, None]),
                    false => {
                        let grads = x.clip_grads(&g, &bounds, rule, wanted)?;
                        (grads.x, [grads.lo, grads.hi])
                    }
                };
                // The result may share the elements of `g`, and is not copied out of them once it alone does.
                drop((x, g));
                let read = |tensor: Tensor<T>| -> Result<(Shape, Vec<T>)> {
                    Ok((tensor.shape().clone(), tensor.into_vec()?))
                };
                let [lo, hi] = of_bounds.map(|tensor| tensor.map(read).transpose());
                Ok((gx.into_vec()?, [lo?, hi?]))
            })?;
            upstream.replace(g_index, gx);
            let names = ["min_grad", "max_grad"];
            for ((output, gradient), name) in bound_outputs.iter_mut().zip(of_bounds).zip(names) {
                if let Some(((path, output), (shape, data))) = output.take().zip(gradient) {
                    let path = path.to_owned();
                    finish.push(Box::new(move || {
                        output.finish(|out| write_one(out, &path, name, &shape, &data))
                    }));
                }
            }
        });
    }
    // Those of the bounds first: the one that has the main name says that all is there.
    finish.into_iter().try_for_each(|finish| finish())?;
    let direct = output.is_direct();
    output.finish(|out| Ok(upstream.write(out)?))?;
    run.report(direct);
    Ok(())
}

/// The file for the gradient of a bound, if wanted.
fn bound_output(path: &Option<PathBuf>) -> Result<Option<(&Path, Output)>> {
    let Some(path) = path else { return Ok(None) };
    Ok(Some((path, Output::create(path)?)))
}

/// What one run of the command gathers over its tensors.
struct Run<'a> {
    args: &'a Common,
    device: Device,
    counts: Counts,
    time: Duration,
    bytes: usize,
}

impl<'a> Run<'a> {
    /// Checks the bounds against the types, and opens the device.
    fn begin(args: &'a Common, elements: &[ElementType]) -> Result<Self> {
        for &element in elements {
            with_element!(element, T => values::<T>(args).map(drop))?;
        }
        let device = Device::select(&args.device)?;
        Ok(Self { args, device, counts: Counts::default(), time: Duration::ZERO, bytes: 0 })
    }

    /// The bounds as numbers, or tensors on the device, of the type of the tensor `name`.
    fn bounds<T: Element>(&self, name: &str) -> Result<Bounds<T>> {
        let values = values::<T>(self.args)?;
        if values.is_inverted() {
            say("warning: --min is above --max, so every number becomes --max");
        }
        let side = |limit: &Option<Limit>, value: &Bound<T>| match limit {
            Some(Limit::File(path)) => self.bound_file::<T>(path, name).map(Bound::Tensor),
            _ => Ok(value.clone()),
        };
        let (min, max) = (&self.args.interval.min, &self.args.interval.max);
        Ok(Bounds::new(side(min, values.lo())?, side(max, values.hi())?)?)
    }

    fn bound_file<T: Element>(&self, path: &Path, name: &str) -> Result<Tensor<T>> {
        let mut file = TensorFile::open(path)?;
        let index = file.only()?;
        let element = file.element(index)?;
        if element != T::TYPE {
            return Err(anyhow!(
                "{} holds {element}, but {name} holds {}: bounds need the tensor's type",
                path.display(),
                T::TYPE
            ));
        }
        let shape = file.entry(index).shape.clone();
        Ok(self.device.tensor_from_vec(file.read::<T>(index)?, shape.dims())?)
    }

    /// Counts where the elements lie, unless nobody wants to know.
    fn count<T: Element>(&mut self, x: &[T], shape: &Shape, bounds: &Bounds<T>) -> Result<()> {
        if !self.args.quiet {
            self.counts = self.counts + Counts::of(x, shape, bounds)?;
        }
        Ok(())
    }

    /// Does what is timed: from tensors in host memory to results in host memory, `bytes` in all.
    fn timed<R>(&mut self, bytes: usize, work: impl FnOnce(&Device) -> Result<R>) -> Result<R> {
        let start = Instant::now();
        let result = work(&self.device)?;
        self.time += start.elapsed();
        self.bytes += bytes;
        Ok(result)
    }

    /// Prints what was done: to stdout, or to stderr where the tensor may have gone to stdout.
    fn report(self, direct: bool) {
        if self.args.quiet {
            return;
        }
        let Self { counts, time, bytes, device, .. } = self;
        let report = Report { counts, device: device.info(), time, bytes };
        match direct {
            true => say(&report.to_string()),
            // The work is done and in place: a closed stdout makes no failure of it.
            false => drop(writeln!(std::io::stdout(), "{report}")),
        }
    }
}

/// The bounds that are numbers.
fn values<T: Element>(args: &Common) -> Result<Bounds<T>> {
    let number = |limit: &'_ Option<Limit>| match limit {
        Some(Limit::Number(text)) => Some(text.clone()),
        _ => None,
    };
    let (min, max) = (number(&args.interval.min), number(&args.interval.max));
    Ok(Bounds::parse(min.as_deref(), max.as_deref())?)
}
