"""Clip and its backward pass, over arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import _core
from ._arrays import Array, back, bound, dtype_of, element_of, framework, into, is_float4, labelled, lazy, plain
from ._core import BackwardRule, QuantRule, Tensor

_DEFAULT = BackwardRule()

#: The types of bounds that take the fast path.
_DIRECT = (type(None), float, int, np.ndarray)

#: The text of every rule.
_TEXTS = frozenset(map(str, BackwardRule.all()))

#: The text of each preset.
_PRESETS = {name: str(BackwardRule.like(name)) for name in BackwardRule.presets()}


def quant_rule(rule: QuantRule | str) -> QuantRule:
    """A rule, or that of a package by its name."""
    return QuantRule.like(rule) if isinstance(rule, str) else rule


def rule_text(rule: BackwardRule | str) -> str:
    """A rule as text, for frameworks whose operators accept no other objects, and whose compilers do not trace our calls."""
    if isinstance(rule, str):
        return _PRESETS[rule] if rule in _PRESETS else rule if rule in _TEXTS else str(BackwardRule.like(rule))
    return str(rule)


def _ordered(operand: Any, x: Any) -> Any:
    """An operand of x, in the order of x's labels if both have labels."""
    return operand if (labels := labelled(x)) is None else labels.in_order(operand, x)


def _sides(x: Any, of: Array, min: Any, max: Any) -> tuple[Any, Any]:
    """The bounds of x, which is the array ``of``."""
    return bound(_ordered(min, x), of.dtype, "min"), bound(_ordered(max, x), of.dtype, "max")


def clip(
    x: Any,
    /,
    min: Any = None,
    max: Any = None,
    out: Any = None,
    *,
    a_min: Any = None,
    a_max: Any = None,
) -> Any:
    """Clips the elements of x: ``minimum(maximum(x, min), max)``, like ``numpy.clip``.

    ``x`` is an array of any shape, of float16, float32, float64, an integer type, or a type of ml_dtypes; an object that converts to one; a
    tensor of torch, JAX or TensorFlow, which is passed to ``wgclip.torch`` and so on and gives a tensor; a dask array, which is passed to
    ``wgclip.dask`` and stays lazy; an xarray or pandas object, which keeps its labels and attributes, and whose bounds are aligned by label; or a
    ``wgclip.Tensor``.

    ``min`` and ``max`` are each None, a number, or an array of the type of x that broadcasts with it. A number is rounded to the type of x;
    one beyond the range of an integer type has no effect. ``a_min`` and ``a_max`` are numpy's older names for them.

    ``out`` is an array of the shape and type of the result. It may be x, which is then clipped in place.

    A NaN in x or in an array of bounds gives NaN; if min is above max, every number becomes max. The payload of a NaN and the sign of a zero
    are preserved.

    >>> import numpy as np, wgclip
    >>> wgclip.clip(np.array([-2.0, 0.5, 7.0], dtype="float32"), 0, 1)
    array([0. , 0.5, 1. ], dtype=float32)

    Raises ``ValueError`` for a bound that is NaN, for shapes that do not broadcast, and for an output that is read-only; ``TypeError`` for
    elements of another type (also in bounds and output) and for a fraction as a bound of integers. Nothing is changed then.
    """
    if a_min is not None or a_max is not None:
        if (a_min is not None and min is not None) or (a_max is not None and max is not None):
            raise TypeError("give min and max, or a_min and a_max")
        min, max = (min if a_min is None else a_min), (max if a_max is None else a_max)
    if (
        type(x) is np.ndarray
        and (out is None or type(out) is np.ndarray)
        and (type(min) in _DIRECT or isinstance(min, np.generic))
        and (type(max) in _DIRECT or isinstance(max, np.generic))
    ):
        # The fast path of most calls. Calls that it refuses take the slow path, which says why.
        y = np.empty_like(x) if out is None else out
        try:
            _core.clip(x, min, max, y)
        except (BufferError, TypeError, ValueError):
            pass
        else:
            return y if y.ndim or y is out else y[()]
    if isinstance(x, Tensor):
        if out is not None:
            raise TypeError("a Tensor is not changed: leave out out")
        return x.clip(min, max)
    if (home := framework(x)) is not None:
        if out is not None:
            raise TypeError("out is for arrays of numpy: see the module of the framework")
        return home.clip(x, min, max)
    if (home := lazy(x) or labelled(x)) is not None:
        if out is not None:
            raise TypeError("out is for arrays of numpy: use what is returned")
        return home.clip(x, min, max)
    of = plain(x)
    min, max = bound(min, of.dtype, "min"), bound(max, of.dtype, "max")
    # As in numpy, bounds may broadcast x to a larger shape.
    shapes = [np.shape(side) for side in (min, max) if isinstance(side, np.ndarray)]
    shape = np.broadcast_shapes(of.shape, *shapes)
    if shape != of.shape:
        of = np.array(np.broadcast_to(of, shape), order="C")
    return into(out, shape, of.dtype, lambda y: _core.clip(of, min, max, y))


