//! What a run of `clip` or `backward` has: its device, its bounds, and what it gathers over its tensors.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};
use wgclip::{Bound, Bounds, Device, DeviceKind, Element, ElementType, with_element};

use crate::args::{Choice, Common, Interval, Limit};
use crate::batch::{Batch, Cost, Side};
use crate::bound_text;
use crate::files::{Entry, printable};
use crate::operand::{self, Operand, Role};
use crate::progress;
use crate::report::Report;
use crate::say;
use crate::select::Selection;
use crate::source::{Place, Source};

/// The share of the memory that an operand of a batch may take: each batch has up to four, and several batches are alive.
const SHARE: u64 = 64;

/// The least memory that a run takes.
const LEAST: u64 = 1 << 20;

/// Bytes of a batch. On the CPU what was read is still in the cache when it is clipped and written.
const LARGEST_ON_CPU: u64 = 2 << 20;
const LARGEST_ON_GPU: u64 = 16 << 20;

/// Elements of a tensor that is large enough to be a batch of its own kind, where a file gives it a bound of one element.
const LARGE: usize = 1 << 18;

/// What a run is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Settings<'a> {
    pub interval: &'a Interval,
    pub choice: &'a Choice,
    pub device: &'a str,
    pub quiet: bool,
    /// The type that elements are converted to.
    pub to: Option<ElementType>,
}

impl<'a> Settings<'a> {
    pub(crate) fn of(args: &'a Common) -> Self {
        let Common { interval, choice, device, quiet } = args;
        Self { interval, choice, device, quiet: *quiet, to: None }
    }
}

pub(crate) struct Session<'a> {
    args: Settings<'a>,
    device: Device,
    memory: u64,
    start: Instant,
    /// The bounds that are numbers, for each type.
    values: HashMap<ElementType, [Side; 2]>,
    /// The files of bounds.
    files: [Option<Source>; 2],
    warned: HashSet<String>,
    cost: Cost,
    bar: progress::Bytes,
    left: usize,
    kept: Vec<(String, String)>,
}

