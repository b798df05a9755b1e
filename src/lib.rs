//! GPU compute kernels for tensor clipping, forward and backward, right to the bit on every device.
//!
//! Clipping keeps values in range: activations, gradients, what is about to be quantised. This crate does it
//! with WGSL kernels on any GPU that [wgpu](https://wgpu.rs) reaches, and on all cores of the CPU where there is
//! none, with one contract for both: what comes out is the bit pattern that [`mod@reference`] says, on every device.
//!
//! ```
//! use wgclip::{Bounds, Device, Gradient};
//!
//! let device = Device::auto()?; // a GPU, or else the CPU
//! let x = device.tensor(&[-2.0f32, 0.0, 0.5, f32::INFINITY], [2, 2])?;
//! let unit = Bounds::new(0.0, 1.0)?;
//! assert_eq!(x.clip(&unit)?.to_vec()?, [0.0, 0.0, 0.5, 1.0]);
//!
//! let upstream = device.tensor(&[3.0f32; 4], [2, 2])?;
//! let grad = x.clip_grad(&upstream, &unit, Gradient::default())?;
//! assert_eq!(grad.to_vec()?, [0.0, 3.0, 3.0, 0.0]);
//! # Ok::<(), wgclip::Error>(())
//! ```
//!
//! # The tour
//! - [`Device`] is a GPU or the CPU; [`Tensor`] is what it holds and clips.
//! - [`Bounds`] is the interval, either end of which may be absent, a value, or a tensor that broadcasts.
//! - [`Gradient`] is the backward rule: what passes outside the interval, at its ends, and at NaN. Frameworks
//!   differ here, so each has a preset: `"torch".parse::<Gradient>()`.
//! - [`Tensor::clip_saving`] keeps one bit an element for the backward pass; [`Tensor::clip_grads`] gives the
//!   gradients of the bounds too.
//! - [`Element`] is one of twelve types, [`ElementType`] the same as a value.
//! - [`mod@reference`] is the contract as plain functions of one element.
#![cfg_attr(
    all(feature = "check", not(target_arch = "wasm32")),
    doc = "- [`check`] tells whether a device keeps it."
)]
//! - [`cpu`] clips slices where you have them.
#![cfg_attr(feature = "gpu", doc = "- [`gpu`] is the level below tensors: contexts and buffers of wgpu.")]
//!
//! # Blocking and async
//! What reads or waits comes twice: blocking ([`Tensor::to_vec`], [`Device::auto`]; not in a browser) and async
//! ([`Tensor::read`], [`Device::request`]), which neither blocks nor starts threads.
//!
//! # Features
//! `gpu` (default) brings wgpu. Without it the CPU path stands alone. `check` brings the module of that name, which
//! takes as long to build as all the rest.

#![forbid(unsafe_code)]

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

mod accumulator;
mod bounds;
mod broadcast;
#[cfg(all(feature = "check", not(target_arch = "wasm32")))]
pub mod check;
pub mod cpu;
mod decimal;
mod device;
mod element;
mod error;
mod format;
#[cfg(feature = "gpu")]
pub mod gpu;
mod gradient;
mod host;
mod info;
pub mod reference;
mod shape;
mod stats;
#[cfg(not(target_arch = "wasm32"))]
mod stream;
mod tensor;

pub use accumulator::Accumulator;
pub use bounds::{Bound, Bounds, Interval};
pub use device::Device;
pub use element::{Element, ElementType, Parsed};
pub use error::{Error, Result};
pub use format::{Format, Kind};
pub use gradient::{Gradient, NanGradient, Outside, Ties, UnknownName};
pub use half::{bf16, f16};
pub use info::{DeviceInfo, DeviceKind, DeviceLimits};
pub use shape::Shape;
pub use stats::Stats;
#[cfg(not(target_arch = "wasm32"))]
pub use stream::ClipStream;
pub use tensor::{Grads, Saved, Tensor, Wanted};
