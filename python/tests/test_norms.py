"""Sums, norms and clipping by norm: exact, against Python's integers."""

from __future__ import annotations

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import oracle
import pytest
import wgclip
from oracle import FLOATS, assert_same

IDS = [np.dtype(of).name for of in FLOATS]


def finite(rng, dtype, shape):
    x = oracle.random_bits(rng, np.dtype(dtype), shape)
    return np.where(np.isfinite(x.astype("float64")), x, x.dtype.type(1))


@pytest.mark.parametrize("dtype", FLOATS, ids=IDS)
@pytest.mark.parametrize("ord", [1, 2, math.inf])
def test_norms(rng, dtype, ord):
    for shape in (0, 1, 5, 300, (7, 11)):
        x = finite(rng, dtype, shape)
        assert_same(wgclip.norm(x, ord=ord), oracle.norm(x, ord))
    x = finite(rng, dtype, (3, 4, 5))
    for axis in (0, -1, (0, 2), [1, 2], (0, 1, 2)):
        for keepdims in (False, True):
            made = np.asarray(wgclip.norm(x, axis, ord=ord, keepdims=keepdims))
            like = np.sum(x.astype("float64"), axis=tuple(np.atleast_1d(axis)), keepdims=keepdims)
            assert made.shape == np.shape(like)
    made = wgclip.norm(x, (0, 2), ord=ord)
    for n in range(4):
        assert_same(made[n], oracle.norm(x[:, n], ord))


@pytest.mark.parametrize("dtype", [*FLOATS, "int8", "uint16", "int64", "uint64"])
def test_sums(rng, dtype):
    dtype = np.dtype(dtype)
    x = finite(rng, dtype, (20, 6)) if oracle.is_float(dtype) else oracle.random_bits(rng, dtype, (20, 6))
    for made, of in [(wgclip.sum(x), x), *((made, x[:, n]) for n, made in enumerate(wgclip.sum(x, 0)))]:
        total = sum(oracle.exact(of), Fraction(0))
        if oracle.is_float(dtype):
            expected = oracle.rounded(total, dtype) if dtype.itemsize > 1 else None
            if expected is None or not np.isfinite(np.float64(expected)):
                continue
        else:
            info = np.iinfo(dtype)
            expected = dtype.type(min(max(int(total), info.min), info.max))
        assert_same(made, np.asarray(expected).astype(dtype)[()])


def test_what_others_lose():
    f32 = np.float32
    assert wgclip.norm(np.full(2, 1e20, f32)) == f32(1.4142136e20)
    assert wgclip.norm(np.full(2, 1e-25, f32)) == f32(1.4142136e-25)
    assert wgclip.norm(np.full(2, 6e4, "float16")) == f32(84852.81)
    assert wgclip.clip_by_norm(np.full(2, 6e4, "float16"), 1).tolist() == [0.70703125, 0.70703125]
    assert float(wgclip.sum(np.array([1e30, 1.0, -1e30]))) == 1.0
    assert_same(wgclip.clip_by_norm(np.array([3.0], f32), 3.0), np.array([3.0], f32))


def scaled(x, norm, limit, eps=0.0):
    """What elements become: in the norm's type, rounded once for each product."""
    kind = np.float64 if x.dtype == np.float64 else np.float32
    limit, eps = kind(limit), kind(eps)
    if norm <= limit:
        return x
    with np.errstate(all="ignore"):
        coefficient = kind(limit / kind(norm + eps))
        if kind is np.float64:
            return x * coefficient
        # The product is exact in float64, and rounded once.
        return (x.astype(np.float64) * np.float64(coefficient)).astype(x.dtype)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ml_dtypes.bfloat16])
