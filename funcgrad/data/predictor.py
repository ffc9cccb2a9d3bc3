"""A trained net together with all that turns a table's rows into its predictions."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcgrad.data import columns, model_file
from funcgrad.data.columns import Column
from funcgrad.data.scores import Score
from funcgrad.data.table import cells_of
from funcgrad.errors import InputError, listed
from funcgrad.losses import (
    binary_cross_entropy,
    cross_entropy,
    hinge,
    mean_squared_error,
)
from funcgrad.mlp import Initializer, Layer, linear, mlp
from funcgrad.model import Model
from funcgrad.version import __version__

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "linear": linear,
}

# loss(outputs, labels, weights=None) for outputs of shape (rows, outputs) and labels of
# shape (rows,): the number of the class, or the standardised number to predict.
LOSSES: dict[str, Callable[..., jax.Array]] = {
    "hinge": lambda outputs, y, w=None: hinge(outputs[:, 0], 2 * y - 1, w),
    "binary_cross_entropy": lambda outputs, y, w=None: binary_cross_entropy(
        outputs[:, 0], y, w
    ),
    "cross_entropy": cross_entropy,
    "mean_squared_error": lambda outputs, y, w=None: mean_squared_error(
        outputs[:, 0], y, w
    ),
}

# Rows put through the net at a time; one compiled function serves every table.
_ROWS = 4096

# Of so many, compiling takes half a minute.
MOST_LAYERS = 1000


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
    provenance: how they were made, as text and numbers by name: the command, the date,
        versions, steps and seed, as far as they are known.
    """

    sizes: tuple[int, ...]
    activation: str
    loss: str
    inputs: tuple[Column, ...]
    target: Column
    params: Any
    provenance: Mapping[str, str | float] = {}

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

    def describe(self) -> list[str]:
        """Return in words, a line each, what the net is and how it was made."""
        classes = self.target.classes
        return [
            f"net: {'-'.join(map(str, self.sizes))} {self.activation}, "
            f"{count_parameters(self.sizes):,} parameters",
            f"loss: {self.loss.replace('_', ' ')}",
            f"target: {self.target.describe()}"
            + (f": {listed(classes)}" if classes else ""),
            *(f"input: {columns.describe_input(column)}" for column in self.inputs),
            *(f"{name}: {value}" for name, value in self.provenance.items()),
        ]

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
            "format": model_file.FORMAT,
            "version": __version__,
        }
        if self.provenance:
            about["provenance"] = dict(self.provenance)
        model_file.check_params(_like(self.sizes), self.params)
        as_loaded = json.loads(json.dumps(about))
        _from_json(as_loaded, most_numbers=count_parameters(self.sizes))
        model_file.save(path, about, self.params)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Predictor:
        """Return the predictor in a model file, or say in a sentence why it is none.

        A file that was changed by a single letter is refused; those of version 0.1.0
        hold no checksum, so in them a changed number is not seen.
        """
        about = model_file.read(path)
        if model_file.is_of_text(about):
            raise InputError(
                f"{path} is a model of text, which funcgrad sample takes: give one of "
                f"a table"
            )
        with model_file.undamaged(path):
            untrained = _from_json(about, most_numbers=os.path.getsize(path) // 4)
            like = _like(untrained.sizes)
            params = model_file.load(path, about, like)
            model_file.check_params(like, params)
        return untrained._replace(params=params)


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


def count_parameters(sizes: Sequence[int]) -> int:
    """Return the number of weights and biases of a net."""
    return sum((n + 1) * m for n, m in pairwise(sizes))


@lru_cache
def _compiled(
    sizes: tuple[int, ...], activation: str
) -> Callable[[Any, np.ndarray], jax.Array]:
    return jax.jit(net(sizes, activation).apply)


def _from_json(about: Any, most_numbers: int) -> Predictor:
    """Return the predictor that `about` tells of, without its parameters.

    Raises before anything is built of it unless all fits together, and its parameters
    are no more than `most_numbers`.
    """
    if not isinstance(about, dict) or not isinstance(about["inputs"], list):
        raise ValueError("its description has another form")
    model_file.check_format(about)
    sizes = about["sizes"]
    if not isinstance(sizes, list) or not all(type(n) is int for n in sizes):
        raise ValueError("sizes must be whole numbers")
    for key in ("activation", "loss"):
        if not isinstance(about[key], str):
            raise ValueError(f"{key} must be a name")
    predictor = Predictor(
        tuple(sizes),
        about["activation"],
        about["loss"],
        tuple(columns.from_dict(c) for c in about["inputs"]),
        columns.from_dict(about["target"]),
        params=None,
        provenance=model_file.provenance_of(about),
    )
    _check_fit(predictor)
    if count_parameters(sizes) > most_numbers:
        raise ValueError("the net is larger than the file")
    return predictor


def _check_fit(predictor: Predictor) -> None:
    """Raise unless the net can be, and the columns fit it."""
    sizes, target = predictor.sizes, predictor.target
    if not 2 <= len(sizes) <= MOST_LAYERS + 1 or min(sizes) < 1:
        raise ValueError(
            f"a net must have from 1 to {MOST_LAYERS} layers, each of at least 1 neuron"
        )
    if predictor.activation not in ACTIVATIONS or predictor.loss not in LOSSES:
        raise ValueError(f"{predictor.activation} with {predictor.loss} is not known")
    if sizes[0] != columns.width(predictor.inputs):
        raise ValueError("the columns do not fit the net")
    # Two classes are chosen by the sign of one output, or by the larger of two.
    fits = sizes[-1] in (target.outputs, len(target.classes))
    if not fits or len(target.classes) == 1:
        raise ValueError("the target does not fit the net")
    if predictor.loss != "cross_entropy" and sizes[-1] != 1:
        raise ValueError(f"{predictor.loss} takes one output, got {sizes[-1]}")


def _like(sizes: Sequence[int]) -> tuple[Layer, ...]:
    """Return the parameters' shapes, at no cost."""

    def like(*shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    return tuple(Layer(like(n, m), like(m)) for n, m in pairwise(sizes))
