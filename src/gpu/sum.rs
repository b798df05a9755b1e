//! Sums over the broadcast dimensions: `shaders/sum.wgsl`.

use super::dispatch::{BLOCK, Params};
use super::pipeline::{Binding, Kernel, shader};
use super::pool::FirstWrite;
use super::{Buffer, Context};
use crate::broadcast::Reduction;
use crate::{Element, Error, Result};

/// Leaves that an invocation adds up: as many as the tree of the shader has.
const FAN_IN: usize = 8;

const SUM_ELEMENTS: Kernel = Kernel {
    name: "sum of elements",
    entry: "sum",
    source: shader!("arithmetic.wgsl", "leaf_element.wgsl", "sum.wgsl"),
    bindings: &[Binding::read(3), Binding::write(4)],
};

const SUM_PARTIALS: Kernel = Kernel {
    name: "sum of sums",
    entry: "sum",
    source: shader!("arithmetic.wgsl", "leaf_partial.wgsl", "sum.wgsl"),
    bindings: &[Binding::read(3), Binding::write(4)],
};

const SUM_FINISH: Kernel = Kernel {
    name: "sum_finish",
    entry: "sum_finish",
    source: shader!("arithmetic.wgsl", "leaf_partial.wgsl", "sum.wgsl"),
    bindings: &[Binding::read(3), Binding::write(5)],
};

impl Context {
    /// Records the sums of `elements` into a new buffer, in the order of
    /// [`reference::sum`](crate::reference::sum).
    ///
    /// # Errors
    /// [`Error::Unsupported`] if `elements` are too many for a binding; otherwise as
    /// [`clip`](Self::clip).
    pub(crate) fn sum<T: Element>(&self, elements: &Buffer, reduction: &Reduction) -> Result<Buffer> {
        let (sums, mut leaves) = (reduction.sums, reduction.leaves);
        let bytes = (sums * size_of::<T>()) as u64;
        if leaves == 0 {
            return self.upload(&crate::host::zeroed::<T>(sums)?);
        }
        // The kernel counts elements in 32 bits.
        if u32::try_from(elements.bytes() / size_of::<T>() as u64).is_err() {
            return Err(Error::Unsupported {
                what: "the gradient of a bound of 2^32 elements or more".into(),
                device: self.info().to_string(),
                instead: "split the tensor and add the gradients".into(),
            });
        }
        let mut params = Params::of_sums(sums, &reduction.axes);
        let partials = |leaves: usize| self.buffer((sums * leaves * 8) as u64, FirstWrite::Recorded);
        let mut source: Option<Buffer> = None;
        while source.is_none() || leaves > 1 {
            (params.leaves, params.fan_in) = (leaves as u32, FAN_IN as u32);
            leaves = leaves.div_ceil(FAN_IN);
            let made = partials(leaves)?;
            let invocations = (sums * leaves) as u64;
            match &source {
                None => self.record_whole::<T>(&SUM_ELEMENTS, params, invocations, &[elements, &made])?,
                Some(source) => {
                    self.record_whole::<T>(&SUM_PARTIALS, params, invocations, &[source, &made])?
                }
            }
            source = Some(made);
        }
        let result = self.buffer(bytes, FirstWrite::Recorded)?;
        params.leaves = 1;
        if let Some(source) = source {
            self.record_whole::<T>(&SUM_FINISH, params, bytes.div_ceil(BLOCK), &[&source, &result])?;
        }
        Ok(result)
    }
}
