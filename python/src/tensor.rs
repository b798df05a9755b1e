//! Tensors on a device: copies of what is in Python's memory.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use wgclip::bounds::{BoundRounding, BroadcastInputs, Number};
use wgclip::norm::AnyTensor;
use wgclip::op::{Arguments, Op, Operand};
use wgclip::{Bound as Side, DynTensor, ElementType, Error, Result};

use crate::bounds::axes;
use crate::device::Device;
use crate::errors::exception;
use crate::memory::{Memory, arrays, run};
use crate::norm::{Limit, Ord};
use crate::ops::{operation, shaped};
use crate::process::check_process;
use crate::quantize::Rules;
use crate::rule::AnyRule;
use crate::threads;

/// A broadcast input: absent, a number, or a tensor.
type Given = Side<Number, DynTensor>;

/// Elements on a device, as copies: `Device.tensor` makes one of an array, `numpy()` an array of it. Operations on a GPU are recorded and
/// run together when something is read.
#[pyclass(frozen, module = "wgclip")]
pub(crate) struct Tensor {
    tensor: DynTensor,
    /// The process that opened the device: a forked one does not have it.
    process: u32,
}

impl Tensor {
    pub(crate) fn of(tensor: DynTensor) -> Self {
        Self { tensor, process: std::process::id() }
    }

    pub(crate) fn from_memory(py: Python<'_>, device: &wgclip::Device, memory: &Memory) -> PyResult<Self> {
        let tensor = run(py, &[memory], &[], |inputs, _| {
            device.tensor_from_bytes(memory.element, inputs[0], memory.shape.dims())
        })?;
        Ok(Self::of(tensor))
    }

    fn get(&self) -> PyResult<&DynTensor> {
        check_process(self.process)?;
        Ok(&self.tensor)
    }

    fn make(py: Python<'_>, work: impl FnOnce() -> Result<DynTensor> + Send) -> PyResult<Self> {
        threads::detach(py, work).map(Self::of).map_err(exception)
    }
}

type AnyBound<'a, 'py> = Option<&'a Bound<'py, PyAny>>;

fn given(object: AnyBound<'_, '_>) -> PyResult<Given> {
    let Some(object) = object.filter(|object| !object.is_none()) else { return Ok(Given::Absent) };
    if let Ok(tensor) = object.cast::<Tensor>() {
        return Ok(Given::Tensor(tensor.get().get()?.clone()));
    }
    match crate::bounds::number_of(object)? {
        Some(number) => Ok(Given::Value(number)),
        None => Err(PyTypeError::new_err("a bound of a Tensor is None, a number, or a Tensor on its device")),
    }
}

/// What an operation takes besides tensors and what broadcasts to them.
#[derive(Default)]
struct Others<'a> {
    rules: Rules,
    params: &'a [f64],
    to: Option<ElementType>,
}

impl Others<'_> {
    fn ruled(rule: AnyRule) -> Self {
        Self { rules: Rules { rule: rule.0, ..Rules::default() }, ..Self::default() }
    }
}

/// Runs an operation of the list: all its outputs, but for the gradients of inputs that are absent.
fn run_op<'a, 'py: 'a>(
    py: Python<'py>,
    op: Op,
    inputs: &[&DynTensor],
    broadcast: impl IntoIterator<Item = AnyBound<'a, 'py>>,
    others: Others<'_>,
) -> PyResult<Vec<Option<Tensor>>> {
    let info = op.info();
    let given = broadcast.into_iter().map(given).collect::<PyResult<Vec<_>>>()?;
    let is_absent = |of: Operand| {
        let index = info.broadcast.iter().position(|&operand| operand == of);
        !matches!(index.and_then(|index| given.get(index)), Some(Given::Value(_) | Given::Tensor(_)))
    };
    let needed = |output: &Operand| !output.gradient_of().is_some_and(is_absent);
    let outputs: Vec<_> = info.outputs.iter().copied().filter(needed).collect();
    let Some(x) = inputs.get(shaped(op)) else {
        return Err(PyValueError::new_err(format!("{op} takes {} tensors", info.inputs.len())));
    };
    let made = threads::detach(py, || {
        let sides = given.iter().map(|given| match given {
            Given::Absent => Side::Absent,
            Given::Value(number) => Side::Value(*number),
            Given::Tensor(tensor) => Side::Tensor((tensor, tensor.shape())),
        });
        let Others { rules: Rules { rule, quant }, params, to } = others;
        let to = to.unwrap_or(x.element());
        let broadcast = BroadcastInputs::of_numbers(
            op.broadcast_type(x.element(), to),
            info.broadcast,
            x.shape(),
            sides,
            BoundRounding::Nearest,
        )?;
        let arguments = Arguments { rule, quant, params, to: Some(to), ..Arguments::new(&broadcast) };
        DynTensor::run(op, inputs, &outputs, &arguments)
    });
    let mut made = made.map_err(exception)?.into_iter().map(Tensor::of);
    Ok(info.outputs.iter().map(|output| if needed(output) { made.next() } else { None }).collect())
}

