//! The GPU path: WGSL kernels, dispatched through wgpu. The only room that knows wgpu.
//!
//! A [`Context`] is an opened adapter. Its operations take and return [`Buffer`]s; they are recorded into one
//! pending compute pass, which is submitted on a read, on [`Context::flush`], or when it has grown to a budget.
//! Buffers come from a pool and go back to it when dropped.
//!
//! - `adapter` finds adapters and says which are software;
//! - `context` opens one, and turns its errors and its loss into [`Error`](crate::Error);
//! - `pool`, `transfer`: buffers, and what goes into and comes out of them;
//! - `pipeline`, `dispatch`, `recorder`: a kernel, its geometry, and the pass it joins;
//! - `probe`: kernels that serve the check alone;
//! - `clip`, `clip_grad`, `clip_saving`, `sum`, `affine`: one file an operation, named as its shader.

mod adapter;
mod affine;
mod clip;
mod clip_grad;
mod clip_saving;
mod context;
mod dispatch;
mod pipeline;
mod pool;
mod probe;
mod recorder;
mod sum;
mod transfer;

pub use adapter::{Adapter, adapters};
pub use context::Context;
pub use pool::Buffer;
