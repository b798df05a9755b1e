//! The operations that every backend has, as Burn's dispatch calls them: kernels where they run, and Burn's own operations
//! (the bodies here) where not.

mod autodiff;
pub mod composed;
mod cube;
mod flex;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, ExtensionType, TensorMetadata, backend_extension};
use burn::tensor::{DType, FloatDType};
use wgclip::{BackwardRule, ElementType, NormKind, NormLimit};

/// What has been checked before.
fn checked<T>(result: wgclip::Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("wgclip: {error}"))
}

/// The type of elements that have kernels.
pub(crate) fn element_of(dtype: DType) -> Option<ElementType> {
    match dtype {
        DType::F64 => Some(ElementType::F64),
        DType::F32 => Some(ElementType::F32),
        DType::F16 => Some(ElementType::F16),
        DType::BF16 => Some(ElementType::Bf16),
        _ => None,
    }
}

/// The type of the norm of elements.
pub(crate) fn norm_dtype(elements: DType) -> FloatDType {
    if elements == DType::F64 { FloatDType::F64 } else { FloatDType::F32 }
}

/// A bound of a tensor.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub enum Bound<B: Backend> {
    /// No limit: infinities stay.
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

/// What a backward pass is to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The gradient of x.
    pub x: bool,
    /// The gradient of the lower bound.
    pub lo: bool,
    /// The gradient of the upper bound.
    pub hi: bool,
}

/// The gradients of a clip: each is there if it was wanted.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub struct Gradients<B: Backend> {
    /// What x receives.
    #[extension_type]
    pub x: Gradient<B>,
    /// What the lower bound receives, in its shape.
    #[extension_type]
    pub lo: Gradient<B>,
    /// What the upper bound receives, in its shape.
    #[extension_type]
    pub hi: Gradient<B>,
}

/// One of them.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub enum Gradient<B: Backend> {
    /// It was not wanted.
    None,
    /// The gradient.
    Of(FloatTensor<B>),
}

/// What is clipped, and one bit per element: whether the gradient passes.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub struct Masked<B: Backend> {
    /// The clipped elements.
    pub y: FloatTensor<B>,
    /// The bits, in words of the backend's own.
    pub mask: IntTensor<B>,
}

/// What a norm makes of elements.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub struct Limited<B: Backend> {
    /// The norm, of shape `[1]`.
    pub norm: FloatTensor<B>,
    /// What elements are scaled by, in words of the backend's own.
    pub scaling: IntTensor<B>,
}

/// The operations of wgclip on a backend of Burn's. Use the functions of the crate: these here are what they dispatch to, on operands
/// that have been checked.
#[backend_extension(Cube, Flex, Autodiff, Fusion)]
pub trait ClipOps: Backend {
    /// `min(max(x, lo), hi)`; `rule` is that of the backward pass.
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

    /// The gradients that reach x and its bounds, of the upstream gradient `g`.
    #[fusion(meta = |x, _, lo, hi, _, wanted| composed::gradients_metadata(x, lo, hi, *wanted))]
    fn clip_backward(
        x: FloatTensor<Self>,
        g: FloatTensor<Self>,
        #[extension_type] lo: Bound<Self>,
        #[extension_type] hi: Bound<Self>,
        rule: BackwardRule,
        wanted: Wanted,
    ) -> Gradients<Self> {
        composed::clip_backward::<Self>(x, g, &lo, &hi, rule, wanted)
    }

    /// A clip that keeps a mask, for a rule that [fits one](BackwardRule::fits_mask).
    #[fusion(meta = |x, _, _, _| cube::masked_metadata(x))]
    fn clip_with_mask(
        x: FloatTensor<Self>,
        #[extension_type] lo: Bound<Self>,
        #[extension_type] hi: Bound<Self>,
        rule: BackwardRule,
    ) -> Masked<Self>;

    /// The gradient that reaches what was clipped.
    #[fusion(dtype = g, shape = g)]
    fn mask_backward(g: FloatTensor<Self>, mask: IntTensor<Self>) -> FloatTensor<Self>;

    /// The exact sum that a norm of x is made of, in words of the backend's own.
    #[fusion(meta = |_, kind| cube::sum_spec(*kind))]
    fn start_norm(x: FloatTensor<Self>, kind: NormKind) -> IntTensor<Self>;

    /// Such a sum with the elements of x as well. It may be added to where it is.
    #[fusion(dtype = sum, shape = sum)]
    fn add_norm(sum: IntTensor<Self>, x: FloatTensor<Self>, kind: NormKind) -> IntTensor<Self>;

    /// Rounds the sum to a norm, an f32 or an f64, and computes the scaling.
    #[fusion(meta = |_, _, to| cube::limited_metadata(*to))]
    fn limit_norm(sum: IntTensor<Self>, limit: NormLimit, to: FloatDType) -> Limited<Self>;

    /// Elements, scaled.
    #[fusion(dtype = x, shape = x)]
    fn scale(x: FloatTensor<Self>, scaling: IntTensor<Self>) -> FloatTensor<Self>;

    /// x, scaled so that its 2-norm is at most a limit.
    #[fusion(dtype = x, shape = x)]
    fn clip_by_norm(x: FloatTensor<Self>, limit: NormLimit) -> FloatTensor<Self> {
        let to = norm_dtype(x.dtype());
        let Limited { scaling, .. } = Self::limit_norm(Self::start_norm(x.clone(), limit.kind), limit, to);
        Self::scale(x, scaling)
    }

    /// The gradient that reaches x, which is scaled by its own 2-norm, of the upstream gradient `g`.
    #[fusion(dtype = x, shape = x)]
    fn scale_backward(x: FloatTensor<Self>, g: FloatTensor<Self>, limit: NormLimit) -> FloatTensor<Self>;
}
