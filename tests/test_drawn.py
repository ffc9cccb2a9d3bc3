"""Data that each step draws for itself, by (key, step) alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import same_bits

import funcgrad as fg

KEY = jax.random.key(5)
SGD = optax.sgd(2.0**-6)
SOURCE = jnp.arange(8.0)


def two_of(key, source):
    """Draw two entries with replacement."""
    return source[jax.random.randint(key, (2,), 0, len(source))]


def objective(w, x):
    return jnp.sum((w - x) ** 2)


def by_hand(state, steps):
    """Return what the same rows lead to, drawn one step after another."""
    losses = []
    step = jax.jit(fg.make_step(objective, SGD))
    for _ in range(steps):
        state, loss = step(state, two_of(jax.random.fold_in(KEY, state.step), SOURCE))
        losses.append(loss)
    return state, jnp.stack(losses)


def test_train_fit_and_watch_see_what_is_drawn_by_hand():
    """Exact: whole numbers and a rate of 2^-6, for three steps."""
    data = fg.Drawn(two_of, SOURCE)
    start = fg.init_state(1.0, SGD)
    expected = by_hand(start, 3)
    assert len(set(expected[1].tolist())) == 3  # the draws differ
    given = {"steps": 3, "key": KEY}
    assert same_bits(fg.train(objective, SGD, start, data, **given), expected)
    fit = fg.fit(objective, SGD, start, data, progress=None, **given)
    assert same_bits((fit.state, fit.history.loss), expected)
    *_, last = fg.watch(objective, SGD, start, data, every=2, **given)
    assert same_bits(last.state, expected[0])


def test_many_and_sweep_see_it_too():
    data = fg.Drawn(two_of, SOURCE)
    given = {"steps": 3, "key": KEY}
    hyper = {"learning_rate": np.array([2.0**-6, 2.0**-5])}

    def init(key):
        return jnp.float32(1.0)

    states, losses = fg.train_many(objective, optax.sgd, init, hyper, data, **given)
    swept = fg.sweep(
        objective, optax.sgd, init, hyper, data, score=lambda w: w, every=2, **given
    )
    for member in range(2):
        _, key = fg.member_keys(KEY, member)
        optimizer = optax.sgd(hyper["learning_rate"][member])
        start = fg.init_state(1.0, optimizer)
        alone = fg.train(objective, optimizer, start, data, steps=3, key=key)
        assert same_bits(alone[1], losses[member])
        assert same_bits(alone[1], swept.losses[member])
        assert same_bits(alone[0].params, states.params[member])


def test_the_source_is_an_argument_and_no_constant():
    """A program with a constant of a million numbers would print them all."""
    data = fg.Drawn(two_of, jnp.arange(1e6))
    start = fg.init_state(1.0, SGD)
    text = (
        jax.jit(lambda s, d: fg.train(objective, SGD, s, d, steps=3, key=KEY))
        .lower(start, data)
        .as_text()
    )
    assert "tensor<1000000xf32>" in text
    assert len(text) < 100_000


def test_what_is_missing_or_too_much_is_said():
    data = fg.Drawn(two_of, SOURCE)
    start = fg.init_state(1.0, SGD)
    with pytest.raises(ValueError, match=r"drawn needs a key, got none: pass key="):
        fg.train(objective, SGD, start, data, steps=3)
    with pytest.raises(ValueError, match="batches of its own, got batch_size=4 too"):
        fg.fit(objective, SGD, 1.0, data, steps=3, key=KEY, batch_size=4)
    with pytest.raises(
        ValueError, match=r"must be finite, got nan at data.source\[1\]"
    ):
        fg.fit(
            objective, SGD, 1.0, fg.Drawn(two_of, jnp.array([0.0, jnp.nan])), steps=3,
            key=KEY,
        )  # fmt: skip
