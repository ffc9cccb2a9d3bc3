"""NumPy arrays are taken by the type checker wherever they are taken at run time.

Each test is user code, and mypy reads this file with the package (see pyproject.toml),
so that a hint that refuses what runs here is an error there.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import funcgrad as fg
from funcgrad import data, plots
from funcgrad.testing import assert_gradients, check_gradients

X = np.array([[1.0, 2.0], [-1.0, 0.0], [0.0, 1.0]], np.float32)
Y = np.array([[1.0], [-1.0], [0.0]], np.float32)
LABELS = np.array([0, 1, 0])
MODEL = fg.mlp([2, 1], final_activation=fg.linear)
PARAMS = (fg.Layer(np.ones((2, 1), np.float32), np.zeros(1, np.float32)),)
ANSWERS = [[3.0], [-1.0], [1.0]]
OBJECTIVE = fg.objective(MODEL, fg.squared_error)
SGD = optax.sgd(0.25)
KEY = jax.random.key(0)


def test_apply() -> None:
    assert MODEL.apply(PARAMS, X).tolist() == ANSWERS
    assert MODEL.apply(PARAMS, X.tolist()).tolist() == ANSWERS
    assert fg.layer(PARAMS[0], X, fg.linear).tolist() == ANSWERS
    assert fg.neuron(X[0], np.float32(0), X[0], fg.linear) == 5
    assert fg.neuron([1.0, 2.0], 0.5, [3, 4], fg.linear) == 11.5


@pytest.mark.exhaustive
def test_a_gpt_is_a_model() -> None:
    model = fg.gpt(3, context=4, width=4, layers=1, heads=2, norm=fg.rms_norm)
    params = model.init(KEY)
    rows = np.array([[0, 1, 2, -1, -1]])
    assert fg.next_token(model)(params, rows).shape == ()
    assert fg.objective(model, fg.cross_entropy)(params, (LABELS, LABELS)).shape == ()
    assert fg.cast(model, jnp.bfloat16).apply(params, LABELS).shape == (3, 3)
    cache, logits = model.start(params, LABELS)
    assert model.step(params, cache, np.int32(1))[1].shape == logits[0].shape
    drawn = fg.sample(model, params, KEY, prompt=LABELS, length=2, temperature=0.5)
    assert drawn.shape == (2,)
    assert params.blocks[0].qkv.shape == (4, 12)


def test_a_model_of_ones_own_may_say_what_it_takes() -> None:
    def init(key: jax.Array) -> jax.Array:
        return jnp.ones(2)

    def apply(params: jax.Array, x: jax.Array) -> jax.Array:
        return x @ params

    def loss(y: jax.Array, target: jax.Array) -> jax.Array:
        return jnp.sum((y - target) ** 2)

    def loss_of_numpy(y: jax.Array, target: np.ndarray) -> jax.Array:
        return jnp.sum((y - target) ** 2)

    model = fg.Model(init, apply)
    assert model.apply(model.init(KEY), X).tolist() == [3, -1, 1]
    assert fg.objective(model, loss)(np.ones(2), (X, Y[:, 0])) == 5
    assert fg.objective(model, loss_of_numpy)(np.ones(2), (X, Y[:, 0])) == 5


def test_losses() -> None:
    assert fg.squared_error(X, np.zeros_like(X)) == 7
    assert fg.mean_squared_error(Y, np.zeros_like(Y)) * 3 == 2
    assert fg.hinge(Y, np.ones_like(Y)) == 1
    assert fg.cross_entropy(np.zeros((3, 1)), np.zeros(3, int)) == 0
    assert fg.binary_cross_entropy(np.full(3, 999.0), np.ones(3)) == 0
    assert fg.l2(PARAMS) == 2
    assert OBJECTIVE(PARAMS, (X, Y)) == 5


def test_training() -> None:
    state = fg.init_state(PARAMS, SGD)
    state, loss = fg.make_step(OBJECTIVE, SGD)(state, (X, Y))
    state, losses = fg.train(OBJECTIVE, SGD, state, (X, Y), steps=1)
    assert loss == 5 and losses.shape == (1,)
    run = fg.fit(OBJECTIVE, SGD, PARAMS, (X, Y), steps=1, progress=None)
    assert run.history.loss.tolist() == [5]


def test_many() -> None:
    rates = {"learning_rate": np.array([0.25, 0.5])}
    states, _ = fg.train_many(
        OBJECTIVE, optax.sgd, MODEL.init, rates, (X, Y), steps=1, key=KEY
    )
    result = fg.sweep(
        OBJECTIVE, optax.sgd, MODEL.init, rates, (X, Y), steps=1, key=KEY, every=1,
        score=lambda params: OBJECTIVE(params, (X, Y)),
    )  # fmt: skip
    assert fg.best(np.array([1.0, 0.0])) == 1
    chosen = fg.select(result.best_params, fg.top(result.best_scores, 2))
    mean, spread = fg.committee(MODEL.apply, chosen, X)
    assert mean.shape == spread.shape == Y.shape
    assert fg.select(states.params, np.array([0]))[0].w.shape == (1, 2, 1)
    fg.member_keys(KEY, np.int32(1))


def test_files(tmp_path: Path) -> None:
    fg.save(tmp_path / "net", PARAMS)
    assert fg.load(tmp_path / "net", PARAMS)[0].w.tolist() == [[1], [1]]


def test_proof() -> None:
    report = check_gradients(OBJECTIVE, PARAMS, (X, Y))
    assert report.ok
    assert_gradients(lambda x: x @ X[0], X[1], grad=lambda x: X[0])


def test_predictor() -> None:
    columns = (data.Number("a", 0.0, 1.0), data.Number("b", 0.0, 1.0))
    target = data.Number("c", 0.0, 1.0)
    net = data.Predictor((2, 1), "relu", "mean_squared_error", columns, target, PARAMS)
    assert net.outputs(X).tolist() == ANSWERS
    assert net.predict(X.astype(np.float64)).values.shape == (3,)


def test_plots() -> None:
    run = fg.fit(OBJECTIVE, SGD, PARAMS, (X, Y), steps=1, progress=None)
    plots.loss_curve(run.history.step, run.history.loss, "loss")
    plots.confusion_matrix(LABELS, LABELS, ["no", "yes"], "classes")
    plots.predicted_against_true(Y[:, 0], X[:, 0], "y", "numbers")
    plots.decision_boundary(
        lambda points: MODEL.apply(PARAMS, points)[:, 0] > 0, X, LABELS,
        names=["a", "b"], classes=["no", "yes"], title="plane",
    )  # fmt: skip
