"""Tensors on devices: those of a GPU, software or not, have the bits of the CPU path."""

from __future__ import annotations

import math
import multiprocessing
import os

import numpy as np
import oracle
import pytest
import wgclip
from oracle import ALL, assert_same, random_bits


def devices():
    named = os.environ.get("WGCLIP_TEST_DEVICES", "")
    found = ["cpu", *wgclip.Device.list()] if named != "cpu" else ["cpu"]
    found = [of for of in dict.fromkeys(found) if not of.startswith("CPU")]
    assert named == "cpu" or len(found) > 1, "no GPU adapter, not even a software one: install Mesa's, or set WGCLIP_TEST_DEVICES=cpu"
    return found


OPENED = {}


@pytest.fixture(params=devices(), scope="module")
def device(request):
    if request.param not in OPENED:
        OPENED[request.param] = wgclip.Device(request.param)
    return OPENED[request.param]


def test_every_operation_of_the_list_is_there_by_its_name(rng, device):
    x, g = random_bits(rng, np.dtype("f4"), (5, 13)), random_bits(rng, np.dtype("f4"), (5, 13))
    slope = rng.random(13, np.float32)
    given = {"min": -0.5, "max": 0.75, "slope": slope, "scale": 1.5, "offset": -2.0, "zero_point": 3, "cap": 0.75}
    arrays = {"x": x, "y": x, "g": g}
    for name, row in wgclip.operations().items():
        if "mask" in row["inputs"] + row["outputs"]:
            continue
        inputs, named = [arrays[of] for of in row["inputs"]], {of: given[of] for of in row["broadcast"] + row["params"]}
        if name == "quantize":
            named["dtype"] = "int8"
        if name == "dequantize":
            inputs, named["dtype"] = [x.view("i4")], "bfloat16"
        if name in ("pack4", "unpack4"):
            kinds = ["u2", "u1"] if name == "pack4" else ["u1", "u2"]
            inputs, named["dtype"] = [x.view(kinds[0])], kinds[1]
        expected = wgclip.run(name, *inputs, **named)
        tensors = {of: device.tensor(one) if isinstance(one, np.ndarray) else one for of, one in named.items()}
        made = wgclip.run(name, *map(device.tensor, inputs), **tensors)
        for ours, theirs in zip(*((of if isinstance(of, tuple) else (of,)) for of in (made, expected)), strict=True):
            assert ours.device.name == device.name
            assert_same(ours.numpy(), np.asarray(theirs))
    gx, glo, ghi = wgclip.run("clip_backward_bounds", device.tensor(x), device.tensor(g), max=1)
    assert glo is None and ghi.shape == () and gx.shape == x.shape
    assert wgclip.run("clip_to", device.tensor(x), min=0, dtype="float16").dtype == np.float16
    for bad, error in ((lambda: wgclip.run("clip_backward", device.tensor(x), device.tensor(g[:1])), ValueError),
                       (lambda: wgclip.run("clip_backward", device.tensor(x), device.tensor(g.astype("f2"))), TypeError),
                       (lambda: wgclip.run("clip_backward", device.tensor(x), g), TypeError),
                       (lambda: wgclip.run("clip", device.tensor(x), min=device.tensor(x[:2])), ValueError),
                       (lambda: wgclip.run("clip_with_mask", device.tensor(x), min=0), TypeError)):
        with pytest.raises(error):
            bad()


def test_codes_of_4_bits_are_packed(device):
    codes = np.array([code for byte in range(256) for code in (byte & 15, byte >> 4)], "u1").reshape(4, 8, 16)
    packed = wgclip.pack4(device.tensor(codes))
    assert packed.shape == (4, 8, 8) and packed.numpy().ravel().tolist() == list(range(256))
    assert_same(wgclip.unpack4(packed, dtype="uint8").numpy(), codes)
    signed = wgclip.unpack4(packed)
    assert_same(signed.numpy(), np.where(codes > 7, codes.astype("i1") - 16, codes).astype("i1"))
    assert_same(wgclip.pack4(signed).numpy(), packed.numpy())
    for wrong in (codes[..., :3], codes.astype("i2")):
        with pytest.raises(TypeError, match=r"even|int8"):
            wgclip.pack4(device.tensor(wrong))


