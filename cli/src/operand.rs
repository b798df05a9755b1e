//! Tensors that are read together with another: bounds, and x in a backward pass.

use std::io::Read;

use anyhow::{Context, Result, anyhow, bail};
use rayon::prelude::*;
use wgclip::bounds::{BoundRounding, Number};
use wgclip::{Bound, Element, ElementType, Shape, with_element};

use crate::files::{Entry, Kind, Layout, TensorFile};

/// A tensor whose elements are read in the file order of another tensor, from the first to the last.
pub(crate) struct Operand {
    name: String,
    from: ElementType,
    to: ElementType,
    role: Role,
    elements: Elements,
}

/// The role of a tensor for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    X,
    /// Bounds, how they are rounded, and the type that the bounded tensor is converted to.
    Lower((BoundRounding, Option<ElementType>)),
    Upper((BoundRounding, Option<ElementType>)),
}

impl Role {
    /// Whether bounds are rounded even if they have the tensor's type: to the type that it is converted to.
    fn is_of_another(self) -> bool {
        matches!(
            self,
            Self::Lower((BoundRounding::Inward, Some(_))) | Self::Upper((BoundRounding::Inward, Some(_)))
        )
    }

    /// A bound in the type of the bounded tensor.
    fn bound<T: Element>(self, number: Number) -> Result<T, Number> {
        if matches!(number, Number::Float(value) if value.is_nan()) {
            return Ok(T::from_f64(f64::NAN));
        }
        // Rounded inward, it is also representable in the output type.
        let number = match self {
            Self::Lower((BoundRounding::Inward, Some(to)))
            | Self::Upper((BoundRounding::Inward, Some(to))) => {
                with_element!(to, U => Number::Float(Element::to_f64(self.rounded::<U>(number)?)))
            }
            _ => number,
        };
        self.rounded(number)
    }

    fn rounded<T: Element>(self, number: Number) -> Result<T, Number> {
        let bound = match self {
            Self::Lower((rounding, _)) => Bound::<T>::lower_rounded(number, rounding),
            Self::Upper((rounding, _)) => Bound::<T>::upper_rounded(number, rounding),
            // x has the same type as the other tensor.
            Self::X => return Err(number),
        };
        // A bound that no element exceeds becomes the end of the type's range.
        let last = || match self {
            Self::Lower(_) => T::from_bits(T::TYPE.layout().ends()[0]),
            _ => T::from_bits(T::TYPE.layout().ends()[1]),
        };
        bound.map(|bound| bound.value().unwrap_or_else(last)).map_err(|_| number)
    }
}

enum Elements {
    /// They lie in that order.
    Stream { reader: Box<dyn Read + Send>, swapped: bool },
    /// In memory, in file order, but in the type `to` and native byte order. For each axis of the other tensor,
    /// the outermost first, its length and its stride here.
    Held { bytes: Vec<u8>, axes: Vec<(usize, usize)> },
}

impl Operand {
    /// Tensor `index` of a file, broadcast to another, as elements of type `to`. It is held in memory, up to `memory` bytes,
    /// if its elements are in another order.
    ///
    /// # Errors
    /// If shapes or types do not fit, or it cannot be read.
    pub(crate) fn open(
        file: &mut TensorFile,
        index: usize,
        (other, to, what): (&Entry, ElementType, &str),
        role: Role,
        memory: u64,
    ) -> Result<Self> {
        let (name, from) = (file.describe(index), file.element(index)?);
        let entry = file.entries()[index].clone();
        check_types(role, (&name, from), (what, to))?;
        let axes = axes(&entry, other).with_context(|| {
            format!(
                "{name} has shape {:?}, but {what} has {:?}: each of its dimensions, counted from the last, must be the same \
                 or 1",
                entry.shape.dims(),
                other.shape.dims()
            )
        })?;
        let one = axes.len() == 1 && entry.shape.len() == other.shape.len() && axes[0].1 <= 1;
        let elements = if one && entry.shape.len() > 1 {
            Elements::Stream { reader: file.reader(index)?, swapped: entry.layout.swapped }
        } else {
            if entry.bytes() > memory {
                bail!(
                    "{name} is not read in the order of its file, so its {} bytes are held in memory, more than a quarter of \
                     --memory: give more, or save it in the shape and the order of {what}",
                    entry.bytes()
                );
            }
            let mut bytes = Vec::new();
            let len = entry.shape.len();
            let swapped = entry.layout.swapped;
            file.elements(index, &mut |reader| {
                bytes = vec![0; len * to.size()];
                read_as(&name, reader, (from, swapped), (to, role), &mut bytes)
            })?;
            Elements::Held { bytes, axes }
        };
        Ok(Self { name, from, to, role, elements })
    }

