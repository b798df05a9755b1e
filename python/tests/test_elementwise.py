"""Clip and its gradients, to the bit, against a reference of Python's own."""

from __future__ import annotations

import itertools
import math

import ml_dtypes
import numpy as np
import oracle
import pytest
import wgclip
from oracle import ALL, assert_same, is_float, random_bits

IDS = [of.name for of in ALL]
LENGTHS = [(), 0, 1, 3, 63, 130, 257]


def draw(rng, dtype, shape=()):
    """A bound that is not NaN."""
    while True:
        made = random_bits(rng, dtype, (1,))[0] if shape == () else random_bits(rng, dtype, shape)
        if shape != () or made == made:
            return made


@pytest.mark.parametrize("dtype", ALL, ids=IDS)
def test_values(rng, dtype):
    for shape in LENGTHS:
        x = random_bits(rng, dtype, shape)
        for lo, hi in ((draw(rng, dtype), draw(rng, dtype)), (None, draw(rng, dtype)), (draw(rng, dtype), None)):
            expected = oracle.clip(x, lo, hi)
            assert_same(wgclip.clip(x, lo, hi), expected)
            poisoned = random_bits(rng, dtype, shape)
            assert wgclip.clip(x, lo, hi, out=poisoned) is poisoned
            assert_same(poisoned, expected)
            own = x.copy()
            assert wgclip.clip(own, lo, hi, own) is own
            assert_same(own, expected)


@pytest.mark.parametrize("dtype", ALL, ids=IDS)
def test_bounds_that_broadcast(rng, dtype):
    x = random_bits(rng, dtype, (3, 5, 7))
    for low, high in itertools.product([(7,), (5, 1), (3, 1, 1), (1, 1), (3, 5, 7)], repeat=2):
        lo, hi = draw(rng, dtype, low), draw(rng, dtype, high)
        assert_same(wgclip.clip(x, lo, hi), oracle.clip(x, lo, hi))
    # As in numpy, bounds enlarge x.
    row, lo = random_bits(rng, dtype, (7,)), draw(rng, dtype, (4, 1))
    assert_same(wgclip.clip(row, lo), oracle.clip(np.broadcast_to(row, (4, 7)), lo))


@pytest.mark.parametrize("dtype", ALL, ids=IDS)
def test_backward_by_every_rule(rng, dtype):
    if dtype.kind in "iu":
        rules = [("inclusive", "pass"), ("exclusive", "zero")]
    else:
        rules = itertools.product(["inclusive", "exclusive", "half"], ["pass", "zero"])
    for ties, nan in rules:
        lo, hi = draw(rng, dtype), draw(rng, dtype)
        x, g = random_bits(rng, dtype, 131), random_bits(rng, dtype, 131)
        x[rng.integers(0, 131, 20)] = lo
        x[rng.integers(0, 131, 20)] = hi
        if ties == "half":
            # Halves of what is no number have bits of their own.
            g = np.where(np.isfinite(g.astype("float64")), g, 0).astype(dtype)
        expected = oracle.clip_backward(x, g, lo, hi, ties, nan)
        rule = wgclip.BackwardRule(ties=ties, nan=nan)
        assert_same(wgclip.clip_backward(x, g, lo, hi, rule=rule), expected)
        own = g.copy()
        wgclip.clip_backward(x, own, lo, hi, own, rule=str(rule))
        assert_same(own, expected)
        gx, *_ = wgclip.clip_backward_bounds(x, g, lo, hi, rule=rule)
        assert_same(gx, expected)
        if ties != "half":
            y, mask = wgclip.clip_with_mask(x, lo, hi, rule=rule)
            assert_same(y, oracle.clip(x, lo, hi))
            assert_same(wgclip.mask_backward(mask, g), expected)
            own = g.copy()
            wgclip.mask_backward(mask, own, own)
            assert_same(own, expected)


