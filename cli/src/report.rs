//! The summary line of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, Range};
use std::time::Duration;

use rayon::prelude::*;
use wgclip::device::DeviceInfo;
use wgclip::reference::clip;
use wgclip::{Bound, Bounds, Device, Element, ElementType, Result, Shape, with_element};

/// Counts of elements relative to the bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    elements: usize,
    below: usize,
    above: usize,
    nan: usize,
    saturated: usize,
}

impl Counts {
    /// The same, with the number of elements that are beyond the range of another type after clipping.
    pub(crate) fn with_saturated<T: Element>(
        self,
        x: &[T],
        lo: (Option<T>, &[T]),
        hi: (Option<T>, &[T]),
        to: ElementType,
    ) -> Self {
        let greatest = |element: ElementType| with_element!(element, U => Element::to_f64(<U as Element>::from_bits(element.layout().max_finite())));
        let range = greatest(to);
        // An infinity stays infinite if the type has one.
        let has_infinity = to.layout().max_number() != to.layout().max_finite();
        let within = |bound: (Option<T>, &[T])| bound.0.is_some_and(|bound| bound.to_f64().abs() <= range);
        if within(lo) && within(hi) {
            return self;
        }
        let at = |bound: (Option<T>, &[T]), i: usize| bound.1.get(i).copied().or(bound.0);
        let beyond = |(n, chunk): (usize, &[T])| {
            let is_beyond = |(i, &x): (usize, &T)| {
                let place = n * CHUNK + i;
                let size = clip(x, at(lo, place), at(hi, place)).to_f64().abs();
                size > range && !(has_infinity && size.is_infinite())
            };
            chunk.iter().enumerate().filter(|&element| is_beyond(element)).count()
        };
        Self { saturated: x.par_chunks(CHUNK).enumerate().map(beyond).sum(), ..self }
    }

    pub(crate) fn below(self) -> usize {
        self.below
    }

    pub(crate) fn above(self) -> usize {
        self.above
    }

    /// Counts elements before they are clipped. A bound is one value, or one for each element if the slice is not
    /// empty. A NaN bound becomes the result, and its element counts as neither below nor above.
    pub(crate) fn between<T: Element>(x: &[T], lo: (Option<T>, &[T]), hi: (Option<T>, &[T])) -> Self {
        let chunk = |(n, x): (usize, &[T])| {
            let part = |each: &'_ [T]| -> Range<usize> {
                if each.is_empty() { 0..0 } else { n * CHUNK..n * CHUNK + x.len() }
            };
            let (lows, highs) = (&lo.1[part(lo.1)], &hi.1[part(hi.1)]);
            let has = [lo, hi].map(|(value, each)| value.is_some() || !each.is_empty());
            let (low, high) = (lo.0.unwrap_or(T::ZERO), hi.0.unwrap_or(T::ZERO));
            // A separate loop for each case, so that the compiler knows which bounds vary.
            match (lows.is_empty(), highs.is_empty()) {
                (true, true) => count(x, |_| low, |_| high, has),
                (false, true) => count(x, |i| lows[i], |_| high, has),
                (true, false) => count(x, |_| low, |i| highs[i], has),
                (false, false) => count(x, |i| lows[i], |i| highs[i], has),
            }
        };
        x.par_chunks(CHUNK).enumerate().map(chunk).reduce(Self::default, Add::add)
    }

    /// Counts the elements of a whole tensor.
    pub(crate) fn of<T: Element>(x: &[T], shape: &Shape, bounds: &Bounds<T>) -> Result<Self> {
        let cpu = Device::cpu();
        // Bounds broadcast to one value per element.
        let side = |bound: &Bound<T>| match bound.tensor() {
            None => Ok((bound.value(), Vec::new())),
            Some(tensor) => {
                let tensor = cpu.tensor(&tensor.to_vec()?, tensor.shape().dims())?;
                let all = cpu.tensor_from_vec(vec![T::ZERO; shape.len()], shape.dims())?;
                wgclip::Result::Ok((None, all.clip((&tensor, &tensor))?.into_vec()?))
            }
        };
        let (lo, hi) = (side(bounds.lo())?, side(bounds.hi())?);
        Ok(Self::between(x, (lo.0, &lo.1), (hi.0, &hi.1)))
    }
}

