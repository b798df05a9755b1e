//! The state of a run of `clip` or `backward`: its device, its bounds, and the totals over its tensors.

use std::collections::HashMap;
use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result};
use wgclip::bounds::{BoundRounding, Number};
use wgclip::{Bound, Bounds, Device, Element, ElementType, Shape, with_element};

use crate::args::{Choice, Common, Interval, Limit};
use crate::batch::Side;
use crate::bound_text::{self, BoundError};
use crate::files::{Entry, printable};
use crate::operand::{self, Operand, Role};
use crate::quantile::{OfSlices, passes, quantiles};
use crate::report::Report;
use crate::resources::{Resources, Warnings};
use crate::say;
use crate::select::Selection;
use crate::source::{Place, Source};

/// Elements of a tensor that is large enough for its own kind of batch, if its bound in a file is a single element.
const LARGE: usize = 1 << 18;

/// The settings of a run.
#[derive(Clone, Copy)]
pub(crate) struct Settings<'a> {
    pub interval: &'a Interval,
    pub choice: &'a Choice,
    pub device: &'a str,
    pub quiet: bool,
    /// The type that elements are converted to.
    pub to: Option<ElementType>,
    /// What is done to them, as the summary calls it.
    pub work: &'static str,
}

impl<'a> Settings<'a> {
    pub(crate) fn of(args: &'a Common) -> Self {
        let Common { interval, choice, device, quiet } = args;
        Self { interval, choice, device, quiet: *quiet, to: None, work: "the clip" }
    }
}

pub(crate) struct Session<'a> {
    args: Settings<'a>,
    pub resources: Resources,
    pub bounds: BoundSources<'a>,
    left: usize,
    kept: Vec<(String, String)>,
}

/// Where the bounds of tensors come from.
pub(crate) struct BoundSources<'a> {
    interval: &'a Interval,
    /// The type that elements are converted to.
    to: Option<ElementType>,
    /// Bounds that are numbers, for each type.
    values: HashMap<ElementType, [Side; 2]>,
    /// The files of other bounds.
    files: [Option<Source>; 2],
    /// Bytes that may be held in memory.
    memory: u64,
    warnings: Warnings,
}

impl<'a> Session<'a> {
    /// Checks the bounds against the types, and opens the device.
    pub(crate) fn new(
        args: Settings<'a>,
        start: Instant,
        source: &Source,
        selection: &Selection,
    ) -> Result<Self> {
        let axes = args.interval.axes.as_deref();
        let has_quantile = match args.interval.shares() {
            [None, None] if axes.is_some() => return Err(BoundError::Axes.into()),
            [Some(lower), Some(upper)] if lower > upper => return Err(BoundError::Crossed.into()),
            shares => shares != [None; 2],
        };
        let mut values = HashMap::new();
        let (mut inverted, mut bytes) = (false, 0);
        for &place in &selection.chosen {
            let size = source.entry(place).size();
            bytes += source.entry(place).bytes() * if has_quantile { 1 + passes(size, axes) } else { 1 };
            let element = source.element(place)?;
            if values.contains_key(&element) {
                continue;
            }
            let (sides, crossed) = with_element!(element, T => numbers::<T>(args.interval, args.to)?);
            inverted |= crossed;
            values.insert(element, sides);
        }
        if inverted {
            say("warning: --min is above --max, so every number becomes --max");
        }
        let file = |limit: Option<&Limit>| {
            limit
                .and_then(Limit::file)
                .map(|path| Source::open(path, args.choice.tensors.assumed))
                .transpose()
        };
        let [min, max] = args.interval.sides();
        let resources = Resources::new(args.device, args.choice.memory, args.quiet, start, bytes)?;
        let bounds = BoundSources {
            interval: args.interval,
            to: args.to,
            values,
            files: [file(min)?, file(max)?],
            memory: resources.memory() / 4,
            warnings: Warnings::default(),
        };
        Ok(Self { args, resources, bounds, left: selection.left, kept: selection.kept.clone() })
    }

