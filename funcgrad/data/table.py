"""Tables: a CSV file, and the cells that are wanted of it.

A cell is text until a column is asked for as numbers, so what a column means never
depends on a guess made while reading.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from funcgrad.data.content import content
from funcgrad.errors import InputError, did_you_mean, listed

if TYPE_CHECKING:
    import polars as pl

# What people write for "not known".
_MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")

# With more, reading and fitting would take minutes.
_MOST_COLUMNS = 100_000


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
    cells = content(Path(path), "a CSV file")
    separator, names = _header(path, cells)
    try:
        table = pl.read_csv(cells, infer_schema=False, separator=separator)
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{path} is not a CSV table that can be read: {reason}: each line must "
            f"have as many cells as the first, and each quote its end"
        ) from error
    if table.width != len(names):
        raise InputError(
            f"{path} has lines that end in an unusual way: save it as a CSV file with "
            f"the line ends of this system"
        )
    table = table.select(pl.all().str.strip_chars())
    table.columns = names
    if not table.height:
        raise InputError(f"{path} has a header but no rows: add at least one row")
    return table


def _header(path: str | os.PathLike[str], cells: bytes) -> tuple[str, list[str]]:
    """Return the separator and the names, or say why they are not one per column."""
    if not cells.strip():
        raise InputError(
            f"{path} is empty: give a CSV table whose first line names the columns"
        )
    text = io.TextIOWrapper(io.BytesIO(cells), encoding="utf-8-sig", newline="")
    try:
        header = text.readline()
        separator = max(",;\t", key=header.count)
        if header.count(separator) >= _MOST_COLUMNS:
            raise InputError(
                f"{path} has {header.count(separator) + 1:,} columns, where at most "
                f"{_MOST_COLUMNS:,} can be read: leave some out"
            )
        text.seek(0)
        lines = csv.reader(text, delimiter=separator, strict=True)
        # A file that was joined of two may have a byte order mark too many.
        names = [name.strip().removeprefix("\ufeff") for name in next(lines)]
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not text in UTF-8: save it as a CSV file in UTF-8"
        ) from error
    except csv.Error as error:
        raise InputError(
            f"{path} has a first line that cannot be read: {error}: each quote must "
            f"have its end, and names be short"
        ) from error
    if not names:
        raise InputError(
            f"{path} has an empty first line: the first line must name every column"
        )
    if "" in names:
        raise InputError(
            f"{path} has no name for column {names.index('') + 1}: the first line must "
            f"name every column"
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"{path} has two columns named {twice[0]!r}: rename one")
    return separator, names


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