impl<'a> Session<'a> {
    /// Checks the bounds against the types, and opens the device.
    pub(crate) fn new(
        args: Settings<'a>,
        start: Instant,
        source: &Source,
        selection: &Selection,
    ) -> Result<Self> {
        let mut values = HashMap::new();
        let (mut inverted, mut bytes) = (false, 0);
        for &place in &selection.chosen {
            bytes += source.entry(place).bytes();
            let element = source.element(place)?;
            if values.contains_key(&element) {
                continue;
            }
            let (sides, crossed) = with_element!(element, T => numbers::<T>(args.interval)?);
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
        Ok(Self {
            args,
            device: Device::select(args.device)?,
            memory: args.choice.memory.map_or_else(quarter_of_memory, |memory| memory.as_u64()).max(LEAST),
            start,
            values,
            files: [file(min)?, file(max)?],
            warned: HashSet::new(),
            cost: Cost::default(),
            bar: progress::Bytes::new(bytes),
            left: selection.left,
            kept: selection.kept.clone(),
        })
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// What the two files of bounds are.
    fn roles(&self) -> [Role; 2] {
        let rounding = self.args.interval.rounding();
        [Role::Lower(rounding), Role::Upper(rounding)]
    }

    /// Memory that the run may take.
    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }

    /// Bytes of the elements of a batch.
    pub(crate) fn batch_bytes(&self) -> usize {
        let info = self.device.info();
        let largest = match info.kind {
            DeviceKind::Cpu => LARGEST_ON_CPU,
            _ => info.limits.map_or(LARGEST_ON_GPU, |limits| limits.max_buffer_bytes.min(LARGEST_ON_GPU)),
        };
        (self.memory / SHARE).clamp(64 << 10, largest) as usize
    }

    /// Batches that the device has at once: one is uploaded while another is clipped and a third read.
    pub(crate) fn in_flight(&self) -> usize {
        if self.device.info().kind == DeviceKind::Cpu { 1 } else { 3 }
    }

    /// The bounds of a tensor, and what is to be read for those that are not numbers.
    pub(crate) fn bounds(
        &mut self,
        entry: &Entry,
        element: ElementType,
        what: &str,
    ) -> Result<[(Side, Option<Operand>); 2]> {
        let numbers = self.values.get(&element).copied().unwrap_or([Side::Absent; 2]);
        let mut sides = [(numbers[0], None), (numbers[1], None)];
        let (memory, roles) = (self.memory / 4, self.roles());
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

    /// The bounds of a whole tensor of type `T`, on the device.
    pub(crate) fn whole_bounds<T: Element>(&mut self, entry: &Entry, what: &str) -> Result<Bounds<T>> {
        let numbers = self.values.get(&T::TYPE).copied().unwrap_or([Side::Absent; 2]);
        let mut whole = numbers.map(|side| Bound::from(side.value::<T>()));
        let roles = self.roles();
        for (n, side) in whole.iter_mut().enumerate() {
            let Some((bounds, place)) = self.bound_of(n, entry, T::TYPE)? else { continue };
            let file = &mut bounds.files[place.file];
            let (data, shape) = operand::read_whole::<T>(file, place.index, what, roles[n])?;
            *side = Bound::Tensor(self.device.tensor_from_vec(data, shape.dims())?);
        }
        let [lo, hi] = whole;
        Ok(Bounds::new(lo, hi)?)
    }

    /// The tensor that has the lower or the upper bounds of another: the only one of its file, or that of the other's name.
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
        if from != element && from.is_float() && element.is_float() {
            self.warn(format!(
                "{path} holds {from}: its bounds are rounded to {element}, the type of what they bound"
            ));
        }
        Ok(self.files[n].as_mut().map(|bounds| (bounds, place)))
    }

    /// Says something once.
    fn warn(&mut self, text: String) {
        if self.warned.insert(text.clone()) {
            say(&format!("warning: {text}"));
        }
    }

    pub(crate) fn begin(&mut self, batch: &mut dyn Batch) -> Result<()> {
        let cost = batch.begin(&self.device, !self.args.quiet)?;
        self.add(cost);
        self.warn_of_nan(cost.nan_bounds);
        Ok(())
    }

    /// Says whether the lower or the upper bounds hold NaN.
    pub(crate) fn warn_of_nan(&mut self, is_nan: [bool; 2]) {
        for (option, _) in ["--min", "--max"].iter().zip(is_nan).filter(|(_, is_nan)| *is_nan) {
            self.warn(format!("the bounds of {option} hold NaN, which becomes the result there"));
        }
    }

    pub(crate) fn finish(&mut self, batch: &mut dyn Batch) -> Result<()> {
        let cost = batch.finish()?;
        self.add(cost);
        Ok(())
    }

    /// Adds what work outside of a batch cost.
    pub(crate) fn add(&mut self, cost: Cost) {
        self.cost.counts = self.cost.counts + cost.counts;
        self.cost.time += cost.time;
        self.cost.bytes += cost.bytes;
    }

    /// Bytes that were read and are written.
    pub(crate) fn progress(&mut self, bytes: usize) {
        if !self.args.quiet {
            self.bar.add(bytes);
        }
    }

    /// Prints what was done: to stdout, or to stderr where the tensor may have gone to stdout.
    pub(crate) fn report(self, direct: bool) {
        self.bar.finish();
        if self.args.quiet {
            return;
        }
        let report = Report {
            counts: self.cost.counts,
            to: self.args.to,
            left: self.left,
            kept: self.kept,
            device: self.device.info(),
            whole: self.start.elapsed(),
            clip: self.cost.time,
            bytes: self.cost.bytes,
        };
        match direct {
            true => say(&report.to_string()),
            // The work is done and in place: a closed stdout makes no failure of it.
            false => drop(writeln!(std::io::stdout(), "{}", printable(&report.to_string()))),
        }
    }
}

/// The bounds that are numbers, and whether they are crossed. Warns of those that the type cannot hold.
fn numbers<T: Element>(interval: &Interval) -> Result<([Side; 2], bool)> {
    let [min, max] = interval.sides().map(|limit| limit.and_then(Limit::number));
    let bounds = bound_text::bounds::<T>(min, max, interval.rounding())?;
    for (option, text, bound) in [("--min", min, bounds.lo()), ("--max", max, bounds.hi())] {
        let told = text.zip(bound.value()).and_then(|(text, value)| {
            Some((text, bound_text::surprise(option == "--max", text, value, interval.rounding())?))
        });
        if let Some((text, becomes)) = told {
            say(&format!("warning: {option} {text} becomes {becomes}, in {}", T::TYPE));
        }
    }
    let side = |bound: &Bound<T>| bound.value().map_or(Side::Absent, |value| Side::Value(value.to_bits()));
    Ok(([side(bounds.lo()), side(bounds.hi())], bounds.is_inverted()))
}

/// What is taken where nothing is said: less than what is free on most machines.
fn quarter_of_memory() -> u64 {
    let refresh = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(refresh);
    // A container may have less than its machine.
    let total = system.cgroup_limits().map_or(system.total_memory(), |limits| limits.total_memory);
    total / 4
}
