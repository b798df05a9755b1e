"""Fake quantisation, to the bit, against Python's fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import oracle
import pytest
import wgclip
from oracle import assert_same, random_bits

FLOATS = [np.dtype(of) for of in oracle.FLOATS]
IDS = [of.name for of in FLOATS]
RANGES = [(-128, 127), (0, 255), (-8, 7), (0, 65535), (5, 5)]


def integer(value: Fraction, rounding: str) -> int:
    floor, rest = math.floor(value), value - math.floor(value)
    if rounding == "down":
        return floor
    if rest != Fraction(1, 2):
        return floor + (rest > Fraction(1, 2))
    return floor + {"half-even": floor % 2, "half-up": 1, "half-away": value > 0}[rounding]


def step(value: float, dtype: np.dtype) -> float:
    """A number rounded to float32, or to float64 for float64."""
    return float(value) if dtype.name == "float64" else float(np.float32(value))


def code(x, scale, zero: int, rule, dtype):
    """The code before it is clipped, and the quotient; of finite numbers, the scale not 0."""
    if rule.quotient == "exact":
        quotient = Fraction(x) / Fraction(scale)
    elif rule.quotient == "division":
        quotient = step(np.float64(x) / np.float64(scale), dtype)
    else:
        quotient = step(x * step(1 / np.float64(scale), dtype), dtype)
    if isinstance(quotient, float) and math.isinf(quotient):
        return (1 << 40) * (1 if quotient > 0 else -1), quotient
    return integer(Fraction(quotient), rule.rounding) + zero, quotient


def values(dtype, x, scale, zero, rule):
    made = []
    for x, scale in zip(x.astype(float), scale.astype(float)):
        q, _ = code(x, scale, zero, rule, dtype)
        y = (min(max(q, rule.min), rule.max) - zero) * Fraction(scale)
        made.append(rounded(y, dtype) if y else math.copysign(0.0, scale))
    return np.array(made, dtype)


def rounded(value: Fraction, dtype: np.dtype):
    """Rounds a number once. A float64 that is not exact is moved off the ties of narrower types first."""
    if dtype.name == "float64":
        return np.float64(float(value))
    with np.errstate(over="ignore"):
        if dtype.name == "float32":
            return np.float64(to_odd(value, np.float64, np.int64)).astype(dtype)
        # ml_dtypes rounds a float64 twice: to float32 first.
        return np.float32(to_odd(value, np.float32, np.int32)).astype(dtype)


def to_odd(value: Fraction, kind, bits_of):
    """The number of this kind, or where it has none the neighbour whose last bit is set: it rounds to a narrower type as the value does."""
    near = kind(float(value))
    if not np.isfinite(near) or Fraction(float(near)) == value or near.view(bits_of) & 1:
        return near
    return np.nextafter(near, kind(math.inf if Fraction(float(near)) < value else -math.inf))


def operands(rng, dtype, count=400):
    with np.errstate(over="ignore"):
        scale = (rng.choice([1.0, 0.1, 0.25, -0.5, 3.0, 0.037], count) * rng.choice([1, 1, 2.0**-6], count)).astype(dtype)
        steps = rng.integers(-300, 300, count) + rng.choice([0, 0.5, 0.25, 0.49], count)
        x = (steps * scale.astype(float)).astype(dtype)
    finite = np.isfinite(x.astype(float)) & (scale.astype(float) != 0)
    return x[finite], scale[finite]


@pytest.mark.parametrize("rounding", ["half-even", "half-up", "half-away", "down"])
@pytest.mark.parametrize("quotient", ["exact", "division", "reciprocal"])
@pytest.mark.parametrize("dtype", FLOATS, ids=IDS)
def test_values(rng, dtype, quotient, rounding):
    for low, high in RANGES:
        rule = wgclip.QuantRule(low, high, quotient=quotient, rounding=rounding)
        for zero in {low, high, (low + high) // 2}:
            if float(np.asarray(zero).astype(dtype)) != zero:
                continue
            x, scale = operands(rng, dtype)
            assert_same(wgclip.fake_quantize(x, scale, zero, rule=rule), values(dtype, x, scale, zero, rule))


@pytest.mark.parametrize("gradient", ["rounded", "interior", "unrounded", "straight-through"])
def test_gradients(rng, gradient):
    dtype = np.dtype("f4")
    rule = wgclip.QuantRule(-8, 7, gradient=gradient)
    x, scale = operands(rng, dtype)
    g = rng.choice(np.array([1, -3, 0.5, np.inf], dtype), x.size)
    gx, gscale, gzero = wgclip.fake_quantize_backward(x, g, scale, np.full_like(x, 2), rule=rule)
    for i, (of_x, of_g, of_scale) in enumerate(zip(x, g, scale)):
        q, quotient = code(float(of_x), float(of_scale), 2, rule, dtype)
        passes = {"rounded": -8 <= q <= 7, "interior": -8 < q < 7, "unrounded": -10 <= quotient <= 5}.get(gradient, True)
        steps = np.float32(min(max(q, -8), 7) - 2)
        with np.errstate(invalid="ignore"):
            expected = of_g * (steps - of_x / of_scale if passes else steps)
        assert gx[i] == (of_g if passes else 0)
        assert gscale[i] == expected or (np.isnan(expected) and np.isnan(gscale[i]))
        assert gzero[i] == (0 if passes else -of_scale * of_g)


def test_gradients_are_summed_exactly(rng):
    x, g = rng.normal(0, 100, (64, 33)).astype("f4"), rng.normal(size=(64, 33)).astype("f4")
    scale = np.linspace(0.1, 2, 33, dtype="f4")
    of_each = [np.ascontiguousarray(np.broadcast_to(of, x.shape)) for of in (scale, np.zeros(33, "f4"))]
    _, gscale, gzero = wgclip.fake_quantize_backward(x, g, scale, np.zeros(33, "f4"))
    _, *each = wgclip.fake_quantize_backward(x, g, *of_each)
    for made, elements in zip((gscale, gzero), each):
        expected = [rounded(sum(map(Fraction, map(float, column))), np.dtype("f4")) for column in elements.T]
        assert_same(made, np.array(expected, "f4"))
    _, total, _ = wgclip.fake_quantize_backward(x, g, 0.5)
    assert np.ndim(total) == 0


CODES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "uint16": (3, 65535), "int32": (-5, 9)}


@pytest.mark.parametrize("of", list(CODES))
@pytest.mark.parametrize("dtype", FLOATS, ids=IDS)
def test_codes(rng, dtype, of):
    """Of every type, by scales that x's type need not hold."""
    low, high = CODES[of]
    wide = dtype if dtype.name == "float64" else np.dtype("f4")
    for rounding, zero in (("half-even", low), ("half-up", high), ("half-away", (low + high) // 2), ("down", low + 1)):
        rule = wgclip.QuantRule(low, high, rounding=rounding)
        x, scale = operands(rng, dtype)
        scale = (scale.astype(float) * rng.choice([1, 1 + 2.0**-20], scale.size)).astype(wide)
        q = wgclip.quantize(x, scale, zero, dtype=of, rule=rule)
        pairs = zip(x.astype(float), scale.astype(float))
        expected = [min(max(code(*pair, zero, rule, wide)[0], low), high) for pair in pairs]
        assert_same(q, np.array(expected, of))


@pytest.mark.parametrize("of", list(CODES))
@pytest.mark.parametrize("dtype", FLOATS, ids=IDS)
def test_values_of_codes(rng, dtype, of):
    low, high = CODES[of]
    rule = wgclip.QuantRule(low, high)
    wide = dtype if dtype.name == "float64" else np.dtype("f4")
    limits = np.iinfo(of)
    q = rng.integers(limits.min, limits.max, 500, dtype=of, endpoint=True)
    scale = (rng.uniform(-1, 1, 500) * 2.0 ** rng.integers(-30, -10, 500)).astype(wide)
    zero = rng.integers(low, high, 500, endpoint=True)
    expected = []
    for q_, scale_, zero_ in zip(q.tolist(), scale.astype(float), zero.tolist()):
        y = (q_ - zero_) * Fraction(scale_)
        expected.append(rounded(y, dtype) if y else math.copysign(0.0, scale_))
    assert_same(wgclip.dequantize(q, scale, zero.astype(wide), dtype=dtype, rule=rule), np.array(expected, dtype))


FLOAT8 = [np.dtype(of) for of in (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2)]
FLOAT4 = np.dtype(ml_dtypes.float4_e2m1fn)


def float8(value: Fraction, dtype: np.dtype) -> float:
    """The nearest finite number, ties to even: of all there are."""
    with np.errstate(invalid="ignore"):
        numbers = np.arange(8 if dtype == FLOAT4 else 128, dtype="u1").view(dtype).astype(float)
    near = [(abs(Fraction(n) - abs(value)), bits % 2, n) for bits, n in enumerate(numbers) if np.isfinite(n)]
    return math.copysign(min(near)[2], value)


@pytest.mark.parametrize("quotient", ["exact", "division", "reciprocal"])
@pytest.mark.parametrize("to", [*FLOAT8, FLOAT4], ids=str)
@pytest.mark.parametrize("dtype", FLOATS, ids=IDS)
def test_codes_that_are_floats(rng, dtype, to, quotient):
    wide = dtype if dtype.name == "float64" else np.dtype("f4")
    rule = wgclip.QuantRule(quotient=quotient)
    scale = (rng.uniform(0.5, 1, 400) * 2.0 ** rng.integers(-20, 20, 400)).astype(wide) * rng.choice([-1, 1], 400).astype(wide)
    # Near ties, and over all exponents.
    ties = rng.integers(1, 64, 400) / 2 * scale
    with np.errstate(over="ignore"):
        x = np.where(rng.random(400) < 0.5, ties, rng.normal(size=400) * 2.0 ** rng.integers(-25, 20, 400) * scale).astype(dtype)
    x = x[np.isfinite(x.astype(float))]
    scale = scale[: x.size]
    expected = []
    for x_, scale_ in zip(x.astype(float), scale.astype(float)):
        _, value = code(x_, scale_, 0, rule, dtype)
        sign = math.copysign(1, x_) * math.copysign(1, scale_)
        expected.append(math.copysign(float8(Fraction(value) if math.isfinite(value) else Fraction(1 << 60), to), sign))
    codes = wgclip.quantize(x, scale, dtype=to, rule=rule)
    assert_same(codes, np.array(expected).astype(to))
    values = [rounded(Fraction(c) * Fraction(s), dtype) if c else math.copysign(1, c) * math.copysign(0.0, s) for c, s in zip(codes.astype(float), scale.astype(float))]
    assert_same(wgclip.dequantize(codes, scale, dtype=dtype), np.array(values, dtype))


def test_scales_of_floats():
    x = np.array([[480, 1.0], [0, -896]], "f4")
    scale, zero_point = wgclip.calibrate(x, 1, dtype="float8_e4m3fn")
    assert (scale.ravel().tolist(), zero_point) == ([np.float32(480 / 448), 2.0], 0)
    assert wgclip.quantize(x, scale, zero_point, dtype="float8_e4m3fn").dtype == FLOAT8[0]
    for scales, expected in (("floor", [1, 2]), ("round-up", [2, 2]), ("ceil", [2, 4]), ("even", [1, 2])):
        assert wgclip.calibrate(x, 1, dtype="float8_e4m3fn", scales=scales)[0].ravel().tolist() == expected, scales
    for wrong, error in ((dict(dtype="int8"), TypeError), (dict(dtype="float8_e5m2", scales="up"), ValueError)):
        with pytest.raises(error, match=r"\w"):
            wgclip.calibrate(x, **wrong)
    with pytest.raises((TypeError, ValueError), match="zero point"):
        wgclip.quantize(x, 1, 3, dtype="float8_e4m3fn")


def test_blocks_of_4_bit_floats():
    x = np.array([[7, 1.0], [0, -8], [0, 0]], "f4")
    for scales, expected in (("floor", [1, 2, 2**-127]), ("round-up", [2, 2, 2**-127]), ("greatest", [np.float32(7 / 6), np.float32(8 / 6), 1])):
        scale, zero_point = wgclip.calibrate(x, 1, dtype="float4_e2m1fn", scales=scales)
        assert scale.ravel().tolist() == expected, scales
    codes = wgclip.quantize(x, scale, zero_point, dtype=FLOAT4)
    assert codes.dtype == FLOAT4 and codes.astype("f4").tolist() == [[6, 1], [0, -6], [0, 0]]
    packed = wgclip.pack4(codes)
    assert packed.tolist() == [[0x27], [0xF0], [0]]
    assert_same(wgclip.unpack4(packed, dtype=FLOAT4), codes)
    nan = np.array([np.nan, np.inf, -np.inf, -1e-9], "f4")
    for of_nan, expected in (("nan", 0), ("least", 15), ("greatest", 7), ("zero", 0)):
        rule = wgclip.QuantRule(nan=of_nan)
        assert wgclip.quantize(nan, 1, dtype=FLOAT4, rule=rule).view("u1").tolist() == [expected, 7, 15, 8]
        assert wgclip.quantize(nan, 1, dtype="uint8", rule=rule.e2m1()).tolist() == [expected, 7, 15, 8]
    for wrong in (
        lambda: wgclip.quantize(x, 1, 3, dtype=FLOAT4),
        lambda: wgclip.quantize(x, 1, dtype="int8", rule=wgclip.QuantRule(format="e2m1")),
        lambda: wgclip.quantize(x, 1, dtype=FLOAT4, rule="tensorflow"),
        lambda: wgclip.fake_quantize(x, 1, rule=wgclip.QuantRule().e2m1()),
        lambda: wgclip.dequantize(np.zeros(2, "i1"), 1, rule=wgclip.QuantRule().e2m1()),
    ):
        with pytest.raises(TypeError, match=r"zero point|uint8|half-even|quantize"):
            wrong()


def test_two_codes_in_a_byte():
    every = np.array([code for byte in range(256) for code in (byte & 15, byte >> 4)], "u1").reshape(4, 8, 16)
    packed = wgclip.pack4(every)
    assert packed.ravel().tolist() == list(range(256)) and packed.shape == (4, 8, 8)
    assert_same(wgclip.unpack4(packed, dtype="uint8"), every)
    signed = wgclip.unpack4(packed)
    assert_same(signed, np.where(every > 7, every.astype("i1") - 16, every).astype("i1"))
    assert_same(wgclip.pack4(signed), packed)
    swapped = every.swapaxes(0, 1)
    assert_same(wgclip.unpack4(wgclip.pack4(swapped), dtype="uint8"), np.ascontiguousarray(swapped))
    for wrong in (every[..., :3], every.astype("i2"), every[0, 0, 0], every.view(FLOAT8[0]), every.view("?")):
        with pytest.raises(TypeError, match=r"even|int8"):
            wgclip.pack4(wrong)


def philox(seed: int, index: int) -> int:
    """The first word of Philox4x32-10."""
    counter, key = [index & 0xFFFFFFFF, index >> 32, 0, 0], [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        first, second = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
        counter = [second >> 32 ^ counter[1] ^ key[0], second & 0xFFFFFFFF, first >> 32 ^ counter[3] ^ key[1], first & 0xFFFFFFFF]
        key = [key[0] + 0x9E3779B9 & 0xFFFFFFFF, key[1] + 0xBB67AE85 & 0xFFFFFFFF]
    return counter[0]


@pytest.mark.parametrize("quotient", ["exact", "division", "reciprocal"])
@pytest.mark.parametrize("dtype", FLOATS, ids=IDS)
def test_random_bits_choose_the_code(rng, dtype, quotient):
    wide = dtype if dtype.name == "float64" else np.dtype("f4")
    seed = int(rng.integers(0, 2**64, dtype="u8"))
    rule = wgclip.QuantRule(-2000, 2000, quotient=quotient, rounding="stochastic", seed=seed)
    assert eval(repr(rule), {"QuantRule": wgclip.QuantRule}) == rule and rule.seed == seed
    scale = (rng.uniform(0.5, 1, 300) * 2.0 ** rng.integers(-3, 3, 300)).astype(wide) * rng.choice([-1, 1], 300).astype(wide)
    with np.errstate(over="ignore"):
        x = (rng.normal(size=300) * 2.0 ** rng.integers(-40, 10, 300)).astype(dtype)
    kept = np.flatnonzero(np.isfinite(x.astype(float)))[:200]
    x, scale = x[kept], scale[kept]
    expected = []
    for index, (x_, scale_) in enumerate(zip(x.astype(float), scale.astype(float))):
        _, value = code(x_, scale_, 0, rule, dtype)
        size = abs(Fraction(value))
        up = size - math.floor(size) > Fraction(2 * philox(seed, index) + 1, 1 << 33)
        expected.append(min(math.floor(size) + up, 2000) * (-1 if value < 0 else 1))
    codes = wgclip.quantize(x, scale, dtype="int32", rule=rule)
    np.testing.assert_array_equal(codes, expected)
    # Of the same elements in two axes, and as fake quantisation has them.
    assert_same(wgclip.quantize(x.reshape(2, 100), scale.reshape(2, 100), dtype="int32", rule=rule).ravel(), codes)
    if dtype == wide:
        y = wgclip.fake_quantize(x, scale, rule=rule)
        np.testing.assert_array_equal(y, (codes * scale.astype(float)).astype(dtype))


def test_the_mean_of_codes_is_the_quotient():
    rule = wgclip.QuantRule(rounding="stochastic", seed=3)
    x = np.full(400_000, 2.3, "f4")
    for value in (2.3, -0.75, 5.0):
        codes = wgclip.quantize(x * np.float32(value / 2.3), 1, rule=rule)
        # Five deviations.
        assert abs(codes.mean() - value) < 5 * 0.5 / math.sqrt(x.size) and (value % 1 or (codes == 5).all())
    other = wgclip.quantize(x, 1, rule=wgclip.QuantRule(rounding="stochastic", seed=4))
    assert 0.3 < (other != wgclip.quantize(x, 1, rule=rule)).mean() < 0.55


def test_codes_of_nan():
    x = np.array([np.nan, np.inf, -np.inf, 1], "f4")
    for nan, of_nan in (("nan", 7), ("least", -128), ("greatest", 127), ("zero", 7)):
        rule = wgclip.QuantRule(nan=nan)
        assert wgclip.quantize(x, 1, 7, rule=rule).tolist() == [of_nan, 127, -128, 8]
        scales = np.array([1, np.nan, 1, 1], "f4")
        assert wgclip.quantize(x, scales, 7, rule=rule).tolist() == [of_nan, of_nan, -128, 8]
    y = wgclip.dequantize(np.array([1, 0], "i1"), np.array([np.nan, np.inf], "f4"))
    assert np.isnan(y).all() and (y.view("u4") == 0x7FC00000).all()


def test_values_of_codes_are_those_of_fake_quantisation(rng):
    x = rng.normal(size=(3, 64)).astype("f4")
    scale, zero = np.array([[0.01], [0.02], [0.04]], "f4"), np.array([[0], [-3], [100]], "f4")
    codes = wgclip.quantize(x, scale, zero)
    assert codes.dtype == np.int8
    assert_same(wgclip.dequantize(codes, scale, zero), wgclip.fake_quantize(x, scale, zero))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: wgclip.quantize(x, 1, dtype="uint8"), TypeError, "-128 to 127 as uint8"),
        (lambda x: wgclip.quantize(x, 1, dtype="uint32"), TypeError, "codes are"),
        (lambda x: wgclip.quantize(x, 1, dtype="float32"), TypeError, "codes are"),
        (lambda x: wgclip.quantize(x.astype("i4"), 1), TypeError, "codes are"),
        (lambda x: wgclip.dequantize(x, 1), TypeError, "codes are"),
        (lambda x: wgclip.dequantize(x.astype("i1"), np.nan), ValueError, "NaN"),
        (lambda x: wgclip.quantize(x, None), TypeError, "scale"),
    ],
)
def test_mistakes_with_codes(call, error, words):
    with pytest.raises(error, match=words):
        call(np.ones(3, "f4"))


