"""wgclip for torch: clip with every rule of its gradient, exact norms, and gradient clipping with torch's own signatures.

Tensors must be on the CPU. The functions are torch operators (``torch.ops.wgclip``), so that autograd, ``torch.compile``, ``vmap`` and FSDP
support them. For a ``DTensor``, which is spread over ranks, use `wgclip.distributed`.
"""
from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
import torch.autograd.forward_ad as _forward_mode
from torch import Tensor, nn

from . import _core
from ._arrays import bound
from ._core import BackwardRule
from ._elementwise import rule_text
from ._norms import NonFinite, Ord
from ._torch_activations import Sigmoid, Softmax, Tanh, sigmoid, soft_cap, softmax, tanh
from ._torch_gradients import clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm
from ._torch_modules import FakeQuantize, LearnedFakeQuantize
from ._torch_quantize import fake_quantize
from ._torch_operators import (
    check,
    clip_backward_cpu,
    clip_cpu,
    clip_tensor_backward_cpu,
    clip_tensor_cpu,
    from_numpy,
    side_of,
    to_numpy,
)

__all__ = [
    "Clip",
    "FakeQuantize",
    "LearnedClip",
    "LearnedFakeQuantize",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "clip",
    "clip_",
    "clip_by_norm",
    "clip_grad_norm_",
    "clip_grad_value_",
    "clip_grads_with_norm_",
    "fake_quantize",
    "get_total_norm",
    "sigmoid",
    "soft_cap",
    "softmax",
    "tanh",
]

Bound: TypeAlias = float | Tensor | None

_TORCH = rule_text("torch")
#: The rule of torch.clamp with tensor bounds: a minimum of a maximum, each of which gives both operands half of a tie.
_TORCH_TENSORS = "masked/half/pass"


class _Clip(torch.autograd.Function):
    """Clip and its gradient without torch's dispatcher, which costs more than a small clip."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, min: Any, max: Any, rule: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.arguments = min, max, rule
        return clip_cpu(x, min, max, rule)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        # With create_graph the gradient has a gradient.
        plain = _is_plain(g) and not torch.is_grad_enabled()
        run = clip_backward_cpu if plain else torch.ops.wgclip.clip_backward
        return run(x, g, *ctx.arguments), None, None, None


class _ClipTensor(torch.autograd.Function):
    """The same if one of the bounds is a tensor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, min: Any, max: Any, min_number: Any, max_number: Any, rule: str) -> Tensor:
        ctx.save_for_backward(x, min, max)
        ctx.arguments = min_number, max_number, rule
        return clip_tensor_cpu(x, min, max, min_number, max_number, rule)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, min, max = ctx.saved_tensors
        needs = list(ctx.needs_input_grad[:3])
        plain = _is_plain(g) and not torch.is_grad_enabled()
        run: Any = clip_tensor_backward_cpu if plain else torch.ops.wgclip.clip_tensor_backward
        made = run(x, g, min, max, *ctx.arguments, needs)
        return *(of if need else None for of, need in zip(made, needs)), None, None, None


def _is_plain(x: Tensor) -> bool:
    """Whether only autograd tracks operations on a tensor: no compiler, no transformation, no mode, no subclass."""
    return (
        type(x) in (Tensor, nn.Parameter)
        and not torch.compiler.is_compiling()
        and _dispatch_modes() == 0
        and _function_modes() == 0
        and _transformation() is None
        and _tracing() is None
        and not _batched(x)
    )


# The state that torch checks before it calls an operator. If a version does not expose it, use the dispatcher.
try:
    _dispatch_modes = torch._C._len_torch_dispatch_stack
    _function_modes = torch._C._len_torch_function_stack
    _transformation = torch._C._functorch.peek_interpreter_stack
    _batched = torch._C._functorch.is_legacy_batchedtensor
    _tracing = torch._C._get_tracing_state
except AttributeError:
    _dispatch_modes = lambda: "unknown"  # noqa: E731


def clip(
    x: Tensor, min: Bound = None, max: Bound = None, *, rule: BackwardRule | str | None = None
) -> Tensor:
    """Clips the elements of x, like ``torch.clamp``, with a gradient by any rule, by default torch's own, which gives x no gradient
    at a bound that is a number, and half of the gradient at one that is a tensor.

    A bound is None, a number, or a tensor that broadcasts to x (another type is rounded to that of x). A tensor gets a gradient if it requires one: the exact sum
    over the elements that it broadcasts to.

    >>> import torch, wgclip.torch
    >>> x = torch.tensor([-1.0, 0.5, 2.0], requires_grad=True)
    >>> wgclip.torch.clip(x, 0, 1, rule="burn").sum().backward()
    >>> x.grad
    tensor([0., 1., 0.])

    Raises as `wgclip.clip`, and ``ValueError`` for a tensor that is not on the CPU.
    """
    check(x)
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        rule = _TORCH_TENSORS if rule is None else rule_text(rule)
        min, max = _of_type(x, min, "min"), _of_type(x, max, "max")
        tensors = [side if isinstance(side, Tensor) else None for side in (min, max)]
        _check_sides(x, tensors)
        numbers = [None if isinstance(side, Tensor) else side for side in (min, max)]
        if not (x.is_cpu and _is_plain(x) and all(side is None or _is_plain(side) for side in tensors)):
            return torch.ops.wgclip.clip_tensor(x, *tensors, *numbers, rule)
        return _ClipTensor.apply(x, *tensors, *numbers, rule)
    rule = _TORCH if rule is None else rule_text(rule)
    if _forward_mode._current_level >= 0:
        _check_tangents(x)
    if not (x.is_cpu and _is_plain(x)):
        return torch.ops.wgclip.clip(x, min, max, rule)
    if x.requires_grad and torch.is_grad_enabled():
        return _Clip.apply(x, min, max, rule)
    return clip_cpu(x, min, max, rule)


