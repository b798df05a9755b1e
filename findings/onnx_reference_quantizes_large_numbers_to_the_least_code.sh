#!/usr/bin/env bash
# onnx 1.23.2: in the reference evaluator, which other runtimes are compared with, QuantizeLinear to int8 gives a positive number beyond int32, and infinity,
# the least code, -128: it converts the rounded quotient to int32 before it clips, which wraps. onnxruntime 1.32.0 gives 127 on the same model, as
# saturation in the specification says. With a small scale ordinary numbers are far enough: 3.0 by a scale of 1e-9.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
seen=$("$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

def model(scale):
    given = [helper.make_tensor("scale", TensorProto.FLOAT, [], [scale]), helper.make_tensor("zero", TensorProto.INT8, [], [0])]
    node = helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"])
    x, y = (helper.make_tensor_value_info(name, of, [None]) for name, of in (("x", TensorProto.FLOAT), ("y", TensorProto.INT8)))
    model = helper.make_model(helper.make_graph([node], "g", [x], [y], given), opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return model

for scale, x in [(1.0, [200.0, 2.0**30, 3e38, np.inf, -np.inf]), (1e-9, [1e-7, 3.0])]:
    of, x = model(scale), np.array(x, "float32")
    session = onnxruntime.InferenceSession(of.SerializeToString(), providers=["CPUExecutionProvider"])
    print(scale, x.tolist(), "onnxruntime", session.run(None, {"x": x})[0].tolist(), "reference", ReferenceEvaluator(of).run(None, {"x": x})[0].tolist())
PYTHON
)
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
1.0 [200.0, 1073741824.0, 3.0000000054977558e+38, inf, -inf] onnxruntime [127, 127, 127, 127, -128] reference [127, 127, -128, -128, -128]
1e-09 [1.0000000116860974e-07, 3.0] onnxruntime [100, 127] reference [100, -128]
EXPECTED
