"""How far tanh and sigmoid of f32 are from the real value, in other packages and here.

    python scripts/activation_errors.py [--step N] [--json FILE]

Every N-th f32 is tried, and each package that is installed: numpy, torch, onnxruntime (with onnx), tensorflow, openvino, jax, wgclip (also a GPU, by the name that --device
gives). float64 stands for the real value: its errors are below 2^-28 of an ulp of f32, so the share of results that are not nearest is right to about that. The error is
in units of the last place of the nearest f32, where subnormal numbers have that of the smallest normal one.
"""

from __future__ import annotations

import argparse
import json

import numpy as np


def wide(name: str, x: np.ndarray) -> np.ndarray:
    """The function in float64, for numbers of float64."""
    if name == "tanh":
        return np.tanh(x)
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def packages(device: str | None):
    """Each package with its version and, by the name of a function, what applies it to an array."""
    yield "numpy", np.__version__, lambda name: (lambda x: np.tanh(x) if name == "tanh" else 1 / (1 + np.exp(-x)))
    try:
        import torch
    except ImportError:
        pass
    else:
        yield "torch", torch.__version__, lambda name: (lambda x: getattr(torch, name)(torch.from_numpy(x)).numpy())
    try:
        import onnx
        import onnxruntime
        from onnx import TensorProto, helper
    except ImportError:
        pass
    else:

        def session(name: str):
            value = lambda of: helper.make_tensor_value_info(of, TensorProto.FLOAT, [None])
            node = helper.make_node(name.capitalize(), ["x"], ["y"])
            graph = helper.make_graph([node], "g", [value("x")], [value("y")])
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
            made = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
            return lambda x: made.run(None, {"x": x})[0]

        yield "onnxruntime", onnxruntime.__version__, session
    try:
        import tensorflow
    except ImportError:
        pass
    else:
        yield "tensorflow", tensorflow.__version__, lambda name: (lambda x: getattr(tensorflow.math, name)(x).numpy())
    try:
        import openvino
    except ImportError:
        pass
    else:

        def compiled(name: str):
            from openvino import opset13 as ops

            x = ops.parameter([-1], np.float32)
            model = openvino.Model([getattr(ops, name)(x)], [x])
            made = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            return lambda x: made(x)[0]

        yield "openvino", openvino.__version__.split("-")[0], compiled
    try:
        import jax
    except ImportError:
        pass
    else:
        of = {"tanh": jax.numpy.tanh, "sigmoid": jax.nn.sigmoid}
        yield "jax", jax.__version__, lambda name: (lambda x: np.asarray(of[name](x)))
    try:
        import wgclip
    except ImportError:
        return
    yield "wgclip", wgclip.__version__, lambda name: getattr(wgclip, name)
    if device is not None:
        on = wgclip.Device(device)
        yield f"wgclip on {on.name}", wgclip.__version__, lambda name: (lambda x: getattr(wgclip, name)(on.tensor(x)).numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--step", type=int, default=127, help="every N-th pattern")
    parser.add_argument("--device", help="a GPU for wgclip")
    parser.add_argument("--json", help="a file for the results")
    given = parser.parse_args()
    found = []
    for package, version, functions in packages(given.device):
        for name in "tanh", "sigmoid":
            apply = functions(name)
            worst, at, tried, wrong, beyond = 0.0, 0.0, 0, 0, 0
            for start in range(0, 0x7F800000, 1 << 28):
                bits = np.arange(start, min(start + (1 << 28), 0x7F800000), given.step, dtype=np.uint32)
                for sign in 0, 1 << 31:
                    x = (bits | np.uint32(sign)).view(np.float32)
                    with np.errstate(all="ignore"):
                        made, real = np.asarray(apply(x)), wide(name, x.astype(np.float64))
                        near = real.astype(np.float32)
                        unit = np.ldexp(1.0, np.maximum(np.frexp(near.astype(np.float64))[1], -125) - 24)
                        error = np.abs(made.astype(np.float64) - real) / unit
                    error = np.where(np.isnan(error), np.inf, error)
                    tried += x.size
                    wrong += int((made != near).sum())
                    beyond += int((np.abs(made) > 1).sum())
                    first = int(error.argmax())
                    if error[first] > worst:
                        worst, at = float(error[first]), float(x[first])
            row = {"package": package, "version": version, "function": name, "ulp": worst, "at": at, "wrong": wrong / tried, "beyond": beyond, "inputs": tried}
            found.append(row)
            print(f"{package} {version}, {name}: {worst:.3f} ulp at {at!r}, {100 * wrong / tried:.3f} % not nearest, {beyond} beyond 1, of {tried}", flush=True)
    if given.json:
        with open(given.json, "w") as file:
            json.dump(found, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
