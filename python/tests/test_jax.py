"""wgclip.jax: jit, grad and vmap."""

from __future__ import annotations

import doctest
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import parity
import pytest
import wgclip
import wgclip.jax as ours
from wgclip import _core


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int32", "uint8"])
def test_values(rng, dtype):
    x = oracle.random_bits(rng, jnp.dtype(dtype), (4, 33))
    expected = wgclip.clip(x, 0, 1)
    oracle.assert_same(ours.clip(jnp.asarray(x), 0, 1), expected)
    oracle.assert_same(jax.jit(lambda x: ours.clip(x, 0, 1))(x), expected)
    made = wgclip.clip(jnp.asarray(x), 0, 1)
    assert isinstance(made, jax.Array)
    oracle.assert_same(made, expected)


@pytest.mark.parametrize("rule", wgclip.BackwardRule.presets())
def test_gradients_go_by_the_rule(rng, rule):
    x = np.array([-1.0, 0.0, 0.5, 1.0, 2.0, math.nan], "f4")
    g = np.array([3.0, 5.0, 7.0, 11.0, 13.0, 17.0], "f4")
    for wrap in (lambda f: f, jax.jit):
        made = wrap(jax.grad(lambda x: (ours.clip(x, 0, 1, rule=rule) * g)[:5].sum()))(x)
        oracle.assert_same(made[:5], wgclip.clip_backward(x, g, 0, 1, rule=rule)[:5])


def test_bounds_have_gradients_and_batches(rng):
    x, lo, hi = (rng.standard_normal(of).astype("f4") for of in ((3, 5, 7), (7,), (5, 1)))
    g = rng.standard_normal((3, 5, 7)).astype("f4")
    expected = wgclip.clip_backward_bounds(x, g, lo, hi, rule="jax")
    made = jax.jit(jax.grad(lambda *of: (ours.clip(*of) * g).sum(), argnums=(0, 1, 2)))(x, lo, hi)
    for ours_, theirs in zip(made, expected):
        oracle.assert_same(ours_, theirs)
    batched = jax.vmap(lambda x, lo: ours.clip(x, lo, 1.0), (0, None))(x, lo)
    oracle.assert_same(batched, wgclip.clip(x, lo, 1))
    each = jax.vmap(jax.grad(lambda x, lo, g: (ours.clip(x, lo) * g).sum(), argnums=1), (0, None, 0))(x, lo, g)
    for n in range(3):
        oracle.assert_same(each[n], wgclip.clip_backward_bounds(x[n], g[n], lo, None, rule="jax")[1])


def number_differences(clip, wrap, rule, bounds):
    """Differences of values and of gradients, with bounds that are numbers."""
    x, g = parity.elements(), parity.upstream()
    found = [], []
    for lo, hi in bounds:
        y, gradient = jax.vjp(lambda x: ours.clip(x, lo, hi, rule=rule), jnp.asarray(x))
        z, theirs = jax.vjp(lambda x: clip(x, wrap(lo), wrap(hi)), jnp.asarray(x))
        sides = parity.number_bounds(lo, hi, x.size)
        found[0].extend(parity.differences(y, z, x, *sides))
        found[1].extend(parity.differences(gradient(jnp.asarray(g))[0], theirs(jnp.asarray(g))[0], x, *sides))
    return found


def array_differences(clip, rule):
    """The same of bounds that are arrays."""
    x, g, *sides = parity.arrays()
    operands = [jnp.asarray(of) for of in (x, *sides)]
    y, gradient = jax.vjp(lambda *of: ours.clip(*of, rule=rule), *operands)
    z, theirs = jax.vjp(clip, *operands)
    made = zip(gradient(jnp.asarray(g)), theirs(jnp.asarray(g)))
    return parity.differences(y, z, x, *sides), [parity.differences(a, b, x, *sides) for a, b in made]


def test_parity_with_clip():
    values, gradients = number_differences(jnp.clip, lambda of: of, "jax", parity.numbers())
    parity.assert_excused(values, "sign of a zero", "subnormals are flushed")
    parity.assert_excused(gradients, "sign of a zero", "subnormals are flushed")
    values, (gx, *of_bounds) = array_differences(jnp.clip, "jax")
    parity.assert_excused(values, "sign of a zero", "subnormals are flushed")
    parity.assert_excused(gx, "sign of a zero", "subnormals are flushed")
    parity.assert_excused([of for each in of_bounds for of in each], "sign of a zero", "a bound is NaN", "subnormals are flushed")


