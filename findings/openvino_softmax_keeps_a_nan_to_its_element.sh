#!/usr/bin/env bash
# openvino 2026.4.1 (PyPI, CPU, x86-64), float32.
#
# Softmax of a row with a NaN is NaN for that element alone, and 0 for all others: also where an element is +inf. So the row sums to NaN, but 0 is what whoever reads
# another element sees, as if it were masked. numpy, torch, JAX and onnxruntime give NaN for all of the row, since each quotient has the row's sum below it. A row of -inf
# alone is all NaN in OpenVINO too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import openvino
from openvino import opset13 as ops

parameter = ops.parameter([-1, -1], np.float32)
model = openvino.Model([ops.softmax(parameter, 1)], [parameter])
compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def of_numpy(x):
    with np.errstate(invalid="ignore"):
        e = np.exp(x - x.max())
        return e / e.sum()


for first in np.nan, np.inf:
    row = np.array([first, 0, 1, 2, 3], np.float32)
    (made,), theirs = compiled(row[None])[0], of_numpy(row)
    print(row.tolist(), "openvino", made.tolist(), "numpy", theirs.tolist())
    assert np.isnan(theirs).all()
    assert np.isnan(made[0]) and (made[1:] == 0).all(), "the others are NaN now"
(made,) = compiled(np.full((1, 5), -np.inf, np.float32))[0]
assert np.isnan(made).all(), "a row of -inf is something else now"
PYTHON
# Seen:
#   [nan, 0.0, 1.0, 2.0, 3.0] openvino [nan, 0.0, 0.0, 0.0, 0.0] numpy [nan, nan, nan, nan, nan]
#   [inf, 0.0, 1.0, 2.0, 3.0] openvino [nan, 0.0, 0.0, 0.0, 0.0] numpy [nan, nan, nan, nan, nan]
