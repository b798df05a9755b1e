//! `wgclip clip-norm`: reads tensors once for their norms, and again to scale them.

use std::io::Write;

use anyhow::{Context, Result};
use wgclip::norm::NormState;
use wgclip::reference::{self, Scaling};
use wgclip::{Element, ElementType, Error, NonFinitePolicy, NormLimit, Shape, Tensor, with_element};

use crate::args::ClipNorm;
use crate::batch::{Kind, Operands, Side, Work};
use crate::files::{Conversions, TensorWriter, printable};
use crate::norm::{self, choose};
use crate::pipeline::Pipeline;
use crate::resources::Resources;
use crate::say;
use crate::select::refuse_scaled;
use crate::source::{Place, Source};
use crate::target::Target;

/// The scaling of the tensors of a file.
enum Plan {
    /// Each by its own norm, or all by their common one.
    Whole(Vec<Scaling<f64>>),
    /// Slices along axes.
    Slices(Vec<i64>),
}

/// Scales tensors down to a norm.
pub(crate) fn clip_norm(args: &ClipNorm) -> Result<()> {
    let limit = args.limit();
    // Read twice: for the norms, and for scaling.
    let source = Source::open_again(&args.input, args.tensors.assumed)?;
    let chosen = choose(&source, &args.tensors)?;
    if args.tensors.tensor.is_empty() {
        refuse_scaled(&source, &chosen)?;
    }
    let mut sources = [(source, chosen)];
    let mut resources = norm::resources(&args.effort, args.quiet, &sources, 2)?;
    let [(source, chosen)] = &mut sources;
    // Output errors are found before the norms are computed.
    let mut target = Target::create(source, &args.output)?;
    let (plan, told) = match &args.axes {
        Some(axes) => (Plan::Slices(axes.clone()), format!("norms along {axes:?}")),
        None => whole_plan(args, &limit, source, chosen, &mut resources)?,
    };
    for file in 0..source.files.len() {
        target
            .write(file, |out| rewrite(args, &limit, out, (source, file), (chosen, &plan), &mut resources))?;
    }
    let direct = target.is_direct();
    target.commit(None)?;
    resources.end_progress();
    if args.quiet {
        return Ok(());
    }
    let tensors = chosen.len();
    let noun = if tensors == 1 { "tensor" } else { "tensors" };
    let (device, whole) = (resources.device().info(), resources.start().elapsed().as_secs_f64());
    let report =
        format!("{tensors} {noun}: {told}, limited to {} ({}); {device}; {whole:.3} s", args.max, limit.kind);
    match direct {
        true => say(&report),
        // The output is complete: a closed stdout is not a failure.
        false => drop(writeln!(std::io::stdout(), "{}", printable(&report))),
    }
    Ok(())
}

/// The scaling of each tensor, and the report on their norms.
fn whole_plan(
    args: &ClipNorm,
    limit: &NormLimit,
    source: &mut Source,
    chosen: &[Place],
    resources: &mut Resources,
) -> Result<(Plan, String)> {
    let mut all = NormState::wide(limit.kind);
    let elements = chosen.iter().map(|&place| source.element(place)).collect::<Result<Vec<_>>>()?;
    let to = ElementType::of_norm(elements.iter().copied());
    let (mut scalings, mut len) = (Vec::new(), 0);
    let mut odd = NonFiniteTensors::default();
    for (&place, &element) in chosen.iter().zip(&elements) {
        let state = norm::state_of(source, place, limit.kind, resources)?;
        let count = source.entry(place).shape.len();
        // A common norm has the tensors' common type.
        let of = if args.per_tensor { ElementType::of_norm([element]) } else { to };
        let (norm, scaling) = scaling(&state, of, count, args, limit)?;
        // No warning for tensors that are kept: an infinite norm within an infinite limit.
        let is_kept = scaling == Scaling::Keep && limit.nonfinite == NonFinitePolicy::Propagate;
        if !norm.is_finite() && !is_kept {
            odd.add(&source.describe(place), norm);
        }
        scalings.push(scaling);
        all.merge(&state)?;
        len += count;
    }
    let (norm, common) = scaling(&all, to, len, args, limit)?;
    let is_kept = common == Scaling::Keep && limit.nonfinite == NonFinitePolicy::Propagate;
    if !norm.is_finite() && odd.count == 0 && !is_kept && !args.per_tensor {
        odd.add("all tensors together", norm);
    }
    if odd.count > 0 && limit.nonfinite == NonFinitePolicy::Error {
        return Err(Error::NonFiniteNorm { what: odd.described() }.into());
    }
    odd.warn(limit.nonfinite);
    if args.per_tensor {
        let count = |is: fn(&Scaling<f64>) -> bool| scalings.iter().filter(|&scaling| is(scaling)).count();
        let scaled = count(|scaling| matches!(scaling, Scaling::By(_)));
        let zeroed = match count(|scaling| *scaling == Scaling::Zero) {
            0 => String::new(),
            zeroed => format!(", {zeroed} set to zero"),
        };
        return Ok((Plan::Whole(scalings), format!("{scaled} scaled by norms of their own{zeroed}")));
    }
    let told = match common {
        Scaling::Keep => "kept",
        Scaling::Zero => "set to zero",
        Scaling::By(_) => "scaled",
    };
    let norm = norm::rounded(&all, to)?.text;
    Ok((Plan::Whole(vec![common; chosen.len()]), format!("norm {norm}, {told}")))
}

