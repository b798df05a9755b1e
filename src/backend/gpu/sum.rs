//! Sums over the broadcast dimensions: `shaders/sum.wgsl`.

use super::params::Params;
use super::pipeline::FixedKernel;
use super::pool::FirstWrite;
use super::{Buffer, Context};
use crate::broadcast::Reduction;
use crate::wgsl::BLOCK_BYTES;
use crate::{ElementType, Result};

/// Leaves that an invocation adds up: as many as the tree of the shader has.
const FAN_IN: usize = 8;

const fn kernel(entry: &'static str, bindings: &'static [(u32, bool)]) -> FixedKernel {
    FixedKernel { entry, source: include_str!("../../../shaders/sum.wgsl"), bindings }
}

static SUM_ELEMENTS: FixedKernel = kernel("sum_elements", &[(1, true), (3, false)]);
static SUM_PARTIALS: FixedKernel = kernel("sum_partials", &[(2, true), (3, false)]);
static SUM_FINISH: FixedKernel = kernel("sum_finish", &[(2, true), (4, false)]);
static SUM_FINISH_WIDE: FixedKernel = kernel("sum_finish_wide", &[(2, true), (5, true), (4, false)]);

/// The kernels of this file.
pub(super) static KERNELS: [&FixedKernel; 4] = [&SUM_ELEMENTS, &SUM_PARTIALS, &SUM_FINISH, &SUM_FINISH_WIDE];

impl Context {
    /// Records the sums of elements into a new buffer, in the order of [`reference::sum`](crate::reference::sum).
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) if they are too many for a binding; otherwise as
    /// [`Backend::run`](crate::backend::Backend::run).
    pub(super) fn record_sum(
        &self,
        element: ElementType,
        elements: &Buffer,
        reduction: &Reduction,
    ) -> Result<Buffer> {
        let sums = reduction.sums;
        let bytes = (sums * element.size()) as u64;
        if reduction.leaves == 0 {
            return self.upload_elements(&crate::backend::cpu::memory::zeroed::<u8>(bytes as usize)?);
        }
        // The kernel counts elements in 32 bits.
        if u32::try_from(elements.bytes() / element.size() as u64).is_err() {
            return Err(self.planner().unsupported(
                "the gradient of a bound of 2^32 elements or more",
                "split the tensor and add the gradients",
            ));
        }
        let low = self.record_partials(element, elements, reduction, false)?;
        let result = self.buffer(bytes, FirstWrite::Recorded)?;
        let wide = !element.is_float() && element.size() == 8;
        let high = wide.then(|| self.record_partials(element, elements, reduction, true)).transpose()?;
        let (kernel, operands) = match &high {
            Some(high) => (&SUM_FINISH_WIDE, vec![low.part(), high.part(), result.part()]),
            None => (&SUM_FINISH, vec![low.part(), result.part()]),
        };
        let params = Params::of_sums(sums, &reduction.axes, false);
        self.record(&self.planner().whole(
            kernel,
            element,
            params,
            bytes.div_ceil(BLOCK_BYTES),
            &operands,
        )?)?;
        Ok(result)
    }

    /// Records the sums as accumulators: of the elements, or of the high words of integers of 64 bits.
    fn record_partials(
        &self,
        element: ElementType,
        elements: &Buffer,
        reduction: &Reduction,
        high: bool,
    ) -> Result<Buffer> {
        let (sums, mut leaves) = (reduction.sums, reduction.leaves);
        let mut params = Params::of_sums(sums, &reduction.axes, high);
        let mut source: Option<Buffer> = None;
        loop {
            (params.leaves, params.fan_in) = (leaves as u32, FAN_IN as u32);
            leaves = leaves.div_ceil(FAN_IN);
            let made = self.buffer((sums * leaves * 8) as u64, FirstWrite::Recorded)?;
            let (kernel, from) = match &source {
                None => (&SUM_ELEMENTS, elements),
                Some(source) => (&SUM_PARTIALS, source),
            };
            let operands = [from.part(), made.part()];
            let invocations = (sums * leaves) as u64;
            self.record(&self.planner().whole(kernel, element, params, invocations, &operands)?)?;
            if leaves == 1 {
                return Ok(made);
            }
            source = Some(made);
        }
    }
}
