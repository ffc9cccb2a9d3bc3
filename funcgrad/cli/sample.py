"""`funcgrad sample`."""

import sys
from typing import Annotated

import typer

from funcgrad.cli.options import Model
from funcgrad.cli.terminal import emit
from funcgrad.data import Writer
from funcgrad.errors import shown


def sample(
    model: Model,
    prompt: Annotated[str, typer.Option(help="What the text begins with.")] = "",
    length: Annotated[int, typer.Option(help="Tokens to write.")] = 500,
    temperature: Annotated[
        float,
        typer.Option(help="1 draws as the model learnt, 0 takes the likeliest."),
    ] = 1.0,
    top_k: Annotated[
        int | None, typer.Option(help="Draw among so many of the likeliest tokens.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the tokens.")] = 0,
) -> None:
    """Let a net that was trained on text write some, after the prompt.

    One that was trained on lines writes one line. On a terminal, control characters are
    shown as escapes.
    """
    writer = Writer.load(model)
    said = prompt + writer.write(
        prompt, length, temperature=temperature, top_k=top_k, seed=seed
    )
    if sys.stdout is not None and sys.stdout.isatty():
        said = "\n".join(shown(line, most=None) for line in said.split("\n"))
    emit(f"{said}\n", sys.stdout)
