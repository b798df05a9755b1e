//! Tensors on a device: copies of what is in Python's memory.

use std::any::Any;
use std::sync::Arc;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use wgclip::norm::AnyTensor;
use wgclip::{Bound as Side, Bounds, Element, ElementType, Error, NeedsGrad, Result, Shape, with_element};

use crate::bounds::axes;
use crate::device::Device;
use crate::errors::exception;
use crate::memory::{Memory, arrays, run};
use crate::norm::{Limit, Ord};
use crate::process::check_process;
use crate::rule::AnyRule;
use crate::threads;

/// A tensor of a type that is a value. Tensors are not changed, so clones share their elements.
pub(crate) trait Dynamic: AnyTensor + Send + Sync {
    fn element(&self) -> ElementType;
    fn shape(&self) -> &Shape;
    fn device(&self) -> wgclip::Device;
    fn as_any(&self) -> &dyn Any;
    fn copy_to(&self, out: &mut [u8]) -> Result<()>;
    fn clip(&self, sides: &[Given]) -> Result<Made>;
    fn clip_to(&self, sides: &[Given], to: ElementType) -> Result<Made>;
    fn clip_backward(&self, g: &dyn Dynamic, sides: &[Given], rule: wgclip::BackwardRule) -> Result<Made>;
    fn clip_backward_bounds(
        &self,
        g: &dyn Dynamic,
        sides: &[Given],
        rule: wgclip::BackwardRule,
        needs: NeedsGrad,
    ) -> Result<(Made, Option<Made>, Option<Made>)>;
    fn sum(&self, axes: Option<&[usize]>) -> Result<Made>;
    fn norm(&self, axes: Option<&[usize]>, kind: wgclip::NormKind) -> Result<Made>;
    fn clip_by_norm(&self, axes: Option<&[usize]>, limit: wgclip::NormLimit) -> Result<Made>;
    fn clip_by_norm_backward(
        &self,
        g: &dyn Dynamic,
        axes: Option<&[usize]>,
        limit: wgclip::NormLimit,
    ) -> Result<Made>;
    fn duplicate(&self) -> Box<dyn Dynamic>;
}

type Made = Arc<dyn Dynamic>;

/// A bound: absent, a number, or a tensor.
pub(crate) enum Given {
    Absent,
    Number(wgclip::bounds::Number),
    Tensor(Made),
}

fn same<T: Element>(tensor: &dyn Dynamic) -> Result<&wgclip::Tensor<T>> {
    let found = tensor.as_any().downcast_ref();
    found.ok_or(Error::TypeMismatch { left: T::TYPE, right: tensor.element() })
}

fn bounds<T: Element>(sides: &[Given]) -> Result<Bounds<T>> {
    let side = |given: &Given, number: fn(wgclip::bounds::Number) -> Result<Side<T>>| match given {
        Given::Absent => Ok(Side::Absent),
        Given::Number(of) => number(*of),
        Given::Tensor(tensor) => Ok(Side::Tensor(same::<T>(&**tensor)?.clone())),
    };
    Bounds::new(side(&sides[0], Side::lower)?, side(&sides[1], Side::upper)?)
}

fn made<T: Element>(tensor: wgclip::Tensor<T>) -> Made {
    Arc::new(tensor)
}

impl<T: Element> Dynamic for wgclip::Tensor<T> {
    fn element(&self) -> ElementType {
        T::TYPE
    }

    fn shape(&self) -> &Shape {
        wgclip::Tensor::shape(self)
    }

