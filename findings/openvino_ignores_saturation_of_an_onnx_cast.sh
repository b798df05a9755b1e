#!/usr/bin/env bash
# OpenVINO 2026.4.1: an ONNX Cast to an 8-bit float with saturate=1, the default, does not saturate once OpenVINO has imported it: beyond the range e4m3
# becomes NaN and e5m2 infinity, as with saturate=0, without a warning. onnxruntime 1.32.0 gives the greatest finite number on the same model. Weights that
# were saturated when they were checked become NaN where they are deployed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install openvino==2026.4.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
seen=$("$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np, onnx, onnxruntime, openvino
from onnx import TensorProto, helper

def model(to, length):
    nodes = [helper.make_node("Cast", ["x"], ["code"], to=to, saturate=1), helper.make_node("Cast", ["code"], ["y"], to=TensorProto.FLOAT)]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [length]) for name in ("x", "y"))
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return model.SerializeToString()

for name, to, x in [("e4m3fn", TensorProto.FLOAT8E4M3FN, [448, 464, 465, 1e9]), ("e5m2", TensorProto.FLOAT8E5M2, [57344, 61440, 1e9])]:
    x = np.array(x, "float32")
    of = model(to, len(x))
    runtime = onnxruntime.InferenceSession(of, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    core = openvino.Core()
    imported = core.compile_model(core.read_model(of), "CPU")([x])[0]
    print(name, x.tolist(), "onnxruntime", runtime.tolist(), "OpenVINO", imported.tolist())
PYTHON
)
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
e4m3fn [448.0, 464.0, 465.0, 1000000000.0] onnxruntime [448.0, 448.0, 448.0, 448.0] OpenVINO [448.0, 448.0, nan, nan]
e5m2 [57344.0, 61440.0, 1000000000.0] onnxruntime [57344.0, 57344.0, 57344.0] OpenVINO [57344.0, inf, inf]
EXPECTED
