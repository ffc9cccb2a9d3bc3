"""Tables: a CSV file, the kinds of its columns, and how they become numbers for a net.

A cell is text until a column is asked for as numbers, so what a column means never
depends on a guess made while reading.
"""

from __future__ import annotations

import csv
import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from funcgrad.errors import InputError

if TYPE_CHECKING:
    import polars as pl

# What people write for "not known".
_MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")

# A column in which at least this share of the cells are numbers is a column of numbers,
# and the other cells are mistakes in it; below, it is text that contains some digits.
_NUMBERS_FROM = 0.9


class Number(NamedTuple):
    """A column of numbers; the net sees (value - mean) / scale."""

    name: str
    mean: float
    scale: float


class Text(NamedTuple):
    """A column of text; the net sees a 1 at the place of the value, and 0 elsewhere."""

    name: str
    values: tuple[str, ...]


Column = Number | Text


def read_table(path: str | os.PathLike[str]) -> pl.DataFrame:
    """Return the table in a CSV file, every cell as text without spaces around it.

    The first line names the columns. Cells are separated by the most frequent of comma,
    semicolon and tab in it.
    """
    try:
        import polars as pl
    except ImportError as error:
        raise ImportError(
            'tables need polars, which is not installed: pip install "funcgrad[cli]"'
        ) from error
    path = Path(path)
    if not path.exists():
        raise InputError(f"there is no file {path}: check the path")
    if path.is_dir():
        raise InputError(f"{path} is a folder: give a CSV file")
    separator = _check_header(path)
    try:
        table = pl.read_csv(path, infer_schema=False, separator=separator)
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{path} is not a CSV table that can be read: {reason}"
        ) from error
    table = table.select(pl.all().str.strip_chars())
    table = table.rename({name: name.strip() for name in table.columns})
    if not table.height:
        raise InputError(f"{path} has a header but no rows: add at least one row")
    return table


def _check_header(path: Path) -> str:
    """Return the separator; raise unless the first line names each column once."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            header = file.readline()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not text in UTF-8: save it as a CSV file in UTF-8"
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if not header.strip():
        raise InputError(
            f"{path} is empty: give a CSV table whose first line names the columns"
        )
    separator = max(",;\t", key=header.count)
    names = [name.strip() for name in next(csv.reader([header], delimiter=separator))]
    if "" in names:
        raise InputError(
            f"{path} has no name for column {names.index('') + 1}: the first line must "
            f"name every column"
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path} has two columns named {twice!r}: rename one")
    return separator


def check_columns(table: pl.DataFrame, names: Iterable[str]) -> None:
    """Raise unless the table has every one of these columns, each cell filled."""
    absent = [name for name in names if name not in table.columns]
    if absent:
        raise InputError(
            f"the table has no column {listed(absent)}; it has {listed(table.columns)}"
            f"{_did_you_mean(absent[0], table.columns)}"
        )
    missing = {
        name: table[name].null_count() + table[name].is_in(_MISSING).sum()
        for name in names
    }
    if any(missing.values()):
        counts = [f"{n} in {name!r}" for name, n in missing.items() if n]
        raise InputError(
            f"the table has missing values, {', '.join(counts[:8])}"
            f"{' and more' if len(counts) > 8 else ''}: fill them in or leave these "
            f"rows out"
        )


def is_number(table: pl.DataFrame, name: str) -> bool:
    """Tell whether a column holds numbers, perhaps with a few mistakes among them."""
    import polars as pl

    bad = table[name].cast(pl.Float64, strict=False).null_count()
    return bad <= (1 - _NUMBERS_FROM) * table.height


def is_whole(table: pl.DataFrame, name: str) -> bool:
    """Tell whether every cell of a column is a number without a decimal point."""
    return bool(table[name].str.contains(r"^[+-]?\d+$").all())


def numbers(table: pl.DataFrame, name: str) -> np.ndarray:
    """Return a column as float64, or raise at the first cell that is not finite."""
    import polars as pl

    column = table[name].cast(pl.Float64, strict=False)
    if column.null_count():
        row = int(np.argmax(column.is_null().to_numpy()))
        raise InputError(
            f"column {name!r} must hold numbers, got {table[name][row]!r} in row "
            f"{row + 1}{_and_more(column.null_count())}: correct it or leave the row "
            f"out"
        )
    values = column.to_numpy()
    infinite = ~np.isfinite(values)
    if infinite.any():
        row = int(np.argmax(infinite))
        raise InputError(
            f"column {name!r} must hold finite numbers, got {table[name][row]} in row "
            f"{row + 1}{_and_more(int(infinite.sum()))}: correct it or leave the row "
            f"out"
        )
    return values


def texts(table: pl.DataFrame, name: str) -> np.ndarray:
    """Return a column as an array of `str` objects."""
    return table[name].to_numpy()


def standardised(name: str, values: np.ndarray) -> Number:
    """Return the column whose numbers get mean 0 and standard deviation 1.

    The scale is 0 where all values are equal.
    """
    if np.all(values == values[0]):
        return Number(name, float(values[0]), 0.0)
    with np.errstate(over="ignore"):
        mean, scale = float(np.mean(values)), float(np.std(values))
    if not np.isfinite(scale):
        raise InputError(f"column {name!r} has numbers too large to square: rescale it")
    return Number(name, mean, scale)


def classes(table: pl.DataFrame, name: str) -> Text:
    """Return the column with its different values, whole numbers in their order."""
    values = table[name].unique().to_list()
    key: Any = (lambda v: (int(v), v)) if is_whole(table, name) else None
    return Text(name, tuple(sorted(values, key=key)))


def encode(columns: Sequence[Column], table: pl.DataFrame) -> np.ndarray:
    """Return what the net sees: float32 of shape (rows, features).

    A number takes one feature, a text as many as it has values.
    """
    check_columns(table, [column.name for column in columns])
    parts = [
        ((numbers(table, c.name) - c.mean) / c.scale)[:, None]
        if isinstance(c, Number)
        else np.eye(len(c.values))[codes(table, c)]
        for c in columns
    ]
    with np.errstate(over="ignore"):
        x = np.concatenate(parts, axis=1).astype(np.float32)
    if not np.isfinite(x).all():
        row = int(np.argmin(np.isfinite(x).all(axis=1)))
        raise InputError(
            f"row {row + 1} has a number too far from those in training for float32: "
            f"correct it or leave the row out"
        )
    return x


def codes(table: pl.DataFrame, column: Text) -> np.ndarray:
    """Return the place of each cell among the column's values, or name a new one."""
    place = {value: i for i, value in enumerate(column.values)}
    cells = texts(table, column.name)
    unseen = [(i, cell) for i, cell in enumerate(cells) if cell not in place]
    if unseen:
        row, cell = unseen[0]
        raise InputError(
            f"column {column.name!r} must be one of {listed(column.values)}, as in "
            f"training, got {cell!r} in row {row + 1}{_and_more(len(unseen))}: correct "
            f"it, or train again with such rows"
        )
    return np.array([place[cell] for cell in cells], np.int32)


def width(columns: Sequence[Column]) -> int:
    """Return the number of features that these columns take."""
    return sum(1 if isinstance(c, Number) else len(c.values) for c in columns)


def listed(names: Sequence[str]) -> str:
    """Return the first few names in words."""
    shown = ", ".join(repr(name) for name in names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _and_more(count: int) -> str:
    return f" and {count - 1} more" if count > 1 else ""


def _did_you_mean(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f": did you mean {close[0]!r}?" if close else ""