    fn device(&self) -> wgclip::Device {
        wgclip::Tensor::device(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn copy_to(&self, out: &mut [u8]) -> Result<()> {
        out.copy_from_slice(bytemuck::cast_slice(&self.to_vec()?));
        Ok(())
    }

    fn clip(&self, sides: &[Given]) -> Result<Made> {
        self.clip(bounds::<T>(sides)?).map(made)
    }

    fn clip_to(&self, sides: &[Given], to: ElementType) -> Result<Made> {
        with_element!(to, U => self.clip_to::<U>(bounds::<T>(sides)?).map(made))
    }

    fn clip_backward(&self, g: &dyn Dynamic, sides: &[Given], rule: wgclip::BackwardRule) -> Result<Made> {
        self.clip_backward(same(g)?, bounds::<T>(sides)?, rule).map(made)
    }

    fn clip_backward_bounds(
        &self,
        g: &dyn Dynamic,
        sides: &[Given],
        rule: wgclip::BackwardRule,
        needs: NeedsGrad,
    ) -> Result<(Made, Option<Made>, Option<Made>)> {
        let gradients = self.clip_backward_bounds(same(g)?, bounds::<T>(sides)?, rule, needs)?;
        Ok((made(gradients.x), gradients.lo.map(made), gradients.hi.map(made)))
    }

    fn sum(&self, axes: Option<&[usize]>) -> Result<Made> {
        self.sum(axes).map(made)
    }

    fn norm(&self, axes: Option<&[usize]>, kind: wgclip::NormKind) -> Result<Made> {
        self.norm(kind, axes).map(made)
    }

    fn clip_by_norm(&self, axes: Option<&[usize]>, limit: wgclip::NormLimit) -> Result<Made> {
        self.clip_by_norm(limit, axes).map(made)
    }

    fn clip_by_norm_backward(
        &self,
        g: &dyn Dynamic,
        axes: Option<&[usize]>,
        limit: wgclip::NormLimit,
    ) -> Result<Made> {
        self.clip_by_norm_backward(same(g)?, limit, axes).map(made)
    }

    fn duplicate(&self) -> Box<dyn Dynamic> {
        Box::new(self.clone())
    }
}

/// Elements on a device, as copies: `Device.tensor` makes one of an array, `numpy()` an array of it. Operations on a GPU are recorded and
/// run together when something is read.
#[pyclass(frozen, module = "wgclip")]
pub(crate) struct Tensor {
    tensor: Made,
    /// The process that opened the device: a forked one does not have it.
    process: u32,
}

impl Tensor {
    pub(crate) fn of(tensor: Made) -> Self {
        Self { tensor, process: std::process::id() }
    }

    pub(crate) fn from_memory(py: Python<'_>, device: &wgclip::Device, memory: &Memory) -> PyResult<Self> {
        let tensor = run(py, &[memory], &[], |inputs, _| {
            with_element!(memory.element, T => {
                device.tensor(bytemuck::cast_slice::<u8, T>(inputs[0]), memory.shape.dims()).map(made)
            })
        })?;
        Ok(Self::of(tensor))
    }

    fn get(&self) -> PyResult<&Made> {
        check_process(self.process)?;
        Ok(&self.tensor)
    }

    fn make(py: Python<'_>, work: impl FnOnce() -> Result<Made> + Send) -> PyResult<Self> {
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
        Some(number) => Ok(Given::Number(number)),
        None => Err(PyTypeError::new_err("a bound of a Tensor is None, a number, or a Tensor on its device")),
    }
}

fn sides(min: AnyBound<'_, '_>, max: AnyBound<'_, '_>) -> PyResult<[Given; 2]> {
    Ok([given(min)?, given(max)?])
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
        let (tensor, sides) = (self.get()?, sides(min, max)?);
        Self::make(py, || tensor.clip(&sides))
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
        let (tensor, sides) = (self.get()?, sides(min, max)?);
        let to = ElementType::from_name(element)
            .ok_or_else(|| PyTypeError::new_err(format!("no element type is called {element:?}")))?;
        Self::make(py, || tensor.clip_to(&sides, to))
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
        let (tensor, g, sides) = (self.get()?, g.get()?, sides(min, max)?);
        Self::make(py, || tensor.clip_backward(&**g, &sides, rule.0))
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
        let (tensor, g, sides) = (self.get()?, g.get()?, sides(min, max)?);
        let [lo, hi] = [0, 1].map(|n| !matches!(sides[n], Given::Absent));
        let made =
            threads::detach(py, || tensor.clip_backward_bounds(&**g, &sides, rule.0, NeedsGrad { lo, hi }));
        let (x, lo, hi) = made.map_err(exception)?;
        Ok((Self::of(x), lo.map(Self::of), hi.map(Self::of)))
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
        Self::make(py, || tensor.norm(axes.as_deref(), ord.0))
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
        Self::make(py, || tensor.clip_by_norm(axes.as_deref(), limit))
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
        Self::make(py, || tensor.clip_by_norm_backward(&**g, axes.as_deref(), limit))
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
    let tensors: Vec<Made> = tensors.iter().map(|tensor| tensor.get().cloned()).collect::<PyResult<_>>()?;
    let limit = limit.0;
    let (clipped, norm) = threads::detach(py, || -> Result<_> {
        let mut clipped: Vec<Box<dyn Dynamic>> = tensors.iter().map(|tensor| tensor.duplicate()).collect();
        let mut list: Vec<&mut dyn AnyTensor> = Vec::new();
        for tensor in &mut clipped {
            list.push(&mut **tensor);
        }
        let norm = wgclip::clip_by_global_norm(&mut list, limit)?;
        let norm = match norm.element() {
            ElementType::F64 => made(norm.to_tensor::<f64>()?),
            _ => made(norm.to_tensor::<f32>()?),
        };
        Ok((clipped, norm))
    })
    .map_err(exception)?;
    Ok((clipped.into_iter().map(|tensor| Tensor::of(Arc::from(tensor))).collect(), Tensor::of(norm)))
}
