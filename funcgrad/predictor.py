"""A trained net together with all that turns a table's rows into its predictions."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcgrad import checkpoint
from funcgrad.errors import InputError
from funcgrad.losses import (
    binary_cross_entropy,
    cross_entropy,
    hinge,
    l2,
    mean_squared_error,
)
from funcgrad.mlp import Initializer, linear, mlp
from funcgrad.model import Model, Objective
from funcgrad.tables import Column, Number, Text, width
from funcgrad.version import __version__

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "linear": linear,
}

# loss(outputs, y) for outputs of shape (rows, outputs) and y of shape (rows,): the
# number of the class, or the standardised number to predict.
LOSSES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "hinge": lambda outputs, y: hinge(outputs[:, 0], 2 * y - 1),
    "binary_cross_entropy": lambda outputs, y: binary_cross_entropy(outputs[:, 0], y),
    "cross_entropy": cross_entropy,
    "mean_squared_error": lambda outputs, y: mean_squared_error(outputs[:, 0], y),
}

# Rows put through the net at a time; one compiled function serves every table.
_ROWS = 4096

_KEY = "funcgrad"
_FORMAT = 1


class Predictor(NamedTuple):
    """What a model file says besides the parameters.

    sizes: inputs, hidden layers, outputs.
    activation, loss: names out of `ACTIVATIONS` and `LOSSES`; the last layer is linear.
    inputs: the columns that the net sees, in order.
    target: the column that it predicts; a `Text` holds the classes.
    """

    sizes: tuple[int, ...]
    activation: str
    loss: str
    inputs: tuple[Column, ...]
    target: Column


class Predictions(NamedTuple):
    """One entry a row.

    values: the classes as text, or the numbers in the target's units.
    certainty: for classes, the probability of that class, or the score of a net that
        was trained with hinge, whose sign decides; None for numbers.
    """

    values: np.ndarray
    certainty: np.ndarray | None


def net(predictor: Predictor, initializer: Initializer | None = None) -> Model:
    """Return the predictor's MLP as a `Model`."""
    return mlp(
        predictor.sizes,
        activation=ACTIVATIONS[predictor.activation],
        final_activation=linear,
        initializer=initializer,
    )


def penalised_loss(predictor: Predictor, model: Model, penalty: float) -> Objective:
    """Return f(params, (x, y)) = loss(apply(params, x), y) + penalty * l2(params)."""
    loss = LOSSES[predictor.loss]

    def f(params: Any, batch: Any) -> jax.Array:
        x, y = batch
        return loss(model.apply(params, x), y) + penalty * l2(params)

    return f


def make_outputs(model: Model) -> Callable[[Any, np.ndarray], np.ndarray]:
    """Return outputs(params, x): `model.apply` on any number of rows, compiled once."""
    apply = jax.jit(model.apply)

    def outputs(params: Any, x: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(x), _ROWS):
            rows = x[start : start + _ROWS]
            full = np.zeros((_ROWS, x.shape[1]), np.float32)
            full[: len(rows)] = rows
            parts.append(np.asarray(apply(params, full))[: len(rows)])
        return np.concatenate(parts)

    return outputs


def classes_of(outputs: np.ndarray) -> np.ndarray:
    """Return the number of the class that the net chooses for each row."""
    if outputs.shape[1] == 1:
        return (outputs[:, 0] > 0).astype(np.int32)
    return np.argmax(outputs, axis=1)


def predictions(predictor: Predictor, outputs: np.ndarray) -> Predictions:
    """Return what the net's outputs say, in the words and units of the table."""
    outputs = outputs.astype(np.float64)
    target = predictor.target
    if isinstance(target, Number):
        return Predictions(target.mean + target.scale * outputs[:, 0], None)
    chosen = classes_of(outputs)
    values = np.array(target.values, dtype=object)[chosen]
    if predictor.loss == "hinge":
        return Predictions(values, outputs[:, 0])
    if outputs.shape[1] == 1:
        # The smaller of the two exponents is never above 0, so nothing overflows.
        return Predictions(values, 1 / (1 + np.exp(-np.abs(outputs[:, 0]))))
    shifted = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return Predictions(values, shifted.max(axis=1) / shifted.sum(axis=1))


def save_predictor(
    path: str | os.PathLike[str], predictor: Predictor, params: Any
) -> None:
    """Write the parameters, with the predictor as JSON in the file's metadata."""
    about = predictor._asdict() | {
        "format": _FORMAT,
        "version": __version__,
        "inputs": [_to_dict(column) for column in predictor.inputs],
        "target": _to_dict(predictor.target),
    }
    checkpoint.save(path, params, {_KEY: json.dumps(about)})


def load_predictor(path: str | os.PathLike[str]) -> tuple[Predictor, Any]:
    """Return the predictor and the parameters in a model file."""
    try:
        text = checkpoint.load_metadata(path).get(_KEY)
    except FileNotFoundError as error:
        raise InputError(f"there is no model file {path}: check the path") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(str(error)) from error
    if text is None:
        raise InputError(
            f"{path} was not written by funcgrad train: give a model.safetensors of it"
        )
    try:
        predictor = _from_json(text)
        shapes = jax.eval_shape(lambda: net(predictor).init(jax.random.key(0)))
        return predictor, checkpoint.load(path, shapes)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is damaged, or of another version of funcgrad ({error}): train "
            f"again"
        ) from error


def _to_dict(column: Column) -> dict[str, Any]:
    kind = "number" if isinstance(column, Number) else "text"
    return {"kind": kind} | column._asdict()


def _from_json(text: str) -> Predictor:
    about = json.loads(text)
    if about["format"] != _FORMAT:
        raise ValueError(f"format {about['format']}, where {_FORMAT} is known")
    predictor = Predictor(
        tuple(about["sizes"]),
        about["activation"],
        about["loss"],
        tuple(_column(c) for c in about["inputs"]),
        _column(about["target"]),
    )
    if predictor.activation not in ACTIVATIONS or predictor.loss not in LOSSES:
        raise ValueError(f"{predictor.activation} with {predictor.loss} is not known")
    if predictor.sizes[0] != width(predictor.inputs):
        raise ValueError("the columns do not fit the net")
    return predictor


def _column(about: dict[str, Any]) -> Column:
    if about["kind"] == "number":
        return Number(about["name"], float(about["mean"]), float(about["scale"]))
    return Text(about["name"], tuple(about["values"]))