    /// Elements in memory, in C order, broadcast to another tensor.
    pub(crate) fn held<T: Element>(data: &[T], shape: &Shape, other: &Entry) -> Result<Self> {
        let name = "a quantile".to_owned();
        let layout = Layout { swapped: false, fortran: false };
        let entry = Entry { name: name.clone(), kind: Kind::Known(T::TYPE), shape: shape.clone(), layout };
        let axes = axes(&entry, other).context("quantiles that do not broadcast")?;
        let elements = Elements::Held { bytes: bytemuck::cast_slice(data).to_vec(), axes };
        Ok(Self { name, from: T::TYPE, to: T::TYPE, role: Role::X, elements })
    }

    /// The bits of its only element, if it has one.
    pub(crate) fn only(&self) -> Option<u64> {
        match &self.elements {
            Elements::Held { bytes, .. } if bytes.len() == self.to.size() => {
                Some(with_element!(self.to, T => Element::to_bits(bytemuck::pod_read_unaligned::<T>(bytes))))
            }
            _ => None,
        }
    }

    /// The elements for those of the other tensor from `start` on, in native byte order.
    pub(crate) fn fill(&mut self, start: usize, out: &mut [u8]) -> Result<()> {
        let size = self.to.size();
        match &mut self.elements {
            Elements::Stream { reader, swapped } => {
                read_as(&self.name, reader, (self.from, *swapped), (self.to, self.role), out)
            }
            Elements::Held { bytes, axes } => {
                match size {
                    1 => gather::<1>(bytes, axes, start, out),
                    2 => gather::<2>(bytes, axes, start, out),
                    4 => gather::<4>(bytes, axes, start, out),
                    _ => gather::<8>(bytes, axes, start, out),
                }
                Ok(())
            }
        }
    }
}

/// The elements of an operand, of `N` bytes each, for those of the other tensor from `start` on.
fn gather<const N: usize>(from: &[u8], axes: &[(usize, usize)], start: usize, out: &mut [u8]) {
    let (from, out) = (from.as_chunks::<N>().0, out.as_chunks_mut::<N>().0);
    let (inner, stride) = axes.last().copied().unwrap_or((1, 0));
    // Scattered reads are bound by latency, so they use all cores.
    match RUNS.saturating_mul(inner) {
        size if stride > 1 && size < out.len() => out
            .par_chunks_mut(size)
            .enumerate()
            .for_each(|(n, out)| gather_part(from, axes, start + n * size, out)),
        _ => gather_part(from, axes, start, out),
    }
}

fn gather_part<const N: usize>(
    from: &[[u8; N]],
    axes: &[(usize, usize)],
    start: usize,
    mut out: &mut [[u8; N]],
) {
    let (inner, stride) = axes.last().copied().unwrap_or((1, 0));
    let mut at = start;
    while !out.is_empty() {
        let (mut rest, mut place) = (at, 0);
        for &(len, stride) in axes.iter().rev() {
            place += rest % len * stride;
            rest /= len;
        }
        // If the next axis is contiguous here (the opposite of the other tensor's order), gather several runs at once, so that each
        // loaded cache line is fully used.
        let runs = match axes {
            [.., (outer, 1), _] if stride > 1 && at.is_multiple_of(inner) => {
                (outer - at / inner % outer).min(RUNS)
            }
            _ => 1,
        };
        if runs > 1 && out.len() >= runs * inner {
            let (now, later) = out.split_at_mut(runs * inner);
            for n in 0..inner {
                let from = &from[place + n * stride..][..runs];
                from.iter().enumerate().for_each(|(run, &from)| now[run * inner + n] = from);
            }
            (out, at) = (later, at + runs * inner);
            continue;
        }
        let run = out.len().min(inner - at % inner);
        let (now, later) = out.split_at_mut(run);
        match stride {
            0 => now.fill(from[place]),
            1 => now.copy_from_slice(&from[place..place + run]),
            _ => now.iter_mut().enumerate().for_each(|(n, out)| *out = from[place + n * stride]),
        }
        (out, at) = (later, at + run);
    }
}

/// Runs that are gathered at once: a cache line of 4-byte elements.
const RUNS: usize = 16;

