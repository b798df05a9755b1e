//! `wgclip clip`, `wgclip backward` and `wgclip activate`.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};
use wgclip::op::Op;
use wgclip::{Element, NeedsGrad, with_element};

use crate::args::{Activate, Backward, Clip, Common, Interval};
use crate::batch::{Cost, Kind, Operands, Work};
use crate::files::{Conversions, TensorFile, TensorWriter, check_one_output, write_one};
use crate::operand::{Operand, Role};
use crate::output::{Output, is_same_file};
use crate::pipeline::Pipeline;
use crate::report::Counts;
use crate::say;
use crate::select::{Selection, refuse_scaled, select};
use crate::session::{Session, Settings};
use crate::softmax;
use crate::source::{Place, Source};
use crate::target::{IndexChanges, Target};

/// The tensors to change, each with its x if it is an upstream gradient.
type Chosen = HashMap<Place, Option<Place>>;

/// Clips the values of a file, or of the files of a folder.
pub(crate) fn clip(args: &Clip) -> Result<()> {
    let start = Instant::now();
    let mut source = open(&args.input, &args.common)?;
    let selection = select(&source, &args.common.choice.tensors.tensor, &args.common.choice.tensors.except)?;
    for &place in selection.chosen.iter().filter(|_| args.to.is_some()) {
        let element = source.element(place)?;
        if !element.is_float() {
            bail!(
                "{} holds {element}, and --to converts floats: leave it out with --except",
                source.describe(place)
            );
        }
    }
    if args.common.choice.tensors.tensor.is_empty() {
        refuse_scaled(&source, &selection.chosen)?;
    }
    let settings = Settings { to: args.to, ..Settings::of(&args.common) };
    let mut session = Session::new(settings, start, &source, &selection)?;
    let mut target = Target::create(&source, &args.output)?;
    warn_of_folders(&source, &args.output);
    let chosen: Chosen = selection.chosen.iter().map(|&place| (place, None)).collect();
    let work = args.to.map_or(Work::Clip, Work::ClipTo);
    for file in 0..source.files.len() {
        target.write(file, |out| rewrite(&mut session, out, (&mut source, file), &chosen, work, None))?;
    }
    let direct = target.is_direct();
    let bytes = |place: Place| {
        let (entry, file) = (source.entry(place), &source.files[place.file]);
        match args.to.filter(|_| chosen.contains_key(&place)) {
            Some(to) => (entry.shape.len() * to.size()) as u64,
            None => file.bytes(place.index),
        }
    };
    let changes =
        args.to.map(|_| IndexChanges { bytes: source.places().map(bytes).sum(), ..IndexChanges::default() });
    target.commit(changes)?;
    session.report(direct);
    Ok(())
}

/// The backward pass of [`clip`]. Tensors that are not selected keep their upstream gradient, since they were not
/// clipped.
pub(crate) fn backward(args: &Backward) -> Result<()> {
    let start = Instant::now();
    if args.input == args.upstream && args.input == Path::new("-") {
        bail!("both files cannot come from stdin: name one of them");
    }
    let mut source = open(&args.input, &args.common)?;
    let mut upstream = Source::open(&args.upstream, args.common.choice.tensors.assumed)?;
    let selection = select(&source, &args.common.choice.tensors.tensor, &args.common.choice.tensors.except)?;
    let chosen = pairs(&source, &upstream, &selection)?;
    check_bound_outputs(args, chosen.len(), &[&source, &upstream])?;
    let mut session = Session::new(Settings::of(&args.common), start, &source, &selection)?;
    let mut target = Target::create(&upstream, &args.output)?;
    let work = Work::Backward(args.rule.backward_rule());
    let wants_bounds = args.min_grad.is_some() || args.max_grad.is_some();
    let mut bound_outputs = [bound_output(&args.min_grad)?, bound_output(&args.max_grad)?];
    for file in 0..upstream.files.len() {
        target.write(file, |out| match wants_bounds {
            true => {
                let base = (&mut upstream.files[file], file);
                with_bounds(&mut session, out, base, &chosen, &mut source, (args, &mut bound_outputs))
            }
            false => rewrite(&mut session, out, (&mut upstream, file), &chosen, work, Some(&mut source)),
        })?;
    }
    let direct = target.is_direct() || bound_outputs.iter().flatten().any(|(_, output)| output.is_direct());
    // Renamed first: the file with the main name then implies that all are complete.
    bound_outputs.into_iter().flatten().try_for_each(|(_, output)| output.commit())?;
    target.commit(None)?;
    session.report(direct);
    Ok(())
}