def test_straight_through_is_the_gradient_itself(rng):
    x, g = random_bits(rng, np.dtype("float32"), 100), random_bits(rng, np.dtype("float32"), 100)
    rule = wgclip.BackwardRule("straight-through")
    assert_same(wgclip.clip_backward(x, g, 0, 1, rule=rule), g)
    gx, gmin, gmax = wgclip.clip_backward_bounds(x, np.ones_like(x), 0, 1, rule=rule)
    assert_same(gx, np.ones_like(x))
    assert float(gmin) == np.count_nonzero(x < 0) and float(gmax) == np.count_nonzero(x > 1)


@pytest.mark.parametrize("dtype", [of for of in ALL if is_float(of)], ids=lambda of: of.name)
def test_gradients_of_bounds_are_exact_sums(rng, dtype):
    x = random_bits(rng, dtype, (6, 11))
    g = np.where(rng.random((6, 11)) < 0.5, rng.standard_normal((6, 11)), 0).astype(dtype)
    for low, high in (((), ()), ((11,), (6, 1)), ((6, 11), (1, 11))):
        lo, hi = (np.asarray(draw(rng, dtype, of)) for of in (low, high))
        if (lo != lo).any() or (hi != hi).any():
            lo, hi = np.nan_to_num(lo.astype("float32")).astype(dtype), np.nan_to_num(hi.astype("float32")).astype(dtype)
        _, glo, ghi = wgclip.clip_backward_bounds(x, g, lo, hi, needs=(False, True, True))
        below = (x < lo)
        above = ~(x != x) & (np.where(below, lo, x) > hi)
        for made, side, chosen in ((glo, lo, below & ~above), (ghi, hi, above)):
            for at in np.ndindex(side.shape):
                where = np.zeros(side.shape, bool)
                where[at] = True
                ours = np.broadcast_to(where, x.shape) & chosen
                expected = oracle.rounded(sum(oracle.exact(g[ours])), dtype)
                assert_same(np.asarray(made)[at] + dtype.type(0), np.asarray(expected).astype(dtype)[()])


@pytest.mark.parametrize("dtype", ["float32", "float16", ml_dtypes.bfloat16])
def test_clip_to_another_type(rng, dtype):
    x = random_bits(rng, np.dtype(dtype), 300)
    x = x[x == x]
    for to in ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float32"):
        made = wgclip.clip_to(x, -300, 300, dtype=to)
        wide = np.clip(x.astype("float64"), -300, 300)
        # ml_dtypes rounds float32 to nearest even once.
        assert_same(made, wide.astype("float32").astype(made.dtype))


@pytest.mark.parametrize("dtype", [of for of in ALL if of.itemsize > 1], ids=lambda of: of.name)
def test_arrays_of_every_make(rng, dtype, tmp_path):
    x = random_bits(rng, dtype, (8, 10))
    lo, hi = draw(rng, dtype), draw(rng, dtype)
    expected = oracle.clip(x, lo, hi)
    file = tmp_path / "x.bin"
    x.tofile(file)
    makes = [
        np.asfortranarray(x),
        np.concatenate([x, x], axis=1)[:, :10],
        x[::-1][::-1],
        np.memmap(file, dtype, "r", shape=(8, 10)),
        np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(dtype).reshape(8, 10),
    ]
    if dtype.name not in ("bfloat16",):
        makes.append(x.astype(dtype.newbyteorder(">")))
    for made in makes:
        before = made.tobytes()
        assert_same(wgclip.clip(made, lo, hi), expected)
        assert made.tobytes() == before
    read_only = x.copy()
    read_only.flags.writeable = False
    assert_same(wgclip.clip(read_only, lo, hi), expected)
    # Outputs with strides, in another order, and of another byte order.
    for out in (np.asfortranarray(x), np.concatenate([x, x], axis=1)[:, ::2]):
        assert wgclip.clip(x, lo, hi, out) is out
        assert_same(np.ascontiguousarray(out), expected)


def test_memory_that_overlaps(rng):
    base = random_bits(rng, np.dtype("float32"), 1000)
    for shift in (1, 7, 500):
        memory = base.copy()
        x, out = memory[: 1000 - shift], memory[shift:]
        expected = oracle.clip(x.copy(), -1.0, 1.0)
        wgclip.clip(x, -1, 1, out=out)
        assert_same(out, expected)
    # An output that is a bound, and one that is x of the backward pass.
    x, lo = base.copy(), random_bits(rng, np.dtype("float32"), 1000)
    expected = oracle.clip(x, lo)
    assert_same(wgclip.clip(x, lo, out=lo), expected)
    x, g = base.copy(), np.ones(1000, "float32")
    expected = oracle.clip_backward(x, g, 0.0, 1.0, "inclusive", "pass")
    assert_same(wgclip.clip_backward(x, g, 0, 1, out=x), expected)


