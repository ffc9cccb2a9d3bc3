"""Runs on integers that every number of devices and processes must agree on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import funcgrad as fg

KEY = jax.random.key(7)
# Its updates are -1, 0 and 1, so that integers stay integers.
SIGNS = optax.sign_sgd(1.0)


def integers(key, shape, dtype):
    return jax.random.randint(key, shape, -1, 2).astype(dtype)


MODEL = fg.mlp(
    [2, 4, 1], activation=jax.nn.relu, final_activation=fg.linear, initializer=integers
)
OBJECTIVE = fg.objective(MODEL, fg.squared_error)
_rng = np.random.default_rng(0)
DATA = (
    _rng.integers(-1, 2, (40, 2)).astype(np.float32),
    _rng.integers(-2, 3, (40, 1)).astype(np.float32),
)


def arrays_of(data):
    return jax.tree.map(jnp.asarray, data)


def _draw(key, source):
    rows = jax.random.randint(key, (16,), 0, len(source[0]))
    return jax.tree.map(lambda leaf: leaf[rows], source)


DRAWN = fg.Drawn(_draw, arrays_of(DATA))


def fit(mesh, data, batch_size, steps=8, **given):
    """Return the state and the losses of a run of some steps."""
    run = fg.fit(
        OBJECTIVE, SIGNS, MODEL.init(KEY), data, steps=steps, batch_size=batch_size,
        key=KEY, progress=None, mesh=mesh, **given,
    )  # fmt: skip
    return run.state, run.history.loss


def train_many(mesh, members=13):
    """Return the states and losses of members, each with integers of its own."""
    return fg.train_many(
        OBJECTIVE, optax.sign_sgd, MODEL.init,
        {"learning_rate": np.ones(members, np.float32)}, DATA, steps=5, batch_size=8,
        key=KEY, mesh=mesh,
    )  # fmt: skip
