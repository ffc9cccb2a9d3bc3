"""Tasks: what there is to learn, as arrays, with the recipe that suits it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from funcgrad.data import columns, points, table
from funcgrad.data.columns import Category, Column, Number
from funcgrad.errors import InputError, did_you_mean, listed
from funcgrad.splitting import split
from funcgrad.tasks import recipe
from funcgrad.tasks.recipe import Recipe

if TYPE_CHECKING:
    import polars as pl

# Whole numbers with more different values than this are a quantity, not classes.
MOST_CLASSES = 50

# A text with more different values than this is a name, and would be learnt by heart.
MOST_TEXTS = 50

_FEWEST_ROWS = 5
_HELD_OUT = 5  # one row in so many is kept for the score


class Task(NamedTuple):
    """What there is to learn.

    inputs, target: the columns of the table, or stand-ins for drawn points.
    x: what the net sees, float32 of shape (rows, features).
    y: the number of the class, int32, or the standardised number, float32; (rows,).
    held_out: True for the rows that are kept for the score; (rows,).
    notes: sentences for the user.
    recipe: how to train unless told otherwise.
    validation: True for the rows that a run is watched on; (rows,), None for no rows.
    """

    name: str
    inputs: tuple[Column, ...]
    target: Column
    x: np.ndarray
    y: np.ndarray
    held_out: np.ndarray
    notes: tuple[str, ...]
    recipe: Recipe
    validation: np.ndarray | None = None

    @property
    def known(self) -> np.ndarray:
        """True for the rows that training sees; (rows,)."""
        known = ~self.held_out
        return known if self.validation is None else known & ~self.validation

    @property
    def scored(self) -> np.ndarray:
        """True for the rows that a score is taken on: held out, or all; (rows,)."""
        return self.held_out if self.held_out.any() else ~self.held_out


POINTS: dict[str, tuple[Callable[..., tuple[np.ndarray, np.ndarray]], Recipe]] = {
    "moons": (points.moons, recipe.MOONS),
    "xor": (points.xor, recipe.XOR),
    "spirals": (points.spirals, recipe.SPIRALS),
}


def load(
    what: str | os.PathLike[str], target: str | None = None, *, seed: int = points.SEED
) -> Task:
    """Return the task of that name (moons, xor, spirals) or of a CSV file.

    Of a table, the column `target` is predicted from all others. Text, or whole numbers
    of at most `MOST_CLASSES` different values, are classes; other numbers are a
    quantity. A fifth of the rows is held out, of each class alike. `seed` draws the
    points, or the rows to hold out.
    """
    check_seed(seed)
    if what in POINTS:
        if target is not None:
            raise InputError(
                f"must be left out, as {what} has a target of its own, got {target!r}",
                "target",
            )
        return _of_points(str(what), seed)
    path = Path(what)
    if not path.exists() and not path.suffix:
        raise InputError(
            f"{str(what)!r} is neither one of {', '.join(POINTS)} nor a CSV file"
            f"{did_you_mean(str(what), [*POINTS, 'pydoc'])}"
        )
    return _of_table(path, target, seed)


def set_aside(task: Task, share: float, *, seed: int = points.SEED) -> Task:
    """Return the task with this share of its rows of training kept for validation.

    They are drawn by `seed`, and at least one row is left on either side. The task's
    own recipe gets no larger batches than the rows that are left.
    """
    check_seed(seed)
    rows = np.flatnonzero(task.known)
    if not 0 < share < 1:
        raise InputError(
            f"must be a share of the {len(rows):,} rows of training, above 0 and below "
            f"1, such as 0.2, got {share:g}",
            "validation",
        )
    # The first two numbers are those of the weights and the batches.
    drawn = np.random.SeedSequence(seed).generate_state(3)[2]
    seen, kept = split(rows, jax.random.key(drawn), float(share))
    validation = np.zeros(len(task.x), bool)
    validation[kept] = True
    own = recipe.within(task.recipe, len(seen))
    return task._replace(validation=validation, recipe=own)


def check_seed(seed: int) -> None:
    """Raise unless everything random can be drawn by this seed."""
    if not 0 <= seed < 2**32:
        raise InputError(f"must be from 0 to {2**32 - 1}, got {seed}", "seed")


def _of_points(name: str, seed: int) -> Task:
    draw, own = POINTS[name]
    x, y = draw(seed=seed)
    inputs = tuple(Number(column, 0.0, 1.0) for column in ("x1", "x2"))
    none = np.zeros(len(x), bool)
    x, y = x.astype(np.float32), y.astype(np.int32)
    return Task(name, inputs, Category("class", ("0", "1")), x, y, none, (), own)


def _of_table(path: Path, target: str | None, seed: int) -> Task:
    frame = table.read_table(path)
    if target is None:
        raise InputError(
            f"must name the column of {path} to predict, one of "
            f"{listed(frame.columns)}",
            "target",
        )
    (cells,) = table.cells_of(frame, [target])
    table.cells_of(frame, frame.columns)
    if frame.height < _FEWEST_ROWS:
        raise InputError(
            f"a table needs at least {_FEWEST_ROWS} rows, as one in {_HELD_OUT} is "
            f"held out for the score; {path} has {frame.height}: add rows"
        )
    notes = []
    column: Column
    if _is_classes(cells):
        column, held_out, loss = _classes(target, cells, seed)
    else:
        if columns.is_whole(cells):
            notes.append(
                f"{target!r} has more than {MOST_CLASSES} different whole numbers, so "
                f"it is predicted as a quantity, not as classes"
            )
        column, held_out, loss = _quantity(target, cells, seed)
    inputs, left_out = _inputs(frame, target, ~held_out)
    if left_out:
        notes.append(f"left out {'; '.join(left_out)}")
    if not inputs:
        raise InputError(
            f"{path} leaves no column to predict {target!r} from"
            f"{': ' + '; '.join(left_out) if left_out else ''}: add columns that vary"
        )
    x = columns.encode(inputs, [frame[c.name] for c in inputs])
    y = column.labels(cells)
    own = recipe.for_table(loss, rows=int((~held_out).sum()))
    return Task(path.stem, inputs, column, x, y, held_out, tuple(notes), own)


def _is_classes(cells: pl.Series) -> bool:
    if columns.is_whole(cells):
        return cells.n_unique() <= MOST_CLASSES
    return not columns.is_number(cells)


def _classes(
    target: str, cells: pl.Series, seed: int
) -> tuple[Category, np.ndarray, str]:
    """Return the column, which rows are held out, and the loss."""
    column = Category.fit(target, cells)
    if not column.varies:
        raise InputError(
            f"target {target!r} is always {column.values[0]!r}, so there is nothing to "
            f"learn: choose a target with at least two classes"
        )
    y = column.labels(cells)
    counts = np.bincount(y)
    if np.min(counts) < 2:
        single = column.values[int(np.argmin(counts))]
        raise InputError(
            f"each class needs at least 2 rows, one to learn from and one for the "
            f"score; {int(np.sum(counts < 2))} of the {len(counts)} classes in "
            f"{target!r} have one, such as {single!r}: add rows or join classes"
        )
    loss = "binary_cross_entropy" if column.outputs == 1 else "cross_entropy"
    return column, _held_out(y, seed), loss


def _quantity(
    target: str, cells: pl.Series, seed: int
) -> tuple[Number, np.ndarray, str]:
    """Return the column, which rows are held out, and the loss."""
    values = columns.numbers(target, cells)
    held_out = _held_out(np.zeros(len(values)), seed)
    column = Number.fit(target, values[~held_out])
    if not column.varies:
        raise InputError(
            f"target {target!r} is always {column.mean:g} in the rows to train on, so "
            f"there is nothing to learn: choose another target"
        )
    return column, held_out, "mean_squared_error"


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
    frame: pl.DataFrame, target: str, known: np.ndarray
) -> tuple[tuple[Column, ...], list[str]]:
    """Return the columns to learn from, and in words those that are left out."""
    inputs: list[Column] = []
    constant, names = [], []
    for name in frame.columns:
        if name == target:
            continue
        column = columns.fit_input(name, frame[name], known)
        if len(column.classes) > MOST_TEXTS:
            names.append(name)
        elif not column.varies:
            constant.append(name)
        else:
            inputs.append(column)
    left_out = []
    if constant:
        left_out.append(f"{listed(constant)} (the same in every row)")
    if names:
        left_out.append(
            f"{listed(names)} (text, more than {MOST_TEXTS} different values)"
        )
    return tuple(inputs), left_out
