//! Clipping by norm: `shaders/scale.wgsl`. Coefficients and what is done with them stay on the device.

use super::dispatch::BufferPart;
use super::params::Params;
use super::pipeline::FixedKernel;
use super::pool::FirstWrite;
use super::{Buffer, Context, Sink};
use crate::backend::Limiter;
use crate::broadcast::{Broadcast, Reduction};
use crate::exact::ReduceOp;
use crate::wgsl::{BLOCK_BYTES, BLOCKS_PER_INVOCATION, Specialization, WORKGROUP};
use crate::{ElementType, Error, NonFinite, NormLimit, Result};

const fn kernel(entry: &'static str, bindings: &'static [(u32, bool)]) -> FixedKernel {
    FixedKernel { entry, source: include_str!("../../../shaders/scale.wgsl"), bindings }
}

static MAKE_SCALINGS: FixedKernel = kernel("make_scalings", &[(1, true), (3, false)]);
static MAKE_RELATIVE_SCALINGS: FixedKernel =
    kernel("make_relative_scalings", &[(1, true), (2, true), (3, false)]);
static SCALE: FixedKernel = kernel("scale", &[(4, true), (5, true), (6, false)]);
static SCALE_IN_PLACE: FixedKernel = kernel("scale_in_place", &[(4, true), (6, false)]);
static SCALE_ALONG: FixedKernel = kernel("scale_along", &[(4, true), (5, true), (6, false)]);
static MAKE_PROJECTIONS: FixedKernel = kernel("make_projections", &[(4, true), (1, true), (3, false)]);
static SCALE_BACKWARD: FixedKernel =
    kernel("scale_backward", &[(4, true), (2, true), (5, true), (7, true), (6, false)]);

/// The kernels of this file.
pub(super) static KERNELS: [&FixedKernel; 7] = [
    &MAKE_SCALINGS,
    &MAKE_RELATIVE_SCALINGS,
    &SCALE,
    &SCALE_IN_PLACE,
    &SCALE_ALONG,
    &MAKE_PROJECTIONS,
    &SCALE_BACKWARD,
];

/// Bytes of what is made of a norm: the norm, its coefficient, what is done, and whether it is an error.
pub(super) const SCALING_BYTES: u64 = 16;

/// The words of each scaling.
const SCALING_WORDS: usize = 4;

impl Context {
    /// Records what becomes of slices with these norms.
    pub(super) fn record_scalings(&self, norms: &Buffer, limiter: Limiter<'_, &Buffer>) -> Result<Buffer> {
        let count = norms.bytes() / 4;
        let made = self.buffer(count * SCALING_BYTES, FirstWrite::Recorded)?;
        let Limiter { limit, average, relative } = limiter;
        let relative = relative.map(|(norms, least)| (norms.part(), least));
        if count > 0 {
            make_scalings(self, count, norms.part(), Limiter { limit, average, relative }, made.part())?;
        }
        if limit.nonfinite == NonFinite::Error {
            self.watch_norms(made.clone());
        }
        Ok(made)
    }

    /// Records scaled elements into a new buffer, a slice by each scaling.
    pub(super) fn record_scaled(
        &self,
        element: ElementType,
        x: &Buffer,
        scalings: &Buffer,
        broadcast: &Broadcast,
    ) -> Result<Buffer> {
        let y = self.buffer(x.bytes(), FirstWrite::Recorded)?;
        let whole = scalings.bytes() == SCALING_BYTES;
        let kernel = if whole { &SCALE } else { &SCALE_ALONG };
        let params = Params::of_scalings(broadcast);
        scale_pieces(self, kernel, element, params, &[scalings.part()], &[x.part(), y.part()])?;
        Ok(y)
    }

    /// Records the scaling of all elements in place, or into `y`, which then takes the place of x.
    pub(super) fn record_scaled_in_place(
        &self,
        element: ElementType,
        x: &mut Buffer,
        y: Option<Buffer>,
        scalings: &Buffer,
    ) -> Result<()> {
        let Some(y) = y else { return scale_in_place(self, element, x.part(), scalings.part()) };
        let parts = [x.part(), y.part()];
        scale_pieces(self, &SCALE, element, Params::default(), &[scalings.part()], &parts)?;
        *x = y;
        Ok(())
    }

