//! The GPU path: WGSL kernels, dispatched through wgpu. The only room that knows wgpu.
//!
//! A [`Context`] is an opened adapter. Its operations take and return [`Buffer`]s; they are recorded into one
//! pending compute pass, which is submitted on a read, on [`Context::flush`], or when it has grown to a budget.
//! Buffers come from a pool and go back to it when dropped.
//!
//! - `adapter` finds adapters and says which are software;
//! - `context` opens one; `health` turns its errors and its loss into [`Error`](crate::Error), and waits; `poller` waits
//!   without blocking;
//! - `buffer`, `pool`, `transfer`: buffers, how they are used again, and what goes into and comes out of them;
//! - `pipeline`, `dispatch`, `plan`, `recorder`: a kernel, its geometry, both with operands, and the pass it joins;
//! - `probe`: kernels that serve the check alone;
//! - `kernels` prepares them for a pass of the caller's, without a context;
//! - `clip`, `clip_grad`, `clip_saving`, `sum`, `affine`: one file an operation, named as its shader.

mod adapter;
mod affine;
mod buffer;
mod clip;
mod clip_grad;
mod clip_saving;
mod context;
mod dispatch;
mod health;
mod kernels;
mod pipeline;
mod plan;
#[cfg(not(target_arch = "wasm32"))]
mod poller;
mod pool;
#[cfg(feature = "check")]
mod probe;
mod recorder;
mod sum;
mod transfer;

pub use adapter::{Adapter, adapters};
pub use buffer::Buffer;
pub use context::Context;
pub use kernels::{Kernels, Prepared};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use transfer::Readback;
