//! What a device is to a tensor. Below this line elements are untyped bits, and their type is a value.
//!
//! The two backends never meet: `cpu` works on slices, `gpu` on buffers of wgpu.

pub(crate) mod any;
pub mod cpu;
#[cfg(feature = "gpu")]
pub mod gpu;

use std::fmt;

use crate::broadcast::{Broadcast, Reduction};
use crate::call::{Call, Limiter, Reductions};
use crate::norm::Scaling;
use crate::norm::exact::{ExactSum, ReduceOp};
use crate::op::MAX_OUTPUTS;
use crate::{DeviceInfo, Element, ElementType, NormLimit, Result, Stats};

/// A device's way to hold elements and to run operations on them.
pub(crate) trait Backend: Clone + fmt::Debug {
    /// Elements on the device. Clones share them.
    type Buffer: Clone + fmt::Debug;

    /// One scaling decision (keep, zero, multiply) per norm.
    type Scalings;

    fn info(&self) -> DeviceInfo;

    /// Whether both are the same opened device.
    fn same_device(&self, other: &Self) -> bool;

    /// Copies elements to the device.
    fn upload<T: Element>(&self, data: &[T]) -> Result<Self::Buffer>;

    /// The same, keeping the vector where that can be.
    fn adopt<T: Element>(&self, data: Vec<T>) -> Result<Self::Buffer>;

    /// Copies the first `len` elements to the host, blocking until they are there.
    #[cfg(not(target_arch = "wasm32"))]
    fn read_blocking<T: Element>(&self, buffer: &Self::Buffer, len: usize) -> Result<Vec<T>>;

    /// The same of the last user of a buffer, without a copy where that can be.
    #[cfg(not(target_arch = "wasm32"))]
    fn take<T: Element>(&self, buffer: Self::Buffer, len: usize) -> Result<Vec<T>>;

    /// Copies the first `len` elements to the host, without blocking.
    async fn read<T: Element>(&self, buffer: &Self::Buffer, len: usize) -> Result<Vec<T>>;

    /// Bytes that a buffer holds.
    fn bytes(&self, buffer: &Self::Buffer) -> u64;

    /// Runs an operation into new buffers: those that are wanted. Outputs that have a reduction come summed.
    fn run(
        &self,
        call: &Call<'_, &Self::Buffer>,
        reductions: &Reductions,
    ) -> Result<[Option<Self::Buffer>; MAX_OUTPUTS]>;

    /// Runs an operation whose first output overwrites the input that the list names. Clones of it keep theirs.
    fn run_in_place(&self, call: &Call<'_, &Self::Buffer>, target: &mut Self::Buffer) -> Result<()>;

    /// Reduces over axes, into a new buffer of elements of `to`: that of `from` itself for sums.
    fn reduce(
        &self,
        element: ElementType,
        from: &Self::Buffer,
        reduction: &Reduction,
        op: ReduceOp,
        to: ElementType,
    ) -> Result<Self::Buffer>;

    /// The same of all elements of several buffers.
    fn reduce_list(
        &self,
        list: &[(ElementType, &Self::Buffer)],
        op: ReduceOp,
        to: ElementType,
    ) -> Result<Self::Buffer>;

    /// The exact sum of all elements of several buffers, of elements of up to 32 bits or, if `bits` is 64, of any.
    async fn exact_sum(
        &self,
        list: &[(ElementType, &Self::Buffer)],
        op: ReduceOp,
        bits: u32,
    ) -> Result<ExactSum>;

    /// What becomes of slices with these norms, elements of `norm`.
    fn scalings(
        &self,
        norm: ElementType,
        norms: &Self::Buffer,
        limiter: Limiter<'_, &Self::Buffer>,
    ) -> Result<Self::Scalings>;

    /// A scaling that is known here, for elements of these types.
    fn known_scaling(&self, elements: &[ElementType], scaling: Scaling<f64>) -> Result<Self::Scalings>;

    /// Scales elements, a slice by each scaling, into a new buffer.
    fn scale(
        &self,
        element: ElementType,
        x: &Self::Buffer,
        scalings: &Self::Scalings,
        broadcast: &Broadcast,
    ) -> Result<Self::Buffer>;

    /// The gradient that reaches elements of which each slice is scaled by its norm: operands are these and the upstream
    /// gradient.
    fn scale_backward(
        &self,
        element: ElementType,
        operands: [&Self::Buffer; 2],
        slices: (&Reduction, &Broadcast),
        limit: &NormLimit,
    ) -> Result<Self::Buffer>;

    /// Scales all elements of several buffers in place, by one scaling. Clones of them keep theirs.
    fn scale_list(
        &self,
        list: Vec<(ElementType, &mut Self::Buffer)>,
        scalings: &Self::Scalings,
    ) -> Result<()>;

    /// Elements of 4 bytes whose bits are `start`, `start + step`, and so on: for conformance checks.
    fn patterns(&self, start: u32, step: u32, len: usize) -> Result<Self::Buffer>;

    /// An error if the device is lost or has failed.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Starts what was recorded.
    fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// The same, and blocks until it is done.
    #[cfg(not(target_arch = "wasm32"))]
    fn wait(&self) -> Result<()> {
        Ok(())
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Frees idle memory.
    fn trim(&self) -> Result<()>;

    fn set_memory_budget(&self, _bytes: u64) {}

    /// Drops compiled kernels.
    fn drop_pipelines(&self) {}
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// The lines of the files of a folder that are compiled into the library and name the oracle.
    fn mentions(folder: &Path, found: &mut Vec<String>) -> usize {
        let mut files = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files += mentions(&path, found);
                continue;
            }
            files += 1;
            let text = fs::read_to_string(&path).unwrap();
            let compiled = text.split("#[cfg(test)]").next().unwrap_or_default();
            let code = compiled.lines().map(str::trim).filter(|line| !line.starts_with("//"));
            found.extend(
                code.filter(|line| line.contains("reference")).map(|line| format!("{path:?}: {line}")),
            );
        }
        files
    }

    /// Else the conformance table compares a function with itself.
    #[test]
    fn no_backend_calls_the_reference() {
        let (source, mut found) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), Vec::new());
        let files: usize =
            ["backend", "plan"].iter().map(|folder| mentions(&source.join(folder), &mut found)).sum();
        assert!(files > 40, "{files} files only");
        assert!(found.is_empty(), "{found:#?}");
    }
}