/// The first output of an operation.
fn first(made: Vec<Option<Tensor>>) -> PyResult<Tensor> {
    let made = made.into_iter().next().flatten();
    made.ok_or_else(|| PyValueError::new_err("the operation has no output"))
}

/// Runs an operation of the list by its name: its inputs, and what broadcasts to them, in the order of the list; `element` is the type that a
/// conversion gives. The gradient of an input that is absent is None.
#[pyfunction]
#[pyo3(
    signature = (name, inputs, broadcast=Vec::new(), rule=None, params=Vec::new(), element=None),
    text_signature = "(name, inputs, broadcast=(), rule=None, params=(), element=None)"
)]
pub(crate) fn run_tensors<'py>(
    py: Python<'py>,
    name: &str,
    inputs: Vec<PyRef<'py, Tensor>>,
    broadcast: Vec<Option<Bound<'py, PyAny>>>,
    rule: Option<Bound<'py, PyAny>>,
    params: Vec<f64>,
    element: Option<&str>,
) -> PyResult<Vec<Option<Tensor>>> {
    let tensors = inputs.iter().map(|tensor| tensor.get().cloned()).collect::<PyResult<Vec<_>>>()?;
    let tensors: Vec<_> = tensors.iter().collect();
    let to = element.map(element_of).transpose()?;
    let op = operation(name)?;
    let others = Others { rules: Rules::of(op, rule.as_ref())?, params: &params, to };
    run_op(py, op, &tensors, broadcast.iter().map(Option::as_ref), others)
}

fn element_of(name: &str) -> PyResult<ElementType> {
    ElementType::from_name(name)
        .ok_or_else(|| PyTypeError::new_err(format!("no element type is called {name:?}")))
}