/// Applies a function to the values of a file, or of the files of a folder.
pub(crate) fn activate(args: &Activate) -> Result<()> {
    let start = Instant::now();
    let op = args.function;
    let work = match (op.info().params, args.cap) {
        ([], Some(_)) => bail!("--cap is the limit of soft_cap: leave it out for {op}"),
        (_, cap) => Work::Activate(op, cap.map(f64::to_bits)),
    };
    if args.axes.is_some() && op != Op::Softmax {
        bail!("--axes are those of softmax: leave them out for {op}");
    }
    let mut source = Source::open(&args.input, args.choice.tensors.assumed)?;
    let selection = select(&source, &args.choice.tensors.tensor, &args.choice.tensors.except)?;
    for &place in &selection.chosen {
        let element = source.element(place)?;
        if !op.is_for(element, false) {
            bail!(
                "{} holds {element}, and {op} takes floats of up to 32 bits: leave it out with --except",
                source.describe(place)
            );
        }
    }
    if args.choice.tensors.tensor.is_empty() {
        refuse_scaled(&source, &selection.chosen)?;
    }
    let none = Interval::none();
    let Activate { choice, device, quiet, .. } = args;
    let settings = Settings { interval: &none, choice, device, quiet: *quiet, to: None, work: op.name() };
    let mut session = Session::new(settings, start, &source, &selection)?;
    let mut target = Target::create(&source, &args.output)?;
    warn_of_folders(&source, &args.output);
    let chosen: Chosen = selection.chosen.iter().map(|&place| (place, None)).collect();
    let along = softmax::Along { axes: args.axes.as_deref().unwrap_or(&[-1]), quiet: args.quiet };
    for file in 0..source.files.len() {
        target.write(file, |out| match op {
            Op::Softmax => {
                let (resources, is_chosen) = (&mut session.resources, &|place| chosen.contains_key(&place));
                softmax::rewrite(resources, out, (&mut source, file), is_chosen, along)
            }
            _ => rewrite(&mut session, out, (&mut source, file), &chosen, work, None),
        })?;
    }
    let direct = target.is_direct();
    target.commit(None)?;
    session.report(direct);
    Ok(())
}

/// Opens the input. With quantiles it is read more than once.
fn open(path: &Path, args: &Common) -> Result<Source> {
    let assumed = args.choice.tensors.assumed;
    match args.interval.shares() {
        [None, None] => Source::open(path, assumed),
        _ => Source::open_again(path, assumed),
    }
}

/// Warns of subfolders that are not copied to a new folder.
pub(crate) fn warn_of_folders(source: &Source, output: &Path) {
    if source.folder.as_ref().is_some_and(|folder| folder.folders && !is_same_file(&folder.path, output)) {
        say("warning: the folders within the checkpoint's are not copied");
    }
}

/// Writes a file with the selected tensors changed. In a backward pass they are upstream gradients, and x is read along
/// with them.
fn rewrite(
    session: &mut Session<'_>,
    out: &mut dyn Write,
    (base, number): (&mut Source, usize),
    chosen: &Chosen,
    work: Work,
    mut source: Option<&mut Source>,
) -> Result<()> {
    let file = &base.files[number];
    let mut to = Conversions::new();
    for index in 0..file.entries().len() {
        let Work::ClipTo(element) = work else { break };
        // Tensors that already have this type need no new header.
        if chosen.contains_key(&Place { file: number, index }) && file.element(index)? != element {
            to.insert(index, element);
        }
    }
    let Session { resources, bounds, .. } = session;
    let memory = resources.memory() / 4;
    let mut pipeline = Pipeline::new(resources, file.writer(out, &to)?);
    for index in file.order(&to) {
        let place = Place { file: number, index };
        let Some(x) = chosen.get(&place) else {
            pipeline.copy(index)?;
            continue;
        };
        let (entry, what) = (base.entry(place).clone(), base.describe(place));
        let element = base.element(place)?;
        let of = match (x, source.as_deref_mut()) {
            (Some(x), Some(source)) => (source, *x),
            _ => (&mut *base, place),
        };
        let beside = (&entry, element, &what[..]);
        let [(lo, lo_operand), (hi, hi_operand)] =
            bounds.of(beside, of, &mut |bytes| pipeline.progress(bytes))?;
        let mut operands = Operands { x: None, lo: lo_operand, hi: hi_operand };
        if let Some((place, source)) = x.zip(source.as_deref_mut()) {
            let file = &mut source.files[place.file];
            operands.x = Some(Operand::open(file, place.index, beside, Role::X, memory)?);
        }
        let kind = Kind { element, work, lo, hi };
        let file = &mut base.files[number];
        let written = file.written_layout(index, to.get(&index).copied());
        file.elements(index, &mut |from| {
            let tensor = (&what[..], kind, entry.shape.len());
            pipeline.push(index, tensor, (from, entry.layout, written), &mut operands)
        })?;
    }
    pipeline.finish()
}

/// The selected tensors with their upstream gradients, of the same names, types and shapes.
fn pairs(source: &Source, upstream: &Source, selection: &Selection) -> Result<Chosen> {
    let pair = |&x: &Place| {
        let name = &source.entry(x).name;
        let g = upstream.find(name).ok_or_else(|| upstream.no_such(name))?;
        let (element, other) = (source.element(x)?, upstream.element(g)?);
        let (left, right) = (source.describe(x), upstream.describe(g));
        if element != other {
            bail!("{left} holds {element}, but {right} holds {other}: both need the same type");
        }
        let (of_x, of_g) = (source.entry(x).shape.dims(), upstream.entry(g).shape.dims());
        if of_x != of_g {
            bail!("{left} has shape {of_x:?}, but {right} has {of_g:?}: both need the same shape");
        }
        Ok((g, Some(x)))
    };
    selection.chosen.iter().map(pair).collect()
}

