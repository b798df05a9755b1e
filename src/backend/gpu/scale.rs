//! Clipping by norm, recorded: coefficients and actions stay on the device.

use super::pool::FirstWrite;
use super::{Buffer, Context};
use crate::broadcast::{Broadcast, Reduction};
use crate::call::Limiter;
use crate::norm::Scaling;
use crate::norm::exact::ReduceOp;
use crate::plan::Planner;
use crate::plan::SCALING_BYTES;
use crate::plan::scale;
use crate::{ElementType, Error, NonFinitePolicy, NormLimit, Result};

/// The words of each scaling.
const SCALING_WORDS: usize = 4;

/// What is done with elements, as the shader numbers it.
const KEEP: u32 = 0;
const MULTIPLY: u32 = 1;
const ZERO: u32 = 2;

/// A scaling known on the host, as `make_scalings` writes that of a norm; without the norm.
///
/// # Errors
/// [`Error::Unsupported`] for elements of f64, and for a coefficient that f32 cannot hold.
pub(super) fn words(
    planner: Planner<'_>,
    elements: &[ElementType],
    scaling: Scaling<f64>,
) -> Result<[u32; SCALING_WORDS]> {
    if elements.contains(&ElementType::F64) {
        return Err(planner.unsupported("a scaling of f64", "scale it on Device::cpu()"));
    }
    let [coefficient, done] = match scaling {
        Scaling::Keep => [1f32.to_bits(), KEEP],
        Scaling::Zero => [0, ZERO],
        Scaling::By(coefficient) => {
            let short = coefficient as f32;
            if !coefficient.is_nan() && f64::from(short) != coefficient {
                return Err(planner.unsupported("a coefficient in f64", "scale on Device::cpu()"));
            }
            [short.to_bits(), MULTIPLY]
        }
    };
    Ok([0, coefficient, done, 0])
}

impl Context {
    /// Records the computation of the scaling of each slice from its norm.
    pub(super) fn record_scalings(&self, norms: &Buffer, limiter: Limiter<'_, &Buffer>) -> Result<Buffer> {
        let count = norms.bytes() / 4;
        let scalings = self.buffer(count * SCALING_BYTES, FirstWrite::Recorded)?;
        let Limiter { limit, average, relative } = limiter;
        let relative = relative.map(|(norms, least)| (norms.part(), least));
        if count > 0 {
            scale::make_scalings(
                self,
                count,
                norms.part(),
                Limiter { limit, average, relative },
                scalings.part(),
            )?;
        }
        if limit.nonfinite == NonFinitePolicy::Error {
            self.watch_norms(scalings.clone());
        }
        Ok(scalings)
    }

    /// Records scaled elements into a new buffer, each slice by its scaling.
    pub(super) fn record_scaled(
        &self,
        element: ElementType,
        x: &Buffer,
        scalings: &Buffer,
        broadcast: &Broadcast,
    ) -> Result<Buffer> {
        let y = self.buffer(x.bytes(), FirstWrite::Recorded)?;
        scale::scale(self, element, [x.part(), y.part()], scalings.part(), Some(broadcast))?;
        Ok(y)
    }

    /// Records the scaling of all elements in place, or into `y`, which then replaces x.
    pub(super) fn record_scaled_in_place(
        &self,
        element: ElementType,
        x: &mut Buffer,
        y: Option<Buffer>,
        scalings: &Buffer,
    ) -> Result<()> {
        let Some(y) = y else { return scale::scale_in_place(self, element, x.part(), scalings.part()) };
        scale::scale(self, element, [x.part(), y.part()], scalings.part(), None)?;
        *x = y;
        Ok(())
    }

    /// Records the gradient that reaches elements whose slices are scaled by their norms, from the upstream gradient g.
    pub(super) fn record_scaled_backward(
        &self,
        element: ElementType,
        [x, g]: [&Buffer; 2],
        (reduction, broadcast): (&Reduction, &Broadcast),
        limit: &NormLimit,
    ) -> Result<Buffer> {
        let norms = self.record_reduction(element, x, reduction, ReduceOp::SumSquares, ElementType::F32)?;
        let scalings = self.record_scalings(&norms, Limiter { limit, average: None, relative: None })?;
        let dots = self.record_dots(element, [x, g], Some(&norms), reduction)?;
        let gx = self.buffer(x.bytes(), FirstWrite::Recorded)?;
        if reduction.sums == 0 {
            return Ok(gx);
        }
        let projections = self.buffer(scalings.bytes(), FirstWrite::Recorded)?;
        let operands = [scalings.part(), dots.part(), projections.part()];
        scale::make_projections(self, reduction.sums as u64, limit.eps, operands)?;
        let by = [scalings.part(), projections.part()];
        scale::scale_backward(self, element, by, [x.part(), g.part(), gx.part()], broadcast)?;
        Ok(gx)
    }

    /// Fails if a norm under `NonFinitePolicy::Error` was not finite. Called after earlier work has been read or waited for.
    pub(super) async fn check_norms(&self) -> Result<()> {
        for scalings in self.take_watched_norms() {
            let count = (scalings.bytes() / SCALING_BYTES) as usize;
            let words: Vec<u32> = self.read_elements(&scalings, SCALING_WORDS * count).await?;
            if words.chunks(SCALING_WORDS).any(|scaling| scaling[SCALING_WORDS - 1] != 0) {
                return Err(Error::NonFiniteNorm { what: format!("a tensor on {}", self.info()) });
            }
        }
        Ok(())
    }
}
