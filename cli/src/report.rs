//! The line that says what was done.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

use rayon::prelude::*;
use wgclip::reference::{Position, position};
use wgclip::{Bound, Bounds, Device, DeviceInfo, Element, Result, Shape};

/// How many elements lie where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    elements: usize,
    below: usize,
    above: usize,
    nan: usize,
}

impl Counts {
    /// Counts the elements of a tensor before it is clipped. Between tensors of bounds, those that the clip raises
    /// are below, and those that it lowers above.
    pub(crate) fn of<T: Element>(x: &[T], shape: &Shape, bounds: &Bounds<T>) -> Result<Self> {
        if bounds.lo().tensor().is_none() && bounds.hi().tensor().is_none() {
            return Ok(Self::between(x, bounds.lo().value(), bounds.hi().value()));
        }
        let cpu = Device::cpu();
        let bound = |bound: &Bound<T>| match bound.tensor() {
            Some(tensor) => Ok(Bound::Tensor(cpu.tensor(&tensor.to_vec()?, tensor.shape().dims())?)),
            None => wgclip::Result::Ok(bound.clone()),
        };
        let bounds = Bounds::new(bound(bounds.lo())?, bound(bounds.hi())?)?;
        let y = cpu.tensor(x, shape.dims())?.clip(&bounds)?.into_vec()?;
        let moved = |(&x, &y): (&T, &T)| match () {
            () if x.is_nan() => Position::Nan,
            () if y > x => Position::Below,
            () if y < x => Position::Above,
            () => Position::Inside,
        };
        Ok(Self::count(x.par_chunks(CHUNK).zip(y.par_chunks(CHUNK)).map(|(x, y)| x.iter().zip(y).map(moved))))
    }

    /// Counts the elements of a tensor, or a part of one, before it is clipped between values.
    pub(crate) fn between<T: Element>(x: &[T], lo: Option<T>, hi: Option<T>) -> Self {
        Self::count(x.par_chunks(CHUNK).map(|x| x.iter().map(|&x| position(x, lo, hi))))
    }

    fn count(chunks: impl ParallelIterator<Item = impl Iterator<Item = Position>>) -> Self {
        let count = |counts: Self, position: Position| Self {
            elements: counts.elements + 1,
            below: counts.below + usize::from(position == Position::Below),
            above: counts.above + usize::from(position == Position::Above),
            nan: counts.nan + usize::from(position == Position::Nan),
        };
        chunks.map(|positions| positions.fold(Self::default(), count)).reduce(Self::default, Add::add)
    }
}

/// Elements that a thread counts at once.
const CHUNK: usize = 1 << 16;

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            elements: self.elements + other.elements,
            below: self.below + other.below,
            above: self.above + other.above,
            nan: self.nan + other.nan,
        }
    }
}

/// What was done, where, and how fast.
pub(crate) struct Report {
    pub counts: Counts,
    pub device: DeviceInfo,
    /// From the tensors in host memory to the result in host memory.
    pub time: Duration,
    /// Of all tensors, those read and the one made.
    pub bytes: usize,
}

impl fmt::Display for Report {
    /// `65536 elements: 120 below, 3 above, 0 NaN; CPU, 2 threads; 0.000123 s, 4.262 GB/s`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { elements, below, above, nan } = self.counts;
        let seconds = self.time.as_secs_f64();
        let rate = self.bytes as f64 / 1e9 / seconds.max(1e-9);
        write!(f, "{elements} elements: {below} below, {above} above, {nan} NaN; ")?;
        write!(f, "{}; {seconds:.6} s, {rate:.3} GB/s", self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_counted_once() {
        let x: Vec<f32> = (0..200_000).map(|i| if i % 7 == 0 { f32::NAN } else { (i % 5) as f32 }).collect();
        let shape = Shape::new([x.len()]).unwrap();
        let counts = Counts::of(&x, &shape, &Bounds::new(1.0, 3.0).unwrap()).unwrap();
        let is = |wanted: f32| x.iter().filter(|&&v| v == wanted).count();
        assert_eq!(counts, Counts { elements: 200_000, below: is(0.0), above: is(4.0), nan: 28_572 });
        let tensor = Device::cpu().tensor(&[1.0f32], [1]).unwrap();
        let with_tensor = Counts::of(&x, &shape, &Bounds::new(tensor, 3.0).unwrap()).unwrap();
        assert_eq!(with_tensor, counts);
        let empty = Shape::new([0]).unwrap();
        let none = Counts::of::<f32>(&[], &empty, &Bounds::at_least(0.0).unwrap()).unwrap();
        assert_eq!(none, Counts::default());
    }
}
