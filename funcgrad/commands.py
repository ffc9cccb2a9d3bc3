"""What `funcgrad` can be told to do: train, sweep, predict, evaluate, doctor."""

from __future__ import annotations

import difflib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from funcgrad import plots, run, search, tasks
from funcgrad.data import SEED
from funcgrad.errors import InputError
from funcgrad.predictor import (
    ACTIVATIONS,
    Predictor,
    load_predictor,
    make_outputs,
    net,
    predictions,
)
from funcgrad.run import OPTIMIZERS, PENALTY
from funcgrad.tables import Text, check_columns, codes, encode, numbers, read_table
from funcgrad.tasks import DRAWN, Recipe, Task
from funcgrad.training import Progress
from funcgrad.version import __version__

app = typer.Typer(
    help="Train tiny neural nets, and use them on tables.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


# Options that train and sweep share.
What = Annotated[
    str, typer.Argument(metavar="WHAT", help="moons, xor, spirals, or a CSV file.")
]
Target = Annotated[
    str | None, typer.Option(help="The column of the CSV file to predict.")
]
Hidden = Annotated[
    str | None, typer.Option(help="Neurons in each hidden layer, such as 16,16.")
]
Activation = Annotated[
    str | None, typer.Option(help=f"One of {', '.join(ACTIVATIONS)}.")
]
Optimizer = Annotated[str | None, typer.Option(help=f"One of {', '.join(OPTIMIZERS)}.")]
BatchSize = Annotated[int | None, typer.Option(help="Rows in each step's batch.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"funcgrad {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Show the version.",
        ),
    ] = False,
) -> None:
    pass


@app.command()
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
    _check_seed(seed)
    task = _task(what, target, seed)
    recipe = _recipe(
        task, hidden, activation, optimizer, learning_rate, steps, batch_size
    )
    folder = Path("runs", task.name) if out is None else out
    run.check_folder(folder)
    rate = recipe.learning_rate
    for line in _plan(task, recipe, f"at {rate:g} falling to {rate / 10:g}"):
        _say(line)
    plots.start_early()
    with _progress_line(recipe.steps) as progress:
        trained = run.train_task(task, recipe, seed, say=_say, progress=progress)
    files = run.write_run(folder, trained)
    _report(task, trained.outputs, "held out")
    _say_written(files, folder, start)


@app.command()
def sweep(
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
        Path | None, typer.Option(help="Folder to write.  [default: runs/WHAT-sweep]")
    ] = None,
) -> None:
    """Train a thousand nets at once, each with settings of its own; keep the best.

    Where an option says LOW..HIGH, one number is fine too, for all nets alike. The best
    net is saved as a model that predict takes, beside a table and a picture of all.
    """
    start = time.perf_counter()
    _check_seed(seed)
    if members < 1:
        raise InputError(f"--members must be at least 1, got {members}")
    given = {
        "learning_rate": search.parse_range("--learning-rate", learning_rate),
        "weight_decay": weight_decay
        and search.parse_range("--weight-decay", weight_decay),
        "momentum": momentum and search.parse_range("--momentum", momentum, below=1.0),
        "init_scale": init_scale and search.parse_range("--init-scale", init_scale),
    }
    ranges = {name: r for name, r in given.items() if isinstance(r, search.Range)}
    task = _task(what, target, seed)
    recipe = _recipe(task, hidden, activation, optimizer, None, steps, batch_size)
    folder = Path("runs", f"{task.name}-sweep") if out is None else out
    run.check_folder(folder)
    for line in _plan(task, recipe, "falling to a tenth"):
        _say(line)
    drawn = [f"{n.replace('_', ' ')} {r.low:g}..{r.high:g}" for n, r in ranges.items()]
    _say(f"sweep: {members:,} nets, {', '.join(drawn)}")
    with _members_line(members) as progress:
        searched = search.sweep_task(
            task, recipe, ranges, members, seed, progress=progress
        )
    files = search.write_sweep(folder, searched)
    for line in search.table(searched, 10):
        _say(line)
    diverged = int(np.sum(~np.isfinite(searched.scores)))
    if diverged:
        _say(f"{diverged:,} of {members:,} nets diverged")
    _report(task, searched.best.outputs, "held out, the rows that chose the net")
    _say_written(files, folder, start)


