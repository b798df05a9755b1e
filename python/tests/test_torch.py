"""wgclip.torch: what torch's tensors are, autograd, compile, and clipping of gradients."""

from __future__ import annotations

import doctest
import math
import warnings
import threading

import numpy as np
import parity
import pytest
import torch
import wgclip
import wgclip.torch as ours
from torch import nn

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.uint8, torch.int64]


def random(*shape, dtype=torch.float32, **options):
    x = 3 * torch.randn(*shape)
    return (x if dtype.is_floating_point else (20 * x).abs()).to(dtype).requires_grad_(options.get("requires_grad", False))


def same(made, expected):
    assert made.dtype == expected.dtype and made.shape == expected.shape
    size = made.element_size()
    ints = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[size]
    assert torch.equal(made.detach().contiguous().view(ints), expected.detach().contiguous().view(ints))


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_are_torchs(dtype):
    x = random(5, 77, dtype=dtype)
    same(ours.clip(x, 1, 2), torch.clamp(x, 1, 2))
    same(ours.clip(x, min=2), torch.clamp(x, min=2))
    lo = random(77, dtype=dtype)
    same(ours.clip(x, lo), torch.maximum(x, lo))
    same(wgclip.clip(x, 1, 2), torch.clamp(x, 1, 2))
    own = x.clone()
    assert ours.clip_(own, 1, 2) is own
    same(own, torch.clamp(x, 1, 2))


@pytest.mark.parametrize("dtype", [of for of in DTYPES if of.is_floating_point])
@pytest.mark.parametrize("rule", wgclip.BackwardRule.presets())
def test_gradients_go_by_the_rule(dtype, rule):
    x = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0, math.nan], dtype=dtype, requires_grad=True)
    g = torch.tensor([3.0, 5.0, 7.0, 11.0, 13.0, 17.0], dtype=dtype)
    ours.clip(x, 0, 1, rule=rule).backward(g)
    given = wgclip.BackwardRule.like(rule)
    tie = {"inclusive": 1.0, "exclusive": 0.0, "half": 0.5}[given.ties]
    same(x.grad, g * torch.tensor([0, tie, 1, tie, 0, given.nan == "pass"], dtype=dtype))


def test_the_default_rule_is_torchs():
    x = torch.cat([random(100), torch.tensor([0.0, 1.0, math.nan, math.inf])]).requires_grad_()
    y = x.detach().clone().requires_grad_()
    g = random(104)
    ours.clip(x, 0, 1).backward(g)
    torch.clamp(y, 0, 1).backward(g)
    same(x.grad, y.grad)


def test_bounds_have_gradients():
    x, lo, hi = random(6, 9, requires_grad=True), random(9, requires_grad=True), random(6, 1, requires_grad=True)
    g = torch.randn(6, 9)
    ours.clip(x, lo, hi, rule="torch").backward(g)
    found = [of.grad for of in (x, lo, hi)]
    with torch.no_grad():
        below, above = x < lo, torch.maximum(x, lo) > hi
        same(found[1], torch.where(below & ~above, g, 0).double().sum(0).float())
        same(found[2], torch.where(above, g, 0).double().sum(1, keepdim=True).float())
    # Only what requires one; a number beside a tensor.
    top = torch.tensor(1.0, requires_grad=True)
    ours.clip(x.detach(), 0, top).backward(g)
    assert top.grad.shape == () and lo.grad is found[1]


def test_parity_with_numbers():
    """Not one bit differs, forward and backward."""
    x, g = torch.tensor(parity.elements()), torch.tensor(parity.upstream())
    for lo, hi in parity.numbers():
        made, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        y, z = ours.clip(made, lo, hi), torch.clamp(theirs, lo, hi)
        y.backward(g), z.backward(g)
        assert not parity.differences(y.detach(), z.detach(), x)
        assert not parity.differences(made.grad, theirs.grad, x)
        if lo is not None and hi is not None and lo < hi:
            made, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
            ours.Clip(lo, hi, rule="hardtanh")(made).backward(g)
            nn.functional.hardtanh(theirs, lo, hi).backward(g)
            assert not parity.differences(made.grad, theirs.grad, x)


