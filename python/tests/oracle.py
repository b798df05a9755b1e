"""What clip, its gradients and norms are, written with Python's own numbers: nothing here calls wgclip."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np

FLOATS = ["float16", "float32", "float64", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]
INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
ALL = [np.dtype(of) for of in (*FLOATS, *INTEGERS)]


def is_float(dtype: np.dtype) -> bool:
    return dtype.name.startswith(("float", "bfloat"))


def bits(x: Any) -> np.ndarray:
    x = np.ascontiguousarray(x)
    return x.view(f"u{x.dtype.itemsize}")


def assert_same(made: Any, expected: Any) -> None:
    """Compares bit by bit."""
    made, expected = np.asarray(made), np.asarray(expected)
    assert made.dtype == expected.dtype, (made.dtype, expected.dtype)
    assert made.shape == expected.shape, (made.shape, expected.shape)
    differ = np.flatnonzero(bits(made).ravel() != bits(expected).ravel())
    if differ.size:
        first = differ[0]
        raise AssertionError(
            f"{differ.size} differ, the first at {first}: {bits(made).ravel()[first]:#x} instead of {bits(expected).ravel()[first]:#x}"
        )


def specials(dtype: np.dtype) -> np.ndarray:
    if not is_float(dtype):
        info = np.iinfo(dtype)
        return np.array([info.min, info.min + 1, 0, 1, info.max - 1, info.max], dtype)
    info = ml_dtypes.finfo(dtype)
    values = [0.0, -0.0, 1.0, -1.0, 0.5, float(info.max), float(info.min), float(info.smallest_subnormal), float(info.tiny)]
    made = np.array([*values, math.nan, -math.nan], dtype)
    if dtype.name != "float8_e4m3fn":
        made = np.concatenate([made, np.array([math.inf, -math.inf], dtype)])
    return made


def random_bits(rng: np.random.Generator, dtype: np.dtype, shape: Any) -> np.ndarray:
    """Any bits, with special values strewn in."""
    size = math.prod(np.atleast_1d(shape)) if not isinstance(shape, int) else shape
    x = np.frombuffer(rng.bytes(size * dtype.itemsize), dtype).copy()
    if size:
        at = rng.integers(0, size, size // 4)
        x[at] = rng.choice(specials(dtype), at.size)
    return x.reshape(shape)


def clip_one(x: Any, lo: Any, hi: Any) -> Any:
    """minimum(maximum(x, lo), hi), keeping the operand's bits; NaN of x first, then of the bounds."""
    if x != x:
        return x
    t = x
    if lo is not None:
        if lo != lo:
            t = lo
        elif x < lo:
            t = lo
    if t != t:
        return t
    if hi is not None:
        if hi != hi:
            return hi
        if t > hi:
            return hi
    return t


def clip(x: np.ndarray, lo: Any = None, hi: Any = None) -> np.ndarray:
    """Elementwise, with bounds of x's type that broadcast."""
    y = x.copy()
    sides = [None if side is None else np.broadcast_to(np.asarray(side, x.dtype), x.shape) for side in (lo, hi)]
    for at in np.ndindex(x.shape):
        y[at] = clip_one(x[at], *(None if side is None else side[at] for side in sides))
    return y


def passes(x: Any, lo: Any, hi: Any, ties: str, nan: str) -> Fraction:
    """How much of the gradient reaches x: 0, 1/4, 1/2 or 1."""
    share = {"inclusive": Fraction(1), "exclusive": Fraction(0), "half": Fraction(1, 2)}[ties]
    if x != x:
        return Fraction(1 if nan == "pass" else 0)
    part, t = Fraction(1), x
    if lo is not None:
        if lo != lo or x < lo:
            part, t = Fraction(0), lo
        elif x == lo:
            part, t = part * share, x
    if hi is not None:
        if hi != hi or t > hi:
            part = Fraction(0)
        elif t == hi:
            part *= share
    return part


def clip_backward(x: np.ndarray, g: np.ndarray, lo: Any, hi: Any, ties: str, nan: str) -> np.ndarray:
    """Of rules with outside="masked": zero, or g with its bits, or a power of two of it."""
    made = np.zeros_like(g)
    for at in np.ndindex(x.shape):
        part = passes(x[at], lo, hi, ties, nan)
        if part == 1:
            made[at] = g[at]
        elif part:
            made[at] = (np.float64(g[at]) * float(part)).astype(g.dtype) if is_float(g.dtype) else g[at]
    return made


def exact(x: np.ndarray) -> list[Fraction]:
    return [Fraction(float(of)) if is_float(x.dtype) else Fraction(int(of)) for of in x.ravel()]


def root(square: Fraction, dtype: Any) -> Any:
    """The square root, rounded once."""
    if square == 0:
        return np.dtype(dtype).type(0)
    # As an integer with far more bits than a float has, and a sticky bit.
    shift = 2 * (1200 - min(0, math.floor(math.log2(square.numerator) - math.log2(square.denominator)) // 2))
    scaled = (square.numerator << shift) // square.denominator
    found = math.isqrt(scaled)
    sticky = found * found != scaled or (square.numerator << shift) % square.denominator
    return rounded(Fraction(2 * found + int(bool(sticky)), 2 << (shift // 2)), dtype)


def rounded(value: Fraction, dtype: Any) -> Any:
    """The nearest float of a type, ties to even."""
    dtype = np.dtype(dtype)
    if dtype == np.float64:
        try:
            return np.float64(value.numerator / value.denominator)
        except OverflowError:
            return np.float64(math.inf if value > 0 else -math.inf)
    # To odd first, in a float that has more than twice the bits: that of ml_dtypes' short floats is float32, through which it rounds
    # float64 as well.
    wide = np.dtype(np.float64 if dtype == np.float32 else np.float32)
    try:
        near = wide.type(value.numerator / value.denominator)
    except OverflowError:
        near = wide.type(math.inf)
    if not np.isfinite(near):
        return dtype.type(math.inf if value > 0 else -math.inf)
    is_even = not int(near.view(f"u{wide.itemsize}")) % 2
    if Fraction(float(near)) != value and is_even:
        near = np.nextafter(near, wide.type(math.inf if value > Fraction(float(near)) else -math.inf))
    with np.errstate(over="ignore"):
        return near.astype(dtype)


def norm(x: np.ndarray, ord: float = 2, dtype: Any = None) -> Any:
    """Of finite elements."""
    dtype = dtype or (np.float64 if x.dtype == np.float64 else np.float32)
    values = exact(x)
    if ord == math.inf:
        return rounded(max((abs(of) for of in values), default=Fraction(0)), dtype)
    if ord == 1:
        return rounded(sum((abs(of) for of in values), Fraction(0)), dtype)
    return root(sum((of * of for of in values), Fraction(0)), dtype)
