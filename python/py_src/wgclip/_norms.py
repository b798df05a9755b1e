"""Exact sums and norms, and clipping by norm, over arrays."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, SupportsIndex, TypeAlias

import numpy as np

from . import _core
from ._arrays import Array, back, framework, into, into_all, is_sparse, lazy, plain
from ._core import Tensor

Axis: TypeAlias = SupportsIndex | Sequence[int] | None
#: 1, 2 or infinity, as in numpy and torch.
Ord: TypeAlias = float | str
NonFinite: TypeAlias = Literal["propagate", "zero", "skip", "error"]


def _values(x: Any, axis: Axis = None, whole: bool = True) -> tuple[Array, Any]:
    """The elements that count for a norm (the values of a sparse array, with duplicates added up), and a function that converts a result of their
    shape to the kind of x."""
    is_torch = type(x).__module__.partition(".")[0] == "torch" and x.is_sparse
    if not is_torch and not is_sparse(x):
        return plain(x), back(x)
    if axis is not None or not whole:
        raise TypeError("a sparse array has the norm of all its elements: leave out axis and keepdims, or make it dense")
    if is_torch:
        single = x.detach().coalesce()
        kept = single.values()

        def with_values(made: Any) -> Any:
            import torch

            return torch.sparse_coo_tensor(single.indices(), made, single.shape, is_coalesced=True)
    else:
        single = x.copy() if x.format in ("coo", "csr", "csc") else x.tocsr()
        single.sum_duplicates()
        kept = single.data

        def with_values(made: Any) -> Any:
            single.data = made
            return single

    shape, of_kind = tuple(kept.shape), back(kept)
    return plain(kept), lambda made: with_values(of_kind(made)) if np.shape(made) == shape else of_kind(made)


def merge_of(ord: Ord) -> Literal["sum", "max"]:
    """The reduction that merges the words of norm states."""
    return "max" if str(ord) in ("inf", "max") else "sum"


def axes_of(axis: Axis) -> list[int] | None:
    if axis is None:
        return None
    return [operator.index(axis)] if isinstance(axis, SupportsIndex) else [operator.index(of) for of in axis]


def _reduced(x: Array, axis: Axis, keepdims: bool, dtype: Any, run: Any) -> Any:
    axes = axes_of(axis)
    if axes is None:
        made = np.empty((), dtype)
        run(None, made)
        return made.reshape((1,) * x.ndim) if keepdims else made[()]
    made = np.empty(shape_without(x.shape, axes, True), dtype)
    run(axes, made)
    if keepdims:
        return made
    made = made.reshape(shape_without(x.shape, axes, False))
    return made if made.ndim else made[()]


def shape_without(shape: tuple[int, ...], axes: Sequence[int], keepdims: bool) -> tuple[int, ...]:
    """The shape after a reduction along axes, which are kept with a length of 1 or removed."""
    along = {axis % len(shape) for axis in axes if -len(shape) <= axis < len(shape)}
    return tuple(1 if n in along else length for n, length in enumerate(shape) if keepdims or n not in along)


def sum(x: Any, /, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """The sum of all elements, or along axes: exact, and rounded once to the type of x, so that it does not depend on the order of the elements.

    Sums of integers are clipped to the range of their type.

    >>> import numpy as np, wgclip
    >>> float(wgclip.sum(np.array([1e30, 1.0, -1e30])))
    1.0

    Raises ``ValueError`` for an invalid axis, ``TypeError`` for a type that `clip` does not accept.
    """
    if isinstance(x, Tensor):
        return x.sum(axes_of(axis))
    of = plain(x)
    return back(x)(_reduced(of, axis, keepdims, of.dtype, lambda axes, out: _core.sum(of, axes, out)))


def norm(x: Any, /, axis: Axis = None, *, ord: Ord = 2, keepdims: bool = False) -> Any:
    """The norm of all elements, or along axes: the square root of the exact sum of squares, rounded once.

    It is an array of the kind of x, of float32, or of float64 for float64, and has no gradient. ``ord`` is 1, 2 or ``numpy.inf``. Intermediate values never overflow or underflow:

    >>> import numpy as np, wgclip
    >>> wgclip.norm(np.array([3e30, 4e30], dtype="float32"))
    np.float32(5e+30)

    Raises ``TypeError`` for integers, ``ValueError`` for another norm and for an invalid axis.
    """
    if isinstance(x, Tensor):
        return x.norm(axes_of(axis), ord)
    if (home := lazy(x)) is not None and axis is None and not keepdims:
        return home.norm(x, ord=ord)
    of, kind = _values(x, axis, not keepdims)
    dtype = np.float64 if of.dtype == np.float64 else np.float32
    return kind(_reduced(of, axis, keepdims, dtype, lambda axes, out: _core.norm(of, axes, ord, out)))


def clip_by_norm(
    x: Any,
    max_norm: float,
    /,
    axis: Axis = None,
    *,
    ord: Ord = 2,
    eps: float = 0.0,
    nonfinite: NonFinite = "propagate",
    out: Any = None,
) -> Any:
    """Scales x down so that its norm, or that of each slice along axes, is at most ``max_norm``: TensorFlow's ``clip_by_norm``.

    Elements within the limit keep their bits; otherwise they are multiplied by ``max_norm / (norm + eps)``. ``nonfinite`` is the policy for
    elements whose norm is NaN or infinite: multiply as usual ("propagate"), "zero", "skip" (keep them), or "error".

    >>> import numpy as np, wgclip
    >>> wgclip.clip_by_norm(np.array([3.0, 4.0]), 2.5)
    array([1.5, 2. ])

    Raises as `norm`; ``ValueError`` for a limit that is negative or NaN; ``NonFiniteNormError`` with ``nonfinite="error"``.
    """
    limit = (max_norm, ord, eps, nonfinite)
    if out is not None and (isinstance(x, Tensor) or is_sparse(x)):
        raise TypeError("out is for arrays of numpy: use what is returned")
    if isinstance(x, Tensor):
        return x.clip_by_norm(max_norm, axes_of(axis), ord=ord, eps=eps, nonfinite=nonfinite)
    if (home := framework(x)) is not None and not getattr(x, "is_sparse", False):
        return home.clip_by_norm(x, max_norm, axis, ord=ord, eps=eps, nonfinite=nonfinite)
    of, kind = _values(x, axis)
    made = into(out, of.shape, of.dtype, lambda y: _core.clip_by_norm(of, axes_of(axis), limit, False, y))
    return kind(made) if out is None else made


def clip_by_average_norm(
    x: Any,
    max_norm: float,
    /,
    axis: Axis = None,
    *,
    ord: Ord = 2,
    eps: float = 0.0,
    nonfinite: NonFinite = "propagate",
    out: Any = None,
) -> Any:
    """Like `clip_by_norm`, by the norm divided by the number of elements: TensorFlow's ``clip_by_average_norm``."""
    of, limit = plain(x), (max_norm, ord, eps, nonfinite)
    made = into(out, of.shape, of.dtype, lambda y: _core.clip_by_norm(of, axes_of(axis), limit, True, y))
    return back(x, out)(made)


