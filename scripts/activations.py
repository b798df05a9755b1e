"""Compares tanh and sigmoid of every f32 with float64 and, where that leaves a doubt, with MPFR: an oracle that is not ours.

    python scripts/activations.py [--device NAME] [--step N] [FUNCTION...]

It needs numpy, gmpy2 and wgclip's Python package. A function takes some minutes on the CPU path. numpy's float64 is within an ulp or two of the real value, so only
results within 2^-20 of a midpoint of two f32 are doubtful: some thousands, which MPFR computes with 300 bits. The count of results that differ is the exit status.
"""

from __future__ import annotations

import argparse
import sys
import time

import gmpy2
import numpy as np
import wgclip
from activation_errors import wide

CHUNK = 1 << 22


def exact(name: str, x: float) -> gmpy2.mpfr:
    of = gmpy2.mpfr(x)
    return gmpy2.tanh(of) if name == "tanh" else 1 / (1 + gmpy2.exp(-of))


def nearest(value: gmpy2.mpfr) -> np.float32:
    """The f32 nearest to a number, ties to even; a subnormal number has fewer bits."""
    if value == 0:
        return np.float32(0)
    unit = max(gmpy2.frexp(value)[0] - 24, -149)
    return np.float32(np.ldexp(float(gmpy2.rint(gmpy2.mul_2exp(value, -unit))), unit))


def is_doubtful(y: np.ndarray) -> np.ndarray:
    """Whether numbers are within 2^-20 of an ulp of f32 from a midpoint of two: from an odd number of half ulps."""
    _, exponent = np.frexp(y)
    halves = np.abs(y) / np.ldexp(0.5, np.maximum(exponent - 24, -149))
    return np.abs(halves - (2 * np.floor(halves / 2) + 1)) < 2.0**-19


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("functions", nargs="*", default=["tanh", "sigmoid"])
    parser.add_argument("--device")
    parser.add_argument("--step", type=int, default=1, help="every N-th chunk of 2^22 patterns")
    given = parser.parse_args()
    gmpy2.get_context().precision = 300
    device = wgclip.Device(given.device) if given.device else None
    wrong = 0
    for name in given.functions:
        began, tried, doubts = time.perf_counter(), 0, 0
        for start in range(0, 1 << 32, CHUNK * given.step):
            bits = np.arange(start, start + CHUNK, dtype=np.uint64).astype(np.uint32)
            x = bits.view(np.float32)
            made = wgclip.run(name, x if device is None else device.tensor(x))
            made = made if device is None else made.numpy()
            is_nan = np.isnan(x)
            with np.errstate(all="ignore"):
                y = wide(name, np.where(is_nan, 0, x).astype(np.float64))
                expected = y.astype(np.float32)
            for at in np.flatnonzero(is_doubtful(y) & ~is_nan):
                expected[at] = nearest(exact(name, float(x[at])))
                doubts += 1
            # A NaN stays as it is, and -0 of tanh is -0.
            expected = np.where(is_nan, x, expected)
            differ = np.flatnonzero(made.view(np.uint32) != expected.view(np.uint32))
            wrong += differ.size
            tried += CHUNK
            for at in differ[:3]:
                print(f"{name}({bits[at]:#010x}) is {expected.view(np.uint32)[at]:#010x}, not {made.view(np.uint32)[at]:#010x}")
        where = given.device or "the CPU path"
        print(f"{name} on {where}: {tried} inputs, {doubts} by MPFR, {wrong} wrong so far, {time.perf_counter() - began:.0f} s", flush=True)
    return min(wrong, 125)


if __name__ == "__main__":
    sys.exit(main())
