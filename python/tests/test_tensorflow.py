"""wgclip.tensorflow: eager and in functions."""

from __future__ import annotations

import numpy as np
import oracle
import parity
import pytest
import tensorflow as tf
import wgclip
import wgclip.tensorflow as ours


@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "function"])
def test_values_and_gradients(rng, wrap):
    x = oracle.random_bits(rng, np.dtype("f4"), (5, 20))
    g = rng.standard_normal((5, 20)).astype("f4")
    lo, hi = rng.standard_normal(20).astype("f4"), rng.standard_normal((5, 1)).astype("f4")

    @wrap
    def run(x, lo, hi):
        with tf.GradientTape(persistent=True) as tape:
            for of in (x, lo, hi):
                tape.watch(of)
            y = ours.clip_by_value(x, lo, hi)
            z = ours.clip_by_value(x, -1, 1, rule="jax")
        return y, tape.gradient(y, (x, lo, hi), g), z, tape.gradient(z, x, g)

    y, gradients, z, gz = run(*(tf.constant(of) for of in (x, lo, hi)))
    oracle.assert_same(y, wgclip.clip(x, lo, hi))
    for made, theirs in zip(gradients, wgclip.clip_backward_bounds(x, g, lo, hi, rule="tensorflow")):
        oracle.assert_same(made, theirs)
    oracle.assert_same(z, wgclip.clip(x, -1, 1))
    oracle.assert_same(gz, wgclip.clip_backward(x, g, -1, 1, rule="jax"))
    assert tf.is_tensor(wgclip.clip(tf.constant(x), 0, 1))


def taped(clip, g, *operands):
    operands = [tf.constant(of) for of in operands]
    with tf.GradientTape() as tape:
        for of in operands:
            tape.watch(of)
        y = clip(*operands)
    return y, tape.gradient(y, operands, tf.constant(g))


def test_parity():
    """TensorFlow takes the maximum last, so that a lower bound above the upper one wins; and it flushes subnormals."""
    values, gradients = [], []
    x, g = parity.elements(), parity.upstream()
    for lo, hi in parity.numbers():
        if None in (lo, hi):
            continue
        y, (gx,) = taped(lambda x: ours.clip_by_value(x, lo, hi), g, x)
        z, (theirs,) = taped(lambda x: tf.clip_by_value(x, lo, hi), g, x)
        sides = parity.number_bounds(lo, hi, x.size)
        values += parity.differences(y, z, x, *sides)
        gradients += parity.differences(gx, theirs, x, *sides)
    order = "the lower bound is above the upper one"
    parity.assert_excused(values, "sign of a zero", "subnormals are flushed", order)
    parity.assert_excused(gradients, "subnormals are flushed")
    x, g, *sides = parity.arrays()
    y, made = taped(ours.clip_by_value, g, x, *sides)
    z, theirs = taped(tf.clip_by_value, g, x, *sides)
    parity.assert_excused(parity.differences(y, z, x, *sides), "sign of a zero", "subnormals are flushed", order)
    found = [parity.differences(a, b, x, *sides) for a, b in zip(made, theirs)]
    parity.assert_excused(found[0], "subnormals are flushed")
    parity.assert_excused(
        found[1] + found[2], order, "a bound is NaN", "x is NaN", "the bounds are equal", "subnormals are flushed"
    )


def test_a_gradient_of_a_gradient_is_an_error():
    v = tf.Variable([0.1, 0.5, 2.0])
    for clip in (lambda v: ours.clip_by_value(v, 0, 1), lambda v: ours.clip_by_norm(v, 1.0)):
        with pytest.raises(NotImplementedError, match="no gradient of its own"), tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                y = tf.reduce_sum(clip(v) * v)
            p = tf.reduce_sum(inner.gradient(y, v) ** 2)
            outer.gradient(p, v)


def test_lists_without_tensors():
    assert float(ours.clip_by_global_norm([], 1.0)[1]) == 0.0
    assert ours.clip_by_global_norm([None], 1.0)[0] == [None]
    with pytest.raises(TypeError, match="slices"):
        ours.clip_by_global_norm([tf.IndexedSlices(tf.ones((1, 2)), tf.constant([0]))], 1.0)


def test_norms(rng):
    x, g = rng.standard_normal((4, 9)).astype("f4"), rng.standard_normal((4, 9)).astype("f4")
    with tf.GradientTape() as tape:
        of = tf.constant(x)
        tape.watch(of)
        y = ours.clip_by_norm(of, 1.0)
    oracle.assert_same(y, wgclip.clip_by_norm(x, 1.0))
    oracle.assert_same(tape.gradient(y, of, g), wgclip.clip_by_norm_backward(x, g, 1.0))
    made, norm = ours.clip_by_global_norm([tf.constant(x), None, tf.constant(g)], 1.0)
    expected, of = wgclip.clip_by_global_norm([x, g], 1.0)
    assert made[1] is None and float(norm) == of
    oracle.assert_same(made[0], expected[0])
    oracle.assert_same(made[2], expected[1])