def test_parity_with_tensors():
    """torch loses or doubles gradients where the bounds are equal, and knows no NaN in them."""
    *operands, g = (torch.tensor(of) for of in (parity.arrays()[n] for n in (0, 2, 3, 1)))
    made, theirs = ([of.clone().requires_grad_() for of in operands] for _ in range(2))
    y, z = ours.clip(*made), torch.clamp(*theirs)
    y.backward(g), z.backward(g)
    parity.assert_excused(parity.differences(y.detach(), z.detach(), *operands), "sign of a zero")
    found = [of for a, b in zip(made, theirs) for of in parity.differences(a.grad, b.grad, *operands)]
    parity.assert_excused(found, "the bounds are equal", "a bound is NaN", "x is NaN")


@pytest.mark.parametrize("op", ["clip", "clip_tensor", "clip_by_norm", "clip_backward"])
def test_operators_are_whole(op):
    x = random(4, 5, dtype=torch.float64, requires_grad=True)
    g = random(4, 5, dtype=torch.float64, requires_grad=True)
    side = random(5, dtype=torch.float64, requires_grad=True)
    arguments = {
        "clip": (x, -1, 1, "masked/inclusive/pass"),
        "clip_backward": (x.detach(), g, -1, 1, "masked/inclusive/pass"),
        "clip_tensor": (x, None, side, -1, None, "masked/exclusive/zero"),
        "clip_by_norm": (x, 1.0, [1], 0.0, "propagate"),
    }[op]
    torch.library.opcheck(getattr(torch.ops.wgclip, op).default, arguments)


def test_derivatives():
    x = random(4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ours.clip(x, -1, 1), (x,))
    assert torch.autograd.gradgradcheck(lambda x: ours.clip(x, -1, 1), (x,))
    side = random(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, side: ours.clip(x, None, side), (x, side))
    assert torch.autograd.gradcheck(lambda x: ours.clip_by_norm(x, 1.0), (x,))
    assert torch.autograd.gradcheck(lambda x: ours.clip_by_norm(x, 1.0, 1), (x,))


def test_compile_keeps_the_operator():
    model = torch.compile(lambda x: ours.clip(x * 2, -1, 1, rule="jax"), fullgraph=True, backend="aot_eager")
    x = random(100, requires_grad=True)
    model(x).sum().backward()
    y = x.detach().clone().requires_grad_()
    ours.clip(y * 2, -1, 1, rule="jax").sum().backward()
    same(x.grad, y.grad)
    in_place = torch.compile(lambda x: ours.clip_(x.clone(), 0, 1), fullgraph=True, backend="aot_eager")
    same(in_place(y.detach()), y.detach().clamp(0, 1))


def test_vmap():
    x = random(3, 10)
    same(torch.vmap(lambda x: ours.clip(x, 0, 1))(x), x.clamp(0, 1))
    same(torch.vmap(lambda x: ours.clip(x, 0, 1), in_dims=1)(x), x.t().clamp(0, 1))
    # Many gradients at once go through the operator of the backward pass.
    y = x.clone().requires_grad_()
    (made,) = torch.autograd.grad(ours.clip(y, 0, 1), y, torch.ones(2, 3, 10), is_grads_batched=True)
    same(made[1], ((x > 0) & (x < 1)).float())


def test_what_dlpack_would_lose():
    z = torch.randn(10, dtype=torch.complex64)
    neg = torch.imag(z.conj())
    assert neg.is_neg()
    same(ours.clip(neg, -0.5, 0.5), neg.resolve_neg().clamp(-0.5, 0.5))
    same(ours.clip_(neg.clone(), -0.5, 0.5), neg.resolve_neg().clamp(-0.5, 0.5))
    assert ours.get_total_norm([neg]) == wgclip.norm(neg.resolve_neg().numpy())
    own = torch.imag(z.clone().conj())
    ours.clip_(own, -0.5, 0.5)
    same(own.resolve_neg(), neg.resolve_neg().clamp(-0.5, 0.5))


def test_strides():
    x = random(2, 3, 4, 5)
    for of in (
        x.to(memory_format=torch.channels_last),
        x.transpose(1, 2),
        x[:, ::2],
        torch.randn(5).expand(4, 5),
        x.flatten()[3:].as_strided((4, 4), (2, 1)),
    ):
        made = ours.clip(of, -0.5, 0.5)
        same(made, of.clamp(-0.5, 0.5))
        same(ours.clip(of, torch.tensor(0.1), 0.5), of.clamp(0.1, 0.5))
    assert ours.clip(x.to(memory_format=torch.channels_last), 0, 1).is_contiguous(memory_format=torch.channels_last)
    own = x.clone()
    ours.clip_(own[:, ::2], 0, 1)
    same(own[:, ::2], x[:, ::2].clamp(0, 1))
    same(own[:, 1], x[:, 1])


