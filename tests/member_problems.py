"""A small problem for many members, and how members are compared."""

import jax
import jax.numpy as jnp
import numpy as np

import funcgrad as fg

KEY = jax.random.key(0)
MEMBERS = 7


def integers(key, shape, dtype=jnp.float32):
    return jax.random.randint(key, shape, -1, 2).astype(dtype)


def integer_problem():
    """Return a relu net and data whose every sum is a small whole number."""
    model = fg.mlp([2, 3, 1], activation=jax.nn.relu, initializer=integers)
    rng = np.random.default_rng(0)
    x, y = rng.integers(-2, 3, (6, 2)) * 1.0, rng.integers(-2, 3, (6, 1)) * 1.0
    return model, fg.objective(model, fg.squared_error), (x, y)


def same_bits(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(np.asarray(x), np.asarray(y)) for x, y in pairs)
