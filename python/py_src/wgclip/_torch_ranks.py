"""Decides which of the torch gradients shared by several ranks each rank counts, and checks that the ranks agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from . import _torch_gradients as ours
from ._arrays import warn
from ._torch_operators import check

#: Bits of a checksum, which must be negatable.
_MASK = (1 << 62) - 1

#: Integers of the size of an element.
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _local(gradient: Tensor) -> tuple[Tensor, bool]:
    """This rank's part of a gradient, and whether this rank counts it, by its placements."""
    placements = getattr(gradient, "placements", None)
    if placements is None:
        return gradient, True
    coordinate = gradient.device_mesh.get_coordinate()
    if coordinate is None:
        return gradient.to_local(), False
    counts = True
    for place, at in zip(placements, coordinate):
        if place.is_partial():
            raise ValueError(
                "a gradient is partial: its ranks have summands, not elements; redistribute it to Shard or Replicate first"
            )
        # All other placements divide the elements: FSDP2 combined with tensor parallelism has its own kind of shards.
        if place.is_replicate():
            counts = counts and at == 0
    return gradient.to_local(), counts


#: Elements of a row of a checksum.
_ROW = 4096


def checksum(gradient: Tensor) -> int:
    """A sum of the bits of all elements, with a separate factor for each row and each column, so that it almost certainly differs if a gradient has
    other elements or another order."""
    bits = ours.lying(gradient).flatten().view(_BITS[gradient.element_size()])
    rows = len(bits) // _ROW
    table, rest = bits[: rows * _ROW].view(rows, _ROW), bits[rows * _ROW :]
    parts = [table.sum(0, dtype=torch.int64), table.sum(1, dtype=torch.int64), rest.to(torch.int64)]
    # Odd multiples, which wrap around.
    total = sum(int((part * ((torch.arange(len(part)) + n * _ROW) * 0x9E3779B97F4A7C1 | 1)).sum()) for n, part in enumerate(parts))
    return total & _MASK


@dataclasses.dataclass
class Own:
    """The gradients of this rank."""

    gradients: list[Tensor] = dataclasses.field(default_factory=list)
    #: The gradients that this rank adds to the norm.
    counted: list[Tensor] = dataclasses.field(default_factory=list)
    #: Plain gradients without a given role, with their names for messages.
    plain: list[tuple[str, Tensor]] = dataclasses.field(default_factory=list)
    #: Whether no role was given for any plain gradient.
    unsaid: bool = False
    #: Whether plain gradients that are not each rank's own are compared.
    checked: bool = False
    has_dtensors: bool = False

    @classmethod
    def of(cls, parameters: Any, rank: int, sharded: Any, replicated: Iterable[tuple[Iterable[Any], Any]]) -> Own:
        given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
        if not callable(sharded) and not isinstance(sharded, bool | Tensor | None):
            sharded = list(sharded)
        pairs = [of if isinstance(of, tuple) else (f"parameter {n}", of) for n, of in enumerate(given)]
        is_own = _predicate(sharded)
        groups = {id(p): group for of, group in replicated for p in ([of] if isinstance(of, Tensor) else of)}
        known = {id(p) for _, p in pairs}
        for option, chosen in (("replicated", set(groups)), ("sharded", _listed(sharded))):
            if chosen - known:
                raise ValueError(f"{len(chosen - known)} of the parameters in {option} are not among those that are clipped")
        if not pairs:
            warn("no parameters were given, so nothing is clipped: a generator is empty after its first use", UserWarning)
        made, seen = cls(unsaid=sharded is None, checked=not isinstance(sharded, bool)), set()
        for name, parameter in pairs:
            gradient = parameter.grad
            if gradient is None or id(gradient) in seen:
                continue
            seen.add(id(gradient))
            local, counts = _local(gradient)
            check(local)
            made.gradients.append(local)
            is_plain = local is gradient
            made.has_dtensors |= not is_plain
            if id(parameter) in groups:
                counts = counts and dist.get_rank(groups[id(parameter)]) == 0
            elif is_plain and not is_own(parameter):
                counts = rank == 0
                made.plain.append((f"{name} of shape {list(parameter.shape)}", local))
            if counts:
                made.counted.append(ours.lying(local))
        return made


