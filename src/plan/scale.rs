//! Clipping by norm: `shaders/scale.wgsl`. Coefficients and actions stay on the device.

use super::dispatch::{BufferPart, Memory, Sink};
use super::params::ScaleParams;
use super::program::FixedKernel;
use crate::broadcast::Broadcast;
use crate::call::Limiter;
use crate::wgsl::{BLOCK_BYTES, BLOCKS_PER_INVOCATION, Specialization, WORKGROUP};
use crate::{ElementType, Result};

const fn kernel(entry: &'static str, bindings: &'static [(&'static str, bool)]) -> FixedKernel {
    FixedKernel {
        entry,
        source: include_str!("../../shaders/scale.wgsl"),
        bindings,
        substitutes: &[("lib/params", "lib/scale_params")],
    }
}

static MAKE_SCALINGS: FixedKernel = kernel("make_scalings", &[("norms", true), ("made_scalings", false)]);
static MAKE_RELATIVE_SCALINGS: FixedKernel =
    kernel("make_relative_scalings", &[("norms", true), ("relative_norms", true), ("made_scalings", false)]);
static SCALE: FixedKernel = kernel("scale", &[("scalings", true), ("x", true), ("y", false)]);
static SCALE_IN_PLACE: FixedKernel = kernel("scale_in_place", &[("scalings", true), ("y", false)]);
static SCALE_ALONG: FixedKernel = kernel("scale_along", &[("scalings", true), ("x", true), ("y", false)]);
static MAKE_PROJECTIONS: FixedKernel =
    kernel("make_projections", &[("scalings", true), ("dots", true), ("made_projections", false)]);
static SCALE_BACKWARD: FixedKernel = kernel(
    "scale_backward",
    &[("scalings", true), ("projections", true), ("x", true), ("g", true), ("y", false)],
);

/// The kernels of this file.
#[cfg(feature = "gpu")]
pub(crate) static KERNELS: [&FixedKernel; 7] = [
    &MAKE_SCALINGS,
    &MAKE_RELATIVE_SCALINGS,
    &SCALE,
    &SCALE_IN_PLACE,
    &SCALE_ALONG,
    &MAKE_PROJECTIONS,
    &SCALE_BACKWARD,
];

/// Bytes of a scaling: the norm, its coefficient, what is done, and whether it is an error.
pub const SCALING_BYTES: u64 = 16;

/// The bits of a number in f32.
fn bits(value: f64) -> u32 {
    (value as f32).to_bits()
}

/// Computes the scaling of each slice from its norm.
pub(crate) fn make_scalings<M: Memory>(
    sink: &dyn Sink<M>,
    count: u64,
    norms: BufferPart<M>,
    limiter: Limiter<'_, BufferPart<M>>,
    scalings: BufferPart<M>,
) -> Result<()> {
    let params = ScaleParams {
        // A limit of -0 is 0.
        max_norm: bits(limiter.limit.max_norm.abs()),
        eps: bits(limiter.limit.eps),
        average: limiter.average.map_or(0, |count| bits(count as f64)),
        least: limiter.relative.map_or(0, |(_, least)| bits(least)),
        policy: limiter.limit.nonfinite as u32,
        ..ScaleParams::default()
    };
    let (kernel, operands) = match limiter.relative {
        Some((relative, _)) => (&MAKE_RELATIVE_SCALINGS, vec![norms, relative, scalings]),
        None => (&MAKE_SCALINGS, vec![norms, scalings]),
    };
    let specialization = Specialization::of(ElementType::F32);
    sink.record(&sink.planner().whole(kernel, specialization, params.into(), count, &operands)?)
}

/// Scales all elements in place.
pub(crate) fn scale_in_place<M: Memory>(
    sink: &dyn Sink<M>,
    element: ElementType,
    x: BufferPart<M>,
    scalings: BufferPart<M>,
) -> Result<()> {
    scale_pieces(sink, &SCALE_IN_PLACE, element, ScaleParams::default(), &[scalings], &[x])
}

/// Scales elements, each slice by its scaling, or all by one.
pub(crate) fn scale<M: Memory>(
    sink: &dyn Sink<M>,
    element: ElementType,
    [x, y]: [BufferPart<M>; 2],
    scalings: BufferPart<M>,
    broadcast: Option<&Broadcast>,
) -> Result<()> {
    let whole = scalings.bytes() == SCALING_BYTES;
    let kernel = if whole { &SCALE } else { &SCALE_ALONG };
    let params = broadcast.map_or_else(ScaleParams::default, ScaleParams::new);
    scale_pieces(sink, kernel, element, params, &[scalings], &[x, y])
}

/// Computes, from `count` scalings and dot products, what the upstream gradient loses in the direction of each slice.
pub(crate) fn make_projections<M: Memory>(
    sink: &dyn Sink<M>,
    count: u64,
    eps: f64,
    operands: [BufferPart<M>; 3],
) -> Result<()> {
    let params = ScaleParams { eps: bits(eps), ..ScaleParams::default() };
    let specialization = Specialization::of(ElementType::F32);
    sink.record(&sink.planner().whole(&MAKE_PROJECTIONS, specialization, params.into(), count, &operands)?)
}

/// The gradient that reaches scaled elements: from scalings and projections, x and g, into gx.
pub(crate) fn scale_backward<M: Memory>(
    sink: &dyn Sink<M>,
    element: ElementType,
    by: [BufferPart<M>; 2],
    buffers: [BufferPart<M>; 3],
    broadcast: &Broadcast,
) -> Result<()> {
    scale_pieces(sink, &SCALE_BACKWARD, element, ScaleParams::new(broadcast), &by, &buffers)
}

/// Processes the buffers piece by piece.
fn scale_pieces<M: Memory>(
    sink: &dyn Sink<M>,
    kernel: &'static FixedKernel,
    element: ElementType,
    params: ScaleParams,
    scalings: &[BufferPart<M>],
    buffers: &[BufferPart<M>],
) -> Result<()> {
    let (planner, bytes) = (sink.planner(), buffers[0].bytes());
    let most = planner.limits.max_binding.min(planner.limits.max_invocations() * BLOCK_BYTES);
    let step = planner.limits.offset_alignment.max(BLOCK_BYTES);
    for start in (0..bytes).step_by((most / step * step) as usize) {
        let len = (most / step * step).min(bytes - start);
        let parts = buffers.iter().map(|buffer| buffer.slice(start, len));
        let operands: Vec<_> = scalings.iter().copied().chain(parts).collect();
        let first = u32::try_from(start / element.size() as u64).map_err(|_| {
            planner.unsupported("slices of a tensor of 2^32 elements or more", "split the tensor")
        })?;
        let blocks = len.div_ceil(BLOCK_BYTES);
        let params = ScaleParams { first, pieces: blocks as u32, ..params };
        let specialization = Specialization::of(element);
        // These take several blocks per invocation.
        let invocations = match [&SCALE, &SCALE_IN_PLACE].contains(&kernel) {
            true => blocks.div_ceil((WORKGROUP * BLOCKS_PER_INVOCATION).into()) * u64::from(WORKGROUP),
            false => blocks,
        };
        sink.record(&planner.whole(kernel, specialization, params.into(), invocations, &operands)?)?;
    }
    Ok(())
}
