//! Broadcast inputs, mainly bounds: `None`, a number, or an array that broadcasts.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt};
use wgclip::bounds::{BoundRounding, BroadcastInputs, Number};
use wgclip::op::{MAX_BROADCAST, Op, Operand};
use wgclip::{Bound as Side, Element, ElementType, Error, Result, Shape, with_element};

use crate::errors::{self, exception, numpy_name};
use crate::float_mode;
use crate::memory::{self, Memory};

/// The broadcast inputs of an operation, in the order of its row.
pub(crate) struct Broadcast {
    operands: &'static [Operand],
    /// Their type.
    element: ElementType,
    given: [Given; MAX_BROADCAST],
}

enum Given {
    Absent,
    Number(Number),
    Array(Memory),
}

impl Broadcast {
    /// The broadcast inputs of an operation, of this type. Inputs that are not given are absent.
    ///
    /// # Errors
    /// `TypeError` for invalid objects, and arrays of another type.
    pub(crate) fn of<'a, 'py: 'a>(
        op: Op,
        objects: impl IntoIterator<Item = Option<&'a Bound<'py, PyAny>>>,
        element: ElementType,
    ) -> PyResult<Self> {
        let operands = op.info().broadcast;
        let mut inputs = [const { Given::Absent }; MAX_BROADCAST];
        for ((input, object), &operand) in inputs.iter_mut().zip(objects).zip(operands) {
            *input = given(object, operand, element)?;
        }
        Ok(Self { operands, element, given: inputs })
    }

    /// The inputs that are arrays. They come before the operation's other inputs.
    pub(crate) fn arrays(&self) -> impl Iterator<Item = &Memory> {
        self.given.iter().filter_map(|given| match given {
            Given::Array(memory) => Some(memory),
            _ => None,
        })
    }

    /// The shape of the gradient of an input, if the input is present.
    pub(crate) fn gradient_shape(&self, of: Operand) -> Option<Shape> {
        let index = self.operands.iter().position(|&operand| operand == of)?;
        match &self.given[index] {
            Given::Absent => None,
            Given::Number(_) => Shape::new([]).ok(),
            Given::Array(memory) => Some(memory.shape.clone()),
        }
    }

    /// The inputs for an x of a shape, with the bytes of the [arrays](Self::arrays).
    pub(crate) fn resolve<'a>(&'a self, x: &Shape, arrays: &[&'a [u8]]) -> Result<BroadcastInputs<&'a [u8]>> {
        let mut arrays = arrays.iter().copied();
        let inputs = self.given.iter().map(|given| match given {
            &Given::Number(number) => Side::Value(number),
            Given::Array(memory) => Side::Tensor((arrays.next().unwrap_or_default(), &memory.shape)),
            Given::Absent => Side::Absent,
        });
        BroadcastInputs::of_numbers(self.element, self.operands, x, inputs, BoundRounding::Nearest)
    }
}

/// The extreme element on the side of a bound, which no other exceeds.
fn last<T: Element>(operand: Operand) -> T {
    let [least, greatest] = T::TYPE.layout().ends();
    T::from_bits(if operand == Operand::Hi { greatest } else { least })
}

/// A number as a bound.
fn rounded<T: Element>(number: Number, operand: Operand, rounding: BoundRounding) -> Result<Side<T, ()>> {
    match operand {
        Operand::Hi => Side::upper_rounded(number, rounding),
        _ => Side::lower_rounded(number, rounding),
    }
}

/// The name of an operand in Python.
pub(crate) fn keyword(operand: Operand) -> &'static str {
    match operand {
        Operand::Lo => "min",
        Operand::Hi => "max",
        _ => operand.name(),
    }
}

fn given(object: Option<&Bound<'_, PyAny>>, operand: Operand, element: ElementType) -> PyResult<Given> {
    let Some(object) = object.filter(|object| !object.is_none()) else { return Ok(Given::Absent) };
    let memory = match number(object)? {
        Some(number) => {
            warn(object.py(), number, operand, element)?;
            return Ok(Given::Number(number));
        }
        None => Memory::of(object)?,
    };
    match memory.number() {
        Some(number) => {
            warn(object.py(), number, operand, element)?;
            Ok(Given::Number(number))
        }
        None if memory.element == element => Ok(Given::Array(memory)),
        None => Err(exception(Error::TypeMismatch { left: element, right: memory.element })),
    }
}

/// Warns of a number that rounding to nearest may change in an unintended way. Ordinary fractions are rounded silently, as
/// everywhere.
fn warn(py: Python<'_>, number: Number, operand: Operand, element: ElementType) -> PyResult<()> {
    // Frameworks call from threads that flush subnormals.
    let becomes = float_mode::with_default(|| with_element!(element, T => surprise::<T>(number, operand)));
    let Some(becomes) = becomes else { return Ok(()) };
    let text = format!("{}={} becomes {becomes}, in {}", keyword(operand), text(number), numpy_name(element));
    errors::warn::<errors::BoundWarning>(py, &text)
}

fn text(number: Number) -> String {
    match number {
        Number::Float(value) => format!("{value:?}"),
        Number::Integer(value) => value.to_string(),
        Number::Beyond { .. } => "a number".into(),
    }
}

