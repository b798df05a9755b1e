#!/usr/bin/env bash
# jax 0.10.2 (PyPI, CPU, x86-64), float16.
#
# jax.nn.softmax of 70,000 equal float16 elements is 0 for each, and the row sums to 0: the sum of the exponentials is taken in float16, whose greatest number is 65,504, so it is infinite.
# 1 / 70,000 is a (subnormal) float16 that float32 inside would give, as it does in torch and onnxruntime. 60,000 elements get the nearest number.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax
import numpy as np

for count in 60_000, 70_000:
    y = np.asarray(jax.nn.softmax(np.zeros(count, np.float16)))
    right = np.float16(1 / count)
    print(count, "elements:", y.min(), "to", y.max(), "each, nearest", right, "; sum", y.astype(np.float64).sum())
    assert y.dtype == np.float16 and right > 0
    assert (y > 0).all() if count < 65_504 else (y == 0).all(), "it is no longer 0"
PYTHON
# Seen:
#   60000 elements: 1.67e-05 to 1.67e-05 each, nearest 1.67e-05 ; sum 1.0013580322265625
#   70000 elements: 0.0 to 0.0 each, nearest 1.43e-05 ; sum 0.0
