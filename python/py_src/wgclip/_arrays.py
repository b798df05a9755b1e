"""Conversion of inputs to numpy arrays, and of results back, for all operations over arrays."""

from __future__ import annotations

import importlib
import math
import numbers
import sys
import types
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from . import _core

Array: TypeAlias = npt.NDArray[Any]
_Result = TypeVar("_Result")

#: Our modules for the arrays of other frameworks: the input's framework decides the output's.
_FRAMEWORKS = {"torch": "torch", "jax": "jax", "jaxlib": "jax", "tensorflow": "tensorflow"}


def framework(x: object) -> types.ModuleType | None:
    """The module for arrays of a framework: None for numpy arrays, and for objects that convert to them."""
    name = _FRAMEWORKS.get(type(x).__module__.partition(".")[0])
    return importlib.import_module(f"wgclip.{name}") if name else None


def lazy(x: object) -> types.ModuleType | None:
    """The module for lazy arrays: Dask's."""
    return importlib.import_module("wgclip.dask") if type(x).__module__.startswith("dask.array") else None


def labelled(x: object) -> types.ModuleType | None:
    """The module for labelled arrays: xarray's and pandas', and subclasses of them."""
    for package, names in (("pandas", ("Series", "DataFrame")), ("xarray", ("DataArray", "Dataset"))):
        # Such an object implies that its package was imported.
        if package in sys.modules and isinstance(x, tuple(getattr(sys.modules[package], name) for name in names)):
            return importlib.import_module("wgclip._labelled")
    return None


def is_sparse(x: object) -> bool:
    """Whether it is one of scipy's sparse arrays or matrices."""
    return "scipy.sparse" in sys.modules and bool(sys.modules["scipy.sparse"].issparse(x))


def as_array(x: Any) -> Array:
    """A numpy array, without a copy if possible."""
    if is_sparse(x):
        raise TypeError("a sparse array has elements that it does not keep: clip its data where 0 lies between the bounds, or give x.toarray()")
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError("a masked array would lose its mask: give its data, or x.filled(value)")
    if isinstance(x, np.ndarray):
        return np.asarray(x)
    if (home := framework(x)) is not None:
        array: Array = home.to_numpy(x)
        return array
    if (labels := labelled(x)) is not None:
        labels.check_types(x)
    return np.from_dlpack(x) if hasattr(x, "__dlpack__") else np.asarray(x)


def back(x: Any, out: Any = None) -> Callable[[Any], Any]:
    """A function that converts a numpy result to the kind of x, with its labels, unless it was written to a given output."""
    if out is not None:
        return lambda made: made
    if (home := framework(x)) is not None:
        return lambda made: home.from_numpy(np.asarray(made))
    if (labels := labelled(x)) is not None:
        return lambda made: labels.relabelled(x, made)
    return lambda made: made


def is_plain(x: Array) -> bool:
    """Whether the compiled part accepts it without a copy: in C order, aligned, in native byte order."""
    return x.flags.c_contiguous and x.flags.aligned and x.dtype.isnative


def plain(x: Any) -> Array:
    """The same elements as an array that the compiled part accepts, copied only if necessary."""
    array = as_array(x)
    if is_plain(array):
        return array
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True)


def _numbers(values: Any, nothing: Any) -> Array:
    """A list of bounds, numbers or None, as an array; None becomes ``nothing``."""
    array = np.asarray(values)
    if array.dtype.kind != "O" and is_number(array.dtype):
        return array
    array = np.array(values, dtype=object)
    if array.dtype.kind == "O":
        array = np.array([nothing if of is None else of for of in array.flat], dtype=object).reshape(array.shape)
    for of in array.flat:
        if not isinstance(of, numbers.Real) and not is_number(getattr(of, "dtype", None)):
            raise TypeError(f"a list of bounds has {of!r}: give numbers, and None where there is no bound")
    return array


def is_number(dtype: Any) -> bool:
    """Whether a dtype holds real numbers, including those of ml_dtypes."""
    return dtype is not None and (dtype.kind in "biuf" or dtype.kind == "V" and dtype.names is None and dtype.subdtype is None and dtype.type is not np.void)


def bound(value: Any, dtype: np.dtype[Any], side: Literal["min", "max"]) -> Any:
    """A bound as the compiled part accepts it: lists and arrays of another type become arrays of the type of x, and None in lists a value that no
    element exceeds."""
    if value is None or isinstance(value, int | float | np.generic | _core.Tensor):
        return value
    if isinstance(value, list | tuple):
        is_whole = dtype.kind in "iu"
        array = _numbers(value, getattr(np.iinfo(dtype), side) if is_whole else math.inf if side == "max" else -math.inf)
    else:
        array = plain(value)
        if array.ndim == 0 or not is_number(array.dtype):
            return array
    return plain(array) if array.dtype == dtype else _as_bounds(array, dtype, side)


