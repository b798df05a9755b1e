"""wgclip.distributed with any engine: here threads that add what each has."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import threading

import numpy as np
import oracle
import pytest
import wgclip
from wgclip import distributed


class Ranks:
    """An all-reduce among threads."""

    def __init__(self, count):
        self.barrier = threading.Barrier(count, timeout=30)
        self.parts, self.count = [None] * count, count

    def all_reduce(self, rank):
        def reduce(words, op):
            self.parts[rank] = words
            self.barrier.wait()
            made = np.sum(self.parts, axis=0) if op == "sum" else np.max(self.parts, axis=0)
            self.barrier.wait()
            return made

        return reduce

    def run(self, work):
        made, threads = [None] * self.count, []

        def one(rank):
            try:
                made[rank] = work(rank, self.all_reduce(rank))
            except Exception as error:
                made[rank] = error

        for rank in range(self.count):
            threads.append(threading.Thread(target=one, args=(rank,)))
            threads[-1].start()
        for thread in threads:
            thread.join(60)
        return made


def gradients(rng, dtype):
    x = rng.standard_normal(1001)
    x[3], x[500], x[77] = 1e20, 1e-25, -3e19
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("ord", [1, 2, math.inf])
def test_one_norm_for_every_sharding(rng, dtype, ord):
    x = gradients(rng, wgclip._arrays.dtype_of(dtype))
    expected = float(oracle.norm(x, ord))
    for count in (1, 2, 3, 4, 7):
        cuts = np.sort(rng.integers(0, 1001, count - 1))
        for shards in (np.array_split(x, count), np.split(x, cuts)):
            own = [of.copy() for of in shards]

            def work(rank, all_reduce):
                norm = distributed.global_norm([shards[rank]], all_reduce, ord=ord)
                same = distributed.clip_by_global_norm([own[rank]], 1.0, all_reduce, ord=ord)
                return norm, same

            assert Ranks(count).run(work) == [(expected, expected)] * count
            whole, norm = wgclip.clip_by_global_norm([x], 1.0, ord=ord)
            assert norm == expected
            oracle.assert_same(np.concatenate(own), whole[0])


def test_what_several_have_counts_once(rng):
    shared, own = rng.standard_normal(10).astype("f4"), [rng.standard_normal(5).astype("f4") for _ in range(3)]
    expected = oracle.norm(np.concatenate([shared, *own]))

    def work(rank, all_reduce):
        both = [shared.copy(), own[rank].copy()]
        return distributed.clip_by_global_norm(both, 1.0, all_reduce, counted=both[1:] if rank else both)

    assert Ranks(3).run(work) == [float(expected)] * 3


def test_a_failed_all_reduce_changes_nothing():
    x = np.array([3.0, 4.0], "f4")

    def broken(words, op):
        raise distributed.AllReduceError("a rank died")

    with pytest.raises(distributed.AllReduceError):
        distributed.clip_by_global_norm([x], 1.0, broken)
    assert x.tolist() == [3.0, 4.0]
    with pytest.raises(wgclip.NonFiniteNormError):
        distributed.clip_by_global_norm([x * np.float32(np.inf)], 1.0, lambda words, op: words, nonfinite="error")


MPI = """
import sys, numpy as np, wgclip, wgclip.distributed as d
from mpi4py import MPI
comm = MPI.COMM_WORLD
x = np.random.default_rng(5).standard_normal(1001)
x[3], x[500], x[77] = 1e20, 1e-25, -3e19
x = x.astype(wgclip._arrays.dtype_of(sys.argv[1]))
own = np.array_split(x, comm.size)[comm.rank].copy()
if len(sys.argv) > 2 and comm.rank == 1:
    import time; time.sleep(600)
try:
    norm = d.clip_by_global_norm([own], 1.0, d.mpi(comm, timeout=2 if len(sys.argv) > 2 else 60))
except d.AllReduceError:
    same = (own == np.array_split(x, comm.size)[comm.rank]).all()
    print("unchanged" if same else "changed", flush=True)
    comm.Abort(0)
parts = comm.gather(own)
if comm.rank == 0:
    whole, expected = wgclip.clip_by_global_norm([x], 1.0)
    assert expected == norm and (np.concatenate(parts).tobytes() == whole[0].tobytes())
    print(norm.hex())
"""


def mpirun(count, *arguments):
    pytest.importorskip("mpi4py")
    if not shutil.which("mpirun"):
        pytest.skip("no mpirun")
    command = ["mpirun", "-n", str(count), sys.executable, "-c", MPI, *arguments]
    if "Open MPI" in subprocess.run(["mpirun", "--version"], capture_output=True, text=True).stdout:
        command[1:1] = ["--allow-run-as-root", "--oversubscribe"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_mpi(dtype):
    norms = set()
    for count in (1, 2, 3, 4):
        made = mpirun(count, dtype)
        assert made.returncode == 0, made.stderr
        norms.add(made.stdout)
    assert len(norms) == 1, norms


def test_a_rank_of_mpi_that_hangs():
    assert "unchanged" in mpirun(3, "float32", "hang").stdout
