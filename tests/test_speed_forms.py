"""The forms that make a run fast change no number, and no form grows with the steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import funcgrad as fg
from funcgrad import training
from funcgrad.mlp import product


def integers(seed, shape):
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


# Around every edge between the forms: 4,096 multiply-adds, 1,024 weights.
SHAPES = [
    ((4, 3), (3, 4)),
    ((3,), (3, 4)),
    ((2, 5, 3), (3, 4)),
    ((0, 3), (3, 4)),
    ((15, 16), (16, 16)),
    ((16, 16), (16, 16)),
    ((1, 32), (32, 32)),
    ((1, 33), (33, 32)),
]


@pytest.mark.parametrize(("x_shape", "w_shape"), SHAPES)
def test_product_is_the_matrix_product_and_so_are_its_gradients(x_shape, w_shape):
    x, w = integers(0, x_shape), integers(1, w_shape)
    g = integers(2, (*x_shape[:-1], w_shape[1]))
    y, backward = jax.vjp(jax.jit(product), x, w)
    dx, dw = backward(g)
    assert np.array_equal(y, x @ w)
    assert np.array_equal(dx, g @ w.T)
    flat = x.reshape(-1, x_shape[-1]), g.reshape(-1, w_shape[1])
    assert np.array_equal(dw, flat[0].T @ flat[1])


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
    assert training._unroll(1.0, 6) > 1
    key = jax.random.key(0)
    results = []
    for unroll in (training._unroll, lambda params, rows: 1):
        monkeypatch.setattr(training, "_unroll", unroll)
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
    assert training._unroll(small.init(key), 4) == 4
    assert training._unroll(small.init(key), 100) == 1
    assert training._unroll(deep.init(key), 4) == 1


@pytest.mark.parametrize("batch_size", [None, 2])
def test_the_program_does_not_grow_with_the_steps(batch_size):
    """What is compiled has as many lines for ten million steps as for a thousand."""
    model, optimizer = fg.mlp([3, 4, 4, 1]), optax.adam(1e-2)
    data = (np.ones((4, 3), np.float32), np.ones((4, 1), np.float32))
    state = fg.init_state(model.init(jax.random.key(0)), optimizer)

    def lines(steps):
        run = jax.jit(
            lambda s: fg.train(
                fg.objective(model, fg.squared_error), optimizer, s, data, steps=steps,
                batch_size=batch_size, key=jax.random.key(1),
            )
        )  # fmt: skip
        return len(run.lower(state).as_text().splitlines())

    assert lines(1_000) == lines(10_000_000)
    assert lines(1_000) != lines(1_001) or batch_size is None  # a rest is seen


def test_a_fit_may_be_longer_than_what_the_device_keeps():
    steps = training._CHUNK + 10
    fit = fg.fit(
        lambda w, x: w * jnp.sum(x), optax.sgd(1.0), 0.0, np.ones(1, np.float32),
        steps=steps, progress=None,
    )  # fmt: skip
    assert fit.history.loss.tolist() == [-float(i) for i in range(steps)]
