#!/usr/bin/env bash
# onnxruntime 1.32.0 with onnx 1.23.2: QuantizeLinear to float8e4m3fn with saturate=0 is not monotone. 464 rounds to the greatest number,
# 448; 465 becomes NaN, as all that rounds beyond the range should, but 480 and 488 become 448 again, and 1e9 NaN. onnx's reference evaluator gives NaN from
# 465 on. With saturate=1, the default, all become 448. What takes NaN for "too large" misses the numbers around 480.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install onnxruntime==1.32.0 onnx==1.23.2 ml_dtypes==0.6.0 numpy==2.4.6
seen=$("$folder/venv/bin/python" -W ignore - <<'PYTHON'
import ml_dtypes, numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

def model(saturate):
    to = TensorProto.FLOAT8E4M3FN
    given = [helper.make_tensor("scale", TensorProto.FLOAT, [], [1.0]), helper.make_tensor("zero", to, [], [0])]
    node = helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"], saturate=saturate)
    x, y = (helper.make_tensor_value_info(name, of, [None]) for name, of in (("x", TensorProto.FLOAT), ("y", to)))
    model = helper.make_model(helper.make_graph([node], "g", [x], [y], given), opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return model

x = np.array([448, 464, 465, 480, 488, 1e9, np.inf], "float32")
for saturate in (1, 0):
    of = model(saturate)
    session = onnxruntime.InferenceSession(of.SerializeToString(), providers=["CPUExecutionProvider"])
    codes = session.run(None, {"x": x})[0].view(ml_dtypes.float8_e4m3fn)
    print("onnxruntime, saturate", saturate, codes.astype(float).tolist())
    print("reference,   saturate", saturate, ReferenceEvaluator(of).run(None, {"x": x})[0].astype(float).tolist())
PYTHON
)
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
onnxruntime, saturate 1 [448.0, 448.0, 448.0, 448.0, 448.0, 448.0, 448.0]
reference,   saturate 1 [448.0, 448.0, 448.0, 448.0, 448.0, 448.0, 448.0]
onnxruntime, saturate 0 [448.0, 448.0, nan, 448.0, 448.0, nan, nan]
reference,   saturate 0 [448.0, 448.0, nan, nan, nan, nan, nan]
EXPECTED
