"""wgclip.dask: the bytes of numpy for every chunking, and workers that die."""

from __future__ import annotations

import doctest
import os
import signal
import threading
import time

import dask
import dask.array as da
import numpy as np
import oracle
import pytest
import wgclip
import wgclip.dask as ours


def chunks(rng, shape):
    return tuple(tuple(int(n) for n in np.diff([0, *np.sort(rng.integers(0, length + 1, 3)), length])) for length in shape)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int16", "uint8", "int64"])
def test_every_chunking_gives_the_same(rng, dtype):
    x = oracle.random_bits(rng, np.dtype(dtype), (40, 30))
    before = x.copy()
    for cut in (chunks(rng, x.shape), chunks(rng, x.shape), (40, 30)):
        lazy = da.from_array(x, chunks=cut)
        oracle.assert_same(ours.clip(lazy, 0, 1).compute(), wgclip.clip(x, 0, 1))
        row = oracle.random_bits(rng, np.dtype(dtype), 30)
        oracle.assert_same(ours.clip(lazy, row).compute(), wgclip.clip(x, row))
        oracle.assert_same(ours.clip(lazy, None, da.from_array(row, chunks=7)).compute(), wgclip.clip(x, None, row))
        finite = np.where(np.isfinite(x), x, 0)
        if x.dtype.kind == "f":
            oracle.assert_same(ours.norm(da.from_array(finite, chunks=cut)).compute(), wgclip.norm(finite))
            oracle.assert_same(ours.norm(lazy, ord=1).compute(), wgclip.norm(x, ord=1))
    oracle.assert_same(x, before)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int16", "uint8", "int64", "uint32"])
def test_quantiles(rng, dtype):
    for spread in (1.0, 1e3):
        if np.dtype(dtype).kind == "f":
            x = (rng.standard_normal((50, 21)) * spread).astype(dtype)
            x[3, 3:6] = np.nan
        else:
            x = rng.integers(0, 100, (50, 21)).astype(dtype)
        numbers = x[x == x]
        shares = [0, 0.01, 0.25, 0.5, 0.99, 1]
        expected = np.quantile(numbers, shares, method="inverted_cdf")
        for cut in (chunks(rng, x.shape), (50, 21)):
            made = dask.compute(*ours.quantiles(da.from_array(x, chunks=cut), shares))
            oracle.assert_same(np.array(made), expected.astype(dtype))
            oracle.assert_same(ours.quantiles(da.from_array(x, chunks=cut), 0.25).compute(), expected.astype(dtype)[2])
            clipped = ours.clip_quantiles(da.from_array(x, chunks=cut), 0.01, 0.99)
            assert clipped.shape == x.shape and clipped.dtype == x.dtype
            oracle.assert_same(clipped.compute(), wgclip.clip(x, expected[1], expected[4]))


def test_arrays_of_other_makes():
    x = (np.random.default_rng(0).standard_normal((50, 4)) * 100).astype("f4")
    foreign = da.from_array(x.astype(">f4"), chunks=(10, 4))
    found = np.array(dask.compute(*ours.quantiles(foreign, [0.1, 0.9])))
    oracle.assert_same(found, np.quantile(x, [0.1, 0.9], method="inverted_cdf").astype("f4"))
    assert ours.clip(foreign, 0, 1).dtype == ours.clip(foreign, 0, 1).compute().dtype == np.dtype("f4")
    oracle.assert_same(ours.norm(da.from_array(x.astype(">f8"), chunks=10)).compute(), wgclip.norm(x.astype("f8")))
    lazy = da.from_array(x, chunks=(10, 4))
    some = lazy[lazy[:, 0] > 0]
    oracle.assert_same(ours.clip(some, 0, 1).compute(), wgclip.clip(x[x[:, 0] > 0], 0, 1))
    lo, hi = dask.compute(*ours.quantiles(some, [0.1, 0.9]))
    oracle.assert_same(ours.clip_quantiles(some, 0.1, 0.9).compute(), wgclip.clip(x[x[:, 0] > 0], lo, hi))
    oracle.assert_same(ours.clip(lazy, [0, 1, 2, 3]).compute(), wgclip.clip(x, [0, 1, 2, 3]))