def test_autograd_notices_what_changes_in_place():
    x = random(10, requires_grad=True)
    y = x * 2
    z = y * y
    with torch.no_grad():
        ours.clip_(y, 0, 1)
    assert y._version == 1
    with pytest.raises(RuntimeError, match="modified by an inplace"):
        z.sum().backward()
    with pytest.raises(RuntimeError, match="requires a gradient"):
        ours.clip_(x, 0, 1)


def test_axes_of_one_element_have_any_stride():
    for of in (
        torch.rand(1).expand(1),
        torch.randn(1, 3).t(),
        torch.randn(2)[::2],
        torch.ones(1, 3)[:, :2],
        torch.randn(1, 3)[:, :1],
    ):
        same(ours.clip(of, 0, 0.5), of.clamp(0, 0.5))
        same(ours.clip(of, torch.zeros(1)), of.clamp(0))
        same(ours.clip_(of.clone(), 0, 0.5), of.clamp(0, 0.5))
    x = torch.rand(1, requires_grad=True)
    ours.clip(x, 0, 1).sum().backward()
    assert x.grad.tolist() == [1.0]
    layer = nn.Conv2d(3, 8, 1).to(memory_format=torch.channels_last)
    layer(torch.randn(2, 3, 5, 5)).sum().backward()
    ours.clip_grad_norm_(layer.parameters(), 0.1)


def test_derivatives_that_there_are_not_are_errors():
    x = torch.tensor([0.5, 0.5], requires_grad=True)
    for call in (
        lambda x: ours.clip(x, torch.tensor(0.0), torch.tensor(1.0)) * x,
        lambda x: ours.clip_by_norm(x, 0.5) * x,
    ):
        (g,) = torch.autograd.grad((call(x) ** 2).sum(), x, create_graph=True)
        with pytest.raises(NotImplementedError, match="no gradient of its own"):
            torch.autograd.grad(g.sum(), x)
    for call in (
        lambda x: ours.clip(x, 0, 1),
        lambda x: ours.clip(x, torch.zeros(2)),
        lambda x: ours.clip_by_norm(x, 0.5),
    ):
        with pytest.raises(NotImplementedError, match="forward mode"):
            torch.func.jvp(call, (x.detach(),), (torch.ones(2),))


def test_bounds_keep_their_types():
    x = torch.tensor([0, 1, 2], dtype=torch.uint8)
    one = torch.tensor([1, 1, 1], dtype=torch.uint8)
    assert ours.clip(x, -1, one).tolist() == [0, 1, 1]
    with pytest.raises(TypeError, match="whole number"):
        ours.clip(x, 0.5, one)
    with pytest.raises(TypeError, match="does not go with"):
        ours.clip(x, torch.tensor(1.0, requires_grad=True))
    with pytest.raises(ValueError, match="meta"):
        ours.clip(torch.zeros(3), torch.zeros(3, device="meta"))
    assert ours.clip(torch.zeros(3), torch.tensor(math.nan)).isnan().all()
    with pytest.raises(ValueError, match="no rule"):
        ours.Clip(0, 1, rule="a/b/c")


def test_negated_views_outside_of_torch():
    neg = torch._neg_view(torch.tensor([1.0, 2.0, 3.0]))
    assert wgclip.clip(np.full(3, -5, "f4"), neg).tolist() == [-1.0, -2.0, -3.0]
    assert wgclip.Device.cpu().tensor(neg).numpy().tolist() == [-1.0, -2.0, -3.0]
    with pytest.raises(TypeError, match="numpy"):
        wgclip.clip(np.arange(3.0), 0, 1, out=torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_norms_outside_of_torch_take_what_clip_takes(dtype):
    x = torch.tensor([3.0, 4.0], dtype=dtype, requires_grad=True)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    same(wgclip.norm(x), torch.tensor(5.0, dtype=wide))
    same(wgclip.sum(x), torch.tensor(7.0, dtype=dtype))
    same(wgclip.norm(torch._neg_view(x.detach()), 0, ord=math.inf), torch.tensor(4.0, dtype=wide))
    same(wgclip.clip_adaptive(x, torch.ones(2, dtype=dtype) * 4, 0.0, None), torch.zeros(2, dtype=dtype))
    made, norm = wgclip.clip_by_global_norm([x, np.zeros(2, "f4")], 2.5)
    assert norm == 5.0 and type(made[1]) is np.ndarray
    same(made[0], torch.tensor([1.5, 2.0], dtype=dtype))
    assert wgclip.global_norm([x]) == 5.0


def test_no_parameters_are_told():
    parameters = (p for p in [nn.Parameter(torch.zeros(1))])
    list(parameters)
    for clip in (ours.clip_grad_norm_, ours.clip_grad_value_):
        with pytest.warns(UserWarning, match="no parameters") as told:
            clip(parameters, 1.0)
        assert told[0].filename == __file__


def test_gradients_that_cannot_be_written_change_nothing():
    first, second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))
    first.grad, second.grad = torch.tensor([3.0, 4.0]), torch.ones(1).expand(3)
    for clip in (ours.clip_grad_norm_, ours.clip_grad_value_):
        with pytest.raises(ValueError, match="expanded"):
            clip([first, second], 1.0)
    assert first.grad.tolist() == [3.0, 4.0]


