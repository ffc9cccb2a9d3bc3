"""`funcgrad sweep`."""

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from funcgrad import tasks
from funcgrad.cli.options import (
    Activation,
    BatchSize,
    Hidden,
    Optimizer,
    Overwrite,
    Target,
    What,
    choose,
    folder_of,
)
from funcgrad.cli.output import plan_lines, score_lines, with_command, written_line
from funcgrad.cli.progress import member_line
from funcgrad.cli.terminal import say
from funcgrad.data import SEED
from funcgrad.errors import InputError
from funcgrad.tasks import Range, Swept
from funcgrad.tasks.recipe import check

_SHOWN = 10  # members in the table on the terminal


def sweep(
    context: typer.Context,
    what: What,
    target: Target = None,
    members: Annotated[int, typer.Option(help="Nets to train.")] = 1000,
    learning_rate: Annotated[
        str, typer.Option(help="LOW..HIGH, drawn evenly in the logarithm.")
    ] = "1e-4..1e-1",
    weight_decay: Annotated[
        str | None, typer.Option(help="LOW..HIGH, drawn evenly in the logarithm.")
    ] = None,
    momentum: Annotated[
        str | None, typer.Option(help="LOW..HIGH, drawn evenly; Adam's b1.")
    ] = None,
    init_scale: Annotated[
        str | None, typer.Option(help="LOW..HIGH, a factor on the first weights.")
    ] = None,
    hidden: Hidden = None,
    activation: Activation = None,
    optimizer: Optimizer = None,
    steps: Annotated[int | None, typer.Option(help="Updates of each net.")] = None,
    batch_size: BatchSize = None,
    seed: Annotated[
        int, typer.Option(help="Draws hyper-parameters, rows, weights and batches.")
    ] = SEED,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write.  [default: runs/WHAT-sweep, or a new one]"),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a thousand nets at once, each with settings of its own; keep the best.

    Where an option says LOW..HIGH, one number is fine too, for all nets alike. The best
    net is saved as a model that predict takes, beside a table and a picture of all.
    """
    start = time.perf_counter()
    given = {
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "momentum": momentum,
        "init_scale": init_scale,
    }
    ranges = {
        name: parse_range(name, text, below=1.0 if name == "momentum" else np.inf)
        for name, text in given.items()
        if text is not None
    }
    if members < 1:
        raise InputError(f"must be at least 1, got {members}", "members")
    task = tasks.load(what, target, seed=seed)
    recipe = choose(
        task,
        hidden=hidden,
        activation=activation,
        optimizer=optimizer,
        steps=steps,
        batch_size=batch_size,
    )
    check(recipe, int(task.known.sum()))
    name = f"{task.name}-sweep"
    tasks.check_folder(folder_of(name, out), overwrite=overwrite)
    say(*plan_lines(task, recipe, "falling to a tenth"))
    drawn = [f"{n.replace('_', ' ')} {r.low:g}..{r.high:g}" for n, r in ranges.items()]
    say(f"sweep: {members:,} nets, {', '.join(drawn)}")
    with member_line(members) as progress:
        swept = tasks.sweep(
            task, ranges, recipe, members=members, seed=seed, progress=progress
        )
    swept = swept._replace(best=with_command(context.obj, swept.best))
    # Chosen once more: another run may have come to have that name meanwhile.
    folder = folder_of(name, out)
    files = tasks.write_sweep(folder, swept)
    _say_best(swept)
    diverged = int(np.sum(~np.isfinite(swept.scores)))
    if diverged:
        say(f"{diverged:,} of {members:,} nets diverged")
    say(*score_lines(swept.best, "held out, the rows that chose the net"))
    say(written_line(files, folder, start))


def parse_range(argument: str, text: str, *, below: float = np.inf) -> Range:
    """Return the range that `text` means: one number above 0, or LOW..HIGH."""
    parts = text.split("..")
    try:
        low, high = float(parts[0]), float(parts[-1])
    except ValueError:
        low = high = np.nan
    if len(parts) > 2 or not 0 < low <= high < below:
        limit = "" if below == np.inf else f" and below {below:g}"
        raise InputError(
            f"must be one number above 0{limit}, or two as LOW..HIGH, such as "
            f"{'0.5..0.9' if limit else '1e-4..1e-1'}, got {text!r}",
            argument,
        )
    return Range(low, high, in_log=below == np.inf)


def _say_best(swept: Swept) -> None:
    """Say the best members as a table, a header first."""
    names = list(swept.hyper)
    say("  ".join(f"{name:>13}" for name in ("place", "loss", *names)))
    for place, member in enumerate(swept.order[:_SHOWN], 1):
        values = [swept.scores[member], *(swept.hyper[n][member] for n in names)]
        say("  ".join([f"{place:>13}", *(f"{value:>13.4g}" for value in values)]))
