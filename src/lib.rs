//! GPU compute kernels for tensor clipping, forward and backward, bit-identical on every device.
//!
//! Clipping keeps values in range: activations, gradients, inputs to quantisation. This crate does it
//! with WGSL kernels on any GPU that [wgpu](https://wgpu.rs) reaches, and on all cores of the CPU where there is
//! none, with one contract for both: what comes out is the bit pattern that [`mod@reference`] says, on every device.
//!
//! ```
//! use wgclip::{BackwardRule, Device};
//!
//! let device = Device::auto()?; // a GPU, or else the CPU
//! let x = device.tensor(&[-2.0f32, 0.0, 0.5, f32::INFINITY], [2, 2])?;
//! assert_eq!(x.clip(0.0..=1.0)?.to_vec()?, [0.0, 0.0, 0.5, 1.0]);
//!
//! let upstream = device.tensor(&[3.0f32; 4], [2, 2])?;
//! let grad = x.clip_backward(&upstream, 0.0..=1.0, BackwardRule::default())?;
//! assert_eq!(grad.to_vec()?, [0.0, 3.0, 3.0, 0.0]);
//! # Ok::<(), wgclip::Error>(())
//! ```
//!
//! # The tour
//! - [`Device`] is a GPU or the CPU; [`Tensor`] is what it holds and clips.
//! - [`Bounds`] are the two ends, either of which may be absent, a value, or a tensor that broadcasts. Wherever they are
//!   taken, a range (`0.0..=1.0`, `..=6.0`) or a pair of values or tensors will do.
//! - [`BackwardRule`] says what gradient passes outside the bounds, at them, and at NaN. Frameworks differ here, so each
//!   has a preset: `"torch".parse::<BackwardRule>()`.
//! - [`Tensor::clip_with_mask`] keeps one bit per element for the backward pass; [`Tensor::clip_backward_bounds`] gives
//!   the gradients of the bounds too.
//! - [`Tensor::clip_to`] clips and converts to another type of float in one pass, [`f8_e4m3fn`] for example.
//! - [`Tensor::norm`], [`Tensor::clip_by_norm`] and [`clip_by_global_norm`] take a [`NormLimit`]: exact norms, with the same bits in
//!   any order; [`NormState`](norm::NormState) takes them across ranks.
//! - [`Tensor::fake_quantize`] rounds to a grid and clips, by a [`QuantRule`](quantize::QuantRule): exact, or as a package does it.
//! - [`Element`] is one of fourteen types, [`ElementType`] the same as a value.
//! - [`DynTensor`] is a tensor whose type is a value; it runs any operation of the list.
//! - [`mod@reference`] is the contract as plain functions of one element, and [`Op`] the list of operations.
//! - [`cpu`] clips slices where you have them; [`wgsl`] has the element functions for a shader of your own.
#![cfg_attr(feature = "gpu", doc = "- [`gpu`] prepares the kernels for a wgpu program of your own.")]
//!
//! # Blocking and async
//! What reads or waits comes twice: blocking ([`Tensor::to_vec`], [`Device::auto`]; not in a browser) and async
//! ([`Tensor::read`], [`Device::request`]), which does not block. Outside of a browser one thread for each device waits for
//! async reads.
//!
//! # Errors
//! Every call that can fail returns [`Result`]. Besides those that its documentation names, any call on a GPU may return
//! [`Error::DeviceLost`], [`Error::InvalidBuffer`] (a wgpu buffer of yours is mapped or destroyed) and [`Error::Blocked`] (a
//! callback of yours waits for another thread). docs/failures.md tells what has changed then, and what goes on.
//!
//! # Features
//! `gpu` (default) brings wgpu. Without it the CPU path stands alone.

#![forbid(unsafe_code)]
// In a browser wgpu's objects stay on their thread.
#![cfg_attr(target_arch = "wasm32", allow(clippy::arc_with_non_send_sync))]

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

mod backend;
pub mod bounds;
mod broadcast;
mod call;
pub mod device;
pub mod element;
mod error;
pub mod norm;
pub mod op;
pub mod plan;
pub mod quantize;
pub mod reference;
mod rule;
mod shape;
#[cfg(not(target_arch = "wasm32"))]
pub mod stream;
mod tensor;
#[doc(hidden)]
#[allow(missing_docs)]
pub mod testing;
pub mod wgsl;

pub use backend::cpu;
#[cfg(feature = "gpu")]
pub use backend::gpu;
pub use bounds::{Bound, Bounds, IntoBounds};
pub use device::Device;
pub use element::{Element, ElementType, f8_e4m3fn, f8_e5m2};
pub use error::{Error, Result};
pub use half::{bf16, f16};
pub use norm::{NonFinitePolicy, NormKind, NormLimit, clip_by_global_norm};
pub use rule::{BackwardRule, NanRule, OutsideRule, TieRule};
pub use shape::Shape;
pub use tensor::{Axes, BoundGradients, DynTensor, LeakyGradients, Mask, NeedsGrad, Tensor};

pub(crate) use bounds::{BoundRounding, Number};
pub(crate) use device::{DeviceInfo, DeviceKind, Stats};
pub(crate) use op::Op;
