"""Values that were once lost without a word, as people's programs lost them."""

from fractions import Fraction
from math import inf

import numpy as np
import pytest

import oracle
import wgclip
from wgclip import distributed

f32 = np.float32


@pytest.mark.parametrize(
    ("wide", "narrow", "limit"),
    [([3e200, 4e200], [1, 2], 1.0), ([3e-200, 4e-200], [0, 0], 1e-201), ([1e39], [1, 2], 1.0), ([1e39], [2e38], 1e39)],
)
def test_float64_beside_shorter_floats(wide, narrow, limit):
    arrays = [np.float64(wide), f32(narrow)]
    norm = float(oracle.root(sum(Fraction(float(x)) ** 2 for of in arrays for x in of), np.float64))
    assert wgclip.global_norm(arrays) == norm
    made, told = wgclip.clip_by_global_norm(arrays, limit)
    assert told == norm
    coefficient = limit / norm
    assert made[0].tolist() == [x * coefficient for x in wide]
    # The exact product, rounded once.
    exact = [Fraction(float(x)) * Fraction(coefficient) for x in f32(narrow)]
    assert made[1].tolist() == [float(oracle.rounded(x, f32)) for x in exact]
    assert distributed.global_norm(arrays, lambda words, op: words) == norm
    state = wgclip.NormState(wide=True)
    state.add(*arrays)
    assert state.double and state.norm() == norm
    if norm > 1e38 or norm < 1e-40:
        with pytest.raises(TypeError, match="float64"):
            state.norm(double=False)


def test_a_state_says_how_to_take_float64():
    with pytest.raises(TypeError, match="wide=True"):
        wgclip.NormState().add(np.zeros(3))
    with pytest.raises(TypeError, match="astype"):
        wgclip.NormState().add([3, 4])


def test_no_axis_is_the_whole_array():
    grad, parameter = f32([3, 4]), f32([1, 1])
    whole = wgclip.clip_adaptive(grad, parameter, 0.1, None)
    expected = np.float64(grad) * (0.1 * np.sqrt(2) / 5)
    assert np.allclose(whole, expected, rtol=1e-6) and whole.tolist() == wgclip.clip_adaptive(grad, parameter, 0.1, 0).tolist()
    assert np.allclose(wgclip.clip_adaptive(grad, parameter, 0.1, ()), [0.1, 0.1])


@pytest.mark.parametrize("dtype", ["f4", "f2", "f8", "i4", "u1", "i8"])
def test_bounds_in_lists_are_numbers_or_none(dtype):
    x = np.array([1, 2, 30], dtype)
    oracle.assert_same(wgclip.clip(x, None, [1, 1, None]), np.array([1, 1, 30], dtype))
    oracle.assert_same(wgclip.clip(x, [5, None, None], 6), np.array([5, 2, 6], dtype))
    oracle.assert_same(wgclip.clip(x, [None] * 3, [None] * 3), x)
    for wrong in (["2", "2", "2"], [2 + 5j, 2, 2], [1, "2", 3], [b"1", 2, 3], [[1], 2, 3], [object(), 2, 3]):
        with pytest.raises((TypeError, ValueError), match="number|inhomogeneous"):
            wgclip.clip(x, None, wrong)
    if np.dtype(dtype).kind == "f":
        assert wgclip.clip(np.array([inf, -inf], dtype), [None, None], [None, None]).tolist() == [inf, -inf]
    else:
        info = np.iinfo(dtype)
        assert wgclip.clip(np.array([info.min, info.max], dtype), [None, None], [None, None]).tolist() == [info.min, info.max]


def test_a_norm_that_is_not_finite_names_its_array():
    arrays = [f32([1, 2]), f32([inf, 1]), f32([np.nan, 1])]
    with pytest.raises(wgclip.NonFiniteNormError, match="array 1 of 3.*1 others"):
        wgclip.clip_by_global_norm(arrays, 1.0, nonfinite="error")
    with pytest.raises(wgclip.NonFiniteNormError, match="all arrays together"):
        wgclip.clip_by_global_norm([f32([3e38]), f32([3e38])], 1.0, nonfinite="error")


def test_errors_name_types_as_numpy_does():
    with pytest.raises(TypeError, match="int32"):
        wgclip.norm(np.zeros(3, "i4"))
    with pytest.raises(TypeError, match="float32.*int64|int64.*float32"):
        wgclip.clip(f32([1]), None, np.array([1, 2], "i8")[:1])
