"""A step has the same bits wherever a run is cut."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import same_bits

import funcgrad as fg
from funcgrad.fast import loop

STEPS = 20


def problem(sizes, rows, activation, optimizer):
    """Return the arguments of a run of numbers that round at each step."""
    rng = np.random.default_rng(0)
    model = fg.mlp(sizes, activation=activation)
    x, y = rng.normal(size=(rows, sizes[0])), rng.normal(size=(rows, sizes[-1]))
    data = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), (x, y))
    state = fg.init_state(model.init(jax.random.key(0)), optimizer)
    return (fg.objective(model, fg.mean_squared_error), optimizer), state, data


# Those whose bits did change, by an unrolled loop or by one of a single turn.
PROBLEMS = {
    "adam": lambda: problem([2, 8, 1], 4, jnp.tanh, optax.adam(0.05)),
    "momentum": lambda: problem([2, 4, 2], 8, jnp.tanh, optax.sgd(0.05, 0.9)),
    "adamw": lambda: problem([3, 5, 2], 4, jax.nn.gelu, optax.adamw(0.01)),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("name", "batch_size"),
    [
        ("momentum", None),
        ("adam", 3),
        ("adam", None),
        ("adamw", None),
    ],
)
def test_train_cut_anywhere_is_the_same_run(name, batch_size):
    given, start, data = PROBLEMS[name]()
    key = jax.random.key(1)
    cuts = [1, 7, 19] if batch_size is None else [1, 10]

    @partial(jax.jit, static_argnums=1)
    def train(state, steps):
        return fg.train(
            *given, state, data, steps=steps, batch_size=batch_size, key=key
        )

    whole, losses = train(start, STEPS)
    for cut in cuts:
        state, first = train(start, cut)
        state, last = train(state, STEPS - cut)
        assert same_bits((whole, losses), (state, np.concatenate([first, last]))), cut


@pytest.mark.exhaustive
@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize("name", PROBLEMS)
def test_fit_cut_anywhere_is_the_same_run(name, batch_size):
    given, start, data = PROBLEMS[name]()

    def fit(state, steps):
        return fg.fit(
            *given, state, data, steps=steps, batch_size=batch_size,
            key=jax.random.key(1), progress=None,
        )  # fmt: skip

    whole = fit(start, STEPS)
    for cut in range(STEPS + 1):
        first = fit(start, cut)
        last = fit(first.state, STEPS - cut)
        losses = np.concatenate([first.history.loss, last.history.loss])
        both = last.state, losses
        assert same_bits((whole.state, whole.history.loss), both), cut


def test_one_turn_is_done_once():
    """On whole numbers, and with a slope: what the second turn leads to is left out."""

    def f(total, x):
        return total + x, total

    xs = jnp.array([3.0])
    total, seen = loop.scan(f, jnp.float32(2), xs, 1, 1)
    assert (total, seen.tolist()) == (5, [2])
    assert jax.grad(lambda t: loop.scan(f, t * t, xs, 1, 1)[0])(4.0) == 8
    text = str(jax.make_jaxpr(lambda t: loop.scan(f, t, xs, 1, 10**6))(1.0))
    assert "optimization_barrier" not in text  # a large step is done once
