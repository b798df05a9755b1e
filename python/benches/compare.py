"""Times beside numpy and torch, in one run, on the same work and the same number of threads: `python benches/compare.py [--markdown]`.

Each pair is timed in turns, round by round, and the ratio is the median of the rounds' ratios: above 1, wgclip is faster.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import ml_dtypes
import numpy as np
import torch
import wgclip
import wgclip.torch

ROUNDS = 15


def seconds(call, least):
    """Of one call, over as many as take so long."""
    count = 1
    while True:
        begun = time.perf_counter()
        for _ in range(count):
            call()
        took = time.perf_counter() - begun
        if took >= least:
            return took / count
        count = max(count + 1, int(count * 1.2 * least / max(took, 1e-9)))


def pair(name, ours, theirs, least=0.02):
    ours(), theirs()
    rounds = [(seconds(ours, least), seconds(theirs, least)) for _ in range(ROUNDS)]
    ratio = statistics.median(b / a for a, b in rounds)
    a, b = (statistics.median(of) for of in zip(*rounds))
    return name, ratio, a * 1e6, b * 1e6


def forward(x, **options):
    return lambda: wgclip.torch.clip(x, -1, 1, **options)


def backward_of(clip, x, g):
    def run():
        x.grad = None
        clip(x).backward(g)

    return run


def rows():
    for kind in ("float32", "float16", "bfloat16"):
        numpy_type = ml_dtypes.bfloat16 if kind == "bfloat16" else np.dtype(kind)
        torch_type = getattr(torch, kind)
        for name, count in (("4 Ki", 4096), ("1 Mi", 1 << 20)):
            x = np.random.default_rng(1).standard_normal(count).astype(numpy_type)
            out = np.empty_like(x)
            lo, hi = numpy_type(-1) if kind == "bfloat16" else -1, numpy_type(1) if kind == "bfloat16" else 1
            yield pair(f"numpy, {kind}, {name}: clip, beside np.clip", lambda: wgclip.clip(x, lo, hi), lambda: np.clip(x, lo, hi))
            yield pair(f"numpy, {kind}, {name}: clip with out", lambda: wgclip.clip(x, lo, hi, out), lambda: np.clip(x, lo, hi, out))
            t = torch.randn(count).to(torch_type)
            yield pair(f"torch, {kind}, {name}: clip, beside torch.clamp", forward(t), lambda: torch.clamp(t, -1, 1))
            own = t.clone()
            yield pair(f"torch, {kind}, {name}: clip_, beside clamp_", lambda: wgclip.torch.clip_(own, -1, 1), lambda: own.clamp_(-1, 1))
            leaf, g = t.clone().requires_grad_(), torch.randn(count).to(torch_type)
            yield pair(
                f"torch, {kind}, {name}: clip and backward",
                backward_of(lambda x: wgclip.torch.clip(x, -1, 1), leaf, g),
                backward_of(lambda x: torch.clamp(x, -1, 1), leaf, g),
            )
            side = torch.ones(256).to(torch_type).requires_grad_()
            two, g2 = leaf.detach().reshape(-1, 256).requires_grad_(), g.reshape(-1, 256)

            def learned(clip):
                def run():
                    two.grad = side.grad = None
                    clip(two, side).backward(g2)

                return run

            yield pair(
                f"torch, {kind}, {name}: learned bound and backward",
                learned(lambda x, hi: wgclip.torch.clip(x, None, hi)),
                learned(lambda x, hi: torch.clamp(x, None, hi)),
            )
        parameters = [torch.nn.Parameter(torch.zeros(128 * 1024, dtype=torch_type)) for _ in range(128)]
        for p in parameters:
            p.grad = torch.randn(128 * 1024).to(torch_type)
        for name, share in (("within the limit", 2.0), ("above it", 0.9999)):
            limits = {}

            def clipped(clip_grad_norm_):
                def run():
                    # Each limit is a share of the norm before: gradients shrink a little in each call, or never.
                    limits["next"] = share * float(clip_grad_norm_(parameters, limits.get("next", 1e9)))

                return run

            both = clipped(wgclip.torch.clip_grad_norm_), clipped(torch.nn.utils.clip_grad_norm_)
            yield pair(f"torch, {kind}, 128 x 128 Ki: clip_grad_norm_, {name}", *both, 0.05)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    wgclip.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, numpy {np.__version__}, wgclip {wgclip.__version__}, {arguments.threads} threads\n")
    if arguments.markdown:
        print("| | ratio | wgclip | the other |\n|---|---|---|---|")
    for name, ratio, ours, theirs in rows():
        if arguments.markdown:
            print(f"| {name} | {ratio:.2f} | {ours:.1f} us | {theirs:.1f} us |", flush=True)
        else:
            print(f"{ratio:6.2f}  {ours:10.1f} us  {theirs:10.1f} us  {name}", flush=True)


if __name__ == "__main__":
    main()
