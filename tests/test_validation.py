"""Metrics on rows that training does not see, and what is decided by them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import funcgrad as fg
from funcgrad import validation

ROWS = np.arange(8, dtype=np.float32)
SGD = optax.sgd(1.0)


def mean(w, x):
    return jnp.mean(x + w)


def highest(w, x):
    return jnp.max(x) + w


@pytest.mark.parametrize("most", [3, 8, 4096])
def test_parts_are_averaged_by_their_rows(monkeypatch, most):
    monkeypatch.setattr(validation, "MOST_ROWS", most)
    found = validation.scores({"mean": mean}, jnp.float32(1.0), ROWS)
    assert found == {"mean": 4.5}


def looks(**options):
    """Return the looks at a w that goes 0, -1, -2, ...: its slope is always 1."""
    state = fg.init_state(0.0, SGD)
    given = {"steps": 4, "every": 2} | options
    return list(fg.watch(lambda w, x: w * jnp.mean(x), SGD, state, np.ones(3), **given))


def test_each_look_has_the_objective_and_the_metrics():
    seen = looks(validation=ROWS, metrics={"highest": highest})
    assert [now.validation for now in seen] == [
        {"loss": -2 * 3.5, "highest": 7 - 2}, {"loss": -4 * 3.5, "highest": 7 - 4}
    ]  # fmt: skip
    assert [now.validation for now in looks()] == [{}, {}]


def bowl(w, x):
    """Its slope is 1, so w goes 0, -1, -2, ...; on rows of 1 it is lowest at -3."""
    return jnp.mean(jnp.where(x > 0, (w + 3) ** 2, w))


def fitted(**options):
    given = {
        "steps": 100, "every": 1, "validation": np.ones(2, np.float32), "progress": None
    }  # fmt: skip
    return fg.fit(bowl, SGD, 0.0, np.zeros(2, np.float32), **(given | options))


def test_patience_returns_the_best_state_and_its_step():
    fit = fitted(patience=2)
    assert (float(fit.state.params), int(fit.state.step)) == (-3, 3)
    assert fit.history.looks["validation_loss"].tolist() == [4, 1, 0, 1, 4]
    assert fit.history.step.tolist() == list(range(5))


def test_patience_looks_at_the_metric_that_it_names():
    metrics = {"far": lambda w, x: (w + 5) ** 2}
    fit = fitted(patience=("far", 1), metrics=metrics)
    assert (float(fit.state.params), int(fit.state.step)) == (-5, 5)
    assert len(fit.history.loss) == 6


def test_without_patience_the_last_state_is_returned():
    assert int(fitted(steps=7).state.step) == 7


def test_a_validation_that_is_no_number_is_not_the_best():
    fit = fitted(
        patience=("log", 3), steps=9, metrics={"log": lambda w, x: jnp.log(-w - 1.5)}
    )
    assert int(fit.state.step) == 2  # NaN at w = -1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"patience": 2, "every": None}, "pass validation=rows and every=steps"),
        ({"patience": 2, "validation": None}, "pass validation=rows and every=steps"),
        ({"patience": ("accuracy", 2)}, "one of 'loss', got 'accuracy'"),
        ({"patience": 0}, "patience must be a whole number of at least 1, got 0"),
        ({"every": 0}, "every must be a whole number of at least 1, got 0"),
        ({"validation": None, "metrics": {"a": mean}}, "'a' and no validation"),
        ({"validation": np.float32([1, np.inf])}, r"got inf at validation\[1\]"),
        ({"validation": [1.0]}, "validation needs arrays, got the number 1.0"),
    ],
)
def test_bad_input_gets_a_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        fitted(**options)


def test_labels_of_the_validation_are_looked_at_too():
    model = fg.mlp([1, 1], final_activation=fg.linear)
    x, y = np.ones((2, 1), np.float32), np.float32([[0], [1]])
    with pytest.raises(ValueError, match="hinge needs signs -1 or 1, got 0"):
        fg.fit(
            fg.objective(model, fg.hinge), SGD, model.init(jax.random.key(0)),
            (x, 2 * y - 1), steps=1, validation=(x, y),
        )  # fmt: skip
