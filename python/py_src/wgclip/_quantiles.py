"""Exact quantiles of arrays, and clipping to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsFloat

import numpy as np

from . import _core, _elementwise
from ._arrays import back, lazy, of_tensor, plain
from ._core import Tensor
from ._norms import Axis, axes_of, shape_without


def in_order(lower: float | None, upper: float | None) -> list[float]:
    """The given shares, which must not be crossed."""
    if lower is not None and upper is not None and lower > upper:
        raise ValueError(f"the lower quantile {lower} is above the upper one {upper}: give them in order, clip_quantiles(x, {upper}, {lower})")
    return [float(share) for share in (lower, upper) if share is not None]


def quantiles(x: Any, q: float | Sequence[float], /, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """The exact quantiles of all elements, or of slices along axes: each is an element, the smallest one that a share q of the elements do not exceed
    (numpy's method ``"inverted_cdf"``). NaN is ignored; a slice of floats with only NaN gives NaN.

    One share gives one array of the type of x, several give a list. Computed on the CPU.

    >>> import numpy as np, wgclip
    >>> wgclip.quantiles(np.array([9, 1, 7, 5], "uint8"), 0.5)
    np.uint8(5)
    >>> wgclip.quantiles(np.array([[1.0, 9.0], [2.0, np.nan]]), [0.0, 1.0], axis=1)
    [array([1., 2.]), array([9., 2.])]

    Raises ``ValueError`` for a share outside of 0 to 1, for an invalid axis, and for an array without numbers.
    """
    if isinstance(q, SupportsFloat) and np.ndim(q) == 0:
        return quantiles(x, [float(q)], axis, keepdims=keepdims)[0]
    q = [float(share) for share in q]  # type: ignore[union-attr]
    if (home := lazy(x)) is not None:
        return home.quantiles(x, q, axis=axis, keepdims=keepdims)
    of, shares, axes = of_tensor(x) if isinstance(x, Tensor) else plain(x), q, axes_of(axis)
    along = range(of.ndim) if axes is None else axes
    shape = shape_without(of.shape, along, True)
    made = np.empty((len(shares), *(() if axes is None else shape)), of.dtype)
    _core.quantiles(of, axes, shares, made)
    shape = shape if keepdims else shape_without(of.shape, along, False)
    return [back(x)(one.reshape(shape) if shape else one.reshape(())[()]) for one in made]


def clip_quantiles(
    x: Any, lower: float | None = None, upper: float | None = None, /, axis: Axis = None, *, out: Any = None
) -> Any:
    """Clips x to its own quantiles, or each slice along axes to its own: ``clip_quantiles(x, 0.01, 0.99)`` clips the lowest and highest 1 % to the
    quantiles that bound the rest. NaN is kept, and ignored in the quantiles.

    >>> import numpy as np, wgclip
    >>> wgclip.clip_quantiles(np.array([1.0, 2.0, 3.0, 400.0]), None, 0.75)
    array([1., 2., 3., 3.])

    Raises as `quantiles`; ``ValueError`` if the lower share is above the upper one.
    """
    shares = in_order(lower, upper)
    if out is not None and not isinstance(x, np.ndarray):
        raise TypeError("out is for arrays of numpy: use what is returned")
    if (home := lazy(x)) is not None:
        return home.clip_quantiles(x, lower, upper, axis=axis)
    found = iter(quantiles(x, shares, axis, keepdims=axis is not None))
    lo, hi = (None if share is None else next(found) for share in (lower, upper))
    if isinstance(x, Tensor) and axis is not None:
        lo, hi = (None if side is None else x.device.tensor(side) for side in (lo, hi))
    return _elementwise.clip(x, lo, hi, out)
