"""wgclip for Dask: arrays larger than memory, or than one machine.

Each block is processed on a single worker thread, since workers are already parallel. Blocks are never changed in place.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, SupportsFloat

import dask.array as da
import numpy as np
from dask.graph_manipulation import bind

from . import _core, _elementwise, _quantiles
from ._arrays import Array, bound, plain
from ._core import NormState
from ._norms import Axis, Ord, axes_of, merge_of


class _Alone:
    """Restricts calls to the calling thread."""

    def __enter__(self) -> None:
        self.before = _core.set_alone(True)

    def __exit__(self, *_: object) -> None:
        _core.set_alone(self.before)


def _native(x: Any) -> Any:
    """A dask array in native byte order."""
    x = da.asarray(x)
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def _clip_block(x: Array, lo: Any, hi: Any) -> Array:
    with _Alone():
        return np.asarray(_elementwise.clip(x, lo, hi))


def clip(x: Any, min: Any = None, max: Any = None) -> Any:
    """Clips a dask array, lazily. A bound is None, a number, or a numpy or dask array that broadcasts to x.

    >>> import dask.array as da, wgclip.dask
    >>> wgclip.dask.clip(da.arange(6, chunks=2), 1, 4).compute()
    array([1, 1, 2, 3, 4, 4])

    Raises as `wgclip.clip`, when it is computed.
    """
    x = _native(x)
    sides = [
        min if isinstance(min, da.Array) else bound(min, x.dtype, "min"),
        max if isinstance(max, da.Array) else bound(max, x.dtype, "max"),
    ]
    sides = [da.asarray(side) if isinstance(side, np.ndarray | da.Array) and side.ndim > 0 else side for side in sides]
    known = [of.shape for of in (x, *sides) if isinstance(of, da.Array)]
    if not any(np.isnan(length) for shape in known for length in shape):
        np.broadcast_shapes(*known)
    operands = [(of, of.ndim if isinstance(of, da.Array) else None) for of in (x, *sides)]
    axes = tuple(range(np.max([ndim for _, ndim in operands if ndim is not None])))
    # Each array is aligned with the last axes of the result. Chunks are unified.
    arguments = [item for of, ndim in operands for item in (of, None if ndim is None else axes[len(axes) - ndim :])]
    return da.blockwise(_clip_block, axes, *arguments, dtype=x.dtype, meta=x._meta)


def _over_blocks(run: Any, x: Any, shape: tuple[int, ...], *operands: Any) -> Any:
    """Maps each block to an int64 array of the given shape, as a dask array: its axes are those of the blocks, then those of the
    shape. Operands are dask arrays with a single chunk, which each call gets whole."""

    def one(block: Array, *operands: Any) -> Array:
        with _Alone():
            made: Array = run(plain(block), *operands)
        return made.reshape((1,) * block.ndim + made.shape)

    axes = tuple(range(x.ndim))
    new = {x.ndim + n: length for n, length in enumerate(shape)}
    arguments = []
    for place, of in enumerate(operands):
        # Axes that the result does not have.
        arguments += [of, tuple(1000 + 10 * place + n for n in range(of.ndim))]
    return da.blockwise(
        one,
        (*axes, *new),
        x,
        axes,
        *arguments,
        new_axes=new,
        adjust_chunks={axis: lambda _: 1 for axis in axes},
        dtype=np.int64,
        concatenate=True,
        meta=np.empty((0,) * (x.ndim + len(shape)), np.int64),
    )


def _whole(run: Any, x: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Applies a function to a whole dask array; the result has the given shape."""
    axes = tuple(range(x.ndim))
    new = {x.ndim + n: length for n, length in enumerate(shape)}
    return da.blockwise(run, tuple(new), x, axes, new_axes=new, dtype=dtype, concatenate=True, meta=np.empty((0,) * len(shape), dtype))


