"""`funcgrad train`."""

import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from funcgrad import hosts, plots, tasks
from funcgrad.cli.options import (
    Activation,
    BatchSize,
    Cluster,
    Coordinator,
    Heartbeat,
    Hidden,
    Optimizer,
    Overwrite,
    Process,
    Processes,
    Target,
    choose,
    folder_of,
)
from funcgrad.cli.output import (
    as_json,
    end_lines,
    plan_lines,
    score_lines,
    with_command,
    written_line,
)
from funcgrad.cli.progress import step_line
from funcgrad.cli.proof import prove
from funcgrad.cli.running import (
    folder_for,
    join_hosts,
    tell_end,
    tell_proof,
    to_its_end,
)
from funcgrad.cli.terminal import Stopped, emit, nothing_written, say, tell_nobody
from funcgrad.cli.train_text import train_text
from funcgrad.data import SEED
from funcgrad.errors import InputError
from funcgrad.tasks.recipe import check


def train(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="moons, xor, spirals, a CSV file; pydoc, or a text file.",
        ),
    ],
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
    lines: Annotated[
        bool,
        typer.Option("--lines", help="Of a text file, each line is an example."),
    ] = False,
    length: Annotated[
        int | None,
        typer.Option("--context", help="Of text: tokens that the net reads at most."),
    ] = None,
    width: Annotated[int | None, typer.Option(help="Of text: the net's.")] = None,
    layers: Annotated[int | None, typer.Option(help="Of text: the net's.")] = None,
    heads: Annotated[int | None, typer.Option(help="Of text: in a layer.")] = None,
    validation: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Of the rows of training: watch the loss on them, and do not train "
            "on them.",
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Stop where validation did not get better in N looks, and keep the "
            "best.",
        ),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Stop after so long a training.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Draws points, rows to keep, weights and batches.")
    ] = SEED,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write.  [default: runs/WHAT, or a new one]"),
    ] = None,
    overwrite: Overwrite = False,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Keep checkpoints, of each N steps, to go on from with --resume.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on from the checkpoints in --out, or in the last of runs/WHAT.",
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Say nothing but what went wrong.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object in place of lines.")
    ] = False,
    coordinator: Coordinator = None,
    processes: Processes = None,
    process: Process = None,
    cluster: Cluster = False,
    heartbeat: Heartbeat = 20,
) -> None:
    """Train a net on moons, xor or spirals, on a CSV table, or on text.

    moons, xor and spirals are points in the plane, of two classes. Of a table, one
    column is learnt from all others: text or whole numbers as classes, other numbers
    as a quantity; a fifth of the rows is held out for the score.

    pydoc is the documentation of Python that it carries; it and a file FILE.txt teach a
    GPT to write, which funcgrad sample then lets do so. A tenth is held out.

    Options that are left out are chosen to suit the task, and printed. The model, its
    history and pictures go to a folder. Ctrl-C ends the training, and what was reached
    is written.

    On several hosts the same line is started on each, with --process 0, 1, and so on:
    process 0 prints and writes. The run keeps checkpoints, and where a process is lost
    or SIGTERM comes all end, with the exit code 75: --resume goes on, on any number.
    """
    start = time.perf_counter()
    if quiet and json:
        raise InputError("cannot be with --quiet: leave one of them out", "json")
    is_shared = join_hosts(
        coordinator, processes, process, cluster=cluster, heartbeat=heartbeat
    )
    is_first = hosts.is_first()
    of_tables = {
        "target": target, "hidden": hidden, "activation": activation,
        "optimizer": optimizer, "validation": validation,
    }  # fmt: skip
    of_text = {
        "context": length, "width": width, "layers": layers, "heads": heads,
    }  # fmt: skip
    if lines or tasks.is_text(what):
        _refuse(of_tables, f"{what} is learnt as text")
        train_text(
            context.obj, what, lines,
            sizes=of_text, learning_rate=learning_rate, steps=steps,
            batch_size=batch_size, patience=patience, seconds=seconds, seed=seed,
            out=out, overwrite=overwrite, checkpoint_every=checkpoint_every,
            resume=resume, is_shared=is_shared, quiet=quiet, json=json, start=start,
        )  # fmt: skip
        return
    _refuse(of_text, f"{what} is no text")
    tell = say if is_first and not (quiet or json) else tell_nobody
    with nothing_written():
        with hosts.together():
            task = tasks.load(what, target, seed=seed)
            if validation is not None:
                task = tasks.set_aside(task, validation, seed=seed)
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
        keeps = resume or checkpoint_every is not None or is_shared
        folder = folder_for(
            task.name, out, overwrite=overwrite, resume=resume, keeps=keeps
        )
        plots.start_early()
        with hosts.together():
            plan = tasks.plan(
                task,
                recipe,
                seed=seed,
                patience=patience,
                seconds=seconds,
                every=checkpoint_every,
            )
        rate = recipe.learning_rate
        tell(*plan_lines(task, recipe, f"at {rate:g} falling to {rate / 10:g}"))
        tell(*end_lines(plan))
        x, y = plan.rows
        first_batch = x[: recipe.batch_size], y[: recipe.batch_size]
        proof = prove(plan.objective, plan.untrained.params, first_batch)
        tell_proof(proof, tell, quiet=quiet)
        is_shown = is_first and not quiet
        with step_line(recipe.steps) if is_shown else nullcontext() as progress:
            trained, stopped = to_its_end(
                lambda: tasks.train(
                    plan,
                    progress=progress,
                    folder=folder if keeps else None,
                    resume=resume,
                    is_shared=is_shared,
                )
            )
    tell_end(trained, recipe.steps, tell, stopped=stopped)
    trained = with_command(context.obj, trained)
    if not keeps:  # chosen once more: another run may have come to have that name
        folder = folder_of(task.name, out)
    files = hosts.first_does(
        "the files of the run", lambda: tasks.write(folder, trained)
    )
    tell(*score_lines(trained, "held out"))
    tell(written_line(files or [], folder, start))
    if json and is_first:
        emit(
            as_json(plan, proof, trained, files or [], folder, start) + "\n", sys.stdout
        )
    if stopped:
        raise Stopped


def _refuse(options: Mapping[str, Any], why: str) -> None:
    """Raise if one of the options was given."""
    for name, value in options.items():
        if value is not None:
            raise InputError(f"must be left out, as {why}, got {value!r}", name)