def test_what_is_elsewhere():
    with pytest.raises(BufferError, match="meta"):
        wgclip.norm(torch.empty(3, device="meta"))
    neg = torch.imag(torch.full((3,), 2j).conj())
    assert float(wgclip.sum(neg)) == -6.0
    assert ours.clip(torch.empty(3, device="meta"), 0, 1).device.type == "meta"
    with pytest.raises(TypeError, match="layout"):
        ours.clip(torch.eye(3).to_sparse(), 0, 1)
    with pytest.raises(TypeError, match="bool"):
        ours.clip(torch.tensor([True]), 0, 1)
    for empty in (torch.empty(0), torch.empty(3, 0), torch.tensor(7.0)):
        same(ours.clip(empty, 0, 1), empty.clamp(0, 1))


def test_another_thread():
    x = random(1000, requires_grad=True)
    found = []
    thread = threading.Thread(target=lambda: found.append(ours.clip(x, 0, 1)))
    thread.start()
    thread.join()
    found[0].sum().backward()
    assert x.grad.sum() == ((x > 0) & (x < 1)).sum()


class TwoLayers(nn.Module):
    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(20, 30, dtype=dtype), ours.Clip(0, 6), nn.Linear(30, 5, dtype=dtype))

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("norm_type", [1.0, 2.0, math.inf])
def test_gradients_are_clipped_as_torch_clips_them(dtype, norm_type):
    model = TwoLayers(dtype)
    model(torch.randn(7, 20, dtype=dtype)).square().sum().backward()
    before = [p.grad.clone() for p in model.parameters()]
    versions = [p.grad._version for p in model.parameters()]
    expected = nn.utils.get_total_norm([g.double() for g in before], norm_type)
    norm = ours.clip_grad_norm_(model.parameters(), 0.5, norm_type)
    assert norm.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert abs(norm.double() - expected) <= 1e-6 * expected
    assert ours.get_total_norm(before, norm_type) == norm
    for p, g, version in zip(model.parameters(), before, versions):
        wanted = (g.double() * (0.5 / (expected + 1e-6))).to(dtype)
        assert torch.allclose(p.grad, wanted, rtol=1e-2 if dtype == torch.bfloat16 else 1e-6, atol=1e-9)
        assert p.grad._version > version
        p.grad = g.clone()
    ours.clip_grads_with_norm_(model.parameters(), 0.5, norm)
    again = [p.grad.clone() for p in model.parameters()]
    for p, g in zip(model.parameters(), before):
        p.grad = g.clone()
    ours.clip_grad_norm_(model.parameters(), 0.5, norm_type)
    for p, g in zip(model.parameters(), again):
        same(p.grad, g)
    # Within the limit every bit is kept.
    ours.clip_grad_norm_(model.parameters(), 1e9, norm_type)
    for p, g in zip(model.parameters(), again):
        same(p.grad, g)


def test_gradients_of_every_make():
    strided, neg = nn.Parameter(torch.zeros(4, 4)), nn.Parameter(torch.zeros(4))
    strided.grad = torch.full((4, 4), 3.0).t()
    neg.grad = torch.imag(torch.full((4,), 3.0 * 1j).conj())
    gap = nn.Parameter(torch.zeros(4))
    memory = torch.full((8,), 3.0)
    gap.grad = memory[::2]
    none = nn.Parameter(torch.zeros(4))
    norm = ours.clip_grad_norm_([strided, neg, gap, none, gap], 1.0)
    assert float(norm) == float(np.float32(np.sqrt(24 * 9.0)))
    value = 3 / (math.sqrt(24 * 9.0) + 1e-6)
    for p in (strided, gap):
        assert torch.allclose(p.grad, torch.full_like(p.grad, value))
    assert torch.allclose(neg.grad.resolve_neg(), torch.full((4,), -value))
    assert memory[1] == 3.0
    assert float(ours.clip_grad_norm_([none], 1.0)) == 0.0
    ours.clip_grad_value_([strided, neg, gap], 0.1)
    assert strided.grad.max() == torch.tensor(0.1) and neg.grad.resolve_neg().min() == torch.tensor(-0.1)


