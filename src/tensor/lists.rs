//! Lists of tensors of any types: the norm of all together, and clipping by it.

use super::norm::check_norm;
use super::{Storage, Stored, Tensor, with_storage};
use crate::backend::Backend;
use crate::call::Limiter;
use crate::device::with_backend;
use crate::norm::Scaling;
use crate::{Device, Element, ElementType, Error, NormKind, NormLimit, Result, Shape};

/// A tensor of any type, as [`clip_by_global_norm`] takes them: every [`Tensor`] is one.
pub trait AnyTensor: sealed::Viewed {}

impl<T: Element> AnyTensor for Tensor<T> {}

mod sealed {
    use super::{Element, ElementType, Storage, Tensor};

    /// What an [`AnyTensor`](super::AnyTensor) is to a device.
    pub struct View<'a>(pub(super) ElementType, pub(super) &'a Storage);

    impl<'a> View<'a> {
        pub(crate) fn element(&self) -> ElementType {
            self.0
        }

        pub(crate) fn storage(&self) -> &'a Storage {
            self.1
        }
    }

    /// The same, to be changed.
    pub struct ViewMut<'a>(pub(super) ElementType, pub(super) &'a mut Storage);

    pub trait Viewed {
        fn view(&self) -> View<'_>;
        fn view_mut(&mut self) -> ViewMut<'_>;
    }

    impl<T: Element> Viewed for Tensor<T> {
        fn view(&self) -> View<'_> {
            View(T::TYPE, &self.storage)
        }

        fn view_mut(&mut self) -> ViewMut<'_> {
            ViewMut(T::TYPE, &mut self.storage)
        }
    }
}

/// Whether the norm of several tensors has the type that [`ElementType::of_norm`] says.
fn check_norms(norm: ElementType, elements: &[ElementType]) -> Result<()> {
    elements.iter().try_for_each(|&element| check_norm(element))?;
    match ElementType::of_norm(elements.iter().copied()) {
        right if right == norm => Ok(()),
        right => Err(Error::TypeMismatch { left: norm, right }),
    }
}

/// The norm of all elements of several tensors, in f32, or in f64 if any is f64: it does not change with their order, or
/// with how elements are divided among them. Of shape `[]`; +0 if there are none, on the CPU then.
///
/// # Errors
/// [`Error::TypeMismatch`] for a norm in f32 if any tensor is f64, in f64 if none is, or in another type;
/// [`Error::DeviceMismatch`]; [`Error::Unsupported`] for integers, and for f64 on a GPU; otherwise as [`Tensor::sum`].
pub fn global_norm<N: Element>(tensors: &[&dyn AnyTensor], kind: NormKind) -> Result<Tensor<N>> {
    let views: Vec<_> = tensors.iter().map(|tensor| tensor.view()).collect();
    if views.is_empty() {
        return Device::cpu().tensor(&[N::ZERO], []);
    }
    Ok(Tensor::new(norm_of_list(&views, kind, N::TYPE)?, Shape::new([])?))
}

