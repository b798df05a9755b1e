//! Tensors: elements on a device, and the operations on them. Every operation goes through [`apply`].

mod activations;
mod backward;
mod clip;
mod lists;
mod mask;
mod norm;

use std::fmt;
use std::marker::PhantomData;

#[cfg(feature = "gpu")]
use crate::backend::gpu;
use crate::backend::{Backend, cpu};
use crate::bounds::Bound;
use crate::broadcast::{BoundBits, BroadcastInputs, Reduction};
use crate::call::{self, Call, Reductions};
use crate::device::{AnyBackend, with_backend};
use crate::op::{MAX_OUTPUTS, Operand, first_outputs};
use crate::{BackwardRule, Bounds, Device, Element, ElementType, Error, Op, Result, Shape};

pub use backward::{Gradients, NeedsGrad};
pub use lists::{AnyTensor, clip_by_global_norm, global_norm, scale_in_place};
pub use mask::Mask;

/// Elements in C order on a [`Device`]. Cheap to clone: clones share the elements until one is changed in place.
///
/// On a GPU the operations are recorded and run later, together; what they return can be used at once.
#[derive(Clone)]
pub struct Tensor<T> {
    shape: Shape,
    storage: Storage,
    element: PhantomData<T>,
}

/// A buffer with its backend: of elements, or of the words of a mask.
#[derive(Debug, Clone)]
pub(crate) enum Storage {
    Cpu(cpu::Cpu, cpu::Buffer),
    #[cfg(feature = "gpu")]
    Gpu(gpu::Context, gpu::Buffer),
}

/// Evaluates an expression for the backend and the buffer of a storage, whichever it is.
macro_rules! with_storage {
    ($storage:expr, $backend:ident, $buffer:ident => $body:expr) => {
        match $storage {
            $crate::tensor::Storage::Cpu($backend, $buffer) => $body,
            #[cfg(feature = "gpu")]
            $crate::tensor::Storage::Gpu($backend, $buffer) => $body,
        }
    };
}

pub(crate) use with_storage;

/// A backend whose buffers a storage can hold.
pub(crate) trait Stored: Backend {
    fn store(&self, buffer: Self::Buffer) -> Storage;

    /// The buffer of a storage, if it is of this device.
    fn find<'a>(&self, storage: &'a Storage) -> Option<&'a Self::Buffer>;

    fn find_mut<'a>(&self, storage: &'a mut Storage) -> Option<&'a mut Self::Buffer>;
}

impl Stored for cpu::Cpu {
    fn store(&self, buffer: Self::Buffer) -> Storage {
        Storage::Cpu(*self, buffer)
    }

    fn find<'a>(&self, storage: &'a Storage) -> Option<&'a Self::Buffer> {
        match storage {
            Storage::Cpu(_, buffer) => Some(buffer),
            #[cfg(feature = "gpu")]
            Storage::Gpu(..) => None,
        }
    }

    fn find_mut<'a>(&self, storage: &'a mut Storage) -> Option<&'a mut Self::Buffer> {
        match storage {
            Storage::Cpu(_, buffer) => Some(buffer),
            #[cfg(feature = "gpu")]
            Storage::Gpu(..) => None,
        }
    }
}

#[cfg(feature = "gpu")]
impl Stored for gpu::Context {
    fn store(&self, buffer: Self::Buffer) -> Storage {
        Storage::Gpu(self.clone(), buffer)
    }

    fn find<'a>(&self, storage: &'a Storage) -> Option<&'a Self::Buffer> {
        match storage {
            Storage::Gpu(own, buffer) if own.same_device(self) => Some(buffer),
            _ => None,
        }
    }

    fn find_mut<'a>(&self, storage: &'a mut Storage) -> Option<&'a mut Self::Buffer> {
        match storage {
            Storage::Gpu(own, buffer) if own.same_device(self) => Some(buffer),
            _ => None,
        }
    }
}

impl Storage {
    pub(crate) fn device(&self) -> Device {
        Device::from_backend(match self {
            Self::Cpu(cpu, _) => AnyBackend::Cpu(*cpu),
            #[cfg(feature = "gpu")]
            Self::Gpu(context, _) => AnyBackend::Gpu(context.clone()),
        })
    }

    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> u64 {
        with_storage!(self, backend, buffer => backend.bytes(buffer))
    }

    /// The buffer of another storage, as this one's device sees it.
    fn peer<'a, B: Stored>(&self, backend: &B, other: &'a Self) -> Result<&'a B::Buffer> {
        backend.find(other).ok_or_else(|| Error::DeviceMismatch {
            left: self.device().info().to_string(),
            right: other.device().info().to_string(),
        })
    }
}

/// What an operation takes besides its inputs, as tensors: of a type that is a value, so that what follows is compiled once for all.
pub(crate) struct TensorArguments<'a> {
    pub element: ElementType,
    /// In the order of the operation's row.
    pub broadcast: Vec<BoundBits<(&'a Storage, &'a Shape)>>,
    pub rule: BackwardRule,
    pub params: &'a [f64],
    /// The type of the output of an operation that converts.
    pub to: Option<ElementType>,
    /// Which outputs are to be made.
    pub needs: [bool; MAX_OUTPUTS],
}

