"""wgclip for TensorFlow, on the CPU: ``clip_by_value`` with every rule of its gradient, also in ``tf.function``."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from . import _elementwise, _norms
from ._core import BackwardRule
from ._norms import Axis, NonFinite, Ord

_TENSORFLOW = _elementwise.rule_text("tensorflow")


def to_numpy(x: Any) -> Any:
    """The elements as a numpy array."""
    return tf.convert_to_tensor(x).numpy()


#: A numpy array as a tensor.
from_numpy = tf.convert_to_tensor


def _underivable(run: Any, *tensors: Any) -> Any:
    """Makes a second derivative an error instead of silently dropping the gradient."""

    @tf.custom_gradient
    def made(*tensors: Any) -> Any:
        def gradient(*_: Any) -> Any:
            raise NotImplementedError("this gradient has no gradient of its own: clip with TensorFlow's own function there")

        return run(*tensors), gradient

    return made(*tensors)


def clip_by_value(
    t: Any, clip_value_min: Any = None, clip_value_max: Any = None, *, rule: BackwardRule | str = _TENSORFLOW
) -> Any:
    """Clips the elements of a tensor, like ``tf.clip_by_value``, with a gradient by any rule, by default TensorFlow's own.

    A bound is None, a number, or a tensor of the type of t that broadcasts to it. A tensor has a gradient: the exact sum over the elements that it
    broadcasts to. NaN payloads and subnormals are preserved bit for bit.

    Raises as `wgclip.clip`.
    """
    t, rule = tf.convert_to_tensor(t), _elementwise.rule_text(rule)
    given = (clip_value_min, clip_value_max)
    tensors = [side is not None and tf.is_tensor(side) or isinstance(side, tf.Variable) for side in given]
    traced = [tf.convert_to_tensor(side) for side, is_tensor in zip(given, tensors) if is_tensor]

    def sides(arrays: tuple[Any, ...]) -> list[Any]:
        of = iter(arrays)
        return [next(of) if is_tensor else side for side, is_tensor in zip(given, tensors)]

    @tf.custom_gradient
    def run(t: Any, *bounds: Any) -> Any:
        def forward(t: Any, *bounds: Any) -> Any:
            return _elementwise.clip(t, *sides(bounds))

        def gradient(g: Any) -> Any:
            def backward(t: Any, g: Any, *bounds: Any) -> list[Any]:
                needs = (True, tensors[0], tensors[1])
                made = _elementwise.clip_backward_bounds(t, g, *sides(bounds), rule=rule, needs=needs)
                return [of for of in made if of is not None]

            def run(t: Any, g: Any, *bounds: Any) -> Any:
                made = tf.numpy_function(backward, [t, g, *bounds], [t.dtype] * (1 + len(bounds)), stateful=False)
                made = made if isinstance(made, list | tuple) else [made]
                for of, like in zip(made, (t, *bounds)):
                    of.set_shape(like.shape)
                return made

            return _underivable(run, t, g, *bounds)

        y = tf.numpy_function(forward, [t, *bounds], t.dtype, stateful=False)
        y.set_shape(t.shape)
        return y, gradient

    return run(t, *traced)


def clip(x: Any, min: Any = None, max: Any = None, *, rule: BackwardRule | str = _TENSORFLOW) -> Any:
    """The same as `clip_by_value`, under the name used in the other modules."""
    return clip_by_value(x, min, max, rule=rule)


def clip_by_norm(
    t: Any,
    clip_norm: float,
    axes: Axis = None,
    *,
    ord: Ord = 2,
    eps: float = 0.0,
    nonfinite: NonFinite = "propagate",
) -> Any:
    """Scales a tensor down so that its 2-norm, or that of each slice along axes, is at most ``clip_norm``, a number: ``tf.clip_by_norm``, with the
    exact norm. Differentiable.

    Raises as `wgclip.clip_by_norm`; ``ValueError`` for another norm.
    """
    if ord != 2:
        raise ValueError("tensors of TensorFlow are clipped by the 2-norm, which has a gradient")

    @tf.custom_gradient
    def run(t: Any) -> Any:
        def forward(t: Any) -> Any:
            return _norms.clip_by_norm(t, clip_norm, axes, eps=eps, nonfinite=nonfinite)

        def gradient(g: Any) -> Any:
            def backward(t: Any, g: Any) -> Any:
                return _norms.clip_by_norm_backward(t, g, clip_norm, axes, eps=eps, nonfinite=nonfinite)

            def run(t: Any, g: Any) -> Any:
                made = tf.numpy_function(backward, [t, g], t.dtype, stateful=False)
                made.set_shape(t.shape)
                return made

            return _underivable(run, t, g)

        y = tf.numpy_function(forward, [t], t.dtype, stateful=False)
        y.set_shape(t.shape)
        return y, gradient

    return run(tf.convert_to_tensor(t))


def clip_by_global_norm(
    t_list: Any, clip_norm: float, *, eps: float = 0.0, nonfinite: NonFinite = "propagate"
) -> tuple[list[Any], Any]:
    """Scales tensors down so that their common norm is at most ``clip_norm``: ``tf.clip_by_global_norm``, with the exact norm. Entries that
    are None stay None. Returns the tensors and the norm. Not differentiable.

    Raises as `wgclip.clip_by_global_norm`.
    """
    if any(isinstance(t, tf.IndexedSlices) for t in t_list):
        raise TypeError("slices by index are not clipped here: give tensors, tf.convert_to_tensor(t)")
    given = [None if t is None else tf.convert_to_tensor(t) for t in t_list]
    there = [t for t in given if t is not None]
    if not there:
        return given, tf.constant(0.0)
    double = any(t.dtype == tf.float64 for t in there)
    total = tf.float64 if double else tf.float32

    def run(*arrays: Any) -> list[Any]:
        made, norm = _norms.clip_by_global_norm(arrays, clip_norm, eps=eps, nonfinite=nonfinite)
        return [*made, total.as_numpy_dtype(norm)]

    *made, norm = tf.numpy_function(run, there, [*(t.dtype for t in there), total], stateful=False)
    for of, like in zip(made, there):
        of.set_shape(like.shape)
    norm.set_shape(())
    of_list = iter(made)
    return [None if t is None else next(of_list) for t in given], norm