def inward(dtype: Any, /, min: Any = None, max: Any = None) -> tuple[float | None, float | None]:
    """Bounds rounded inward for arrays of a type: ``max`` is rounded down and ``min`` up to a number of that type, for integers
    to whole numbers. With them no result exceeds the requested bounds, in any function of the package, including those for frameworks.

    Otherwise a bound is rounded to nearest, as in numpy and the frameworks.

    >>> import numpy as np, wgclip
    >>> wgclip.inward("float16", None, 2049)
    (None, 2048.0)
    >>> wgclip.clip(np.array([7], "uint8"), *wgclip.inward("uint8", 0.5, 2.5))
    array([2], dtype=uint8)

    Raises ``ValueError`` for a bound that no number of the type could satisfy, and for NaN.
    """
    return _core.inward(np.empty(0, dtype_of(dtype)), min, max)


def clip_to(x: Any, /, min: Any = None, max: Any = None, *, dtype: Any, out: Any = None) -> Any:
    """Clips the elements of x, and converts them to another type of float in the same pass, rounding to nearest even.

    ``dtype`` is a numpy dtype, or a name: ``"bfloat16"``, ``"float8_e4m3fn"`` and ``"float8_e5m2"`` need ml_dtypes. Otherwise like `clip`, except that
    bounds do not enlarge x.

    Raises ``TypeError`` for integers, unless both types are the same.
    """
    to = dtype_of(dtype)
    if isinstance(x, Tensor):
        return x.clip_to(min, max, element=element_of(to))
    of = plain(x)
    min, max = _sides(x, of, min, max)
    return back(x, out)(into(out, of.shape, to, lambda y: _core.run("clip_to", [of], [y], [min, max])))


def clip_backward(
    x: Any,
    g: Any,
    /,
    min: Any = None,
    max: Any = None,
    out: Any = None,
    *,
    rule: BackwardRule | str = _DEFAULT,
) -> Any:
    """The gradient of x, for the gradient g of ``clip(x, min, max)``.

    ``g`` and ``out``, which may be g, have the shape and type of x. ``rule`` says which gradient passes outside of the bounds, where x equals
    one, and at NaN: a `BackwardRule`, or the name of a framework (``BackwardRule.presets()``).

    >>> import numpy as np, wgclip
    >>> x = np.array([-1.0, 0.0, 0.5, 1.0, 2.0])
    >>> wgclip.clip_backward(x, np.full(5, 3.0), 0, 1)
    array([0., 3., 3., 3., 0.])
    >>> wgclip.clip_backward(x, np.full(5, 3.0), 0, 1, rule="jax")
    array([0. , 1.5, 3. , 1.5, 0. ])

    Raises as `clip`; ``ValueError`` for an unknown rule.
    """
    if isinstance(x, Tensor):
        return x.clip_backward(g, min, max, rule=rule)
    of, g = plain(x), plain(_ordered(g, x))
    min, max = _sides(x, of, min, max)
    return back(x, out)(into(out, of.shape, of.dtype, lambda gx: _core.run("clip_backward", [of, g], [gx], [min, max], rule)))