/// Counts elements relative to the bounds; `has` says which bounds exist. Without branches, so that it vectorises.
fn count<T: Element>(x: &[T], lo: impl Fn(usize) -> T, hi: impl Fn(usize) -> T, has: [bool; 2]) -> Counts {
    let (mut below, mut above, mut nan) = (0u32, 0u32, 0u32);
    for (i, &x) in x.iter().enumerate() {
        let (lo, hi) = (lo(i), hi(i));
        let number = !(lo.is_nan() | hi.is_nan());
        let (is_below, is_above) = (has[0] & (x < lo), has[1] & (x > hi));
        below += u32::from(is_below & number);
        above += u32::from(is_above & !is_below & number);
        nan += u32::from(x.is_nan());
    }
    Counts {
        elements: x.len(),
        below: below as usize,
        above: above as usize,
        nan: nan as usize,
        saturated: 0,
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
            saturated: self.saturated + other.saturated,
        }
    }
}

/// The summary of a run: counts, device, and times.
pub(crate) struct Report {
    pub counts: Counts,
    /// The type that they were converted to.
    pub to: Option<ElementType>,
    /// What was done to them.
    pub work: &'static str,
    /// Whether they were compared with bounds.
    pub has_bounds: bool,
    /// The number of tensors that were not selected.
    pub left: usize,
    /// Tensors that are clipped only if they are named: name and type.
    pub kept: Vec<(String, String)>,
    pub device: DeviceInfo,
    /// Since the start of the command.
    pub whole: Duration,
    /// From tensors in host memory to the result in host memory.
    pub clip: Duration,
    /// Of all tensors, inputs and output.
    pub bytes: usize,
}

impl fmt::Display for Report {
    /// `65536 elements: 120 below, 3 above, 0 NaN; kept step (i64): --tensor names what else to clip; CPU, 2 threads; 0.02 s, of
    /// which the clip 0.0001 s, 4.2 GB/s`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { elements, below, above, nan, saturated } = self.counts;
        match self.has_bounds {
            true => write!(f, "{elements} elements: {below} below, {above} above, {nan} NaN")?,
            false => write!(f, "{elements} elements: {nan} NaN")?,
        }
        match self.to {
            Some(to) => write!(f, ", {saturated} saturated to {to}; ")?,
            None => write!(f, "; ")?,
        }
        match self.left {
            0 => {}
            1 => write!(f, "1 tensor left as it was; ")?,
            left => write!(f, "{left} tensors left as they were; ")?,
        }
        match &self.kept[..] {
            [] => {}
            kept if kept.len() <= 3 => {
                let names: Vec<_> = kept.iter().map(|(name, kind)| format!("{name} ({kind})")).collect();
                write!(f, "kept {}: --tensor NAME clips one of numbers; ", names.join(", "))?;
            }
            kept => {
                let mut kinds = BTreeMap::new();
                kept.iter().for_each(|(_, kind)| *kinds.entry(kind).or_insert(0) += 1);
                let kinds: Vec<_> = kinds.iter().map(|(kind, n)| format!("{n} of {kind}")).collect();
                let (n, first) = (kept.len(), &kept[0].0);
                let kinds = kinds.join(", ");
                write!(
                    f,
                    "kept {n} tensors ({kinds}; {first} is the first): --tensor NAME clips one of numbers; "
                )?;
            }
        }
        let (whole, clip) = (self.whole.as_secs_f64(), self.clip.as_secs_f64());
        let rate = self.bytes as f64 / 1e9 / clip.max(1e-9);
        write!(f, "{}; {whole:.3} s, of which {} {clip:.6} s, {rate:.3} GB/s", self.device, self.work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_counted_once() {
        let x: Vec<f32> = (0..200_000).map(|i| if i % 7 == 0 { f32::NAN } else { (i % 5) as f32 }).collect();
        let counts = Counts::between(&x, (Some(1.0), &[]), (Some(3.0), &[]));
        let is = |wanted: f32| x.iter().filter(|&&v| v == wanted).count();
        assert_eq!(
            counts,
            Counts { elements: 200_000, below: is(0.0), above: is(4.0), nan: 28_572, saturated: 0 }
        );
        let each = Counts::between(&x, (None, &vec![1.0; x.len()]), (Some(3.0), &[]));
        assert_eq!(each, counts);
        let none = Counts::between::<f32>(&[], (Some(0.0), &[]), (None, &[]));
        assert_eq!(none, Counts::default());
    }
}
