"""Values that were once lost without a word, as people's programs lost them."""

from fractions import Fraction
from math import inf

import ml_dtypes
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
    with pytest.raises(wgclip.NonFiniteNormError, match="array 1 of 3.*1 more"):
        wgclip.clip_by_global_norm(arrays, 1.0, nonfinite="error")
    with pytest.raises(wgclip.NonFiniteNormError, match="all arrays together"):
        wgclip.clip_by_global_norm([f32([3e38]), f32([3e38])], 1.0, nonfinite="error")


def test_errors_name_types_as_numpy_does():
    with pytest.raises(TypeError, match="int32"):
        wgclip.norm(np.zeros(3, "i4"))
    with pytest.raises(TypeError, match="uint64"):
        wgclip.mask_backward(np.zeros(1, "i8"), f32([1]))


@pytest.mark.parametrize(
    ("dtype", "side", "bound", "words"),
    [
        ("f2", "max", 1e5, "max=100000.0 becomes inf, which bounds nothing, in float16"),
        ("f2", "min", 1e-8, "min=1e-8 becomes 0, in float16"),
        ("f4", "max", 20878923, "becomes 20878924, since there is no such whole number"),
        ("f4", "max", 20878923.0, "becomes 20878924"),
        ("f8", "max", 2**53 + 1, "becomes 9007199254740992"),
        ("f4", "max", 1e-44, "becomes 9.809089e-45"),
    ],
)
def test_bounds_that_became_something_else_are_told(dtype, side, bound, words):
    for call in (
        lambda: wgclip.clip(np.zeros(3, dtype), **{side: bound}),
        lambda: wgclip.clip(np.zeros(3, dtype)[::2], **{side: np.asarray(bound)}),
        lambda: wgclip.clip_backward(np.zeros(3, dtype), np.ones(3, dtype), **{side: bound}),
    ):
        with pytest.warns(wgclip.BoundWarning) as told:
            call()
        assert words in str(told[0].message) and told[0].filename == __file__


@pytest.mark.parametrize(
    ("dtype", "bounds"),
    [("f4", (0.1, 0.9)), ("f2", (-0.3, 65504)), ("f4", (-inf, inf)), ("u1", (0, 1000)), ("f8", (1e-300, 0.1)), ("f4", (0, 16777216))],
)
def test_ordinary_bounds_are_silent(dtype, bounds, recwarn):
    wgclip.clip(np.zeros(3, dtype), *bounds)
    assert [str(of.message) for of in recwarn] == []


def test_bounds_rounded_inward():
    bf16 = np.dtype(ml_dtypes.bfloat16)
    # The nearest of 0.1 is above it, and that of 0.9 below.
    assert wgclip.inward("f4", 0.1, 0.9) == (float(f32(0.1)), float(f32(0.9)))
    assert wgclip.inward("f4", 0.9, 0.1) == (float(np.nextafter(f32(0.9), f32(1))), float(np.nextafter(f32(0.1), f32(0))))
    lo, hi = wgclip.inward(bf16, None, 0.999)
    assert lo is None and wgclip.clip(np.ones(1, bf16), lo, hi)[0] == 0.99609375
    assert wgclip.inward("i4", 0.5, 2.5) == (1, 2) and wgclip.inward("f4", -inf, 1e99) == (-inf, float(np.finfo("f4").max))
    for wrong, error in ((("u1", 300, None), ValueError), (("f4", np.nan, None), ValueError), (("f4", np.zeros(3), None), TypeError)):
        with pytest.raises(error):
            wgclip.inward(*wrong)


def test_bounds_of_another_type():
    oracle.assert_same(wgclip.clip(f32([1, 2, 3]), None, np.array([2.5])), f32([1, 2, 2.5]))
    oracle.assert_same(wgclip.clip(np.array([1, 20, 30], "i4"), None, np.array([9], "i8")), np.array([1, 9, 9], "i4"))
    oracle.assert_same(wgclip.clip(np.array([1, 20, 30], "u1"), np.array([9.0, 9, 9]), None), np.array([9, 20, 30], "u1"))
    with pytest.raises(TypeError, match="whole number"):
        wgclip.clip(np.array([1, 2], "u1"), None, np.array([1.5, 1.0]))
    oracle.assert_same(wgclip.clip(np.array([1, 2], "u1"), None, np.array([300, 1])), np.array([1, 1], "u1"))
    with pytest.raises(ValueError, match="outside"):
        wgclip.clip(np.array([1, 2], "u1"), None, np.array([-1, 1]))


def test_what_has_no_norm_is_left_as_it_is():
    step, gradients = np.array([7], "i8"), [f32([3, 4]), None, np.array([7], "i8"), np.array([True])]
    assert wgclip.global_norm(gradients) == 5.0 and wgclip.global_norm([None, step]) == 0.0
    made, norm = wgclip.clip_by_global_norm(gradients, 1.0)
    assert norm == 5.0 and made[0].tolist() == f32([0.6, 0.8]).tolist()
    assert made[1] is None and made[2] is gradients[2] and made[3] is gradients[3]
    own = [f32([3, 4]), None, step]
    wgclip.clip_by_global_norm(own, 2.5, out=own)
    assert own[0].tolist() == [1.5, 2.0] and step.tolist() == [7]


def test_arrays_of_bounds_are_rounded_as_numbers_are():
    half = np.float16([np.inf, 6e4, -np.inf])
    with pytest.raises(ValueError, match="no value could"):
        wgclip.clip(half, np.array([1e5]), None)
    for bound in ([1e5], np.array([1e5]), np.float32([1e5])):
        with pytest.warns(wgclip.BoundWarning, match="max=100000.0 becomes inf") as caught:
            made = wgclip.clip(half, None, bound)
        assert made.tolist() == half.tolist() and caught[0].filename == __file__
    # Once, from integers too.
    wide = np.array([2**60 + 2**36 + 1])
    with pytest.warns(wgclip.BoundWarning):
        assert wgclip.clip(f32([1e19]), None, wide).tolist() == [2**60 + 2**37]
    assert wgclip.clip(np.int32([9]), None, np.array([np.inf])).tolist() == [9]
    assert wgclip.clip(np.uint8([9]), [-1], [300]).tolist() == [9]
    assert wgclip.clip(f32([1, 2]), None, np.array([np.nan, 1])).tolist()[1] == 1
    with pytest.raises(TypeError):
        wgclip.clip(np.uint8([9]), None, np.array([1.5]))
    assert wgclip.clip(np.array([True, False]).astype("u1"), None, np.array([True, False])).tolist() == [1, 0]


def test_names_are_those_of_what_was_given():
    arrays = [None, np.int32([1]), f32([1]), f32([np.nan])]
    with pytest.raises(wgclip.NonFiniteNormError, match="array 3 of 4"):
        wgclip.clip_by_global_norm(arrays, 1.0, nonfinite="error")
    with pytest.raises(TypeError, match="norms are of floats"):
        wgclip.norm([3, 4])
    with pytest.raises(TypeError, match="float32, float16, bfloat16"):
        wgclip.clip(np.array([True]), 0, 1)
    out = [np.zeros(2), np.array([-1, -1])]
    wgclip.clip_by_global_norm([np.array([3.0, 4]), np.array([7, 8])], 1.0, out=out)
    assert out[1].tolist() == [7, 8]


def test_shares_may_come_in_any_kind_of_list():
    x = np.arange(10.0)
    for q in (np.array([0.1, 0.9]), (share for share in [0.1, 0.9]), (0.1, 0.9)):
        assert wgclip.quantiles(x, q) == [0, 8]
    assert wgclip.quantiles(x, np.float64(0.1)) == 0
