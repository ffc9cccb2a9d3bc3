"""Small problems that tests of training share, and how results are compared."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

import funcgrad as fg


def integer_problem():
    """Return a relu net's sizes, integer params, and four rows with their signs."""
    rng = np.random.default_rng(4)
    sizes = [2, 3, 1]
    nested = [
        (rng.integers(-2, 3, (n_in, n_out)), rng.integers(-2, 3, n_out))
        for n_in, n_out in pairwise(sizes)
    ]
    return sizes, nested, (rng.integers(-2, 3, (4, 2)), rng.choice([-1, 1], (4, 1)))


def relu_objective(sizes):
    model = fg.mlp(sizes, activation=jax.nn.relu, final_activation=fg.linear)
    return fg.objective(model, fg.hinge)


def smooth_problem():
    """Return an objective, params and data that round at every step, in float64."""
    rng = np.random.default_rng(0)
    nested = [(rng.normal(size=(3, 4)), rng.normal(size=4)),
              (rng.normal(size=(4, 2)), rng.normal(size=2))]  # fmt: skip
    model = fg.mlp([3, 4, 2], final_activation=fg.linear)
    data = (rng.normal(size=(6, 3)), rng.normal(size=(6, 2)))
    return fg.objective(model, fg.squared_error), nested, data


def arrays(nested, dtype):
    return tuple(
        fg.Layer(jnp.asarray(w, dtype), jnp.asarray(b, dtype)) for w, b in nested
    )


def arrays_of(data):
    return jax.tree.map(jnp.asarray, data)


def same_bits(a, b):
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(np.asarray(x), np.asarray(y)) for x, y in leaves)