impl<'a> TensorArguments<'a> {
    /// Nothing but what every operation has, for elements of this type.
    pub(crate) fn of<T: Element>(op: Op) -> Self {
        let needs = first_outputs(op.info().outputs.len());
        let rule = BackwardRule::default();
        Self { element: T::TYPE, broadcast: Vec::new(), rule, params: &[], to: None, needs }
    }

    pub(crate) fn between<T: Element>(op: Op, bounds: &'a Bounds<T>, rule: BackwardRule) -> Self {
        let broadcast = vec![bits(bounds.lo()), bits(bounds.hi())];
        Self { broadcast, rule, ..Self::of::<T>(op) }
    }

    /// The same with broadcast inputs that a device has resolved.
    fn with_broadcast<'b, B>(&'b self, broadcast: &'b BroadcastInputs<B>) -> call::Arguments<'b, B> {
        call::Arguments { broadcast, rule: self.rule, params: self.params, to: self.to }
    }

    /// The broadcast inputs of an operation as a device sees them.
    fn resolve<B>(
        &self,
        op: Op,
        x: &Shape,
        see: impl Fn(&'a Storage) -> Result<B>,
    ) -> Result<BroadcastInputs<B>> {
        let see = |input: &BoundBits<(&'a Storage, &'a Shape)>| {
            input.try_map(|&(storage, shape)| Ok((see(storage)?, shape)))
        };
        let inputs = self.broadcast.iter().map(see).collect::<Result<Vec<_>>>()?;
        BroadcastInputs::of(self.element, op.info().broadcast, x, inputs)
    }

    /// How the gradient of a broadcast input is summed: one that is a value has the shape of a scalar.
    fn reduction(&self, op: Op, x: &Shape, of: Operand) -> Result<Reduction> {
        let index = op.info().broadcast.iter().position(|&input| input == of);
        match index.and_then(|index| self.broadcast.get(index)) {
            None | Some(BoundBits::Absent) => Err(Error::NoBound { operand: of.noun() }),
            Some(BoundBits::Value(_)) => Reduction::new(x, &Shape::new([])?, of),
            Some(BoundBits::Tensor((_, shape))) => Reduction::new(x, shape, of),
        }
    }
}

/// A broadcast input as bits.
pub(crate) fn bits<T: Element>(input: &Bound<T>) -> BoundBits<(&Storage, &Shape)> {
    match input {
        Bound::Absent => BoundBits::Absent,
        Bound::Value(value) => BoundBits::Value(value.to_bits()),
        Bound::Tensor(tensor) => BoundBits::Tensor((&tensor.storage, &tensor.shape)),
    }
}

/// The inputs of an operation and the shape that they have: where a mask is among them, it has no shape of its own.
pub(crate) struct Inputs<'a> {
    pub shape: &'a Shape,
    pub storages: &'a [&'a Storage],
}

/// Runs an operation into new buffers, those that are wanted, in the order of the list. The gradients of bounds come
/// summed to the bounds' shapes.
pub(crate) fn apply(
    op: Op,
    inputs: &Inputs<'_>,
    arguments: &TensorArguments<'_>,
) -> Result<[Option<Storage>; MAX_OUTPUTS]> {
    let first = inputs.storages[op.shaped_input()];
    with_storage!(first, backend, _first => apply_on(backend, op, inputs, arguments))
}

fn apply_on<B: Stored>(
    backend: &B,
    op: Op,
    inputs: &Inputs<'_>,
    arguments: &TensorArguments<'_>,
) -> Result<[Option<Storage>; MAX_OUTPUTS]> {
    let first = inputs.storages[op.shaped_input()];
    let buffers: Vec<_> =
        inputs.storages.iter().map(|other| first.peer(backend, other)).collect::<Result<_>>()?;
    let broadcast = arguments.resolve(op, inputs.shape, |input| first.peer(backend, input))?;
    let mut reductions: Reductions = [const { None }; MAX_OUTPUTS];
    for (index, operand) in op.info().outputs.iter().enumerate().filter(|(index, _)| arguments.needs[*index])
    {
        let Some(of) = operand.gradient_of() else { continue };
        let reduction = arguments.reduction(op, inputs.shape, of)?;
        reductions[index] = (!reduction.is_none()).then_some(reduction);
    }
    let mut call = Call {
        needs: arguments.needs,
        ..Call::new(op, inputs.shape.len(), &buffers, arguments.with_broadcast(&broadcast))
    };
    let mut made = [const { None }; MAX_OUTPUTS];
    if let Some(upstream) = op.identity_input(arguments.rule) {
        // The gradient of x is the upstream gradient itself.
        backend.check()?;
        call.needs[0] = false;
        made[0] = arguments.needs[0].then(|| inputs.storages[upstream].clone());
    }
    if call.outputs().next().is_none() {
        return Ok(made);
    }
    for (made, output) in made.iter_mut().zip(backend.run(&call, &reductions)?) {
        *made = output.map(|output| backend.store(output)).or(made.take());
    }
    Ok(made)
}

