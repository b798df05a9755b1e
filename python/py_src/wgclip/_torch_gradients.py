"""Clipping of the gradients of parameters, with torch's own signatures."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from . import _core
from ._norms import NonFinite
from ._torch_operators import check, lie

def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    """The gradients of parameters, without duplicates."""
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    if not given:
        # Four frames up: the caller of the public function, which runs within torch.no_grad.
        warnings.warn("no parameters were given, so nothing is clipped: a generator is empty after its first use", stacklevel=4)
    found: dict[int, Tensor] = {}
    # Kept alive, so that no other gradient gets the same id.
    coalesced: dict[int, tuple[Tensor, Tensor]] = {}
    for parameter in given:
        if parameter.grad is not None:
            if parameter.grad.layout == torch.sparse_coo:
                # From an embedding: duplicate entries are added up first, and the norm is that of the sums.
                grad = parameter.grad
                parameter.grad = coalesced.setdefault(id(grad), (grad, grad.coalesce()))[1]
            found[id(parameter.grad)] = values_of(parameter.grad)
    for gradient in found.values():
        check(gradient)
        if any(stride == 0 and size > 1 for stride, size in zip(gradient.stride(), gradient.shape)):
            raise ValueError("a gradient has one element in many places (an expanded tensor): give it a copy, .clone()")
        if hasattr(gradient, "placements"):
            raise TypeError(
                "other ranks have elements of this gradient too (a DTensor): use wgclip.distributed.clip_grad_norm_"
            )
    return list(found.values())


def values_of(x: Tensor) -> Tensor:
    """The elements that count for a norm: of a sparse tensor its stored values, sharing memory if it is coalesced."""
    return x.coalesce().values() if x.layout == torch.sparse_coo else x


def lying(x: Tensor) -> Tensor:
    """The elements in memory order, sharing memory if they have no gaps: a norm does not depend on the order."""
    x = x.detach()
    if x.is_neg():
        return x.resolve_neg().contiguous()
    if not x.is_contiguous() and torch.empty_like(x).stride() == x.stride():
        return lie(x)
    return x.contiguous()


def write(tensors: list[Tensor], run: Any) -> Any:
    """Runs a function that changes tensors in place, and notifies autograd. Nothing is changed if it fails."""
    flat = [lying(x) for x in tensors]
    made = run(flat)
    for x, of in zip(tensors, flat):
        if of.untyped_storage().data_ptr() == x.untyped_storage().data_ptr():
            torch.autograd.graph.increment_version(x)
        else:
            with torch.no_grad():
                x.copy_(of.view_as(x))
    return made


def _total(norm: float, tensors: list[Tensor]) -> Tensor:
    double = any(x.dtype == torch.float64 for x in tensors)
    return torch.tensor(norm, dtype=torch.float64 if double else torch.float32)


def policy(error_if_nonfinite: bool) -> NonFinite:
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
    ``torch.nn.utils.clip_grad_norm_``, with the exact norm. Returns that norm, a float32, or a float64 if any gradient is.

    Gradients within the limit keep their bits; others are multiplied by ``max_norm / (norm + 1e-6)``. ``norm_type`` is 1, 2 or inf; ``foreach``
    is accepted for compatibility with torch.

    Raises ``NonFiniteNormError`` (a ``RuntimeError``) for a norm that is not finite, if ``error_if_nonfinite``; ``ValueError`` for another norm,
    for a limit that is negative or NaN, and for gradients that are not on the CPU. Nothing is changed then.
    """
    tensors = _gradients(parameters)
    limit = (float(max_norm), float(norm_type), 1e-6, policy(error_if_nonfinite))
    return _total(write(tensors, lambda flat: _core.clip_by_global_norm(flat, limit, flat)), tensors)


@torch.no_grad()
def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The exact norm of all elements of tensors: torch's ``torch.nn.utils.get_total_norm``. Raises as `clip_grad_norm_`."""
    given = [values_of(x) for x in ([tensors] if isinstance(tensors, Tensor) else tensors)]
    for x in given:
        check(x)
    found = _core.global_norm([lying(x) for x in given], float(norm_type))
    total = _total(found, given)
    if error_if_nonfinite and not bool(torch.isfinite(total)):
        raise _core.NonFiniteNormError(f"the total norm is {found}: look for the source of such elements")
    return total


@torch.no_grad()
def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    total_norm: Tensor,
    foreach: bool | None = None,
) -> None:
    """Scales the gradients of parameters in place by a given norm: torch's ``torch.nn.utils.clip_grads_with_norm_``."""
    tensors = _gradients(parameters)
    double = total_norm.dtype == torch.float64
    limit = (float(max_norm), 2.0, 1e-6, "propagate")
    write(tensors, lambda flat: _core.scale_by_norm(flat, float(total_norm), double, limit, flat))


@torch.no_grad()
def clip_grad_value_(
    parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None
) -> None:
    """Clips the gradients of parameters in place to ``[-clip_value, clip_value]``: torch's ``torch.nn.utils.clip_grad_value_``."""
    value = float(clip_value)
    if math.isnan(value):
        raise ValueError("gradients cannot be clipped to NaN: give a number")

    def run(flat: list[Tensor]) -> None:
        for x in flat:
            _core.clip(x, -value, value, x)

    write(_gradients(parameters), run)
