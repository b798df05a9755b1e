#!/usr/bin/env bash
# onnxruntime 1.32.0 (PyPI, CPU, x86-64), with onnx 1.23.2.
#
# Sigmoid of float32 falls and rises where the function only rises: at -16.5 it is 9e-8, at -16.25 1.5e-7, at -16.0 6e-8. Below -13 or so all its results are multiples of 2^-25, and from
# -18 on they are 0, although the real values are normal float32 down to -87. ONNX defines Sigmoid as 1 / (1 + exp(-x)); numpy's float32 of that is within an ulp or two there. So a loss
# that takes the logarithm of a small probability, or a gradient that is multiplied by it, meets a 0 or twice the value.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper

values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Sigmoid", ["x"], ["y"])], "g", values[:1], values[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
x = np.array([-18.25, -18.0, -17.0, -16.75, -16.5, -16.25, -16.0], np.float32)
(y,) = session.run(None, {"x": x})
real = 1 / (1 + np.exp(-x.astype(np.float64)))
for of in zip(x, y, real):
    print("x %.2f: %.3g, really %.3g" % of)
assert (y[:2] == 0).all() and (real > 1e-8).all(), "small results are no longer 0"
assert (y * 2.0**25 == np.rint(y * 2.0**25)).all(), "results are no longer multiples of 2^-25"
assert (np.diff(y[2:]) < 0).any(), "it is monotone now"
PYTHON
# Seen:
#   x -18.25: 0, really 1.19e-08
#   x -18.00: 0, really 1.52e-08
#   x -17.00: 8.94e-08, really 4.14e-08
#   x -16.75: 2.98e-08, really 5.32e-08
#   x -16.50: 8.94e-08, really 6.83e-08
#   x -16.25: 1.49e-07, really 8.76e-08
#   x -16.00: 5.96e-08, really 1.13e-07