def test_what_nan_and_infinity_become():
    x = np.array([np.nan, np.inf, -np.inf, -0.0], "f4")
    for nan, of_nan in (("nan", np.nan), ("least", -128), ("greatest", 127), ("zero", 0)):
        y = wgclip.fake_quantize(x, 1, rule=wgclip.QuantRule(nan=nan))
        np.testing.assert_array_equal(y, np.array([of_nan, 127, -128, 0], "f4"))
        assert not np.signbit(y[3])
    payload = np.array([0x7fc12345], "u4").view("f4")
    assert_same(wgclip.fake_quantize(payload, 1), payload)


def test_presets_are_those_of_the_packages():
    """What torch 2.15 and torchao 0.18 gave, at a scale of 1."""
    x, g = np.array([126.5, 127, 127.4, 127.5, -127.4, -128, -128.5, np.nan], "f4"), np.full(8, 3, "f4")
    passes = {name: list(wgclip.fake_quantize_backward(x, g, 1.0, rule=name)[0] != 0) for name in ("torch", "torchao")}
    assert passes["torch"] == [True, True, True, False, True, True, True, False]
    assert passes["torchao"] == [True, False, False, False, True, False, False, False]
    _, gscale, gzero = wgclip.fake_quantize_backward(np.array([300.0]), np.array([1.0]), 1.0, rule="brevitas-ste")
    assert (gscale, gzero) == (-173, 0)