    /// Prints the summary: to stdout, or to stderr if the tensor may have gone to stdout.
    pub(crate) fn report(self, direct: bool) {
        self.resources.end_progress();
        if self.args.quiet {
            return;
        }
        let cost = self.resources.cost();
        let report = Report {
            counts: cost.counts,
            to: self.args.to,
            work: self.args.work,
            has_bounds: self.args.interval.sides().iter().any(Option::is_some) || self.args.to.is_some(),
            left: self.left,
            kept: self.kept,
            device: self.resources.device().info(),
            whole: self.resources.start().elapsed(),
            clip: cost.time,
            bytes: cost.bytes,
        };
        match direct {
            true => say(&report.to_string()),
            // The output is complete: a closed stdout is not a failure.
            false => drop(writeln!(std::io::stdout(), "{}", printable(&report.to_string()))),
        }
    }
}

impl BoundSources<'_> {
    /// The roles of the two files of bounds.
    fn roles(&self) -> [Role; 2] {
        let rounding = (self.interval.rounding(), self.to);
        [Role::Lower(rounding), Role::Upper(rounding)]
    }

    /// The bounds of a tensor, and the operands to read for those that are not numbers. Quantiles are those of `x`.
    pub(crate) fn of(
        &mut self,
        (entry, element, what): (&Entry, ElementType, &str),
        x: (&mut Source, Place),
        progress: &mut dyn FnMut(usize),
    ) -> Result<[(Side, Option<Operand>); 2]> {
        let numbers = self.values.get(&element).copied().unwrap_or([Side::Absent; 2]);
        let mut sides = [(numbers[0], None), (numbers[1], None)];
        with_element!(element, T => {
            let found = self.quantiles::<T>(x, progress)?;
            let slices = found.each_ref().map(|found| found.as_ref().map_or(&[][..], |(values, _)| values));
            let [lo, hi] = [0, 1].map(|n| move |slice: usize| slices[n].get(slice).copied().or(numbers[n].value::<T>()));
            if (0..slices[0].len().max(slices[1].len())).any(|n| lo(n) > hi(n) && hi(n).is_some()) {
                self.warn_of_order(what);
            }
            for (side, quantile) in sides.iter_mut().zip(found) {
                *side = match quantile {
                    None => continue,
                    // NaN if there are no numbers, and so nothing to clip.
                    Some((values, _)) if values.len() == 1 && values[0].is_nan() => (Side::Absent, None),
                    Some((values, _)) if values.len() == 1 => (Side::Value(Element::to_bits(values[0])), None),
                    Some((values, shape)) => (Side::PerElement, Some(Operand::held(&values, &shape, entry)?)),
                };
            }
        });
        let (memory, roles) = (self.memory, self.roles());
        for (n, side) in sides.iter_mut().enumerate() {
            let Some((bounds, place)) = self.bound_of(n, entry, element)? else { continue };
            let beside = (entry, element, what);
            let operand =
                Operand::open(&mut bounds.files[place.file], place.index, beside, roles[n], memory)?;
            let value = operand.only().filter(|&bits| {
                entry.shape.len() >= LARGE
                    && !with_element!(element, T => <T as Element>::from_bits(bits).is_nan())
            });
            *side = value.map_or((Side::PerElement, Some(operand)), |bits| (Side::Value(bits), None));
        }
        Ok(sides)
    }

    /// The quantiles of a tensor that are its lower and its upper bound, if any.
    fn quantiles<T: Element>(
        &self,
        x: (&mut Source, Place),
        progress: &mut dyn FnMut(usize),
    ) -> Result<[Option<OfSlices<T>>; 2]> {
        let shares = self.interval.shares();
        let wanted: Vec<_> = shares.into_iter().flatten().collect();
        if wanted.is_empty() {
            return Ok([None, None]);
        }
        let axes = self.interval.axes.as_deref();
        let Some(found) = quantiles::<T>(x, &wanted, axes, self.memory, progress)? else {
            // NaN, since there are no numbers, and so nothing to clip.
            let nan = || {
                Ok::<_, anyhow::Error>((vec![T::from_bits(T::TYPE.layout().quiet_nan())], Shape::new([])?))
            };
            let [lo, hi] = shares.map(|share| share.filter(|_| T::TYPE.is_float()).map(|_| nan()));
            return Ok([lo.transpose()?, hi.transpose()?]);
        };
        let mut found = found.into_iter();
        Ok(shares.map(|share| share.and_then(|_| found.next())))
    }

    fn warn_of_order(&mut self, what: &str) {
        if self.interval.shares() != [None; 2] {
            self.warnings.say(format!("--min is above --max in {what}, where every number becomes --max"));
        }
    }

    /// The bounds of a whole tensor of type `T`, on the device. Quantiles are those of `x`.
    pub(crate) fn whole<T: Element>(
        &mut self,
        entry: &Entry,
        x: (&mut Source, Place),
        device: &Device,
    ) -> Result<Bounds<T>> {
        let numbers = self.values.get(&T::TYPE).copied().unwrap_or([Side::Absent; 2]);
        let mut whole = numbers.map(|side| Bound::from(side.value::<T>()));
        for (side, quantile) in whole.iter_mut().zip(self.quantiles::<T>(x, &mut |_| ())?) {
            if let Some((values, shape)) = quantile {
                *side = Bound::Tensor(device.tensor_from_vec(values, shape.dims())?);
            }
        }
        let roles = self.roles();
        for (n, side) in whole.iter_mut().enumerate() {
            let Some((bounds, place)) = self.bound_of(n, entry, T::TYPE)? else { continue };
            let file = &mut bounds.files[place.file];
            let (data, shape) = operand::read_whole::<T>(file, place.index, roles[n])?;
            *side = Bound::Tensor(device.tensor_from_vec(data, shape.dims())?);
        }
        let [lo, hi] = whole;
        Ok(Bounds::new(lo, hi)?)
    }

    /// The tensor with the lower or the upper bounds of another: the only one in its file, or the one with the other's name.
    fn bound_of(
        &mut self,
        n: usize,
        entry: &Entry,
        element: ElementType,
    ) -> Result<Option<(&mut Source, Place)>> {
        let Some(bounds) = &self.files[n] else { return Ok(None) };
        let (path, name) = (bounds.path().display(), &entry.name);
        let place = bounds.only().or_else(|| bounds.find(name)).with_context(|| match &name[..] {
            "" => format!("{path} holds several tensors: give a file of one"),
            name => format!(
                "{path} holds no bound for tensor '{name}': add one, or leave the tensor out with --except"
            ),
        })?;
        let from = bounds.element(place)?;
        if from != element {
            self.warnings.say(format!(
                "{path} holds {from}: its bounds are rounded to {element}, the type of what they bound"
            ));
        }
        Ok(self.files[n].as_mut().map(|bounds| (bounds, place)))
    }
}

