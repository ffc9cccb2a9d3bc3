"""Prove a derivative rule of your own, in a test.

softplus is log(1 + e^x), which overflows as it stands; written stably, its derivative
is the sigmoid. One sees a test that proves that rule where it matters, at large and at
small x, in two float types, and another which shows that the proof notices a rule that
is wrong in a single factor, and names it. No step and no tolerance is chosen.

    pytest examples/test_my_rule.py
"""

import jax
import jax.numpy as jnp
import pytest

from funcgrad.testing import assert_gradients, check_gradients


def with_rule(slope):
    """Return softplus with `slope(x)` as its derivative."""

    @jax.custom_vjp
    def softplus(x):
        return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))

    def forward(x):
        return softplus(x), x

    def backward(x, g):
        return (g * slope(x),)

    softplus.defvjp(forward, backward)
    return softplus


softplus = with_rule(jax.nn.sigmoid)
POINTS = [-30.0, -1.25, 0.5, 2.0, 30.0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_rule_is_right(dtype):
    assert_gradients(softplus, jnp.array(POINTS, dtype))


def test_the_rule_is_right_inside_a_net():
    """A gradient is a program like any other: the rule is proven where it is used."""
    w = jax.random.normal(jax.random.key(0), (5, 3))
    x = jnp.array(POINTS)
    assert_gradients(lambda w: softplus(x @ w).sum(), w)


def test_a_wrong_rule_fails():
    wrong = with_rule(lambda x: jax.nn.sigmoid(x) * (1 + 1e-6))
    with pytest.raises(
        AssertionError, match="a derivative rule is mathematically wrong"
    ):
        assert_gradients(wrong, jnp.array(POINTS))


def test_the_culprit_is_named():
    wrong = with_rule(lambda x: jax.nn.sigmoid(-x))
    report = check_gradients(wrong, jnp.array(POINTS))
    assert report.verdict == "rule"
    assert "custom_vjp `softplus`" in report.culprit
