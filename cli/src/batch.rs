//! What goes to the device at once: elements of one type between bounds of one kind, of one tensor or of many.

use std::io::Read;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::Result;
use wgclip::{BackwardRule, Bound, Bounds, Device, Element, ElementType, Tensor, with_element};

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

    /// Reads `len` elements, from element `start` of their tensor on.
    fn read(
        &mut self,
        name: &str,
        part: Range<usize>,
        from: (&mut dyn Read, Layout),
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
}

/// An empty batch for so many elements.
pub(crate) fn batch(kind: Kind, room: usize) -> Box<dyn Batch> {
    with_element!(kind.element, T => Box::new(Typed::<T>::new(kind, room)))
}

struct Typed<T: Element> {
    kind: Kind,
    room: usize,
    elements: Vec<T>,
    x: Vec<T>,
    lo: Vec<T>,
    hi: Vec<T>,
    /// Ranges of elements whose byte order is not this machine's.
    swapped: Vec<Range<usize>>,
    on_device: Option<Tensor<T>>,
    /// The same of another type.
    converted_on_device: Option<Box<dyn OnDevice>>,
    /// What came out of another type.
    converted: Option<Box<dyn Converted>>,
    /// Elements that went in, and those that were written.
    taken: usize,
    written: usize,
}

/// A tensor of another type.
trait OnDevice {
    fn finish(self: Box<Self>) -> wgclip::Result<Box<dyn Converted>>;
}

impl<U: Element> OnDevice for Tensor<U> {
    fn finish(self: Box<Self>) -> wgclip::Result<Box<dyn Converted>> {
        Ok(Box::new(self.into_vec()?))
    }
}

/// Elements of another type.
trait Converted {
    fn swap(&mut self, range: Range<usize>);

    fn bytes(&self, range: Range<usize>) -> &[u8];
}

impl<U: Element> Converted for Vec<U> {
    fn swap(&mut self, range: Range<usize>) {
        Layout { swapped: true, fortran: false }.swap(&mut self[range]);
    }

    fn bytes(&self, range: Range<usize>) -> &[u8] {
        bytemuck::cast_slice(&self[range])
    }
}

impl<T: Element> Typed<T> {
    fn new(kind: Kind, room: usize) -> Self {
        let empty = Vec::new;
        let (elements, x, lo, hi) = (empty(), empty(), empty(), empty());
        let (swapped, on_device, converted_on_device, converted) = (Vec::new(), None, None, None);
        Self {
            kind,
            room,
            elements,
            x,
            lo,
            hi,
            swapped,
            on_device,
            converted_on_device,
            converted,
            taken: 0,
            written: 0,
        }
    }

    /// Counts the elements that are clipped, before they are.
    fn count(&self) -> Counts {
        let x = if self.x.is_empty() { &self.elements } else { &self.x };
        let value = |side| match side {
            Side::Value(bits) => Some(T::from_bits(bits)),
            _ => None,
        };
        Counts::between(x, (value(self.kind.lo), &self.lo), (value(self.kind.hi), &self.hi))
    }
}

impl<T: Element> Batch for Typed<T> {
    fn room(&self) -> usize {
        self.room - self.elements.len()
    }

    fn read(
        &mut self,
        name: &str,
        part: Range<usize>,
        (from, layout): (&mut dyn Read, Layout),
        operands: &mut Operands,
    ) -> Result<()> {
        let (before, start) = (self.elements.len(), part.start);
        let end = before + part.len();
        self.elements.resize(end, T::ZERO);
        self.taken = end;
        let new = &mut self.elements[before..];
        from.read_exact(bytemuck::cast_slice_mut(new)).map_err(|error| unreadable(name, error))?;
        layout.swap(new);
        if layout.swapped {
            self.swapped.push(before..end);
        }
        for (operand, into) in [
            (&mut operands.x, &mut self.x),
            (&mut operands.lo, &mut self.lo),
            (&mut operands.hi, &mut self.hi),
        ] {
            if let Some(operand) = operand {
                into.resize(end, T::ZERO);
                operand.fill(start, bytemuck::cast_slice_mut(&mut into[before..]))?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, device: &Device, count: bool) -> Result<Cost> {
        let counts = if count { self.count() } else { Counts::default() };
        let nan_bounds = [&self.lo, &self.hi].map(|bound| bound.iter().any(|bound| bound.is_nan()));
        let start = Instant::now();
        let take = std::mem::take::<Vec<T>>;
        let operands = [&self.elements, &self.x, &self.lo, &self.hi].map(|operand| size_of_val(&operand[..]));
        let len = self.elements.len();
        let made = match self.kind.work {
            Work::ClipTo(to) => len * to.size(),
            _ => operands[0],
        };
        let bytes = operands.iter().sum::<usize>() + made;
        let tensor = |data| device.tensor_from_vec(data, [len]);
        let bound = |side, data: &mut Vec<T>| match side {
            Side::Absent => Ok(Bound::Absent),
            Side::Value(bits) => Ok(Bound::Value(T::from_bits(bits))),
            Side::PerElement => tensor(take(data)).map(Bound::Tensor),
        };
        let bounds = Bounds::new(bound(self.kind.lo, &mut self.lo)?, bound(self.kind.hi, &mut self.hi)?)?;
        let mut elements = tensor(take(&mut self.elements))?;
        match self.kind.work {
            Work::Clip => elements.clip_in_place(&bounds)?,
            Work::ClipTo(to) => {
                self.converted_on_device =
                    Some(with_element!(to, U => Box::new(elements.clip_to::<U>(&bounds)?)));
            }
            Work::Backward(rule) => {
                tensor(take(&mut self.x))?.clip_backward_in_place(&mut elements, &bounds, rule)?;
            }
        }
        device.flush()?;
        if self.converted_on_device.is_none() {
            self.on_device = Some(elements);
        }
        Ok(Cost { counts, bytes, nan_bounds, time: start.elapsed() })
    }

    fn finish(&mut self) -> Result<Cost> {
        let start = Instant::now();
        if let Some(tensor) = self.on_device.take() {
            self.elements = tensor.into_vec()?;
        }
        if let Some(tensor) = self.converted_on_device.take() {
            self.converted = Some(tensor.finish()?);
        }
        let time = start.elapsed();
        let layout = Layout { swapped: true, fortran: false };
        for range in self.swapped.drain(..) {
            match &mut self.converted {
                Some(converted) => converted.swap(range),
                None => layout.swap(&mut self.elements[range]),
            }
        }
        Ok(Cost { time, ..Cost::default() })
    }

    fn write(&mut self, len: usize) -> &[u8] {
        let start = self.written;
        self.written += len;
        match &self.converted {
            Some(converted) => converted.bytes(start..self.written),
            None => bytemuck::cast_slice(&self.elements[start..self.written]),
        }
    }

    fn is_written(&self) -> bool {
        self.written == self.taken
    }
}
