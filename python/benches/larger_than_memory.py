"""An array larger than the memory of the workers, one of which is killed on the way: `python benches/larger_than_memory.py FOLDER [--gb 6]`.

Writes random float32 to a zarr array, clips it to two of its quantiles into another one, on two workers of 1 GiB, takes its norm, and checks every
element.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import signal
import threading
import time

import dask.array as da
import numpy as np
import psutil
import wgclip
import wgclip.dask
import zarr
from distributed import Client, LocalCluster

WIDTH = 1 << 20
LOWER, UPPER = 0.001, 0.999


def row(n):
    return np.random.default_rng(n).standard_normal(WIDTH, dtype="f4")


def watch(cluster, peaks, done):
    while not done.wait(0.1):
        for worker in list(cluster.workers.values()):
            try:
                peaks[worker.pid] = max(peaks.get(worker.pid, 0), psutil.Process(worker.pid).memory_info().rss)
            except (psutil.NoSuchProcess, AttributeError):
                pass


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--gb", type=float, default=6.0)
    arguments = parser.parse_args()
    rows = int(arguments.gb * 1e9 / 4 / WIDTH)
    source, target = (str(arguments.folder / name) for name in ("in.zarr", "out.zarr"))
    options = {"shape": (rows, WIDTH), "chunks": (4, WIDTH), "dtype": "f4", "compressors": None, "overwrite": True}
    made = zarr.create_array(store=source, **options)
    for n in range(0, rows, 4):
        made[n : n + 4] = np.stack([row(at) for at in range(n, min(n + 4, rows))])
    print(f"{rows * WIDTH * 4 / 1e9:.2f} GB in {-(-rows // 4)} chunks of 16 MiB", flush=True)

    peaks, done = {}, threading.Event()
    with LocalCluster(n_workers=2, threads_per_worker=1, memory_limit="1GiB", dashboard_address=None) as cluster, Client(cluster) as client:
        watcher = threading.Thread(target=watch, args=(cluster, peaks, done))
        watcher.start()
        begun = time.monotonic()
        out = zarr.create_array(store=target, **options)
        job = client.compute(da.store(wgclip.dask.clip_quantiles(da.from_zarr(source), LOWER, UPPER), out, compute=False, lock=False))
        time.sleep(10)
        victim = next(iter(cluster.workers.values())).pid
        os.kill(victim, signal.SIGKILL)
        print("a worker was killed after 10 s", flush=True)
        job.result(timeout=1200)
        print(f"clipped in {time.monotonic() - begun:.0f} s", flush=True)
        begun = time.monotonic()
        norm = float(wgclip.dask.norm(da.from_zarr(source)).compute())
        print(f"norm {norm} in {time.monotonic() - begun:.0f} s", flush=True)
        done.set()
        watcher.join()
    print("peak memory of each worker:", ", ".join(f"{peak / 2**20:.0f} MiB" for peak in peaks.values()))

    # Every element, and that the bounds are the quantiles: by counting.
    state, clipped = wgclip.NormState(), zarr.open_array(target, mode="r")
    lo, hi = np.float32(np.inf), np.float32(-np.inf)
    for n in range(0, rows, 4):
        part = clipped[n : n + 4]
        lo, hi = min(lo, part.min()), max(hi, part.max())
    counts = np.zeros(4, np.int64)
    for n in range(rows):
        x = row(n)
        state.add(x)
        counts += [np.count_nonzero(of) for of in (x < lo, x <= lo, x < hi, x <= hi)]
        assert np.array_equal(clipped[n].view("u4"), np.clip(x, lo, hi).view("u4")), n
    total = rows * WIDTH
    assert counts[0] < np.ceil(LOWER * total) <= counts[1] and counts[2] < np.ceil(UPPER * total) <= counts[3], counts
    assert state.norm() == norm
    print("every element is right")


if __name__ == "__main__":
    main()