@app.command()
def predict(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A model.safetensors of train.")
    ],
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A CSV file.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write.  [default: the terminal]")
    ] = None,
) -> None:
    """Add what a trained net predicts for each row to a table, as CSV.

    The new columns are prediction and, for classes, probability (that of the class
    predicted; for a net trained with hinge, as on moons, score, whose sign decides).
    """
    from funcgrad.checkpoint import write_whole

    predictor, params = load_predictor(model)
    frame = read_table(table)
    outputs = make_outputs(net(predictor))(params, encode(predictor.inputs, frame))
    predicted = predictions(predictor, outputs)
    certainty = "score" if predictor.loss == "hinge" else "probability"
    new = {"prediction": predicted.values}
    if predicted.certainty is not None:
        new[certainty] = predicted.certainty
    taken = [name for name in new if name in frame.columns]
    if taken:
        raise InputError(
            f"{table} has a column {taken[0]!r} already, which predict would add: "
            f"rename it"
        )
    content = frame.with_columns(_series(name, new[name]) for name in new).write_csv()
    if out is None:
        print(content, end="")
        return
    try:
        write_whole(out, content.encode())
    except OSError as error:
        raise InputError(
            f"{out} cannot be written: {error.strerror}: choose another --out file"
        ) from error


@app.command()
def evaluate(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A model.safetensors of train.")
    ],
    table: Annotated[
        Path, typer.Argument(metavar="TABLE", help="A CSV file with the target in it.")
    ],
) -> None:
    """Score a trained net on a table that has the true values too."""
    predictor, params = load_predictor(model)
    frame = read_table(table)
    x, y = encode(predictor.inputs, frame), _true(predictor, frame)
    outputs = make_outputs(net(predictor))(params, x)
    print(run.summary(predictor.target, outputs, y))


@app.command()
def doctor() -> None:
    """Hold this device's compiled numbers against exact ones.

    Products on small integers must be right to the last bit, and gradients of small
    programs are proven. Prints each check; the exit code is 1 if one fails.
    """
    from funcgrad.testing.doctor import describe_device, examine

    for name, what in describe_device().items():
        _say(f"{name}: {what}")
    findings = []
    for finding in examine():
        findings.append(finding)
        _say(f"{'ok' if finding.ok else finding.verdict.upper():8s}  {finding.name}")
        if not finding.ok:
            _say(finding.detail)
    failed = [finding for finding in findings if not finding.ok]
    if not failed:
        _say(f"all {len(findings)} checks passed: compiled numbers can be trusted here")
        return
    _say(f"{len(failed)} of {len(findings)} checks failed; what to do:")
    for advice in dict.fromkeys(finding.advice for finding in failed):
        _say(f"- {advice}")
    raise typer.Exit(1)


def _true(predictor: Predictor, frame: Any) -> np.ndarray:
    target = predictor.target
    check_columns(frame, [target.name])
    if isinstance(target, Text):
        return codes(frame, target)
    return (numbers(frame, target.name) - target.mean) / target.scale


def _say(line: str) -> None:
    print(line, flush=True)


def _report(task: Task, outputs: np.ndarray, held_out: str) -> None:
    """Say how good the net is on the rows of training, and on those `held_out`."""
    for name, rows in {"training": ~task.held_out, held_out: task.held_out}.items():
        if rows.any():
            result = run.summary(task.target, outputs[rows], task.y[rows])
            _say(f"{name}: {result}")


def _say_written(files: Iterable[str], folder: Path, start: float) -> None:
    seconds = time.perf_counter() - start
    _say(f"wrote {', '.join(files)} to {folder} after {seconds:.1f} s in all")


def _series(name: str, values: Any) -> Any:
    import polars as pl

    return pl.Series(
        name, values, dtype=None if values.dtype.kind == "f" else pl.String
    )


def _task(what: str, target: str | None, seed: int) -> Task:
    if what in DRAWN:
        if target is not None:
            raise InputError(
                f"{what} has a target of its own, got --target {target}: leave it out"
            )
        return tasks.drawn_task(what, seed)
    if not Path(what).exists() and not Path(what).suffix:
        close = difflib.get_close_matches(what, DRAWN, n=1)
        raise InputError(
            f"{what!r} is neither one of {', '.join(DRAWN)} nor a CSV file"
            f"{f': did you mean {close[0]}?' if close else ''}"
        )
    return tasks.table_task(what, target, seed)


