//! Plans: which kernels an operation needs, with what parameters, over which parts of its operands, under the limits of a device.
//! Nothing here knows wgpu: [`gpu`](crate::gpu) executes plans on it, and an engine with its own buffers and passes can do the same.
//!
//! ```
//! use wgclip::plan::{Arguments, Limits, Plans, Slice};
//! use wgclip::bounds::BroadcastInputs;
//! use wgclip::device::DeviceKind;
//! use wgclip::op::Op;
//!
//! let plans = Plans::new("a GPU", DeviceKind::Gpu, Limits::WEBGPU);
//! let [x, y] = [0, 1].map(|operand| Slice { operand, offset: 0, bytes: 4096 });
//! let unit = BroadcastInputs::values(Some(0.0f32), Some(1.0))?;
//! for step in plans.op(Op::Clip, 1024, &[x], &[Some(y)], &Arguments::new(&unit))? {
//!     // Compile `step.kernel.source(..)` once for each kernel; bind the parameters and the slices; dispatch.
//!     assert_eq!(step.bindings, [x, y]);
//!     assert_eq!(step.workgroups, [1, 1]);
//! }
//! # Ok::<(), wgclip::Error>(())
//! ```

mod api;
mod dispatch;
mod geometry;
mod kernel;
mod norms;
mod params;
mod program;
pub(crate) mod reduce;
pub(crate) mod scale;
pub(crate) mod softmax;

pub use crate::op::Arguments;
pub use api::{Plans, Slice, Step, mask_bytes};
#[cfg(feature = "gpu")]
pub(crate) use dispatch::{BufferPart, Dispatch, Memory, Planner, Sink, converted_bytes};
pub use geometry::Limits;
#[cfg(feature = "gpu")]
pub(crate) use geometry::{DispatchRange, Granularity, dispatch_ranges};
pub use kernel::{Kernel, ParamsBinding};
#[cfg(feature = "gpu")]
pub(crate) use params::OpParams;
pub use params::Params;
#[cfg(feature = "gpu")]
pub(crate) use program::{FixedKernel, MAX_BINDINGS, Program};
pub use scale::SCALING_BYTES;
