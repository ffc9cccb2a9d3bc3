"""`funcgrad predict`."""

from pathlib import Path
from typing import Annotated

import typer

from funcgrad.cli.options import Model
from funcgrad.data import Predictor, read_table
from funcgrad.errors import InputError
from funcgrad.files import write_whole


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
    """
    import polars as pl

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
        print(content, end="")
        return
    try:
        write_whole(out, content.encode())
    except OSError as error:
        raise InputError(
            f"{out} cannot be written: {error.strerror}: choose another --out file"
        ) from error
