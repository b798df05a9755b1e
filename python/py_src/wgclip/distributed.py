"""The exact norm of arrays spread over several processes, and clipping by it: the same bits for every number of ranks and every sharding.

Each rank sums its own elements exactly, as integers; one all-reduce of less than 200 int64 adds these, and every rank rounds the same sum once.
The all-reduce comes from ``torch.distributed``, MPI (mpi4py), or any function.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from . import _core
from ._arrays import into_all, plain
from ._core import NormState
from ._norms import NonFinite, Ord, merge_of

Words: TypeAlias = npt.NDArray[np.int64]

#: Reduces an array over all ranks, elementwise, and returns the result on each.
AllReduce: TypeAlias = Callable[[Words, Literal["sum", "max"]], Words]


class AllReduceError(RuntimeError):
    """An all-reduce failed or took too long: a rank died, or hangs. Gradients are unchanged on the rank that raises this."""


def _reduced(state: NormState, all_reduce: AllReduce, ord: Ord) -> tuple[float, bool]:
    """The norm over all ranks, and whether it is a float64 (if any rank has float64)."""
    words = all_reduce(np.array(state.words(), dtype=np.int64), merge_of(ord))
    state = NormState.from_words(words.tolist(), ord)
    norm = state.norm()
    if norm < 0:
        raise AllReduceError("what the all-reduce gave is no sum of what the ranks have: it has to add integers of 64 bits")
    return norm, state.double


def _norm_of(arrays: Iterable[Any], all_reduce: AllReduce, ord: Ord) -> tuple[float, bool]:
    state = NormState(ord, wide=True)
    state.add(*arrays)
    return _reduced(state, all_reduce, ord)


def global_norm(arrays: Iterable[Any], all_reduce: AllReduce, *, ord: Ord = 2) -> float:
    """The norm of the arrays of all ranks together, rounded to float32, or to float64 if any rank has a float64 array. Every rank must call it, even
    without arrays.

    If several ranks hold the same array, only one of them passes it.

    >>> import numpy as np, wgclip.distributed
    >>> alone = lambda words, op: words
    >>> wgclip.distributed.global_norm([np.array([3.0, 4.0], dtype="float32")], alone)
    5.0

    Raises as `wgclip.norm`, and what ``all_reduce`` raises.
    """
    return _norm_of(arrays, all_reduce, ord)[0]


def clip_by_global_norm(
    arrays: Iterable[Any],
    max_norm: float,
    all_reduce: AllReduce,
    *,
    counted: Iterable[Any] | None = None,
    ord: Ord = 2,
    eps: float = 0.0,
    nonfinite: NonFinite = "propagate",
) -> float:
    """Scales this rank's arrays in place so that the norm of those of all ranks together is at most ``max_norm``. Returns that norm.

    ``counted`` are the arrays that this rank adds to the norm, if not all of them: an array that several ranks hold must count once.

    Raises as `global_norm`; ``NonFiniteNormError`` with ``nonfinite="error"``, on all ranks. Nothing is changed then.
    """
    own = list(arrays)
    norm, double = _norm_of(own if counted is None else counted, all_reduce, ord)
    limit, results = (max_norm, ord, eps, nonfinite), [(np.shape(x), x.dtype) for x in own]
    # In place, even for strided arrays.
    into_all(own, results, lambda written: _core.scale_by_norm([plain(x) for x in own], norm, double, limit, written))
    return norm


#: Buffers that MPI may still read and write after a timeout: an all-reduce cannot be cancelled.
_UNFINISHED: list[Any] = []


def mpi(comm: Any, timeout: float | None = 300.0) -> AllReduce:
    """An all-reduce through mpi4py: ``clip_by_global_norm(arrays, 1.0, mpi(MPI.COMM_WORLD))``.

    Raises `AllReduceError` after ``timeout`` seconds; the communicator is then unusable. MPI itself ends all ranks when one of them dies, unless
    configured otherwise.
    """
    from mpi4py import MPI

    ops = {"sum": MPI.SUM, "max": MPI.MAX}

    def all_reduce(words: Words, op: Literal["sum", "max"]) -> Words:
        made = np.empty_like(words)
        try:
            request = comm.Iallreduce(words, made, op=ops[op])
            end = None if timeout is None else time.monotonic() + timeout
            pause = 1e-5
            while not request.Test():
                if end is not None and time.monotonic() > end:
                    _UNFINISHED.append((request, words, made))
                    raise AllReduceError(
                        f"no norm after {timeout} s: a rank died, hangs, or did not call this"
                    )
                time.sleep(pause)
                pause = min(2 * pause, 1e-3)
        except MPI.Exception as error:
            raise AllReduceError(f"MPI failed: {error}") from error
        return made

    return all_reduce


def torch_all_reduce(group: Any = None, timeout: float | None = 300.0) -> AllReduce:
    """An all-reduce through ``torch.distributed``, in a process group, or in all processes.

    Raises `AllReduceError` after ``timeout`` seconds, and when a rank dies; the process group is then unusable.
    """
    import datetime

    import torch
    import torch.distributed as dist

    def all_reduce(words: Words, op: Literal["sum", "max"]) -> Words:
        made = torch.from_numpy(words.copy())
        try:
            work = dist.all_reduce(
                made, dist.ReduceOp.SUM if op == "sum" else dist.ReduceOp.MAX, group, async_op=True
            )
            if timeout is None:
                work.wait()
            elif not work.wait(datetime.timedelta(seconds=timeout)):
                raise AllReduceError(f"no norm after {timeout} s: a rank died, hangs, or did not call this")
        except AllReduceError:
            raise
        except RuntimeError as error:
            raise AllReduceError(
                f"no norm of all ranks: one died, hangs, or did not call this within {timeout} s ({error})"
            ) from error
        return made.numpy()

    return all_reduce


#: Which plain gradients are each rank's own: all or none, those selected by a predicate of parameters, or those of the given parameters.
Sharded: TypeAlias = bool | Callable[[Any], bool] | Iterable[Any]


def clip_grad_norm_(
    parameters: Any,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
    *,
    group: Any = None,
    timeout: float | None = 300.0,
    all_reduce: AllReduce | None = None,
    sharded: Sharded | None = None,
    replicated: Iterable[tuple[Iterable[Any], Any]] = (),
) -> Any:
    """``torch.nn.utils.clip_grad_norm_`` for a model whose gradients are spread over ranks, by the exact norm of the whole model.

    ``DTensor`` gradients (FSDP2, tensor parallelism) count by their placements: shards on each rank, replicas once. Plain ones count once
    if they are the same on all ranks (DDP), which is checked. Otherwise say which they are:

    - ``sharded`` are those that are each rank's own, such as experts: True for all plain ones; a predicate of parameters, or the parameters, with
      the others checked; False for none of them, without the check.
    - ``replicated`` are pairs of parameters and the process group whose ranks hold the same copy of them, which counts once: for experts that are
      divided among some ranks and replicated over others, ``[(experts, data_parallel_group)]``.

    ``parameters`` may be ``model.named_parameters()``, so that errors can give names. Every rank of ``group`` must call this, and the group must contain
    all ranks of the mesh. Returns the norm, a tensor.

    Raises `AllReduceError` within ``timeout`` seconds if a rank died or hangs, and at once if one has gradients that are refused; ``ValueError``
    on all ranks if plain gradients differ between ranks or are mixed with ``DTensor`` gradients, and their role was not given, and if ranks
    pass different norms or limits; otherwise as `wgclip.torch.clip_grad_norm_`. Gradients are then unchanged. After an
    `AllReduceError` the process group is unusable.
    """
    import torch
    import torch.distributed as dist

    from . import _torch_gradients as ours
    from . import _torch_ranks as ranks

    rank = dist.get_rank(group) if dist.is_initialized() else 0
    if rank < 0:
        raise ValueError("this rank is not in the group: only those that are call this")
    reduce = all_reduce or torch_all_reduce(group, timeout)
    alone = all_reduce is None and dist.get_world_size(group) == 1
    with torch.no_grad():
        own, refused = ranks.Own(), None
        # Wide on all ranks: one may have float64.
        state = NormState(2, wide=True)
        try:
            state = NormState(norm_type, wide=True)
            own = ranks.Own.of(parameters, rank, sharded, replicated)
            state.add(*own.counted)
        except Exception as error:
            # The other ranks wait for this one, so the error is passed on to them.
            refused = error
        agreed = ranks.agree(own, refused, (float(norm_type), float(max_norm)), lambda words: reduce(words, "max"))
        if not alone:
            agreed.check()
        norm, double = _reduced(state, reduce, float(norm_type))
        limit = (float(max_norm), float(norm_type), 1e-6, ours.policy(error_if_nonfinite))
        ours.write(own.gradients, lambda flat: _core.scale_by_norm(flat, norm, double, limit, flat))
        return torch.tensor(norm, dtype=torch.float64 if double else torch.float32)
