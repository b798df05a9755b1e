"""Arrays of pandas, xarray and scipy: what comes back is of their kind, with their labels; bounds are matched by label."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import wgclip


def test_nobody_imports_them():
    others = ["pandas", "xarray", "scipy", "dask", "torch", "jax", "tensorflow"]
    code = f"import sys, numpy as np, wgclip; wgclip.clip(np.ones(2), 0, 1); print([n for n in {others} if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


class TestPandas:
    @pytest.fixture(autouse=True)
    def _pandas(self):
        self.pd = pytest.importorskip("pandas")

    def frame(self):
        frame = self.pd.DataFrame({"a": np.float32([1, 5, 9]), "b": np.int16([1, 5, 9])}, index=["x", "y", "z"])
        frame.attrs["unit"] = "m"
        return frame

    def test_frames_keep_types_labels_and_attributes(self):
        frame = self.frame()
        made = wgclip.clip(frame, 2, 6)
        self.pd.testing.assert_frame_equal(made, frame.clip(2, 6))
        assert list(made.dtypes) == list(frame.dtypes) and made.attrs == {"unit": "m"}
        made = wgclip.clip(frame["a"], 2, 6)
        self.pd.testing.assert_series_equal(made, frame["a"].clip(2, 6))
        assert made.name == "a"

    def test_bounds_are_matched_by_label(self):
        frame = self.frame()
        columns = self.pd.Series({"b": 4, "a": 6})
        made = wgclip.clip(frame, None, columns)
        self.pd.testing.assert_frame_equal(made, frame.clip(upper=columns, axis=1).astype(frame.dtypes))
        rows = self.pd.Series(np.float32([3, 2, 1]), index=["z", "y", "x"])
        assert wgclip.clip(frame["a"], None, rows).tolist() == [1, 2, 3]
        cells = self.pd.DataFrame({"b": [1, 2, 3], "a": [4, 5, 6]}, index=["z", "y", "x"])
        made = wgclip.clip(frame, None, cells)
        assert made["a"].tolist() == [1, 5, 4] and made["b"].tolist() == [1, 2, 1]
        # By place.
        assert wgclip.clip(frame, None, [2, 3])["b"].tolist() == [1, 3, 3]
        for bound in (self.pd.Series({"a": 1}), self.pd.DataFrame({"a": [1, 1, 1], "b": [1, 1, 1]})):
            with pytest.raises(ValueError, match="nothing for the label"):
                wgclip.clip(frame, None, bound)

    def test_other_operations(self):
        series = self.pd.Series(np.float32([3, 4]), index=["x", "y"], name="g")
        assert wgclip.norm(series) == 5
        made = wgclip.clip_by_norm(series, 1)
        assert made.name == "g" and list(made.index) == ["x", "y"] and made.tolist() == pytest.approx([0.6, 0.8])
        assert isinstance(wgclip.clip_quantiles(self.frame().astype("f4"), 0.1, 0.9, axis=0), self.pd.DataFrame)
        with pytest.raises(TypeError, match="out"):
            wgclip.clip(series, 0, 1, series)
        with pytest.raises(TypeError):
            wgclip.clip(self.pd.DataFrame({"a": ["text"]}), 0, 1)


class TestXarray:
    @pytest.fixture(autouse=True)
    def _xarray(self):
        self.xr = pytest.importorskip("xarray")

    def array(self):
        return self.xr.DataArray(
            np.float32([[1, 5], [7, 9]]), dims=("time", "x"), coords={"time": [10, 20], "x": ["l", "r"]}, name="t", attrs={"units": "K"}
        )

    def test_labels_and_attributes_are_kept(self):
        array = self.array()
        made = wgclip.clip(array, 2, 6)
        self.xr.testing.assert_identical(made, array.copy(data=np.float32([[2, 5], [6, 6]])))
        dataset = self.xr.Dataset({"t": array, "n": ("time", np.int32([1, 9]))}, attrs={"source": "s"})
        made = wgclip.clip(dataset, 2, 6)
        assert made.attrs == {"source": "s"} and made["n"].values.tolist() == [2, 6] and made["n"].dtype == np.int32
        self.xr.testing.assert_identical(made["t"], wgclip.clip(array, 2, 6))
        self.xr.testing.assert_identical(wgclip.clip_by_norm(array, 100.0), array)
        assert wgclip.norm(array) == np.float32(math.sqrt(156))

    def test_bounds_are_matched_by_dimension_and_label(self):
        array = self.array()
        by_x = self.xr.DataArray(np.float32([6, 2]), dims="x", coords={"x": ["r", "l"]})
        assert wgclip.clip(array, None, by_x).values.tolist() == [[1, 5], [2, 6]]
        by_time = self.xr.DataArray(np.float32([4, 8]), dims="time")
        made = wgclip.clip(array, by_time, 8.5)
        assert made.values.tolist() == [[4, 5], [8, 8.5]] and made.dims == array.dims and made.name == "t" and made.attrs == array.attrs
        with pytest.raises(ValueError, match="nothing for"):
            wgclip.clip(array, None, by_x[:1])

    def test_arrays_of_dask_stay_lazy(self):
        dask = pytest.importorskip("dask.array")
        lazy = self.array().chunk({"time": 1})
        made = wgclip.clip(lazy, 2, 6)
        assert isinstance(made.data, dask.Array)
        self.xr.testing.assert_identical(made.compute(), wgclip.clip(self.array(), 2, 6))


class TestScipy:
    @pytest.fixture(autouse=True)
    def _scipy(self):
        self.sparse = pytest.importorskip("scipy.sparse")

    @pytest.mark.parametrize("kind", ["coo_array", "csr_array", "csc_matrix", "bsr_array"])
    def test_values_have_norms_once_they_are_added_up(self, kind):
        # 1 and 2 in one place, 4 in another.
        coo = self.sparse.coo_array((np.float32([1, 2, 4]), ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
        x = coo if kind == "coo_array" else getattr(self.sparse, kind)(coo)
        assert wgclip.norm(x) == 5 and wgclip.global_norm([x, np.float32([12])]) == 13
        clipped = wgclip.clip_by_norm(x, 2.5)
        assert clipped.toarray().tolist() == [[0, 1.5], [2, 0]] and self.sparse.issparse(clipped)
        (made, dense), norm = wgclip.clip_by_global_norm([x, np.float32([12])], 6.5)
        assert norm == 13 and made.toarray().tolist() == [[0, 1.5], [2, 0]] and dense.tolist() == [6]
        assert x.toarray().tolist() == [[0, 3], [4, 0]]
        with pytest.raises(TypeError, match="sparse"):
            wgclip.clip(x, 0, 1)
        with pytest.raises(TypeError, match="axis"):
            wgclip.norm(x, 0)


def test_samples_have_norms_over_all_arrays(rng):
    weight, bias = rng.standard_normal((5, 3, 2)).astype(np.float32), rng.standard_normal((5, 4)).astype(np.float16)
    (w, b), norms = wgclip.clip_by_global_norm([weight, bias], 1.5, batch_axis=0)
    assert norms.shape == (5,) and norms.dtype == np.float32
    for n in range(5):
        (one, other), norm = wgclip.clip_by_global_norm([weight[n], bias[n]], 1.5)
        assert norms[n] == norm and np.array_equal(w[n], one) and np.array_equal(b[n], other)
    # Another axis, f64, None and integers among them.
    made, norms = wgclip.clip_by_global_norm([weight.T, None, bias.T.astype(np.float64), np.int32([7])], 1.5, batch_axis=-1)
    assert norms.dtype == np.float64 and made[1] is None and made[3].tolist() == [7]
    (one, _), norm = wgclip.clip_by_global_norm([weight[2], bias[2].astype(np.float64)], 1.5)
    assert norms[2] == norm and np.array_equal(made[0][..., 2], one.T)
    with pytest.raises(ValueError, match="how many samples"):
        wgclip.clip_by_global_norm([weight, bias[:3]], 1.0, batch_axis=0)
    weight[3, 0, 0] = np.inf
    with pytest.raises(wgclip.NonFiniteNormError, match="sample 3"):
        wgclip.clip_by_global_norm([weight, bias], 1.0, batch_axis=0, nonfinite="error")
    (w, _), _ = wgclip.clip_by_global_norm([weight, bias], 1.0, batch_axis=0, nonfinite="zero")
    assert not w[3].any() and w[2].any()


def test_a_norm_that_is_not_finite_warns_where_it_was_asked_for():
    bad = np.float32([np.inf, 1])
    for nonfinite, said in [("propagate", "0 or NaN"), ("zero", "set to zero"), ("skip", "is kept")]:
        with pytest.warns(wgclip.NonFiniteNormWarning, match=f"array 1 of 3.*inf.*{said}") as caught:
            wgclip.clip_by_global_norm([np.float32([1]), bad, np.float32([2])], 1.0, nonfinite=nonfinite)
        assert caught[0].filename == __file__
    with pytest.warns(wgclip.NonFiniteNormWarning, match="the norm of the array is inf"):
        wgclip.clip_by_norm(bad, 1.0)


def test_what_labels_cannot_keep_is_refused():
    pd, xr = pytest.importorskip("pandas"), pytest.importorskip("xarray")
    series, bound = (pd.Series(np.float32(of), index=list(index)) for of, index in (([1, 5, 9], "xyz"), ([1, 2, 3], "zyx")))
    # Every operation takes bounds by label.
    assert wgclip.clip(series, None, bound).tolist() == [1, 2, 1]
    assert wgclip.clip_to(series, None, bound, dtype="float16").tolist() == [1, 2, 1]
    assert wgclip.clip_with_mask(series, None, bound)[0].tolist() == [1, 2, 1]
    gradient = pd.Series(np.float32([30, 20, 10]), index=list("zyx"))
    assert wgclip.clip_backward(series, gradient, None, 6).tolist() == [10, 20, 0]
    frame = pd.DataFrame(np.full((2, 2), 9.0), columns=["a", "b"])
    for columns in ([1, 2], np.array([1, 2.0]), [1, None], xr.DataArray([1.0, 2.0])):
        assert wgclip.clip(frame, None, columns)["a"].tolist() == [1, 1], columns
    mixed = pd.DataFrame({"a": [2**53 + 1], "b": [1.0]})
    with pytest.raises(TypeError, match="several types"):
        wgclip.clip_quantiles(mixed, None, 0.5, axis=0)
    with pytest.raises(TypeError, match="pandas' own type Int64"):
        wgclip.clip(pd.Series([2**53 + 1, None], dtype="Int64"), 0, 2**60)

    class Mine(pd.DataFrame):
        pass

    assert type(wgclip.clip(Mine({"a": [9.0]}), 0, 1)) is Mine
    assert wgclip.clip(pd.Index([1, 9]), 0, 5).tolist() == [1, 5]
    levels = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["p", "q"])
    at = lambda index: xr.Coordinates.from_pandas_multiindex(index, "s")  # noqa: E731
    x, hi = (xr.DataArray(of, dims="s", coords=at(index)) for of, index in (([9.0] * 4, levels), ([1.0, 2, 3, 4], levels[::-1])))
    assert wgclip.clip(x, 0, hi).values.tolist() == [4, 3, 2, 1]
    x = xr.DataArray(np.ones((2, 3)), dims=("a", "b"), coords={"sc": 7})
    assert wgclip.clip(x, None, xr.DataArray([1.0, 2, 3], dims="b", coords={"sc": 8})).coords["sc"] == 7
    ordered = xr.DataArray(np.float32([6, 2]), dims="b", coords={"b": ["r", "l"]})
    x = xr.DataArray(np.float32([[9, 9]]), dims=("a", "b"), coords={"b": ["l", "r"]})
    assert wgclip.clip_to(x, None, ordered, dtype="float16").values.tolist() == [[2, 6]]
    with pytest.raises(ValueError, match="variable"):
        wgclip.clip(xr.Dataset({"t": x}), None, xr.Dataset())


def test_outputs_and_batches_that_cannot_be_are_refused():
    sparse = pytest.importorskip("scipy.sparse")
    x, tensor = sparse.csr_array([[0.0, 3.0]]), wgclip.Device("cpu").tensor(np.float32([[3, 4]]))
    for call in (
        lambda: wgclip.clip_by_global_norm([x], 1.0, batch_axis=0),
        lambda: wgclip.clip_by_global_norm([tensor], 1.0, batch_axis=0),
        lambda: wgclip.clip_by_global_norm([tensor, np.ones(2)], 1.0),
        lambda: wgclip.clip_by_norm(tensor, 1.0, out=np.ones(2)),
        lambda: wgclip.clip_by_norm(x, 1.0, out=np.ones(1)),
        lambda: wgclip.norm(x, keepdims=True),
    ):
        with pytest.raises(TypeError):
            call()
    made, norm = wgclip.clip_by_global_norm([tensor, None], 1.0)
    assert made[1] is None and float(norm.numpy()) == 5
    assert wgclip.norm(sparse.dok_array(np.eye(2, dtype="f4"))) == np.float32(math.sqrt(2))
    with pytest.warns(wgclip.NonFiniteNormWarning, match="sample 1"):
        wgclip.clip_by_global_norm([np.array([[3.0, 4], [np.nan, 1]])], 1.0, batch_axis=0)


def test_the_list_is_that_of_the_library_and_its_functions_are_here():
    table = Path(__file__).parents[2] / "docs" / "operations.md"
    rows = [line.split("|") for line in table.read_text().splitlines() if line.startswith("| `")]
    names = [row[1].strip(" `") for row in rows]
    assert names[: len(wgclip.operations())] == list(wgclip.operations())
    for row in rows:
        assert (row[4].strip() == "-") == (not hasattr(wgclip, row[1].strip(" `"))), row


def test_the_list_by_name():
    x, g = np.float32([-1, 0.5, 2]), np.float32([1, 2, 3])
    assert wgclip.run("affine", x, scale=2, offset=1).tolist() == [-1, 2, 5]
    assert wgclip.run("clip_to", x, min=0, max=1, dtype="float16").dtype == np.float16
    y, mask = wgclip.run("clip_with_mask", x, min=0, max=1)
    assert wgclip.run("mask_backward", mask, g).tolist() == wgclip.clip_backward(x, g, 0, 1).tolist()
    gx, glo, ghi = wgclip.run("clip_backward_bounds", x, g, min=0, max=np.float32([1]))
    assert (gx.tolist(), float(glo), ghi.tolist()) == ([0, 2, 0], 1, [3])
    assert wgclip.run("hard_shrink", x, min=-1, max=1).tolist() == [0, 0, 2]
    gx, glo, ghi, gslope = wgclip.run("leaky_clip_backward", x, g, min=0, max=1, slope=np.float32(0.25))
    assert (gx.tolist(), float(glo), float(ghi), float(gslope)) == ([0.25, 2, 0.75], 0.75, 2.25, -1 + 3)
    for options in ({"scale": 2}, {"rule": "torch"}, {"dtype": "float16"}):
        with pytest.raises(ValueError, match="takes no"):
            wgclip.run("clip", x, **options)
    with pytest.raises(ValueError, match="takes no min"):
        wgclip.run("affine", x, min=0, scale=2, offset=1)
    for bad in (lambda: wgclip.run("clamp", x), lambda: wgclip.run("clip", x, x)):
        with pytest.raises(ValueError, match="clip"):
            bad()
    with pytest.raises(ValueError, match="affine needs offset"):
        wgclip.run("affine", x, scale=2)
    assert wgclip.operations()["affine"] == {"inputs": ["x"], "broadcast": [], "params": ["scale", "offset"], "outputs": ["y"]}
