"""The operators of `wgclip.torch` (``torch.ops.wgclip``): their CPU and shape (meta) implementations, and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import _core
from ._arrays import dtype_of

_lib = torch.library.Library("wgclip", "DEF")
_lib.define("clip(Tensor x, Scalar? min, Scalar? max, str rule) -> Tensor")
_lib.define("clip_backward(Tensor x, Tensor g, Scalar? min, Scalar? max, str rule) -> Tensor")
# A bound is a tensor or a number.
_lib.define(
    "clip_tensor(Tensor x, Tensor? min, Tensor? max, Scalar? min_number, Scalar? max_number, str rule) -> Tensor"
)
_lib.define(
    "clip_tensor_backward(Tensor x, Tensor g, Tensor? min, Tensor? max, Scalar? min_number, Scalar? max_number,"
    " str rule, bool[] needs) -> (Tensor, Tensor, Tensor)"
)
_lib.define("clip_by_norm(Tensor x, float max_norm, int[]? dim, float eps, str nonfinite) -> Tensor")
_lib.define(
    "clip_by_norm_backward(Tensor x, Tensor g, float max_norm, int[]? dim, float eps, str nonfinite) -> Tensor"
)


def check(x: Tensor) -> None:
    if not (x.is_cpu or x.is_meta):
        raise ValueError(
            f"this tensor is on {x.device}; wgclip for Python works on CPU tensors: copy it to the CPU first, x.cpu()"
        )
    if x.layout is not torch.strided:
        raise TypeError(f"a tensor of layout {x.layout} is not clipped here: give x.to_dense()")


def plain(x: Tensor) -> Tensor:
    """The elements as the compiled part accepts them: DLPack would lose torch's negative bit."""
    if x.is_neg():
        x = x.resolve_neg()
    return x.contiguous()


#: Types that numpy has only through ml_dtypes, with the torch integers that have the same bits.
_SHORT = {
    torch.bfloat16: (torch.int16, "bfloat16"),
    torch.float8_e4m3fn: (torch.uint8, "float8_e4m3fn"),
    torch.float8_e5m2: (torch.uint8, "float8_e5m2"),
}


def to_numpy(x: Tensor) -> Any:
    """The elements of a tensor as an array, without its gradient."""
    check(x)
    if x.is_meta:
        raise BufferError("a tensor of the device meta has no elements: give one on the CPU")
    x = plain(x.detach())
    if x.dtype not in _SHORT:
        return x.numpy()
    bits, name = _SHORT[x.dtype]
    return x.view(bits).numpy().view(dtype_of(name))


def from_numpy(array: Any) -> Tensor:
    """A tensor that shares the memory of an array."""
    for dtype, (bits, name) in _SHORT.items():
        if array.dtype.name == name:
            return torch.from_numpy(array.view(np.int16 if bits is torch.int16 else np.uint8)).view(dtype)
    return torch.from_numpy(array)


def lie(x: Tensor) -> Tensor:
    """The elements of a tensor without gaps, in memory order."""
    return x.as_strided((x.numel(),), (1,))


def clip_cpu(x: Tensor, min: Any, max: Any, rule: str) -> Tensor:
    # Has the strides of x, unless these have gaps.
    y = torch.empty_like(x)
    if x.is_neg():
        x = x.resolve_neg()
    if x.is_contiguous():
        _core.clip(x, min, max, y)
    elif x.stride() == y.stride():
        _core.clip(lie(x), min, max, lie(y))
    else:
        made = x.contiguous()
        _core.clip(made, min, max, made)
        y.copy_(made)
    return y


def clip_backward_cpu(x: Tensor, g: Tensor, min: Any, max: Any, rule: str) -> Tensor:
    x, g = plain(x), plain(g)
    gx = torch.empty_like(g)
    _core.run("clip_backward", [x, g], [gx], [min, max], rule)
    return gx


def side_of(x: Tensor, tensor: Tensor | None, number: Any) -> Any:
    """A bound as the compiled part accepts it. A 0-d tensor stays an array, in which NaN is not an error."""
    if tensor is None:
        return number
    return plain(tensor.reshape(1) if tensor.ndim == 0 and x.ndim else tensor)


def clip_tensor_cpu(
    x: Tensor, min: Tensor | None, max: Tensor | None, min_number: Any, max_number: Any, rule: str
) -> Tensor:
    x = plain(x)
    y = torch.empty_like(x)
    _core.clip(x, side_of(x, min, min_number), side_of(x, max, max_number), y)
    return y