def clip_by_norm_backward(
    x: Any,
    g: Any,
    max_norm: float,
    /,
    axis: Axis = None,
    *,
    eps: float = 0.0,
    nonfinite: NonFinite = "propagate",
    out: Any = None,
) -> Any:
    """The gradient of x, for the gradient g of ``clip_by_norm(x, max_norm, axis)`` by the 2-norm.

    Raises as `clip_by_norm`; ``ValueError`` if x and g differ in shape.
    """
    if isinstance(x, Tensor):
        return x.clip_by_norm_backward(g, max_norm, axes_of(axis), eps=eps, nonfinite=nonfinite)
    of, g, limit = plain(x), plain(g), (max_norm, 2, eps, nonfinite)
    made = into(out, of.shape, of.dtype, lambda gx: _core.clip_by_norm_backward(of, g, axes_of(axis), limit, gx))
    return back(x, out)(made)


def clip_adaptive(
    grad: Any,
    parameter: Any,
    clipping: float,
    /,
    axis: Axis,
    *,
    eps: float = 1e-3,
    ord: Ord = 2,
    nonfinite: NonFinite = "propagate",
    out: Any = None,
) -> Any:
    """Adaptive gradient clipping: limits the norm of each slice of a gradient to ``clipping`` times that of the same slice of its parameter,
    which is taken as at least ``eps``. ``axis`` are the axes of a slice (a unit): those of a layer's inputs; None means all axes, and with ``()``
    each element is a unit.

    Raises as `clip_by_norm`.
    """
    of, by, limit = plain(grad), plain(parameter), (clipping, ord, 0.0, nonfinite)
    axes = axes_of(range(of.ndim) if axis is None else axis) or []
    made = into(out, of.shape, of.dtype, lambda y: _core.clip_adaptive(of, by, axes, limit, eps, y))
    return back(grad, out)(made)


def _have_norms(arrays: Sequence[Any]) -> list[int]:
    """The indices of arrays that have a norm: None and integers, such as counters among gradients, do not."""
    return [n for n, x in enumerate(arrays) if x is not None and (isinstance(x, Tensor) or _values(x)[0].dtype.kind not in "biu")]


