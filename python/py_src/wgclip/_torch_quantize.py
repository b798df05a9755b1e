"""Fake quantisation of torch tensors, with gradients of x, scale and zero point."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import _core
from ._core import QuantRule
from ._elementwise import quant_rule
from ._torch_operators import check, plain, side_of


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Any, zero_point: Any, rule: QuantRule) -> Tensor:
        tensors = [of if isinstance(of, Tensor) else None for of in (scale, zero_point)]
        ctx.save_for_backward(x, *tensors)
        ctx.numbers = [None if isinstance(of, Tensor) else of for of in (scale, zero_point)]
        ctx.rule = rule
        x = plain(x)
        y = torch.empty_like(x)
        _core.run("fake_quantize", [x], [y], [side_of(x, *of) for of in zip(tensors, ctx.numbers)], rule)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        x, *tensors = ctx.saved_tensors
        x, g = plain(x), plain(g)
        sides = [side_of(x, *of) for of in zip(tensors, ctx.numbers)]
        gradients = [torch.empty_like(x)]
        gradients += [torch.empty_like(of, memory_format=torch.contiguous_format) if of is not None else x.new_empty(()) for of in tensors]
        needs = ctx.needs_input_grad[:3]
        outputs = [gradients[0]] + [
            None if not need else of.reshape(1) if tensor is not None and of.ndim == 0 and x.ndim else of
            for of, tensor, need in zip(gradients[1:], tensors, needs[1:])
        ]
        _core.run("fake_quantize_backward", [x, g], outputs, sides, ctx.rule)
        return *(of if need else None for of, need in zip(gradients, needs)), None


def fake_quantize(
    x: Tensor,
    scale: float | Tensor,
    zero_point: float | Tensor = 0,
    quant_min: int | None = None,
    quant_max: int | None = None,
    *,
    axis: int | None = None,
    rule: QuantRule | str = "torch",
) -> Tensor:
    """Rounds x to the values of codes, like ``torch.fake_quantize_per_tensor_affine``, with gradients of the scale and the zero point too.

    ``scale`` and ``zero_point`` are numbers, or tensors that broadcast to x; with ``axis`` they have one element for each index along it, as in
    ``torch.fake_quantize_per_channel_affine``. They are rounded to the type of x. ``rule`` is a `wgclip.QuantRule`, or the name of a package; without
    ``quant_min`` and ``quant_max`` the codes are its own.

    >>> import torch, wgclip.torch
    >>> x, scale = torch.tensor([0.3, 200.0], requires_grad=True), torch.tensor(1.0, requires_grad=True)
    >>> wgclip.torch.fake_quantize(x, scale).sum().backward()
    >>> x.grad, scale.grad
    (tensor([1., 0.]), tensor(126.7000))

    The gradient has no gradient of its own.

    Raises as `clip`; ``ValueError`` for codes that 16 bits cannot tell apart.
    """
    check(x)
    of = quant_rule(rule)
    if quant_min is not None or quant_max is not None:
        of = of.range(of.min if quant_min is None else quant_min, of.max if quant_max is None else quant_max)
    return _FakeQuantize.apply(x, _along(x, scale, axis), _along(x, zero_point, axis), of)


def _along(x: Tensor, of: Any, axis: int | None) -> Any:
    """A number, or a tensor of the type of x that broadcasts to it."""
    if not isinstance(of, Tensor):
        return of
    check(of)
    of = of.to(x.dtype)
    if axis is None or of.ndim == 0:
        return of
    shape = [1] * x.ndim
    shape[axis] = -1
    return of.reshape(shape)
