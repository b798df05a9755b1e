//! Lists of tensors of any types: the norm of all together, and clipping by it.

use super::norm::check_norm;
use super::{Storage, Stored, Tensor, with_storage};
use crate::backend::Backend;
use crate::backend::any::with_backend;
use crate::call::Limiter;
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

/// The norm of several tensors, on their device: an f32, or an f64 if any of them is f64. Nothing waits for it until it is read.
#[derive(Debug, Clone)]
pub struct GlobalNorm {
    element: ElementType,
    storage: Storage,
}

impl GlobalNorm {
    /// The type of the norm.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// The norm as a number. Blocks until the device has computed it.
    ///
    /// # Errors
    /// As [`Tensor::to_vec`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn value(&self) -> Result<f64> {
        pollster::block_on(self.read())
    }

    /// The same without blocking.
    ///
    /// # Errors
    /// As [`Tensor::read`].
    pub async fn read(&self) -> Result<f64> {
        let norm = match self.element {
            ElementType::F64 => self.to_tensor::<f64>()?.read().await?.first().copied(),
            _ => self.to_tensor::<f32>()?.read().await?.first().copied().map(f64::from),
        };
        norm.ok_or(Error::Internal { op: "global_norm", what: "without its output".into() })
    }

    /// The norm as a tensor of shape `[]`, unread: to go on with on the device.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] for another type than [that of the norm](Self::element).
    pub fn to_tensor<N: Element>(&self) -> Result<Tensor<N>> {
        match N::TYPE == self.element {
            true => Ok(Tensor::new(self.storage.clone(), Shape::new([])?)),
            false => Err(Error::TypeMismatch { left: N::TYPE, right: self.element }),
        }
    }
}

/// The norm of all elements of several tensors, in f32, or in f64 if any is f64: it does not change with their order, or
/// with how elements are divided among them. +0 if there are none, on the CPU then.
///
/// # Errors
/// [`Error::DeviceMismatch`]; [`Error::Unsupported`] for integers, and for f64 on a GPU; otherwise as [`Tensor::sum`].
pub fn global_norm(tensors: &[&dyn AnyTensor], kind: NormKind) -> Result<GlobalNorm> {
    let views: Vec<_> = tensors.iter().map(|tensor| tensor.view()).collect();
    views.iter().try_for_each(|view| check_norm(view.element()))?;
    let element = ElementType::of_norm(views.iter().map(|view| view.element()));
    let Some(first) = views.first().map(|view| view.storage()) else {
        let storage = Device::cpu().tensor(&[0.0f32], [])?.storage().clone();
        return Ok(GlobalNorm { element, storage });
    };
    let storage = with_storage!(first, backend, _first => {
        let list = views.iter().map(|view| Ok((view.element(), first.peer(backend, view.storage())?)));
        let list: Vec<_> = list.collect::<Result<_>>()?;
        backend.store(backend.reduce_list(&list, kind.reduce_op(), element)?)
    });
    Ok(GlobalNorm { element, storage })
}

/// Scales the elements of several tensors down, in place, so that the norm of all together is at most a limit: torch's
/// `clip_grad_norm_`, TensorFlow's and optax's `clip_by_global_norm`. Returns that norm unread. Tensors may be of several types. Where
/// the norm is within the limit they keep their bits; clones of them keep theirs.
///
/// ```
/// use wgclip::{Device, clip_by_global_norm, f16};
///
/// let device = Device::auto()?;
/// let mut weight = device.tensor(&[3.0f32, 0.0], [2])?;
/// let mut bias = device.tensor(&[f16::from_f32(-4.0)], [1])?;
/// let norm = clip_by_global_norm(&mut [&mut weight, &mut bias], 2.5)?;
/// assert_eq!(weight.to_vec()?, [1.5, 0.0]);
/// assert_eq!(bias.to_vec()?, [f16::from_f32(-2.0)]);
/// assert_eq!(norm.value()?, 5.0);
/// # Ok::<(), wgclip::Error>(())
/// ```
///
/// # Errors
/// [`Error::InvalidLimit`], [`Error::NonFiniteNorm`] where it is asked for; otherwise as [`global_norm`]. All tensors are then
/// as they were.
pub fn clip_by_global_norm(
    tensors: &mut [&mut dyn AnyTensor],
    limit: impl Into<NormLimit>,
) -> Result<GlobalNorm> {
    let limit = limit.into();
    limit.check()?;
    let views: Vec<&dyn AnyTensor> = tensors.iter().map(|tensor| &**tensor).collect();
    let norm = global_norm(&views, limit.kind)?;
    scale_list(tensors, (norm.element, &norm.storage), &limit)?;
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

/// Scales the elements of several tensors in place, by what [`NormState::scaling`](crate::norm::NormState::scaling) made of a norm
/// that is not theirs alone: that of a list on several devices, or of all ranks. As
/// [`reference::scale`](crate::reference::scale) says; clones keep their elements.
///
/// ```
/// use wgclip::norm::{NormState, scale_in_place};
/// use wgclip::{Device, NormKind};
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
        Ok((view.0, backend.downcast_mut(view.1).ok_or_else(elsewhere)?))
    };
    tensors.iter_mut().map(buffer).collect()
}