def global_norm(arrays: Iterable[Any] | Mapping[Any, Any], /, *, ord: Ord = 2) -> float:
    """The norm of all elements of several arrays, of any float types: rounded to float32, or to float64 if any array is float64. None and integer
    arrays are skipped.

    Raises as `norm`.
    """
    given = list(arrays.values() if isinstance(arrays, Mapping) else arrays)
    return _core.global_norm([_values(given[n])[0] for n in _have_norms(given)], ord)


def clip_by_global_norm(
    arrays: Iterable[Any] | Mapping[Any, Any],
    max_norm: float,
    /,
    *,
    ord: Ord = 2,
    eps: float = 0.0,
    nonfinite: NonFinite = "propagate",
    batch_axis: int | None = None,
    out: Sequence[Any] | Mapping[Any, Any] | None = None,
) -> tuple[Any, Any]:
    """Scales several arrays down so that their common norm is at most ``max_norm``. Returns the clipped arrays (a list, or a dict for a dict) and the norm before clipping. None
    and integer arrays, such as counters among gradients, are returned unchanged.

    A norm that is not finite causes a warning (`wgclip.NonFiniteNormWarning`) that names the first array with such a norm.

    With ``batch_axis``, an axis that all arrays have, each sample along it has its own norm over all arrays (as in DP-SGD, per-example gradient
    clipping), and an array of these norms is returned. For scipy's sparse arrays the stored values count, and the result is sparse.

    ``out`` is a sequence of arrays to write to, which may be ``arrays`` themselves. For tensors on a device, the results and the norm are tensors.

    >>> import numpy as np, wgclip
    >>> gradients = [np.array([3.0, 0.0]), np.array([-4.0])]
    >>> wgclip.clip_by_global_norm(gradients, 2.5)
    ([array([1.5, 0. ]), array([-2.])], 5.0)

    Raises as `clip_by_norm`. Nothing is changed then.
    """
    if isinstance(arrays, Mapping):
        if isinstance(out, Mapping):
            out = [out[name] for name in arrays]
        clipped, norm = clip_by_global_norm(
            arrays.values(), max_norm, ord=ord, eps=eps, nonfinite=nonfinite, batch_axis=batch_axis, out=out
        )
        return dict(zip(arrays, clipped)), norm
    given, limit = list(arrays), (max_norm, ord, eps, nonfinite)
    if any(isinstance(x, Tensor) for x in given):
        there = [n for n, x in enumerate(given) if x is not None]
        if out is not None or batch_axis is not None or not all(isinstance(given[n], Tensor) for n in there):
            raise TypeError("tensors of a device are clipped with others of it, without out and batch_axis: give all of them as tensors, or none")
        clipped, norm = _core.clip_tensors_by_global_norm([given[n] for n in there], limit)
        found = dict(zip(there, clipped))
        return [found.get(n) for n in range(len(given))], norm
    places = _have_norms(given)
    values = [_values(given[n], whole=batch_axis is None) for n in places]
    named = [f"array {n} of {len(given)}, counted from 0," for n in places]
    read = [of for of, _ in values]
    if batch_axis is not None:
        if out is not None:
            raise TypeError("with batch_axis there is no out: use what is returned")
        read = [plain(np.moveaxis(of, batch_axis, 0)) for of in read]
        made: list[Any] = [np.empty_like(x) for x in read]
        norms: Any = np.empty(read[0].shape[0] if read else 0, np.float64 if any(x.dtype == np.float64 for x in read) else np.float32)
        _core.clip_by_norms_of_samples(read, limit, made, norms)
        made = [plain(np.moveaxis(of, 0, batch_axis)) for of in made]
    elif out is None:
        made = [np.empty_like(x) for x in read]
        norms = _core.clip_by_global_norm(read, limit, made, named)
    if out is None:
        results = list(given)
        for n, (_, kind), of in zip(places, values, made):
            results[n] = kind(of)
        return results, norms
    targets = list(out)
    if len(targets) != len(given):
        raise ValueError(f"{len(given)} arrays, but {len(targets)} outputs: give one for each")
    shapes = [(x.shape, x.dtype) for x in read]
    written = [targets[n] for n in places]
    norm = into_all(written, shapes, lambda outputs: _core.clip_by_global_norm(read, limit, outputs, named))
    for n, target in enumerate(targets):
        if n not in places and given[n] is not None and target is not None and target is not given[n]:
            target[...] = given[n]
    return targets, norm