def test_norms_that_are_not_finite_and_half_floats():
    p = nn.Parameter(torch.zeros(2))
    p.grad = torch.tensor([1.0, math.inf])
    with pytest.raises(RuntimeError, match="NaN or infinite"):
        ours.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    assert p.grad.tolist() == [1.0, math.inf]
    with pytest.raises(RuntimeError):
        ours.get_total_norm([p.grad], error_if_nonfinite=True)
    with pytest.raises(ValueError, match="invalid limit"):
        ours.clip_grad_norm_([p], -1.0)
    half = nn.Parameter(torch.zeros(2, dtype=torch.float16))
    half.grad = torch.full((2,), 6e4, dtype=torch.float16)
    assert float(ours.clip_grad_norm_([half], 1.0)) == float(np.float32(84852.81))
    assert abs(float(half.grad[0]) - 0.7071) < 1e-3


def test_a_thread_that_flushes_subnormals():
    """Values keep theirs, whatever the thread's mode, which stays as it is."""
    x = np.array([1e-40, -1e-40, 1e-45, -0.0, 3.0], "f4")
    expected = [of.view("u4").tolist() for of in (wgclip.clip(x, 0, 1), wgclip.clip(x, -5e-41, 5e-41), wgclip.norm(x[:3]))]
    large, least = np.tile(x, 1 << 18), float(x[0])
    try:
        assert torch.set_flush_denormal(True)
        with warnings.catch_warnings():
            # Not that the bound became 0.
            warnings.simplefilter("error")
            wgclip.clip(x, 0, least)
            assert wgclip.inward("f4", least, least) == (least, least)
        assert torch.tensor(1e-40) * 1 == 0
        made = [of.view("u4").tolist() for of in (wgclip.clip(x, 0, 1), wgclip.clip(x, -5e-41, 5e-41), wgclip.norm(x[:3]))]
        assert made == expected
        assert (wgclip.clip(large, -5e-41, 5e-41).view("u4") == np.tile(np.array(expected[1], "u4"), 1 << 18)).all()
        assert torch.tensor(1e-40) * 1 == 0
    finally:
        torch.set_flush_denormal(False)


def test_docstrings():
    found = doctest.testmod(ours)
    assert found.attempted > 3 and not found.failed
    assert all(getattr(ours, name).__doc__ for name in ours.__all__)


def test_layers():
    layer = ours.LearnedClip(max=torch.full((3,), 1.0))
    x = torch.tensor([[0.5, 1.0, 2.0]], requires_grad=True)
    layer(x).backward(torch.tensor([[1.0, 10.0, 100.0]]))
    assert layer.max.grad.tolist() == [0.0, 10.0, 100.0] and x.grad.tolist() == [[1.0, 0.0, 0.0]]
    assert layer.min is None and list(layer.state_dict()) == ["max"]
    assert "0, 6" in repr(ours.Clip(0, 6))
    assert torch.equal(ours.Clip(max=1.0)(x), x.clamp(max=1.0))


def test_sparse_gradients_have_the_norm_of_their_sums():
    embedding, dense = torch.nn.Embedding(5, 2, sparse=True), torch.nn.Parameter(torch.tensor([12.0]))
    # Row 1 twice: 1.5 and 1.5 are 3.
    (embedding(torch.tensor([1, 1])).sum() * torch.tensor(1.5)).backward()
    dense.grad = torch.tensor([math.sqrt(124.0)])
    assert not embedding.weight.grad.is_coalesced()
    expected = math.sqrt(18 + 124.0)
    assert float(ours.get_total_norm([embedding.weight.grad, dense.grad])) == pytest.approx(expected, rel=1e-6)
    norm = ours.clip_grad_norm_([embedding.weight, dense], 1.0)
    assert float(norm) == pytest.approx(expected, rel=1e-6)
    grad = embedding.weight.grad
    assert grad.is_sparse and grad.to_dense()[1].tolist() == pytest.approx([3 / expected] * 2, rel=1e-5)
    ours.clip_grad_value_([embedding.weight], 0.1)
    assert embedding.weight.grad.to_dense()[1].tolist() == pytest.approx([0.1, 0.1])
    torch.optim.SparseAdam(embedding.parameters()).step()
    sparse = torch.sparse_coo_tensor([[0, 0, 1]], [1.0, 2.0, 4.0], (2,))
    assert float(wgclip.norm(sparse)) == 5
    assert wgclip.clip_by_norm(sparse, 2.5).to_dense().tolist() == [1.5, 2.0]
    (made,), norm = wgclip.clip_by_global_norm([sparse], 2.5)
    assert norm == 5 and made.to_dense().tolist() == [1.5, 2.0]


