"""Exact quantiles: the elements that numpy's inverted_cdf names, for every type, axis and kind of array."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import wgclip

SHARES = [0.0, 0.01, 0.25, 0.5, 0.9, 0.999, 1.0]


def numpy_quantiles(x, shares, axis=None):
    """Of the numbers in x. Shares in float64: numpy counts in the type of x otherwise."""
    return [np.nanquantile(x, np.float64(share), axis=axis, method="inverted_cdf") for share in shares]


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int16", "uint8", "int64", "uint64"])
def test_quantiles_are_those_of_numpy(rng, dtype):
    checked = 0
    for shape in [(1,), (2,), (7, 5), (3, 4, 6), (1000,)]:
        x = oracle.random_bits(rng, np.dtype(dtype), shape)
        if x.dtype.kind == "f":
            x[np.isinf(x)] = 1
            if np.isnan(x).all():
                continue
        for axis in [None, 0, -1, tuple(range(x.ndim))]:
            if x.dtype.kind == "f" and np.isnan(x).all(axis=axis).any():
                continue
            for ours, theirs in zip(wgclip.quantiles(x, SHARES, axis), numpy_quantiles(x, SHARES, axis), strict=True):
                assert ours.dtype == x.dtype and np.shape(ours) == np.shape(theirs)
                # -0 and 0 are one number to numpy.
                assert np.array_equal(ours, np.asarray(theirs, x.dtype)), (shape, axis)
                checked += 1
    assert checked > 50


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_quantiles_of_short_types(rng, name):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = oracle.random_bits(rng, np.dtype(getattr(ml_dtypes, name)), (501,))
    numbers = np.sort(x[x == x].astype(np.float32))
    for share in SHARES:
        expected = numbers[max(0, int(np.ceil(share * len(numbers))) - 1)]
        assert float(wgclip.quantiles(x, share)) == expected


def test_clipping_to_quantiles(rng):
    x = rng.standard_normal((50, 40)).astype(np.float32)
    lo, hi = numpy_quantiles(x, [0.1, 0.9])
    oracle.assert_same(wgclip.clip_quantiles(x, 0.1, 0.9), np.clip(x, lo, hi))
    lo, hi = (np.expand_dims(side, 0) for side in numpy_quantiles(x, [0.1, 0.9], 0))
    oracle.assert_same(wgclip.clip_quantiles(x, 0.1, 0.9, axis=0), np.clip(x, lo, hi))
    out = x.copy()
    assert wgclip.clip_quantiles(out, None, 0.5, 1, out=out) is out
    oracle.assert_same(out, np.minimum(x, numpy_quantiles(x, [0.5], 1)[0][:, None]))
    image = rng.integers(0, 256, (9, 9)).astype(np.uint8)
    oracle.assert_same(wgclip.clip_quantiles(image, 0.02, 0.98), np.clip(image, *numpy_quantiles(image, [0.02, 0.98])))
    device = wgclip.Device("cpu")
    oracle.assert_same(wgclip.clip_quantiles(device.tensor(x), 0.1, 0.9, axis=0).numpy(), np.clip(x, lo, hi))


def test_what_has_no_quantiles():
    x = np.float32([1, 2])
    for q in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="no share"):
            wgclip.quantiles(x, q)
    with pytest.raises(ValueError, match="no numbers"):
        wgclip.quantiles(np.float32([np.nan]), 0.5)
    with pytest.raises(ValueError, match="no numbers"):
        wgclip.quantiles(np.empty(0, "int8"), 0.5)
    with pytest.raises(ValueError, match="axis 1"):
        wgclip.quantiles(x, 0.5, 1)
    with pytest.raises(ValueError, match="above the upper one"):
        wgclip.clip_quantiles(x, 0.9, 0.1)
    with pytest.raises(TypeError):
        wgclip.quantiles(np.array(["a"]), 0.5)
    rows = wgclip.quantiles(np.float32([[np.nan, np.nan], [1, 2]]), 0.5, axis=1)
    assert np.isnan(rows[0]) and rows[1] == 1
