"""What the shell's train does, in Python: load, plan, train, write."""

import csv
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcgrad as fg
from funcgrad import cli, tasks
from funcgrad.data import Predictor
from funcgrad.data.predictor import net
from funcgrad.errors import InputError


@pytest.mark.exhaustive
def test_python_trains_the_net_of_the_shell(tmp_path):
    options = ["--hidden", "5", "--steps", "20", "--batch-size", "10", "--seed", "3"]
    assert cli.main(["train", "xor", *options, "--out", str(tmp_path / "shell")]) == 0
    task = tasks.load("xor", seed=3)
    recipe = task.recipe._replace(hidden=(5,), steps=20, batch_size=10)
    trained = tasks.train(tasks.plan(task, recipe, seed=3), progress=None)
    written = tasks.write(tmp_path / "python", trained)
    assert sorted(written) == sorted(p.name for p in (tmp_path / "shell").iterdir())
    for name in ("loss.png", "boundary.png"):
        ours, theirs = ((tmp_path / f / name).read_bytes() for f in ("python", "shell"))
        if name == "history.csv":  # apart from the time that it took
            ours, theirs = (
                [line.split(b",")[:2] for line in text.splitlines()]
                for text in (ours, theirs)
            )
        assert ours == theirs, name
    ours, theirs = (losses_in(tmp_path / f) for f in ("python", "shell"))
    assert ours == theirs and len(ours) == 20
    ours, theirs = (model_in(tmp_path / f) for f in ("python", "shell"))
    assert ours[0] == theirs[0]
    assert all(map(np.array_equal, ours[1], theirs[1]))
    assert trained.recipe.batch_size == 10


def losses_in(folder):
    """Return the steps and losses of a run's history, without what the clock said."""
    with open(folder / "history.csv", newline="") as file:
        return [(r["step"], r["loss"]) for r in csv.DictReader(file) if r["loss"]]


def model_in(folder):
    """Return a model's description, without how it was made, and its leaves."""
    predictor = Predictor.load(folder / "model.safetensors")
    leaves = jax.tree.leaves(predictor.params)
    return predictor._replace(params=None, provenance=None), leaves


