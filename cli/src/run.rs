//! `wgclip clip` and `wgclip backward`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use bytesize::ByteSize;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};
use wgclip::{Bound, Bounds, Device, Element, ElementType, NeedsGrad, Shape, Tensor, with_element};

use crate::args::{Backward, Clip, Common, Limit};
use crate::bound_text;
use crate::files::{TensorFile, check_one_output, write_one};
use crate::output::Output;
use crate::report::{Counts, Report};
use crate::{say, stream};

/// Clips the values of a file.
pub(crate) fn clip(args: &Clip) -> Result<()> {
    let mut file = TensorFile::open(&args.input)?;
    let chosen = file.select(&args.common.tensor)?;
    let elements: Vec<_> = chosen.iter().map(|&index| file.element(index)).collect::<Result<_>>()?;
    file.check_output(&args.output)?;
    let given = args.memory.map(|memory| memory.as_u64());
    let memory = given.unwrap_or_else(quarter_of_memory);
    let large = file.bytes() > memory;
    if large && given.is_some() && args.common.has_files() {
        bail!(
            "{} holds {}, more than --memory, and bounds that are files need it whole: give more memory",
            args.input.display(),
            ByteSize(file.bytes())
        );
    }
    let mut run = Session::begin(&args.common, &elements)?;
    let output = Output::create(&args.output)?;
    if large && !args.common.has_files() {
        return stream::clip(run, file, &chosen, output, memory);
    }

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
    output.finish(|out| file.write(out))?;
    run.report(direct);
    Ok(())
}

/// The backward pass of [`clip`]. The tensors that are not chosen keep what upstream holds for them: nothing clipped
/// them.
pub(crate) fn backward(args: &Backward) -> Result<()> {
    let mut file = TensorFile::open(&args.input)?;
    let mut upstream = TensorFile::open(&args.upstream)?;
    let pairs = pairs(&file, &upstream, &args.common.tensor)?;
    upstream.check_output(&args.output)?;
    check_bound_outputs(args, pairs.len())?;
    let elements: Vec<_> = pairs.iter().map(|pair| pair.element).collect();
    let mut run = Session::begin(&args.common, &elements)?;
    let output = Output::create(&args.output)?;
    let mut bound_outputs = [bound_output(&args.min_grad)?, bound_output(&args.max_grad)?];

    for pair in &pairs {
        with_element!(pair.element, T => {
            let shape = file.entry(pair.x).shape.clone();
            let bounds = run.bounds::<T>(&file.describe(pair.x))?;
            let (x, g) = (file.read::<T>(pair.x)?, upstream.read::<T>(pair.g)?);
            run.count(&x, &shape, &bounds)?;
            let bytes = 3 * size_of_val(&x[..]);
            let (gx, bound_gradients) = run.timed(bytes, |device| gradients(device, args, x, g, &shape, &bounds))?;
            upstream.replace(pair.g, gx);
            // Of one tensor only, and in place first: the file that has the main name says that all is there.
            for ((bound, name), gradient) in bound_outputs.iter_mut().zip(["min_grad", "max_grad"]).zip(bound_gradients) {
                if let Some(((path, output), gradient)) = bound.take().zip(gradient) {
                    output.finish(|out| write_one(out, path, name, gradient.shape(), &gradient.to_vec()?))?;
                }
            }
        });
    }
    let direct = output.is_direct();
    output.finish(|out| upstream.write(out))?;
    run.report(direct);
    Ok(())
}

/// A tensor and its upstream gradient, by their places in the two files.
struct Pair {
    x: usize,
    g: usize,
    element: ElementType,
}

/// The chosen tensors with their upstream gradients, of the same names, types and shapes.
fn pairs(file: &TensorFile, upstream: &TensorFile, names: &[String]) -> Result<Vec<Pair>> {
    let pair = |x: usize| {
        let g = upstream.find(&file.entry(x).name)?;
        let (element, other) = (file.element(x)?, upstream.element(g)?);
        let (left, right) = (file.describe(x), upstream.describe(g));
        if element != other {
            bail!("{left} holds {element}, but {right} holds {other}: both need the same type");
        }
        let (of_x, of_g) = (file.entry(x).shape.dims(), upstream.entry(g).shape.dims());
        if of_x != of_g {
            bail!("{left} has shape {of_x:?}, but {right} has {of_g:?}: both need the same shape");
        }
        Ok(Pair { x, g, element })
    };
    file.select(names)?.into_iter().map(pair).collect()
}

