#!/usr/bin/env bash
# ml_dtypes 0.5.4 with numpy 2.3.5: `astype` from float64 to bfloat16 or to an 8-bit float rounds twice, through float32. A number just
# above the middle of two bfloat16, by less than float32 holds, becomes the lower one: 1 + 2^-8 + 2^-40 gives 1.0 where the nearest is
# 1.0078125. numpy's own conversion from float64 to float16 rounds once. What compares bfloat16 with a result that was computed in float64
# has to round to odd in float32 first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install ml_dtypes==0.5.4 numpy==2.3.5
seen=$("$folder/venv/bin/python" - <<'PYTHON'
import ml_dtypes, numpy as np
for kind, ulp in [(ml_dtypes.bfloat16, 2.0**-7), (ml_dtypes.float8_e4m3fn, 2.0**-3), (np.float16, 2.0**-10)]:
    above_middle = np.float64(1 + ulp / 2 + 2.0**-40)
    print(np.dtype(kind).name, float(above_middle.astype(kind)), "nearest", 1 + ulp)
PYTHON
)
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
bfloat16 1.0 nearest 1.0078125
float8_e4m3fn 1.0 nearest 1.125
float16 1.0009765625 nearest 1.0009765625
EXPECTED
