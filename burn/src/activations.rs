//! Functions that bound their argument, and layers of them.

use burn::backend::Dispatch;
use burn::module::Module;
use burn::tensor::Tensor;
use wgclip::op::{self, Op};
use wgclip::{BackwardRule, Error, Result};

use crate::operands::Like;
use crate::ops::{Broadcast, Call, ClipOps};
use crate::run::check_path;

/// The hyperbolic tangent: the real one rounded once, and so is its gradient, which is computed from the result. On Flex and on wgpu both have the bits of
/// [`reference::tanh`](wgclip::reference::tanh), so that a training run with it repeats on another device as far as its other operations do.
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let x = Tensor::<1>::from_data([-20.0, 0.5], &Device::flex().autodiff()).require_grad();
/// let y = wgclip_burn::tanh(x.clone())?;
/// assert_eq!(y.clone().into_data().try_into_vec::<f32>().unwrap(), [-1.0, 0.46211717]);
/// let gradient = x.grad(&y.sum().backward()).unwrap();
/// assert_eq!(gradient.into_data().try_into_vec::<f32>().unwrap(), [0.0, 0.7864477]);
/// # Ok::<(), wgclip_burn::Error>(())
/// ```
///
/// # Errors
/// [`Error::Unsupported`](crate::Error::Unsupported) for f64, and on [`Path::Composed`](crate::Path::Composed); otherwise those of [`clip`](crate::clip).
pub fn tanh<const D: usize>(x: Tensor<D>) -> Result<Tensor<D>> {
    of(Op::Tanh, x, Vec::new())
}

/// The logistic function `1 / (1 + exp(-x))`, as [`tanh`]: with the bits of [`reference::sigmoid`](wgclip::reference::sigmoid).
///
/// # Errors
/// As [`tanh`].
pub fn sigmoid<const D: usize>(x: Tensor<D>) -> Result<Tensor<D>> {
    of(Op::Sigmoid, x, Vec::new())
}

/// `cap * tanh(x / cap)`, as language models cap attention scores and logits: with the bits of [`reference::soft_cap`](wgclip::reference::soft_cap), and its gradient with those of
/// [`reference::soft_cap_backward`](wgclip::reference::soft_cap_backward).
///
/// # Errors
/// [`Error::Cap`](crate::Error::Cap); otherwise those of [`tanh`].
pub fn soft_cap<const D: usize>(x: Tensor<D>, cap: f64) -> Result<Tensor<D>> {
    of(Op::SoftCap, x, vec![cap])
}

/// `exp(x)` divided by its sum along a dimension, as Burn's `softmax`: with the bits of [`reference::softmax`](wgclip::reference::softmax()), and its gradient with those of
/// [`reference::softmax_backward`](wgclip::reference::softmax_backward), on Flex and on wgpu.
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let x = Tensor::<2>::from_data([[0.0, f32::NEG_INFINITY, 0.0]], &Device::flex());
/// let y = wgclip_burn::softmax(x, 1)?;
/// assert_eq!(y.into_data().try_into_vec::<f32>().unwrap(), [0.5, 0.0, 0.5]);
/// # Ok::<(), wgclip_burn::Error>(())
/// ```
///
/// # Errors
/// [`Error::InvalidAxes`](crate::Error::InvalidAxes) for a dimension that x does not have; otherwise those of [`tanh`].
pub fn softmax<const D: usize>(x: Tensor<D>, dim: usize) -> Result<Tensor<D>> {
    let (like, path) = Like::of(&x)?;
    if dim >= D {
        return Err(Error::InvalidAxes { axes: vec![dim], shape: x.dims().to_vec() });
    }
    check_path(Op::Softmax, &like, path, &x.device())?;
    Ok(Tensor::from_dispatch(Dispatch::softmax_along(x.into_dispatch(), vec![dim])))
}

fn of<const D: usize>(op: Op, x: Tensor<D>, params: Vec<f64>) -> Result<Tensor<D>> {
    let (like, path) = Like::of(&x)?;
    check_path(op, &like, path, &x.device())?;
    let resolved = like.resolve(op, &x, &[])?;
    op::Arguments { params: &params, ..op::Arguments::new(&resolved) }.check(op)?;
    let call = Call { params, ..Call::new(op, BackwardRule::default()) };
    Ok(Tensor::from_dispatch(Dispatch::recorded(x.into_dispatch(), Broadcast::new([]), call)))
}

macro_rules! layers {
    ($($(#[$doc:meta])* $Layer:ident: $function:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Module, Debug, Default)]
        pub struct $Layer;

        impl $Layer {
            /// A layer without parameters.
            pub fn new() -> Self {
                Self
            }

            /// Applies it to `x`, of any shape.
            ///
            /// # Panics
            /// Like Burn's own operations: on tensors of a type or a device without kernels.
            pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
                $function(x).unwrap_or_else(|error| panic!("{error}"))
            }
        }
    )+};
}

layers! {
    /// [`tanh`] as a layer, in the place of Burn's `Tanh`.
    Tanh: tanh;
    /// [`sigmoid`] as a layer, in the place of Burn's `Sigmoid`.
    Sigmoid: sigmoid;
}

/// [`softmax`] as a layer: `Softmax::new(1)`.
#[derive(Module, Debug)]
pub struct Softmax {
    dim: usize,
}

impl Softmax {
    /// A layer along a dimension.
    pub fn new(dim: usize) -> Self {
        Self { dim }
    }

    /// Applies it to `x`.
    ///
    /// # Panics
    /// Like Burn's own operations: on tensors of a type or a device without kernels, or without this dimension.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        softmax(x, self.dim).unwrap_or_else(|error| panic!("{error}"))
    }
}
