"""Tasks: what `funcgrad train` can learn, as arrays, with defaults that suit them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from funcgrad import data, tables
from funcgrad.errors import InputError
from funcgrad.mlp import Initializer, uniform
from funcgrad.tables import Column, Number, Text

if TYPE_CHECKING:
    import polars as pl

# Whole numbers with more different values than this are a quantity, not classes.
MOST_CLASSES = 50

# A text with more different values than this is a name, and would be learnt by heart.
MOST_TEXTS = 50

_FEWEST_ROWS = 5
_HELD_OUT = 5  # one row in so many is kept for the score


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


class Task(NamedTuple):
    """What there is to learn.

    inputs, target: the columns of the table, or stand-ins for drawn points.
    x: what the net sees, float32 of shape (rows, features).
    y: the number of the class, int32, or the standardised number, float32; (rows,).
    held_out: True for the rows that training never sees; (rows,).
    notes: sentences for the user.
    recipe: how to train unless told otherwise.
    """

    name: str
    inputs: tuple[Column, ...]
    target: Column
    x: np.ndarray
    y: np.ndarray
    held_out: np.ndarray
    notes: tuple[str, ...]
    recipe: Recipe


# micrograd's demo notebook, all of it.
_MOONS = Recipe((16, 16), "relu", "sgd", 1.0, 100, None, "hinge", uniform)
_XOR = Recipe((8,), "tanh", "adam", 0.05, 300, None, "binary_cross_entropy")
_SPIRALS = Recipe((32, 32), "relu", "adam", 0.01, 1500, None, "binary_cross_entropy")

DRAWN: dict[str, tuple[Callable[..., tuple[np.ndarray, np.ndarray]], Recipe]] = {
    "moons": (data.moons, _MOONS),
    "xor": (data.xor, _XOR),
    "spirals": (data.spirals, _SPIRALS),
}


def drawn_task(name: str, seed: int) -> Task:
    """Return the task to tell apart the two classes of points in `funcgrad.data`."""
    draw, recipe = DRAWN[name]
    x, y = draw(seed=seed)
    inputs = tuple(Number(column, 0.0, 1.0) for column in ("x1", "x2"))
    none = np.zeros(len(x), bool)
    x, y = x.astype(np.float32), y.astype(np.int32)
    return Task(name, inputs, Text("class", ("0", "1")), x, y, none, (), recipe)


def table_task(path: str | os.PathLike[str], target: str | None, seed: int) -> Task:
    """Return the task to predict one column of a CSV table from all others.

    Text, or whole numbers of at most `MOST_CLASSES` different values, are classes;
    other numbers are a quantity. A fifth of the rows is held out, of each class alike.
    """
    table = tables.read_table(path)
    if target is None:
        raise InputError(
            f"{path} needs --target COLUMN, the column to predict, one of "
            f"{tables.listed(table.columns)}"
        )
    tables.check_columns(table, [target])
    tables.check_columns(table, table.columns)
    if table.height < _FEWEST_ROWS:
        raise InputError(
            f"a table needs at least {_FEWEST_ROWS} rows, as one in {_HELD_OUT} is "
            f"held out for the score; {path} has {table.height}: add rows"
        )
    notes = []
    if _is_classes(table, target):
        column: Column
        column = text = _classes(table, target)
        y = tables.codes(table, text)
        held_out = _held_out(y, seed)
        outputs = len(text.values)
        loss = "binary_cross_entropy" if outputs == 2 else "cross_entropy"
    else:
        if tables.is_whole(table, target):
            notes.append(
                f"{target!r} has more than {MOST_CLASSES} different whole numbers, so "
                f"it is predicted as a quantity, not as classes"
            )
        values = tables.numbers(table, target)
        held_out = _held_out(np.zeros(len(values)), seed)
        column = tables.standardised(target, values[~held_out])
        if column.scale == 0:
            raise InputError(
                f"target {target!r} is always {column.mean:g} in the rows to train on, "
                f"so there is nothing to learn: choose another target"
            )
        y = ((values - column.mean) / column.scale).astype(np.float32)
        loss = "mean_squared_error"

    inputs, left_out = _inputs(table, target, held_out)
    if left_out:
        notes.append(f"left out {'; '.join(left_out)}")
    if not inputs:
        raise InputError(
            f"{path} leaves no column to predict {target!r} from"
            f"{': ' + '; '.join(left_out) if left_out else ''}: add columns that vary"
        )
    x = tables.encode(inputs, table)
    recipe = _table_recipe(loss, rows=int((~held_out).sum()))
    name = Path(path).stem
    return Task(name, inputs, column, x, y, held_out, tuple(notes), recipe)


def _table_recipe(loss: str, rows: int) -> Recipe:
    batch_size = min(32, rows)
    # Forty passes over the rows, within bounds that keep a run useful and short.
    steps = int(np.clip(40 * rows // batch_size, 500, 20_000))
    return Recipe((32,), "tanh", "adam", 0.005, steps, batch_size, loss)


def _is_classes(table: pl.DataFrame, target: str) -> bool:
    if tables.is_whole(table, target):
        return table[target].n_unique() <= MOST_CLASSES
    return not tables.is_number(table, target)


def _classes(table: pl.DataFrame, target: str) -> Text:
    column = tables.classes(table, target)
    if len(column.values) == 1:
        raise InputError(
            f"target {target!r} is always {column.values[0]!r}, so there is nothing to "
            f"learn: choose a target with at least two classes"
        )
    counts = np.bincount(tables.codes(table, column))
    if np.min(counts) < 2:
        single = column.values[int(np.argmin(counts))]
        raise InputError(
            f"each class needs at least 2 rows, one to learn from and one for the "
            f"score; {int(np.sum(counts < 2))} of the {len(counts)} classes in "
            f"{target!r} have one, such as {single!r}: add rows or join classes"
        )
    return column


def _held_out(y: np.ndarray, seed: int) -> np.ndarray:
    """Choose a fifth of the rows at random, in each class alike; bool (rows,).

    In rows sorted by class, every fifth is taken; no class of two rows or more can
    lose all of its rows, as two that stand side by side are never both taken.
    """
    order = np.random.default_rng(seed).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    held_out = np.zeros(len(y), bool)
    held_out[order[_HELD_OUT // 2 :: _HELD_OUT]] = True
    return held_out


def _inputs(
    table: pl.DataFrame, target: str, held_out: np.ndarray
) -> tuple[tuple[Column, ...], list[str]]:
    """Return the columns to learn from, and in words those that are left out."""
    inputs: list[Column] = []
    constant, names = [], []
    for name in table.columns:
        if name == target:
            continue
        column: Any
        if tables.is_number(table, name):
            column = tables.standardised(name, tables.numbers(table, name)[~held_out])
            varies = column.scale > 0
        else:
            column = tables.classes(table, name)
            varies = len(column.values) > 1
            if len(column.values) > MOST_TEXTS:
                names.append(name)
                continue
        if varies:
            inputs.append(column)
        else:
            constant.append(name)
    left_out = []
    if constant:
        left_out.append(f"{tables.listed(constant)} (the same in every row)")
    if names:
        left_out.append(
            f"{tables.listed(names)} (text, more than {MOST_TEXTS} different values)"
        )
    return tuple(inputs), left_out
