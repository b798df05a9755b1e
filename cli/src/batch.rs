//! What goes to the device at once: elements of one type between bounds of one kind, of one tensor or of many.

use std::io::Read;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use wgclip::bounds::BroadcastInputs;
use wgclip::device::DeviceKind;
use wgclip::op::{Arguments, Op, Operand as Of};
use wgclip::reference::Scaling;
use wgclip::{BackwardRule, Bound, Device, DynTensor, Element, ElementType, Shape, cpu, with_element};

use crate::files::{Layout, unreadable};
use crate::operand::Operand;
use crate::report::Counts;

/// What is done to elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    /// They are clipped.
    Clip,
    /// The same, into another type.
    ClipTo(ElementType),
    /// They are upstream gradients, of which those of x are made.
    Backward(BackwardRule),
    /// A function of the list is applied to them, with the parameter of f64 with these bits, if it takes one.
    Activate(Op, Option<u64>),
    /// They are multiplied by the coefficient of f64 with these bits, or set to zero.
    Scale(Option<u64>),
}

/// A bound of the elements of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    Absent,
    /// The bits of one value for all.
    Value(u64),
    /// Each element has its own.
    PerElement,
}

impl Side {
    /// The one value.
    pub(crate) fn value<T: Element>(self) -> Option<T> {
        match self {
            Self::Value(bits) => Some(T::from_bits(bits)),
            _ => None,
        }
    }
}

/// What elements must have in common to be in one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    pub element: ElementType,
    pub work: Work,
    pub lo: Side,
    pub hi: Side,
}

/// What is read beside the elements.
#[derive(Default)]
pub(crate) struct Operands {
    /// In a backward pass.
    pub x: Option<Operand>,
    /// Where each element has a bound of its own.
    pub lo: Option<Operand>,
    pub hi: Option<Operand>,
}

/// What a batch took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub counts: Counts,
    pub time: Duration,
    /// Of all operands, those read and the one made.
    pub bytes: usize,
    /// Whether the lower and the upper bounds of the elements hold NaN.
    pub nan_bounds: [bool; 2],
}

/// Bytes that are aligned to elements of any type.
#[derive(Default)]
struct Aligned(Vec<u64>);

impl Aligned {
    fn bytes(&self, range: Range<usize>) -> &[u8] {
        &bytemuck::cast_slice(&self.0)[range]
    }

    fn bytes_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.0)[range]
    }

    /// Room for bytes, where there may have been others.
    fn grow(&mut self, len: usize) {
        let words = len.div_ceil(size_of::<u64>());
        if self.0.len() < words {
            self.0.resize(words, 0);
        }
    }
}

/// Elements on their way through the device: they are read, [begun](Self::begin), [done](Self::finish) and written.
pub(crate) struct Batch {
    kind: Kind,
    room: usize,
    elements: Aligned,
    x: Aligned,
    lo: Aligned,
    hi: Aligned,
    /// Ranges of elements whose byte order is not to be this machine's.
    swapped: Vec<Range<usize>>,
    on_device: Option<DynTensor>,
    /// What came out, where that has another type than the elements.
    converted: Aligned,
    /// Elements that went in, and those that were written.
    taken: usize,
    written: usize,
}

impl Batch {
    /// An empty one for so many elements.
    pub(crate) fn new(kind: Kind, room: usize) -> Self {
        let [elements, x, lo, hi, converted] = [const { Aligned(Vec::new()) }; 5];
        let (swapped, on_device) = (Vec::new(), None);
        Self { kind, room, elements, x, lo, hi, swapped, on_device, converted, taken: 0, written: 0 }
    }

    /// Elements that it has room for.
    pub(crate) fn room(&self) -> usize {
        self.room - self.taken
    }

    /// The bytes of the elements that are in it.
    fn all(&self) -> Range<usize> {
        0..self.taken * self.kind.element.size()
    }

    /// Those of a bound, where each element has its own.
    fn per_element(&self, side: Side) -> Range<usize> {
        if side == Side::PerElement { self.all() } else { 0..0 }
    }

    fn lo(&self) -> &[u8] {
        self.lo.bytes(self.per_element(self.kind.lo))
    }

    fn hi(&self) -> &[u8] {
        self.hi.bytes(self.per_element(self.kind.hi))
    }

    /// The type that comes out, where that is another.
    fn converts(&self) -> Option<ElementType> {
        match self.kind.work {
            Work::ClipTo(to) => Some(to),
            _ => None,
        }
    }