def _of_type(x: Tensor, side: Any, name: Literal["min", "max"]) -> Any:
    """A bound converted to the type of x: rounded like a number, and with its gradient if it has one."""
    if not isinstance(side, Tensor) or side.dtype == x.dtype or not (side.is_cpu and x.is_cpu):
        return side
    if side.requires_grad or not _is_plain(side):
        return side.to(x.dtype) if side.is_floating_point() and x.is_floating_point() else side
    check(side)
    array = bound(to_numpy(side).reshape(-1), to_numpy(x.detach()[..., :0] if x.ndim else x.detach()).dtype, name)
    return from_numpy(array).reshape(side.shape)


def _check_sides(x: Tensor, sides: list[Tensor | None]) -> None:
    """Refuses bounds of another type or device, and tensors with a tangent."""
    for side in sides:
        if side is None:
            continue
        check(side)
        if side.dtype != x.dtype:
            raise TypeError(f"a bound of {side.dtype} does not go with elements of {x.dtype}: give both the same type")
        if side.device != x.device:
            raise ValueError(f"a bound on {side.device} does not go with elements on {x.device}: give both the same device")
        _check_tangents(side)
    _check_tangents(x)


def _check_tangents(x: Tensor) -> None:
    """Refuses forward-mode derivatives, which torch would drop silently."""
    if _forward_mode._current_level >= 0 and _forward_mode.unpack_dual(x).tangent is not None:
        raise NotImplementedError("there are no derivatives in forward mode here: use those in backward mode")


def clip_(x: Tensor, min: Bound = None, max: Bound = None) -> Tensor:
    """Clips the elements of x in place, as ``torch.clamp_`` does, of a tensor that needs no gradient. Autograd notices that it changed.

    Raises as `clip`, and ``RuntimeError`` for a tensor that requires a gradient, unless under ``torch.no_grad``.
    """
    check(x)
    if x.requires_grad and torch.is_grad_enabled():
        raise RuntimeError("a tensor that requires a gradient is not clipped in place: use clip, or torch.no_grad()")
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        sides = [side if isinstance(side, Tensor) else None for side in (min, max)]
        _check_sides(x, sides)
        min, max = (side_of(x, tensor, side) for tensor, side in zip(sides, (min, max)))
    else:
        _check_tangents(x)
    if not (_is_plain(x) and x.is_contiguous()) or x.is_neg():
        return x.copy_(clip(x.detach(), min, max))
    _core.clip(x, min, max, x)
    torch.autograd.graph.increment_version(x)
    return x


def clip_by_norm(
    x: Tensor,
    max_norm: float,
    dim: int | list[int] | tuple[int, ...] | None = None,
    *,
    ord: Ord = 2,
    eps: float = 0.0,
    nonfinite: NonFinite = "propagate",
) -> Tensor:
    """Scales x down so that its 2-norm, or that of each slice along ``dim``, is at most ``max_norm``. Differentiable.

    Raises as `wgclip.clip_by_norm`; ``ValueError`` for another norm.
    """
    check(x)
    _check_tangents(x)
    if ord != 2:
        raise ValueError("tensors of torch are clipped by the 2-norm, which has a gradient")
    along = None if dim is None else [dim] if isinstance(dim, int) else list(dim)
    return torch.ops.wgclip.clip_by_norm(x, float(max_norm), along, eps, nonfinite)


class Clip(nn.Module):
    """A layer that clips its input.

    >>> import torch, wgclip.torch
    >>> layer = wgclip.torch.Clip(0, 6, rule="hardtanh")
    >>> layer(torch.tensor([-1.0, 3.0, 9.0]))
    tensor([0., 3., 6.])
    """

    def __init__(
        self, min: float | None = None, max: float | None = None, *, rule: BackwardRule | str = "torch"
    ) -> None:
        super().__init__()
        self.min, self.max, self.rule = min, max, rule_text(rule)

    def forward(self, x: Tensor) -> Tensor:
        return clip(x, self.min, self.max, rule=self.rule)

    def extra_repr(self) -> str:
        return f"{self.min}, {self.max}, rule={self.rule!r}"


class LearnedClip(nn.Module):
    """A layer that clips between learned bounds (PACT): each a parameter of the given shape, or None.

    A bound receives the gradient of the elements that it clips, and of those equal to it.
    """

    def __init__(
        self,
        min: float | Tensor | None = None,
        max: float | Tensor | None = None,
        *,
        rule: BackwardRule | str = "masked/exclusive/pass",
    ) -> None:
        super().__init__()
        for name, side in (("min", min), ("max", max)):
            made = None if side is None else nn.Parameter(torch.as_tensor(side, dtype=None if isinstance(side, Tensor) else torch.get_default_dtype()).detach().clone())
            self.register_parameter(name, made)
        self.rule = rule_text(rule)

    def forward(self, x: Tensor) -> Tensor:
        sides = (None if side is None else side.to(x.dtype) for side in (self.min, self.max))
        return clip(x, *sides, rule=self.rule)
