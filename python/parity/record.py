"""Records what packages quantise to: values, codes and gradients, as bits, beside their version.

    python record.py [PACKAGE...]     writes PACKAGE.json here; without a name all that are installed
    python record.py blocks           writes blocks/torchao.json: microscaling blocks

`tests/test_quantisation_parity.py` compares wgclip's presets with the files, and needs none of the packages. Run with torch 2.15.0, torchao 0.18.0, brevitas 0.13.4, tensorflow
2.21.0, onnxruntime 1.32.0 (onnx 1.23.2), openvino 2026.4.1 and numpy 2.4.6 on x86-64.
"""

from __future__ import annotations

import importlib.metadata
import json
import pathlib
import sys

import numpy as np

#: Scales, zero points and ranges of codes.
GRIDS = [
    (scale, zero, lo, hi)
    for scale in (1.0, 0.5, 0.1, 0.0123, 3.0)
    for zero, lo, hi in ((0, -128, 127), (3, -128, 127), (-128, -128, 127), (128, 0, 255), (0, -8, 7))
]


def elements(scale: float, zero: int, lo: int, hi: int):
    """Integers and halves near 0 and near the ends, their neighbours, and unusual numbers."""
    steps = np.array([*range(-5, 6), *(end - zero + near for end in (lo, hi) for near in (-2, -1, 0, 1, 2))], "f8")
    near = (np.concatenate([steps, steps + 0.5, steps + 0.4, steps - 0.3]) * scale).astype("f4")
    infinity = np.float32(np.inf)
    with np.errstate(invalid="ignore"):
        near = np.concatenate([near, np.nextafter(near, infinity), np.nextafter(near, -infinity)])
    return np.concatenate([near, np.array([0.0, -0.0, 1e-40, -1e-40, 1e30, -1e30, np.inf, -np.inf, np.nan], "f4")])


def upstream(length: int):
    """Gradients, of which none is 1."""
    return (2.0 ** (np.arange(length) % 5) * (-1.0) ** np.arange(length)).astype("f4")


def torch_fake(x, g, scale, zero, lo, hi):
    import torch

    x = torch.tensor(x, requires_grad=True)
    y = torch.fake_quantize_per_tensor_affine(x, float(np.float32(scale)), zero, lo, hi)
    y.backward(torch.tensor(g))
    return {"y": y.detach().numpy(), "gx": x.grad.numpy()}


def torchao_fake(x, g, scale, zero, lo, hi):
    import torch
    from torchao.quantization.quant_primitives import _fake_quantize_affine

    x = torch.tensor(x, requires_grad=True)
    scale, zero = torch.tensor([scale], dtype=torch.float32), torch.tensor([zero], dtype=torch.int32)
    y = _fake_quantize_affine(x, (x.numel(),), scale, zero, torch.int32, lo, hi)
    y.backward(torch.tensor(g))
    return {"y": y.detach().numpy(), "gx": x.grad.numpy()}


def brevitas_by(clamp):
    def fake(x, g, scale, zero, lo, hi):
        import torch
        from brevitas.core.function_wrapper import Identity, RoundSte, TensorClamp, TensorClampSte
        from brevitas.core.quant import IntQuant

        clamps = {"TensorClamp": TensorClamp, "TensorClampSte": TensorClampSte}
        quant = IntQuant(
            narrow_range=False, signed=lo < 0, float_to_int_impl=RoundSte(), tensor_clamp_impl=clamps[clamp](), input_view_impl=Identity()
        )
        bits = torch.tensor(float(np.log2(hi - lo + 1)))
        x = torch.tensor(x, requires_grad=True)
        y = quant(torch.tensor(scale, dtype=torch.float32), torch.tensor(float(zero)), bits, x)
        y.backward(torch.tensor(g))
        return {"y": y.detach().numpy(), "gx": x.grad.numpy()}

    return fake


def tensorflow_fake(x, g, scale, zero, lo, hi):
    import tensorflow as tf

    bits = int(np.log2(hi - lo + 1))
    least, greatest = (np.float32((end - zero) * np.float32(scale)) for end in (lo, hi))
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.quantization.fake_quant_with_min_max_vars(x, least, greatest, num_bits=bits)
    return {"y": y.numpy(), "gx": tape.gradient(y, x, output_gradients=tf.constant(g)).numpy()}