/// The gradients of the bounds are those of one tensor, each with a file of its own.
fn check_bound_outputs(args: &Backward, tensors: usize) -> Result<()> {
    let bound_gradients = args.min_grad.iter().chain(&args.max_grad);
    if bound_gradients.clone().count() > 0 && tensors != 1 {
        bail!("--min-grad and --max-grad take one tensor, not {tensors}: choose it with --tensor");
    }
    bound_gradients.clone().try_for_each(|output| check_one_output(output))?;
    let all = std::iter::once(&args.output).chain(bound_gradients).map(std::path::absolute);
    let all: Vec<_> = all.collect::<Result<_, _>>()?;
    if (1..all.len()).any(|i| all[..i].contains(&all[i])) {
        bail!("the gradients would be written to one file: give each its own");
    }
    Ok(())
}

/// What the lower and the upper bound receive, where wanted.
type BoundGrads<T> = [Option<Tensor<T>>; 2];

/// What x receives, and what each bound receives whose gradient is wanted.
fn gradients<T: Element>(
    device: &Device,
    args: &Backward,
    x: Vec<T>,
    g: Vec<T>,
    shape: &Shape,
    bounds: &Bounds<T>,
) -> Result<(Vec<T>, BoundGrads<T>)> {
    let needs = NeedsGrad { lo: args.min_grad.is_some(), hi: args.max_grad.is_some() };
    let (x, g) = (device.tensor_from_vec(x, shape.dims())?, device.tensor_from_vec(g, shape.dims())?);
    let grads = x.clip_backward_bounds(&g, bounds, args.rule.backward_rule(), needs)?;
    // The result may share the elements of `g`, and is not copied out of them once it alone does.
    drop((x, g));
    Ok((grads.x.into_vec()?, [grads.lo, grads.hi]))
}

/// The file for the gradient of a bound, if wanted.
fn bound_output(path: &Option<PathBuf>) -> Result<Option<(&Path, Output)>> {
    let Some(path) = path else { return Ok(None) };
    Ok(Some((path, Output::create(path)?)))
}

/// What is taken where nothing is said: less than what is free on most machines.
fn quarter_of_memory() -> u64 {
    let refresh = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(refresh);
    // A container may have less than its machine.
    let total = system.cgroup_limits().map_or(system.total_memory(), |limits| limits.total_memory);
    total / 4
}

/// What a run of the command gathers over its tensors.
pub(crate) struct Session<'a> {
    args: &'a Common,
    device: Device,
    counts: Counts,
    time: Duration,
    bytes: usize,
}

impl<'a> Session<'a> {
    /// Checks the bounds against the types, and opens the device.
    fn begin(args: &'a Common, elements: &[ElementType]) -> Result<Self> {
        let inverted =
            |&element: &ElementType| with_element!(element, T => Ok(values::<T>(args)?.is_inverted()));
        let inverted = elements.iter().map(inverted).collect::<Result<Vec<_>>>()?;
        if inverted.contains(&true) {
            say("warning: --min is above --max, so every number becomes --max");
        }
        let device = Device::select(&args.device)?;
        Ok(Self { args, device, counts: Counts::default(), time: Duration::ZERO, bytes: 0 })
    }

    /// The bounds as numbers, or tensors on the device, of the type of the tensor `name`.
    pub(crate) fn bounds<T: Element>(&self, name: &str) -> Result<Bounds<T>> {
        let values = values::<T>(self.args)?;
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

    /// The same of elements between bounds that are values.
    pub(crate) fn count_values<T: Element>(&mut self, x: &[T], bounds: &Bounds<T>) {
        if !self.args.quiet {
            self.counts = self.counts + Counts::between(x, bounds.lo().value(), bounds.hi().value());
        }
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.args.quiet
    }

    /// Does what is timed: from tensors in host memory to results in host memory, `bytes` in all.
    pub(crate) fn timed<R>(&mut self, bytes: usize, work: impl FnOnce(&Device) -> Result<R>) -> Result<R> {
        let start = Instant::now();
        let result = work(&self.device)?;
        self.time += start.elapsed();
        self.bytes += bytes;
        Ok(result)
    }

    /// Prints what was done: to stdout, or to stderr where the tensor may have gone to stdout.
    pub(crate) fn report(self, direct: bool) {
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
    bound_text::bounds(min.as_deref(), max.as_deref())
}
