"""Without the fast forms, every result is the same: bit for bit on whole numbers."""

from importlib import import_module

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from member_problems import KEY, integer_problem, same_bits

import funcgrad as fg
from funcgrad import ensemble


def runs():
    """Return what train, fit and train_many make of whole numbers.

    They are compiled afresh, as the objective is a new one each time.
    """
    model, objective, data = integer_problem()
    optimizer = optax.sgd(1 / 64)
    params = model.init(KEY)
    state = fg.init_state(params, optimizer)
    batching = {"steps": 3, "batch_size": 2, "key": KEY}
    rates = {"learning_rate": 2.0 ** -np.arange(4, 14)}
    trained = fg.train(objective, optimizer, state, data, **batching)
    fit = fg.fit(objective, optimizer, params, data, progress=None, **batching)
    many = fg.train_many(objective, optax.sgd, model.init, rates, data, **batching)
    return trained, (fit.state, fit.history.loss), many


@pytest.mark.exhaustive
def test_whole_numbers_are_the_same_without_anything_fast(monkeypatch, small_groups):
    fast = runs()
    calls = []

    def plainly(run, own, shared, work, progress=None, devices=None):
        calls.append("groups")

        def one(own, shared):
            _, part = run.next_part(0, run.steps)  # the whole run, without scores
            return run.go_on(run.begin(own, shared), own, shared, part)

        return jax.jit(jax.vmap(one, (0, None)))(own, shared)

    def dot(x, w):
        calls.append("product")
        return jnp.matmul(x, w)

    monkeypatch.setattr(import_module("funcgrad.mlp"), "product", dot)
    monkeypatch.setattr(ensemble, "map_members", plainly)
    plain = runs()
    assert {"groups", "product"} <= set(calls)
    assert same_bits(fast, plain)
    assert len({float(x) for x in fast[2][1].ravel()}) > 10  # it does move