def clip_backward_bounds(
    x: Any,
    g: Any,
    /,
    min: Any = None,
    max: Any = None,
    *,
    rule: BackwardRule | str = _DEFAULT,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Any, Any, Any]:
    """The gradients of x and its two bounds, for the gradient g of ``clip(x, min, max)``.

    The gradient of a bound has the bound's shape (a scalar for a number). It is the exact sum over the elements that the bound broadcasts to, rounded
    once. ``needs`` says which of the three to compute; the others, and that of a bound which is None, are None.

    >>> import numpy as np, wgclip
    >>> x, g = np.array([5.0, 7.0, 8.0]), np.array([1.0, 10.0, 100.0])
    >>> gx, gmin, gmax = wgclip.clip_backward_bounds(x, g, None, 6)
    >>> gx, gmin, float(gmax)
    (array([1., 0., 0.]), None, 110.0)

    Raises as `clip_backward`.
    """
    if isinstance(x, Tensor):
        made = x.clip_backward_bounds(g, min, max, rule=rule)
        return tuple(of if need else None for of, need in zip(made, needs))  # type: ignore[return-value]
    of, g, kind = plain(x), plain(_ordered(g, x)), back(x)
    min, max = _sides(x, of, min, max)
    outputs: list[Array | None] = [np.empty_like(of) if needs[0] else None]
    for side, need in ((min, needs[1]), (max, needs[2])):
        wanted = need and side is not None
        outputs.append(np.empty(np.shape(side), of.dtype) if wanted else None)
    _core.run("clip_backward_bounds", [of, g], outputs, [min, max], rule)
    gx, gmin, gmax = (made if made is None else kind(made if made.ndim else made[()]) for made in outputs)
    return gx, gmin, gmax


def clip_with_mask(
    x: Any, /, min: Any = None, max: Any = None, *, rule: BackwardRule | str = _DEFAULT
) -> tuple[Array, Array]:
    """Clips x, and returns one bit for each element that says whether its gradient passes, so that x need not be kept.

    The mask is an array of uint64: bit ``i % 64`` of word ``i // 64`` belongs to element ``i`` in C order.

    Raises as `clip_backward`; ``ValueError`` for a rule that one bit cannot represent (ties="half", outside="toward").
    """
    of = plain(x)
    min, max = _sides(x, of, min, max)
    y, mask = np.empty_like(of), np.empty(_core.mask_len(of.size), np.uint64)
    # Bits beyond the last element are 0.
    mask[-1:] = 0
    _core.run("clip_with_mask", [of], [y, mask], [min, max], rule)
    return back(x)(y), mask


def mask_backward(mask: Array, g: Any, /, out: Any = None) -> Any:
    """The gradient of x by the mask of `clip_with_mask`, for the gradient g: g where the bit is set, else 0.

    Raises ``ValueError`` for a mask of the wrong length, ``TypeError`` for one that is not uint64.
    """
    of = plain(g)
    mask = plain(mask)
    return back(g, out)(into(out, of.shape, of.dtype, lambda gx: _core.run("mask_backward", [mask, of], [gx])))


class _Row(NamedTuple):
    """An operation of the list, from `_core.operations`: the names of its operands, and its options."""

    inputs: list[str]
    broadcast: list[str]
    outputs: list[tuple[str, str | None]]
    params: list[str]
    takes: tuple[bool, bool, bool]


_LIST = {row[0]: _Row(*row[1:]) for row in _core.operations()}


def run(
    name: str,
    /,
    *inputs: Any,
    rule: BackwardRule | QuantRule | str = _DEFAULT,
    dtype: Any = None,
    **named: Any,
) -> Any:
    """Runs an operation of the library's list by name: for operations without a dedicated function here.

    ``wgclip.operations()`` lists the operands of each. Broadcast inputs (``min`` and ``max``) and parameters are passed by name;
    ``dtype`` is the output type of a conversion. Arrays are clipped on the CPU, each `Tensor` on its device.

    >>> import numpy as np, wgclip
    >>> wgclip.run("affine", np.array([1.0, 2.0]), scale=2, offset=0.5)
    array([2.5, 4.5])

    Raises ``ValueError`` for an unknown name, and for operands that the operation does not have; otherwise as `clip_backward`.
    """
    if name not in _LIST:
        raise ValueError(f"no operation is called {name!r}: there are {', '.join(_LIST)}")
    row = _LIST[name]
    ruled, converts, codes = row.takes
    if rule is not _DEFAULT and not ruled:
        raise ValueError(f"{name} takes no rule: leave it out")
    if dtype is not None and not converts:
        raise ValueError(f"{name} takes no dtype: leave it out")
    for option in named:
        if option not in row.broadcast + row.params:
            known = ", ".join(row.broadcast + row.params) or "nothing by name"
            raise ValueError(f"{name} takes no {option}: it takes {known}")
    missing = [param for param in row.params if named.get(param) is None]
    if missing:
        raise ValueError(f"{name} needs {', '.join(missing)}: give a number for each")
    if len(inputs) != len(row.inputs):
        raise ValueError(f"{name} takes {', '.join(row.inputs)}: give {len(row.inputs)} arrays")
    first = next(n for n, of in enumerate(row.inputs) if of != "mask")
    params = [named[param] for param in row.params]
    given_rule = None if rule is _DEFAULT else rule
    if isinstance(inputs[first], Tensor):
        given = [named.get(of) for of in row.broadcast]
        tensors = _core.run_tensors(name, inputs, given, given_rule, params, None if dtype is None else element_of(dtype_of(dtype)))
        return tensors[0] if len(tensors) == 1 else tuple(tensors)
    read = [plain(x) for x in inputs]
    x, kind = read[first], back(inputs[first])
    to = dtype_of(dtype) if dtype is not None else x.dtype
    # Scales of codes are float32, or float64 where the values are.
    wide = np.dtype("float64") in (x.dtype, to)
    of_type = np.dtype("float64" if wide else "float32") if codes else x.dtype
    broadcast = {of: bound(named.get(of), of_type, "max" if of == "max" else "min") for of in row.broadcast}

    def output(of: str, source: str | None) -> Array | None:
        if of == "mask":
            return np.zeros(_core.mask_len(x.size), np.uint64)
        if source is None:
            return np.empty(x.shape, to)
        given = broadcast[source]
        return None if given is None else np.empty(np.shape(given), x.dtype)

    made = [output(*of) for of in row.outputs]
    _core.run(name, read, made, list(broadcast.values()), given_rule, params)
    results = [one if one is None or of == "mask" else kind(one if one.ndim else one[()]) for (of, _), one in zip(row.outputs, made)]
    return results[0] if len(results) == 1 else tuple(results)


