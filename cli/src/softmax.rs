//! `wgclip activate --fn softmax`: whole slices are in memory together.

use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result};
use wgclip::{Bound, Bounds, Element, Shape, Tensor, with_element};

use crate::batch::Cost;
use crate::files::{Conversions, TensorWriter};
use crate::norm;
use crate::report::Counts;
use crate::resources::Resources;
use crate::source::{Place, Source};

/// How tensors are written: along which axes, and whether their elements are counted.
#[derive(Clone, Copy)]
pub(crate) struct Along<'a> {
    pub axes: &'a [i64],
    pub quiet: bool,
}

/// Writes a file with the softmax of the selected tensors.
pub(crate) fn rewrite(
    resources: &mut Resources,
    out: &mut dyn Write,
    (source, number): (&mut Source, usize),
    is_chosen: &dyn Fn(Place) -> bool,
    along: Along<'_>,
) -> Result<()> {
    let to = Conversions::new();
    let (order, mut writer) = (source.files[number].order(&to), source.files[number].writer(out, &to)?);
    for index in order {
        let place = Place { file: number, index };
        match is_chosen(place) {
            false => writer.copy(index)?,
            true => with_element!(source.element(place)?, T => {
                write::<T>(source, place, &mut *writer, along, resources)?;
            }),
        }
    }
    writer.finish()
}

fn write<T: Element>(
    source: &mut Source,
    place: Place,
    writer: &mut dyn TensorWriter,
    along: Along<'_>,
    resources: &mut Resources,
) -> Result<()> {
    let (entry, what) = (source.entry(place).clone(), source.describe(place));
    let axes = norm::axes_of(along.axes, entry.shape.dims().len(), &what)?;
    let (device, room) = (resources.device().clone(), resources.room());
    let none = Bounds::<T>::new(Bound::Absent, Bound::Absent)?;
    writer.begin(place.index)?;
    norm::parts::<T>(source, place, &axes, room, &mut |x, dims| {
        let shape = Shape::new(dims)?;
        let counts = match along.quiet {
            true => Counts::default(),
            false => Counts::of(&x, &shape, &none)?,
        };
        let started = Instant::now();
        let x = device.tensor_from_vec(x, dims)?;
        let y = x.softmax(&axes[..]).and_then(Tensor::into_vec).with_context(|| what.clone())?;
        let bytes = 2 * size_of_val(&y[..]);
        resources.progress(bytes);
        resources.add(Cost { counts, bytes, time: started.elapsed(), ..Cost::default() });
        writer.write(bytemuck::cast_slice(&entry.layout.encode(y, &shape)))
    })
}
