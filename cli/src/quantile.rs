//! Bounds that are quantiles of the tensor that they bound.

use anyhow::Result;
use wgclip::{Element, Error, Shape, cpu};

use crate::norm::{axes_of, parts};
use crate::source::{Place, Source};

/// Maximum number of bytes counted at once: large enough to make the fixed cost of a count negligible.
const LARGEST: u64 = 16 << 20;

/// One for each slice, with their shape: bounds that broadcast to the tensor.
pub(crate) type OfSlices<T> = (Vec<T>, Shape);

/// The quantiles for each share, of a tensor or of each of its slices along axes. None for a tensor without numbers. Up to `room` bytes
/// of it are in memory at once. `progress` is called with the bytes read, in each pass.
pub(crate) fn quantiles<T: Element>(
    (source, place): (&mut Source, Place),
    shares: &[f64],
    axes: Option<&[i64]>,
    room: u64,
    progress: &mut dyn FnMut(usize),
) -> Result<Option<Vec<OfSlices<T>>>> {
    let Some(axes) = axes else {
        let len = (room.clamp(64 << 10, LARGEST) as usize) / size_of::<T>();
        let found = cpu::quantiles_in_passes::<T, anyhow::Error>(shares, |count| {
            source.chunks::<T>(place, len, &mut |_, x| {
                count(x);
                progress(size_of_val(&x[..]));
                Ok(())
            })
        });
        return match found {
            Err(error) if error.downcast_ref() == Some(&Error::NoNumbers) => Ok(None),
            found => found?
                .into_iter()
                .map(|value| Ok((vec![value], Shape::new([])?)))
                .collect::<Result<_>>()
                .map(Some),
        };
    };
    let (shape, what) = (source.entry(place).shape.clone(), source.describe(place));
    let axes = axes_of(axes, shape.dims().len(), &what)?;
    if shape.is_empty() {
        return Ok(None);
    }
    let mut all = vec![Vec::new(); shares.len()];
    parts::<T>(source, place, &axes, (room, room), &mut |x, dims| {
        progress(size_of_val(&x[..]));
        let found = cpu::quantiles_along(&x, &Shape::new(dims)?, &axes, shares)?;
        all.iter_mut().zip(found).for_each(|(all, found)| all.extend(found));
        Ok(())
    })?;
    let kept = shape.dims().iter().enumerate();
    let kept = Shape::new(kept.map(|(n, &len)| if axes.contains(&n) { 1 } else { len }).collect::<Vec<_>>())?;
    Ok(Some(all.into_iter().map(|found| (found, kept.clone())).collect()))
}

/// How often [`quantiles`] reads each byte of a type.
pub(crate) fn passes(size: usize, axes: Option<&[i64]>) -> u64 {
    if axes.is_some() { 1 } else { size.div_ceil(2) as u64 }
}
