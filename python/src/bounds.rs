//! Bounds: `None`, a number, or an array that broadcasts.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt};
use wgclip::{Bound as Side, Element, ElementType, Error, Number, ResolvedBounds, Result, Shape};

use crate::errors::exception;
use crate::memory::Memory;

/// A lower and an upper bound.
pub(crate) struct Bounds([Given; 2]);

/// A bound, with its elements and their shape where it is an array.
type Operand<'a, T> = Side<T, (&'a [T], &'a Shape)>;

enum Given {
    Absent,
    Number(Number),
    Array(Memory),
}

impl Bounds {
    /// Bounds of elements of a type.
    ///
    /// # Errors
    /// `TypeError` for what is no bound, or an array of another type.
    pub(crate) fn of(
        min: Option<&Bound<'_, PyAny>>,
        max: Option<&Bound<'_, PyAny>>,
        element: ElementType,
    ) -> PyResult<Self> {
        let sides = [given(min, element)?, given(max, element)?];
        Ok(Self(sides))
    }

    /// Those that are arrays: inputs of the operation, before its others.
    pub(crate) fn arrays(&self) -> impl Iterator<Item = &Memory> {
        self.0.iter().filter_map(|side| match side {
            Given::Array(memory) => Some(memory),
            _ => None,
        })
    }

    /// The shape of the gradient of a bound, if there is that bound.
    pub(crate) fn gradient_shape(&self, side: usize) -> Option<Shape> {
        match &self.0[side] {
            Given::Absent => None,
            Given::Number(_) => Shape::new([]).ok(),
            Given::Array(memory) => Some(memory.shape.clone()),
        }
    }

    /// The bounds of an x of a shape, with the bytes of those that are [arrays](Self::arrays).
    pub(crate) fn resolve<'a, T: Element>(
        &'a self,
        x: &Shape,
        arrays: &[&'a [u8]],
    ) -> Result<ResolvedBounds<&'a [T]>> {
        let mut arrays = arrays.iter().copied();
        let mut side = |given, number: fn(Number) -> Result<Operand<'a, T>>| match given {
            &Given::Number(of) => number(of),
            Given::Array(memory) => {
                let bytes = arrays.next().unwrap_or_default();
                Ok(Side::Tensor((bytemuck::cast_slice(bytes), &memory.shape)))
            }
            Given::Absent => Ok(Side::Absent),
        };
        let [lo, hi] = &self.0;
        let (lo, hi) = (side(lo, Side::lower)?, side(hi, Side::upper)?);
        ResolvedBounds::broadcast(x, lo, hi)
    }
}

fn given(object: Option<&Bound<'_, PyAny>>, element: ElementType) -> PyResult<Given> {
    let Some(object) = object.filter(|object| !object.is_none()) else { return Ok(Given::Absent) };
    if let Some(number) = number(object)? {
        return Ok(Given::Number(number));
    }
    let memory = Memory::of(object)?;
    match memory.number() {
        Some(number) => Ok(Given::Number(number)),
        None if memory.element == element => Ok(Given::Array(memory)),
        None => Err(exception(Error::TypeMismatch { left: element, right: memory.element })),
    }
}

/// The number that something is, if it is one: an array without axes is one, too.
pub(crate) fn number_of(object: &Bound<'_, PyAny>) -> PyResult<Option<Number>> {
    Ok(number(object)?.or_else(|| Memory::of(object).ok()?.number()))
}

/// What is a number in Python.
fn number(object: &Bound<'_, PyAny>) -> PyResult<Option<Number>> {
    if let Ok(float) = object.cast::<PyFloat>() {
        return Ok(Some(Number::Float(float.extract()?)));
    }
    let Ok(integer) = object.cast::<PyInt>() else { return Ok(None) };
    Ok(Some(match integer.extract::<i128>() {
        Ok(integer) => Number::Integer(integer),
        Err(_) => Number::Beyond { negative: integer.lt(0)? },
    }))
}

/// The axes of an array as Python counts them, from either end.
pub(crate) fn axes(axes: Option<Vec<i64>>, x: &Shape) -> PyResult<Option<Vec<usize>>> {
    let count = x.dims().len() as i64;
    let Some(axes) = axes else { return Ok(None) };
    axes.iter()
        .map(|&axis| match axis {
            _ if (0..count).contains(&axis) => Ok(axis as usize),
            _ if (-count..0).contains(&axis) => Ok((axis + count) as usize),
            _ => Err(PyValueError::new_err(format!("axis {axis} is none of an array of {count} axes"))),
        })
        .collect::<PyResult<_>>()
        .map(Some)
}
