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

/// The kernels of this file.
pub(super) static KERNELS: [&FixedKernel; 3] = [&SUM_ELEMENTS, &SUM_PARTIALS, &SUM_FINISH];

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
        let (sums, mut leaves) = (reduction.sums, reduction.leaves);
        let bytes = (sums * element.size()) as u64;
        if leaves == 0 {
            return self.upload_elements(&crate::backend::cpu::memory::zeroed::<u8>(bytes as usize)?);
        }
        // The kernel counts elements in 32 bits.
        if u32::try_from(elements.bytes() / element.size() as u64).is_err() {
            return Err(self.planner().unsupported(
                "the gradient of a bound of 2^32 elements or more",
                "split the tensor and add the gradients",
            ));
        }
        let mut params = Params::of_sums(sums, &reduction.axes);
        let record = |kernel, params, invocations, from: &Buffer, to: &Buffer| {
            let operands = [from.part(), to.part()];
            self.record(&self.planner().whole(kernel, element, params, invocations, &operands)?)
        };
        let partials = |leaves: usize| self.buffer((sums * leaves * 8) as u64, FirstWrite::Recorded);
        let mut source: Option<Buffer> = None;
        while source.is_none() || leaves > 1 {
            (params.leaves, params.fan_in) = (leaves as u32, FAN_IN as u32);
            leaves = leaves.div_ceil(FAN_IN);
            let made = partials(leaves)?;
            let invocations = (sums * leaves) as u64;
            match &source {
                None => record(&SUM_ELEMENTS, params, invocations, elements, &made)?,
                Some(source) => record(&SUM_PARTIALS, params, invocations, source, &made)?,
            }
            source = Some(made);
        }
        let result = self.buffer(bytes, FirstWrite::Recorded)?;
        params.leaves = 1;
        if let Some(source) = source {
            record(&SUM_FINISH, params, bytes.div_ceil(BLOCK_BYTES), &source, &result)?;
        }
        Ok(result)
    }
}
