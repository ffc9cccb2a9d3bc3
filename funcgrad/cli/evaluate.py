"""`funcgrad evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from funcgrad.cli.options import Model
from funcgrad.cli.terminal import say
from funcgrad.data import Predictor, read_table


def evaluate(
    model: Model,
    table: Annotated[
        Path, typer.Argument(metavar="TABLE", help="A CSV file with the target in it.")
    ],
) -> None:
    """Score a trained net on a table that has the true values too."""
    predictor = Predictor.load(model)
    say(predictor.evaluate(read_table(table)).beside_a_guess())
