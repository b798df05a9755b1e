#!/usr/bin/env python3
"""Prints a Markdown table: what torch, TensorFlow and optax make of clipping by norm, beside wgclip. Frameworks that
are not installed are left out. wgclip's norms and elements are compared with exact ones: exits with 1 if a bit differs.

    pip install numpy torch tensorflow optax
    scripts/norms.py target/release/wgclip
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import warnings
from fractions import Fraction
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np

F16, F32 = np.float16, np.float32
INF, NAN = math.inf, math.nan
ROWS = [
    (F16, [300], 1.0, "the square overflows f16"),
    (F16, [6e4, 6e4], 1.0, "the norm overflows f16, too"),
    (F32, [1e20, 1e20], 1.0, "the squares overflow f32"),
    (F32, [1e-25, 1e-25], 1e-26, "the squares vanish in f32"),
    (F32, [3], 3.0, "at the limit"),
    (F32, [3, 4], INF, "no limit"),
    (F32, [0, 0], 0.0, "0 / 0"),
    (F32, [INF, 1], 1.0, ""),
    (F32, [NAN, 1], 1.0, ""),
]
POLICIES = ["propagate", "zero", "skip", "error"]
# Bits of the significand, the exponents of the least and the greatest number.
FORMATS = {F16: (11, -24, 16), F32: (24, -149, 128)}
EPS = {None: 0.0, "torch": 1e-6, "tensorflow": 0.0, "optax": 0.0}


# The contract, in exact numbers.


def exact(value):
    return Fraction(float(value))


def rounded(number, to):
    """A fraction that is not negative, to nearest, ties to even."""
    bits, least, most = FORMATS[to]
    if number == 0:
        return to(0)
    exponent = number.numerator.bit_length() - number.denominator.bit_length()
    exponent -= number < Fraction(2) ** exponent
    unit = Fraction(2) ** max(exponent - bits + 1, least)
    nearest = round(number / unit) * unit
    return to(INF) if nearest >= Fraction(2) ** most else to(float(nearest))


def norm_of(x):
    if np.isnan(x).any() or np.isinf(x).any():
        return F32(NAN if np.isnan(x).any() else INF)
    # All bits that could matter, and one that says whether there are more.
    square = sum(exact(value) ** 2 for value in x) * 4**400
    assert square.denominator == 1
    root = math.isqrt(square.numerator)
    return rounded(Fraction(2 * root + (root**2 != square), 2**401), F32)


def product(value, coefficient):
    if not np.isfinite(value) or not np.isfinite(coefficient):
        with np.errstate(invalid="ignore"):
            result = value * coefficient
        return value.dtype.type(NAN if np.isnan(result) else result)
    magnitude = abs(exact(value)) * exact(coefficient)
    return np.copysign(rounded(magnitude, value.dtype.type), value)


def expected(x, limit, eps, policy):
    """The norm and the elements, which are None for an error."""
    norm, most = norm_of(x), F32(limit)
    if not np.isfinite(norm) and policy != "propagate":
        return norm, {"zero": np.zeros_like(x), "skip": x, "error": None}[policy]
    if norm <= most:
        return norm, x
    if np.isfinite(norm):
        divisor = rounded(exact(norm) + exact(F32(eps)), F32)
        coefficient = rounded(exact(most) / exact(divisor), F32)
    else:
        coefficient = F32(NAN if np.isnan(norm) else 0)
    return norm, np.array([product(value, coefficient) for value in x], x.dtype)


# The columns: a title, and what makes a cell, with the norm where the API returns it.


def torch_column():
    import torch

    def clip(x, limit):
        parameter = torch.nn.Parameter(torch.zeros(x.shape, dtype=torch.from_numpy(x).dtype))
        parameter.grad = torch.from_numpy(x.copy())
        norm = torch.nn.utils.clip_grad_norm_([parameter], limit)
        return cell(parameter.grad.numpy(), norm.numpy())

    return f"torch {torch.__version__.split('+')[0]}<br>`clip_grad_norm_`", clip


def tensorflow_column():
    import tensorflow as tf

    def clip(x, limit):
        (clipped,), norm = tf.clip_by_global_norm([tf.constant(x)], limit)
        of_all, of_one = cell(clipped.numpy(), norm.numpy()), tf.clip_by_norm(tf.constant(x), limit).numpy()
        same = np.array_equal(clipped.numpy(), of_one, equal_nan=True)
        return of_all if same else f"{of_all}<br>`clip_by_norm`: {cell(of_one)}"

    return f"TensorFlow {tf.__version__}<br>`clip_by_global_norm`", clip


def optax_column():
    import jax.numpy
    import optax

    def clip(x, limit):
        step = optax.clip_by_global_norm(limit)
        clipped, _ = step.update([jax.numpy.asarray(x)], step.init([jax.numpy.asarray(x)]))
        return cell(np.asarray(clipped[0]))

    return f"optax {optax.__version__}<br>`clip_by_global_norm`", clip


def wgclip(binary, folder, x, limit, policy, like):
    before, after = folder / "in.npy", folder / "out.npy"
    np.save(before, x)
    after.unlink(missing_ok=True)
    said = subprocess.run([binary, "norm", before, "--json"], stdout=subprocess.PIPE, check=True).stdout
    norm = np.array(int(json.loads(said)["global"]["bits"], 16), np.uint32).view(F32)
    command = [binary, "clip-norm", before, after, "--max", str(limit), "--nonfinite", policy, "--quiet"]
    command += ["--like", like] if like else []
    status = subprocess.run(command, stderr=subprocess.PIPE).returncode
    assert status == (0 if after.exists() else 1), f"{command} exits with {status}"
    return norm, np.load(after) if after.exists() else None


def checked(binary, folder, x, limit, policy):
    """A cell for what wgclip does without a preset. All presets are checked, and both signs."""
    for like, eps in reversed(EPS.items()):
        for values in [-x, x]:
            norm, clipped = wgclip(binary, folder, values, limit, policy, like)
            right = expected(values, limit, eps, policy)
            what = f"{values} of {x.dtype}, limit {limit}, {policy}, like {like}: {clipped}, norm {norm}, not {right}"
            assert norm.tobytes() == right[0].tobytes(), what
            assert (clipped is None) == (right[1] is None), what
            assert clipped is None or clipped.dtype == x.dtype and clipped.tobytes() == right[1].tobytes(), what
    return cell(clipped, norm) if clipped is not None else "exit code 1, no file"


def cell(values, norm=None):
    text = "[" + ", ".join(map(number, values)) + "]"
    return text if norm is None else f"{text}, norm {number(norm[()])}"


def number(value):
    """The shortest that gives the value again in its type."""
    return str(value).removesuffix(".0").replace("nan", "NaN")


def main():
    binary = sys.argv[1] if len(sys.argv) > 1 else "target/release/wgclip"
    columns, missing = [], []
    for column in [torch_column, tensorflow_column, optax_column]:
        try:
            columns.append(column())
        except ImportError as error:
            missing.append(error.name.partition(".")[0])
    warnings.simplefilter("ignore")
    titles = ["input", *(title for title, _ in columns), "wgclip<br>`clip-norm`"]
    lines = [titles, ["---"] * len(titles)]
    with tempfile.TemporaryDirectory() as folder:
        for dtype, values, limit, note in ROWS:
            x = np.array(values, dtype)
            what = f"{'f16' if dtype is F16 else 'f32'} {cell(x)}, limit {number(limit)}"
            finite = np.isfinite(x).all()
            for policy in POLICIES[: 1 if finite else None]:
                said = checked(binary, Path(folder), x, limit, policy)
                if policy == "propagate":
                    lines.append([f"{what} ({note})" if note else what, *(clip(x, limit) for _, clip in columns), said])
                else:
                    lines.append([f"the same, `--nonfinite {policy}`", *("" for _ in columns), said])
    for line in lines:
        print("| " + " | ".join(line) + " |")
    if missing:
        print(f"\nNot installed, and left out: {', '.join(missing)}.")


if __name__ == "__main__":
    main()