/// Checks that requested gradients of bounds are those of one tensor, each in its own file.
fn check_bound_outputs(args: &Backward, tensors: usize, sources: &[&Source]) -> Result<()> {
    let outputs: Vec<_> = args.min_grad.iter().chain(&args.max_grad).collect();
    if !outputs.is_empty() && tensors != 1 {
        bail!("--min-grad and --max-grad take one tensor, not {tensors}: choose it with --tensor");
    }
    outputs.iter().try_for_each(|output| check_one_output(output))?;
    let bounds = args.common.interval.files().map(Path::to_owned);
    let read: Vec<_> = sources.iter().flat_map(|source| source.paths()).chain(bounds).collect();
    for (n, output) in outputs.iter().enumerate() {
        if read.iter().any(|read| is_same_file(read, output)) {
            bail!("{} is read: give the gradient of the bound a file of its own", output.display());
        }
        if is_same_file(&args.output, output) || outputs[..n].iter().any(|other| is_same_file(other, output))
        {
            bail!("the gradients would be written to one file: give each its own");
        }
    }
    Ok(())
}

/// Writes a file with the gradient of one tensor, and the files of the gradients of its bounds. The tensor is held in
/// memory as a whole, since the sums need all of it.
fn with_bounds(
    session: &mut Session<'_>,
    out: &mut dyn Write,
    (file, number): (&mut TensorFile, usize),
    chosen: &Chosen,
    source: &mut Source,
    (args, outputs): (&Backward, &mut BoundOutputs<'_>),
) -> Result<()> {
    let to = Conversions::new();
    let mut writer = file.writer(out, &to)?;
    for index in file.order(&to) {
        match chosen.get(&Place { file: number, index }) {
            Some(Some(x)) => {
                with_element!(file.element(index)?, T => {
                    one_with_bounds::<T>(session, &mut *writer, (file, index), (source, *x), (args, outputs))?;
                });
            }
            _ => writer.copy(index)?,
        }
    }
    writer.finish()
}

fn one_with_bounds<T: Element>(
    session: &mut Session<'_>,
    writer: &mut dyn TensorWriter,
    (file, index): (&mut TensorFile, usize),
    (source, x): (&mut Source, Place),
    (args, outputs): (&Backward, &mut BoundOutputs<'_>),
) -> Result<()> {
    let entry = source.entry(x).clone();
    let Session { resources, bounds, .. } = session;
    let bounds = bounds.whole::<T>(&entry, (source, x), resources.device())?;
    let (x, g) = (source.files[x.file].read::<T>(x.index)?, file.read::<T>(index)?);
    let (dims, bytes) = (entry.shape.dims(), 3 * size_of_val(&x[..]));
    let counts = match args.common.quiet {
        true => Counts::default(),
        false => Counts::of(&x, &entry.shape, &bounds)?,
    };

    let started = Instant::now();
    let device = resources.device();
    let needs = NeedsGrad { lo: args.min_grad.is_some(), hi: args.max_grad.is_some() };
    let (x, g) = (device.tensor_from_vec(x, dims)?, device.tensor_from_vec(g, dims)?);
    let grads = x.clip_backward_bounds(&g, &bounds, args.rule.backward_rule(), needs)?;
    // The result may share the memory of `g`; dropping `g` avoids a copy.
    drop((x, g));
    let gx = grads.x.into_vec()?;
    let of_bounds = [&grads.lo, &grads.hi].map(|grad| grad.as_ref().map(|grad| grad.to_vec()));
    resources.add(Cost { counts, bytes, time: started.elapsed(), ..Cost::default() });

    let shapes = [&grads.lo, &grads.hi].map(|grad| grad.as_ref().map(|grad| grad.shape()));
    for (n, (output, grad)) in outputs.iter_mut().zip(of_bounds).enumerate() {
        if let (Some((path, output)), Some(grad), Some(shape)) = (output, grad, shapes[n]) {
            let (grad, name) = (grad?, ["min_grad", "max_grad"][n]);
            output.write(|out| write_one(out, path, name, shape, &grad))?;
        }
    }
    let entry = &file.entries()[index];
    writer.begin(index)?;
    writer.write(bytemuck::cast_slice(&entry.layout.encode(gx, &entry.shape)))
}

/// The files of the gradients of the lower and the upper bound, if requested.
type BoundOutputs<'a> = [Option<(&'a Path, Output)>; 2];

/// The file for the gradient of a bound, if requested.
fn bound_output(path: &Option<PathBuf>) -> Result<Option<(&Path, Output)>> {
    let Some(path) = path else { return Ok(None) };
    Ok(Some((path, Output::create(path)?)))
}
