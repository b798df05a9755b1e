//! The compiled part of the Python package `wgclip`: the CPU path over memory that Python owns, devices and tensors of the library, and
//! the command. The convenient interface is built on it in Python, in `wgclip/`.

// The library forbids unsafe code. Here memory and threads come from Python: memory.rs and float_mode.rs have all of it, each with its reason.
#![deny(unsafe_code)]

mod bounds;
mod check;
mod command;
mod device;
mod errors;
mod float_mode;
mod memory;
mod norm;
mod norm_state;
mod ops;
mod process;
mod quantile;
mod quantize;
mod rule;
mod samples;
mod softmax;
mod tensor;
mod threads;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use crate::bounds::{inward, round_bounds};
    #[pymodule_export]
    use crate::check::check;
    #[pymodule_export]
    use crate::command::run_command;
    #[pymodule_export]
    use crate::device::Device;
    #[pymodule_export]
    use crate::errors::{BoundWarning, DeviceError, NonFiniteNormError, NonFiniteNormWarning};
    #[pymodule_export]
    use crate::norm::{
        clip_adaptive, clip_by_global_norm, clip_by_norm, clip_by_norm_backward, global_norm, norm,
        scale_by_norm, sum,
    };
    #[pymodule_export]
    use crate::norm_state::NormState;
    #[pymodule_export]
    use crate::ops::{clip, mask_len, operations, run};
    #[pymodule_export]
    use crate::quantile::quantiles;
    #[pymodule_export]
    use crate::quantize::{QuantRule, calibrate};
    #[pymodule_export]
    use crate::rule::BackwardRule;
    #[pymodule_export]
    use crate::samples::clip_by_norms_of_samples;
    #[pymodule_export]
    use crate::softmax::{softmax, softmax_backward};
    #[pymodule_export]
    use crate::tensor::{Tensor, clip_tensors_by_global_norm, run_tensors};
    #[pymodule_export]
    use crate::threads::{num_threads, set_alone, set_num_threads};

    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        threads::begin();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
