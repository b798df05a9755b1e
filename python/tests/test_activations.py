"""tanh, the logistic function and their gradients, against decimals of 60 digits and fractions."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

import wgclip
from oracle import assert_same, specials

SHORT = ["float32", "float16", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]
DTYPES = [np.dtype(of) for of in SHORT]


def rounded(value: Fraction, dtype: np.dtype, negative: bool) -> float:
    """The number of a type that is nearest, ties to even: of those around it, found by bits."""
    size = abs(value)
    of_bits = lambda n: Fraction(float(np.array(n, f"u{dtype.itemsize}").view(dtype)))
    low, high = 0, int(np.array(ml_dtypes.finfo(dtype).max).view(f"u{dtype.itemsize}"))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if of_bits(middle) <= size else (low, middle)
    below, above = size - of_bits(low), of_bits(high) - size
    near = low if below < above or below == above and low % 2 == 0 else high
    return math.copysign(float(of_bits(near)), -1 if negative else 1)


def exp(x: float) -> Fraction:
    with localcontext() as context:
        context.prec = 60
        return Fraction(Decimal(x).exp())


def tanh(x: float) -> Fraction:
    e = exp(-2 * abs(x))
    return (1 - e) / (1 + e)


def sigmoid(x: float) -> Fraction:
    e = exp(-abs(x))
    return (e if x < 0 else 1) / (1 + e)


def numbers(rng: np.random.Generator, dtype: np.dtype) -> np.ndarray:
    sizes = np.exp2(rng.uniform(-20, 7, 400)) * rng.choice([-1, 1], 400)
    of = np.concatenate([sizes, rng.uniform(-104, 20, 200), [0.0, -0.0, -103.97208, 9.0109, 17.3]])
    return np.clip(of, -float(ml_dtypes.finfo(dtype).max), float(ml_dtypes.finfo(dtype).max)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values(rng, dtype):
    x = numbers(rng, dtype)
    expected = [rounded(tanh(float(of)), dtype, math.copysign(1, of) < 0) for of in x]
    assert_same(wgclip.tanh(x), np.array(expected).astype(dtype))
    assert_same(wgclip.sigmoid(x), np.array([rounded(sigmoid(float(of)), dtype, False) for of in x]).astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradients(rng, dtype):
    y = np.concatenate([np.exp2(-rng.uniform(0, 30, 300)), rng.integers(0, 129, 300) / 128]).astype(dtype)
    g = np.concatenate([rng.normal(size=300), rng.integers(-500, 500, 300) / 512]).astype(dtype)
    of = [(Fraction(float(a)), Fraction(float(b))) for a, b in zip(y, g)]
    negative = [math.copysign(1, b) < 0 for b in g]
    expected = [rounded(b * (1 - a * a), dtype, sign) for (a, b), sign in zip(of, negative)]
    assert_same(wgclip.tanh_backward(y, g), np.array(expected).astype(dtype))
    assert_same(wgclip.tanh_backward(-y, g), np.array(expected).astype(dtype))
    expected = [rounded(b * a * (1 - a), dtype, sign) for (a, b), sign in zip(of, negative)]
    assert_same(wgclip.sigmoid_backward(y, g), np.array(expected).astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_special_values(dtype):
    x = specials(dtype)
    for function, of_ends in (wgclip.tanh, (-1, 1)), (wgclip.sigmoid, (0, 1)):
        y = function(x)
        is_nan = np.isnan(x.astype("float32"))
        assert_same(y[is_nan], x[is_nan])
        if dtype.name != "float8_e4m3fn":
            assert [float(of) for of in function(np.array([-math.inf, math.inf], dtype))] == list(of_ends)
    beyond, g = np.array([1.5, -1.5, math.nan], dtype), np.ones(3, dtype)
    for backward in wgclip.tanh_backward, wgclip.sigmoid_backward:
        assert np.isnan(backward(beyond, g).astype("float32")).all()
        assert np.isnan(backward(g, beyond[2:].repeat(3)).astype("float32")).all()
    assert np.isnan(wgclip.sigmoid_backward(np.array([-0.5], dtype), g[:1]).astype("float32")).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("cap", [30, 50.0, 0.1, 1e-3])
def test_soft_caps(rng, dtype, cap):
    greatest = float(ml_dtypes.finfo(dtype).max)
    x = np.clip(cap * rng.normal(size=500) * np.exp2(rng.uniform(-9, 2, 500)), -greatest, greatest).astype(dtype)
    of = np.float32(cap)
    ratios = x.astype("float32") / of
    t = np.array([rounded(tanh(float(ratio)), np.dtype("float32"), bool(np.signbit(ratio))) for ratio in ratios], "float32")
    y = wgclip.soft_cap(x, cap)
    assert_same(y, (t * of).astype(dtype))
    assert (abs(y.astype("float64")) <= float(of.astype(dtype))).all()
    g = rng.normal(size=500).astype(dtype)
    # The result may be the number of the type after the cap.
    back = np.clip(y.astype("float32") / of, -1, 1)
    negative = np.signbit(g.astype("float32"))
    expected = [rounded(Fraction(float(b)) * (1 - Fraction(float(a)) ** 2), dtype, sign) for a, b, sign in zip(back, g, negative)]
    assert_same(wgclip.soft_cap_backward(y, g, cap), np.array(expected).astype(dtype))


def test_bits_do_not_depend_on_place(rng):
    """Whole vectors, their remainders, and threads give the same."""
    x = (8 * rng.normal(size=100_003)).astype("float32")
    whole = wgclip.sigmoid(x)
    for start in 0, 1, 7, 99_990:
        assert_same(wgclip.sigmoid(x[start : start + 13]), whole[start : start + 13])


def exact_softmax(row: np.ndarray) -> list[Fraction]:
    greatest = max(Fraction(float(of)) for of in row)
    with localcontext() as context:
        context.prec = 60
        to_decimal = lambda of: Decimal(of.numerator) / Decimal(of.denominator)
        e = [Fraction(to_decimal(max(Fraction(float(of)) - greatest, Fraction(-2000))).exp()) for of in row]
    return [of / sum(e) for of in e]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [0.1, 5, 60])
def test_softmax(rng, dtype, scale):
    """Within 0.55 units of the last place of decimals of 60 digits; narrower types than f32 are then almost always the nearest number."""
    x = (scale * rng.normal(size=(6, 37))).astype(dtype)
    for axis, rows, y in (1, x, wgclip.softmax(x, 1)), (0, x.T, wgclip.softmax(x, 0).T):
        for row, of_row in zip(rows, y):
            for exact, near in zip(exact_softmax(row), of_row):
                bits = int(near.view(f"u{dtype.itemsize}"))
                above = Fraction(float(np.array(bits + 1, f"u{dtype.itemsize}").view(dtype)))
                of_y = Fraction(float(near))
                assert abs(of_y - exact) <= Fraction(55, 100) * (above - of_y), (axis, of_y, exact)
    y, g = wgclip.softmax(x, (0, 1)), rng.normal(size=x.shape).astype(dtype)
    assert abs(float(y.astype("float64").sum()) - 1) < (0.3 if dtype.itemsize == 1 else 0.01)
    dot = np.float32(float(sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(y.ravel(), g.ravel()))))
    assert_same(wgclip.softmax_backward(y, g, None), (y.astype("float32") * (g.astype("float32") - dot)).astype(dtype))


def test_softmax_of_special_rows():
    x = np.float32([[0, -math.inf, 0], [math.inf, 0, 1], [math.nan, 0, 1], [-math.inf] * 3, [1e38, -1e38, 0]])
    y = wgclip.softmax(x)
    assert y[0].tolist() == [0.5, 0, 0.5] and np.isnan(y[1:4]).all() and y[4].tolist() == [1, 0, 0]
    assert wgclip.softmax(np.zeros((0, 3), "float32")).shape == (0, 3)
    device = wgclip.Device("cpu").tensor(x)
    assert_same(wgclip.softmax(device).numpy(), y)
    assert_same(wgclip.softmax_backward(wgclip.softmax(device), device).numpy(), wgclip.softmax_backward(y, x))
    with pytest.raises(TypeError, match="up to 32 bits"):
        wgclip.softmax(np.zeros(3))
    with pytest.raises(ValueError, match="axis|axes"):
        wgclip.softmax(x, 2)
    with pytest.raises(ValueError):
        wgclip.softmax_backward(y, x[:2])


def test_mistakes_are_errors():
    with pytest.raises(TypeError, match="float64.*up to 32 bits"):
        wgclip.tanh(np.zeros(3))
    with pytest.raises(TypeError, match="takes floats"):
        wgclip.sigmoid(np.zeros(3, "int32"))
    with pytest.raises(ValueError):
        wgclip.tanh_backward(np.zeros(3, "float32"), np.zeros(4, "float32"))
    for cap in 0, -1, math.inf, math.nan:
        with pytest.raises(ValueError, match="soft cap"):
            wgclip.soft_cap(np.zeros(3, "float32"), cap)
    x = wgclip.Device("cpu").tensor(np.float32([0.0, 1.0]))
    assert wgclip.sigmoid(x).numpy().tolist() == [0.5, float(np.float32(0.7310586))]
