"""Tables: a CSV file, and the cells that are wanted of it.

A cell is text until a column is asked for as numbers, so what a column means never
depends on a guess made while reading.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from funcgrad.errors import InputError, did_you_mean, listed

if TYPE_CHECKING:
    import polars as pl

# What people write for "not known".
_MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")


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


def cells_of(table: Any, names: Sequence[str]) -> list[Any]:
    """Return the cells of the named columns, each filled, or say what is missing.

    `table` is a table or a mapping whose columns have these names, or an array (rows,
    columns) with these columns in this order.
    """
    by_name = isinstance(table, Mapping) or hasattr(table, "columns")
    if by_name:
        known = [str(name) for name in getattr(table, "columns", table)]
        absent = [name for name in names if name not in known]
        if absent:
            raise InputError(
                f"the table has no column {listed(absent)}; it has {listed(known)}"
                f"{did_you_mean(absent[0], known)}"
            )
        cells = [_as_cells(table[name]) for name in names]
    else:
        array = np.asarray(table)
        if array.ndim != 2 or array.shape[1] != len(names):
            raise InputError(
                f"an array must have shape (rows, {len(names)}), its columns "
                f"{listed(names)}, got shape {array.shape}"
            )
        cells = list(array.T)
    lengths = sorted({len(c) for c in cells})
    if len(lengths) > 1 or 0 in lengths:
        raise InputError(
            f"columns must have the same number of rows, at least one, got "
            f"{' and '.join(map(str, lengths))}"
        )
    _check_filled(dict(zip(names, cells, strict=True)))
    return cells


def _as_cells(column: Any) -> Any:
    return column if is_polars(column) else np.asarray(column)


def _check_filled(cells: Mapping[str, Any]) -> None:
    missing = {name: count for name, c in cells.items() if (count := _missing(c))}
    if missing:
        counts = [f"{count} in {name!r}" for name, count in missing.items()]
        raise InputError(
            f"the table has missing values, {', '.join(counts[:8])}"
            f"{' and more' if len(counts) > 8 else ''}: fill them in or leave these "
            f"rows out"
        )


def _missing(cells: Any) -> int:
    """Return how many cells nobody knows."""
    if is_polars(cells):
        import polars as pl

        is_text = cells.dtype == pl.String
        return cells.null_count() + (cells.is_in(_MISSING).sum() if is_text else 0)
    if cells.dtype.kind in "biu":
        return 0
    if cells.dtype.kind == "f":
        return int(np.isnan(cells).sum())
    return sum(c is None or c != c or c in _MISSING for c in cells.tolist())


def is_polars(cells: Any) -> bool:
    """Tell a polars Series from an array."""
    return hasattr(cells, "null_count")
