//! Devices.

use pyo3::prelude::*;
use wgclip::Error;
use wgclip::device::DeviceKind;

use crate::errors::exception;
use crate::memory::Memory;
use crate::process::check_process;
use crate::tensor::Tensor;
use crate::threads;

/// Refuses the CPU path.
fn gpu_only(requested: &str) -> impl FnOnce(wgclip::Device) -> wgclip::Result<wgclip::Device> {
    move |device| match device.info().kind {
        DeviceKind::Cpu => {
            Err(Error::NoSuchDevice { requested: requested.into(), known: "see Device.list()".into() })
        }
        _ => Ok(device),
    }
}

/// A GPU, or the CPU path. It holds tensors, which are copies of arrays.
#[pyclass(frozen, module = "wgclip")]
pub(crate) struct Device {
    device: wgclip::Device,
    process: u32,
}

impl Device {
    pub(crate) fn of(device: wgclip::Device) -> Self {
        Self { device, process: std::process::id() }
    }

    pub(crate) fn get(&self) -> PyResult<&wgclip::Device> {
        check_process(self.process)?;
        Ok(&self.device)
    }
}

#[pymethods]
impl Device {
    /// Opens a device by name: "auto", "cpu", "gpu", or part of a name in `Device.list()`.
    #[new]
    #[pyo3(signature = (name = "auto"))]
    fn new(py: Python<'_>, name: &str) -> PyResult<Self> {
        threads::detach(py, || wgclip::Device::select(name)).map(Self::of).map_err(exception)
    }

    /// A GPU if there is one, otherwise the CPU.
    #[staticmethod]
    fn auto(py: Python<'_>) -> PyResult<Self> {
        Self::new(py, "auto")
    }

    /// The CPU path.
    #[staticmethod]
    fn cpu() -> Self {
        Self::of(wgclip::Device::cpu())
    }

    /// The GPU, hardware or software, whose name contains this text, by default the first.
    #[staticmethod]
    #[pyo3(signature = (name = None))]
    fn gpu(py: Python<'_>, name: Option<&str>) -> PyResult<Self> {
        let device = threads::detach(py, || match name {
            None => wgclip::Device::gpu(),
            Some(name) => wgclip::Device::select(name).and_then(gpu_only(name)),
        });
        device.map(Self::of).map_err(exception)
    }

    /// The names of the available devices.
    #[staticmethod]
    fn list(py: Python<'_>) -> Vec<String> {
        threads::detach(py, || wgclip::Device::list().iter().map(ToString::to_string).collect())
    }

    /// The driver's name for it.
    #[getter]
    fn name(&self) -> String {
        self.device.info().name
    }

    /// `"gpu"`, `"software"` or `"cpu"`.
    #[getter]
    fn kind(&self) -> &'static str {
        self.device.info().kind.name()
    }

    /// Copies an array to the device.
    fn tensor(&self, py: Python<'_>, x: &Bound<'_, PyAny>) -> PyResult<Tensor> {
        let device = self.get()?;
        let memory = Memory::of_any(x)?;
        Tensor::from_memory(py, device, &memory)
    }

    /// Blocks until all requested work is done.
    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        let device = self.get()?;
        threads::detach(py, || device.wait()).map_err(exception)
    }

    /// Frees the memory that is kept for reuse.
    fn trim(&self, py: Python<'_>) -> PyResult<()> {
        let device = self.get()?;
        threads::detach(py, || device.trim()).map_err(exception)
    }

    fn __repr__(&self) -> String {
        format!("Device({:?})", self.device.info().to_string())
    }
}
