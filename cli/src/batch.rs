//! What goes to the device at once: elements of one type between bounds of one kind, of one tensor or of many.

use std::io::Read;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::Result;
use wgclip::bounds::BroadcastInputs;
use wgclip::device::DeviceKind;
use wgclip::reference::Scaling;
use wgclip::{BackwardRule, Bound, Bounds, Device, Element, ElementType, Shape, Tensor, cpu, with_element};

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

/// Elements on their way through the device: they are read, [begun](Self::begin), [done](Self::finish) and written.
pub(crate) trait Batch {
    /// Elements that it has room for.
    fn room(&self) -> usize;

    /// Reads a part of the elements of a tensor. They lie in one layout, and are to lie in another.
    fn read(
        &mut self,
        name: &str,
        part: Range<usize>,
        from: (&mut dyn Read, Layout, Layout),
        operands: &mut Operands,
    ) -> Result<()>;

    /// Has the device begin. Counts where the elements lie if `count`.
    fn begin(&mut self, device: &Device, count: bool) -> Result<Cost>;

    /// Waits for the device.
    fn finish(&mut self) -> Result<Cost>;

    /// The next `len` elements that came out, as they are to lie in the file.
    fn write(&mut self, len: usize) -> &[u8];

    /// Whether all were written.
    fn is_written(&self) -> bool;

    /// Makes it empty again. It keeps its memory.
    fn reset(&mut self);
}

/// The new elements of a vector, which may have had others there.
fn make_room<T: Element>(elements: &mut Vec<T>, new: Range<usize>) -> &mut [T] {
    if elements.len() < new.end {
        elements.resize(new.end, T::ZERO);
    }
    &mut elements[new]
}

/// An empty batch for so many elements.
pub(crate) fn batch(kind: Kind, room: usize) -> Box<dyn Batch> {
    with_element!(kind.element, T => Box::new(Typed::<T>::new(kind, room)))
}

fn scaling(by: Option<u64>) -> Scaling<f64> {
    by.map_or(Scaling::Zero, |bits| Scaling::By(f64::from_bits(bits)))
}

struct Typed<T: Element> {
    kind: Kind,
    room: usize,
    elements: Vec<T>,
    x: Vec<T>,
    lo: Vec<T>,
    hi: Vec<T>,
    /// Ranges of elements whose byte order is not to be this machine's.
    swapped: Vec<Range<usize>>,
    on_device: Option<Box<dyn OnDevice>>,
    /// What came out, unless that is in the place of the elements.
    made: Option<Box<dyn Made>>,
    /// Elements that went in, and those that were written.
    taken: usize,
    written: usize,
}

/// A tensor of any type.
trait OnDevice {
    fn finish(self: Box<Self>) -> wgclip::Result<Box<dyn Made>>;
}

impl<U: Element> OnDevice for Tensor<U> {
    fn finish(self: Box<Self>) -> wgclip::Result<Box<dyn Made>> {
        Ok(Box::new(self.into_vec()?))
    }
}

/// Elements of any type.
trait Made {
    fn swap(&mut self, range: Range<usize>);

    fn bytes(&self, range: Range<usize>) -> &[u8];
}

impl<U: Element> Made for Vec<U> {
    fn swap(&mut self, range: Range<usize>) {
        Layout { swapped: true, fortran: false }.swap(&mut self[range]);
    }

    fn bytes(&self, range: Range<usize>) -> &[u8] {
        bytemuck::cast_slice(&self[range])
    }
}

impl<T: Element> Typed<T> {
    fn new(kind: Kind, room: usize) -> Self {
        Self {
            kind,
            room,
            elements: Vec::new(),
            x: Vec::new(),
            lo: Vec::new(),
            hi: Vec::new(),
            swapped: Vec::new(),
            on_device: None,
            made: None,
            taken: 0,
            written: 0,
        }
    }

    /// The lower bounds of the elements, where each has its own.
    fn lo(&self) -> &[T] {
        if self.kind.lo == Side::PerElement { &self.lo[..self.taken] } else { &[] }
    }

    /// The upper ones.
    fn hi(&self) -> &[T] {
        if self.kind.hi == Side::PerElement { &self.hi[..self.taken] } else { &[] }
    }

    /// Counts the elements that are clipped, before they are.
    fn count(&self) -> Counts {
        let x = match self.kind.work {
            Work::Scale(_) => return Counts::default(),
            Work::Backward(_) => &self.x[..self.taken],
            _ => &self.elements[..self.taken],
        };
        let (lo, hi) = ((self.kind.lo.value(), self.lo()), (self.kind.hi.value(), self.hi()));
        let counts = Counts::between(x, lo, hi);
        match self.kind.work {
            Work::ClipTo(to) => counts.with_saturated(x, lo, hi, to),
            _ => counts,
        }
    }

    /// Bytes of all operands, those read and the one made.
    fn bytes(&self) -> usize {
        let made = match self.kind.work {
            Work::ClipTo(to) => self.taken * to.size(),
            _ => self.taken * size_of::<T>(),
        };
        let x = if matches!(self.kind.work, Work::Backward(_)) { self.taken } else { 0 };
        (self.taken + x + self.lo().len() + self.hi().len()) * size_of::<T>() + made
    }

