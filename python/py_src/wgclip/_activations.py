"""Functions that bound x: tanh and the logistic function, each the real value rounded once, soft caps and softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _core
from ._arrays import back, framework, plain
from ._core import Tensor
from ._elementwise import run
from ._norms import Axis, axes_of


def tanh(x: Any, /) -> Any:
    """The hyperbolic tangent of each element of x, which is of a float type of up to 32 bits: the real value rounded once, so the same bits everywhere.

    A NaN stays as it is. A torch tensor is passed to ``wgclip.torch``.

    >>> import numpy as np, wgclip
    >>> wgclip.tanh(np.array([-20, 0, 0.5], dtype="float32"))
    array([-1.        ,  0.        ,  0.46211717], dtype=float32)

    Raises ``TypeError`` for integers and float64.
    """
    return _of("tanh", x)


def tanh_backward(y: Any, g: Any, /) -> Any:
    """The gradient of x from the result ``y = tanh(x)`` and its gradient g: ``g * (1 - y**2)``, rounded once.

    >>> import numpy as np, wgclip
    >>> wgclip.tanh_backward(np.float32([0.5, 1]), np.float32([2, 2]))
    array([1.5, 0. ], dtype=float32)

    Raises as `tanh`; ``ValueError`` if the shapes differ.
    """
    return run("tanh_backward", y, g)


def soft_cap(x: Any, /, cap: float) -> Any:
    """``cap * tanh(x / cap)`` for each element of x, which is of a float type of up to 32 bits: none comes out beyond the cap.

    Language models cap attention scores and logits so (Gemma 2: 50 and 30). Quotient, tangent and product are each rounded to float32. A NaN stays as it is. A torch tensor is
    passed to ``wgclip.torch``.

    >>> import numpy as np, wgclip
    >>> wgclip.soft_cap(np.array([-1e9, 0.5, 40], dtype="float32"), 30)
    array([-30.        ,   0.49995375,  26.10185   ], dtype=float32)

    Raises ``TypeError`` for integers and float64, ``ValueError`` for a cap that is not positive and finite.
    """
    return _of("soft_cap", x, cap=cap)


def soft_cap_backward(y: Any, g: Any, /, cap: float) -> Any:
    """The gradient of x from the result ``y = soft_cap(x, cap)`` and its gradient g: ``g * (1 - (y / cap)**2)``.

    Raises as `soft_cap`; ``ValueError`` if the shapes differ.
    """
    return run("soft_cap_backward", y, g, cap=cap)


def sigmoid(x: Any, /) -> Any:
    """The logistic function ``1 / (1 + exp(-x))`` of each element of x, which is of a float type of up to 32 bits: the real value rounded once, so the same bits everywhere.

    A NaN stays as it is. A torch tensor is passed to ``wgclip.torch``.

    >>> import numpy as np, wgclip
    >>> wgclip.sigmoid(np.array([-110, 0, 1], dtype="float32"))
    array([0.       , 0.5      , 0.7310586], dtype=float32)

    Raises ``TypeError`` for integers and float64.
    """
    return _of("sigmoid", x)


def sigmoid_backward(y: Any, g: Any, /) -> Any:
    """The gradient of x from the result ``y = sigmoid(x)`` and its gradient g: ``g * y * (1 - y)``, rounded once.

    >>> import numpy as np, wgclip
    >>> wgclip.sigmoid_backward(np.float32([0.5, 1]), np.float32([2, 2]))
    array([0.5, 0. ], dtype=float32)

    Raises as `sigmoid`; ``ValueError`` if the shapes differ.
    """
    return run("sigmoid_backward", y, g)


def softmax(x: Any, /, axis: Axis = -1) -> Any:
    """``exp(x)`` divided by its sum along an axis, some axes, or of all elements (None), for floats of up to 32 bits.

    The sum is exact, and each quotient is rounded once: the same bits for any order, length and split of the work, within 0.55 units of the last place. ``-inf`` gives 0; a
    slice with NaN or inf, or of ``-inf`` alone, gives NaN. A torch tensor is passed to ``wgclip.torch``, with ``dim=axis``.

    >>> import numpy as np, wgclip
    >>> wgclip.softmax(np.array([0, 0, -np.inf], dtype="float32"))
    array([0.5, 0.5, 0. ], dtype=float32)

    Raises ``TypeError`` for integers and float64, ``ValueError`` for an invalid axis.
    """
    if isinstance(x, Tensor):
        return x.softmax(axes_of(axis))
    if (home := framework(x)) is not None and hasattr(home, "softmax"):
        return home.softmax(x, axis)
    of = plain(x)
    made = np.empty(of.shape, of.dtype)
    _core.softmax(of, axes_of(axis), made)
    return back(x)(made)


def softmax_backward(y: Any, g: Any, /, axis: Axis = -1) -> Any:
    """The gradient of x from the result ``y = softmax(x, axis)`` and its gradient g: ``y * (g - dot)``, with the exact dot product of y and g along the axis.

    Dot product, difference and product are each rounded to float32, and the result to the type.

    >>> import numpy as np, wgclip
    >>> wgclip.softmax_backward(np.float32([0.25, 0.75]), np.float32([1, -1]))
    array([ 0.375, -0.375], dtype=float32)

    Raises as `softmax`; ``ValueError`` if the shapes differ.
    """
    if isinstance(y, Tensor):
        return y.softmax_backward(g, axes_of(axis))
    of, upstream = plain(y), plain(g)
    made = np.empty(of.shape, of.dtype)
    _core.softmax_backward(of, upstream, axes_of(axis), made)
    return back(y)(made)


def _of(name: str, x: Any, **params: Any) -> Any:
    home = framework(x)
    return getattr(home, name)(x, **params) if hasattr(home, name) else run(name, x, **params)