def test_parity_with_clamp():
    """lax.clamp gives nobody the gradient of a tie."""
    bounds = [of for of in parity.numbers() if None not in of]
    clamp = lambda x, lo, hi: jax.lax.clamp(lo, x, hi)  # noqa: E731
    values, gradients = number_differences(clamp, jnp.float32, "lax", bounds)
    parity.assert_excused(values, "sign of a zero", "subnormals are flushed")
    parity.assert_excused(gradients, "subnormals are flushed")
    values, (gx, *of_bounds) = array_differences(clamp, "lax")
    parity.assert_excused(values, "sign of a zero", "subnormals are flushed")
    parity.assert_excused(gx, "subnormals are flushed")
    parity.assert_excused(
        [of for each in of_bounds for of in each],
        "a bound is NaN",
        "the bounds are equal",
        "the lower bound is above the upper one",
        "x is equal to a bound",
        "subnormals are flushed",
    )


def test_bounds_take_the_type_of_x():
    for dtype in ("float32", "bfloat16"):
        x = jnp.asarray([-1.0, 0.05, 2.0], dtype)
        made = jax.jit(lambda x, lo: ours.clip(x, lo, [1, 1, 1]))(x, 0.1)
        oracle.assert_same(made, wgclip.clip(np.asarray(x), 0.1, 1))
    with pytest.raises(TypeError, match="does not go with"):
        jax.jit(ours.clip)(jnp.zeros(3), jnp.zeros(3, "int32"))


def test_arrays_are_never_written_to():
    x = jnp.array([1.0, 2.0, 3.0])
    with pytest.raises((ValueError, TypeError)):
        _core.clip(x, 0, 1, x)
    assert x.tolist() == [1.0, 2.0, 3.0]


def test_norms(rng):
    x = rng.standard_normal((4, 9)).astype("f4")
    g = rng.standard_normal((4, 9)).astype("f4")
    oracle.assert_same(jax.jit(lambda x: ours.clip_by_norm(x, 1.0, 1))(x), wgclip.clip_by_norm(x, 1.0, 1))
    made = jax.grad(lambda x: (ours.clip_by_norm(x, 1.0) * g).sum())(x)
    oracle.assert_same(made, wgclip.clip_by_norm_backward(x, g, 1.0))
    oracle.assert_same(jax.vmap(lambda x: ours.clip_by_norm(x, 1.0))(x), wgclip.clip_by_norm(x, 1.0, 1))
    tree = {"w": x, "b": [g[0], jnp.asarray(g[1], jnp.bfloat16)]}
    clipped, norm = jax.jit(lambda tree: ours.clip_by_global_norm(tree, 1.0))(tree)
    leaves = [np.asarray(of) for of in jax.tree.leaves(tree)]
    expected, of = wgclip.clip_by_global_norm(leaves, 1.0)
    assert float(norm) == of
    for made, theirs in zip(jax.tree.leaves(clipped), expected):
        oracle.assert_same(made, theirs)


def test_limits_that_are_traced_and_leaves_that_are_counters():
    tree = {"w": jnp.array([3.0, 4.0]), "step": jnp.array(7), "none": None}
    schedule = lambda step: 5.0 / (1.0 + step)
    clipped, norm = jax.jit(lambda tree, step: ours.clip_by_global_norm(tree, schedule(step)))(tree, jnp.array(1.0))
    assert float(norm) == 5.0 and clipped["w"].tolist() == [1.5, 2.0]
    assert int(clipped["step"]) == 7 and clipped["step"].dtype == tree["step"].dtype and clipped["none"] is None


def test_norms_outside_of_jax_take_what_clip_takes():
    x = jnp.array([3.0, 4.0], jnp.bfloat16)
    assert isinstance(wgclip.norm(x), jax.Array) and float(wgclip.norm(x)) == 5.0
    assert wgclip.sum(x).dtype == jnp.bfloat16 and float(wgclip.sum(x)) == 7.0
    assert isinstance(wgclip.clip_adaptive(x, x, 0.5, None), jax.Array)


def test_docstrings():
    found = doctest.testmod(ours)
    assert found.attempted > 2 and not found.failed