def test_clip_by_norm(rng, dtype):
    x = rng.standard_normal((4, 9)).astype(dtype)
    total = wgclip.norm(x)
    for limit in (total, total / 2, total * 2, 0.0, math.inf):
        for eps in (0.0, 1e-6):
            expected = scaled(x, total, limit, eps)
            assert_same(wgclip.clip_by_norm(x, limit, eps=eps), expected)
            own = x.copy()
            wgclip.clip_by_norm(own, limit, eps=eps, out=own)
            assert_same(own, expected)
    rows = wgclip.norm(x, 1)
    limit = float(np.median(rows))
    made = wgclip.clip_by_norm(x, limit, 1)
    for row, of, to in zip(rows, x, made):
        assert_same(to, scaled(of, row, limit))
    assert_same(wgclip.clip_by_average_norm(x, total / 72), scaled(x, type(total)(total / 36), total / 72))
    adaptive = wgclip.clip_adaptive(x, np.zeros_like(x), 0.5, 1)
    for row, of, to in zip(rows, x, adaptive):
        assert_same(to, scaled(of, row, np.float32(0.5) * np.float32(1e-3)) if x.dtype != np.float64 else scaled(of, row, 0.5 * 1e-3))


def test_the_backward_pass_of_a_norm(rng):
    x, g = rng.standard_normal(50), rng.standard_normal(50)
    limit = 0.25 * np.linalg.norm(x)
    step = 1e-6
    made = wgclip.clip_by_norm_backward(x, g, limit)
    for n in range(50):
        high, low = x.copy(), x.copy()
        high[n] += step
        low[n] -= step
        slope = (g * (wgclip.clip_by_norm(high, limit) - wgclip.clip_by_norm(low, limit))).sum() / (2 * step)
        assert abs(slope - made[n]) < 1e-7
    assert_same(wgclip.clip_by_norm_backward(x, g, math.inf), g)
    rows = wgclip.clip_by_norm_backward(x.reshape(5, 10), g.reshape(5, 10), 1.0, 1)
    assert_same(rows[2], wgclip.clip_by_norm_backward(x[20:30], g[20:30], 1.0))


def test_global_norm_of_several_types(rng):
    arrays = [finite(rng, of, 50) for of in ("float32", "float16", ml_dtypes.bfloat16)]
    together = sum((value * value for of in arrays for value in oracle.exact(of)), Fraction(0))
    expected = oracle.root(together, "float32")
    assert np.float32(wgclip.global_norm(arrays)) == expected
    made, norm = wgclip.clip_by_global_norm(arrays, 1.0)
    assert norm == wgclip.global_norm(arrays) and [of.dtype for of in made] == [of.dtype for of in arrays]
    for of, to in zip(arrays, made):
        assert_same(to, scaled(of, expected, 1.0))
    # In place, and into an output with strides.
    own = [arrays[0].copy(), np.repeat(arrays[1], 2)[::2], arrays[2].copy()]
    back, _ = wgclip.clip_by_global_norm(own, 1.0, out=own)
    for of, to, result in zip(arrays, own, back):
        assert result is to
        assert_same(np.ascontiguousarray(to), scaled(of, expected, 1.0))
    assert wgclip.global_norm([]) == 0.0 and wgclip.clip_by_global_norm([], 1.0) == ([], 0.0)
    doubles = [rng.standard_normal(9), rng.standard_normal(5)]
    assert wgclip.global_norm(doubles) == oracle.norm(np.concatenate(doubles))


@pytest.mark.parametrize("policy", ["propagate", "zero", "skip", "error"])
def test_norms_that_are_not_finite(policy):
    for worst in (math.inf, math.nan):
        x = np.array([1.0, worst], "float32")
        own = x.copy()
        if policy == "error":
            with pytest.raises(wgclip.NonFiniteNormError, match="NaN or infinite"):
                wgclip.clip_by_norm(own, 1.0, nonfinite=policy, out=own)
            with pytest.raises(RuntimeError):
                wgclip.clip_by_global_norm([own], 1.0, nonfinite=policy, out=[own])
            assert_same(own, x)
            continue
        made = wgclip.clip_by_norm(x, 1.0, nonfinite=policy)
        if policy == "skip":
            assert_same(made, x)
        elif policy == "zero":
            assert made.tolist() == [0.0, 0.0]
        else:
            assert (made[0] == 0 or math.isnan(made[0])) and math.isnan(made[1])


