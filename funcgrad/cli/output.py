"""What train and sweep say before a run and after it."""

import time
from collections.abc import Iterable
from pathlib import Path

from funcgrad.cli.terminal import say
from funcgrad.data.predictor import count_parameters
from funcgrad.tasks import Recipe, Task, Trained
from funcgrad.tasks.recipe import PENALTY
from funcgrad.tasks.training import net_sizes


def say_plan(task: Task, recipe: Recipe, rate: str) -> None:
    """Say what is learnt, by which net, and how, with the learning rate in words."""
    sizes = net_sizes(task, recipe)
    held_out = int(task.held_out.sum())
    split = f", {held_out:,} of them held out" if held_out else ""
    say(f"{task.name}: {len(task.x):,} rows{split}; {task.target.describe()}")
    for note in task.notes:
        say(note)
    say(
        f"net: {'-'.join(map(str, sizes))} {recipe.activation}, "
        f"{count_parameters(sizes):,} parameters"
    )
    rows = "all rows" if recipe.batch_size is None else f"{recipe.batch_size} rows"
    say(
        f"training: {recipe.loss.replace('_', ' ')} + {PENALTY:g} l2, "
        f"{recipe.optimizer} {rate}, {recipe.steps:,} steps of {rows}"
    )


def say_scores(trained: Trained, held_out: str) -> None:
    """Say how good the net is on the rows of training, and on those `held_out`."""
    task = trained.task
    for name, rows in {"training": task.known, held_out: task.held_out}.items():
        if rows.any():
            say(f"{name}: {trained.score(rows).beside_a_guess()}")


def say_written(files: Iterable[str], folder: Path, start: float) -> None:
    """Say what was written, and how long all took since `start`."""
    seconds = time.perf_counter() - start
    say(f"wrote {', '.join(files)} to {folder} after {seconds:.1f} s in all")
