"""What producers of DLPack and of buffers do, other threads, and other processes."""

from __future__ import annotations

import array
import concurrent.futures
import multiprocessing
import os
import subprocess
import sys
import threading

import ml_dtypes
import numpy as np
import oracle
import pytest
import wgclip
from wgclip import _core

X = np.array([-2.0, 0.5, 7.0], "float32")


class Producer:
    """An array by DLPack alone: versioned, or, as older libraries, without a version and its flags."""

    def __init__(self, of, legacy=False, device=None):
        self.of, self.legacy, self.at = of, legacy, device

    def __dlpack_device__(self):
        return self.at or self.of.__dlpack_device__()

    def __dlpack__(self, **arguments):
        return self.of.__dlpack__() if self.legacy else self.of.__dlpack__(**arguments)


def test_dlpack_is_read_without_a_copy():
    for legacy in (False, True):
        assert wgclip.clip(Producer(X, legacy), 0, 1).tolist() == [0.0, 0.5, 1.0]
        out = np.empty_like(X)
        _core.clip(Producer(X, legacy), 0, 1, out)
        assert out.tolist() == [0.0, 0.5, 1.0]
    out = np.empty_like(X)
    _core.clip(X, 0, 1, Producer(out))
    assert out.tolist() == [0.0, 0.5, 1.0]
    # A capsule is used once, and does not outlive its use.
    capsule = X.__dlpack__()
    _core.clip(capsule, 0, 1, out)
    with pytest.raises((ValueError, TypeError)):
        _core.clip(capsule, 0, 1, out)


def test_what_may_not_be_written_to_is_refused():
    read_only = X.copy()
    read_only.flags.writeable = False
    for out, words in (
        (Producer(X.copy(), legacy=True), "does not say"),
        (read_only, "read-only"),
        (bytes(12), ""),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            _core.clip(X, 0, 1, out)
    assert read_only.tolist() == X.tolist()


def test_another_device_is_an_error_that_says_so():
    with pytest.raises((ValueError, TypeError, BufferError), match="CPU|cpu|device"):
        _core.clip(Producer(X, device=(2, 0)), 0, 1, X.copy())


def test_buffers():
    own = array.array("f", [-2.0, 0.5, 7.0])
    _core.clip(own, 0, 1, own)
    assert own.tolist() == [0.0, 0.5, 1.0]
    own = bytearray([1, 5, 9])
    _core.clip(own, 2, 6, own)
    assert list(own) == [2, 5, 6]


def test_strides_and_byte_orders_are_no_plain_memory():
    for of in (np.zeros((4, 4), "f4").T[1:], np.zeros(8, "f4")[::2], np.zeros(4, ">f4")):
        with pytest.raises((BufferError, TypeError)):
            _core.clip(of, 0, 1, np.zeros(of.shape, "f4"))


def test_what_is_empty_and_what_has_no_axes():
    for dtype in ("float32", ml_dtypes.bfloat16, "uint8"):
        for shape in ((0,), (3, 0, 2), ()):
            x = np.ones(shape, dtype)
            assert wgclip.clip(x, 0, 1).shape == shape
            g = wgclip.clip_backward_bounds(x, x, 0, 1)
            assert g[0].shape == shape and g[1].shape == ()
            if dtype != "uint8":
                assert wgclip.norm(x) == (1 if x.size else 0)
    assert wgclip.clip(np.ones((0, 3), "f4"), np.zeros(3, "f4")).shape == (0, 3)


def test_many_threads_at_once(rng):
    """The interpreter is free while a large array is clipped, and every thread gets its own result."""
    arrays = [rng.standard_normal(1 << 20).astype("float32") for _ in range(4)]
    expected = [np.clip(x, -0.5, 0.5) for x in arrays]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for made, right in zip(pool.map(lambda n: wgclip.clip(arrays[n % 4], -0.5, 0.5), range(64)), expected * 16):
            oracle.assert_same(made, right)


def test_an_object_of_another_thread(rng):
    state = wgclip.NormState()
    threads = [threading.Thread(target=state.add, args=(np.ones(100, "f4"),)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state.norm() == 40.0


LARGE = 1 << 19


def in_a_child(queue):
    x = np.full(LARGE, 3.0)
    queue.put((wgclip.clip(x, 0, 1).sum(), wgclip.norm(x), wgclip.num_threads()))


def test_a_forked_process_has_threads_of_its_own():
    # So that the parent's are there.
    wgclip.clip(np.zeros(LARGE), 0, 1)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=in_a_child, args=(queue,)) for _ in range(2)]
    for child in children:
        child.start()
    for _ in children:
        total, norm, threads = queue.get(timeout=60)
        assert (total, threads) == (LARGE, wgclip.num_threads())
        assert norm == wgclip.norm(np.full(LARGE, 3.0))
    for child in children:
        child.join(60)
        assert child.exitcode == 0


def test_threads_can_be_counted_and_set():
    code = """
import numpy, os, wgclip
from wgclip import _core
threads = lambda: len(os.listdir("/proc/self/task"))
before = threads()
wgclip.set_num_threads(3)
assert wgclip.num_threads() == 3
wgclip.clip(numpy.zeros(1 << 20), 0, 1)
assert before + 2 <= threads() <= before + 3, threads()
assert not _core.set_alone(True) and wgclip.num_threads() == 1
assert _core.set_alone(False) and wgclip.num_threads() == 3
try:
    wgclip.set_num_threads(0)
except ValueError:
    print("done")
"""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
    assert run.stdout == "done\n", run.stderr


def test_threads_that_ask_for_threads_do_not_wait_for_each_other():
    code = """
import concurrent.futures, numpy, wgclip
x = numpy.zeros(1 << 18)
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda n: (wgclip.set_num_threads(n % 3 + 1), wgclip.clip(x, 0, 1), wgclip.num_threads()), range(200)))
print("done")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout == "done\n", run.stderr


def test_memory_stays_flat():
    """A call leaves nothing behind, and neither does one that fails."""
    import resource

    x, out = np.zeros(64, "f4"), np.zeros(64, "f4")
    other, bfloat = Producer(x), np.zeros(64, ml_dtypes.bfloat16)

    def calls(count):
        for _ in range(count):
            wgclip.clip(x, 0, 1)
            wgclip.clip(x, x, 1, out)
            _core.clip(other, 0, 1, out)
            wgclip.clip_backward(x, x, 0, 1, out, rule="torch")
            wgclip.clip(bfloat, 0, 1)
            wgclip.global_norm([x, x])
            with pytest.raises(ValueError):
                _core.clip(x, float("nan"), 1, out)

    calls(2000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts = [sys.getrefcount(of) for of in (x, out, other, bfloat)]
    calls(20000)
    assert [sys.getrefcount(of) for of in (x, out, other, bfloat)] == counts
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2048, "KiB for 140,000 calls"