def test_channels_and_groups(rng):
    x = rng.normal(size=(4, 64)).astype("f4")
    scale = np.abs(x).max(1, keepdims=True) / 7
    y = wgclip.fake_quantize(x, scale, rule=wgclip.QuantRule().bits(4))
    for row in range(4):
        assert_same(y[row], wgclip.fake_quantize(x[row], scale[row, 0], rule=wgclip.QuantRule(-8, 7)))
    groups = x.reshape(4, 2, 32)
    of_groups = np.abs(groups).max(2, keepdims=True) / 127
    assert np.abs(wgclip.fake_quantize(groups, of_groups) - groups).max() <= of_groups.max() / 2


def test_rules():
    rule = wgclip.QuantRule.like("torch").range(0, 255)
    assert (rule.min, rule.max, rule.quotient, rule.nan) == (0, 255, "reciprocal", "least")
    assert rule == wgclip.QuantRule(0, 255, quotient="reciprocal", nan="least", nan_gradient="zero") and hash(rule)
    assert eval(repr(rule), {"QuantRule": wgclip.QuantRule}) == rule
    assert "torch" in wgclip.QuantRule.presets()


def test_what_is_refused(rng):
    x = random_bits(rng, np.dtype("f4"), 8)
    for bad, error, text in (
        (lambda: wgclip.QuantRule(1, 0), ValueError, "no codes from 1 to 0"),
        (lambda: wgclip.QuantRule(0, 65536), ValueError, "65535 apart"),
        (lambda: wgclip.QuantRule(-(1 << 40), 0), ValueError, "65535 apart"),
        (lambda: wgclip.QuantRule().bits(17), ValueError, "codes"),
        (lambda: wgclip.QuantRule(rounding="up"), ValueError, "half-even, half-up"),
        (lambda: wgclip.fake_quantize(x, 1, rule="pytorch"), ValueError, "torchao"),
        (lambda: wgclip.fake_quantize(x, 1, rule=wgclip.BackwardRule()), TypeError, "QuantRule"),
        (lambda: wgclip.fake_quantize(x, np.nan), ValueError, "NaN"),
        (lambda: wgclip.fake_quantize(x, np.ones(3, "f4")), ValueError, "broadcast"),
        (lambda: wgclip.fake_quantize(np.arange(3), 1), TypeError, "floats"),
        (lambda: wgclip.fake_quantize(x.astype(ml_dtypes.bfloat16), np.ones(8, "c8")), TypeError, ""),
    ):
        with pytest.raises(error, match=text):
            bad()


