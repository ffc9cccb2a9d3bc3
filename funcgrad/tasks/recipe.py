"""How to train: what a person may choose, and what suits when nobody does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import optax

from funcgrad.data.predictor import ACTIVATIONS, MOST_LAYERS, count_parameters
from funcgrad.errors import InputError
from funcgrad.mlp import Initializer, uniform

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "adam": optax.adam,
    "adamw": optax.adamw,
    "rmsprop": optax.rmsprop,
}

# The weight of the sum of all squared parameters in the objective; micrograd's.
PENALTY = 1e-4

# Tiny nets are meant; with Adam's two moments, gradients and all, 2 GB.
MOST_PARAMETERS = 100_000_000


class Recipe(NamedTuple):
    """How to train.

    hidden: neurons in each hidden layer.
    activation, optimizer, loss: names.
    learning_rate: at the first step; it falls in a straight line to a tenth of it.
    steps: updates.
    batch_size: rows a step, None for all.
    initializer: draws the weights; None for the MLP's own default.
    """

    hidden: tuple[int, ...]
    activation: str
    optimizer: str
    learning_rate: float
    steps: int
    batch_size: int | None
    loss: str
    initializer: Initializer | None = None


# micrograd's demo notebook, all of it.
MOONS = Recipe((16, 16), "relu", "sgd", 1.0, 100, None, "hinge", uniform)
XOR = Recipe((8,), "tanh", "adam", 0.05, 300, None, "binary_cross_entropy")
SPIRALS = Recipe((32, 32), "relu", "adam", 0.01, 1500, None, "binary_cross_entropy")


def for_table(loss: str, rows: int) -> Recipe:
    """Return what suits a table with so many rows to train on."""
    batch_size = min(32, rows)
    # Forty passes over the rows, within bounds that keep a run useful and short.
    steps = int(np.clip(40 * rows // batch_size, 500, 20_000))
    return Recipe((32,), "tanh", "adam", 0.005, steps, batch_size, loss)


def within(recipe: Recipe, rows: int) -> Recipe:
    """Return the recipe with batches of at most so many rows."""
    if recipe.batch_size is None or recipe.batch_size <= rows:
        return recipe
    return recipe._replace(batch_size=rows)


def check(recipe: Recipe, rows: int) -> None:
    """Raise unless a net can be trained by the recipe on so many rows."""
    if not all(n > 0 for n in recipe.hidden):
        raise InputError(
            f"must be whole numbers above 0, one for each hidden layer, got "
            f"{recipe.hidden}",
            "hidden",
        )
    if len(recipe.hidden) >= MOST_LAYERS:
        raise InputError(
            f"must be fewer than {MOST_LAYERS} hidden layers, got {len(recipe.hidden)}",
            "hidden",
        )
    if count_parameters((1, *recipe.hidden, 1)) > MOST_PARAMETERS:
        raise InputError(
            f"must make a net of at most {MOST_PARAMETERS:,} parameters, got more",
            "hidden",
        )
    _check_name("activation", recipe.activation, ACTIVATIONS)
    _check_name("optimizer", recipe.optimizer, OPTIMIZERS)
    check_rate_and_steps(recipe.learning_rate, recipe.steps)
    if recipe.batch_size is not None and not 1 <= recipe.batch_size <= rows:
        raise InputError(
            f"must be from 1 to the {rows} rows to train on, got {recipe.batch_size}",
            "batch_size",
        )


def check_rate_and_steps(learning_rate: float, steps: int) -> None:
    """Raise unless so many steps can be done at this rate."""
    if not 0 < learning_rate < math.inf:
        raise InputError(
            f"must be a finite number above 0, got {learning_rate:g}", "learning_rate"
        )
    if not 1 <= steps < 2**31:
        raise InputError(
            f"must be at least 1 and below {2**31:,}, got {steps}", "steps"
        )


def _check_name(argument: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise InputError(f"must be one of {', '.join(known)}, got {name!r}", argument)


def make_optimizer(recipe: Recipe) -> Callable[..., optax.GradientTransformation]:
    """Return make(learning_rate, weight_decay=None, momentum=None) -> optimizer.

    The rate falls in a straight line to a tenth of it; `momentum` is Adam's b1.
    """
    is_adam = recipe.optimizer.startswith("adam")

    def make(
        learning_rate: Any, weight_decay: Any = None, momentum: Any = None
    ) -> optax.GradientTransformation:
        rate = optax.linear_schedule(learning_rate, learning_rate / 10, recipe.steps)
        own: dict[str, Any] = {}
        if momentum is not None:
            own["b1" if is_adam else "momentum"] = momentum
        if weight_decay is not None and is_adam:
            return optax.adamw(rate, weight_decay=weight_decay, **own)
        optimizer = OPTIMIZERS[recipe.optimizer](rate, **own)
        if weight_decay is None:
            return optimizer
        return optax.chain(optax.add_decayed_weights(weight_decay), optimizer)

    return make
