#!/usr/bin/env bash
# gguf 0.19.0: one number may spoil the 31 others of its block, without an error. In Q8_0 a number of 1e7 makes the scale of the block infinite as an f16: the ones
# beside it become NaN. In MXFP4 one infinity makes the whole block 0. Of numbers around 1e-6 the scale of Q8_0 is 0 as an f16, so
# that all become 0 although their codes are not. A check for NaN and infinity before quantisation does not find the first and the last.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install gguf==0.19.0 numpy==2.4.6
seen=$("$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
from gguf import GGMLQuantizationType, quants

def back(kind, first):
    x = np.ones(32, "float32") if first is not None else np.full(32, 1e-6, "float32")
    if first is not None:
        x[0] = first
    kind = GGMLQuantizationType[kind]
    return quants.dequantize(quants.quantize(x, kind), kind)[:4].tolist()

print("Q8_0, 1e7 and ones:", back("Q8_0", 1e7))
print("Q8_0, all 1e-6:", back("Q8_0", None))
print("MXFP4, 6 and ones:", back("MXFP4", 6.0))
print("MXFP4, infinity and ones:", back("MXFP4", np.inf))
PYTHON
)
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
Q8_0, 1e7 and ones: [inf, nan, nan, nan]
Q8_0, all 1e-6: [0.0, 0.0, 0.0, 0.0]
MXFP4, 6 and ones: [6.0, 1.0, 1.0, 1.0]
MXFP4, infinity and ones: [0.0, 0.0, 0.0, 0.0]
EXPECTED
