//! Memory owned by Python: of objects with the buffer protocol (numpy, JAX on a CPU) or DLPack (torch, and the rest).

#![expect(unsafe_code, reason = "the memory is told by pointers")]

use std::ops::Range;

use dlpark::DlpackFlags;
use dlpark::ffi::{DLDataType, DLDeviceType};
use dlpark::python::{ImportedDlpack, from_dlpack};
use pyo3::buffer::{ElementType as Format, PyUntypedBuffer};
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::{ffi, intern};
use wgclip::bounds::Number;
use wgclip::{ElementType, Error, Result, Shape, with_element};

use crate::errors::{exception, numpy_name};
use crate::{float_mode, threads};

/// The memory of a tensor, in C order.
pub(crate) struct Memory {
    pub element: ElementType,
    pub shape: Shape,
    data: *mut u8,
    /// Whether it is writable.
    writable: Result<(), &'static str>,
    _owner: Owner,
}

/// Keeps the memory alive.
enum Owner {
    Buffer(#[expect(dead_code, reason = "it is dropped")] PyUntypedBuffer),
    Dlpack(#[expect(dead_code, reason = "it is dropped")] ImportedDlpack),
}

// SAFETY: sharing exposes only the type and the shape; the pointer is dereferenced only in this module, where each use has its own reason.
unsafe impl Sync for Memory {}

impl Memory {
    /// The memory of a tensor.
    ///
    /// # Errors
    /// `TypeError` if it is not a tensor, or has no supported element type; `BufferError` for elements that are not in C order, aligned and in
    /// native byte order, or not on the CPU.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        // SAFETY: the object is alive.
        if unsafe { ffi::PyObject_CheckBuffer(object.as_ptr()) } == 1 {
            match PyUntypedBuffer::get(object) {
                Ok(buffer) => return Self::of_buffer(object, buffer, None),
                Err(error) => match Self::of_view(object)? {
                    Some(memory) => return Ok(memory),
                    None if object.hasattr(intern!(object.py(), "__dlpack__"))? => {
                        return Self::of_dlpack(object).map_err(|_| no_element(object));
                    }
                    None => return Err(error),
                },
            }
        }
        Self::of_dlpack(object)
    }

    /// The same, but copies elements that do not meet these conditions.
    pub(crate) fn of_any(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = object.py();
        Self::of(object).or_else(|_| {
            // Lists, strides, and other byte orders.
            Self::of(&arrays(py)?.call_method1(intern!(py, "plain"), (object,))?)
        })
    }

    /// The memory of objects for which numpy or PyO3 have no buffer: types of ml_dtypes, and 0-d arrays.
    fn of_view(object: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let py = object.py();
        let (element, mut view) = match ml_dtype(object)? {
            Some((element, bits)) => (Some(element), object.call_method1(intern!(py, "view"), (bits,))?),
            None => (None, object.clone()),
        };
        let axes = view.getattr_opt(intern!(py, "ndim"))?.and_then(|axes| axes.extract::<usize>().ok());
        match (element, axes) {
            (_, Some(0)) => view = view.call_method1(intern!(py, "reshape"), (1,))?,
            (None, _) => return Ok(None),
            _ => {}
        }
        let mut memory = Self::of_buffer(object, PyUntypedBuffer::get(&view)?, element)?;
        if axes == Some(0) {
            memory.shape = Shape::new([]).map_err(exception)?;
        }
        Ok(Some(memory))
    }

    fn of_buffer(
        object: &Bound<'_, PyAny>,
        buffer: PyUntypedBuffer,
        element: Option<ElementType>,
    ) -> PyResult<Self> {
        let bytes = buffer.item_size();
        let element = element.or_else(|| match Format::from_format(buffer.format()) {
            Format::Float { bytes: 2 } => Some(ElementType::F16),
            Format::Float { bytes: 4 } => Some(ElementType::F32),
            Format::Float { bytes: 8 } => Some(ElementType::F64),
            Format::SignedInteger { .. } => integer(true, bytes),
            Format::UnsignedInteger { .. } => integer(false, bytes),
            _ => None,
        });
        let Some(element) = element.filter(|element| element.size() == bytes) else {
            return Err(no_element(object));
        };
        // PyO3 does not check the byte order.
        let foreign: &[u8] = if cfg!(target_endian = "little") { b">!" } else { b"<" };
        let native = buffer.format().to_bytes().first().is_none_or(|order| !foreign.contains(order));
        if !buffer.is_c_contiguous() || !native {
            return Err(not_plain());
        }
        let memory = Self {
            element,
            shape: Shape::new(buffer.shape()).map_err(exception)?,
            data: buffer.buf_ptr().cast(),
            writable: if buffer.readonly() { Err("is read-only") } else { Ok(()) },
            _owner: Owner::Buffer(buffer),
        };
        memory.aligned()
    }

    fn of_dlpack(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = object.py();
        if !object.hasattr(intern!(py, "__dlpack__"))? && !object.is_instance_of::<pyo3::types::PyCapsule>() {
            return Err(PyTypeError::new_err(format!(
                "{} is no array: give one of numpy, torch or JAX, or whatever has __dlpack__ or a buffer",
                object.get_type().name()?
            )));
        }
        let imported = from_dlpack(object.as_borrowed(), None, None)?;
        let tensor = imported.validate().map_err(|error| PyValueError::new_err(error.to_string()))?;
        let device = tensor.device();
        if device.device_type != DLDeviceType::CPU {
            let name =
                object.getattr(intern!(py, "device")).and_then(|device| device.str()?.extract::<String>());
            let name = name.unwrap_or_else(|_| format!("another device, {:?}", device.device_type));
            return Err(PyValueError::new_err(format!(
                "this tensor is on {name}; wgclip for Python works on CPU tensors: copy it to the CPU first"
            )));
        }
        let dtype = tensor.dtype();
        let element = ElementType::ALL.iter().copied().find(|&element| dlpack_type(element) == Some(dtype));
        let Some(element) = element else { return Err(no_element(object)) };
        if !is_c_contiguous(tensor.shape(), tensor.strides()) || is_negated(object)? {
            return Err(not_plain());
        }
        let shape: Vec<_> = tensor.shape().iter().map(|&len| len as usize).collect();
        let offset = tensor.byte_offset() as usize;
        // SAFETY: the elements begin there, in the same allocation.
        let data = unsafe { tensor.data_ptr().cast::<u8>().cast_mut().add(offset) };
        // Legacy capsules have no read-only flag, which JAX's arrays need.
        let writable = match &imported {
            ImportedDlpack::Legacy(_) => Err("does not say that it may be written to"),
            _ if imported.flags().contains(DlpackFlags::READ_ONLY) => Err("is read-only"),
            ImportedDlpack::Versioned(_) => Ok(()),
        };
        let shape = Shape::new(shape).map_err(exception)?;
        Self { element, shape, data, writable, _owner: Owner::Dlpack(imported) }.aligned()
    }

    fn aligned(self) -> PyResult<Self> {
        if self.shape.is_empty() || (self.data as usize).is_multiple_of(self.element.size()) {
            return Ok(self);
        }
        Err(not_plain())
    }

    pub(crate) fn len(&self) -> usize {
        self.shape.len()
    }

    fn bytes_len(&self) -> usize {
        self.len() * self.element.size()
    }

    /// The addresses of the bytes.
    fn range(&self) -> Range<usize> {
        let start = self.data as usize;
        start..start + self.bytes_len()
    }

    /// Whether both refer to the same elements.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.data == other.data && self.bytes_len() == other.bytes_len() && self.element == other.element
    }