def test_what_becomes_an_array():
    assert wgclip.clip([1, 5, 9], 2, 6).tolist() == [2, 5, 6]
    assert wgclip.clip(7.5, 0, 1) == 1.0
    assert type(wgclip.clip(np.float32(7), 0, 1)) is np.float32
    assert wgclip.clip(memoryview(b"\x01\x09"), 2, 6).tolist() == [2, 6]
    assert wgclip.clip(np.array([1.0, 5.0]), [2.0, 2.0], [9.0, 3.0]).tolist() == [2.0, 3.0]
    assert wgclip.clip(np.array([1, 5]), a_min=2, a_max=3).tolist() == [2, 3]

    class Series:
        def __array__(self, dtype=None, copy=None):
            return np.array([1.0, 5.0])

    assert wgclip.clip(Series(), 2, 3).tolist() == [2.0, 3.0]


def test_bounds_of_every_make(rng):
    x = random_bits(rng, np.dtype("float32"), (4, 6))
    row = draw(rng, np.dtype("float32"), 6)
    expected = oracle.clip(x, row)
    for lo in (row.astype(">f4"), np.repeat(row, 2)[::2], memoryview(np.repeat(row, 2))[::2]):
        assert_same(wgclip.clip(x, lo), expected)
    assert_same(wgclip.clip(x, np.array(0.5, ">f8")), oracle.clip(x, 0.5))
    # Rounded once, from lists too.
    far = np.full(1, -np.inf, "float32")
    assert wgclip.clip(far, 16017917328821577580545)[0] == np.float32(1.601791789177153e22)
    small = np.full(1, -np.inf, ml_dtypes.bfloat16)
    assert float(wgclip.clip(small, [0.00010895729064941408])[0]) == 0.00010919570922851562
    y, mask = wgclip.clip_with_mask(np.float32(3), 0, 1)
    assert mask.tolist() == [0]


def test_numbers_take_the_type_of_x():
    u8 = np.array([0, 7, 255], "uint8")
    assert wgclip.clip(u8, -1, 300).tolist() == [0, 7, 255]
    assert wgclip.clip(u8, -math.inf, 2.0).tolist() == [0, 2, 2]
    i64 = np.array([2**62, -(2**63)], "int64")
    assert wgclip.clip(i64, -(10**40), 2**62 - 1).tolist() == [2**62 - 1, -(2**63)]
    f32 = np.array([0.25, 1.0], "float32")
    assert wgclip.clip(f32, 0.1, np.float64(0.7)).tolist() == [0.25, float(np.float32(0.7))]
    assert wgclip.clip(f32, np.array(0.5), np.int64(3)).tolist() == [0.5, 1.0]
    assert wgclip.clip(f32, True, None).tolist() == [1.0, 1.0]
    assert wgclip.clip(f32, ml_dtypes.bfloat16(0.5), None).tolist() == [0.5, 1.0]


