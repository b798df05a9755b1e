"""Labelled arrays: xarray's and pandas'. Results keep labels and attributes, and labelled bounds are aligned by label."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from . import _elementwise


def _is_pandas(x: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(x, pandas.Series | pandas.DataFrame)


def check_types(x: Any) -> None:
    """Refuses objects without a single numpy type, whose values a conversion would lose."""
    if not _is_pandas(x):
        return
    types = {x.dtype} if x.ndim == 1 else set(x.dtypes)
    if len(types) > 1:
        raise TypeError(f"a frame of several types, {', '.join(sorted(map(str, types)))}: give its columns, or x.astype of one type")
    for dtype in types:
        if not isinstance(dtype, np.dtype):
            raise TypeError(f"elements of pandas' own type {dtype} are not clipped here: convert them, x.astype({dtype.name.lower()!r}) for example")


def relabelled(x: Any, made: Any) -> Any:
    """A result with the labels of x, if it has the shape of x."""
    if np.shape(made) != np.shape(x) or not hasattr(x, "ndim"):
        return made
    if not _is_pandas(x):
        return x.copy(data=made)
    axes = {"index": x.index.copy(), "columns": x.columns.copy()} if x.ndim == 2 else {"index": x.index.copy(), "name": x.name}
    return type(x)(made, **axes).__finalize__(x)


def in_order(operand: Any, x: Any) -> Any:
    """An operand in the order of x's labels, without labels, aligned as by `clip`."""
    if _is_pandas(x):
        ordered = _pandas_bound(operand, x)
        return ordered.to_numpy() if _is_pandas(ordered) else ordered
    if not hasattr(operand, "dims") or not hasattr(x, "dims"):
        return operand
    import xarray

    ordered = _xarray_bound(operand, x)
    return xarray.broadcast(ordered, x.drop_vars(x.coords), exclude=())[0].transpose(*x.dims).to_numpy() if ordered.ndim else ordered.item()


def _in_order(bound: Any, labels: Any, axis: str) -> Any:
    """A bound with its labels in a given order; it must have all of these labels."""
    own = getattr(bound, axis)
    if own.equals(labels):
        return bound
    missing = labels.difference(own)
    if len(missing):
        raise ValueError(f"a bound has nothing for the label {missing[0]!r}: give one for each, or an array of numpy, which goes by place")
    return bound.reindex(**{axis: labels})


def _pandas_bound(bound: Any, x: Any) -> Any:
    """A bound in the order of x's labels, without labels."""
    if not _is_pandas(bound):
        return bound
    if bound.ndim == 1:
        # Like numpy broadcasting: along the last axis.
        return _in_order(bound, x.index if x.ndim == 1 else x.columns, "index").to_numpy()
    if x.ndim == 1:
        raise TypeError("a frame does not bound a series: give one of its columns")
    return _in_order(_in_order(bound, x.index, "index"), x.columns, "columns")


def _clip_pandas(x: Any, min: Any, max: Any) -> Any:
    sides = [_pandas_bound(bound, x) for bound in (min, max)]
    if x.ndim == 1:
        check_types(x)
        return relabelled(x, _elementwise.clip(x.to_numpy(), *sides))
    for n in range(x.shape[1]):
        check_types(x.iloc[:, n])

    def column(bound: Any, n: int) -> Any:
        if _is_pandas(bound):
            return bound.iloc[:, n].to_numpy()
        if bound is None or isinstance(bound, int | float):
            return bound
        array = np.asarray(bound, dtype=object if isinstance(bound, list | tuple) else None)
        if array.ndim == 0:
            return bound
        of_column = np.broadcast_to(array, x.shape)[:, n]
        # A list may contain None.
        return of_column.tolist() if of_column.dtype == object else of_column

    # Each column of a frame has its own type.
    made = {n: _elementwise.clip(x.iloc[:, n].to_numpy(), *(column(side, n) for side in sides)) for n in range(x.shape[1])}
    frame = type(x)(made, index=x.index)
    frame.columns = x.columns
    return frame.__finalize__(x)


def _xarray_bound(bound: Any, x: Any) -> Any:
    for axis in getattr(bound, "dims", ()):
        if axis in x.indexes and axis in bound.indexes:
            own, labels = bound.indexes[axis], x.indexes[axis]
            missing = labels.difference(own)
            if len(missing):
                raise ValueError(f"a bound has nothing for {missing[0]!r} of {axis!r}: give one for each label")
            if not own.is_unique:
                raise ValueError(f"a bound has a label of {axis!r} twice: give each once")
            if not own.equals(labels):
                # By position, which also works for a MultiIndex.
                bound = bound.isel({axis: own.get_indexer(labels)})
            bound = bound.drop_vars([name for name in bound.coords if axis in bound[name].dims])
    return bound


def _clip_xarray(x: Any, min: Any, max: Any) -> Any:
    import xarray

    def of_variable(bound: Any, name: Any) -> Any:
        if not isinstance(bound, xarray.Dataset):
            return bound
        if name not in bound:
            raise ValueError(f"a bound has nothing for the variable {name!r}: give one for each")
        return bound[name]

    if isinstance(x, xarray.Dataset):
        variables = {name: _clip_xarray(x[name], of_variable(min, name), of_variable(max, name)) for name in x.data_vars}
        return x.assign(variables)
    if any(isinstance(bound, xarray.Dataset) for bound in (min, max)):
        raise TypeError("a dataset does not bound an array: give one of its variables")
    sides = [_xarray_bound(bound, x) for bound in (min, max)]
    named = [side for side in sides if isinstance(side, xarray.DataArray | xarray.Variable)]

    def clip(values: Any, *bounds: Any) -> Any:
        rest = iter(bounds)
        lo, hi = (next(rest) if any(side is of for of in named) else side for side in sides)
        return _elementwise.clip(values, lo, hi)

    # Dimensions are matched by name; arrays of Dask stay lazy.
    made = xarray.apply_ufunc(clip, x, *named, dask="allowed", keep_attrs=True, join="override")
    if made.dims == x.dims and made.shape == x.shape:
        # With the coordinates of x, whatever those of the bounds.
        return x.copy(data=made.data)
    made.attrs = dict(x.attrs)
    return made.rename(x.name)


def clip(x: Any, min: Any, max: Any) -> Any:
    """`wgclip.clip` of a labelled array."""
    return (_clip_pandas if _is_pandas(x) else _clip_xarray)(x, min, max)