def fake_quantize(x: Any, /, scale: Any, zero_point: Any = 0, *, rule: QuantRule | str = "exact") -> Any:
    """Rounds the elements of x to the values of codes: ``(q - zero_point) * scale``, where ``q = round(x / scale) + zero_point``, clipped
    to the codes of the rule.

    ``scale`` and ``zero_point`` are numbers, or arrays that broadcast to x: one of each channel, for example. They are rounded to the type of x. ``rule`` is a
    `QuantRule`, or the name of a package (``QuantRule.presets()``), with codes of 8 bits from -128 to 127.

    >>> import numpy as np, wgclip
    >>> wgclip.fake_quantize(np.array([-9.0, 0.3, 9.0]), 0.5, rule=wgclip.QuantRule().bits(4))
    array([-4. ,  0.5,  3.5])

    Raises as `clip`; ``TypeError`` for integers, ``ValueError`` for an unknown rule.
    """
    return run("fake_quantize", x, rule=rule, scale=scale, zero_point=zero_point)


def quantize(
    x: Any, /, scale: Any, zero_point: Any = 0, *, dtype: Any = "int8", rule: QuantRule | str = "exact"
) -> Any:
    """The codes of the elements of x: ``round(x / scale) + zero_point``, clipped to the codes of the rule.

    ``scale`` and ``zero_point`` are numbers, or arrays that broadcast to x, of float32 (of float64 if x is): one of each channel, for example. ``dtype`` is int8,
    uint8, int16, uint16 or int32, and holds the codes of the rule: ``QuantRule(0, 255)`` for uint8. Or it is float8_e4m3fn, float8_e5m2 or float4_e2m1fn (of ml_dtypes):
    ``x / scale`` rounded to it, saturated, without a zero point. `pack4` puts two codes of 4 bits into a byte.

    >>> import numpy as np, wgclip
    >>> x = np.array([-9.0, 0.3, 1.2, 99.0], "float32")
    >>> wgclip.quantize(x, 0.5, 128, dtype="uint8", rule=wgclip.QuantRule(0, 255))
    array([110, 129, 130, 255], dtype=uint8)

    Raises as `fake_quantize`; ``TypeError`` for a dtype that does not hold the codes.
    """
    if not is_float4(dtype):
        return run("quantize", x, rule=rule, dtype=dtype, scale=scale, zero_point=zero_point)
    codes = run("quantize", x, rule=quant_rule(rule).e2m1(), dtype="uint8", scale=scale, zero_point=zero_point)
    return codes if isinstance(codes, Tensor) else back(x)(plain(codes).view(dtype_of("float4_e2m1fn")))


