"""A sweep trains on known rows, chooses by those held out, and keeps the best net."""

import jax
import numpy as np
import pytest

import funcgrad as fg
from funcgrad import tasks
from funcgrad.data import Category, Number
from funcgrad.data.predictor import LOSSES, net
from funcgrad.tasks import sweeping
from funcgrad.tasks.recipe import PENALTY, Recipe
from funcgrad.tasks.task import Task

RECIPE = Recipe((2,), "tanh", "sgd", 0.1, 40, 3, "binary_cross_entropy")


def task():
    """Return six rows on a line, the last two of them held out and labelled wrong."""
    x = np.float32([[-2], [-1], [1], [2], [-2], [2]])
    y = np.int32([0, 0, 1, 1, 1, 0])
    held_out = np.array([0, 0, 0, 0, 1, 1], bool)
    inputs = (Number("n", 0.0, 1.0),)
    return Task("it", inputs, Category("c", ("a", "b")), x, y, held_out, (), RECIPE)


def loss_on(params, rows):
    apply = net((1, 2, 1), "tanh").apply
    return float(
        LOSSES["binary_cross_entropy"](apply(params, task().x[rows]), task().y[rows])
    )


@pytest.fixture
def asked(monkeypatch):
    """Return what the members are asked for; three come back, of which 1 is best."""
    asked = {}

    def sweep(objective, make_optimizer, init, hyper, data, **settings):
        asked.update(settings, objective=objective, make_optimizer=make_optimizer)
        asked.update(init=init, hyper=hyper, data=data)
        keys = jax.random.split(jax.random.key(7), 3)
        params = jax.device_get(jax.vmap(init)(keys))
        losses = np.arange(6, dtype=np.float32).reshape(3, 2)
        scores = np.float32([0.5, 0.25, np.inf])
        rounds = np.float32([[0.5, 0.75], [0.25, np.nan], [np.inf, np.nan]])
        return fg.Sweep(None, losses, rounds, scores, params)

    monkeypatch.setattr(sweeping, "sweep_members", sweep)
    return asked


@pytest.mark.exhaustive
def test_members_see_known_rows_and_are_scored_on_those_held_out(asked):
    it, told = task(), []
    ranges = {"learning_rate": tasks.Range(0.1, 0.2), "momentum": tasks.Range(0.5, 0.5)}
    swept = tasks.sweep(
        it, ranges, members=3, seed=5, progress=lambda *where: told.append(where)
    )
    x, y = asked["data"]
    assert (x.tolist(), y.tolist()) == (it.x[:4].tolist(), it.y[:4].tolist())
    params = asked["init"](jax.random.key(0))
    # The same sums of two numbers: a score is what the loss is on these two rows.
    assert float(asked["score"](params)) == loss_on(params, it.held_out)
    assert loss_on(params, it.held_out) != loss_on(params, it.known)
    penalised = asked["objective"](params, (x, y))
    # A sum of two float32 is rounded once, as each of its parts was.
    assert penalised == pytest.approx(
        loss_on(params, it.known) + PENALTY * float(fg.l2(params)), rel=1e-6
    )
    assert (asked["steps"], asked["every"], asked["batch_size"]) == (40, 2, 3)
    key = jax.random.key_data(asked["key"])
    assert key.tolist() == jax.random.key_data(jax.random.key(5)).tolist()
    asked["progress"](1, 3)
    assert told == [(1, 3)]
    assert asked["hyper"].keys() == ranges.keys()
    assert all(values.shape == (3,) for values in asked["hyper"].values())
    assert swept.hyper is asked["hyper"]


def test_the_best_member_becomes_the_net_with_its_own_history(asked):
    it = task()
    swept = tasks.sweep(it, {"learning_rate": tasks.Range(0.1, 0.2)}, members=3)
    assert swept.order.tolist() == [1, 0, 2]
    assert swept.scores.tolist() == [0.5, 0.25, np.inf]
    second = asked["init"](jax.random.split(jax.random.key(7), 3)[1])
    for found, expected in zip(
        jax.tree.leaves(swept.best.predictor.params), jax.tree.leaves(second),
        strict=True,
    ):  # fmt: skip
        assert np.array_equal(found, expected)
    assert swept.best.history.step.tolist() == [0, 1]
    assert swept.best.history.loss.tolist() == [2, 3]
    # A round is two steps, and the first of them was this member's best.
    made = swept.best.predictor.provenance
    assert (made["steps"], made["seed"]) == (2, 1337)
    outputs = swept.best.predictor.outputs(it.x)
    assert np.array_equal(swept.best.outputs, outputs) and len(outputs) == 6


@pytest.mark.exhaustive
def test_the_best_of_a_real_sweep_has_the_lowest_loss_on_the_rows_held_out():
    it = task()
    ranges = {"learning_rate": tasks.Range(1e-3, 1.0)}
    swept = tasks.sweep(it, ranges, RECIPE._replace(batch_size=None), members=9)
    assert len(set(swept.scores.tolist())) == 9
    first = swept.order[0]
    assert swept.scores[first] == min(swept.scores)
    params = swept.best.predictor.params
    # Fewer than thirty roundings of half an ulp each, perhaps in another order.
    rounding = 30 * float(np.finfo("f").eps) / 2
    assert swept.scores[first] == pytest.approx(
        loss_on(params, it.held_out), rel=rounding
    )
    assert abs(loss_on(params, it.known) - swept.scores[first]) > 100 * rounding


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["momentum", "weight_decay", "init_scale"])
def test_members_that_differ_in_one_setting_train_differently(name):
    """With the same rate throughout, and the best parameters those of the end."""
    ranges = {"learning_rate": tasks.Range(0.5, 0.5), name: tasks.Range(0.1, 0.9)}
    swept = tasks.sweep(task(), ranges, RECIPE, members=2, seed=1)
    alone = tasks.sweep(
        task(), {"learning_rate": ranges["learning_rate"]}, RECIPE, members=2, seed=1
    )
    with_it, without = swept.best.history.loss, alone.best.history.loss
    assert not np.array_equal(with_it, without)


def test_no_member_with_a_finite_loss_is_a_sentence(asked, monkeypatch):
    sweep = sweeping.sweep_members

    def diverged(*given, **settings):
        result = sweep(*given, **settings)
        return result._replace(best_scores=np.full(3, np.inf))

    monkeypatch.setattr(sweeping, "sweep_members", diverged)
    with pytest.raises(ValueError, match="no member kept a finite loss: lower the"):
        tasks.sweep(task(), {"learning_rate": tasks.Range(0.1, 0.2)}, members=3)


def test_a_range_that_is_not_in_the_logarithm_is_drawn_evenly():
    drawn = tasks.Range(1.0, 4.0, in_log=False).draw(np.random.default_rng(0), 9_000)
    assert drawn.min() >= 1 and drawn.max() < 4
    counts, _ = np.histogram(drawn, bins=[1, 2, 3, 4])
    # A third each; five standard deviations of a binomial either side, seed fixed.
    assert np.all(abs(counts - 3_000) < 5 * np.sqrt(9_000 * 2 / 9))