    /// Refuses read-only memory.
    pub(crate) fn check_writable(&self) -> PyResult<()> {
        self.writable
            .map_err(|why| PyValueError::new_err(format!("an output {why}: give an array that is writable")))
    }

    /// Refuses a type or shape other than that of `x`.
    pub(crate) fn check_like(&self, x: &Self) -> PyResult<()> {
        if self.element != x.element {
            return Err(exception(Error::TypeMismatch { left: x.element, right: self.element }));
        }
        if self.shape != x.shape {
            let [left, right] = [x, self].map(|of| of.shape.dims().to_vec());
            return Err(exception(Error::ShapeMismatch { left, right }));
        }
        Ok(())
    }

    /// Its value, if it is 0-d.
    pub(crate) fn number(&self) -> Option<Number> {
        if !self.shape.dims().is_empty() {
            return None;
        }
        // SAFETY: it is read before this function returns, and this module writes nothing meanwhile.
        let bytes = unsafe { bytes(self) };
        Some(with_element!(self.element, T => {
            let value = bytemuck::cast_slice::<u8, T>(bytes)[0];
            Number::of(value)
        }))
    }
}

/// Bytes below which releasing the interpreter to other threads does not pay.
const SMALL: usize = 32 * 1024;

/// Runs work over the bytes of operands, while other threads may use the interpreter. Writing outputs never changes inputs,
/// even if they share memory.
///
/// # Errors
/// `ValueError` if an output is read-only, or shares memory with another one. Those of `work`.
pub(crate) fn run<R: Send>(
    py: Python<'_>,
    inputs: &[&Memory],
    outputs: &[&Memory],
    work: impl FnOnce(&[&[u8]], Vec<&mut [u8]>) -> Result<R> + Send,
) -> PyResult<R> {
    outputs.iter().try_for_each(|output| output.check_writable())?;
    let mut written: Vec<_> =
        outputs.iter().map(|output| output.range()).filter(|range| !range.is_empty()).collect();
    written.sort_by_key(|range| range.start);
    if written.windows(2).any(|two| two[0].end > two[1].start) {
        return Err(PyValueError::new_err("outputs share memory: give each its own"));
    }
    let shares = |input: &Memory| {
        let range = input.range();
        let next = written.partition_point(|output| output.end <= range.start);
        !range.is_empty() && written.get(next).is_some_and(|output| output.start < range.end)
    };
    // SAFETY: no output exists as a slice yet.
    let copies: Vec<_> =
        inputs.iter().map(|input| shares(input).then(|| copy(unsafe { bytes(input) }))).collect();
    let inputs: Vec<&[u8]> = inputs
        .iter()
        .zip(&copies)
        .map(|(input, copy)| match copy {
            Some(copy) => &bytemuck::cast_slice(copy)[..input.bytes_len()],
            // SAFETY: it shares no byte with an output.
            None => unsafe { bytes(input) },
        })
        .collect();
    // SAFETY: outputs share no byte with each other, nor with the inputs that are read.
    let written: Vec<&mut [u8]> = outputs.iter().map(|output| unsafe { bytes_mut(output) }).collect();
    let len: usize =
        inputs.iter().map(|input| input.len()).chain(written.iter().map(|output| output.len())).sum();
    let done = match len < SMALL {
        true => float_mode::with_default(|| work(&inputs, written)),
        false => threads::detach(py, || threads::install_for(len, || work(&inputs, written))),
    };
    done.map_err(exception)
}