@pytest.mark.parametrize("dtype", ALL, ids=lambda of: of.name)
def test_bits_are_those_of_the_cpu(rng, device, dtype):
    x, g = random_bits(rng, dtype, (5, 13)), random_bits(rng, dtype, (5, 13))
    hi = x[0][x[0] == x[0]][:1]
    on, up = device.tensor(x), device.tensor(g)
    assert on.shape == (5, 13) and on.dtype == dtype and len(on) == 5
    assert_same(on.numpy(), x)
    assert_same(wgclip.clip(on, None, hi[0]).numpy(), wgclip.clip(x, None, hi[0]))
    row = random_bits(rng, dtype, 13)
    assert_same(on.clip(device.tensor(row)).numpy(), wgclip.clip(x, row))
    rule = "jax" if dtype.kind not in "iu" else "torch"
    assert_same(on.clip_backward(up, None, hi[0], rule=rule).numpy(), wgclip.clip_backward(x, g, None, hi[0], rule=rule))
    made = wgclip.clip_backward_bounds(on, up, device.tensor(row), hi[0])
    for ours, expected in zip(made, wgclip.clip_backward_bounds(x, g, row, hi[0])):
        assert_same(ours.numpy(), np.asarray(expected))
    assert_same(wgclip.sum(on).numpy(), np.asarray(wgclip.sum(x)))
    if not oracle.is_float(dtype) or (dtype == np.float64 and device.kind != "cpu"):
        with pytest.raises(TypeError):
            wgclip.norm(on).numpy()
        return
    assert_same(wgclip.norm(on, 1).numpy(), wgclip.norm(x, 1, keepdims=True))
    assert_same(wgclip.clip_by_norm(on, 1.0).numpy(), wgclip.clip_by_norm(x, 1.0))
    assert_same(wgclip.clip_by_norm_backward(on, up, 1.0).numpy(), wgclip.clip_by_norm_backward(x, g, 1.0))
    clipped, norm = wgclip.clip_by_global_norm([on, up], 1.0)
    expected, of = wgclip.clip_by_global_norm([x, g], 1.0)
    assert_same(norm.numpy(), np.asarray(of, norm.dtype))
    for ours, theirs in zip(clipped, expected):
        assert_same(ours.numpy(), theirs)
    assert_same(on.numpy(), x)


def test_arrays_in_and_out(device):
    x = np.arange(6.0, dtype="f4").reshape(2, 3)
    assert device.tensor([1, 2, 3]).numpy().tolist() == [1, 2, 3]
    assert_same(device.tensor(x.T).numpy(), np.ascontiguousarray(x.T))
    assert_same(device.tensor(x.astype(">f4")).numpy(), x)
    on = device.tensor(x)
    assert_same(np.asarray(on), x)
    assert np.asarray(on, "f8").dtype == np.float64
    assert_same(wgclip.clip_to(on, 0, 4, dtype="bfloat16").numpy(), wgclip.clip_to(x, 0, 4, dtype="bfloat16"))
    assert "f32" in repr(on) and on.device.name == device.name
    device.wait()
    device.trim()


def test_mistakes_are_errors_that_help(device):
    on = device.tensor(np.zeros(3, "f4"))
    for call, error, words in (
        (lambda: on.clip(math.nan), ValueError, "NaN"),
        (lambda: on.clip(np.zeros(3, "f4")), TypeError, "Tensor on its device"),
        (lambda: on.clip(wgclip.Device.cpu().tensor(np.zeros(2, "f4"))), ValueError, ""),
        (lambda: on.clip(device.tensor(np.zeros(3))), TypeError, "do not mix"),
        (lambda: on.clip_backward(device.tensor(np.zeros(4, "f4")), 0, 1), ValueError, "differ"),
        (lambda: wgclip.clip(on, 0, 1, out=on), TypeError, "not changed"),
        (lambda: np.array(on, copy=False), ValueError, "copy"),
        (lambda: on.copy_to(np.zeros(4, "f4")), ValueError, "differ"),
        (lambda: wgclip.Device("no such device"), wgclip.DeviceError, "no device"),
    ):
        with pytest.raises(error, match=words):
            call()


def child(device, queue):
    try:
        device.tensor(np.zeros(3, "f4"))
    except RuntimeError as error:
        queue.put(str(error))


def test_a_device_of_before_a_fork_is_an_error(device):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=child, args=(device, queue))
    process.start()
    assert "another process" in queue.get(timeout=60)
    process.join(60)


def test_the_check(device):
    report = wgclip.check(device, elements=["f16", "u8"], ops=["clip", "clip_backward"], seed=3)
    assert report.ok and report.cases > 10_000, report
    assert {row.element for row in report.rows} == {"f16", "u8"}
    assert "0 mismatches" in str(report)
    with pytest.raises(ValueError, match="no operation"):
        wgclip.check(device, ops=["clamp"])
    wrong = wgclip.Report("it", 1, [wgclip.Row("f16", "clip", 5, 1, "here")])
    assert not wrong.ok and "here" in str(wrong)
