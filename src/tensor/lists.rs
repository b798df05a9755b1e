//! Lists of tensors of any types: the norm of all together, and clipping by it.

use super::norm::check_norm;
use super::storage::peer;
use super::{AnyTensor, DynTensor, Stored, Tensor, with_storage};
use crate::backend::Backend;
use crate::backend::any::with_backend;
use crate::call::Limiter;
use crate::norm::Scaling;
use crate::{Device, Element, ElementType, Error, NormKind, NormLimit, Result, Shape};

/// The norm of several tensors, on their device: an f32, or an f64 if any of them is f64. Nothing waits for it until it is read.
#[derive(Debug, Clone)]
pub struct GlobalNorm(DynTensor);

impl GlobalNorm {
    /// The type of the norm.
    pub fn element(&self) -> ElementType {
        self.0.element
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
        let norm = match self.0.element {
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
        self.0.clone().try_into()
    }

    /// The same of a type that is a value.
    pub fn into_dyn(self) -> DynTensor {
        self.0
    }
}

/// The norm of all elements of several tensors, in f32, or in f64 if any is f64: it does not change with their order, or
/// with how elements are divided among them. +0 if there are none, on the CPU then.
///
/// # Errors
/// [`Error::DeviceMismatch`]; [`Error::Unsupported`] for integers, and for f64 on a GPU; otherwise as [`Tensor::sum`].
pub fn global_norm(tensors: &[&dyn AnyTensor], kind: NormKind) -> Result<GlobalNorm> {
    let tensors: Vec<_> = tensors.iter().map(|tensor| tensor.dynamic()).collect();
    tensors.iter().try_for_each(|tensor| check_norm(tensor.element))?;
    let element = ElementType::of_norm(tensors.iter().map(|tensor| tensor.element));
    let Some(first) = tensors.first() else {
        return Ok(GlobalNorm(Device::cpu().tensor(&[0.0f32], [])?.into_dyn()));
    };
    let storage = with_storage!(&first.storage, backend, _first => {
        let list = tensors.iter().map(|tensor| Ok((tensor.element, peer(backend, &tensor.storage)?)));
        let list: Vec<_> = list.collect::<Result<_>>()?;
        backend.store(backend.reduce_list(&list, kind.reduce_op(), element)?)
    });
    Ok(GlobalNorm(DynTensor::new(element, storage, Shape::new([])?)))
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
    with_storage!(&norm.0.storage, backend, of_all => {
        let limiter = Limiter { limit: &limit, average: None, relative: None };
        let scalings = backend.scalings(norm.0.element, of_all, limiter)?;
        backend.scale_list(on_device(backend, tensors)?, &scalings)?;
    });
    Ok(norm)
}

/// Scales the elements of several tensors in place, by a scaling of [`NormState::scaling`](crate::norm::NormState::scaling)
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
    let elements: Vec<_> = tensors.iter().map(|tensor| tensor.dynamic().element).collect();
    elements.iter().try_for_each(|&element| check_norm(element))?;
    let Some(first) = tensors.first() else { return Ok(()) };
    let device = first.dynamic().device();
    tensors.iter().try_for_each(|tensor| device.check_same(&tensor.dynamic().device()))?;
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
        let tensor = tensor.dynamic_mut();
        let elsewhere =
            || Error::Internal { op: "clip_by_global_norm", what: "on a tensor of another device".into() };
        Ok((tensor.element, backend.downcast_mut(&mut tensor.storage).ok_or_else(elsewhere)?))
    };
    tensors.iter_mut().map(buffer).collect()
}