/// A copy, aligned for every type.
fn copy(bytes: &[u8]) -> Vec<u64> {
    let mut copy = vec![0u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut(&mut copy)[..bytes.len()].copy_from_slice(bytes);
    copy
}

/// The bytes of a memory, aligned to its elements.
///
/// # Safety
/// Nothing may write to them while the slice is used. Python code in another thread could, as with numpy: that is a data race of the
/// caller's, and changes only values, for which any bits are valid.
unsafe fn bytes(memory: &Memory) -> &[u8] {
    match memory.bytes_len() {
        0 => bytemuck::cast_slice::<u64, u8>(&[]),
        // SAFETY: the owner keeps this many bytes there.
        len => unsafe { std::slice::from_raw_parts(memory.data, len) },
    }
}

/// The same, mutable.
///
/// # Safety
/// Nothing else may use them meanwhile.
#[expect(clippy::mut_from_ref, reason = "the memory is not Rust's")]
unsafe fn bytes_mut(memory: &Memory) -> &mut [u8] {
    match memory.bytes_len() {
        0 => bytemuck::cast_slice_mut::<u64, u8>(&mut []),
        // SAFETY: the owner keeps this many bytes there.
        len => unsafe { std::slice::from_raw_parts_mut(memory.data, len) },
    }
}

/// The element type of a DLPack type.
fn dlpack_type(element: ElementType) -> Option<DLDataType> {
    Some(match element {
        ElementType::F32 => DLDataType::F32,
        ElementType::F16 => DLDataType::F16,
        ElementType::Bf16 => DLDataType::BF16,
        ElementType::F64 => DLDataType::F64,
        ElementType::F8E4M3Fn => DLDataType::F8E4M3FN,
        ElementType::F8E5M2 => DLDataType::F8E5M2,
        ElementType::I8 => DLDataType::I8,
        ElementType::U8 => DLDataType::U8,
        ElementType::I16 => DLDataType::I16,
        ElementType::U16 => DLDataType::U16,
        ElementType::I32 => DLDataType::I32,
        ElementType::U32 => DLDataType::U32,
        ElementType::I64 => DLDataType::I64,
        ElementType::U64 => DLDataType::U64,
        _ => return None,
    })
}

fn integer(signed: bool, bytes: usize) -> Option<ElementType> {
    Some(match (signed, bytes) {
        (true, 1) => ElementType::I8,
        (true, 2) => ElementType::I16,
        (true, 4) => ElementType::I32,
        (true, 8) => ElementType::I64,
        (false, 1) => ElementType::U8,
        (false, 2) => ElementType::U16,
        (false, 4) => ElementType::U32,
        (false, 8) => ElementType::U64,
        _ => return None,
    })
}

/// The element type of an ml_dtypes array, and the integer type with the same size.
fn ml_dtype(object: &Bound<'_, PyAny>) -> PyResult<Option<(ElementType, &'static str)>> {
    let py = object.py();
    let Some(dtype) = object.getattr_opt(intern!(py, "dtype"))? else { return Ok(None) };
    let Some(name) = dtype.getattr_opt(intern!(py, "name"))? else { return Ok(None) };
    Ok(match name.extract::<String>()?.as_str() {
        "bfloat16" => Some((ElementType::Bf16, "uint16")),
        "float8_e4m3fn" => Some((ElementType::F8E4M3Fn, "uint8")),
        "float8_e5m2" => Some((ElementType::F8E5M2, "uint8")),
        _ => None,
    })
}

fn no_element(object: &Bound<'_, PyAny>) -> PyErr {
    let dtype =
        object.getattr(intern!(object.py(), "dtype")).and_then(|dtype| dtype.str()?.extract::<String>());
    let names: Vec<_> = ElementType::ALL.iter().map(|&element| numpy_name(element)).collect();
    PyTypeError::new_err(format!(
        "elements of {} are not clipped here: convert them to one of {}",
        dtype.unwrap_or_else(|_| "this type".into()),
        names.join(", ")
    ))
}

/// Whether elements are in C order without gaps. The stride of an axis of length 1 is irrelevant.
fn is_c_contiguous(shape: &[i64], strides: Option<&[i64]>) -> bool {
    let Some(strides) = strides else { return true };
    if shape.contains(&0) {
        return true;
    }
    let mut step = 1;
    shape.iter().zip(strides).rev().all(|(&len, &stride)| {
        let fits = len == 1 || stride == step;
        step *= len;
        fits
    })
}

/// Whether a torch tensor has the negative bit set, which DLPack does not report.
fn is_negated(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    match object.getattr_opt(intern!(object.py(), "is_neg"))? {
        Some(is_neg) => is_neg.call0()?.is_truthy(),
        None => Ok(false),
    }
}

/// The package's Python module for arrays.
pub(crate) fn arrays(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import(intern!(py, "wgclip._arrays"))
}

fn not_plain() -> PyErr {
    PyBufferError::new_err(
        "the elements are not in C order, not aligned, or of another byte order: give a copy, as numpy.ascontiguousarray does",
    )
}