/// The axes of `other` in its file order, merged where their strides allow, each with the stride of an operand in the operand's
/// file. `None` if it does not broadcast, by numpy's rules.
fn axes(operand: &Entry, other: &Entry) -> Option<Vec<(usize, usize)>> {
    let (dims, own) = (other.shape.dims(), operand.shape.dims());
    let missing = dims.len().checked_sub(own.len())?;
    let mut strides = vec![0; dims.len()];
    let mut stride = 1;
    let order: Vec<_> = match operand.layout.fortran {
        true => (0..own.len()).collect(),
        false => (0..own.len()).rev().collect(),
    };
    for d in order {
        if own[d] != 1 && own[d] != dims[missing + d] {
            return None;
        }
        strides[missing + d] = if own[d] == 1 { 0 } else { stride };
        stride *= own[d];
    }
    let mut axes: Vec<_> = dims.iter().copied().zip(strides).filter(|&(len, _)| len != 1).collect();
    if other.layout.fortran {
        axes.reverse();
    }
    let mut joined: Vec<(usize, usize)> = Vec::new();
    for (len, stride) in axes {
        match joined.last_mut() {
            Some(outer) if outer.1 == stride * len => *outer = (outer.0 * len, stride),
            _ => joined.push((len, stride)),
        }
    }
    if joined.is_empty() {
        joined.push((1, 0));
    }
    Some(joined)
}

/// Reads elements of one type as those of another.
fn read_as(
    name: &str,
    reader: &mut dyn Read,
    (from, swapped): (ElementType, bool),
    (to, role): (ElementType, Role),
    out: &mut [u8],
) -> Result<()> {
    let read = |reader: &mut dyn Read, out: &mut [u8]| {
        reader.read_exact(out).map_err(|error| crate::files::unreadable(name, error))
    };
    let layout = Layout { swapped, fortran: false };
    if from == to && !role.is_of_another() {
        read(reader, out)?;
        layout.swap_bytes(from.size(), out);
        return Ok(());
    }
    let mut bytes = vec![0; out.len() / to.size() * from.size()];
    read(reader, &mut bytes)?;
    layout.swap_bytes(from.size(), &mut bytes);
    let numbers: Vec<Number> = with_element!(from, T => {
        let elements = bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned::<T>);
        elements.map(Number::of).collect()
    });
    with_element!(to, T => {
        for (out, number) in out.chunks_exact_mut(size_of::<T>()).zip(numbers) {
            let bound = role.bound::<T>(number).map_err(|number| impossible(name, number, to))?;
            out.copy_from_slice(bytemuck::bytes_of(&bound));
        }
    });
    Ok(())
}

fn impossible(name: &str, number: Number, to: ElementType) -> anyhow::Error {
    let bound = match number {
        Number::Float(value) if !to.is_float() && value.fract() != 0.0 => {
            return anyhow!(
                "{name} holds the bound {value}, and {to} has whole numbers only: round it, or give --bounds inward"
            );
        }
        Number::Float(value) => value.to_string(),
        Number::Integer(value) => value.to_string(),
        Number::Beyond { .. } => "of a number".into(),
    };
    anyhow!(
        "{name} holds the bound {bound}, outside the range of {to}, so no value could satisfy it: give one that fits"
    )
}

/// x must have the type of the gradient. Bounds of any type are rounded to the tensor's.
fn check_types(role: Role, (name, from): (&str, ElementType), (what, to): (&str, ElementType)) -> Result<()> {
    if from != to && role == Role::X {
        bail!("{name} holds {from}, but {what} holds {to}: both need the same type");
    }
    Ok(())
}

