#!/usr/bin/env bash
# ml_dtypes 0.6.0 with numpy 2.4.6: types of 4 and 6 bits without NaN (float4_e2m1fn, float6_e2m3fn, float6_e3m2fn) make a NaN a zero, and it has the
# opposite sign: NaN becomes -0 and -NaN +0. Infinities become the greatest number of their own sign. A byte of float4_e2m1fn in which any of the
# upper 4 bits is set is read as negative, whatever bit 3 says: 0x10 is -0 and 0x27 is -6. So bytes of two codes must be unpacked before they are viewed as that type.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install ml_dtypes==0.6.0 numpy==2.4.6
seen=$("$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import ml_dtypes, numpy as np
x = np.array([np.nan, -np.nan, np.inf, -np.inf], "f4")
for kind in (ml_dtypes.float4_e2m1fn, ml_dtypes.float6_e2m3fn, ml_dtypes.float6_e3m2fn):
    print(np.dtype(kind).name, x.astype(kind).astype("f4").tolist())
print("bytes", np.array([0x10, 0x12, 0x27], "u1").view(ml_dtypes.float4_e2m1fn).astype("f4").tolist())
PYTHON
)
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
float4_e2m1fn [-0.0, 0.0, 6.0, -6.0]
float6_e2m3fn [-0.0, 0.0, 7.5, -7.5]
float6_e3m2fn [-0.0, 0.0, 28.0, -28.0]
bytes [-0.0, -1.0, -6.0]
EXPECTED