def dequantize(
    codes: Any, /, scale: Any, zero_point: Any = 0, *, dtype: Any = "float32", rule: QuantRule | str = "exact"
) -> Any:
    """The values of codes: ``(codes - zero_point) * scale``, rounded once to a type of float. The zero point is clipped to the codes of the rule; codes that are
    floats have none.

    >>> import numpy as np, wgclip
    >>> wgclip.dequantize(np.array([-128, 3], "int8"), np.array([0.5, 0.25], "float32"))
    array([-64.  ,   0.75], dtype=float32)

    Raises as `quantize`.
    """
    if not isinstance(codes, Tensor) and is_float4(getattr(codes, "dtype", None)):
        codes, rule = plain(codes).view("uint8"), quant_rule(rule).e2m1()
    return run("dequantize", codes, rule=rule, dtype=dtype, scale=scale, zero_point=zero_point)


def pack4(codes: Any, /) -> Any:
    """Packs 4-bit codes, each in the low bits of an int8 or uint8 (or a float4_e2m1fn), two into a byte: the first of a pair in the low bits, as in ONNX and
    safetensors. The last axis has half as many.

    >>> import numpy as np, wgclip
    >>> wgclip.pack4(np.array([3, -2], "int8"))
    array([227], dtype=uint8)

    Raises ``TypeError`` for another type, and for an odd number of codes along the last axis.
    """
    if isinstance(codes, Tensor):
        return codes.pack4()
    of, kind = plain(codes), back(codes)
    if of.dtype.name not in ("int8", "uint8") and not is_float4(of.dtype):
        raise TypeError(f"4-bit codes of {of.dtype}: they are int8, uint8 or float4_e2m1fn")
    if not of.shape or of.shape[-1] % 2:
        raise TypeError(f"pairs of 4-bit codes in an array of shape {of.shape}: give an even number along the last axis")
    return kind(plain(run("pack4", np.ascontiguousarray(of).view("uint16"), dtype="uint8")))


def unpack4(packed: Any, /, *, dtype: Any = "int8") -> Any:
    """The reverse of `pack4`: the codes of bytes, which are uint8, two of each, as int8, with a sign, as uint8, or as float4_e2m1fn.

    >>> import numpy as np, wgclip
    >>> wgclip.unpack4(np.array([227], "uint8"))
    array([ 3, -2], dtype=int8)

    Raises ``TypeError`` for other types, and for a number.
    """
    to = np.dtype("uint8") if is_float4(dtype) else dtype_of(dtype)
    if isinstance(packed, Tensor):
        return packed.unpack4(element_of(to))
    of, kind = plain(packed), back(packed)
    if of.dtype != np.uint8 or to.name not in ("int8", "uint8"):
        raise TypeError(f"4-bit codes of {of.dtype} as {to}: packed ones are uint8, others int8, uint8 or float4_e2m1fn")
    if not of.shape:
        raise TypeError("packed codes are along an axis, and a number has none")
    rule = QuantRule() if to == np.int8 else QuantRule(0, 15)
    codes = plain(run("unpack4", np.ascontiguousarray(of), dtype="uint16", rule=rule)).view(to)
    return kind(codes.view(dtype_of("float4_e2m1fn")) if is_float4(dtype) else codes)


def fake_quantize_backward(
    x: Any, g: Any, /, scale: Any, zero_point: Any = 0, *, rule: QuantRule | str = "exact"
) -> tuple[Any, Any, Any]:
    """The gradients of x, the scale and the zero point, for the gradient g of ``fake_quantize(x, scale, zero_point)``.

    Those of the scale and the zero point have their shapes (a scalar for a number): each is the exact sum over the elements that it
    broadcasts to, rounded once.

    >>> import numpy as np, wgclip
    >>> gx, gscale, gzero = wgclip.fake_quantize_backward(np.array([0.3, 200.0]), np.array([1.0, 10.0]), 1.0)
    >>> gx, float(gscale), float(gzero)
    (array([1., 0.]), 1269.7, -10.0)

    Raises as `fake_quantize`.
    """
    gx, gscale, gzero = run("fake_quantize_backward", x, g, rule=rule, scale=scale, zero_point=zero_point)
    return gx, gscale, gzero


def operations() -> dict[str, dict[str, list[str]]]:
    """The library's list of operations: for each the names of its ``inputs``, ``broadcast`` inputs, ``params`` and ``outputs``, as `run` takes and
    returns them.
    """
    return {
        name: {"inputs": row.inputs, "broadcast": row.broadcast, "params": row.params, "outputs": [of for of, _ in row.outputs]}
        for name, row in _LIST.items()
    }
