"""The data are looked at before a run is compiled: all rows, and nothing is traced."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import funcgrad as fg
from funcgrad import data_checks

KEY = jax.random.key(0)
MODEL = fg.mlp([2, 3], final_activation=fg.linear)
ROWS = 7
X = np.linspace(-1, 1, 2 * ROWS, dtype=np.float32).reshape(ROWS, 2)


def fit(objective, data, **settings):
    return fg.fit(
        objective, optax.sgd(0.1), MODEL.init(KEY), data, steps=3, key=KEY, **settings
    )


def many(run, **extra):
    def go(objective, data, **settings):
        rates = {"learning_rate": np.full(2, 0.1)}
        if settings.get("own_data"):
            data = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), data)
        return run(
            objective, optax.sgd, MODEL.init, rates, data, steps=3, key=KEY, **settings,
            **extra,
        )  # fmt: skip

    return go


RUNS = {
    "fit": fit,
    "train_many": many(fg.train_many),
    "sweep": many(fg.sweep, every=2, score=lambda params: fg.l2(params)),
}


def with_last(values, wrong):
    """Return the values, and the same with another in the last row."""
    values = np.asarray(values)
    bad = values.copy()
    bad[-1] = wrong
    return values, bad


SIGNS = np.where(X[:, :1] > 0, 1, -1) * np.ones(3)
SHARES = np.full((ROWS, 3), 0.5, np.float32)
LABELS = {
    "cross_entropy needs labels from 0 to 2, as there are 3 logits, got 3": (
        fg.cross_entropy,
        *with_last(np.arange(ROWS) % 3, 3),
    ),
    "cross_entropy needs labels from 0 to 2, as there are 3 logits, got -1": (
        fg.cross_entropy,
        *with_last(np.arange(ROWS) % 3, -1),
    ),
    "hinge needs signs -1 or 1, got 0.0": (fg.hinge, *with_last(SIGNS, 0)),
    "hinge needs signs -1 or 1, got 0$": (fg.hinge, *with_last(SIGNS.astype(int), 0)),
    "binary_cross_entropy needs labels from 0 to 1, got 1.5": (
        fg.binary_cross_entropy,
        *with_last(SHARES, 1.5),
    ),
    "binary_cross_entropy needs labels from 0 to 1, got nan": (
        fg.binary_cross_entropy,
        *with_last(SHARES, np.nan),
    ),
}


@pytest.mark.parametrize("sentence", LABELS)
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("batch_size", [None, 2])
def test_labels_that_a_loss_cannot_take_raise_its_sentence(run, sentence, batch_size):
    loss, _, bad = LABELS[sentence]
    with pytest.raises(ValueError, match=sentence):
        RUNS[run](fg.objective(MODEL, loss), (X, bad), batch_size=batch_size)


@pytest.mark.parametrize("run", ["train_many", "sweep"])
def test_data_of_each_members_own_are_looked_at_too(run):
    loss, _, bad = LABELS["hinge needs signs -1 or 1, got 0.0"]
    with pytest.raises(ValueError, match="hinge needs signs"):
        RUNS[run](fg.objective(MODEL, loss), (X, bad), own_data=True)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ([1] * 6 + [-1], "hinge needs weights finite and at least 0, got -1"),
        ([1] * 6 + [np.nan], "hinge needs weights finite and at least 0, got nan"),
        ([0] * 7, "hinge needs weights of which one at least is above 0, got 0"),
    ],
)
def test_weights_that_a_loss_cannot_take_raise_its_sentence(run, weights, sentence):
    objective = fg.objective(MODEL, fg.hinge)
    with pytest.raises(ValueError, match=sentence):
        RUNS[run](objective, (X, SIGNS, np.array(weights)), batch_size=2)


def test_good_weights_are_trained_on():
    data = (X, SIGNS, np.arange(ROWS))
    run = fit(fg.objective(MODEL, fg.hinge), data, progress=None)
    assert np.isfinite(run.history.loss).all()


@pytest.mark.parametrize("sentence", list(LABELS)[::2])
def test_good_labels_are_trained_on(sentence):
    loss, good, _ = LABELS[sentence]
    run = fit(fg.objective(MODEL, loss), (X, good), progress=None)
    assert np.isfinite(run.history.loss).all()


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named(run, wrong):
    x = X.copy()
    x[5, 1] = wrong
    with pytest.raises(
        ValueError, match=rf"^data must be finite, got {wrong} at data\['x'\]\[5, 1\]: "
    ):
        RUNS[run](
            lambda params, batch: jnp.sum(MODEL.apply(params, batch["x"])), {"x": x}
        )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "complex64"])
def test_every_float_is_looked_at(dtype):
    start, good = jnp.ones(()), jnp.ones((3, 2), dtype)
    data_checks.check_data(lambda params, batch: 0.0, start, good, good)
    for wrong in (jnp.nan, jnp.inf):
        bad = good.at[2, 0].set(wrong)
        with pytest.raises(ValueError, match=r"be finite, got .* at data\[2, 0\]: "):
            data_checks.check_data(lambda params, batch: 0.0, start, bad, good)


def test_labels_that_the_objective_makes_are_its_own_affair():
    """0 and 1 in the data are -1 and 1 where they reach the hinge."""
    bits = (X[:, :1] > 0) * np.ones(3, np.float32)

    def objective(params, batch):
        return fg.hinge(MODEL.apply(params, batch[0]), 2 * batch[1] - 1)

    assert fit(objective, (X, bits), progress=None).state.step == 3


def test_a_jitted_objective_is_looked_through():
    loss, good, bad = LABELS["hinge needs signs -1 or 1, got 0.0"]
    objective = jax.jit(fg.objective(MODEL, loss))
    assert fit(objective, (X, good), progress=None).state.step == 3
    with pytest.raises(ValueError, match="hinge needs signs"):
        fit(objective, (X, bad))


def test_a_state_of_plain_numbers_is_looked_at_too():
    state = fg.State(1.0, optax.sgd(0.1).init(1.0), 0)
    with pytest.raises(ValueError, match="data must be finite"):
        fg.fit(lambda w, x: w * jnp.sum(x), optax.sgd(0.1), state, X * np.inf, steps=1)


def test_a_look_needs_no_forward_pass():
    """A batch is a shape to it: a hundred million rows would not fit."""
    calls = []

    def apply(params, x):
        calls.append(x)
        return jnp.einsum("ri,rj,rk->ijk", x, x, x).sum() * params + x[:, 0]

    labels = jnp.ones(5)
    rows = jax.ShapeDtypeStruct((100_000_000, 1_000), jnp.float32)
    shapes = (rows, jax.ShapeDtypeStruct((100_000_000,), jnp.float32))
    data = (jnp.ones((5, 1)), labels)
    objective = fg.objective(fg.Model(None, apply), fg.hinge)
    data_checks.check_data(objective, jnp.ones(()), data, shapes)
    with pytest.raises(ValueError, match="hinge needs signs"):
        data_checks.check_data(objective, jnp.ones(()), (data[0], labels * 2), shapes)
    assert len(calls) == 1 and isinstance(calls[0], jax.core.Tracer)


@pytest.mark.exhaustive
@pytest.mark.parametrize("run", ["train_many", "sweep"])
def test_traced_data_are_passed_over(run):
    loss, good, bad = LABELS["hinge needs signs -1 or 1, got 0.0"]
    objective = fg.objective(MODEL, loss)

    def losses(signs):
        return RUNS[run](objective, (jnp.asarray(X), signs))[1]

    assert jax.jit(losses)(bad).shape == (2, 3)
    assert jax.vmap(losses)(np.stack([good, bad])).shape == (2, 2, 3)