def extended(lo: Fraction, hi: Fraction, rule, scheme: str):
    """The scale, rounded once, and the zero point of a range."""
    middle = (rule.min + rule.max + 1) // 2
    if scheme == "symmetric":
        scale = max(hi, -lo, 0) / min(rule.max - middle, middle - rule.min)
    elif scheme == "symmetric-half":
        scale = max(hi, -lo, 0) / Fraction(rule.max - rule.min, 2)
    else:
        lo, hi = (min(lo, 0), max(hi, 0)) if scheme == "affine" else (lo, hi)
        scale = (hi - lo) / (rule.max - rule.min)
    scale = float(np.float32(float(scale)))
    if scheme.startswith("symmetric"):
        return scale, middle
    return scale, min(max(round(rule.min - lo / Fraction(scale)), rule.min), rule.max)


@pytest.mark.parametrize("scheme", ["symmetric", "symmetric-half", "affine", "shifted"])
@pytest.mark.parametrize("dtype", [np.dtype(of) for of in ["float16", "float32", "float64", ml_dtypes.bfloat16]], ids=str)
def test_scales_cover_the_range(dtype, scheme):
    random = np.random.default_rng(3)
    for rule in [wgclip.QuantRule(), wgclip.QuantRule(0, 15), wgclip.QuantRule(-7, 7)]:
        x = (random.standard_normal((5, 33)) * 3 + random.integers(-4, 5, (5, 1))).astype(dtype)
        for axis, slices in [(None, [x]), (1, x), (0, x.T)]:
            scale, zero = wgclip.calibrate(x, axis, scheme=scheme, rule=rule)
            ends = [(Fraction(float(of.min())), Fraction(float(of.max()))) for of in slices]
            expected = [extended(lo, hi, rule, scheme) for lo, hi in ends]
            assert np.ravel(zero).tolist() == [of for _, of in expected]
            np.testing.assert_allclose(np.ravel(scale), [of for of, _ in expected], rtol=2**-23)
            wgclip.quantize(x, scale, zero, dtype="int16", rule=rule)


