"""funcgrad proves its own losses, networks and steps of training."""

import jax
import jax.numpy as jnp
import optax
import pytest

import funcgrad as fg
from benchmarks import proof_times
from funcgrad.testing import assert_gradients, check_gradients

X = jax.random.normal(jax.random.key(1), (4, 3))
SIGNS = jnp.array([1.0, -1.0, -1.0, 1.0])
LABELS = jnp.array([0, 2, 1, 1])
LINEAR = {"final_activation": lambda x: x}

LOSSES = {
    "squared_error": lambda y: fg.squared_error(y, X),
    "mean_squared_error": lambda y: fg.mean_squared_error(y, X),
    "hinge": lambda y: fg.hinge(y[:, 0], SIGNS),
    "cross_entropy": lambda y: fg.cross_entropy(y, LABELS),
    "binary_cross_entropy": lambda y: fg.binary_cross_entropy(y[:, 0], (SIGNS + 1) / 2),
    "l2": fg.l2,
}


@pytest.mark.parametrize(
    "dtype",
    [
        "float32",
        pytest.param("float64", marks=pytest.mark.exhaustive),
        pytest.param("bfloat16", marks=pytest.mark.exhaustive),
    ],
)
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        y = jax.random.normal(jax.random.key(2), (4, 3), dtype)
        if dtype == "float32":
            assert_gradients(LOSSES[name], y)
        else:
            assert_gradients(lambda y: LOSSES[name](y.astype(jnp.float32)), y)


@pytest.mark.parametrize(
    "activation", [jnp.tanh, jax.nn.relu, jax.nn.sigmoid, jax.nn.gelu, jax.nn.silu]
)
def test_networks(activation):
    model = fg.mlp([3, 4, 4, 3], activation=activation, **LINEAR)
    params = model.init(jax.random.key(0))
    assert_gradients(fg.objective(model, fg.squared_error), params, (X, X))


@pytest.mark.parametrize("make", [optax.sgd, optax.adam])
def test_the_loss_after_a_step_of_training(make):
    """Differentiate through the update: with respect to the parameters before it."""
    model = fg.mlp([3, 2, 3])
    objective = fg.objective(model, fg.squared_error)
    optimizer = make(0.1)
    step = fg.make_step(objective, optimizer)

    def after(params):
        state, _ = step(fg.init_state(params, optimizer), (X, X))
        return objective(state.params, (X, X))

    report = check_gradients(after, model.init(jax.random.key(0)))
    assert report.ok, str(report)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", proof_times.CHECKS)
def test_the_networks_whose_proofs_are_timed(name):
    """How long they take, `python benchmarks/proof_times.py` says, and no test."""
    check = proof_times.CHECKS[name]()
    assert_gradients(*check)


def test_their_sizes():
    sizes = [
        sum(leaf.size for leaf in jax.tree.leaves(make().params))
        for make in proof_times.CHECKS.values()
    ]
    assert sizes == [41, 337, 101_770]
