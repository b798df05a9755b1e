"""wgclip for torch: clip with every rule of its gradient, norms that are exact, and clipping of gradients with torch's own signatures.

Tensors are on the CPU. The functions are operators of torch (``torch.ops.wgclip``), so that autograd, ``torch.compile``, ``vmap`` and FSDP keep
them. A ``DTensor``, whose elements other ranks have too, goes to `wgclip.distributed`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeAlias

import torch
import torch.autograd.forward_ad as _forward_mode
from torch import Tensor, nn

from . import _core
from ._core import BackwardRule
from ._elementwise import rule_text
from ._norms import NonFinite, Ord

Bound: TypeAlias = float | Tensor | None

_lib = torch.library.Library("wgclip", "DEF")
_lib.define("clip(Tensor x, Scalar? min, Scalar? max, str rule) -> Tensor")
_lib.define("clip_backward(Tensor x, Tensor g, Scalar? min, Scalar? max, str rule) -> Tensor")
# A bound is a tensor, or else a number.
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


def _check(x: Tensor) -> None:
    if not (x.is_cpu or x.is_meta):
        raise ValueError(
            f"this tensor is on {x.device}; wgclip for Python works on CPU tensors: copy it to the CPU first, x.cpu()"
        )
    if x.layout is not torch.strided:
        raise TypeError(f"a tensor of layout {x.layout} is not clipped here: give x.to_dense()")


def _plain(x: Tensor) -> Tensor:
    """The elements as the compiled part takes them: DLPack would lose a negative bit."""
    if x.is_neg():
        x = x.resolve_neg()
    return x.contiguous()


def _lie(x: Tensor) -> Tensor:
    """The elements of a tensor without gaps, in the order in which they lie."""
    return x.as_strided((x.numel(),), (1,))


def _clip_cpu(x: Tensor, min: Any, max: Any, rule: str) -> Tensor:
    # It has the strides of x, unless these have gaps.
    y = torch.empty_like(x)
    if x.is_neg():
        x = x.resolve_neg()
    if x.is_contiguous():
        _core.clip(x, min, max, y)
    elif x.stride() == y.stride():
        _core.clip(_lie(x), min, max, _lie(y))
    else:
        made = x.contiguous()
        _core.clip(made, min, max, made)
        y.copy_(made)
    return y


def _clip_backward_cpu(x: Tensor, g: Tensor, min: Any, max: Any, rule: str) -> Tensor:
    x, g = _plain(x), _plain(g)
    gx = torch.empty_like(g)
    _core.clip_backward(x, g, min, max, rule, gx)
    return gx


def _side(x: Tensor, tensor: Tensor | None, number: Any) -> Any:
    """A bound as the compiled part takes it. One without axes stays an array there, whose NaN is no mistake."""
    if tensor is None:
        return number
    return _plain(tensor.reshape(1) if tensor.ndim == 0 and x.ndim else tensor)


def _clip_tensor_cpu(
    x: Tensor, min: Tensor | None, max: Tensor | None, min_number: Any, max_number: Any, rule: str
) -> Tensor:
    x = _plain(x)
    y = torch.empty_like(x)
    _core.clip(x, _side(x, min, min_number), _side(x, max, max_number), y)
    return y


def _clip_tensor_backward_cpu(
    x: Tensor,
    g: Tensor,
    min: Tensor | None,
    max: Tensor | None,
    min_number: Any,
    max_number: Any,
    rule: str,
    needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    x, g = _plain(x), _plain(g)
    lo, hi = _side(x, min, min_number), _side(x, max, max_number)
    made = _clip_tensor_backward_fake(x, g, min, max, min_number, max_number, rule, needs)
    gx, gmin, gmax = (of if need else None for of, need in zip(made, needs))
    gmin, gmax = (
        of.reshape(1) if of is not None and of.ndim == 0 and x.ndim else of for of in (gmin, gmax)
    )
    _core.clip_backward_bounds(x, g, lo, hi, rule, gx, gmin, gmax)
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
    x = _plain(x)
    y = torch.empty_like(x)
    _core.clip_by_norm(x, dim, (max_norm, 2, eps, nonfinite), False, y)
    return y


def _clip_by_norm_backward_cpu(
    x: Tensor, g: Tensor, max_norm: float, dim: list[int] | None, eps: float, nonfinite: str
) -> Tensor:
    x, g = _plain(x), _plain(g)
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
    ("clip", _clip_cpu, _like),
    ("clip_backward", _clip_backward_cpu, _plain_like),
    ("clip_tensor", _clip_tensor_cpu, _plain_like),
    ("clip_tensor_backward", _clip_tensor_backward_cpu, _clip_tensor_backward_fake),
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


_TORCH = rule_text("torch")
#: Of torch.clamp with bounds that are tensors: it is a minimum of a maximum, and these give each operand half of a tie.
_TORCH_TENSORS = "masked/half/pass"


class _Clip(torch.autograd.Function):
    """Clip and its gradient without torch's dispatcher, which costs more than a small clip."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, min: Any, max: Any, rule: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.arguments = min, max, rule
        return _clip_cpu(x, min, max, rule)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        # With create_graph the gradient has a gradient.
        plain = _is_plain(g) and not torch.is_grad_enabled()
        run = _clip_backward_cpu if plain else torch.ops.wgclip.clip_backward
        return run(x, g, *ctx.arguments), None, None, None


