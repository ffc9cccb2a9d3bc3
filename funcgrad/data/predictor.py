"""A trained net together with all that turns a table's rows into its predictions."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcgrad import checkpoint
from funcgrad.data import columns
from funcgrad.data.columns import Column
from funcgrad.data.scores import Score
from funcgrad.data.table import cells_of
from funcgrad.errors import InputError
from funcgrad.losses import (
    binary_cross_entropy,
    cross_entropy,
    hinge,
    mean_squared_error,
)
from funcgrad.mlp import Initializer, linear, mlp
from funcgrad.model import Model
from funcgrad.version import __version__

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "linear": linear,
}

# loss(outputs, labels) for outputs of shape (rows, outputs) and labels of shape
# (rows,): the number of the class, or the standardised number to predict.
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


class Predictions(NamedTuple):
    """One entry a row.

    values: the classes as text, or the numbers in the target's units.
    certainty: for classes, the probability of that class, or the score of a net that
        was trained with hinge, whose sign decides; None for numbers.
    """

    values: np.ndarray
    certainty: np.ndarray | None


class Predictor(NamedTuple):
    """A net that predicts one column of a table from others.

    sizes: inputs, hidden layers, outputs.
    activation, loss: names out of `ACTIVATIONS` and `LOSSES`; the last layer is linear.
    inputs: the columns that the net sees, in order.
    target: the column that it predicts.
    params: the parameters of `net(sizes, activation)`.
    """

    sizes: tuple[int, ...]
    activation: str
    loss: str
    inputs: tuple[Column, ...]
    target: Column
    params: Any

    def predict(self, table: Any) -> Predictions:
        """Return what the net says of each row, in the words and units of the table.

        `table` is a table or a mapping with columns named as in training, or an array
        (rows, columns) with the columns of `inputs` in their order and their own units.
        """
        outputs = self.outputs(self.encode(table))
        values = self.target.decode(outputs)
        if self.loss == "hinge":
            return Predictions(values, outputs[:, 0].astype(np.float64))
        return Predictions(values, self.target.probability(outputs))

    def evaluate(self, table: Any) -> Score:
        """Return how good the net is on a table that has the true values too."""
        labels = self.target.labels(cells_of(table, [self.target.name])[0])
        return self.target.score(self.outputs(self.encode(table)), labels)

    def encode(self, table: Any) -> np.ndarray:
        """Return what the net sees of a table, float32 of shape (rows, features)."""
        names = [column.name for column in self.inputs]
        return columns.encode(self.inputs, cells_of(table, names))

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """Return the net's outputs for any number of encoded rows, (rows, outputs)."""
        apply = _compiled(self.sizes, self.activation)
        parts = []
        for start in range(0, len(x), _ROWS):
            rows = x[start : start + _ROWS]
            full = np.zeros((_ROWS, x.shape[1]), np.float32)
            full[: len(rows)] = rows
            parts.append(np.asarray(apply(self.params, full))[: len(rows)])
        return np.concatenate(parts)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the parameters, with all else as JSON in the file's metadata."""
        about = {
            "sizes": self.sizes,
            "activation": self.activation,
            "loss": self.loss,
            "inputs": [columns.to_dict(column) for column in self.inputs],
            "target": columns.to_dict(self.target),
            "format": _FORMAT,
            "version": __version__,
        }
        checkpoint.save(path, self.params, {_KEY: json.dumps(about)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Predictor:
        """Return the predictor in a model file, or say in a sentence why it is none."""
        try:
            text = checkpoint.load_metadata(path).get(_KEY)
        except FileNotFoundError as error:
            raise InputError(
                f"there is no model file {path}: check the path"
            ) from error
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise InputError(str(error)) from error
        if text is None:
            raise InputError(
                f"{path} was not written by funcgrad train: give a model.safetensors "
                f"of it"
            )
        try:
            untrained = _from_json(text)
            model = net(untrained.sizes, untrained.activation)
            shapes = jax.eval_shape(lambda: model.init(jax.random.key(0)))
            return untrained._replace(params=checkpoint.load(path, shapes))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path} is damaged, or of another version of funcgrad ({error}): "
                f"train again"
            ) from error


def net(
    sizes: tuple[int, ...], activation: str, initializer: Initializer | None = None
) -> Model:
    """Return the MLP with this activation by name, and a linear last layer."""
    return mlp(
        sizes,
        activation=ACTIVATIONS[activation],
        final_activation=linear,
        initializer=initializer,
    )


@lru_cache
def _compiled(
    sizes: tuple[int, ...], activation: str
) -> Callable[[Any, np.ndarray], jax.Array]:
    return jax.jit(net(sizes, activation).apply)


def _from_json(text: str) -> Predictor:
    """Return the predictor that `text` tells of, without its parameters."""
    about = json.loads(text)
    if about["format"] != _FORMAT:
        raise ValueError(f"format {about['format']}, where {_FORMAT} is known")
    predictor = Predictor(
        tuple(about["sizes"]),
        about["activation"],
        about["loss"],
        tuple(columns.from_dict(c) for c in about["inputs"]),
        columns.from_dict(about["target"]),
        params=None,
    )
    if predictor.activation not in ACTIVATIONS or predictor.loss not in LOSSES:
        raise ValueError(f"{predictor.activation} with {predictor.loss} is not known")
    if predictor.sizes[0] != columns.width(predictor.inputs):
        raise ValueError("the columns do not fit the net")
    return predictor