    /// Reads a part of the elements of a tensor. They lie in one layout, and are to lie in another.
    pub(crate) fn read(
        &mut self,
        name: &str,
        part: Range<usize>,
        (from, layout, written): (&mut dyn Read, Layout, Layout),
        operands: &mut Operands,
    ) -> Result<()> {
        let (size, before) = (self.kind.element.size(), self.taken);
        self.taken += part.len();
        if written.swapped {
            self.swapped.push(before..self.taken);
        }
        let new = before * size..self.taken * size;
        self.elements.grow(new.end);
        let elements = self.elements.bytes_mut(new.clone());
        from.read_exact(elements).map_err(|error| unreadable(name, error))?;
        layout.swap_bytes(size, elements);
        for (operand, into) in [
            (&mut operands.x, &mut self.x),
            (&mut operands.lo, &mut self.lo),
            (&mut operands.hi, &mut self.hi),
        ] {
            if let Some(operand) = operand {
                into.grow(new.end);
                operand.fill(part.start, into.bytes_mut(new.clone()))?;
            }
        }
        Ok(())
    }

    /// Has the device begin. Counts where the elements lie if `count`.
    pub(crate) fn begin(&mut self, device: &Device, count: bool) -> Result<Cost> {
        let (counts, nan_bounds) = with_element!(self.kind.element, T => self.look::<T>(count));
        let start = Instant::now();
        match device.info().kind {
            DeviceKind::Cpu => self.run_on_cpu()?,
            _ => self.begin_on(device)?,
        }
        let made = self.taken * self.converts().unwrap_or(self.kind.element).size();
        let x = if matches!(self.kind.work, Work::Backward(_)) { self.all().len() } else { 0 };
        let bytes = self.all().len() + x + self.lo().len() + self.hi().len() + made;
        Ok(Cost { counts, bytes, nan_bounds, time: start.elapsed() })
    }

    /// Counts the elements before they are clipped if `count`, and tells whether the lower and the upper bounds hold NaN.
    fn look<T: Element>(&self, count: bool) -> (Counts, [bool; 2]) {
        let [each_lo, each_hi]: [&[T]; 2] = [self.lo(), self.hi()].map(bytemuck::cast_slice);
        let nan_bounds = [each_lo, each_hi].map(|bound| bound.iter().any(|bound| bound.is_nan()));
        let x = match self.kind.work {
            Work::Backward(_) => self.x.bytes(self.all()),
            _ => self.elements.bytes(self.all()),
        };
        if !count || matches!(self.kind.work, Work::Scale(_)) {
            return (Counts::default(), nan_bounds);
        }
        let (x, lo, hi) =
            (bytemuck::cast_slice(x), (self.kind.lo.value(), each_lo), (self.kind.hi.value(), each_hi));
        let counts = Counts::between(x, lo, hi);
        (self.converts().map_or(counts, |to| counts.with_saturated(x, lo, hi, to)), nan_bounds)
    }

    /// How elements are scaled that are not clipped.
    fn scaling(&self) -> Scaling<f64> {
        match self.kind.work {
            Work::Scale(Some(bits)) => Scaling::By(f64::from_bits(bits)),
            _ => Scaling::Zero,
        }
    }

    /// The operation of the list, and its rule; scaling is none.
    fn op(&self) -> Option<(Op, BackwardRule)> {
        match self.kind.work {
            Work::Clip => Some((Op::Clip, BackwardRule::default())),
            Work::ClipTo(_) => Some((Op::ClipTo, BackwardRule::default())),
            Work::Backward(rule) => Some((Op::ClipBackward, rule)),
            Work::Activate(op, _) => Some((op, BackwardRule::default())),
            Work::Scale(_) => None,
        }
    }

    /// The parameters of the operation.
    fn params(&self) -> Vec<f64> {
        match self.kind.work {
            Work::Activate(_, Some(bits)) => vec![f64::from_bits(bits)],
            _ => Vec::new(),
        }
    }