class _ClipTensor(torch.autograd.Function):
    """The same between bounds of which one is a tensor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, min: Any, max: Any, min_number: Any, max_number: Any, rule: str) -> Tensor:
        ctx.save_for_backward(x, min, max)
        ctx.arguments = min_number, max_number, rule
        return _clip_tensor_cpu(x, min, max, min_number, max_number, rule)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, min, max = ctx.saved_tensors
        needs = list(ctx.needs_input_grad[:3])
        plain = _is_plain(g) and not torch.is_grad_enabled()
        run: Any = _clip_tensor_backward_cpu if plain else torch.ops.wgclip.clip_tensor_backward
        made = run(x, g, min, max, *ctx.arguments, needs)
        return *(of if need else None for of, need in zip(made, needs)), None, None, None


def _is_plain(x: Tensor) -> bool:
    """Whether nothing but autograd follows what is done to a tensor: no compiler, no transformation, no mode, no subclass."""
    return (
        type(x) in (Tensor, nn.Parameter)
        and not torch.compiler.is_compiling()
        and _dispatch_modes() == 0
        and _function_modes() == 0
        and _transformation() is None
        and _tracing() is None
        and not _batched(x)
    )


# What torch asks itself before it calls an operator. Where a version does not tell, its dispatcher does.
try:
    _dispatch_modes = torch._C._len_torch_dispatch_stack
    _function_modes = torch._C._len_torch_function_stack
    _transformation = torch._C._functorch.peek_interpreter_stack
    _batched = torch._C._functorch.is_legacy_batchedtensor
    _tracing = torch._C._get_tracing_state
except AttributeError:
    _tracing = lambda: "unknown"  # noqa: E731


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


def clip(
    x: Tensor, min: Bound = None, max: Bound = None, *, rule: BackwardRule | str | None = None
) -> Tensor:
    """Clips the elements of x, as ``torch.clamp`` does, with a gradient by any rule: torch's own unless another is named, which gives x nothing
    at a bound that is a number, and half of the gradient at one that is a tensor.

    A bound is None, a number, or a tensor of the type of x that broadcasts to it, which gets a gradient if it requires one: the exact sum
    over what it broadcasts to.

    >>> import torch, wgclip.torch
    >>> x = torch.tensor([-1.0, 0.5, 2.0], requires_grad=True)
    >>> wgclip.torch.clip(x, 0, 1, rule="burn").sum().backward()
    >>> x.grad
    tensor([0., 1., 0.])

    Raises as `wgclip.clip`, and ``ValueError`` for a tensor that is not on the CPU.
    """
    _check(x)
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        rule = _TORCH_TENSORS if rule is None else rule_text(rule)
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
    return _clip_cpu(x, min, max, rule)


def _check_sides(x: Tensor, sides: list[Tensor | None]) -> None:
    """Refuses bounds of another type or device, and what has a tangent."""
    for side in sides:
        if side is None:
            continue
        _check(side)
        if side.dtype != x.dtype:
            raise TypeError(f"a bound of {side.dtype} does not go with elements of {x.dtype}: give both the same type")
        if side.device != x.device:
            raise ValueError(f"a bound on {side.device} does not go with elements on {x.device}: give both the same device")
        _check_tangents(side)
    _check_tangents(x)


def _check_tangents(x: Tensor) -> None:
    """Refuses derivatives in forward mode, which torch would drop without a word."""
    if _forward_mode._current_level >= 0 and _forward_mode.unpack_dual(x).tangent is not None:
        raise NotImplementedError("there are no derivatives in forward mode here: use those in backward mode")


def clip_(x: Tensor, min: Bound = None, max: Bound = None) -> Tensor:
    """Clips the elements of x in place, as ``torch.clamp_`` does, of a tensor that needs no gradient. Autograd notices that it changed.

    Raises as `clip`, and ``RuntimeError`` for a tensor that requires a gradient, unless under ``torch.no_grad``.
    """
    _check(x)
    if x.requires_grad and torch.is_grad_enabled():
        raise RuntimeError("a tensor that requires a gradient is not clipped in place: use clip, or torch.no_grad()")
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        sides = [side if isinstance(side, Tensor) else None for side in (min, max)]
        _check_sides(x, sides)
        min, max = (_side(x, tensor, side) for tensor, side in zip(sides, (min, max)))
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
    """Scales x down so that its 2-norm, or that of each slice along ``dim``, is at most ``max_norm``. It has a gradient.

    Raises as `wgclip.clip_by_norm`; ``ValueError`` for another norm.
    """
    _check(x)
    _check_tangents(x)
    if ord != 2:
        raise ValueError("tensors of torch are clipped by the 2-norm, which has a gradient")
    along = None if dim is None else [dim] if isinstance(dim, int) else list(dim)
    return torch.ops.wgclip.clip_by_norm(x, float(max_norm), along, eps, nonfinite)


class Clip(nn.Module):
    """A layer that clips what goes through it.

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
    """A layer that clips between bounds that are learned (PACT): each a parameter of the shape that is given, or None.

    A bound receives the gradient of what it clips, also of what is equal to it.
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


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    """The gradients of parameters, each once."""
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    found: dict[int, Tensor] = {}
    for parameter in given:
        if parameter.grad is not None:
            found[id(parameter.grad)] = parameter.grad
    for gradient in found.values():
        _check(gradient)
        if any(stride == 0 and size > 1 for stride, size in zip(gradient.stride(), gradient.shape)):
            raise ValueError("a gradient has one element in many places (an expanded tensor): give it a copy, .clone()")
        if hasattr(gradient, "placements"):
            raise TypeError(
                "other ranks have elements of this gradient too (a DTensor): use wgclip.distributed.clip_grad_norm_"
            )
    return list(found.values())


def _lying(x: Tensor) -> Tensor:
    """The elements in the order in which they lie, sharing memory if they have no gaps: a norm knows no order."""
    x = x.detach()
    if x.is_neg():
        return x.resolve_neg().contiguous()
    if not x.is_contiguous() and torch.empty_like(x).stride() == x.stride():
        return _lie(x)
    return x.contiguous()


def _write(tensors: list[Tensor], run: Any) -> Any:
    """Runs what changes tensors in place, and tells autograd. Nothing is changed if it fails."""
    flat = [_lying(x) for x in tensors]
    made = run(flat)
    for x, of in zip(tensors, flat):
        if of.untyped_storage().data_ptr() == x.untyped_storage().data_ptr():
            torch.autograd.graph.increment_version(x)
        else:
            with torch.no_grad():
                x.copy_(of.view_as(x))
    return made


def _total(norm: float, tensors: list[Tensor]) -> Tensor:
    double = bool(tensors) and all(x.dtype == torch.float64 for x in tensors)
    return torch.tensor(norm, dtype=torch.float64 if double else torch.float32)


def _policy(error_if_nonfinite: bool) -> NonFinite:
    return "error" if error_if_nonfinite else "propagate"


@torch.no_grad()
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scales the gradients of parameters in place so that their common norm is at most ``max_norm``: torch's
    ``torch.nn.utils.clip_grad_norm_``, with the exact norm. Returns that norm, a float32, or a float64 if all gradients are.

    Gradients within the limit keep their bits; others are multiplied by ``max_norm / (norm + 1e-6)``. ``norm_type`` is 1, 2 or inf; ``foreach``
    is taken for torch's sake.

    Raises ``NonFiniteNormError`` (a ``RuntimeError``) for a norm that is not finite, if ``error_if_nonfinite``; ``ValueError`` for another norm,
    for a limit that is negative or NaN, and for gradients that are not on the CPU. Nothing is changed then.
    """
    tensors = _gradients(parameters)
    limit = (float(max_norm), float(norm_type), 1e-6, _policy(error_if_nonfinite))
    return _total(_write(tensors, lambda flat: _core.clip_by_global_norm(flat, limit, flat)), tensors)