def onnxruntime_codes(x, g, scale, zero, lo, hi):
    import onnxruntime
    from onnx import TensorProto, helper

    if hi - lo < 255:
        return None
    to = TensorProto.INT8 if lo < 0 else TensorProto.UINT8
    given = [helper.make_tensor("scale", TensorProto.FLOAT, [], [scale]), helper.make_tensor("zero", to, [], [zero])]
    node = helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"])
    of_x, of_y = (helper.make_tensor_value_info(name, of, [None]) for name, of in (("x", TensorProto.FLOAT), ("y", to)))
    model = helper.make_model(helper.make_graph([node], "g", [of_x], [of_y], given), opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return {"codes": session.run(None, {"x": x})[0].astype("i4")}


def openvino_fake(x, g, scale, zero, lo, hi):
    import openvino
    from openvino import opset13 as ops

    ends = [np.float32((end - zero) * np.float32(scale)) for end in (lo, hi)]
    of_x = ops.parameter([x.size], np.float32)
    model = openvino.Model([ops.fake_quantize(of_x, *ends, *ends, hi - lo + 1)], [of_x])
    return {"y": openvino.Core().compile_model(model, "CPU")([x])[0]}


PACKAGES = {
    "torch": ("torch", torch_fake),
    "torchao": ("torchao", torchao_fake),
    "brevitas": ("brevitas", brevitas_by("TensorClamp")),
    "brevitas-ste": ("brevitas", brevitas_by("TensorClampSte")),
    "tensorflow": ("tensorflow-cpu", tensorflow_fake),
    "onnxruntime": ("onnxruntime", onnxruntime_codes),
    "openvino": ("openvino", openvino_fake),
}


#: Formats of microscaling blocks, and rules of scales, by their names here and in torchao.
FORMATS = {"float8_e4m3fn": "float8_e4m3fn", "float8_e5m2": "float8_e5m2", "float4_e2m1fn": "float4_e2m1fn_x2"}
SCALES = {"floor": "FLOOR", "ceil": "CEIL", "round-up": "RCEIL", "even": "EVEN"}


def blocks():
    """Blocks of 32: greatest magnitudes of many significands and exponents, and smaller ones at and next to ties."""
    significands = np.array([1, 1.25, 1.5, 1.75, 1.8125, 1.875, 1.9375, 1.96875, 1.999], "f4")
    greatest = (significands[:, None] * 2.0 ** np.arange(-30, 31, 5, dtype="f4")).ravel().astype("f4")
    parts = np.concatenate([[1], np.arange(1, 24) / 32, 2.0 ** -np.arange(3, 11)]).astype("f4")
    signs = np.where(np.arange(32) % 3 == 1, -1, 1).astype("f4")
    made = greatest[:, None] * parts * signs
    return np.concatenate([made, np.nextafter(made, np.float32(0)), np.zeros((1, 32), "f4")]).astype("f4")


def record_blocks() -> None:
    import torch
    from torchao.prototype.mx_formats.mx_tensor import ScaleCalculationMode, to_mx

    cases, x = [], torch.tensor(blocks())
    for ours, theirs in FORMATS.items():
        for scales, mode in SCALES.items():
            scale, codes = to_mx(x, getattr(torch, theirs), 32, ScaleCalculationMode[mode])
            made = {"scale": scale, "codes": codes}
            cases.append({"format": ours, "scales": scales, **{of: one.view(torch.uint8).numpy().tobytes().hex() for of, one in made.items()}})
    version = importlib.metadata.version("torchao")
    path = pathlib.Path(__file__).parent / "blocks" / "torchao.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"package": "torchao", "version": version, "cases": cases}))
    print(f"blocks: torchao {version}, {len(cases)} cases")


def main(names: list[str]) -> None:
    if "blocks" in names:
        names.remove("blocks")
        record_blocks()
        if not names:
            return
    for name in names or PACKAGES:
        distribution, quantise = PACKAGES[name]
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            print(f"{name}: {distribution} is not installed")
            continue
        cases = []
        for grid in GRIDS:
            x = elements(*grid)
            g = upstream(x.size)
            with np.errstate(all="ignore"):
                made = quantise(x, g, *grid)
            if made is not None:
                cases.append({"grid": grid, **{of: bits.astype(bits.dtype.newbyteorder("<")).tobytes().hex() for of, bits in made.items()}})
        path = pathlib.Path(__file__).parent / f"{name}.json"
        path.write_text(json.dumps({"package": distribution, "version": version, "cases": cases}))
        print(f"{name}: {distribution} {version}, {len(cases)} cases")


if __name__ == "__main__":
    main(sys.argv[1:])