def test_bounds_of_another_type():
    x = torch.tensor([1.0, 2.0, 3.0])
    for hi in (torch.tensor(2), torch.tensor([2]), torch.tensor(2.0, dtype=torch.float64), torch.tensor([2.0], dtype=torch.float16)):
        same(ours.clip(x, None, hi), torch.clamp(x, max=2.0))
    same(ours.clip(torch.tensor([1, 9], dtype=torch.uint8), None, torch.tensor(300)), torch.tensor([1, 9], dtype=torch.uint8))
    same(ours.clip(torch.tensor([1, 9]), torch.tensor(4.0)), torch.tensor([4, 9]))
    with pytest.raises(TypeError, match="whole number"):
        ours.clip(torch.tensor([1, 9]), torch.tensor(4.5))
    hi = torch.tensor([1.5], dtype=torch.float64, requires_grad=True)
    ours.clip(x, None, hi).sum().backward()
    assert hi.grad.tolist() == [2.0] and hi.grad.dtype == torch.float64


def test_a_sparse_gradient_of_two_parameters_counts_once():
    grad = torch.sparse_coo_tensor([[0, 1, 1]], torch.ones(3, 2), (5, 2))
    shared = [nn.Parameter(torch.zeros(5, 2)) for _ in range(2)]
    for p in shared:
        p.grad = grad
    assert float(ours.clip_grad_norm_(shared, 100.0)) == pytest.approx(math.sqrt(10))


def test_samples_of_several_parameters():
    weight, bias = torch.randn(4, 3, 2, dtype=torch.bfloat16), torch.randn(4, 3)
    (w, b), norms = wgclip.clip_by_global_norm([weight, bias], 0.5, batch_axis=0)
    assert w.dtype == torch.bfloat16 and norms.shape == (4,)
    for n in range(4):
        (one, other), norm = wgclip.clip_by_global_norm([weight[n], bias[n]], 0.5)
        assert norms[n] == norm and torch.equal(w[n], one) and torch.equal(b[n], other)


def test_every_function_gives_back_tensors():
    x, g = torch.tensor([-1.0, 0.5, 3.0]), torch.tensor([1.0, 2.0, 3.0])
    assert torch.equal(wgclip.clip_quantiles(x, 0.4, 0.6), torch.tensor([0.5, 0.5, 0.5]))
    assert torch.equal(wgclip.quantiles(x, 0.5), torch.tensor(0.5))
    assert wgclip.clip_to(x, 0, 1, dtype="bfloat16").dtype == torch.bfloat16
    gx = wgclip.clip_backward(x, g, 0, 1)
    y, mask = wgclip.clip_with_mask(x, 0, 1)
    assert torch.equal(gx, torch.tensor([0.0, 2.0, 0.0])) and torch.equal(wgclip.mask_backward(mask, g), gx)
    assert torch.equal(y, x.clamp(0, 1))
    assert all(isinstance(of, torch.Tensor) for of in wgclip.clip_backward_bounds(x, g, 0, 1))


@pytest.mark.parametrize("zero_point", [0, 3, -7])
def test_fake_quantisation_is_torchs(zero_point):
    steps = torch.randint(-300, 300, (4, 500)) + torch.tensor([0, 0.5, 0.25, 0.49]).repeat(4, 125)
    for scale in (1.0, 0.1, 0.037, 0.25):
        x = (scale * steps).requires_grad_()
        g = torch.randn_like(x)
        expected = torch.fake_quantize_per_tensor_affine(x, scale, zero_point, -128, 127)
        (theirs,) = torch.autograd.grad(expected, x, g)
        y = ours.fake_quantize(x, scale, zero_point, -128, 127)
        (gx,) = torch.autograd.grad(y, x, g)
        same(y, expected)
        same(gx + 0.0, theirs + 0.0)
    scales, zeros = torch.tensor([1.0, 0.1, 0.037, 0.25]), torch.full((4,), zero_point, dtype=torch.int32)
    expected = torch.fake_quantize_per_channel_affine(x, scales, zeros, 0, -128, 127)
    same(ours.fake_quantize(x, scales, zeros, -128, 127, axis=0), expected)


