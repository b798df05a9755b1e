//! The interface of devices to tensors. Below it elements are untyped bits, and their type is a value.
//!
//! The two backends are independent: `cpu` works on slices, `gpu` on wgpu buffers.

pub(crate) mod any;
pub mod cpu;
#[cfg(feature = "gpu")]
pub mod gpu;

use std::fmt;

use crate::broadcast::{Broadcast, Reduction, Slices};
use crate::call::{Call, Limiter, Reductions};
use crate::norm::Scaling;
use crate::norm::exact::{ExactSum, ReduceOp};
use crate::op::MAX_OUTPUTS;
use crate::{DeviceInfo, Element, ElementType, NormLimit, Result, Stats};

/// Holds elements on a device and runs operations on them.
pub(crate) trait Backend: Clone + fmt::Debug {
    /// Elements on the device. Clones share them.
    type Buffer: Clone + fmt::Debug;

    /// One scaling decision (keep, zero, multiply) per norm.
    type Scalings;

    fn info(&self) -> DeviceInfo;

    /// Whether both are the same opened device.
    fn same_device(&self, other: &Self) -> bool;

    /// Copies whole elements to the device.
    fn upload(&self, element: ElementType, bytes: &[u8]) -> Result<Self::Buffer>;

    /// The same bytes as elements of a type: a copy where they are not aligned to it.
    fn of_type(&self, buffer: &Self::Buffer, _element: ElementType) -> Result<Self::Buffer> {
        Ok(buffer.clone())
    }

    /// Uploads a vector, keeping it if possible.
    fn adopt<T: Element>(&self, data: Vec<T>) -> Result<Self::Buffer>;

    /// Copies the first bytes of a buffer to the host, blocking until they are available.
    #[cfg(not(target_arch = "wasm32"))]
    fn copy_to_host(&self, buffer: &Self::Buffer, bytes: &mut [u8]) -> Result<()>;

    /// Returns the first `len` elements to the last user of a buffer, without a copy if possible.
    #[cfg(not(target_arch = "wasm32"))]
    fn take<T: Element>(&self, buffer: Self::Buffer, len: usize) -> Result<Vec<T>>;

    /// Copies the first `len` elements to the host, without blocking.
    async fn read<T: Element>(&self, buffer: &Self::Buffer, len: usize) -> Result<Vec<T>>;

    /// Bytes that a buffer holds.
    fn bytes(&self, buffer: &Self::Buffer) -> u64;

    /// Runs an operation into new buffers for the needed outputs. Outputs with a reduction are summed.
    fn run(
        &self,
        call: &Call<'_, &Self::Buffer>,
        reductions: &Reductions,
    ) -> Result<[Option<Self::Buffer>; MAX_OUTPUTS]>;

    /// Runs an operation whose first output overwrites the input named in the list. Clones of that input are unchanged.
    fn run_in_place(&self, call: &Call<'_, &Self::Buffer>, target: &mut Self::Buffer) -> Result<()>;

    /// Reduces over axes, into a new buffer of elements of `to`, which for sums is the type of `from`.
    fn reduce(
        &self,
        element: ElementType,
        from: &Self::Buffer,
        reduction: &Reduction,
        op: ReduceOp,
        to: ElementType,
    ) -> Result<Self::Buffer>;

    /// Reduces all elements of several buffers.
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

    /// The scalings of slices with these norms, elements of `norm`.
    fn scalings(
        &self,
        norm: ElementType,
        norms: &Self::Buffer,
        limiter: Limiter<'_, &Self::Buffer>,
    ) -> Result<Self::Scalings>;

    /// A scaling known on the host, for elements of these types.
    fn known_scaling(&self, elements: &[ElementType], scaling: Scaling<f64>) -> Result<Self::Scalings>;

    /// Scales elements, each slice by its scaling, into a new buffer.
    fn scale(
        &self,
        element: ElementType,
        x: &Self::Buffer,
        scalings: &Self::Scalings,
        broadcast: &Broadcast,
    ) -> Result<Self::Buffer>;

    /// The gradient that reaches elements whose slices are scaled by their norms: the operands are these elements and
    /// the upstream gradient.
    fn scale_backward(
        &self,
        element: ElementType,
        operands: [&Self::Buffer; 2],
        slices: (&Reduction, &Broadcast),
        limit: &NormLimit,
    ) -> Result<Self::Buffer>;

    /// The softmax of each slice, into a new buffer.
    fn softmax(&self, element: ElementType, x: &Self::Buffer, slices: &Slices) -> Result<Self::Buffer>;

    /// Its gradient: the operands are the result and the upstream gradient.
    fn softmax_backward(
        &self,
        element: ElementType,
        operands: [&Self::Buffer; 2],
        slices: &Slices,
    ) -> Result<Self::Buffer>;

    /// Scales all elements of several buffers in place, by one scaling. Clones of them are unchanged.
    fn scale_list(
        &self,
        list: Vec<(ElementType, &mut Self::Buffer)>,
        scalings: &Self::Scalings,
    ) -> Result<()>;

    /// Elements of 4 bytes whose bits are `start`, `start + step`, and so on: for conformance checks.
    fn patterns(&self, start: u32, step: u32, len: usize) -> Result<Self::Buffer>;

    /// Returns an error if the device is lost or has failed.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Starts the recorded work.
    fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Starts the recorded work, and blocks until it is done.
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

    /// The lines of a folder's files that are compiled into the library and name the oracle.
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

    /// Otherwise the conformance table would compare a function with itself.
    #[test]
    fn no_backend_calls_the_reference() {
        let (source, mut found) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), Vec::new());
        let files: usize =
            ["backend", "plan"].iter().map(|folder| mentions(&source.join(folder), &mut found)).sum();
        assert!(files > 40, "{files} files only");
        assert!(found.is_empty(), "{found:#?}");
    }
}
