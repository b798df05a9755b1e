//! Clip into another type of float: `reference::clip_to`.

use bytemuck::cast_slice_mut;

use super::bound_source::for_each_run;
use super::elementwise::{Clip, Map1Run};
use super::operands::{check_len, elements};
use super::partition::Partition;
use super::simd::vectorised;
use crate::backend::{Call, MAX_OUTPUTS};
use crate::element::convert::{from_f32, to_f32};
use crate::{Element, Result, with_element};

/// Elements that are clipped, widened to f32 and rounded in turn, so few that they stay in a core's first cache. Each
/// step is a loop of one type or of two, where one loop for all would be compiled for each pair of types.
const BLOCK: usize = 2048;

vectorised! {
    fn widen<T: Element>(from: &[T], odd: bool, to: &mut [f32]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = to_f32(from, odd);
        }
    }

    fn narrow<T: Element>(from: &[f32], to: &mut [T]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = from_f32(from);
        }
    }
}

/// Runs the operation over bytes that are aligned to their elements.
pub(super) fn run(call: &Call<'_, [u8]>, outputs: [Option<&mut [u8]>; MAX_OUTPUTS]) -> Result<()> {
    let ([x], [Some(y), ..]) = (call.inputs, outputs) else {
        return Err(call.internal("without its operands"));
    };
    with_element!(call.element(), T => run_typed::<T>(call, elements(x)?, y))
}

fn run_typed<T: Element>(call: &Call<'_, [u8]>, x: &[T], y: &mut [u8]) -> Result<()> {
    let (to, bounds) = (call.to(), call.bounds.try_map(|bound| elements::<T>(bound))?);
    bounds.check_len(call.len, |bound| bound.len())?;
    check_len(x.len(), call.len)?;
    // Of whole elements, and aligned to them.
    with_element!(to, U => check_len(elements::<U>(y)?.len(), call.len))?;
    let parts = Partition::new::<T>(call.len);
    let work = y.chunks_mut(parts.chunk * to.size()).zip(x.chunks(parts.chunk)).enumerate();
    parts.for_each(work, |(n, (y, x))| {
        let (mut clipped, mut wide) = ([T::ZERO; BLOCK], [0.0; BLOCK]);
        let blocks = y.chunks_mut(BLOCK * to.size()).zip(x.chunks(BLOCK)).enumerate();
        for (block, (y, x)) in blocks {
            let (clipped, wide) = (&mut clipped[..x.len()], &mut wide[..x.len()]);
            let start = n * parts.chunk + block * BLOCK;
            let mut clip = Map1Run { f: Clip, x: Some(x), y: &mut *clipped, exceeds_cache: false };
            for_each_run(&bounds, start, x.len(), &mut clip);
            // Rounded once: here, or into a type that is shorter than f32.
            widen(clipped, to.size() < size_of::<f32>(), wide);
            with_element!(to, U => narrow::<U>(wide, cast_slice_mut(y)));
        }
    });
    Ok(())
}
