"""Several steps a turn of the loop change no number."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import funcgrad as fg
from funcgrad.fast import loop


def problem():
    """Return a small-integer problem that is unrolled, and stays exact for 9 steps."""

    def objective(w, x):
        return jnp.sum(w * x)  # its gradient is the data, whatever w is

    data = np.arange(6, dtype=np.float32)
    return objective, optax.sgd(1.0), data


@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("steps", [0, 7])
def test_unrolling_changes_nothing_for_any_number_of_steps(
    monkeypatch, steps, batch_size
):
    objective, optimizer, data = problem()
    assert loop.steps_a_turn(1.0, 6) > 1
    key = jax.random.key(0)
    results = []
    for unroll in (loop.steps_a_turn, lambda params, rows: 1):
        monkeypatch.setattr(loop, "steps_a_turn", unroll)
        start = fg.init_state(1.0, optimizer)
        results.append(
            fg.train(
                objective, optimizer, start, data, steps=steps, batch_size=batch_size,
                key=key,
            )
        )  # fmt: skip
        # A new objective each time, as compiled chunks are kept by it.
        fit = fg.fit(
            lambda w, x: objective(w, x), optimizer, 1.0, data, steps=steps,
            batch_size=batch_size, key=key, progress=None,
        )  # fmt: skip
        results.append((fit.state, fit.history.loss))
    first = jax.tree.leaves(results[0])
    for other in results[1:]:
        for a, b in zip(first, jax.tree.leaves(other), strict=True):
            assert np.array_equal(a, b)


def test_only_tiny_steps_are_unrolled():
    small, deep = fg.mlp([3, 4, 4, 1]), fg.mlp([3, *[4] * 8, 1])
    key = jax.random.key(0)
    assert loop.steps_a_turn(small.init(key), 4) == 4
    assert loop.steps_a_turn(small.init(key), 100) == 1
    assert loop.steps_a_turn(deep.init(key), 4) == 1