F32 = np.arange(4, dtype="float32")
READ_ONLY = np.arange(4, dtype="float32")
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: wgclip.clip(F32, math.nan, 1), ValueError, "lower bound is NaN"),
        (lambda: wgclip.clip(F32, 0, np.float32("nan")), ValueError, "upper bound is NaN"),
        (lambda: wgclip.clip(F32.astype("u1"), 300, None), ValueError, "no value could satisfy"),
        (lambda: wgclip.clip(F32.astype("u1"), 0.5, None), TypeError, "not a whole number"),
        (lambda: wgclip.clip(F32, np.zeros(3, "f4")), ValueError, "broadcast"),
        (lambda: wgclip.clip(F32, "0"), TypeError, "elements of <U1"),
        (lambda: wgclip.clip(F32 > 1, 0, 1), TypeError, "bool"),
        (lambda: wgclip.clip(F32 * 1j, 0, 1), TypeError, "complex64"),
        (lambda: wgclip.clip(np.array(["a"]), 0, 1), TypeError, "elements of"),
        (lambda: wgclip.clip(np.array([object()]), 0, 1), TypeError, "elements of"),
        (lambda: wgclip.clip(None, 0, 1), TypeError, "elements of object"),
        (lambda: wgclip.clip(np.ma.masked_array(F32, F32 > 1), 0, 1), TypeError, "mask"),
        (lambda: wgclip.clip(F32, 0, 1, out=READ_ONLY), ValueError, "read-only"),
        (lambda: wgclip.clip(F32, 0, 1, out=READ_ONLY[::2]), ValueError, "read-only"),
        (lambda: wgclip.clip(F32, 0, 1, out=np.zeros(5, "f4")), ValueError, "differ"),
        (lambda: wgclip.clip(F32, 0, 1, out=np.zeros(4)), TypeError, "do not mix"),
        (lambda: wgclip.clip(F32, 0, 1, out=np.zeros(8)[::2]), TypeError, "float64"),
        (lambda: wgclip.clip(np.arange(3), [0.5] * 3), TypeError, "whole number"),
        (lambda: wgclip.clip(np.arange(3, dtype="u1"), [256] * 3), ValueError, "outside the range"),
        (lambda: wgclip.clip(F32, np.ma.masked_array(F32, F32 > 1)), TypeError, "mask"),
        (lambda: wgclip.clip(F32, 0, 1, out=[0.0] * 4), TypeError, "no array"),
        (lambda: wgclip.clip(F32, 0, 1, a_min=0), TypeError, "a_min"),
        (lambda: wgclip.clip_backward(F32, F32[:3], 0, 1), ValueError, "differ"),
        (lambda: wgclip.clip_backward(F32, F32.astype("f8"), 0, 1), TypeError, "do not mix"),
        (lambda: wgclip.clip_backward(F32, F32, 0, 1, rule="pytorch"), ValueError, "presets are torch"),
        (lambda: wgclip.clip_backward(F32, F32, 0, 1, rule=3), TypeError, "BackwardRule"),
        (lambda: wgclip.clip_with_mask(F32, 0, 1, rule="jax"), ValueError, "one bit"),
        (lambda: wgclip.mask_backward(np.zeros(2, "u8"), F32), ValueError, "elements"),
        (lambda: wgclip.mask_backward(np.zeros(1, "i8"), F32), TypeError, "uint64"),
        (lambda: wgclip.clip_to(F32.astype("i4"), 0, 1, dtype="float16"), TypeError, "floats"),
        (lambda: wgclip.clip_to(F32, 0, 1, dtype="complex64"), TypeError, "complex64"),
        (lambda: wgclip.BackwardRule(ties="both"), ValueError, "ties"),
    ],
)
def test_mistakes_are_errors_that_help(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_failed_call_changes_nothing(rng):
    x = random_bits(rng, np.dtype("float32"), 100)
    before = x.tobytes()
    for call in (
        lambda: wgclip.clip(x, math.nan, 1, out=x),
        lambda: wgclip.clip(x, np.zeros(3, "f4"), 1, out=x),
        lambda: wgclip.clip_backward(x, x, 0, 1, out=x, rule="?"),
    ):
        with pytest.raises(ValueError):
            call()
    assert x.tobytes() == before


def test_rules_are_values():
    import pickle

    rule = wgclip.BackwardRule("toward", "half", "zero")
    assert (rule.outside, rule.ties, rule.nan) == ("toward", "half", "zero")
    assert pickle.loads(pickle.dumps(rule)) == rule and hash(rule) == hash(wgclip.BackwardRule("toward", "half", "zero"))
    assert eval(repr(rule), {"BackwardRule": wgclip.BackwardRule}) == rule
    assert wgclip.BackwardRule.like("jax") == wgclip.BackwardRule(ties="half", nan="zero")
    assert len(wgclip.BackwardRule.presets()) == 8 and len(set(wgclip.BackwardRule.all())) == 18
