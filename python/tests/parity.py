"""What the frameworks' own functions are compared on: special values, ties, and bounds of every order."""

from __future__ import annotations

import itertools
import math

import numpy as np

#: Elements: zeros of both signs, values at, between and outside of the bounds, subnormals, infinities, NaN.
ELEMENTS = [0.0, -0.0, 0.25, -0.25, 0.5, -0.5, 1.0, -1.0, 2.0, -3.0, 1e-40, -1e-40, math.inf, -math.inf, math.nan]
BOUNDS = [None, 0.0, -0.0, 0.5, -0.5, 1.0, 1e-40, math.inf, -math.inf]
#: Of bounds that are arrays NaN is one, too.
SIDES = [*BOUNDS[1:], math.nan]


def elements(dtype="float32"):
    return np.array(ELEMENTS, dtype)


def upstream(dtype="float32"):
    return np.array([2.0 ** (n % 7) * (-1) ** n for n in range(len(ELEMENTS))], dtype)


def numbers():
    """Bounds that are numbers, one of them at least."""
    return [of for of in itertools.product(BOUNDS, repeat=2) if of != (None, None)]


def arrays(dtype="float32"):
    """x, the upstream gradient and two bounds of the same shape: every element with every pair of bounds."""
    grid = list(itertools.product(ELEMENTS, SIDES, SIDES))
    x, lo, hi = (np.array(of, dtype) for of in zip(*grid))
    g = np.array([2.0 ** (n % 7) * (-1) ** n for n in range(len(grid))], dtype)
    return x, g, lo, hi


def differences(made, expected, *operands):
    """Where two results have other bits, NaN of any kind being the same: the operands there, and both."""
    made, expected = np.asarray(made), np.asarray(expected)
    bits = f"u{made.dtype.itemsize}"
    same = (made.view(bits) == expected.view(bits)) | (np.isnan(made) & np.isnan(expected))
    return [tuple(float(np.asarray(of)[n]) for of in (*operands, made, expected)) for n in np.flatnonzero(~same)]


def subnormal(of):
    return of != 0 and abs(of) < 2.0**-126


#: What frameworks do otherwise, each with what they lose by it.
EXCUSES = {
    "sign of a zero": lambda x, lo, hi, ours, theirs: ours == theirs == 0 or (0 == ours and abs(theirs) == 0),
    "subnormals are flushed": lambda x, lo, hi, ours, theirs: any(map(subnormal, (x, lo, hi, ours))),
    "the bounds are equal": lambda x, lo, hi, ours, theirs: lo == hi,
    "a bound is NaN": lambda x, lo, hi, ours, theirs: math.isnan(lo) or math.isnan(hi),
    "x is NaN": lambda x, lo, hi, ours, theirs: math.isnan(x),
    "the lower bound is above the upper one": lambda x, lo, hi, ours, theirs: lo > hi,
    "x is equal to a bound": lambda x, lo, hi, ours, theirs: x in (lo, hi),
}


def assert_excused(found, *excuses):
    """Every difference has an excuse, and every excuse is one of a difference: the list is neither too short nor too long."""
    used = set()
    for x, lo, hi, *_, ours, theirs in found:
        reasons = [name for name in excuses if EXCUSES[name](x, lo, hi, ours, theirs)]
        assert reasons, (x, lo, hi, ours, theirs)
        used.add(reasons[0])
    assert used == set(excuses), set(excuses) - used


def number_bounds(lo, hi, count):
    """Bounds as arrays, for `differences`: infinite ones for those that are absent."""
    return np.full(count, -np.inf if lo is None else lo), np.full(count, np.inf if hi is None else hi)
