"""Scales and zero points for the elements of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _core
from ._arrays import back, dtype_of, element_of, is_float4, of_tensor, plain
from ._core import QuantRule, Tensor
from ._norms import Axis, axes_of, shape_without


def calibrate(
    x: Any,
    /,
    axis: Axis = None,
    *,
    range: str = "minmax",  # noqa: A002
    scheme: str = "symmetric",
    rule: QuantRule | str = "exact",
    dtype: Any = None,
    scales: str = "greatest",
    finite_only: bool = False,
) -> tuple[Any, Any]:
    """The scale (float32) and the zero point (int32) for the codes of the elements of x, or of each slice along axes: those that share a scale, as of
    `norm`. With axes they have a length of 1 along them, so that they broadcast to x. Computed on the CPU.

    ``range`` says which values the codes cover: ``"minmax"``; ``"p99.9"``, between the percentiles 0.1 and 99.9, or ``"p1..p99"``; ``"mse"``, the part of minmax with
    the least squared error; ``"-1..1"``. ``scheme`` spreads them around 0 (``"symmetric"``, without clipping any, or ``"symmetric-half"``, as torch's observers do), or
    from the lowest to the highest (``"affine"``, or ``"shifted"`` as TensorFlow does it). NaN and infinity are an error, or left out with ``finite_only``.

    For codes that are floats give their ``dtype``, float8_e4m3fn, float8_e5m2 or float4_e2m1fn, in place of a scheme and a rule. Their scale follows from the greatest
    magnitude: it is the greatest code (``scales="greatest"``), or scales are powers of two, as microscaling formats have them: ``"floor"``, ``"ceil"``, ``"round-up"``,
    ``"even"``. The zero point is the number 0.

    >>> import numpy as np, wgclip
    >>> x = np.array([[0.5, -1.27], [2.54, 0.0]], "float32")
    >>> scale, zero_point = wgclip.calibrate(x, axis=1)
    >>> wgclip.quantize(x, scale, zero_point)
    array([[  50, -127],
           [ 127,    0]], dtype=int8)

    Raises ``ValueError`` for elements that are not finite, for an unknown range, scheme or rule, and for an invalid axis; ``TypeError`` for integers.
    """
    of, axes = of_tensor(x) if isinstance(x, Tensor) else plain(x), axes_of(axis)
    shape = () if axes is None else shape_without(of.shape, axes, True)
    made = np.empty(shape, "float32"), np.empty(shape, "int32")
    floats = None if dtype is None else (_format_of(dtype), scales)
    _core.calibrate(of, axes, range, scheme, rule, finite_only, floats, made)
    if floats:
        made = made[0], np.zeros((), "int32")
    scale, zero_point = (one if one.ndim else one[()] for one in made)
    if isinstance(x, Tensor):
        return scale, zero_point
    kind = back(x)
    return kind(scale), kind(zero_point)


def _format_of(dtype: Any) -> str:
    """The name of a format of floats that are codes: e2m1, or that of a type."""
    return "e2m1" if is_float4(dtype) else element_of(dtype_of(dtype))