    /// Records the gradient that reaches elements of which each slice is scaled by its norm, of the upstream gradient g.
    pub(super) fn record_scaled_backward(
        &self,
        element: ElementType,
        [x, g]: [&Buffer; 2],
        (reduction, broadcast): (&Reduction, &Broadcast),
        limit: &NormLimit,
    ) -> Result<Buffer> {
        let norms = self.record_reduction(element, x, reduction, ReduceOp::SumSquares, ElementType::F32)?;
        let scalings = self.record_scalings(&norms, Limiter { limit, average: None, relative: None })?;
        let dots = self.record_dots(element, [x, g], &norms, reduction)?;
        let gx = self.buffer(x.bytes(), FirstWrite::Recorded)?;
        if reduction.sums == 0 {
            return Ok(gx);
        }
        let projections = self.buffer(scalings.bytes(), FirstWrite::Recorded)?;
        let params = Params { limiter: [0, bits(limit.eps), 0, 0], ..Params::default() };
        let operands = [scalings.part(), dots.part(), projections.part()];
        let specialization = Specialization::of(ElementType::F32);
        let count = reduction.sums as u64;
        self.record(&self.planner().whole(&MAKE_PROJECTIONS, specialization, params, count, &operands)?)?;
        let by = [scalings.part(), projections.part()];
        let buffers = [x.part(), g.part(), gx.part()];
        scale_pieces(self, &SCALE_BACKWARD, element, Params::of_scalings(broadcast), &by, &buffers)?;
        Ok(gx)
    }

    /// An error if a norm was not finite where that is one. Called when what comes before has been read or waited for.
    pub(super) async fn check_norms(&self) -> Result<()> {
        for scalings in self.take_watched_norms() {
            let count = (scalings.bytes() / SCALING_BYTES) as usize;
            let words: Vec<u32> = self.read_elements(&scalings, SCALING_WORDS * count).await?;
            if words.chunks(SCALING_WORDS).any(|scaling| scaling[SCALING_WORDS - 1] != 0) {
                return Err(Error::NonFiniteNorm { device: self.info().to_string() });
            }
        }
        Ok(())
    }
}

/// The bits of a number in f32.
fn bits(value: f64) -> u32 {
    (value as f32).to_bits()
}

/// Makes what becomes of slices with these norms.
pub(super) fn make_scalings(
    sink: &dyn Sink,
    count: u64,
    norms: BufferPart<'_>,
    limiter: Limiter<'_, BufferPart<'_>>,
    made: BufferPart<'_>,
) -> Result<()> {
    let average = limiter.average.map_or(0, |count| bits(count as f64));
    let least = limiter.relative.map_or(0, |(_, least)| bits(least));
    let params = Params {
        // A limit of -0 is 0.
        limiter: [
            bits(limiter.limit.limit.abs()),
            bits(limiter.limit.eps),
            0,
            limiter.limit.nonfinite as u32,
        ],
        ..Params::of_scalars([average, 0, least, 0])
    };
    let (kernel, operands) = match limiter.relative {
        Some((relative, _)) => (&MAKE_RELATIVE_SCALINGS, vec![norms, relative, made]),
        None => (&MAKE_SCALINGS, vec![norms, made]),
    };
    let specialization = Specialization::of(ElementType::F32);
    sink.record(&sink.planner().whole(kernel, specialization, params, count, &operands)?)
}

/// Scales all elements in place.
pub(super) fn scale_in_place(
    sink: &dyn Sink,
    element: ElementType,
    x: BufferPart<'_>,
    scalings: BufferPart<'_>,
) -> Result<()> {
    scale_pieces(sink, &SCALE_IN_PLACE, element, Params::default(), &[scalings], &[x])
}

/// The same piece of each buffer after the other.
fn scale_pieces(
    sink: &dyn Sink,
    kernel: &'static FixedKernel,
    element: ElementType,
    params: Params,
    scalings: &[BufferPart<'_>],
    buffers: &[BufferPart<'_>],
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
        let params = Params { first, outputs: blocks as u32, ..params };
        let specialization = Specialization::of(element);
        // These take several blocks to an invocation.
        let invocations = match [&SCALE, &SCALE_IN_PLACE].contains(&kernel) {
            true => blocks.div_ceil((WORKGROUP * BLOCKS_PER_INVOCATION).into()) * u64::from(WORKGROUP),
            false => blocks,
        };
        sink.record(&planner.whole(kernel, specialization, params, invocations, &operands)?)?;
    }
    Ok(())
}
