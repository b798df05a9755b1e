"""wgclip for JAX, on the CPU: clip with every rule of its gradient, under ``jit``, ``grad`` and ``vmap``.

XLA calls back into the compiled part (``jax.pure_callback``).
"""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import _elementwise, _norms
from ._arrays import Array
from ._core import BackwardRule
from ._norms import Axis, NonFinite, Ord

_JAX = _elementwise.rule_text("jax")

#: Static under transformations: the scalar bounds, and the rule.
_Static = tuple[float | None, float | None, str]


def _call(run: Callable[..., Any], results: Any, *arrays: Any) -> Any:
    """Calls back with arrays that all have their batch axes in front."""
    return jax.pure_callback(run, results, *arrays, vmap_method="broadcast_all")


def to_numpy(x: Any) -> Array:
    """The elements as a numpy array."""
    return np.asarray(x)


#: A numpy array as a JAX array.
from_numpy = jnp.asarray


def _shape(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def _side(static: float | None, traced: Any) -> Any:
    return static if traced is None else np.asarray(traced)


def _forward(static: _Static, x: Any, lo: Any, hi: Any) -> Any:
    def run(x: Any, lo: Any, hi: Any) -> Array:
        made = _elementwise.clip(np.asarray(x), _side(static[0], lo), _side(static[1], hi))
        return np.asarray(made)

    return _call(run, _shape(x), x, lo, hi)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _clip(static: _Static, x: Any, lo: Any, hi: Any) -> Any:
    return _forward(static, x, lo, hi)


def _clip_fwd(static: _Static, x: Any, lo: Any, hi: Any) -> tuple[Any, tuple[Any, Any, Any]]:
    return _forward(static, x, lo, hi), (x, lo, hi)


def _clip_bwd(static: _Static, saved: tuple[Any, Any, Any], g: Any) -> tuple[Any, Any, Any]:
    x, lo, hi = saved
    present = [side for side in (lo, hi) if side is not None]

    def run(x: Any, g: Any, lo: Any, hi: Any) -> tuple[Array, ...]:
        needs = (True, lo is not None, hi is not None)
        sides = _side(static[0], lo), _side(static[1], hi)
        made = _elementwise.clip_backward_bounds(np.asarray(x), np.asarray(g), *sides, rule=static[2], needs=needs)
        return tuple(np.asarray(of) for of in made if of is not None)

    gx, *rest = _call(run, tuple(_shape(of) for of in (x, *present)), x, g, lo, hi)
    of_bounds = iter(rest)
    return gx, None if lo is None else next(of_bounds), None if hi is None else next(of_bounds)


_clip.defvjp(_clip_fwd, _clip_bwd)


def clip(x: Any, min: Any = None, max: Any = None, *, rule: BackwardRule | str = _JAX) -> Any:
    """Clips the elements of x, like ``jnp.clip``, with a gradient by any rule, by default JAX's own.

    A bound is None, a number, or an array of the type of x that broadcasts to it. An array has a gradient: the exact sum over the elements
    that it broadcasts to.

    >>> import jax, jax.numpy as jnp, wgclip.jax
    >>> x = jnp.array([-1.0, 0.5, 2.0])
    >>> jax.grad(lambda x: wgclip.jax.clip(x, 0, 1).sum())(x)
    Array([0., 1., 0.], dtype=float32)

    Raises as `wgclip.clip`, except that a run-time error (a bound that is NaN) is a JAX error that contains the message. Forward-mode and second
    derivatives are not supported.
    """
    x = jnp.asarray(x)
    numbers_: list[Any] = []
    arrays: list[Any] = []
    for side in (min, max):
        if side is None or isinstance(side, numbers.Real):
            numbers_.append(side)
            arrays.append(None)
            continue
        # Lists and weakly typed values take the type of x.
        typed = isinstance(side, np.ndarray | np.generic) or not getattr(side, "weak_type", True)
        side = jnp.asarray(side) if typed else jnp.asarray(side, x.dtype)
        if side.dtype != x.dtype:
            raise TypeError(f"a bound of {side.dtype} does not go with elements of {x.dtype}: give both the same type")
        if side.ndim > x.ndim:
            raise ValueError(f"a bound of shape {side.shape} does not broadcast to {x.shape}")
        numbers_.append(None)
        # With as many axes as x, so that a batch axis is in front of all of them.
        arrays.append(side.reshape((1,) * (x.ndim - side.ndim) + side.shape))
    return _clip((numbers_[0], numbers_[1], _elementwise.rule_text(rule)), x, *arrays)


_Limit = tuple[float, tuple[int, ...] | None, float, NonFinite]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _by_norm(limit: _Limit, x: Any) -> Any:
    max_norm, axis, eps, nonfinite = limit

    def run(x: Any) -> Array:
        return np.asarray(_norms.clip_by_norm(np.asarray(x), max_norm, axis, eps=eps, nonfinite=nonfinite))

    return jax.pure_callback(run, _shape(x), x, vmap_method="sequential")


def _by_norm_fwd(limit: _Limit, x: Any) -> tuple[Any, Any]:
    return _by_norm(limit, x), x


def _by_norm_bwd(limit: _Limit, x: Any, g: Any) -> tuple[Any]:
    max_norm, axis, eps, nonfinite = limit

    def run(x: Any, g: Any) -> Array:
        made = _norms.clip_by_norm_backward(
            np.asarray(x), np.asarray(g), max_norm, axis, eps=eps, nonfinite=nonfinite
        )
        return np.asarray(made)

    return (jax.pure_callback(run, _shape(x), x, g, vmap_method="sequential"),)


_by_norm.defvjp(_by_norm_fwd, _by_norm_bwd)


def clip_by_norm(
    x: Any,
    max_norm: float,
    axis: Axis = None,
    *,
    ord: Ord = 2,
    eps: float = 0.0,
    nonfinite: NonFinite = "propagate",
) -> Any:
    """Scales x down so that its 2-norm, or that of each slice along axes, is at most ``max_norm``, a number. Differentiable.

    Raises as `wgclip.clip_by_norm`; ``ValueError`` for another norm.
    """
    if ord != 2:
        raise ValueError("arrays of JAX are clipped by the 2-norm, which has a gradient")
    axes = _norms.axes_of(axis)
    along = None if axes is None else tuple(axes)
    return _by_norm((float(max_norm), along, eps, nonfinite), jnp.asarray(x))


def clip_by_global_norm(tree: Any, max_norm: Any, *, eps: float = 0.0, nonfinite: NonFinite = "propagate") -> tuple[Any, Any]:
    """Scales the leaves of a tree down so that their common 2-norm is at most ``max_norm``, like optax's ``clip_by_global_norm`` does to
    updates. Returns the tree and the norm, a float32, or a float64 if any leaf is. Not differentiable. Integer leaves are unchanged.
    ``max_norm`` may be traced, such as the value of a schedule under ``jit``.

    Raises as `wgclip.clip_by_global_norm`.
    """
    leaves, structure = jax.tree.flatten(tree)
    given = [jnp.asarray(leaf) for leaf in leaves]
    # Counters among gradients are unchanged.
    places = [n for n, leaf in enumerate(given) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    leaves = [given[n] for n in places]
    double = any(leaf.dtype == jnp.float64 for leaf in leaves)
    total = np.float64 if double else np.float32

    # A Python number keeps the bits that a float32 array would lose.
    traced = [max_norm] if isinstance(max_norm, jax.Array) else []

    def run(*operands: Any) -> tuple[Array, ...]:
        limit = float(operands[0]) if traced else float(max_norm)
        arrays = [np.asarray(leaf) for leaf in operands[len(traced) :]]
        made, norm = _norms.clip_by_global_norm(arrays, limit, eps=eps, nonfinite=nonfinite)
        return *(np.asarray(of) for of in made), np.asarray(norm, total)

    results = (*(_shape(leaf) for leaf in leaves), jax.ShapeDtypeStruct((), total))
    *made, norm = jax.pure_callback(run, results, *traced, *leaves, vmap_method="sequential")
    for n, leaf in zip(places, made):
        given[n] = leaf
    return jax.tree.unflatten(structure, given), norm