def test_a_learned_scale_has_torchs_gradient():
    x = (3 * torch.randn(64)).requires_grad_()
    scale, zero_point = torch.tensor([0.05], requires_grad=True), torch.tensor([0.0], requires_grad=True)
    g = torch.randn(64)
    expected = torch._fake_quantize_learnable_per_tensor_affine(x, scale, zero_point, -8, 7, 1.0)
    theirs = torch.autograd.grad(expected, (x, scale, zero_point), g)
    y = ours.fake_quantize(x, scale, zero_point, -8, 7)
    made = torch.autograd.grad(y, (x, scale, zero_point), g)
    same(y, expected)
    assert [of.shape for of in made] == [of.shape for of in theirs]
    for ours_of, theirs_of in zip(made, theirs):
        torch.testing.assert_close(ours_of, theirs_of, rtol=1e-5, atol=1e-4)


def test_the_gradient_of_fake_quantisation_has_none_of_its_own():
    x = torch.randn(5, requires_grad=True)
    scale = torch.tensor(0.1, requires_grad=True)
    (gx, _) = torch.autograd.grad(ours.fake_quantize(x, scale).square().sum(), (x, scale), create_graph=True)
    with pytest.raises(RuntimeError, match="differentiat"):
        gx.sum().backward()


@pytest.mark.parametrize("averaging", [0.01, None])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_an_observed_range_is_torchs(averaging, axis):
    from torch.ao import quantization as theirs

    observers = {
        (False, False): theirs.MinMaxObserver,
        (False, True): theirs.MovingAverageMinMaxObserver,
        (True, False): theirs.PerChannelMinMaxObserver,
        (True, True): theirs.MovingAveragePerChannelMinMaxObserver,
    }
    options = {} if axis is None else {"ch_axis": axis}
    schemes = {None: [torch.per_tensor_affine, torch.per_tensor_symmetric]}.get(axis, [torch.per_channel_affine, torch.per_channel_symmetric])
    for scheme, of_torch, codes, dtype in [
        ("affine", schemes[0], (0, 255), torch.quint8),
        ("symmetric-half", schemes[1], (-128, 127), torch.qint8),
    ]:
        observer = observers[axis is not None, averaging is not None]
        expected = theirs.FakeQuantize(observer, *codes, qscheme=of_torch, dtype=dtype, **options)
        layer = ours.FakeQuantize(*codes, axis=axis, scheme=scheme, averaging=averaging)
        for batch in range(4):
            x = torch.randn(4, 6) * (batch + 1)
            y, z = layer(x), expected(x)
            torch.testing.assert_close(layer.scale, expected.scale.float(), rtol=2**-22, atol=0)
            torch.testing.assert_close(y, z, rtol=0, atol=1.01 * float(layer.scale.max()))
            torch.testing.assert_close(layer.min_val, expected.activation_post_process.min_val.reshape(-1))
            assert (layer.zero_point - expected.zero_point).abs().max() <= 1
        layer.disable_observer()
        before = layer.scale.clone()
        layer(100 * x)
        assert torch.equal(layer.scale, before)
        assert layer.disable_fake_quant()(x) is x


def test_an_observed_range_is_saved_and_refuses_nan():
    layer, x = ours.FakeQuantize(-8, 7, axis=0, scheme="symmetric"), torch.randn(3, 5)
    y = layer(x)
    other = ours.FakeQuantize(-8, 7, axis=0, scheme="symmetric")
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.disable_observer()(x), y)
    before = layer.state_dict()
    with pytest.raises(ValueError, match="NaN or infinite"):
        layer(torch.tensor([[1.0], [float("nan")], [2.0]]))
    assert all(torch.equal(of, before[name]) for name, of in layer.state_dict().items())
    x.requires_grad_()
    layer(x).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


