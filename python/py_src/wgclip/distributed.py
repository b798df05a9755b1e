"""The exact norm of what several processes have, and clipping by it: the same bits for every number of ranks and every sharding.

Each rank sums its own elements exactly, as integers; one all-reduce of less than 200 int64 adds these, and every rank rounds the same sum once.
The engine is one that exists: ``torch.distributed``, MPI by mpi4py, or any function that all-reduces.
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
    """An all-reduce failed or took too long: a rank died, or hangs. Gradients are as they were on the rank that raises this."""


def _reduced(state: NormState, all_reduce: AllReduce, ord: Ord) -> tuple[float, bool]:
    """The norm of all ranks, and whether it is one of float64: if any rank has that."""
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
    """The norm of the arrays of all ranks together, rounded to float32, or to float64 if any rank has one of that. Every rank calls it, also one
    that has none.

    What several ranks have, one of them gives.

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

    ``counted`` are the arrays that this rank adds to the norm, if not all of them: what several ranks have counts once.

    Raises as `global_norm`; ``NonFiniteNormError`` where it is asked for, on all ranks. Nothing is changed then.
    """
    own = list(arrays)
    norm, double = _norm_of(own if counted is None else counted, all_reduce, ord)
    limit, results = (max_norm, ord, eps, nonfinite), [(np.shape(x), x.dtype) for x in own]
    # In place, also of arrays with strides.
    into_all(own, results, lambda written: _core.scale_by_norm([plain(x) for x in own], norm, double, limit, written))
    return norm


#: What MPI may still read and write after a timeout: an all-reduce cannot be cancelled.
_UNFINISHED: list[Any] = []


def mpi(comm: Any, timeout: float | None = 300.0) -> AllReduce:
    """An all-reduce by mpi4py: ``clip_by_global_norm(arrays, 1.0, mpi(MPI.COMM_WORLD))``.

    Raises `AllReduceError` after ``timeout`` seconds; the communicator is of no use then. MPI itself ends all ranks when one of them dies, unless
    it is told otherwise.
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
    """An all-reduce by ``torch.distributed``, in a process group, or in all processes.

    Raises `AllReduceError` after ``timeout`` seconds, and when a rank dies; the process group is of no use then.
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


#: Which plain gradients are each rank's own: all of them or none, those of a predicate of parameters, or of these parameters.
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
    """``torch.nn.utils.clip_grad_norm_`` of a model whose gradients several ranks have: the exact norm of the whole, once over all of them.

    Gradients that are a ``DTensor`` (FSDP2, tensor parallelism) count by their placements: shards on each rank, replicas once. Plain ones count once
    if they are the same on all ranks (DDP), which is checked. What else they are is to be said:

    - ``sharded`` are those that are each rank's own, such as experts: True for all plain ones, a predicate of parameters, or the parameters, and
      the others are checked; False for none of them, which is not checked then.
    - ``replicated`` are pairs of parameters and the process group whose ranks have the same of them, and count it once: experts that are
      divided among some ranks and replicated over others, ``[(experts, data_parallel_group)]``.

    ``parameters`` may be pairs with names, ``model.named_parameters()``, which errors tell then. Every rank of ``group`` calls this, and has all the
    mesh's ranks in it. Returns the norm, a tensor.

    Raises `AllReduceError` within ``timeout`` seconds if a rank died or hangs, and at once if one has gradients that are refused; ``ValueError``
    on all ranks if plain gradients differ from rank to rank or are among those that are a ``DTensor``, and nothing was said of them, and if ranks
    call with another norm or limit; otherwise as `wgclip.torch.clip_grad_norm_`. Gradients are then as they were. After an
    `AllReduceError` the process group is of no use.
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
        # Wide on all of them: one may have float64.
        state = NormState(2, wide=True)
        try:
            state = NormState(norm_type, wide=True)
            own = ranks.Own.of(parameters, rank, sharded, replicated)
            state.add(*own.counted)
        except Exception as error:
            # The others wait for this rank, so it tells them.
            refused = error
        agreed = ranks.agree(own, refused, (float(norm_type), float(max_norm)), lambda words: reduce(words, "max"))
        if not alone:
            agreed.check()
        norm, double = _reduced(state, reduce, float(norm_type))
        limit = (float(max_norm), float(norm_type), 1e-6, ours.policy(error_if_nonfinite))
        ours.write(own.gradients, lambda flat: _core.scale_by_norm(flat, norm, double, limit, flat))
        return torch.tensor(norm, dtype=torch.float64 if double else torch.float32)
