//! Tensors whose element type is a value.

use std::fmt;

use super::{Storage, Stored, Tensor, with_storage};
use crate::backend::Backend;
use crate::backend::any::with_backend;
#[cfg(not(target_arch = "wasm32"))]
use crate::backend::cpu::memory::zeroed;
use crate::{Device, Element, ElementType, Error, Result, Shape};

/// Elements of any type in C order on a [`Device`]: for a program that learns the type while it runs, a binding to another language
/// for example. A [`Tensor`] holds one, and every operation is done here. Clones share the elements until one is changed in place.
///
/// ```
/// use wgclip::bounds::{BoundRounding, BroadcastInputs, Number};
/// use wgclip::op::{Arguments, Op, Operand};
/// use wgclip::{Bound, Device, DynTensor, ElementType, Tensor};
///
/// let bytes: Vec<u8> = [-2.0f32, 0.5, 7.0].iter().flat_map(|x| x.to_ne_bytes()).collect();
/// let x = Device::cpu().tensor_from_bytes(ElementType::F32, &bytes, [3])?;
/// let bounds = [Bound::Value(Number::Float(0.0)), Bound::Value(Number::Integer(1))];
/// let op = Op::from_name("clip").unwrap();
/// let bounds = BroadcastInputs::of_numbers(x.element(), op.info().broadcast, x.shape(), bounds, BoundRounding::Nearest)?;
/// let y = DynTensor::run(op, &[&x], &[Operand::Y], &Arguments::new(&bounds))?.remove(0);
/// assert_eq!(Tensor::<f32>::try_from(y)?.to_vec()?, [0.0, 0.5, 1.0]);
/// # Ok::<(), wgclip::Error>(())
/// ```
#[derive(Clone)]
pub struct DynTensor {
    pub(super) element: ElementType,
    pub(super) shape: Shape,
    pub(super) storage: Storage,
}

impl DynTensor {
    pub(crate) fn new(element: ElementType, storage: Storage, shape: Shape) -> Self {
        Self { element, shape, storage }
    }

    pub(crate) fn from_bytes(
        device: &Device,
        element: ElementType,
        bytes: &[u8],
        shape: Shape,
    ) -> Result<Self> {
        if !bytes.len().is_multiple_of(element.size()) {
            return Err(Error::Unsupported {
                what: format!("{} bytes as elements of {element}", bytes.len()),
                device: "any device".into(),
                instead: format!("give {} bytes for each", element.size()),
            });
        }
        shape.check_len(bytes.len() / element.size())?;
        let storage =
            with_backend!(device.backend(), backend => backend.store(backend.upload(element, bytes)?));
        Ok(Self::new(element, storage, shape))
    }

    pub(crate) fn from_vec<T: Element>(device: &Device, data: Vec<T>, shape: Shape) -> Result<Self> {
        shape.check_len(data.len())?;
        let storage = with_backend!(device.backend(), backend => backend.store(backend.adopt(data)?));
        Ok(Self::new(T::TYPE, storage, shape))
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The type of the elements.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// The device that holds the tensor.
    pub fn device(&self) -> Device {
        self.storage.device()
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.shape.is_empty()
    }

    /// Copies the elements to the host as bytes, in C order and the byte order of the host. Blocks until the device has computed them.
    ///
    /// # Errors
    /// As [`Tensor::to_vec`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = zeroed(self.len() * self.element.size())?;
        self.copy_to(&mut bytes)?;
        Ok(bytes)
    }

    /// Copies the elements to the host, into bytes that are there: as many as they are.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`]; otherwise as [`to_bytes`](Self::to_bytes).
    #[cfg(not(target_arch = "wasm32"))]
    pub fn copy_to(&self, bytes: &mut [u8]) -> Result<()> {
        let expected = self.len() * self.element.size();
        if bytes.len() != expected {
            return Err(Error::LengthMismatch { shape: vec![expected], expected, actual: bytes.len() });
        }
        with_storage!(&self.storage, backend, x => backend.copy_to_host(x, bytes))
    }

    /// The same without blocking.
    ///
    /// # Errors
    /// As [`Tensor::read`].
    pub async fn read_bytes(&self) -> Result<Vec<u8>> {
        let bytes = self.len() * self.element.size();
        with_storage!(&self.storage, backend, x => backend.read(x, bytes).await)
    }

    /// An error unless elements of this type are meant.
    pub(super) fn check_type(&self, element: ElementType) -> Result<()> {
        match self.element == element {
            true => Ok(()),
            false => Err(Error::TypeMismatch { left: element, right: self.element }),
        }
    }
}

impl fmt::Debug for DynTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims = self.shape.dims();
        write!(f, "Tensor<{}>({dims:?} on {})", self.element, self.device().info())
    }
}

impl<T: Element> From<Tensor<T>> for DynTensor {
    fn from(tensor: Tensor<T>) -> Self {
        tensor.into_dyn()
    }
}

impl<T: Element> TryFrom<DynTensor> for Tensor<T> {
    type Error = Error;

    /// The same elements.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] for another type.
    fn try_from(tensor: DynTensor) -> Result<Self> {
        tensor.check_type(T::TYPE)?;
        Ok(Self::of(tensor))
    }
}

/// A tensor of any type, as [`clip_by_global_norm`](crate::clip_by_global_norm) takes them: every [`Tensor`], and a [`DynTensor`].
pub trait AnyTensor: sealed::Dynamic {}

impl<T: Element> AnyTensor for Tensor<T> {}
impl AnyTensor for DynTensor {}

mod sealed {
    use super::{DynTensor, Element, Tensor};

    /// The tensor without its type. To be changed it is for this crate alone: its type must stay.
    pub trait Dynamic {
        fn dynamic(&self) -> &DynTensor;
        fn dynamic_mut(&mut self) -> &mut DynTensor;
    }

    impl<T: Element> Dynamic for Tensor<T> {
        fn dynamic(&self) -> &DynTensor {
            self.as_dyn()
        }

        fn dynamic_mut(&mut self) -> &mut DynTensor {
            self.as_dyn_mut()
        }
    }

    impl Dynamic for DynTensor {
        fn dynamic(&self) -> &DynTensor {
            self
        }

        fn dynamic_mut(&mut self) -> &mut DynTensor {
            self
        }
    }
}
