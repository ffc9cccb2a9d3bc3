"""A gradient that is kept is the gradient, and kept on a CPU alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcgrad.fast.kept import kept


def through(z):
    return (jnp.square(kept(z)) * z).sum()  # z^3


@pytest.mark.exhaustive
@pytest.mark.parametrize("shape", [(4, 3), (2, 2, 3), (3, 3), (5,)])
def test_values_and_derivatives_of_any_order_are_those_of_the_identity(shape):
    z = jnp.asarray(np.random.default_rng(0).integers(-3, 4, shape), jnp.float32)
    assert np.array_equal(jax.jit(kept)(z), z)
    assert np.array_equal(jax.jit(jax.grad(through))(z), 3 * z**2)
    assert np.array_equal(jax.jvp(jax.grad(through), (z,), (z,))[1], 6 * z**2)
    assert np.array_equal(jax.vmap(jax.grad(through))(z), 3 * z**2)
    assert np.array_equal(jax.grad(jax.checkpoint(through))(z), 3 * z**2)


@pytest.mark.parametrize(
    ("platform", "rows", "is_kept"),
    [("cpu", 4, True), ("cpu", 3, False), ("cuda", 4, False), ("tpu", 4, False)],
)
def test_a_barrier_keeps_it_on_cpus_and_where_there_are_rows(platform, rows, is_kept):
    traced = jax.jit(jax.grad(through)).trace(jnp.ones((rows, 3)))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    gains = jax.__version_info__ >= (0, 11)  # before, there is none
    assert ("optimization_barrier" in text) == (is_kept and gains)
    forward = jax.jit(kept).lower(jnp.ones((rows, 3))).as_text()
    assert "optimization_barrier" not in forward
