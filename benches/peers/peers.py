"""Times torch, numpy, jax, tensorflow and cupy, those that are installed, for the program next to it.

Each line of stdin is a JSON request of one engine, operation, type and size, to be done so many times; each answer is the
nanoseconds that took, or null where the engine has no such thing. The first line of stdout tells the engines' versions.
Every engine goes its fastest documented way: results in place where it has that, compiled where it has that, and a wait
for the result where it runs on by itself.
"""

import importlib
import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
THREADS = int(os.environ.get("RAYON_NUM_THREADS") or os.cpu_count())


def load(name):
    try:
        return importlib.import_module(name)
    except Exception:  # not installed, or not for this machine
        return None


np, torch, jax, tf, cupy = map(load, ["numpy", "torch", "jax", "tensorflow", "cupy"])
if torch:
    torch.set_num_threads(THREADS)
if jax:
    jax.config.update("jax_enable_x64", True)


def is_float(kind):
    return kind.startswith(("f", "bf"))


def bounds(kind):
    return (0.0, 1.0) if is_float(kind) else (30, 90)


def values(kind, elements):
    """As the harness has them: a quarter below the bounds, a quarter above."""
    rng = np.random.default_rng(7)
    period = rng.random(1 << 14) * 2 - 0.5 if is_float(kind) else rng.integers(0, 120, 1 << 14)
    return np.resize(period, elements)


TORCH = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "f64": "float64", "i8": "int8", "u8": "uint8",
         "i16": "int16", "i32": "int32", "i64": "int64"}
NUMPY = TORCH | {"u16": "uint16", "u32": "uint32", "u64": "uint64"}
del NUMPY["bf16"]


def torch_on(device):
    def make(op, kind, elements):
        lo, hi = bounds(kind)
        x = torch.from_numpy(values(kind, elements)).to(getattr(torch, TORCH[kind])).to(device)
        wait = torch.cuda.synchronize if device == "cuda" else lambda: None
        if op == "clip":
            y = torch.empty_like(x)
            return lambda: torch.clamp(x, lo, hi, out=y), wait
        if op == "clip_in_place":
            return lambda: x.clamp_(lo, hi), wait
        if op == "copy_buffer":
            y = torch.empty_like(x)
            return lambda: y.copy_(x), wait
        if op == "sum":
            return lambda: x.sum(), wait
        if op == "norm":
            return lambda: torch.linalg.vector_norm(x), wait
        if op == "norm_of_columns":
            rows = x.view(-1, 1024)
            return lambda: torch.linalg.vector_norm(rows, dim=0), wait
        if op == "clip_by_global_norm":
            tensors = [torch.nn.Parameter(torch.zeros_like(part)) for part in x.chunk(128)]
            for tensor, part in zip(tensors, x.chunk(128)):
                tensor.grad = part.clone()
            limit = [0.9 * float(x.double().norm())]

            def step():
                # A little lower each time, so that there is something to do.
                limit[0] *= 0.999
                torch.nn.utils.clip_grad_norm_(tensors, limit[0])
            return step, wait
        if op == "bound_grad":
            hi = torch.ones(1, dtype=x.dtype, device=device, requires_grad=True)

            def learned():
                y = torch.clamp(x, max=hi)
                torch.autograd.grad(y, hi, y.detach())
            return learned, wait
        if op == "clip_backward" and is_float(kind):
            x.requires_grad_()
            y, g = x.clamp(lo, hi), torch.full_like(x, 3.0)
            return lambda: torch.autograd.grad(y, x, g, retain_graph=True), wait
    return make


def numpy_(op, kind, elements):
    lo, hi = bounds(kind)
    x = values(kind, elements).astype(NUMPY[kind])
    if op == "clip":
        y = np.empty_like(x)
        return lambda: np.clip(x, lo, hi, out=y), lambda: None
    if op == "clip_in_place":
        return lambda: np.clip(x, lo, hi, out=x), lambda: None
    if op in ("sum", "norm"):
        return (lambda: x.sum()) if op == "sum" else (lambda: np.linalg.norm(x)), lambda: None
    if op == "norm_of_columns":
        return lambda: np.linalg.norm(x.reshape(-1, 1024), axis=0), lambda: None


def jax_(op, kind, elements):
    jnp = jax.numpy
    lo, hi = bounds(kind)
    x = jnp.asarray(values(kind, elements)).astype(TORCH[kind])
    if op == "clip":
        clip = jax.jit(lambda x: jnp.clip(x, lo, hi))
        return lambda: clip(x).block_until_ready(), lambda: None
    if op in ("sum", "norm", "norm_of_columns"):
        rows = x.reshape(-1, 1024) if op == "norm_of_columns" else x
        reduce = {"sum": jnp.sum, "norm": jnp.linalg.norm}.get(op, lambda x: jnp.linalg.norm(x, axis=0))
        reduce = jax.jit(reduce)
        return lambda: reduce(rows).block_until_ready(), lambda: None
    if op == "clip_backward" and is_float(kind):
        back = jax.jit(lambda x, g: jax.vjp(lambda x: jnp.clip(x, lo, hi), x)[1](g)[0])
        g = jnp.full_like(x, 3)
        return lambda: back(x, g).block_until_ready(), lambda: None


def tensorflow_(op, kind, elements):
    lo, hi = bounds(kind)
    x = tf.cast(tf.constant(values(kind, elements)), TORCH[kind])
    if op == "clip":
        clip = tf.function(lambda x: tf.clip_by_value(x, lo, hi))
        return lambda: clip(x), lambda: None


def cupy_(op, kind, elements):
    lo, hi = bounds(kind)
    x = cupy.asarray(values(kind, elements).astype(NUMPY[kind]))
    if op in ("clip", "copy_buffer"):
        y = cupy.empty_like(x)
        run = (lambda: cupy.clip(x, lo, hi, out=y)) if op == "clip" else (lambda: cupy.copyto(y, x))
        return run, cupy.cuda.Device().synchronize


ENGINES = {}
if np:
    ENGINES["numpy"] = (np.__version__, numpy_)
if np and torch:
    ENGINES["torch"] = (torch.__version__, torch_on("cpu"))
    if torch.cuda.is_available():
        ENGINES["torch_cuda"] = (torch.__version__, torch_on("cuda"))
if np and jax:
    ENGINES["jax"] = (jax.__version__, jax_)
if np and tf:
    ENGINES["tensorflow"] = (tf.__version__, tensorflow_)
if np and cupy:
    ENGINES["cupy"] = (cupy.__version__, cupy_)

made, made_for = {}, None


def answer(engine, op, kind, elements, times):
    global made_for
    if made_for != (op, kind, elements):
        made.clear()
        made_for = (op, kind, elements)
    if engine not in made:
        try:
            made[engine] = ENGINES[engine][1](op, kind, elements)
        except KeyError:  # no such type
            made[engine] = None
    if made[engine] is None:
        return None
    run, wait = made[engine]
    wait()
    start = time.perf_counter_ns()
    for _ in range(times):
        run()
    wait()
    return time.perf_counter_ns() - start


print(json.dumps({name: version for name, (version, _) in ENGINES.items()}), flush=True)
for line in sys.stdin:
    print(json.dumps(answer(**json.loads(line))), flush=True)
