"""`funcgrad predict`."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from funcgrad.cli.options import Model
from funcgrad.cli.terminal import emit
from funcgrad.data import Predictor, read_table
from funcgrad.errors import InputError, shown
from funcgrad.files import check_writable, write_whole


def predict(
    model: Model,
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A CSV file.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write.  [default: the terminal]")
    ] = None,
) -> None:
    """Add what a trained net predicts for each row to a table, as CSV.

    The new columns are prediction and, for classes, probability (that of the class
    predicted; for a net trained with hinge, as on moons, score, whose sign decides).
    On a terminal, control characters in cells are shown as escapes.
    """
    import polars as pl

    if out is not None:
        with _writable(out):
            check_writable(out)
        if out.exists() and out.samefile(model):
            raise InputError(f"{out} is the model: choose another --out file")
    predictor = Predictor.load(model)
    frame = read_table(table)
    values, certainty = predictor.predict(frame)
    new = {"prediction": pl.Series(values.tolist())}
    if certainty is not None:
        new["score" if predictor.loss == "hinge" else "probability"] = pl.Series(
            certainty
        )
    taken = [name for name in new if name in frame.columns]
    if taken:
        raise InputError(
            f"{table} has a column {taken[0]!r} already, which predict would add: "
            f"rename it"
        )
    content = frame.with_columns(**new).write_csv()
    if out is None:
        _print(content)
        return
    with _writable(out):
        write_whole(out, content.encode())


def _print(content: str) -> None:
    """Print CSV: to a person such that it is safe, to a file or program as it is."""
    stdout = sys.stdout
    if stdout is not None and stdout.isatty():
        content = "\n".join(shown(line, most=None) for line in content.split("\n"))
    elif isinstance(stdout, io.TextIOWrapper):
        # As in a file of --out, and as read_table takes it.
        stdout.reconfigure(encoding="utf-8")
    emit(content, stdout)


@contextmanager
def _writable(out: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        pass  # whoever reads /dev/stdout, such as head, has seen enough
    except OSError as error:
        raise InputError(
            f"{out} cannot be written: {error.strerror}: choose another --out file"
        ) from error
