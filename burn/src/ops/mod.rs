//! The operations of every backend, called through Burn's dispatch: kernels where they run, otherwise Burn's own operations
//! (the default bodies here).

mod autodiff;
pub mod composed;
mod cube;
mod flex;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, ExtensionType, TensorMetadata, backend_extension};
use burn::tensor::{DType, FloatDType};
use wgclip::{BackwardRule, ElementType, NormKind, NormLimit};

/// Unwraps a result that was checked before.
fn checked<T>(result: wgclip::Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("wgclip: {error}"))
}

/// The element type, if it has kernels.
pub(crate) fn element_of(dtype: DType) -> Option<ElementType> {
    match dtype {
        DType::F64 => Some(ElementType::F64),
        DType::F32 => Some(ElementType::F32),
        DType::F16 => Some(ElementType::F16),
        DType::BF16 => Some(ElementType::Bf16),
        _ => None,
    }
}

/// The type of the norm of elements of a type.
pub(crate) fn norm_dtype(elements: DType) -> FloatDType {
    if elements == DType::F64 { FloatDType::F64 } else { FloatDType::F32 }
}

/// A bound of a tensor.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub enum Bound<B: Backend> {
    /// No bound: infinities stay.
    Absent,
    /// One value for all elements, rounded to their type.
    Value(f64),
    /// A tensor that broadcasts to the clipped one by numpy's rules.
    Tensor(FloatTensor<B>),
}

impl<B: Backend> Bound<B> {
    pub(crate) fn tensor(&self) -> Option<&FloatTensor<B>> {
        match self {
            Self::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }
}

/// The gradients that a backward pass must compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// The gradient of x.
    pub x: bool,
    /// The gradient of the lower bound.
    pub lo: bool,
    /// The gradient of the upper bound.
    pub hi: bool,
}

/// The gradients of a clip, each present if requested.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub struct Gradients<B: Backend> {
    /// The gradient of x.
    #[extension_type]
    pub x: Gradient<B>,
    /// The gradient of the lower bound, in its shape.
    #[extension_type]
    pub lo: Gradient<B>,
    /// The gradient of the upper bound, in its shape.
    #[extension_type]
    pub hi: Gradient<B>,
}

/// One gradient.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub enum Gradient<B: Backend> {
    /// Not requested.
    None,
    /// The gradient.
    Of(FloatTensor<B>),
}

/// A clipped tensor, and one bit per element: whether the gradient passes.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub struct Masked<B: Backend> {
    /// The clipped elements.
    pub y: FloatTensor<B>,
    /// The bits, in a format of the backend's own.
    pub mask: IntTensor<B>,
}

/// A norm and its scaling.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub struct Limited<B: Backend> {
    /// The norm, of shape `[1]`.
    pub norm: FloatTensor<B>,
    /// The scaling of the elements, in a format of the backend's own.
    pub scaling: IntTensor<B>,
}

/// The operations of wgclip on a Burn backend. Use the functions of the crate, which check the operands and dispatch to
/// these.
#[backend_extension(Cube, Flex, Autodiff, Fusion)]
pub trait ClipOps: Backend {
    /// `min(max(x, lo), hi)`; `rule` applies to the backward pass.
    #[fusion(dtype = x, shape = x)]
    fn clip(
        x: FloatTensor<Self>,
        #[extension_type] lo: Bound<Self>,
        #[extension_type] hi: Bound<Self>,
        rule: BackwardRule,
    ) -> FloatTensor<Self> {
        let _ = rule;
        composed::clip::<Self>(x, &lo, &hi)
    }

    /// The gradients of x and its bounds, for the upstream gradient `g`.
    #[fusion(meta = |x, _, lo, hi, _, needs| composed::gradients_metadata(x, lo, hi, *needs))]
    fn clip_backward(
        x: FloatTensor<Self>,
        g: FloatTensor<Self>,
        #[extension_type] lo: Bound<Self>,
        #[extension_type] hi: Bound<Self>,
        rule: BackwardRule,
        needs: Needs,
    ) -> Gradients<Self> {
        composed::clip_backward::<Self>(x, g, &lo, &hi, rule, needs)
    }

    /// A clip that keeps a mask, for a rule that [fits one](BackwardRule::fits_mask).
    #[fusion(meta = |x, _, _, _| cube::masked_metadata(x))]
    fn clip_with_mask(
        x: FloatTensor<Self>,
        #[extension_type] lo: Bound<Self>,
        #[extension_type] hi: Bound<Self>,
        rule: BackwardRule,
    ) -> Masked<Self>;

    /// The gradient of the clipped tensor.
    #[fusion(dtype = g, shape = g)]
    fn mask_backward(g: FloatTensor<Self>, mask: IntTensor<Self>) -> FloatTensor<Self>;

    /// The exact sum for a norm of x, in a format of the backend's own.
    #[fusion(meta = |_, kind| cube::sum_spec(*kind))]
    fn start_norm(x: FloatTensor<Self>, kind: NormKind) -> IntTensor<Self>;

    /// Adds the elements of x to a sum, possibly in place.
    #[fusion(dtype = sum, shape = sum)]
    fn add_norm(sum: IntTensor<Self>, x: FloatTensor<Self>, kind: NormKind) -> IntTensor<Self>;

    /// Rounds the sum to a norm, an f32 or an f64, and computes the scaling.
    #[fusion(meta = |_, _, to| cube::limited_metadata(*to))]
    fn limit_norm(sum: IntTensor<Self>, limit: NormLimit, to: FloatDType) -> Limited<Self>;

    /// Scales elements.
    #[fusion(dtype = x, shape = x)]
    fn scale(x: FloatTensor<Self>, scaling: IntTensor<Self>) -> FloatTensor<Self>;

    /// x, scaled so that its 2-norm is at most a limit.
    #[fusion(dtype = x, shape = x)]
    fn clip_by_norm(x: FloatTensor<Self>, limit: NormLimit) -> FloatTensor<Self> {
        let to = norm_dtype(x.dtype());
        let Limited { scaling, .. } = Self::limit_norm(Self::start_norm(x.clone(), limit.kind), limit, to);
        Self::scale(x, scaling)
    }

    /// The gradient of x, which is scaled by its own 2-norm, for the upstream gradient `g`.
    #[fusion(dtype = x, shape = x)]
    fn scale_backward(x: FloatTensor<Self>, g: FloatTensor<Self>, limit: NormLimit) -> FloatTensor<Self>;
}