def clip_tensor_backward_cpu(
    x: Tensor,
    g: Tensor,
    min: Tensor | None,
    max: Tensor | None,
    min_number: Any,
    max_number: Any,
    rule: str,
    needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    x, g = plain(x), plain(g)
    lo, hi = side_of(x, min, min_number), side_of(x, max, max_number)
    made = _clip_tensor_backward_fake(x, g, min, max, min_number, max_number, rule, needs)
    gx, gmin, gmax = (of if need else None for of, need in zip(made, needs))
    gmin, gmax = (
        of.reshape(1) if of is not None and of.ndim == 0 and x.ndim else of for of in (gmin, gmax)
    )
    _core.run("clip_backward_bounds", [x, g], [gx, gmin, gmax], [lo, hi], rule)
    return made


def _clip_tensor_backward_fake(
    x: Tensor,
    g: Tensor,
    min: Tensor | None,
    max: Tensor | None,
    min_number: Any,
    max_number: Any,
    rule: str,
    needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    made = (
        torch.empty_like(of, memory_format=torch.contiguous_format) if need and of is not None else x.new_empty(0)
        for of, need in zip((x, min, max), needs)
    )
    gx, gmin, gmax = made
    return gx, gmin, gmax


def _clip_by_norm_cpu(x: Tensor, max_norm: float, dim: list[int] | None, eps: float, nonfinite: str) -> Tensor:
    x = plain(x)
    y = torch.empty_like(x)
    _core.clip_by_norm(x, dim, (max_norm, 2, eps, nonfinite), False, y)
    return y


def _clip_by_norm_backward_cpu(
    x: Tensor, g: Tensor, max_norm: float, dim: list[int] | None, eps: float, nonfinite: str
) -> Tensor:
    x, g = plain(x), plain(g)
    gx = torch.empty_like(x)
    _core.clip_by_norm_backward(x, g, dim, (max_norm, 2, eps, nonfinite), gx)
    return gx


def _like(x: Tensor, *_: object) -> Tensor:
    return torch.empty_like(x)


def _plain_like(x: Tensor, *_: object) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: tuple[Any, ...], output: object) -> None:
    x, *ctx.arguments = inputs
    ctx.save_for_backward(x)


def _clip_autograd(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    (x,) = ctx.saved_tensors
    return torch.ops.wgclip.clip_backward(x, g, *ctx.arguments), None, None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: object) -> None:
    x, _, *ctx.arguments = inputs
    ctx.save_for_backward(x)


def _clip_double_autograd(ctx: Any, gg: Tensor) -> tuple[Any, ...]:
    (x,) = ctx.saved_tensors
    if ctx.arguments[2].startswith("toward"):
        raise NotImplementedError("the rule 'toward' has no second derivative: its gradient jumps with the sign of g")
    return None, torch.ops.wgclip.clip_backward(x, gg, *ctx.arguments), None, None, None


def _save_tensors(ctx: Any, inputs: tuple[Any, ...], output: object) -> None:
    x, min, max, *ctx.arguments = inputs
    ctx.save_for_backward(x, min, max)


def _clip_tensor_autograd(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    x, min, max = ctx.saved_tensors
    needs = list(ctx.needs_input_grad[:3])
    made = torch.ops.wgclip.clip_tensor_backward(x, g, min, max, *ctx.arguments, needs)
    return *(of if need else None for of, need in zip(made, needs)), None, None, None


def _save_nothing(ctx: Any, inputs: tuple[Any, ...], output: object) -> None:
    pass


def _no_second(ctx: Any, *gradients: Tensor) -> Any:
    raise NotImplementedError(
        "this gradient has no gradient of its own: only a clip between bounds that are numbers is derived twice"
    )


def _clip_by_norm_autograd(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    (x,) = ctx.saved_tensors
    return torch.ops.wgclip.clip_by_norm_backward(x, g, *ctx.arguments), None, None, None, None


for _name, _cpu, _fake in (
    ("clip", clip_cpu, _like),
    ("clip_backward", clip_backward_cpu, _plain_like),
    ("clip_tensor", clip_tensor_cpu, _plain_like),
    ("clip_tensor_backward", clip_tensor_backward_cpu, _clip_tensor_backward_fake),
    ("clip_by_norm", _clip_by_norm_cpu, _plain_like),
    ("clip_by_norm_backward", _clip_by_norm_backward_cpu, _plain_like),
):
    _lib.impl(_name, _cpu, "CPU")
    torch.library.register_fake(f"wgclip::{_name}", _fake, lib=_lib)
for _name, _autograd, _saved in (
    ("clip", _clip_autograd, _save),
    ("clip_backward", _clip_double_autograd, _save_backward),
    ("clip_tensor", _clip_tensor_autograd, _save_tensors),
    ("clip_tensor_backward", _no_second, _save_nothing),
    ("clip_by_norm", _clip_by_norm_autograd, _save),
    ("clip_by_norm_backward", _no_second, _save_nothing),
):
    torch.library.register_autograd(f"wgclip::{_name}", _autograd, setup_context=_saved, lib=_lib)


@torch.library.register_vmap("wgclip::clip", lib=_lib)
def _clip_vmap(info: Any, batched: tuple[int | None, ...], x: Tensor, *arguments: Any) -> tuple[Tensor, int | None]:
    return torch.ops.wgclip.clip(x, *arguments), batched[0]


@torch.library.register_vmap("wgclip::clip_backward", lib=_lib)
def _clip_backward_vmap(
    info: Any, batched: tuple[int | None, ...], x: Tensor, g: Tensor, *arguments: Any
) -> tuple[Tensor, int]:
    size = info.batch_size
    x, g = (
        of.expand(size, *of.shape) if at is None else of.movedim(at, 0) for of, at in zip((x, g), batched)
    )
    return torch.ops.wgclip.clip_backward(x, g, *arguments), 0