def norm(x: Any, *, ord: Ord = 2) -> Any:
    """The exact norm of all elements of a dask array, lazily: a 0-d dask array of float32, or of float64 for float64. It has the same bits
    for every chunking.

    Raises as `wgclip.norm`, when it is computed.
    """
    x = _native(x)
    wide = x.dtype == np.float64
    dtype = np.dtype(np.float64 if wide else np.float32)
    empty = NormState(ord, wide=wide).words()

    def words(block: Array) -> Array:
        state = NormState(ord, wide=wide)
        state.add(block)
        return np.array(state.words(), dtype=np.int64)

    def rounded(words: Array) -> Array:
        return np.asarray(NormState.from_words(words, ord).norm(), dtype)

    parts = _over_blocks(words, x, (len(empty),))
    axes = tuple(range(x.ndim))
    merged = (parts.max if merge_of(ord) == "max" else parts.sum)(axis=axes) if axes else parts
    return _whole(rounded, merged, (), dtype)


#: Bits of an order key that one pass over the elements determines.
_DIGIT = 16


def _keys(x: Array) -> Array:
    """Order keys: unsigned integers that sort like the elements, without NaN."""
    x = plain(x).ravel()
    if x.dtype.kind == "f" or x.dtype.name == "bfloat16":
        x = x[x == x]
        signed = x.view(f"i{x.dtype.itemsize}")
        bits = x.view(f"u{x.dtype.itemsize}")
        top = bits.dtype.type(1 << (8 * x.dtype.itemsize - 1))
        return np.where(signed < 0, ~bits, bits | top)
    if x.dtype.kind == "i":
        bits = x.view(f"u{x.dtype.itemsize}")
        return bits ^ bits.dtype.type(1 << (8 * x.dtype.itemsize - 1))
    if x.dtype.kind == "u":
        return x
    raise TypeError(f"elements of {x.dtype} have no quantiles here: convert them to a float or an integer type")


def _element(key: int, dtype: Any) -> Array:
    """The element of a key."""
    bits = 8 * dtype.itemsize
    top = 1 << (bits - 1)
    if dtype.kind == "u":
        pass
    elif dtype.kind == "i":
        key ^= top
    else:
        key = key ^ top if key & top else ~key & ((1 << bits) - 1)
    return np.array(key, dtype=f"u{dtype.itemsize}").view(dtype)


def _count(x: Array, state: Array, done: int) -> Array:
    """Counts the keys that begin with each prefix of `done` bits, by the bits that follow. The first row of the state has the prefixes."""
    keys = _keys(x)
    bits = 8 * keys.dtype.itemsize
    step = min(_DIGIT, bits - done)
    unsigned = keys.astype(np.uint64, copy=False)
    digits = ((unsigned >> np.uint64(bits - done - step)) & np.uint64((1 << step) - 1)).astype(np.int64)
    counts = np.zeros((state.shape[1], 1 << step), np.int64)
    found: dict[int, Array] = {}
    for n, prefix in enumerate(state[0].tolist()):
        if prefix not in found:
            ours = digits if done == 0 else digits[unsigned >> np.uint64(bits - done) == np.uint64(prefix)]
            found[prefix] = np.bincount(ours, minlength=1 << step)
        counts[n] = found[prefix]
    return counts


def _descend(counts: Array, state: Array, qs: Sequence[float], done: int) -> Array:
    """The next digits of each quantile, from the counts: a row of prefixes, and a row of remaining ranks among their keys."""
    made = state.copy()
    total = int(counts[0].sum())
    if done == 0 and total == 0:
        raise ValueError("an array without numbers has no quantiles: give bounds instead")
    for n, (count, q) in enumerate(zip(counts, qs)):
        # The smallest element that a share q of all do not exceed: numpy's "inverted_cdf".
        rank = max(0, int(np.ceil(np.float64(q) * total)) - 1) if done == 0 else int(state[1, n])
        sums = np.cumsum(count)
        digit = int(np.searchsorted(sums, rank, side="right"))
        below = int(sums[digit - 1]) if digit else 0
        made[0, n] = int(state[0, n]) << (len(count).bit_length() - 1) | digit
        made[1, n] = rank - below
    return made


