"""What a step sees is a function of (key, step) alone."""

import contextlib
import io
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import (
    arrays,
    integer_problem,
    relu_objective,
    same_bits,
)

import funcgrad as fg
from funcgrad.batches import Shuffle, shuffle
from funcgrad.permutation import permutation

STEPS = 20


@pytest.mark.exhaustive
def test_batches_are_the_same_in_train_and_fit_and_over_resuming():
    """On integers, in batches of 2 out of 7 rows: three a step, one row sits out."""
    sizes, nested, _ = integer_problem()
    rng = np.random.default_rng(1)
    data = (rng.integers(-2, 3, (7, 2)) * 1.0, rng.choice([-1.0, 1.0], (7, 1)))
    objective, optimizer = relu_objective(sizes), optax.sgd(2.0)
    params, key = arrays(nested, "float32"), jax.random.key(3)
    batching = {"batch_size": 2, "key": key}

    state = fg.init_state(params, optimizer)
    whole = fg.train(objective, optimizer, state, data, steps=STEPS, **batching)
    first, losses_1 = fg.train(objective, optimizer, state, data, steps=7, **batching)
    last, losses_2 = fg.train(
        objective, optimizer, first, data, steps=STEPS - 7, **batching
    )
    resumed = (last, jnp.concatenate([losses_1, losses_2]))
    fit = fg.fit(objective, optimizer, params, data, steps=STEPS, **batching)
    begun = fg.fit(objective, optimizer, params, data, steps=7, **batching)
    ended = fg.fit(objective, optimizer, begun.state, data, steps=STEPS - 7, **batching)
    assert same_bits(whole, resumed)
    assert same_bits(whole, (fit.state, fit.history.loss))
    assert same_bits(whole[0], ended.state)
    assert ended.history.step.tolist() == list(range(7, STEPS))

    other = fg.train(
        objective, optimizer, state, data, steps=STEPS, batch_size=2,
        key=jax.random.key(4),
    )  # fmt: skip
    assert not same_bits(whole, other)


def test_each_epoch_sees_every_row_once():
    def objective(params, batch):
        return jnp.sum(batch * params)

    data = 2.0 ** jnp.arange(6)
    state = fg.init_state(1.0, optax.sgd(0.0))
    _, losses = fg.train(
        objective, optax.sgd(0.0), state, data, steps=6, batch_size=2,
        key=jax.random.key(0),
    )  # fmt: skip
    epochs = losses.reshape(2, 3)
    # Distinct powers of two: only all six of them add up to 63.
    assert epochs.sum(axis=1).tolist() == [63, 63]
    assert epochs[0].tolist() != epochs[1].tolist()


def test_rows_that_sit_out_an_epoch_are_others_in_the_next():
    shuffled = Shuffle(jax.random.key(0), 7, 2)
    assert shuffled.per_epoch == 3
    epochs = [shuffled.order(epoch).ravel().tolist() for epoch in range(20)]
    assert all(len(set(rows)) == 6 for rows in epochs)
    # Seven rows are as often as not left out in turn; 20 epochs name them all here.
    assert {*range(7)} == {row for rows in epochs for row in {*range(7)} - {*rows}}


def test_a_batch_may_be_of_one_row_or_of_all():
    data = 2.0 ** jnp.arange(6)
    for batch_size, steps in ((6, 2), (1, 6)):
        shuffled = shuffle(data, batch_size, jax.random.key(0))
        assert (shuffled.batch_size, shuffled.per_epoch) == (
            batch_size,
            6 // batch_size,
        )
        state = fg.init_state(1.0, optax.sgd(0.0))
        _, losses = fg.train(
            lambda w, x: jnp.sum(x * w), optax.sgd(0.0), state, data, steps=steps,
            batch_size=batch_size, key=jax.random.key(0),
        )  # fmt: skip
        assert losses.sum() == 63 * steps * batch_size / 6


@pytest.mark.exhaustive
def test_a_rerun_with_the_same_key_gives_the_same_bits():
    program = (
        "import jax, optax, funcgrad as fg\n"
        "model = fg.mlp([3, 8, 1])\n"
        "key = jax.random.key(0)\n"
        "data = (jax.random.normal(key, (20, 3)), jax.random.normal(key, (20, 1)))\n"
        "fit = fg.fit(fg.objective(model, fg.squared_error), optax.adam(1e-2),\n"
        "    model.init(key), data, steps=50, batch_size=4, key=key)\n"
        "print([leaf.tobytes().hex() for leaf in jax.tree.leaves(\n"
        "    jax.device_get(fit.state))])\n"
    )
    there = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    with contextlib.redirect_stdout(io.StringIO()) as here:
        exec(program, {})
    assert here.getvalue() == there.stdout != ""


@pytest.mark.exhaustive
@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 1000, 4097])
def test_an_order_holds_every_number_once(n):
    orders = jax.jit(jax.vmap(lambda key: permutation(key, n)))(
        jax.random.split(jax.random.key(n), 10)
    )
    assert orders.dtype == jnp.int32
    assert (np.sort(orders) == np.arange(n)).all()
    assert n < 7 or len(np.unique(orders, axis=0)) == 10


def test_an_order_is_the_same_everywhere():
    """Whole numbers alone take part: what was drawn when this was written."""
    assert permutation(jax.random.key(0), 10).tolist() == [5, 7, 0, 3, 4, 2, 6, 9, 1, 8]


def test_all_orders_of_four_are_as_likely():
    """By a chi-square of 24 orders, 200 times each; 60 is passed once in 30,000."""
    keys = jax.random.split(jax.random.key(0), 4800)
    orders = jax.jit(jax.vmap(lambda key: permutation(key, 4)))(keys)
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24
    assert ((counts - 200) ** 2 / 200).sum() < 60


def test_neighbours_in_one_order_are_strangers_in_the_next():
    """Of pairs of places, 1,000 rows: what a place holds says nothing of the next.

    By chi-squares of 10 x 10 fields, 99 degrees of freedom, that 170 passes once in
    100,000: where a row goes, and where the rows of two places beside each other go.
    """
    keys = jax.random.split(jax.random.key(1), 50)
    orders = np.asarray(jax.jit(jax.vmap(lambda key: permutation(key, 1000)))(keys))
    places = np.broadcast_to(np.arange(1000), orders.shape)
    pairs = [
        (places, orders),
        (orders[:, :-1], orders[:, 1:]),
        (orders[:-1], orders[1:]),
    ]
    for a, b in pairs:
        counts = np.histogram2d(a.ravel(), b.ravel(), 10, [[0, 1000]] * 2)[0]
        expected = a.size / 100
        assert ((counts - expected) ** 2 / expected).sum() < 170


def test_small_batches_accumulated_are_one_large_one():
    """Exact: the mean of two means of whole numbers, at a rate of 1/4."""

    def objective(w, x):
        return jnp.mean(x) * w

    data = np.float32([4, 8, 12, 24])
    whole, _ = fg.train(
        objective, optax.sgd(0.25), fg.init_state(1.0, optax.sgd(0.25)), data, steps=1
    )
    halves = optax.MultiSteps(optax.sgd(0.25), 2).gradient_transformation()
    cut, _ = fg.train(
        objective, halves, fg.init_state(1.0, halves), data, steps=2, batch_size=2,
        key=jax.random.key(0),
    )  # fmt: skip
    assert float(cut.params) == float(whole.params) == 1 - 0.25 * 12