def test_ranges_between_quantiles_and_with_the_least_error():
    x = np.random.default_rng(4).standard_normal(20_001).astype("float32")
    x[7] = 90.0
    scale, _ = wgclip.calibrate(x, range="p0.5..p99.5", scheme="symmetric")
    ends = np.quantile(x, [0.005, 0.995], method="inverted_cdf").astype(float)
    np.testing.assert_allclose(scale * 127, np.abs(ends).max(), rtol=1e-6)

    rule = wgclip.QuantRule().bits(4)

    def error(scale):
        return float(((wgclip.fake_quantize(x, scale, rule=rule).astype(float) - x) ** 2).sum())

    found, _ = wgclip.calibrate(x, range="mse", rule=rule)
    coarse = min(error(90 / 7 * n / 64) for n in range(1, 65))
    assert error(found) <= coarse * (1 + 1e-9) < 0.9 * error(90 / 7)


def test_what_cannot_be_calibrated():
    x = np.array([1.0, np.nan, -2.0, np.inf], "float32")
    with pytest.raises(ValueError, match="2 elements are NaN or infinite"):
        wgclip.calibrate(x)
    assert wgclip.calibrate(x, finite_only=True) == (np.float32(2 / 127), 0)
    with pytest.raises(TypeError, match="int32"):
        wgclip.calibrate(np.array([1], "int32"))
    for wrong in [{"range": "p0.1"}, {"range": "wide"}, {"scheme": "even"}, {"rule": "pytorch"}, {"axis": 3}]:
        with pytest.raises(ValueError, match=r"\w"):
            wgclip.calibrate(x, **wrong)
    tensor = wgclip.Device("cpu").tensor(np.array([1.0, -2.54], "float32"))
    assert wgclip.calibrate(tensor) == (np.float32(0.02), 0)