@pytest.mark.parametrize("channels", [None, 3])
def test_a_learned_scale_is_lsqs(channels):
    x = torch.randn(3, 40) * torch.tensor([[1.0], [5.0], [0.2]])
    layer = ours.LearnedFakeQuantize(-8, 7, **({} if channels is None else {"axis": 0, "channels": channels}))
    layer(x)
    rows = x.reshape(channels or 1, -1)
    torch.testing.assert_close(layer.scale.detach(), 2 * rows.abs().mean(dim=1) / 7**0.5)
    g = torch.randn_like(x)
    layer(x).backward(g)
    scale = layer.scale.detach().reshape(-1, 1)
    steps = (rows / scale).round().clamp(-8, 7)
    inside = (rows / scale).round() == steps
    of_scale = torch.where(inside, steps - rows / scale, steps)
    expected = (of_scale * g.reshape(rows.shape)).sum(dim=1) / (rows.shape[1] * 7) ** 0.5
    torch.testing.assert_close(layer.scale.grad, expected, rtol=1e-4, atol=1e-5)
    assert bool(layer.initialized)
    start = layer.scale.detach().clone()
    layer(10 * x)
    assert torch.equal(layer.scale, start), "the first batch alone gives the scale"
    learned = ours.LearnedFakeQuantize(0, 15, learn_zero_point=True)
    learned(x).sum().backward()
    assert learned.zero_point.grad is not None
    with pytest.raises(ValueError, match="along which axis"):
        ours.LearnedFakeQuantize(channels=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_activations_are_torchs_but_nearer(name, dtype):
    """Of float64 torch's functions are nearer than half of the last bit of these types, except at ties."""
    x = random(5, 77, dtype=dtype, requires_grad=True)
    g = torch.randn_like(x)
    y = getattr(ours, name)(x)
    expected = getattr(torch, name)(x.detach().double()).to(torch.float32).to(dtype)
    assert (y == expected).float().mean() > 0.99
    (gx,) = torch.autograd.grad(y, x, g)
    same(gx, wgclip.run(f"{name}_backward", y.detach(), g))
    of_y, of_g = y.detach().double(), g.double()
    near = of_g * (1 - of_y * of_y if name == "tanh" else of_y * (1 - of_y))
    assert torch.allclose(gx.double(), near, rtol=2.0**-8, atol=1e-7)
    layer = {"tanh": ours.Tanh, "sigmoid": ours.Sigmoid}[name]()
    same(layer(x.T), y.T.contiguous())
    same(getattr(wgclip, name)(x), y)
    with pytest.raises(TypeError, match="up to 32 bits"):
        getattr(ours, name)(x.double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dim", [0, -1, (0, 2), None])
def test_a_softmax_is_torchs_but_nearer(dtype, dim):
    x = (4 * torch.randn(5, 7, 33)).to(dtype).requires_grad_()
    y, g = ours.softmax(x, dim), torch.randn(5, 7, 33).to(dtype)
    wide = x.detach().double().requires_grad_()
    axes = [0, 1, 2] if dim is None else [dim] if isinstance(dim, int) else list(dim)
    theirs = (wide - torch.logsumexp(wide, axes, keepdim=True)).exp()
    assert (y == theirs.float().to(dtype)).float().mean() > 0.98
    (gx,), (near,) = torch.autograd.grad(y, x, g), torch.autograd.grad(theirs, wide, g.double())
    same(gx, wgclip.softmax_backward(y.detach(), g, dim))
    # The result that it is computed from is rounded, to 8 bits at the least.
    assert torch.allclose(gx.double(), near, rtol=2.0**-6, atol=2.0**-5)
    same(ours.Softmax(dim)(x), y)
    same(wgclip.softmax(x, dim), y)


def test_a_soft_cap_is_that_of_the_list():
    x = (40 * torch.randn(5, 77)).requires_grad_()
    g = torch.randn(5, 77)
    y = ours.soft_cap(x, 30)
    same(y, wgclip.run("soft_cap", x.detach(), cap=30))
    (gx,) = torch.autograd.grad(y, x, g)
    same(gx, wgclip.run("soft_cap_backward", y.detach(), g, cap=30))
    (theirs,) = torch.autograd.grad(30 * torch.tanh(x / 30), x, g)
    assert torch.allclose(gx, theirs, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="soft cap"):
        ours.soft_cap(x, 0)


@pytest.mark.parametrize("layer", [ours.FakeQuantize, ours.LearnedFakeQuantize])
def test_a_layer_that_rounds_stochastically_draws_anew(layer):
    rule = wgclip.QuantRule(rounding="stochastic", seed=5)
    of = layer(-8, 7, rule=rule)
    x = torch.randn(1000)
    first, second = of(x), of(x)
    assert of.rule.seed == 7 and not torch.equal(first, second)
    of.eval()
    if layer is ours.FakeQuantize:
        of.disable_observer()
    same(of(x), of(x))
    assert of.rule.seed == 7
    again = layer(-8, 7, rule=rule)
    same(again(x), first)