def test_mistakes_are_errors():
    x = da.zeros(10, chunks=5, dtype="f4")
    with pytest.raises(ValueError, match="broadcast"):
        ours.clip(x, [1.0, 5.0])
    for call, error in (
        (lambda: ours.clip(x, float("nan")).compute(), ValueError),
        (lambda: ours.quantiles(x, [1.5]), ValueError),
        (lambda: ours.clip_quantiles(x, 0.9, 0.1), ValueError),
        (lambda: ours.clip_quantiles(x * np.nan, 0.1, 0.9).compute(), ValueError),
        (lambda: ours.norm(x.astype("i4")).compute(), TypeError),
    ):
        with pytest.raises(error):
            call()


def test_threads_are_not_multiplied():
    """Of eight blocks of 32 MiB on two threads of dask, no helper threads work."""
    seen = set()

    def watch(x):
        seen.add(len(os.listdir("/proc/self/task")))
        return x

    x = da.zeros((8, 4 << 20), chunks=(1, 4 << 20), dtype="f8")
    with dask.config.set(scheduler="threads", num_workers=2):
        ours.clip(x, 0, 1).map_blocks(watch).sum().compute()
    assert wgclip.num_threads() >= 1
    alone = []
    thread = threading.Thread(target=lambda: alone.append(wgclip.num_threads()))
    thread.start()
    thread.join()
    assert alone == [wgclip.num_threads()]


def test_a_worker_that_is_killed(tmp_path):
    zarr = pytest.importorskip("zarr")
    from distributed import Client, LocalCluster

    rng = np.random.default_rng(1)
    x = rng.standard_normal((64, 1 << 16)).astype("f4")
    store = zarr.create_array(store=str(tmp_path / "x.zarr"), shape=x.shape, chunks=(4, 1 << 16), dtype="f4")
    store[:] = x
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True) as cluster, Client(cluster) as client:
        lazy = da.from_zarr(str(tmp_path / "x.zarr"))

        def slow(block):
            time.sleep(0.1)
            return block

        future = client.compute(ours.clip_quantiles(lazy.map_blocks(slow, dtype="f4"), 0.1, 0.9))
        norm = client.compute(ours.norm(lazy.map_blocks(slow, dtype="f4")))
        time.sleep(0.7)
        os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)
        made, norm = future.result(timeout=120), norm.result(timeout=120)
    lo, hi = np.quantile(x, [0.1, 0.9], method="inverted_cdf")
    oracle.assert_same(made, wgclip.clip(x, lo, hi))
    oracle.assert_same(norm, wgclip.norm(x))


def test_docstrings():
    found = doctest.testmod(ours)
    assert found.attempted > 1 and not found.failed


@pytest.mark.parametrize("axis", [0, -1, (0, 1), None])
def test_quantiles_along_axes(rng, axis):
    x = rng.standard_normal((30, 40)).astype(np.float32)
    x[3, 4] = np.nan
    lazy = da.from_array(x, chunks=chunks(rng, x.shape))
    for keepdims in (False, True):
        made = ours.quantiles(lazy, [0.1, 0.5], axis, keepdims=keepdims)
        for one, expected in zip(made, wgclip.quantiles(x, [0.1, 0.5], axis, keepdims=keepdims), strict=True):
            assert isinstance(one, da.Array) and one.shape == np.shape(expected)
            oracle.assert_same(one.compute(), np.asarray(expected))
    oracle.assert_same(ours.clip_quantiles(lazy, 0.1, 0.9, axis).compute(), wgclip.clip_quantiles(x, 0.1, 0.9, axis))
    # The functions of the package send dask arrays here.
    assert isinstance(wgclip.clip_quantiles(lazy, 0.1, 0.9, axis), da.Array)
    assert isinstance(wgclip.clip(lazy, 0, 1), da.Array) and isinstance(wgclip.norm(lazy), da.Array)
    with pytest.raises(ValueError, match="axis 2"):
        ours.quantiles(lazy, 0.5, 2)
