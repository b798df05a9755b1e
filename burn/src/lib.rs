//! wgclip for [Burn](https://burn.dev): layers that limit their outputs, and gradient clipping by global norm.
//!
//! [`clip`], [`tanh`], [`sigmoid`], [`softmax`](softmax()), [`fake_quantize`] and the layers ([`ClipByValue`], [`LearnedClip`], [`LearnedFakeQuantize`], ...) take Burn's tensors, with autodiff and fusion; [`run`] takes any operation
//! of wgclip's list.
//! [`clip_by_global_norm`] and [`LimitGradients`] limit gradients before a step, by an exact norm that is not read back. [`path()`] returns
//! the code path of a device: wgclip's WGSL kernels, in Burn's own passes, its CPU path, or Burn's own operations. The kernels return
//! the results of [`wgclip::reference`], bit for bit.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use wgclip_burn::clip_with;
//!
//! let device = Device::flex().autodiff();
//! let x = Tensor::<1>::from_data([-1.0, 0.0, 0.5, 1.0, 2.0], &device).require_grad();
//! let y = clip_with(x.clone(), 0.0..=1.0, "torch".parse()?)?; // as torch.clamp: a tie is the bound's
//! let grads = y.sum().backward();
//! let gradient = x.grad(&grads).unwrap().into_data().try_into_vec::<f32>().unwrap();
//! assert_eq!(gradient, [0.0, 0.0, 1.0, 0.0, 0.0]);
//! # Ok::<(), wgclip_burn::Error>(())
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

mod activations;
mod bounds;
mod clip;
mod modules;
mod norm;
mod operands;
pub mod ops;
mod optimizer;
mod path;
mod quantization;
mod run;

pub use activations::{Sigmoid, Softmax, Tanh, sigmoid, soft_cap, softmax, tanh};
pub use bounds::Bounds;
pub use clip::{clip, clip_keeping_mask, clip_with};
pub use modules::{ClipByValue, HardSigmoid, HardTanh, LearnedClip, Relu6, StraightThroughClip};
pub use norm::{clip_by_global_norm, clip_by_norm, clip_gradients};
pub use optimizer::{GlobalNormOptimizer, LimitGradients};
pub use path::{Path, path};
pub use quantization::{FakeQuantize, LearnedFakeQuantize, Pact, fake_quantize};
pub use run::{Arguments, run};
pub use wgclip::{
    BackwardRule, Error, NanRule, NonFinitePolicy, NormKind, NormLimit, OutsideRule, Result, TieRule, op,
    quantize,
};