    /// The CPU works on the bytes where they are.
    fn run_on_cpu(&mut self) -> Result<()> {
        let (element, all, len) = (self.kind.element, self.all(), self.taken);
        let Some((op, rule)) = self.op() else {
            let scaling = self.scaling();
            return Ok(cpu::scale_list_in_place(&mut [(element, self.elements.bytes_mut(all))], scaling)?);
        };
        if rule.is_identity() {
            return Ok(());
        }
        let shape = Shape::new([len])?;
        let [lo, hi] = [self.per_element(self.kind.lo), self.per_element(self.kind.hi)];
        let bounds = [
            bound(self.kind.lo, (self.lo.bytes(lo), &shape)),
            bound(self.kind.hi, (self.hi.bytes(hi), &shape)),
        ];
        let row = op.info().broadcast;
        let broadcast = BroadcastInputs::of_bits(element, row, &shape, bounds.into_iter().take(row.len()))?;
        let (to, params) = (self.converts(), self.params());
        let arguments = Arguments { rule, to, params: &params, ..Arguments::new(&broadcast) };
        // In place, if not into another type.
        let (input, output) = match to {
            Some(to) => {
                let converted = 0..len * to.size();
                self.converted.grow(converted.end);
                (Some(self.elements.bytes(all)), self.converted.bytes_mut(converted))
            }
            None => {
                let x = (op == Op::ClipBackward).then(|| self.x.bytes(all.clone()));
                (x, self.elements.bytes_mut(all))
            }
        };
        Ok(cpu::run(op, len, input.as_slice(), &mut [Some(output)], &arguments)?)
    }

    /// Has a device begin.
    fn begin_on(&mut self, device: &Device) -> Result<()> {
        let element = self.kind.element;
        let tensor = |bytes: &[u8]| device.tensor_from_bytes(element, bytes, [self.taken]);
        let mut elements = tensor(self.elements.bytes(self.all()))?;
        let Some((op, rule)) = self.op() else {
            wgclip::norm::scale_in_place(&mut [&mut elements], self.scaling())?;
            self.on_device = Some(elements);
            return Ok(device.flush()?);
        };
        let shape = elements.shape().clone();
        // Without elements where there is one value for all.
        let each = |side, bytes: &[u8]| match side {
            Side::PerElement => tensor(bytes),
            _ => device.tensor_from_bytes(element, &[], [0]),
        };
        let (lo, hi) = (each(self.kind.lo, self.lo())?, each(self.kind.hi, self.hi())?);
        let bounds = [bound(self.kind.lo, (&lo, &shape)), bound(self.kind.hi, (&hi, &shape))];
        let row = op.info().broadcast;
        let broadcast = BroadcastInputs::of_bits(element, row, &shape, bounds.into_iter().take(row.len()))?;
        let (to, params) = (self.converts(), self.params());
        let arguments = Arguments { rule, to, params: &params, ..Arguments::new(&broadcast) };
        match op {
            Op::ClipTo => {
                let made = DynTensor::run(op, &[&elements], &[Of::Y], &arguments)?;
                elements = made.into_iter().next().context("nothing was made")?;
            }
            Op::ClipBackward => {
                let x = tensor(self.x.bytes(self.all()))?;
                elements.run_in_place(op, &[&x], &arguments)?;
            }
            _ => elements.run_in_place(op, &[], &arguments)?,
        }
        self.on_device = Some(elements);
        Ok(device.flush()?)
    }

    /// Waits for the device.
    pub(crate) fn finish(&mut self) -> Result<Cost> {
        let start = Instant::now();
        let size = self.converts().unwrap_or(self.kind.element).size();
        if let Some(tensor) = self.on_device.take() {
            let made = 0..self.taken * size;
            let out = self.made_mut();
            out.grow(made.end);
            tensor.copy_to(out.bytes_mut(made))?;
        }
        let time = start.elapsed();
        let layout = Layout { swapped: true, fortran: false };
        for range in std::mem::take(&mut self.swapped) {
            layout.swap_bytes(size, self.made_mut().bytes_mut(range.start * size..range.end * size));
        }
        Ok(Cost { time, ..Cost::default() })
    }

    /// What came out: in the place of the elements, unless it has another type.
    fn made_mut(&mut self) -> &mut Aligned {
        if self.converts().is_some() { &mut self.converted } else { &mut self.elements }
    }

    /// The next `len` elements that came out, as they are to lie in the file.
    pub(crate) fn write(&mut self, len: usize) -> &[u8] {
        let size = self.converts().unwrap_or(self.kind.element).size();
        let start = self.written;
        self.written += len;
        let range = start * size..self.written * size;
        self.made_mut().bytes_mut(range)
    }

    /// Whether all were written.
    pub(crate) fn is_written(&self) -> bool {
        self.written == self.taken
    }

    /// Makes it empty again. It keeps its memory.
    pub(crate) fn reset(&mut self) {
        (self.taken, self.written) = (0, 0);
    }
}

/// A bound, of elements of which each has its own where it is a tensor.
fn bound<B>(side: Side, each: B) -> Bound<u64, B> {
    match side {
        Side::Absent => Bound::Absent,
        Side::Value(bits) => Bound::Value(bits),
        Side::PerElement => Bound::Tensor(each),
    }
}