#[pymethods]
impl Tensor {
    /// The lengths of the axes.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, pyo3::types::PyTuple>> {
        pyo3::types::PyTuple::new(py, self.tensor.shape().dims())
    }

    /// The name of the element type in Rust: `"f32"`.
    #[getter]
    fn element(&self) -> &'static str {
        self.tensor.element().name()
    }

    /// The device that holds it.
    #[getter]
    fn device(&self) -> PyResult<Device> {
        Ok(Device::of(self.get()?.device()))
    }

    /// The type of the elements in numpy; those of 8 bits and bfloat16 are of ml_dtypes.
    #[getter]
    fn dtype<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        arrays(py)?.call_method1(intern!(py, "dtype_of"), (self.element(),))
    }

    /// Copies the elements to an array. Blocks until the device has made them.
    fn numpy<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        arrays(slf.py())?.call_method1(intern!(slf.py(), "of_tensor"), (slf,))
    }

    #[pyo3(signature = (dtype = None, copy = None))]
    fn __array__<'py>(
        slf: &Bound<'py, Self>,
        dtype: Option<Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if copy == Some(false) {
            return Err(PyValueError::new_err("the elements are on a device: an array of them is a copy"));
        }
        let array = Self::numpy(slf)?;
        match dtype {
            Some(dtype) => array.call_method1(intern!(slf.py(), "astype"), (dtype,)),
            None => Ok(array),
        }
    }

    /// Copies the elements into an array of the same type and shape.
    fn copy_to(&self, py: Python<'_>, out: &Bound<'_, PyAny>) -> PyResult<()> {
        let (tensor, out) = (self.get()?, Memory::of(out)?);
        if (out.element, &out.shape) != (tensor.element(), tensor.shape()) {
            let [left, right] = [tensor.shape(), &out.shape].map(|of| of.dims().to_vec());
            return Err(exception(Error::ShapeMismatch { left, right }));
        }
        run(py, &[], &[&out], |_, mut outputs| tensor.copy_to(outputs[0]))
    }

    /// Clips: each bound is None, a number, or a Tensor that broadcasts.
    #[pyo3(signature = (min = None, max = None))]
    fn clip(&self, py: Python<'_>, min: AnyBound<'_, '_>, max: AnyBound<'_, '_>) -> PyResult<Self> {
        first(run_op(py, Op::Clip, &[self.get()?], [min, max], Others::default())?)
    }

    /// 4-bit codes, two a byte.
    fn pack4(&self, py: Python<'_>) -> PyResult<Self> {
        let x = self.get()?;
        Self::make(py, || x.pack4())
    }

    /// The reverse, into i8 or u8.
    #[pyo3(signature = (element = "i8"))]
    fn unpack4(&self, py: Python<'_>, element: &str) -> PyResult<Self> {
        let (x, element) = (self.get()?, element_of(element)?);
        Self::make(py, || x.unpack4(element))
    }

    /// Clips and converts to another type of float, by its name in Rust.
    #[pyo3(signature = (min = None, max = None, *, element))]
    fn clip_to(
        &self,
        py: Python<'_>,
        min: AnyBound<'_, '_>,
        max: AnyBound<'_, '_>,
        element: &str,
    ) -> PyResult<Self> {
        let others = Others { to: Some(element_of(element)?), ..Others::default() };
        first(run_op(py, Op::ClipTo, &[self.get()?], [min, max], others)?)
    }

    /// The gradient that reaches this tensor, of the upstream gradient g.
    #[pyo3(signature = (g, min = None, max = None, *, rule = AnyRule(wgclip::BackwardRule::default())),
           text_signature = "($self, g, min=None, max=None, *, rule='masked/inclusive/pass')")]
    fn clip_backward(
        &self,
        py: Python<'_>,
        g: &Self,
        min: AnyBound<'_, '_>,
        max: AnyBound<'_, '_>,
        rule: AnyRule,
    ) -> PyResult<Self> {
        let others = Others::ruled(rule);
        first(run_op(py, Op::ClipBackward, &[self.get()?, g.get()?], [min, max], others)?)
    }

    /// The gradients that reach this tensor and its bounds: None for a bound that is absent.
    #[pyo3(signature = (g, min = None, max = None, *, rule = AnyRule(wgclip::BackwardRule::default())),
           text_signature = "($self, g, min=None, max=None, *, rule='masked/inclusive/pass')")]
    fn clip_backward_bounds(
        &self,
        py: Python<'_>,
        g: &Self,
        min: AnyBound<'_, '_>,
        max: AnyBound<'_, '_>,
        rule: AnyRule,
    ) -> PyResult<(Self, Option<Self>, Option<Self>)> {
        let others = Others::ruled(rule);
        let made = run_op(py, Op::ClipBackwardBounds, &[self.get()?, g.get()?], [min, max], others)?;
        let mut made = made.into_iter();
        let x = first(made.by_ref().take(1).collect())?;
        Ok((x, made.next().flatten(), made.next().flatten()))
    }

    /// The exact sum of all elements, or along axes, each of which is left with a length of 1.
    #[pyo3(signature = (axes = None))]
    fn sum(&self, py: Python<'_>, axes: Option<Vec<i64>>) -> PyResult<Self> {
        let tensor = self.get()?;
        let axes = self::axes(axes, tensor.shape())?;
        Self::make(py, || tensor.sum(axes.as_deref()))
    }

    /// The exact norm of all elements, or along axes, each of which is left with a length of 1. `ord` is 1, 2 or inf.
    #[pyo3(signature = (axes = None, ord = Ord(wgclip::NormKind::L2)), text_signature = "($self, axes=None, ord=2)")]
    fn norm(&self, py: Python<'_>, axes: Option<Vec<i64>>, ord: Ord) -> PyResult<Self> {
        let tensor = self.get()?;
        let axes = self::axes(axes, tensor.shape())?;
        Self::make(py, || tensor.norm(ord.0, axes.as_deref()))
    }

    /// Clips by the norm of all elements, or along axes.
    #[pyo3(signature = (max_norm, axes = None, *, ord = Ord(wgclip::NormKind::L2), eps = 0.0, nonfinite = "propagate"),
           text_signature = "($self, max_norm, axes=None, *, ord=2, eps=0.0, nonfinite='propagate')")]
    fn clip_by_norm(
        &self,
        py: Python<'_>,
        max_norm: f64,
        axes: Option<Vec<i64>>,
        ord: Ord,
        eps: f64,
        nonfinite: &str,
    ) -> PyResult<Self> {
        let tensor = self.get()?;
        let axes = self::axes(axes, tensor.shape())?;
        let limit = Limit::new(max_norm, ord.0, eps, nonfinite)?.0;
        Self::make(py, || tensor.clip_by_norm(limit, axes.as_deref()))
    }

    /// The gradient that reaches this tensor of what it was clipped to by its 2-norm, of the upstream gradient g.
    #[pyo3(signature = (g, max_norm, axes = None, *, eps = 0.0, nonfinite = "propagate"))]
    fn clip_by_norm_backward(
        &self,
        py: Python<'_>,
        g: &Self,
        max_norm: f64,
        axes: Option<Vec<i64>>,
        eps: f64,
        nonfinite: &str,
    ) -> PyResult<Self> {
        let (tensor, g) = (self.get()?, g.get()?);
        let axes = self::axes(axes, tensor.shape())?;
        let limit = Limit::new(max_norm, wgclip::NormKind::L2, eps, nonfinite)?.0;
        Self::make(py, || tensor.clip_by_norm_backward(g, limit, axes.as_deref()))
    }

    /// The softmax of all elements, or along axes.
    #[pyo3(signature = (axes = None))]
    fn softmax(&self, py: Python<'_>, axes: Option<Vec<i64>>) -> PyResult<Self> {
        let tensor = self.get()?;
        let axes = self::axes(axes, tensor.shape())?;
        Self::make(py, || tensor.softmax(axes.as_deref()))
    }

    /// The gradient that reaches what became this tensor by a softmax, of the upstream gradient g.
    #[pyo3(signature = (g, axes = None))]
    fn softmax_backward(&self, py: Python<'_>, g: &Self, axes: Option<Vec<i64>>) -> PyResult<Self> {
        let (tensor, g) = (self.get()?, g.get()?);
        let axes = self::axes(axes, tensor.shape())?;
        Self::make(py, || tensor.softmax_backward(g, axes.as_deref()))
    }

    fn __len__(&self) -> PyResult<usize> {
        let first = self.tensor.shape().dims().first().copied();
        first.ok_or_else(|| PyTypeError::new_err("len() of a tensor without axes"))
    }

    fn __repr__(&self) -> String {
        let tensor = &self.tensor;
        format!("Tensor({:?}, {}, on {})", tensor.shape().dims(), tensor.element(), tensor.device().info())
    }
}

/// Clips tensors of one device by their common norm. Returns what they are clipped to, and the norm, a tensor there.
#[pyfunction]
pub(crate) fn clip_tensors_by_global_norm(
    py: Python<'_>,
    tensors: Vec<PyRef<'_, Tensor>>,
    limit: Limit,
) -> PyResult<(Vec<Tensor>, Tensor)> {
    let mut clipped: Vec<DynTensor> =
        tensors.iter().map(|tensor| tensor.get().cloned()).collect::<PyResult<_>>()?;
    let norm = threads::detach(py, || {
        let mut list: Vec<_> = clipped.iter_mut().map(|tensor| tensor as &mut dyn AnyTensor).collect();
        wgclip::clip_by_global_norm(&mut list, limit.0)
    });
    let norm = norm.map_err(exception)?.into_dyn();
    Ok((clipped.into_iter().map(Tensor::of).collect(), Tensor::of(norm)))
}
