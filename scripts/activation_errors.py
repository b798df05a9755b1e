"""How far tanh, sigmoid and softmax of f32 are from the real value, in other packages and here.

    python scripts/activation_errors.py [--step N] [--json FILE]

Every N-th f32 is tried, and each package that is installed: numpy, torch, onnxruntime (with onnx), tensorflow, openvino, jax, wgclip (also a GPU, by the name that --device
gives). Softmax is that of rows of 1,024 normal numbers of three spreads. float64 stands for the real value: its errors are below 2^-28 of an ulp of f32, so the share of results that are not nearest is right to about that. The error is
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


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def packages(device: str | None):
    """Each package with its version and, by the name of a function, what applies it to an array."""
    of_numpy = {"tanh": np.tanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "softmax": softmax}
    yield "numpy", np.__version__, lambda name: of_numpy[name]
    try:
        import torch
    except ImportError:
        pass
    else:
        more = {"softmax": {"dim": 1}}
        yield "torch", torch.__version__, lambda name: (lambda x: getattr(torch, name)(torch.from_numpy(x), **more.get(name, {})).numpy())
    try:
        import onnx
        import onnxruntime
        from onnx import TensorProto, helper
    except ImportError:
        pass
    else:

        def session(name: str):
            value = lambda of: helper.make_tensor_value_info(of, TensorProto.FLOAT, [None] * (1 + (name == "softmax")))
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
        yield "tensorflow", tensorflow.__version__, lambda name: (lambda x: getattr(tensorflow.nn, name)(x).numpy())
    try:
        import openvino
    except ImportError:
        pass
    else:

        def compiled(name: str):
            from openvino import opset13 as ops

            rows = name == "softmax"
            x = ops.parameter([-1, -1] if rows else [-1], np.float32)
            model = openvino.Model([getattr(ops, name)(x, *([1] if rows else []))], [x])
            made = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            return lambda x: made(x)[0]

        yield "openvino", openvino.__version__.split("-")[0], compiled
    try:
        import jax
    except ImportError:
        pass
    else:
        of = {"tanh": jax.numpy.tanh, "sigmoid": jax.nn.sigmoid, "softmax": jax.nn.softmax}
        yield "jax", jax.__version__, lambda name: (lambda x: np.asarray(of[name](x)))
    try:
        import wgclip
    except ImportError:
        return
    yield "wgclip", wgclip.__version__, lambda name: getattr(wgclip, name)
    if device is not None:
        on = wgclip.Device(device)
        yield f"wgclip on {on.name}", wgclip.__version__, lambda name: (lambda x: getattr(wgclip, name)(on.tensor(x)).numpy())


def compare(made: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The error of each result in units of the last place, and whether it is not the nearest number."""
    near = real.astype(np.float32)
    unit = np.ldexp(1.0, np.maximum(np.frexp(near.astype(np.float64))[1], -125) - 24)
    error = np.abs(made.astype(np.float64) - real) / unit
    return np.where(np.isnan(error), np.inf, error), made != near


def inputs(name: str, step: int):
    """Arrays of f32: every so many patterns, or rows."""
    if name == "softmax":
        rng = np.random.default_rng(1)
        yield from (rng.normal(0, spread, (1000, 1024)).astype(np.float32) for spread in (1, 6, 30))
        return
    for start in range(0, 0x7F800000, 1 << 28):
        bits = np.arange(start, min(start + (1 << 28), 0x7F800000), step, dtype=np.uint32)
        yield from ((bits | np.uint32(sign)).view(np.float32) for sign in (0, 1 << 31))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--step", type=int, default=127, help="every N-th pattern")
    parser.add_argument("--functions", nargs="+", default=["tanh", "sigmoid", "softmax"])
    parser.add_argument("--device", help="a GPU for wgclip")
    parser.add_argument("--json", help="a file for the results")
    given = parser.parse_args()
    found = []
    for package, version, functions in packages(given.device):
        for name in given.functions:
            apply, real = functions(name), softmax if name == "softmax" else lambda x: wide(name, x)
            worst, at, tried, wrong, beyond = 0.0, 0.0, 0, 0, 0
            for x in inputs(name, given.step):
                with np.errstate(all="ignore"):
                    made = np.asarray(apply(x))
                    error, differs = compare(made, real(x.astype(np.float64)))
                tried += x.size
                wrong += int(differs.sum())
                beyond += int((np.abs(made) > 1).sum())
                first = int(error.argmax())
                if error.flat[first] > worst:
                    worst, at = float(error.flat[first]), float(x.flat[first])
            row = {"package": package, "version": version, "function": name, "ulp": worst, "at": at, "wrong": wrong / tried, "beyond": beyond, "inputs": tried}
            found.append(row)
            print(f"{package} {version}, {name}: {worst:.3f} ulp at {at!r}, {100 * wrong / tried:.3f} % not nearest, {beyond} beyond 1, of {tried}", flush=True)
    if given.json:
        with open(given.json, "w") as file:
            json.dump(found, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