    /// The CPU works on the slices where they are.
    fn run_on_cpu(&mut self) -> Result<()> {
        let len = self.taken;
        let shape = Shape::new([len])?;
        let bound = |side: Side, each| match side {
            Side::Absent => Bound::Absent,
            Side::Value(bits) => Bound::Value(T::from_bits(bits)),
            Side::PerElement => Bound::Tensor((each, &shape)),
        };
        let (lo, hi) = (self.lo.get(..len).unwrap_or(&[]), self.hi.get(..len).unwrap_or(&[]));
        let (lo, hi) = (bound(self.kind.lo, lo), bound(self.kind.hi, hi));
        let bounds = BroadcastInputs::bounds::<T>(&shape, lo, hi)?;
        let elements = &mut self.elements[..len];
        match self.kind.work {
            Work::Clip => cpu::clip_in_place(elements, &bounds)?,
            Work::Backward(rule) if rule.is_identity() => {}
            Work::Scale(by) => cpu::scale_in_place(elements, scaling(by)),
            Work::Backward(rule) => cpu::clip_backward_in_place(&self.x[..len], elements, &bounds, rule)?,
            Work::ClipTo(to) => with_element!(to, U => {
                let mut converted = vec![<U as Element>::ZERO; len];
                cpu::clip_to(elements, &bounds, &mut converted)?;
                self.made = Some(Box::new(converted));
            }),
        }
        Ok(())
    }

    /// Has a device begin.
    fn begin_on(&mut self, device: &Device) -> Result<()> {
        let len = self.taken;
        let tensor = |data: &[T]| device.tensor(&data[..len], [len]);
        let bound = |side, each| match side {
            Side::Absent => Ok(Bound::Absent),
            Side::Value(bits) => Ok(Bound::Value(T::from_bits(bits))),
            Side::PerElement => tensor(each).map(Bound::Tensor),
        };
        let bounds = Bounds::new(bound(self.kind.lo, &self.lo)?, bound(self.kind.hi, &self.hi)?)?;
        let mut elements = tensor(&self.elements)?;
        match self.kind.work {
            Work::Clip => elements.clip_in_place(&bounds)?,
            Work::Scale(by) => wgclip::norm::scale_in_place(&mut [&mut elements], scaling(by))?,
            Work::Backward(rule) => tensor(&self.x)?.clip_backward_in_place(&mut elements, &bounds, rule)?,
            Work::ClipTo(to) => {
                self.on_device = Some(with_element!(to, U => Box::new(elements.clip_to::<U>(&bounds)?)));
                return Ok(device.flush()?);
            }
        }
        self.on_device = Some(Box::new(elements));
        Ok(device.flush()?)
    }
}

impl<T: Element> Batch for Typed<T> {
    fn room(&self) -> usize {
        self.room - self.taken
    }

    fn read(
        &mut self,
        name: &str,
        part: Range<usize>,
        (from, layout, written): (&mut dyn Read, Layout, Layout),
        operands: &mut Operands,
    ) -> Result<()> {
        let (before, start) = (self.taken, part.start);
        let end = before + part.len();
        self.taken = end;
        let new = make_room(&mut self.elements, before..end);
        from.read_exact(bytemuck::cast_slice_mut(new)).map_err(|error| unreadable(name, error))?;
        layout.swap(new);
        if written.swapped {
            self.swapped.push(before..end);
        }
        for (operand, into) in [
            (&mut operands.x, &mut self.x),
            (&mut operands.lo, &mut self.lo),
            (&mut operands.hi, &mut self.hi),
        ] {
            if let Some(operand) = operand {
                let new = make_room(into, before..end);
                operand.fill(start, bytemuck::cast_slice_mut(new))?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, device: &Device, count: bool) -> Result<Cost> {
        let counts = if count { self.count() } else { Counts::default() };
        let nan_bounds = [self.lo(), self.hi()].map(|bound| bound.iter().any(|bound| bound.is_nan()));
        let start = Instant::now();
        match device.info().kind {
            DeviceKind::Cpu => self.run_on_cpu()?,
            _ => self.begin_on(device)?,
        }
        Ok(Cost { counts, bytes: self.bytes(), nan_bounds, time: start.elapsed() })
    }

    fn finish(&mut self) -> Result<Cost> {
        let start = Instant::now();
        if let Some(tensor) = self.on_device.take() {
            self.made = Some(tensor.finish()?);
        }
        let time = start.elapsed();
        let layout = Layout { swapped: true, fortran: false };
        for range in self.swapped.drain(..) {
            match &mut self.made {
                Some(made) => made.swap(range),
                None => layout.swap(&mut self.elements[range]),
            }
        }
        Ok(Cost { time, ..Cost::default() })
    }

    fn write(&mut self, len: usize) -> &[u8] {
        let start = self.written;
        self.written += len;
        match &self.made {
            Some(made) => made.bytes(start..self.written),
            None => bytemuck::cast_slice(&self.elements[start..self.written]),
        }
    }

    fn is_written(&self) -> bool {
        self.written == self.taken
    }

    fn reset(&mut self) {
        (self.taken, self.written, self.made) = (0, 0, None);
    }
}
