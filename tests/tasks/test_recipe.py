"""Recipes: what an optimizer makes of its settings, and what suits a table."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from funcgrad.tasks.recipe import Recipe, for_table, make_optimizer

STEPS = 9
GRADIENTS = (1.0, -3.0, 0.5)


def rate(learning_rate):
    return optax.linear_schedule(learning_rate, learning_rate / 10, STEPS)


def updates_of(optimizer):
    """Return the updates for three gradients of a weight that stays 2."""
    w = jnp.float32(2)
    state, updates = optimizer.init(w), []
    for gradient in GRADIENTS:
        update, state = optimizer.update(jnp.float32(gradient), state, w)
        updates.append(float(update))
    return updates


def made(name, **settings):
    recipe = Recipe((4,), "tanh", name, 123.0, STEPS, None, "hinge")
    return updates_of(make_optimizer(recipe)(0.5, **settings))


def test_gradient_descent_by_hand():
    """Its rate falls from 0.5 by a tenth of that a step: 0.5, 0.45, 0.4."""
    rates = np.array([0.5, 0.45, 0.4])
    # A rate is rounded four times on its way, and once more in its product.
    close = {"rtol": 5 * np.finfo("f").eps / 2, "atol": 0}
    gradients = np.array(GRADIENTS)
    assert np.allclose(made("sgd"), -rates * gradients, **close)
    # Decay adds a share of the weight, 2, to the gradient.
    found = made("sgd", weight_decay=0.25)
    assert np.allclose(found, -rates * (gradients + 0.5), **close)
    # The trace is g1, g2 + g1 / 2, g3 + g2 / 2 + g1 / 4.
    found = made("sgd", momentum=0.5)
    assert np.allclose(found, -rates * [1.0, -2.5, -0.75], **close)
    # With both, what decay adds is traced too.
    found = made("sgd", momentum=0.5, weight_decay=0.25)
    assert np.allclose(found, -rates * [1.5, -1.75, 0.125], **close)
    assert not np.allclose(made("sgd"), -0.5 * gradients, **close)


FOUND = {
    "adam": optax.adam(rate(0.5)),
    "adam momentum": optax.adam(rate(0.5), b1=0.25),
    "adam weight_decay": optax.adamw(rate(0.5), weight_decay=0.125),
    "adam both": optax.adamw(rate(0.5), b1=0.25, weight_decay=0.125),
    "adamw": optax.adamw(rate(0.5)),
    "adamw momentum": optax.adamw(rate(0.5), b1=0.25),
    "adamw weight_decay": optax.adamw(rate(0.5), weight_decay=0.125),
    "adamw both": optax.adamw(rate(0.5), b1=0.25, weight_decay=0.125),
    "rmsprop": optax.rmsprop(rate(0.5)),
    "rmsprop momentum": optax.rmsprop(rate(0.5), momentum=0.25),
    "rmsprop weight_decay": optax.chain(
        optax.add_decayed_weights(0.125), optax.rmsprop(rate(0.5))
    ),
    "rmsprop both": optax.chain(
        optax.add_decayed_weights(0.125), optax.rmsprop(rate(0.5), momentum=0.25)
    ),
}


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop"])
def test_other_optimizers_are_those_of_optax_with_the_same_settings(name):
    momentum, decay = {"momentum": 0.25}, {"weight_decay": 0.125}
    found = {
        name: made(name),
        f"{name} momentum": made(name, **momentum),
        f"{name} weight_decay": made(name, **decay),
        f"{name} both": made(name, **momentum, **decay),
    }
    for settings, updates in found.items():
        assert updates == updates_of(FOUND[settings]), settings
    assert len({tuple(updates) for updates in found.values()}) == 4


@pytest.mark.parametrize(
    ("rows", "batch_size", "steps"),
    [(4, 4, 500), (32, 32, 500), (800, 32, 1000), (100_000, 32, 20_000)],
)
def test_a_table_is_seen_forty_times_within_bounds(rows, batch_size, steps):
    recipe = for_table("hinge", rows)
    assert (recipe.batch_size, recipe.steps) == (batch_size, steps)
    assert recipe.loss == "hinge"
