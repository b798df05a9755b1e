"""tanh, the logistic function, soft caps and softmax of torch tensors, with their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from . import _core
from ._norms import Axis, axes_of
from ._torch_operators import check, plain


class _FromResult(torch.autograd.Function):
    """A function whose gradient is computed from its result. ``forward`` writes y of x, ``backward`` the gradient of y and g."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Callable[..., None], backward: Callable[..., None]) -> Tensor:
        x = plain(x)
        y = torch.empty_like(x)
        forward(x, y)
        ctx.save_for_backward(y)
        ctx.gradient = backward
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        y, g = plain(ctx.saved_tensors[0]), plain(g)
        gx = torch.empty_like(y)
        ctx.gradient(y, g, gx)
        return gx, None, None


def _recorded(x: Tensor, forward: Callable[..., None], backward: Callable[..., None]) -> Tensor:
    check(x)
    y: Tensor = _FromResult.apply(x, forward, backward)
    return y


def softmax(x: Tensor, dim: Axis) -> Tensor:
    """``torch.softmax``, along some dimensions or all (None), with the same bits for any order and on every machine: see `wgclip.softmax`.

    >>> import torch, wgclip.torch
    >>> x = torch.tensor([0.0, 0.0, -torch.inf], requires_grad=True)
    >>> y = wgclip.torch.softmax(x, dim=-1)
    >>> y.detach()
    tensor([0.5000, 0.5000, 0.0000])
    >>> torch.autograd.grad(y[0], x)
    (tensor([ 0.2500, -0.2500,  0.0000]),)

    The gradient has no gradient of its own.

    Raises as `tanh`; ``ValueError`` for an invalid dimension.
    """
    axes = axes_of(dim)
    return _recorded(
        x,
        lambda x, y: _core.softmax(x, axes, y),
        lambda y, g, gx: _core.softmax_backward(y, g, axes, gx),
    )


def tanh(x: Tensor) -> Tensor:
    """``torch.tanh``, but the real value rounded once, and its gradient ``g * (1 - y**2)`` too: the same bits on every machine and for every length.

    >>> import torch, wgclip.torch
    >>> x = torch.tensor([-20.0, 0.5], requires_grad=True)
    >>> wgclip.torch.tanh(x).sum().backward()
    >>> x.grad
    tensor([0.0000, 0.7864])

    The gradient has no gradient of its own.

    Raises as `clip`; ``TypeError`` for integers and float64.
    """
    return _apply("tanh", x)


def sigmoid(x: Tensor) -> Tensor:
    """``torch.sigmoid``, but the real value rounded once, and its gradient ``g * y * (1 - y)`` too: the same bits on every machine and for every length.

    >>> import torch, wgclip.torch
    >>> x = torch.tensor([-110.0, 0.0], requires_grad=True)
    >>> wgclip.torch.sigmoid(x).sum().backward()
    >>> x.grad
    tensor([0.0000, 0.2500])

    The gradient has no gradient of its own.

    Raises as `clip`; ``TypeError`` for integers and float64.
    """
    return _apply("sigmoid", x)


def soft_cap(x: Tensor, cap: float) -> Tensor:
    """``cap * torch.tanh(x / cap)``, as language models cap attention scores and logits, in one pass and with one gradient: see `wgclip.soft_cap`.

    >>> import torch, wgclip.torch
    >>> wgclip.torch.soft_cap(torch.tensor([-1e9, 40.0]), 30)
    tensor([-30.0000,  26.1019])

    The gradient has no gradient of its own.

    Raises as `tanh`; ``ValueError`` for a cap that is not positive and finite.
    """
    return _apply("soft_cap", x, cap)


def _apply(name: str, x: Tensor, *params: float) -> Tensor:
    return _recorded(
        x,
        lambda x, y: _core.run(name, [x], [y], params=list(params)),
        lambda y, g, gx: _core.run(f"{name}_backward", [y, g], [gx], params=list(params)),
    )


class Tanh(nn.Module):
    """`tanh` as a layer: it takes the place of ``torch.nn.Tanh``."""

    def forward(self, x: Tensor) -> Tensor:
        return tanh(x)


class Sigmoid(nn.Module):
    """`sigmoid` as a layer: it takes the place of ``torch.nn.Sigmoid``."""

    def forward(self, x: Tensor) -> Tensor:
        return sigmoid(x)


class Softmax(nn.Module):
    """`softmax` as a layer: it takes the place of ``torch.nn.Softmax``, whose dimension may not be left out here."""

    def __init__(self, dim: Axis) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