def test_outputs_that_do_not_fit_change_nothing():
    x = np.array([3.0, 4.0])
    for out, error in (
        ([x, np.zeros((3, 2)).T], ValueError),
        ([x, np.zeros((6, 2), "i4").T], TypeError),
        ([x, np.zeros((3, 2), "f4").T], TypeError),
    ):
        with pytest.raises(error):
            wgclip.clip_by_global_norm([x, np.ones((2, 6))], 1.0, out=out)
        assert x.tolist() == [3.0, 4.0]
    strided = np.ones((2, 6))[:, ::2]
    state = wgclip.NormState(wide=True)
    state.add(strided)
    assert state.norm(double=True) == 6**0.5
    assert wgclip.norm(strided, np.int64(0)).shape == (3,)


def test_states_of_parts_are_the_state_of_all(rng):
    x = finite(rng, "float32", 5000)
    for ord in (1, 2, math.inf):
        whole = wgclip.NormState(ord)
        whole.add(x)
        assert np.float32(whole.norm()) == oracle.norm(x, ord)
        merged, words = wgclip.NormState(ord), None
        for part in np.array_split(x, 7):
            state = wgclip.NormState(ord)
            state.add(part[:10], part[10:])
            merged.merge(state)
            ours = np.array(state.words())
            words = ours if words is None else np.maximum(words, ours) if ord == math.inf else words + ours
        assert merged.norm(double=True) == whole.norm(double=True)
        assert wgclip.NormState.from_words(words, ord).norm() == whole.norm()
    wide = wgclip.NormState(wide=True)
    wide.add(np.array([3e200, 4e200]), np.array([1.0], "float16"))
    assert wide.norm(double=True) == 5e200
    with pytest.raises(TypeError, match="wide"):
        wgclip.NormState().add(np.zeros(3))
    with pytest.raises(ValueError, match="elements"):
        wgclip.NormState.from_words([1, 2, 3])


X = np.arange(6, dtype="float32").reshape(2, 3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: wgclip.norm(X.astype("i4")), TypeError, "floats"),
        (lambda: wgclip.norm(X, ord=3), ValueError, "no norm"),
        (lambda: wgclip.norm(X, 2), ValueError, "axis 2"),
        (lambda: wgclip.norm(X, (0, 0)), ValueError, "appear once"),
        (lambda: wgclip.clip_by_norm(X, -1.0), ValueError, "invalid limit -1"),
        (lambda: wgclip.clip_by_norm(X, math.nan), ValueError, "NaN"),
        (lambda: wgclip.clip_by_norm(X, 1.0, eps=math.inf), ValueError, "eps"),
        (lambda: wgclip.clip_by_norm(X, 1.0, nonfinite="ignore"), ValueError, "a policy"),
        (lambda: wgclip.clip_by_norm(X.astype("i4"), 1.0), TypeError, "floats"),
        (lambda: wgclip.clip_by_global_norm([X, X], 1.0, out=[X, X]), ValueError, "share memory"),
        (lambda: wgclip.clip_by_global_norm([X], 1.0, out=[]), ValueError, "1 arrays, but 0 outputs"),
        (lambda: wgclip.clip_by_norm_backward(X, X[:1], 1.0), ValueError, "differ"),
        (lambda: wgclip.NormState("l3"), ValueError, "no norm"),
    ],
)
def test_mistakes_are_errors_that_help(call, error, words):
    before = X.tobytes()
    with pytest.raises(error, match=words):
        call()
    assert X.tobytes() == before


def test_a_dict_of_arrays_gives_a_dict():
    gradients = {"weight": np.float32([3, 0]), "bias": np.float32([-4])}
    made, norm = wgclip.clip_by_global_norm(gradients, 2.5)
    assert norm == 5 and made["weight"].tolist() == [1.5, 0] and made["bias"].tolist() == [-2]
    assert wgclip.global_norm(gradients) == 5
    _, norm = wgclip.clip_by_global_norm(gradients, 2.5, out=gradients)
    assert norm == 5 and gradients["bias"].tolist() == [-2]


def test_the_words_of_rules():
    x, g = np.float32([-1, 0.5]), np.float32([2, 3])
    assert wgclip.clip_backward(x, g, 0, 1, rule="straight-through").tolist() == [2, 3]
    assert wgclip.clip_backward(x, -g, 0, 1, rule="toward").tolist() == [-2, -3]
    with pytest.raises(ValueError, match="straight"):
        wgclip.clip_backward(x, g, 0, 1, rule="straight")