def _recipe(
    task: Task,
    hidden: str | None,
    activation: str | None,
    optimizer: str | None,
    learning_rate: float | None,
    steps: int | None,
    batch_size: int | None,
) -> Recipe:
    """Return the task's recipe with what the user wants instead, all of it checked."""
    recipe = task.recipe
    if hidden is not None:
        recipe = recipe._replace(hidden=_sizes(hidden))
    if activation is not None:
        _check_name("--activation", activation, ACTIVATIONS)
        recipe = recipe._replace(activation=activation)
    if optimizer is not None:
        _check_name("--optimizer", optimizer, OPTIMIZERS)
        recipe = recipe._replace(optimizer=optimizer)
    if learning_rate is not None:
        if not 0 < learning_rate < math.inf:
            raise InputError(
                f"--learning-rate must be a finite number above 0, "
                f"got {learning_rate:g}"
            )
        recipe = recipe._replace(learning_rate=learning_rate)
    if steps is not None:
        if steps < 1:
            raise InputError(f"--steps must be at least 1, got {steps}")
        recipe = recipe._replace(steps=steps)
    if batch_size is not None:
        rows = int((~task.held_out).sum())
        if not 1 <= batch_size <= rows:
            raise InputError(
                f"--batch-size must be from 1 to the {rows} rows to train on, got "
                f"{batch_size}"
            )
        recipe = recipe._replace(batch_size=batch_size)
    return recipe


def _sizes(hidden: str) -> tuple[int, ...]:
    sizes = [part.strip() for part in hidden.split(",")]
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise InputError(
            f"--hidden must be whole numbers above 0, one for each hidden layer, such "
            f"as 16,16, got {hidden!r}"
        )
    return tuple(int(size) for size in sizes)


def _check_name(option: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise InputError(f"{option} must be one of {', '.join(known)}, got {name!r}")


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise InputError(f"--seed must be from 0 to {2**32 - 1}, got {seed}")


def _plan(task: Task, recipe: Recipe, rate: str) -> Iterator[str]:
    predictor = run.make_predictor(task, recipe)
    sizes = predictor.sizes
    count = sum((n + 1) * m for n, m in pairwise(sizes))
    held_out = int(task.held_out.sum())
    target = (
        f"{len(task.target.values)} classes of {task.target.name!r}"
        if isinstance(task.target, Text)
        else f"the quantity {task.target.name!r}"
    )
    split = f", {held_out:,} of them held out" if held_out else ""
    yield f"{task.name}: {len(task.x):,} rows{split}; {target}"
    yield from task.notes
    yield f"net: {'-'.join(map(str, sizes))} {recipe.activation}, {count:,} parameters"
    rows = "all rows" if recipe.batch_size is None else f"{recipe.batch_size} rows"
    yield (
        f"training: {recipe.loss.replace('_', ' ')} + {PENALTY:g} l2, "
        f"{recipe.optimizer} {rate}, {recipe.steps:,} steps of {rows}"
    )


@contextmanager
def _progress_line(steps: int) -> Iterator[Callable[[Progress, str], None]]:
    """Show a line on stderr that follows the run, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Line

    line = Line(
        TextColumn("step {task.completed:,}/{task.total:,}"),
        BarColumn(bar_width=20),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        auto_refresh=False,
    )
    bar = line.add_task("", total=steps)

    def show(now: Progress, score: str) -> None:
        text = (
            f"loss {now.loss:.4g}  {score}  {now.steps_per_second:,.0f} steps/s  "
            f"{now.seconds_left:,.0f} s left"
        )
        line.update(bar, completed=now.done, description=text, refresh=True)

    line.disable = not line.console.is_terminal
    with line:
        yield show


@contextmanager
def _members_line(members: int) -> Iterator[Callable[[int, int], None]]:
    """Show a line on stderr that counts the nets that are done, if on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Line

    line = Line(
        TextColumn("net {task.completed:,}/{task.total:,}"),
        BarColumn(bar_width=20),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        auto_refresh=False,
    )
    bar = line.add_task("", total=members)
    line.disable = not line.console.is_terminal
    with line:
        yield lambda done, _: line.update(bar, completed=done, refresh=True)