fn surprise<T: Element>(number: Number, operand: Operand) -> Option<String> {
    let asked = match number {
        Number::Float(asked) if asked.is_finite() => asked,
        Number::Integer(asked) => asked as f64,
        _ => return None,
    };
    let value = rounded::<T>(number, operand, BoundRounding::Nearest).ok()?.value()?;
    let became = value.to_f64();
    if became == asked && matches!(number, Number::Float(_)) || !T::TYPE.is_float() {
        return None;
    }
    let layout = T::TYPE.layout();
    let is_exact = match number {
        Number::Integer(asked) => became.is_finite() && became as i128 == asked,
        _ => false,
    };
    // Half of a unit in the last place of a normal number.
    let is_far = (became - asked).abs() > asked.abs() * (-f64::from(layout.fraction_bits() + 1)).exp2();
    match () {
        () if is_exact => None,
        () if became.is_infinite() => Some(format!("{became}, which bounds nothing")),
        () if became == 0.0 => Some("0".into()),
        // The end of the range: there are no numbers beyond it to clip.
        () if became.abs() == T::from_bits(layout.max_finite()).to_f64() && asked.abs() > became.abs() => {
            None
        }
        () if asked.fract() == 0.0 => Some(format!("{value}, since there is no such whole number")),
        () if is_far => Some(format!("{became:.6e}")),
        () => None,
    }
}

/// A Python number.
#[derive(IntoPyObject)]
pub(crate) enum PyNumber {
    Float(f64),
    Integer(i128),
}

impl PyNumber {
    /// An element, which is exactly representable as a number.
    fn of<T: Element>(value: T) -> Self {
        let whole = if T::TYPE.is_float() { None } else { value.to_string().parse().ok() };
        whole.map_or(Self::Float(value.to_f64()), Self::Integer)
    }
}

/// Numbers as bounds of an array's type, each rounded inward: `max` down and `min` up.
#[pyfunction]
pub(crate) fn inward(
    like: &Bound<'_, PyAny>,
    min: Option<&Bound<'_, PyAny>>,
    max: Option<&Bound<'_, PyAny>>,
) -> PyResult<(Option<PyNumber>, Option<PyNumber>)> {
    let element = Memory::of(like)?.element;
    let side = |object: Option<&Bound<'_, PyAny>>, operand: Operand| {
        let Some(object) = object else { return Ok(None) };
        let Some(number) = number_of(object)? else {
            return Err(PyTypeError::new_err("inward bounds are made of numbers: give a float or an int"));
        };
        let bound = float_mode::with_default(|| {
            with_element!(element, T => {
                rounded::<T>(number, operand, BoundRounding::Inward).map(|bound| bound.value().map(PyNumber::of))
            })
        });
        bound.map_err(exception)
    };
    Ok((side(min, Operand::Lo)?, side(max, Operand::Hi)?))
}

/// Rounds bounds of another type to the type of out, like numbers: `side` is "min" or "max". Warns of the first one that rounding may change
/// in an unintended way.
#[pyfunction]
pub(crate) fn round_bounds(
    py: Python<'_>,
    array: &Bound<'_, PyAny>,
    side: &str,
    out: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let operand = if side == "max" { Operand::Hi } else { Operand::Lo };
    let (out, alone) = (Memory::of(out)?, number(array)?);
    let from = if alone.is_some() { None } else { Some(Memory::of(array)?) };
    let read: Vec<_> = from.iter().collect();
    let surprising = memory::run(py, &read, &[&out], |read, mut written| {
        let numbers: Vec<Number> = match &from {
            Some(from) => with_element!(from.element, S => {
                bytemuck::cast_slice::<u8, S>(read[0]).iter().copied().map(Number::of).collect()
            }),
            None => alone.into_iter().collect(),
        };
        with_element!(out.element, T => {
            let made = bytemuck::cast_slice_mut::<u8, T>(written[0]);
            if made.len() != numbers.len() {
                let (shape, expected) = (out.shape.dims().to_vec(), made.len());
                return Err(Error::LengthMismatch { shape, expected, actual: numbers.len() });
            }
            for (made, &number) in made.iter_mut().zip(&numbers) {
                // As a scalar bound NaN is an error, but as an element of an array it becomes the result.
                *made = match number {
                    Number::Float(value) if value.is_nan() => T::from_f64(value),
                    number => rounded::<T>(number, operand, BoundRounding::Nearest)?
                        .value()
                        .unwrap_or(last(operand)),
                };
            }
            Ok(numbers.into_iter().find(|&number| surprise::<T>(number, operand).is_some()))
        })
    })?;
    surprising.map_or(Ok(()), |number| warn(py, number, operand, out.element))
}

/// The value of an object that is a number or a 0-d array.
pub(crate) fn number_of(object: &Bound<'_, PyAny>) -> PyResult<Option<Number>> {
    Ok(number(object)?.or_else(|| Memory::of(object).ok()?.number()))
}

/// The value of a Python number.
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

/// Resolves axes counted from either end, as in Python.
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