/// The bounds that are numbers, and whether they are crossed. Warns of bounds that the type, or the type that elements are converted to, cannot hold.
fn numbers<T: Element>(interval: &Interval, to: Option<ElementType>) -> Result<([Side; 2], bool)> {
    let (texts, rounding) =
        (interval.sides().map(|limit| limit.and_then(Limit::number)), interval.rounding());
    let mut bounds = bound_text::bounds::<T>(texts[0], texts[1], rounding)?;
    let to = to.filter(|&to| to != T::TYPE);
    match to {
        None => warn_of_moved(texts, &bounds, rounding),
        Some(to) => with_element!(to, U => {
            let converted = bound_text::bounds::<U>(texts[0], texts[1], rounding)?;
            warn_of_moved(texts, &converted, rounding);
            if rounding == BoundRounding::Inward {
                // A bound that both types can represent, so that the conversion does not round beyond it.
                let number = |bound: &Bound<U>| bound.value().map(|value| Number::Float(Element::to_f64(value)));
                let (lo, hi) = (number(converted.lo()), number(converted.hi()));
                let lo = lo.map_or(Ok(Bound::Absent), |number| Bound::lower_rounded(number, rounding))?;
                let hi = hi.map_or(Ok(Bound::Absent), |number| Bound::upper_rounded(number, rounding))?;
                bounds = Bounds::new(lo, hi)?;
            }
        }),
    }
    let side = |bound: &Bound<T>| bound.value().map_or(Side::Absent, |value| Side::Value(value.to_bits()));
    Ok(([side(bounds.lo()), side(bounds.hi())], bounds.is_inverted()))
}

/// Warns of bounds that differ from their texts.
fn warn_of_moved<T: Element>(texts: [Option<&str>; 2], bounds: &Bounds<T>, rounding: BoundRounding) {
    for (option, text, bound) in [("--min", texts[0], bounds.lo()), ("--max", texts[1], bounds.hi())] {
        let told = text.zip(bound.value()).and_then(|(text, value)| {
            Some((text, bound_text::surprise(option == "--max", text, value, rounding)?))
        });
        if let Some((text, becomes)) = told {
            say(&format!("warning: {option} {text} becomes {becomes}, in {}", T::TYPE));
        }
    }
}