def _as_bounds(array: Array, dtype: np.dtype[Any], side: Literal["min", "max"]) -> Array:
    """Bounds of another type: each rounded like a number, integers from their exact value."""
    made = np.empty(array.shape, dtype)
    if array.dtype.kind == "O":
        # From a list: one by one, like Python numbers.
        for place, of in np.ndenumerate(array):
            number = of if isinstance(of, numbers.Integral) else float(of)
            _core.round_bounds(np.asarray(number) if isinstance(number, float) else number, side, made[(*place, None)])
        return made
    given = array.astype(np.uint8) if array.dtype.kind == "b" else plain(array)
    _core.round_bounds(given, side, made)
    return made


#: Packages whose frames may lie between the caller and this package.
_ON_THE_WAY = {"wgclip", "torch", "jax", "jaxlib", "tensorflow", "xarray", "contextlib", "functools"}


def warn(text: str, category: type[Warning]) -> None:
    """Warns at the line that calls this package."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _ON_THE_WAY:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)


def check_output(out: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuses an array that a result cannot be copied to."""
    if not out.flags.writeable:
        raise ValueError("an output is read-only: give an array that is writable")
    if out.dtype.newbyteorder("=") != dtype:
        raise TypeError(f"the output is of {out.dtype}, but the result of {dtype}: give one of that type")
    if out.shape != shape:
        raise ValueError(f"the output is of shape {out.shape}, but the result of {shape}: give one of that shape")


def into(
    out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], run: Callable[[Any], object]
) -> Any:
    """Runs a function that writes to an output: a new array, or the given one, whatever its strides and byte order."""
    if out is None:
        made = np.empty(shape, dtype)
        run(made)
        return made if made.ndim else made[()]
    into_all([out], [(shape, dtype)], lambda outputs: run(outputs[0]))
    return out


def into_all(
    outputs: Sequence[Any],
    results: Sequence[tuple[tuple[int, ...], np.dtype[Any]]],
    run: Callable[[list[Any]], _Result],
) -> _Result:
    """Runs a function that writes to given outputs, each of the shape and type of a result. Nothing is changed if one of them does not fit."""
    written = []
    for out, (shape, dtype) in zip(outputs, results, strict=True):
        if framework(out) is not None:
            raise TypeError("an output is an array of numpy: see the module of the framework")
        direct = not isinstance(out, np.ndarray) or is_plain(out)
        if not direct:
            check_output(out, shape, dtype)
        written.append(out if direct else np.empty(shape, dtype))
    made = run(written)
    for out, of in zip(outputs, written):
        if out is not of:
            out[...] = of
    return made


_NAMES = {
    "f32": "float32",
    "f16": "float16",
    "f64": "float64",
    "bf16": "bfloat16",
    "f8_e4m3fn": "float8_e4m3fn",
    "f8_e5m2": "float8_e5m2",
    "i8": "int8",
    "u8": "uint8",
    "i16": "int16",
    "u16": "uint16",
    "i32": "int32",
    "u32": "uint32",
    "i64": "int64",
    "u64": "uint64",
}


def dtype_of(name: Any) -> np.dtype[Any]:
    """The numpy type of a name: one known to numpy, one of ml_dtypes, or a Rust name."""
    if isinstance(name, str):
        name = _NAMES.get(name, name)
    if isinstance(name, str) and name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float4_e2m1fn"):
        try:
            import ml_dtypes
        except ImportError:
            raise TypeError(f"{name} is a type of ml_dtypes: pip install ml_dtypes") from None
        found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return found
    plain_type: np.dtype[Any] = np.dtype(name)
    return plain_type


def is_float4(dtype: Any) -> bool:
    """Whether a type, or its name, is float4_e2m1fn. ml_dtypes is not imported for that."""
    return str(dtype) == "float4_e2m1fn" or getattr(dtype, "__name__", "") == "float4_e2m1fn"


def element_of(dtype: np.dtype[Any]) -> str:
    """The Rust name of a type."""
    found = [ours for ours, theirs in _NAMES.items() if theirs == dtype.name]
    if not found:
        raise TypeError(
            f"elements of {dtype} are not clipped here: convert them to one of {', '.join(_NAMES.values())}"
        )
    return found[0]


def of_tensor(tensor: _core.Tensor) -> Array:
    """The elements of a tensor on a device, copied to the host."""
    made = np.empty(tensor.shape, dtype_of(tensor.element))
    tensor.copy_to(made)
    return made
