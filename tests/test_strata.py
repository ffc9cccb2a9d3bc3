"""Batches of rows that lie in strata, on one device: which rows they have."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import same_bits

import funcgrad as fg
from funcgrad.batches import count_rows, shuffle
from funcgrad.permutation import permutation

KEY = jax.random.key(5)


def batches(rows, batch_size, epoch):
    """Return the batches of an epoch, (per_epoch, batch_size)."""
    order = shuffle(rows, batch_size, KEY).order(epoch)
    return np.stack([rows.take(places) for places in order])


def test_rows_keep_their_order_in_strata_and_fill_up_with_copies():
    rows = fg.rows(fg.data_mesh(1), np.arange(37))
    parts = np.array_split(np.arange(37), 8)
    assert [row.tolist() for row in rows.rows] == [
        [*part, *part[-1:]][:5] for part in map(np.ndarray.tolist, parts)
    ]
    assert rows.counts == tuple(map(len, parts))
    assert count_rows(rows) == 37


def test_a_batch_has_as_many_rows_of_each_stratum():
    rows = fg.rows(fg.data_mesh(1), np.arange(48))
    for batch in batches(rows, 16, 0):
        assert np.bincount(batch // 6).tolist() == [2] * 8


@pytest.mark.exhaustive
@pytest.mark.parametrize("count", [40, 37])
def test_rows_are_never_there_twice_in_an_epoch_and_all_have_their_turn(count):
    rows = fg.rows(fg.data_mesh(1), np.arange(count))
    epochs = [batches(rows, 8, epoch).ravel() for epoch in range(20)]
    per_epoch = 8 * (count // 8)
    assert all(len(set(epoch)) == len(epoch) == per_epoch for epoch in epochs)
    # A row that sits out does so in one epoch of five: 20 in a row once in 10^14.
    assert {*np.concatenate(epochs)} == {*range(count)}
    assert epochs[0].tolist() != epochs[1].tolist()
    assert same_bits(batches(rows, 8, 3).ravel(), epochs[3])


def test_strata_are_shuffled_apart_from_each_other():
    rows = fg.rows(fg.data_mesh(1), np.tile(np.arange(100), 8))
    order = shuffle(rows, 8, KEY).order(0)[:, :, 0]
    assert len({tuple(column) for column in order.T.tolist()}) == 8


def test_an_order_of_some_leaves_the_others_where_they_are():
    order = permutation(KEY, 12, jnp.uint32(9))
    assert sorted(order[:9].tolist()) == [*range(9)]
    assert order[9:].tolist() == [9, 10, 11]
    assert order[:9].tolist() == permutation(KEY, 9).tolist()


def test_weights_of_ones_own_are_kept_and_those_of_copies_are_0():
    weights = np.arange(1.0, 10.0)
    rows = fg.rows(fg.data_mesh(1), (np.arange(9), np.arange(9), weights))
    x, _, w = rows.all_rows()
    assert w[w > 0].tolist() == weights.tolist()
    assert x[w > 0].tolist() == [*range(9)]
    assert (w == 0).sum() == 7


def test_fewer_rows_than_strata_are_one_batch():
    """The mean of all three; a batch of a row from each of eight cannot be."""

    def loss(y, target, weights):
        return jnp.sum(weights * y) / jnp.sum(weights)

    objective = fg.objective(fg.Model(lambda key: 1.0, lambda w, x: w * x), loss)
    data = (np.array([1.0, 2.0, 6.0]), np.zeros(3))
    given = {"steps": 1, "mesh": fg.data_mesh(1), "progress": None}
    run = fg.fit(objective, optax.sgd(0.0), 1.0, data, **given)
    assert run.history.loss.tolist() == [3.0]
    with pytest.raises(ValueError, match="from 1 to the 0 rows"):
        fg.fit(objective, optax.sgd(0.0), 1.0, data, batch_size=8, key=KEY, **given)


@pytest.mark.exhaustive
def test_many_see_what_one_sees():
    rows = fg.rows(fg.data_mesh(1), np.arange(16.0))
    given = {"steps": 2, "batch_size": 8, "key": KEY}

    def objective(w, x):
        return jnp.sum(w * x)

    _, many = fg.train_many(
        objective, optax.sgd, lambda key: jnp.float32(1.0),
        {"learning_rate": np.zeros(2)}, rows, **given,
    )  # fmt: skip
    for member in range(2):
        _, key = fg.member_keys(KEY, member)
        start = fg.init_state(1.0, optax.sgd(0.0))
        alone = {**given, "key": key, "data": rows}
        _, losses = fg.train(
            objective, optax.sgd(0.0), fg.replicate(fg.data_mesh(1), start), **alone
        )
        assert same_bits(many[member], losses)


def test_labels_are_looked_at_where_rows_are_in_strata():
    model = fg.mlp([1, 1])
    data = (np.ones((9, 1), np.float32), np.zeros((9, 1), np.float32))
    with pytest.raises(ValueError, match=r"hinge needs signs -1 or 1, got 0\.0"):
        fg.fit(
            fg.objective(model, fg.hinge), optax.sgd(0.1), model.init(KEY), data,
            steps=1, mesh=fg.data_mesh(1), progress=None,
        )  # fmt: skip


# An objective of one's own, of 37 rows ------------------------------------------------

MODEL = fg.mlp([2, 1], final_activation=fg.linear)
ROWS = (np.ones((37, 2), np.float32), np.ones((37, 1), np.float32))


def of_two(params, batch):
    x, y = batch
    return jnp.mean((MODEL.apply(params, x) - y) ** 2)


def that_leaves_weights_out(params, batch):
    return of_two(params, batch[:2])


@jax.jit
def in_a_jit(params, x, y, weights):
    return of_two(params, (x, y))


def that_hands_weights_to_a_jit(params, batch):
    return in_a_jit(params, *batch)


def that_hands_weights_to_a_loop(params, batch):
    def add(total, row):
        return total + in_a_jit(params, *row), None

    return jax.lax.scan(add, 0.0, batch)[0]


def with_weights(params, batch):
    x, y, weights = batch
    return jnp.sum(weights * ((MODEL.apply(params, x) - y) ** 2)[:, 0])


def with_a_bug(params, batch):
    return batch[0] @ jnp.ones(3)


def run_by(how, objective, rows, **given):
    mesh, params = fg.data_mesh(1), MODEL.init(KEY)
    given |= {"steps": 1, "key": KEY}
    if how == "fit":
        fg.fit(objective, optax.sgd(0.1), params, rows, mesh=mesh, **given)
    elif how == "train":
        state = fg.init_state(params, optax.sgd(0.1))
        placed = fg.rows(mesh, rows)
        jax.jit(
            lambda state: fg.train(objective, optax.sgd(0.1), state, placed, **given)
        )(state)
    else:
        rates = {"learning_rate": jnp.ones(2)}
        fg.train_many(
            objective, optax.sgd, MODEL.init, rates, fg.rows(mesh, rows), **given
        )


@pytest.mark.parametrize("how", ["fit", "train", "train_many"])
@pytest.mark.parametrize(
    ("objective", "got"),
    [
        (of_two, r"ValueError: too many values to unpack \(expected 2.*\)"),
        (that_leaves_weights_out, "one that leaves them out"),
        (that_hands_weights_to_a_jit, "one that leaves them out"),
        (that_hands_weights_to_a_loop, "one that leaves them out"),
    ],
)
def test_an_objective_of_ones_own_is_told_of_weights(objective, got, how):
    with pytest.raises(
        ValueError,
        match=rf"^objective must take \(x, target, weights\), as 37 rows do not fill 8 "
        rf"strata alike, got {got}: weigh each row, or pass a batch_size, or a "
        rf"multiple of 8 rows",
    ):
        run_by(how, objective, ROWS)


@pytest.mark.exhaustive
@pytest.mark.parametrize("how", ["fit", "train", "train_many"])
def test_one_that_takes_them_or_needs_none_runs_and_a_bug_of_its_own_is_raised(how):
    run_by(how, with_weights, ROWS)
    run_by(how, jax.jit(with_weights), ROWS)
    run_by(how, of_two, ROWS, batch_size=8)
    run_by(how, of_two, jax.tree.map(lambda leaf: leaf[:32], ROWS))
    with pytest.raises(TypeError, match="dot_general"):
        run_by(how, with_a_bug, ROWS)


def test_a_row_that_is_nan_is_named_as_it_was_given():
    x, y = (leaf.copy() for leaf in ROWS)
    x[30, 1] = np.nan
    with pytest.raises(
        ValueError, match=r"^data must be finite, got nan at data\[0\]\[30, 1\]:"
    ):
        run_by("fit", fg.objective(MODEL, fg.mean_squared_error), (x, y))