@torch.no_grad()
def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The exact norm of all elements of tensors: torch's ``torch.nn.utils.get_total_norm``. Raises as `clip_grad_norm_`."""
    given = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    for x in given:
        _check(x)
    found = _core.global_norm([_lying(x) for x in given], float(norm_type))
    total = _total(found, given)
    if error_if_nonfinite and not bool(torch.isfinite(total)):
        raise _core.NonFiniteNormError(f"the total norm is {found}: look for what made such elements")
    return total


@torch.no_grad()
def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    total_norm: Tensor,
    foreach: bool | None = None,
) -> None:
    """Scales the gradients of parameters in place by a norm that is known: torch's ``torch.nn.utils.clip_grads_with_norm_``."""
    tensors = _gradients(parameters)
    double = total_norm.dtype == torch.float64
    limit = (float(max_norm), 2.0, 1e-6, "propagate")
    _write(tensors, lambda flat: _core.scale_by_norm(flat, float(total_norm), double, limit, flat))


@torch.no_grad()
def clip_grad_value_(
    parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None
) -> None:
    """Clips the gradients of parameters in place to ``[-clip_value, clip_value]``: torch's ``torch.nn.utils.clip_grad_value_``."""
    value = float(clip_value)
    if math.isnan(value):
        raise ValueError("gradients cannot be clipped to NaN: give a number")
    for gradient in _gradients(parameters):
        clip_(gradient, -value, value)