/// Runs an operation whose first output overwrites `target`, the input that the list names. `others` are the other
/// inputs, in order. Clones of the target keep their elements.
pub(crate) fn apply_in_place(
    op: Op,
    shape: &Shape,
    target: &mut Storage,
    others: &[&Storage],
    arguments: &TensorArguments<'_>,
) -> Result<()> {
    let device = target.device();
    match target {
        Storage::Cpu(cpu, buffer) => overwrite(cpu, op, shape, (&device, buffer), others, arguments),
        #[cfg(feature = "gpu")]
        Storage::Gpu(context, buffer) => overwrite(context, op, shape, (&device, buffer), others, arguments),
    }
}

fn overwrite<B: Stored>(
    backend: &B,
    op: Op,
    shape: &Shape,
    (device, target): (&Device, &mut B::Buffer),
    others: &[&Storage],
    arguments: &TensorArguments<'_>,
) -> Result<()> {
    let peer = |other| {
        backend.find(other).ok_or_else(|| Error::DeviceMismatch {
            left: other.device().info().to_string(),
            right: device.info().to_string(),
        })
    };
    let inputs: Vec<_> = others.iter().map(|&other| peer(other)).collect::<Result<_>>()?;
    let broadcast = arguments.resolve(op, shape, peer)?;
    if op.identity_input(arguments.rule).is_some() {
        return backend.check();
    }
    let call = Call::new(op, shape.len(), &inputs, arguments.with_broadcast(&broadcast));
    backend.run_in_place(&call, target)
}

/// The shape of a bound's gradient: a bound that is a value has the shape of a scalar.
pub(crate) fn bound_shape<T: Element>(bound: &Bound<T>) -> Result<Shape> {
    bound.tensor().map_or_else(|| Shape::new([]), |tensor| Ok(tensor.shape.clone()))
}

impl<T: Element> Tensor<T> {
    pub(crate) fn from_slice(device: &Device, data: &[T], shape: Shape) -> Result<Self> {
        shape.check_len(data.len())?;
        let storage = with_backend!(device.backend(), backend => backend.store(backend.upload(data)?));
        Ok(Self::new(storage, shape))
    }

    pub(crate) fn from_vec(device: &Device, data: Vec<T>, shape: Shape) -> Result<Self> {
        shape.check_len(data.len())?;
        let storage = with_backend!(device.backend(), backend => backend.store(backend.adopt(data)?));
        Ok(Self::new(storage, shape))
    }

    pub(crate) fn new(storage: Storage, shape: Shape) -> Self {
        Self { shape, storage, element: PhantomData }
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    pub(crate) fn storage_mut(&mut self) -> &mut Storage {
        &mut self.storage
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

    /// Copies the elements to the host, in C order. Blocks until the device has made them.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::DeviceLost`] or [`Error::Gpu`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn to_vec(&self) -> Result<Vec<T>> {
        with_storage!(&self.storage, backend, x => backend.read_blocking(x, self.shape.len()))
    }

    /// The same as [`to_vec`](Self::to_vec), without a copy where this is the only tensor of these elements
    /// and the CPU holds them.
    ///
    /// # Errors
    /// As [`to_vec`](Self::to_vec).
    #[cfg(not(target_arch = "wasm32"))]
    pub fn into_vec(self) -> Result<Vec<T>> {
        let len = self.shape.len();
        with_storage!(self.storage, backend, x => backend.take(x, len))
    }

    /// Copies the elements to the host, in C order, without blocking: for a browser or an async program.
    ///
    /// # Errors
    /// As `to_vec`.
    pub async fn read(&self) -> Result<Vec<T>> {
        with_storage!(&self.storage, backend, x => backend.read(x, self.shape.len()).await)
    }

    /// A forward pass or another map of this tensor alone.
    fn map(&self, op: Op, arguments: &TensorArguments<'_>) -> Result<Self> {
        let inputs = Inputs { shape: &self.shape, storages: &[&self.storage] };
        let [y, ..] = apply(op, &inputs, arguments)?;
        self.like(op, y)
    }

    /// A tensor of the same shape.
    fn like(&self, op: Op, storage: Option<Storage>) -> Result<Self> {
        Ok(Self::new(self.made(op, storage)?, self.shape.clone()))
    }

    /// What an operation was to make.
    fn made(&self, op: Op, storage: Option<Storage>) -> Result<Storage> {
        storage.ok_or(Error::Internal { op: op.name(), what: "without its output".into() })
    }
}

impl<T: Element> fmt::Debug for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims = self.shape.dims();
        write!(f, "Tensor<{}>({dims:?} on {})", T::TYPE, self.device().info())
    }
}