/// A whole tensor of bounds, as elements of type `T` in C order.
pub(crate) fn read_whole<T: Element>(
    file: &mut TensorFile,
    index: usize,
    role: Role,
) -> Result<(Vec<T>, Shape)> {
    let (name, shape) = (file.describe(index), file.entries()[index].shape.clone());
    let from = file.element(index)?;
    if from == T::TYPE && !role.is_of_another() {
        return Ok((file.read::<T>(index)?, shape));
    }
    let numbers: Vec<Number> =
        with_element!(from, S => file.read::<S>(index)?.into_iter().map(Number::of).collect());
    let bounds = numbers
        .into_iter()
        .map(|number| role.bound(number).map_err(|number| impossible(&name, number, T::TYPE)));
    Ok((bounds.collect::<Result<_>>()?, shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(dims: &[usize], fortran: bool) -> Entry {
        Entry {
            name: String::new(),
            kind: Kind::Known(ElementType::U8),
            shape: Shape::new(dims).unwrap(),
            layout: Layout { swapped: false, fortran },
        }
    }

    /// The operand's elements in the order of the other tensor's file, found one by one.
    fn slow(own: &Entry, other: &Entry) -> Vec<u8> {
        let (dims, missing) = (other.shape.dims(), other.shape.dims().len() - own.shape.dims().len());
        let order: Vec<usize> = match other.layout.fortran {
            true => (0..dims.len()).collect(),
            false => (0..dims.len()).rev().collect(),
        };
        let place = |mut n: usize| {
            let mut at = vec![0; dims.len()];
            for &d in &order {
                at[d] = n % dims[d];
                n /= dims[d];
            }
            let own_dims = own.shape.dims();
            let (mut place, mut stride) = (0, 1);
            let axes: Vec<usize> = match own.layout.fortran {
                true => (0..own_dims.len()).collect(),
                false => (0..own_dims.len()).rev().collect(),
            };
            for d in axes {
                place += if own_dims[d] == 1 { 0 } else { at[missing + d] * stride };
                stride *= own_dims[d];
            }
            place as u8
        };
        (0..other.shape.len()).map(place).collect()
    }

    #[test]
    fn a_bound_beyond_the_range_is_the_last_or_impossible() {
        use wgclip::{f8_e4m3fn, f16};
        let nearest = (BoundRounding::Nearest, None);
        let upper = |value| Role::Upper(nearest).bound::<f8_e4m3fn>(Number::Float(value));
        let lower = |value| Role::Lower(nearest).bound::<f8_e4m3fn>(Number::Float(value));
        let half = |role: Role, value| role.bound::<f16>(Number::Float(value));
        for beyond in [500.0, 1e30, f64::INFINITY] {
            assert_eq!(upper(beyond), Ok(f8_e4m3fn::MAX));
            assert_eq!(lower(-beyond), Ok(f8_e4m3fn::MIN));
            assert!(lower(beyond).is_err() && upper(-beyond).is_err());
        }
        assert_eq!(upper(464.0), Ok(f8_e4m3fn::MAX));
        assert!(upper(f64::NAN).unwrap().is_nan());
        assert_eq!(half(Role::Upper(nearest), 1e6), Ok(f16::INFINITY));
        assert!(half(Role::Lower(nearest), 1e6).is_err());
        assert_eq!(half(Role::Lower(nearest), f64::INFINITY), Ok(f16::INFINITY), "which f16 holds");
        // Exactly to integers, and inward to the type that the output is converted to.
        let upper = |number| Role::Upper(nearest).bound::<u8>(number);
        assert_eq!([300, 7].map(|n| upper(Number::Integer(n))), [Ok(255), Ok(7)]);
        assert!(upper(Number::Integer(-1)).is_err() && upper(Number::Float(1.5)).is_err());
        let converted = Role::Upper((BoundRounding::Inward, Some(ElementType::Bf16)));
        assert_eq!(converted.bound::<f32>(Number::Float(0.999)), Ok(0.996_093_75));
    }

    #[test]
    fn elements_are_found_in_every_order() {
        let shapes: [(&[usize], &[usize]); 7] = [
            (&[3, 4, 5], &[3, 4, 5]),
            (&[3, 4, 5], &[5]),
            (&[3, 4, 5], &[4, 1]),
            (&[3, 4, 5], &[3, 1, 5]),
            (&[3, 1, 5], &[1, 5]),
            (&[7], &[]),
            (&[], &[]),
        ];
        for (dims, own) in shapes {
            for (fortran, own_fortran) in [(false, false), (false, true), (true, false), (true, true)] {
                let (other, own) = (entry(dims, fortran), entry(own, own_fortran));
                let axes = axes(&own, &other).unwrap();
                let from: Vec<u8> = (0..own.shape.len() as u8).collect();
                let mut out = vec![255; other.shape.len()];
                // In parts that end anywhere, and as a whole.
                for size in [7, 17, 60] {
                    out.fill(255);
                    for (n, part) in out.chunks_mut(size).enumerate() {
                        gather::<1>(&from, &axes, size * n, part);
                    }
                    assert_eq!(out, slow(&own, &other), "{own:?} in {other:?}");
                }
            }
        }
        assert!(axes(&entry(&[1, 1], false), &entry(&[2], false)).is_none());
        assert!(axes(&entry(&[3], false), &entry(&[2], false)).is_none());
        assert_eq!(axes(&entry(&[2, 3], true), &entry(&[2, 3], true)), Some(vec![(6, 1)]));
    }
}