def _quantiles_along(x: Any, shares: Sequence[float], axis: Axis, keepdims: bool) -> list[Any]:
    """The quantiles of slices along axes. Each slice is rechunked into one chunk."""
    given = axes_of(axis) or []
    for one in given:
        if not -x.ndim <= one < x.ndim:
            raise ValueError(f"axis {one} is none of an array of {x.ndim} axes")
    along = [one % x.ndim for one in given]
    axes, count = tuple(range(x.ndim)), len(shares)

    def run(block: Array) -> Array:
        with _Alone():
            return np.stack(_quantiles.quantiles(block, shares, tuple(along), keepdims=True))

    whole = x.rechunk({one: -1 for one in along})
    made = da.blockwise(
        run, (x.ndim, *axes), whole, axes, new_axes={x.ndim: count}, adjust_chunks={one: lambda _: 1 for one in along},
        dtype=x.dtype, meta=np.empty((0,) * (x.ndim + 1), x.dtype),
    )
    index = tuple(0 if n in along and not keepdims else slice(None) for n in axes)
    return [made[(n, *index)] for n in range(count)]


def quantiles(x: Any, q: float | Sequence[float], /, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """The exact quantiles of all elements of a dask array, lazily, as 0-d dask arrays: each is an element, the smallest one that a share q of the
    elements do not exceed (numpy's method ``"inverted_cdf"``). NaN is ignored. It takes two passes over 32-bit elements (four for 64-bit, one for
    16-bit), and 512 KiB for each quantile in each task. One share gives one array, several give a list.

    Along axes, each slice has its own quantiles, and is loaded whole by one task.

    Raises ``ValueError`` for a share outside of 0 to 1, and, when it is computed, for an array without numbers.
    """
    x = _native(x)
    if isinstance(q, SupportsFloat) and np.ndim(q) == 0:
        return quantiles(x, [float(q)], axis, keepdims=keepdims)[0]
    q = [float(share) for share in q]  # type: ignore[union-attr]
    if not all(0 <= share <= 1 for share in q):
        raise ValueError("a quantile is of a share between 0 and 1")
    bits, shares = 8 * x.dtype.itemsize, list(q)
    if not shares:
        return []
    if axis is not None:
        return _quantiles_along(x, shares, axis, keepdims)
    state = da.zeros((2, len(shares)), dtype=np.uint64, chunks=-1)
    for done in range(0, bits, _DIGIT):
        step = min(_DIGIT, bits - done)
        # Blocks are reloaded for each pass; otherwise they would be kept from the first pass to the last.
        again = bind(x, state) if done else x
        counts = _over_blocks(functools.partial(_count, done=done), again, (len(shares), 1 << step), state)
        total = counts.sum(axis=tuple(range(x.ndim))) if x.ndim else counts
        next_state = functools.partial(_descend, qs=shares, done=done)
        state = da.blockwise(
            next_state, "sq", total, "nd", state, "sq", dtype=np.uint64, concatenate=True,
            meta=np.empty((0, 0), np.uint64), align_arrays=False,
        )
    element = x.dtype

    def one(state: Array, n: int) -> Array:
        return _element(int(state[0, n]), element)

    found = [_whole(functools.partial(one, n=n), state, (), element) for n in range(len(shares))]
    return [of[(None,) * x.ndim] for of in found] if keepdims else found


def _clip_between(x: Array, lo: Any, hi: Any) -> Array:
    return _clip_block(x, None if lo is None else np.asarray(lo)[()], None if hi is None else np.asarray(hi)[()])


def clip_quantiles(x: Any, lower: float | None = None, upper: float | None = None, /, axis: Axis = None) -> Any:
    """Clips a dask array to its own quantiles, lazily, or each slice along axes to its own: ``clip_quantiles(x, 0.01, 0.99)`` clips the lowest and highest
    1 % to the quantiles that bound the rest. NaN is kept, and ignored in the quantiles.

    Raises as `quantiles`; ``ValueError`` if the lower share is above the upper one.
    """
    wanted = _quantiles.in_order(lower, upper)
    x = _native(x)
    if not wanted:
        return x
    found = iter(quantiles(x, wanted, axis, keepdims=axis is not None))
    lo, hi = (None if share is None else next(found) for share in (lower, upper))
    axes = tuple(range(x.ndim))
    # Blocks are reloaded when the bounds are known.
    again = bind(x, [side for side in (lo, hi) if side is not None])
    if axis is not None:
        return clip(again, lo, hi)
    operands = [item for side in (lo, hi) for item in (side, None if side is None else ())]
    return da.blockwise(_clip_between, axes, again, axes, *operands, dtype=x.dtype, meta=x._meta)