/// The tensors whose norms are not finite.
#[derive(Default)]
struct NonFiniteTensors {
    /// The first, and its norm.
    first: String,
    norm: f64,
    count: usize,
}

impl NonFiniteTensors {
    fn add(&mut self, what: &str, norm: f64) {
        if self.count == 0 {
            (self.first, self.norm) = (what.trim_end_matches(',').to_owned(), norm);
        }
        self.count += 1;
    }

    fn described(&self) -> String {
        match self.count {
            0 | 1 => self.first.clone(),
            count => format!("{} (the first of {count})", self.first),
        }
    }

    /// Warns about them, and says how they are treated.
    fn warn(&self, policy: NonFinitePolicy) {
        if self.count == 0 {
            return;
        }
        let becomes = match policy {
            NonFinitePolicy::Propagate => "what is scaled by it becomes 0 or NaN",
            NonFinitePolicy::Zero => "what would be scaled by it is set to zero",
            NonFinitePolicy::Skip | NonFinitePolicy::Error => "what would be scaled by it is kept",
        };
        say(&format!(
            "warning: the norm of {} is {}: {becomes} (see --nonfinite)",
            self.described(),
            self.norm
        ));
    }
}

/// The norm of elements, and their scaling.
fn scaling(
    state: &NormState,
    to: ElementType,
    count: usize,
    args: &ClipNorm,
    limit: &NormLimit,
) -> Result<(f64, Scaling<f64>)> {
    fn of<N: Element>(
        state: &NormState,
        count: usize,
        average: bool,
        limit: &NormLimit,
    ) -> Result<(f64, Scaling<f64>)> {
        let norm = state.norm::<N>()?;
        let limited = if average { reference::average(norm, count.max(1)) } else { norm };
        Ok((norm.to_f64(), reference::scaling(limited, limit).to_f64()))
    }
    match to {
        ElementType::F64 => of::<f64>(state, count, args.average, limit),
        _ => of::<f32>(state, count, args.average, limit),
    }
}

/// Writes a file with the selected tensors scaled.
fn rewrite(
    args: &ClipNorm,
    limit: &NormLimit,
    out: &mut dyn Write,
    (source, number): (&mut Source, usize),
    (chosen, plan): (&[Place], &Plan),
    resources: &mut Resources,
) -> Result<()> {
    let to = Conversions::new();
    let (order, mut writer) = (source.files[number].order(&to), source.files[number].writer(out, &to)?);
    let place_of = |index| Place { file: number, index };
    let nth = |index| chosen.iter().position(|&place| place == place_of(index));
    match plan {
        Plan::Whole(scalings) => {
            let mut pipeline = Pipeline::new(resources, writer);
            for index in order {
                let work = match nth(index).map(|n| scalings[n]) {
                    None | Some(Scaling::Keep) => {
                        pipeline.copy(index)?;
                        continue;
                    }
                    Some(Scaling::Zero) => Work::Scale(None),
                    Some(Scaling::By(coefficient)) => Work::Scale(Some(coefficient.to_bits())),
                };
                let (entry, what) = (source.entry(place_of(index)).clone(), source.describe(place_of(index)));
                let element = source.element(place_of(index))?;
                let kind = Kind { element, work, lo: Side::Absent, hi: Side::Absent };
                source.files[number].elements(index, &mut |from| {
                    let tensor = (&what[..], kind, entry.shape.len());
                    let from = (from, entry.layout, entry.layout);
                    pipeline.push(index, tensor, from, &mut Operands::default())
                })?;
            }
            pipeline.finish()
        }
        Plan::Slices(axes) => {
            for index in order {
                match nth(index) {
                    None => writer.copy(index)?,
                    Some(_) => with_element!(source.element(place_of(index))?, T => {
                        let by = (&axes[..], args.average, limit);
                        write_slices::<T>(source, place_of(index), &mut *writer, by, resources)?;
                    }),
                }
            }
            writer.finish()
        }
    }
}

/// Writes a tensor with each slice scaled by its norm.
fn write_slices<T: Element>(
    source: &mut Source,
    place: Place,
    writer: &mut dyn TensorWriter,
    (axes, average, limit): (&[i64], bool, &NormLimit),
    resources: &mut Resources,
) -> Result<()> {
    let (entry, what) = (source.entry(place).clone(), source.describe(place));
    let axes = norm::axes_of(axes, entry.shape.dims().len(), &what)?;
    let (device, room) = (resources.device().clone(), resources.room());
    writer.begin(place.index)?;
    norm::parts::<T>(source, place, &axes, room, &mut |x, dims| {
        let x = device.tensor_from_vec(x, dims)?;
        let clipped = match average {
            true => x.clip_by_average_norm(*limit, &axes[..]),
            false => x.clip_by_norm(*limit, &axes[..]),
        };
        let clipped = clipped.and_then(Tensor::into_vec).with_context(|| what.clone())?;
        resources.progress(2 * size_of_val(&clipped[..]));
        writer.write(bytemuck::cast_slice(&entry.layout.encode(clipped, &Shape::new(dims)?)))
    })
}