def _predicate(sharded: Any) -> Callable[[Any], bool]:
    if sharded is None or isinstance(sharded, bool):
        return lambda _: bool(sharded)
    if callable(sharded) and not isinstance(sharded, Tensor):
        return sharded  # type: ignore[no-any-return]
    chosen = _listed(sharded)
    return lambda parameter: id(parameter) in chosen


def _listed(sharded: Any) -> set[int]:
    """The ids of the parameters that are each rank's own, if they are listed."""
    if sharded is None or isinstance(sharded, bool) or (callable(sharded) and not isinstance(sharded, Tensor)):
        return set()
    listed = [sharded] if isinstance(sharded, Tensor) else list(sharded)
    if not all(isinstance(p, Tensor) for p in listed):
        raise TypeError("sharded lists parameters: give these, or a predicate of them, and no names")
    return {id(p) for p in listed}


_Max = Callable[[Any], Any]


@dataclasses.dataclass
class Agreed:
    """The result of the exchange between ranks."""

    own: Own
    same: dict[str, bool]
    is_mixed: bool
    greatest: _Max

    def check(self) -> None:
        """Raises, on all ranks, if plain gradients do not have the assumed role."""
        own, same = self.own, self.same
        if not same["unsaid"]:
            raise ValueError("ranks say different things of their plain gradients: give all the same sharded")
        if not own.checked:
            return
        first = own.plain[0][0] if own.plain else "one of another rank"
        hint = "say which are each rank's own: sharded=True, a predicate or a list, or replicated over a group"
        if self.is_mixed and own.unsaid:
            raise ValueError(
                f"{first} has a plain gradient beside others that are a DTensor: say sharded=False if all ranks have the same, or {hint}"
            )
        if not same["count"]:
            raise ValueError(f"ranks have plain gradients of different parameters, here {len(own.plain)}, the first of {first}: {hint}")
        if same["checksum"]:
            return
        sums = np.array([checksum(of) for _, of in own.plain], np.int64)
        differ = _greatest_of(self.greatest, sums)
        name = own.plain[int(np.flatnonzero(differ)[0])][0] if differ.any() else first
        raise ValueError(f"the gradient of {name} differs from rank to rank: {hint}")


def _greatest_of(greatest: _Max, values: Any) -> Any:
    """Where values differ between ranks, from the maximum of the values and of their negatives."""
    found = np.asarray(greatest(np.concatenate([values, -values])))
    return found[: len(values)] != -found[len(values) :]


def agree(own: Own, refused: Exception | None, limit: tuple[float, float], greatest: _Max) -> Agreed:
    """Exchanges the state of all ranks. Raises, on all ranks, if one of them refused its gradients, or passed other arguments."""
    total = 0
    if own.checked and refused is None:
        for n, (_, of) in enumerate(own.plain):
            # Differs if two gradients are swapped.
            total = (total + (2 * n + 1) * checksum(of)) & _MASK
    norm_type, max_norm = (int(np.float64(abs(of)).view(np.int64)) for of in limit)
    equal = {
        "norm": norm_type,
        "limit": max_norm,
        "unsaid": 2 * int(own.unsaid) + int(own.checked),
        "count": len(own.plain) if own.checked else 0,
        "checksum": total,
    }
    values = np.array(list(equal.values()), np.int64)
    flags = np.array([refused is not None, own.unsaid and bool(own.plain), own.has_dtensors], np.int64)
    found = np.asarray(greatest(np.concatenate([flags, values, -values])))
    refusals, has_plain, has_dtensors = (bool(of) for of in found[:3])
    most, least = found[3 : 3 + len(values)], -found[3 + len(values) :]
    if refused is not None:
        raise refused
    if refusals:
        from .distributed import AllReduceError

        raise AllReduceError("another rank has gradients that are refused: see what it raises")
    same = dict(zip(equal, (most == least).tolist()))
    if not (same["norm"] and same["limit"]):
        raise ValueError("ranks call with different norm_type or max_norm: all of them need the same")
    return Agreed(own, same, has_plain and has_dtensors, greatest)