@pytest.mark.exhaustive
def test_python_sweeps_the_nets_of_the_shell(tmp_path):
    arguments = ["sweep", "xor", "--members", "5", "--steps", "20"]
    assert cli.main([*arguments, "--out", str(tmp_path / "shell")]) == 0
    task = tasks.load("xor")
    recipe = task.recipe._replace(steps=20)
    ranges = {"learning_rate": tasks.Range(1e-4, 1e-1)}
    swept = tasks.sweep(task, ranges, recipe, members=5)
    tasks.write_sweep(tmp_path / "python", swept)
    for name in ("sweep.csv", "sweep.png"):
        ours, theirs = ((tmp_path / f / name).read_bytes() for f in ("python", "shell"))
        assert ours == theirs, name
    ours, theirs = (model_in(tmp_path / f) for f in ("python", "shell"))
    assert ours[0] == theirs[0]
    assert all(map(np.array_equal, ours[1], theirs[1]))
    with open(tmp_path / "python/sweep.csv", newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses == sorted(losses)


def test_progress_gets_the_score_of_the_state_it_shows():
    task = tasks.load("xor")
    plan = tasks.plan(task, task.recipe._replace(steps=50))
    seen = []
    trained = tasks.train(plan, progress=lambda now, score: seen.append((now, score)))
    now, score = seen[-1]
    assert now.done == 50
    assert score == trained.score(task.known)
    predictor = plan.untrained._replace(params=now.state.params)
    assert np.array_equal(predictor.outputs(task.x), trained.outputs)


def test_weights_and_batches_are_drawn_by_seeds_of_their_own():
    task = tasks.load("xor")
    plan = tasks.plan(task, task.recipe._replace(batch_size=10), seed=3)
    first, second = np.random.SeedSequence(3).generate_state(2)
    batches = jax.random.key_data(jax.random.key(second))
    assert jax.random.key_data(plan.key).tolist() == batches.tolist()
    model = net(plan.untrained.sizes, plan.recipe.activation)
    drawn = zip(
        jax.tree.leaves(plan.untrained.params),
        jax.tree.leaves(model.init(jax.random.key(first))), strict=True,
    )  # fmt: skip
    # Compiled without optimising, a draw may round otherwise, by an ulp or two.
    assert all(np.allclose(a, b, rtol=4e-7, atol=0) for a, b in drawn)
    assert tasks.plan(task, seed=3).key is None  # each step sees all rows


@pytest.mark.exhaustive
def test_a_plan_watches_the_objective_on_rows_that_training_does_not_see():
    task = tasks.load("xor")
    recipe = task.recipe._replace(steps=250)
    plan = tasks.plan(task, recipe, validation=0.25, patience=1000)
    x, y = plan.validation
    assert (len(plan.rows[0]), len(x), len(y), plan.every) == (150, 50, 50, 2)
    trained = tasks.train(plan, progress=None)
    looks = trained.history.looks
    assert looks["step"].tolist() == list(range(2, 251, 2))
    best = int(np.argmin(looks["validation_loss"]))
    assert trained.steps == 250
    assert trained.best_step == looks["step"][best]
    # Of all rows at once, in one compiled function either way.
    value = float(jax.jit(plan.objective)(trained.predictor.params, plan.validation))
    assert value == looks["validation_loss"][best]
    assert tasks.plan(task, recipe).validation is None
    assert tasks.plan(task, recipe._replace(steps=99), validation=0.1).every == 1


def test_a_run_that_is_interrupted_hands_over_what_was_reached():
    task = tasks.load("xor")
    plan = tasks.plan(task, task.recipe._replace(steps=50), validation=0.25, patience=9)

    def interrupt(now, score):
        if now.done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        tasks.train(plan, progress=interrupt)
    trained = caught.value.trained
    assert (trained.steps, trained.best_step) == (20, None)
    assert trained.predictor.provenance["steps"] == len(trained.history.loss) == 20
    assert np.array_equal(trained.predictor.outputs(task.x), trained.outputs)


def test_a_run_that_is_interrupted_before_a_step_has_nothing_to_hand_over(monkeypatch):
    task = tasks.load("xor")
    plan = tasks.plan(task)

    def interrupt(*_):
        raise KeyboardInterrupt

    for objective in (interrupt, plan.objective):
        with pytest.raises(KeyboardInterrupt) as caught:
            tasks.train(plan._replace(objective=objective), progress=interrupt)
        assert hasattr(caught.value, "trained") == (objective is not interrupt)


def test_a_run_that_diverges_says_at_which_step():
    task = tasks.load("moons")
    plan = tasks.plan(task, task.recipe._replace(learning_rate=1e9))
    x, y = plan.rows
    with pytest.raises(fg.DivergedError, match=r"at step (\d+):") as caught:
        fg.fit(
            plan.objective, plan.optimizer, plan.untrained.params, (x, y), steps=100,
            progress=None,
        )  # fmt: skip
    step = re.search(r"at step (\d+):", str(caught.value))[1]
    with pytest.raises(InputError, match=f"finite number at step {step}: lower the"):
        tasks.train(plan, progress=None)


@pytest.mark.exhaustive
def test_a_predictor_of_a_run_is_the_one_in_its_file(tmp_path):
    task = tasks.load("xor")
    trained = tasks.train(
        tasks.plan(task, task.recipe._replace(steps=5)), progress=None
    )
    tasks.write(tmp_path, trained)
    loaded = Predictor.load(tmp_path / "model.safetensors")
    corners = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    ours, theirs = trained.predictor.predict(corners), loaded.predict(corners)
    assert ours.values.tolist() == theirs.values.tolist()
    assert np.array_equal(ours.certainty, theirs.certainty)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"hidden": (4, 0)}, r"hidden must be whole numbers above 0.*got \(4, 0\)"),
        ({"activation": "gelu"}, "activation must be one of relu.*got 'gelu'"),
        ({"optimizer": "lion"}, "optimizer must be one of sgd.*got 'lion'"),
        ({"learning_rate": 0.0}, "learning_rate must be a finite number above 0, got"),
        ({"steps": 0}, "steps must be at least 1 and below 2,147,483,648, got 0"),
        ({"steps": 2**31}, "and below 2,147,483,648, got 2147483648"),
        ({"hidden": (1,) * 1000}, "must be fewer than 1000 hidden layers, got 1000"),
        ({"hidden": (10**5, 10**4)}, "hidden must make a net of at most 100,000,000"),
        ({"batch_size": 201}, "batch_size must be from 1 to the 200 rows to train on"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_one_sentence(change, sentence):
    task = tasks.load("xor")
    recipe = task.recipe._replace(**change)
    ranges = {"learning_rate": tasks.Range(0.1, 0.1)}
    for start in (
        lambda: tasks.plan(task, recipe),
        lambda: tasks.sweep(task, ranges, recipe, members=1),
    ):
        with pytest.raises(InputError, match=sentence):
            start()


def test_seeds_and_members_that_make_no_sense_are_one_sentence():
    task = tasks.load("xor")
    ranges = {"learning_rate": tasks.Range(0.1, 0.1)}
    for start in (
        lambda: tasks.load("xor", seed=-1),
        lambda: tasks.plan(task, seed=-1),
        lambda: tasks.sweep(task, ranges, seed=-1),
    ):
        with pytest.raises(InputError, match="seed must be from 0 to 4294967295"):
            start()
    with pytest.raises(InputError, match="members must be at least 1, got 0"):
        tasks.sweep(task, ranges, members=0)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"validation": 1.0}, "validation must be a share of the 200 rows of training"),
        ({"patience": 2}, "patience must wait for validation to get better, got 2 and"),
        ({"validation": 0.1, "patience": 0}, "patience must be at least 1, got 0"),
        ({"seconds": 0}, "seconds must be a finite number above 0, got 0"),
        ({"seconds": np.nan}, "seconds must be a finite number above 0, got nan"),
    ],
)
def test_ends_that_make_no_sense_are_one_sentence(given, sentence):
    with pytest.raises(InputError, match=sentence):
        tasks.plan(tasks.load("xor"), **given)


def test_a_last_step_that_leaves_no_numbers_is_one_sentence():
    """The loss before it is finite, so that only the parameters tell."""
    task = tasks.load("moons")
    recipe = task.recipe._replace(steps=1, learning_rate=3.4e38)
    recipe = recipe._replace(initializer=lambda key, shape, dtype: 9 * jnp.ones(shape))
    with pytest.raises(InputError, match="the last step left parameters that are no"):
        tasks.train(tasks.plan(task, recipe), progress=None)
