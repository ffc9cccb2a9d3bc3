"""`funcgrad train`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from funcgrad import plots, tasks
from funcgrad.cli.options import (
    Activation,
    BatchSize,
    Hidden,
    Optimizer,
    Target,
    What,
    choose,
)
from funcgrad.cli.output import say_plan, say_scores, say_written
from funcgrad.cli.progress import step_line
from funcgrad.cli.proof import gradient_line
from funcgrad.cli.terminal import say
from funcgrad.data import SEED
from funcgrad.tasks.recipe import check


def train(
    what: What,
    target: Target = None,
    hidden: Hidden = None,
    activation: Activation = None,
    optimizer: Optimizer = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="At the first step; it falls to a tenth by the last."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Updates to do.")] = None,
    batch_size: BatchSize = None,
    seed: Annotated[
        int, typer.Option(help="Draws points, held-out rows, weights and batches.")
    ] = SEED,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write.  [default: runs/WHAT]")
    ] = None,
) -> None:
    """Train a net on moons, xor or spirals, or on a CSV table.

    moons, xor and spirals are points in the plane, of two classes. Of a table, one
    column is learnt from all others: text or whole numbers as classes, other numbers
    as a quantity; a fifth of the rows is held out for the score.

    Options that are left out are chosen to suit the task, and printed. The model, its
    history and pictures go to a folder.
    """
    start = time.perf_counter()
    task = tasks.load(what, target, seed=seed)
    recipe = choose(
        task,
        hidden=hidden,
        activation=activation,
        optimizer=optimizer,
        learning_rate=learning_rate,
        steps=steps,
        batch_size=batch_size,
    )
    check(recipe, int(task.known.sum()))
    folder = Path("runs", task.name) if out is None else out
    tasks.check_folder(folder)
    rate = recipe.learning_rate
    say_plan(task, recipe, f"at {rate:g} falling to {rate / 10:g}")
    plots.start_early()
    plan = tasks.plan(task, recipe, seed=seed)
    x, y = plan.rows
    first_batch = x[: recipe.batch_size], y[: recipe.batch_size]
    report = gradient_line(plan.objective, plan.untrained.params, first_batch)
    for line in report.splitlines():
        say(line)
    with step_line(recipe.steps) as progress:
        trained = tasks.train(plan, progress=progress)
    files = tasks.write(folder, trained)
    say_scores(trained, "held out")
    say_written(files, folder, start)