fn norm_of_list(views: &[sealed::View<'_>], kind: NormKind, norm: ElementType) -> Result<Storage> {
    check_norms(norm, &views.iter().map(|view| view.element()).collect::<Vec<_>>())?;
    let first = views[0].storage();
    with_storage!(first, backend, _first => {
        let list = views.iter().map(|view| Ok((view.element(), first.peer(backend, view.storage())?)));
        let list: Vec<_> = list.collect::<Result<_>>()?;
        Ok(backend.store(backend.reduce_list(&list, kind.reduce_op(), norm)?))
    })
}

/// Scales the elements of several tensors down, in place, so that the norm of all together is at most a limit: torch's
/// `clip_grad_norm_`, TensorFlow's and optax's `clip_by_global_norm`. Returns that norm, in f32, or in f64 if any is f64: a
/// tensor on the device, which nothing waits for. Tensors may be of several types. Where the norm is within the limit they
/// keep their bits; clones of them keep theirs.
///
/// ```
/// use wgclip::{Device, NormLimit, Tensor, clip_by_global_norm, f16};
///
/// let device = Device::auto()?;
/// let mut weight = device.tensor(&[3.0f32, 0.0], [2])?;
/// let mut bias = device.tensor(&[f16::from_f32(-4.0)], [1])?;
/// let norm: Tensor<f32> = clip_by_global_norm(&mut [&mut weight, &mut bias], NormLimit::new(2.5))?;
/// assert_eq!(weight.to_vec()?, [1.5, 0.0]);
/// assert_eq!(bias.to_vec()?, [f16::from_f32(-2.0)]);
/// assert_eq!(norm.to_vec()?, [5.0]);
/// # Ok::<(), wgclip::Error>(())
/// ```
///
/// # Errors
/// [`Error::InvalidLimit`], [`Error::NonFiniteNorm`] where it is asked for; otherwise as [`global_norm`]. All tensors are then
/// as they were.
pub fn clip_by_global_norm<N: Element>(
    tensors: &mut [&mut dyn AnyTensor],
    limit: impl Into<NormLimit>,
) -> Result<Tensor<N>> {
    let limit = limit.into();
    limit.check()?;
    let views: Vec<&dyn AnyTensor> = tensors.iter().map(|tensor| &**tensor).collect();
    let norm = global_norm::<N>(&views, limit.kind)?;
    scale_list(tensors, (N::TYPE, &norm.storage), &limit)?;
    Ok(norm)
}

fn scale_list(
    tensors: &mut [&mut dyn AnyTensor],
    (element, norm): (ElementType, &Storage),
    limit: &NormLimit,
) -> Result<()> {
    let device = norm.device();
    with_backend!(device.backend(), backend => {
        let limiter = Limiter { limit, average: None, relative: None };
        let scalings = backend.scalings(element, norm.peer(backend, norm)?, limiter)?;
        backend.scale_list(on_device(backend, tensors)?, &scalings)
    })
}

/// Scales the elements of several tensors in place, by what [`NormState::scaling`](crate::NormState::scaling) made of a norm
/// that is not theirs alone: that of a list on several devices, or of all ranks. As
/// [`reference::scale`](crate::reference::scale) says; clones keep their elements.
///
/// ```
/// use wgclip::{Device, NormKind, NormState, scale_in_place};
///
/// let (gpu, cpu) = (Device::auto()?, Device::cpu());
/// let (mut weight, mut bias) = (gpu.tensor(&[3.0f32], [1])?, cpu.tensor(&[-4.0f32], [1])?);
/// let mut state = NormState::new(NormKind::L2);
/// state.add(&[&weight, &bias])?;
/// let scaling = state.scaling::<f32>(2.5)?;
/// scale_in_place(&mut [&mut weight], scaling)?;
/// scale_in_place(&mut [&mut bias], scaling)?;
/// assert_eq!((weight.to_vec()?, bias.to_vec()?), (vec![1.5], vec![-2.0]));
/// # Ok::<(), wgclip::Error>(())
/// ```
///
/// # Errors
/// [`Error::DeviceMismatch`] for tensors of several devices; [`Error::Unsupported`] for integers, and on a GPU for f64 and for a
/// coefficient that is no f32; [`Error::OutOfMemory`]. All tensors are then as they were.
pub fn scale_in_place<N: Element>(tensors: &mut [&mut dyn AnyTensor], scaling: Scaling<N>) -> Result<()> {
    scale_all(tensors, scaling.to_f64())
}

fn scale_all(tensors: &mut [&mut dyn AnyTensor], scaling: Scaling<f64>) -> Result<()> {
    let elements: Vec<_> = tensors.iter().map(|tensor| tensor.view().element()).collect();
    elements.iter().try_for_each(|&element| check_norm(element))?;
    let Some(first) = tensors.first() else { return Ok(()) };
    let device = first.view().storage().device();
    tensors.iter().try_for_each(|tensor| device.check_same(&tensor.view().storage().device()))?;
    if scaling == Scaling::Keep {
        return Ok(());
    }
    with_backend!(device.backend(), backend => {
        let scalings = backend.known_scaling(&elements, scaling)?;
        backend.scale_list(on_device(backend, tensors)?, &scalings)
    })
}

/// The buffers of tensors that are known to be on a device.
fn on_device<'a, B: Stored>(
    backend: &B,
    tensors: &'a mut [&mut dyn AnyTensor],
) -> Result<Vec<(ElementType, &'a mut B::Buffer)>> {
    let buffer = |tensor: &'a mut &mut dyn AnyTensor| {
        let view = tensor.view_mut();
        let elsewhere =
            || Error::Internal { op: "clip_by_global_norm", what: "on a tensor of another device".into() };
        Ok((view.0, backend.find_mut(view.1).ok_or_else(elsewhere)?))
    };
    tensors.iter_mut().map(buffer).collect()
}
