"""What train and sweep say before a run and after it."""

import json
import math
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from funcgrad.cli.proof import Proof
from funcgrad.data.predictor import count_parameters
from funcgrad.tasks import Plan, Recipe, Task, Trained
from funcgrad.tasks.recipe import PENALTY
from funcgrad.tasks.training import net_sizes


def plan_lines(task: Task, recipe: Recipe, rate: str) -> list[str]:
    """Return what is learnt, by which net, and how, with the learning rate in words."""
    sizes = net_sizes(task, recipe)
    held_out = int(task.held_out.sum())
    split = f", {held_out:,} of them held out" if held_out else ""
    rows = "all rows" if recipe.batch_size is None else f"{recipe.batch_size} rows"
    return [
        f"{task.name}: {len(task.x):,} rows{split}; {task.target.describe()}",
        *task.notes,
        f"net: {'-'.join(map(str, sizes))} {recipe.activation}, "
        f"{count_parameters(sizes):,} parameters",
        f"training: {recipe.loss.replace('_', ' ')} + {PENALTY:g} l2, "
        f"{recipe.optimizer} {rate}, {recipe.steps:,} steps of {rows}",
    ]


def end_lines(plan: Plan) -> list[str]:
    """Return on which rows a run is watched, and what may end it early."""
    lines = []
    if plan.validation is not None:
        patience = (
            f", until {plan.patience:,} looks in a row are not better"
            if plan.patience is not None
            else ""
        )
        lines.append(
            f"validation: {len(plan.validation[0]):,} of the rows, not trained on, "
            f"looked at every {plan.every:,} steps{patience}"
        )
    if plan.seconds is not None:
        lines.append(f"at most {plan.seconds:g} s of training")
    return lines


def score_lines(trained: Trained, held_out: str) -> list[str]:
    """Return how good the net is on each part of the rows."""
    names = {"training": "training", "validation": "validation", "held_out": held_out}
    return [
        f"{names[part]}: {trained.score(rows).beside_a_guess()}"
        for part, rows in _parts(trained.task).items()
    ]


def written_line(files: Sequence[str], folder: Path, start: float) -> str:
    """Return what was written, and how long all took since `start`."""
    seconds = time.perf_counter() - start
    return f"wrote {', '.join(files)} to {folder} after {seconds:.1f} s in all"


def command_line(arguments: Sequence[str]) -> dict[str, str]:
    """Return what a model's provenance tells of the command that made it."""
    return {"command": shlex.join(["funcgrad", *arguments])}


def with_command(arguments: Sequence[str], trained: Trained) -> Trained:
    """Return the run whose model tells by which command it was made."""
    made = command_line(arguments)
    predictor = trained.predictor
    return trained._replace(
        predictor=predictor._replace(provenance=made | dict(predictor.provenance))
    )


def as_json(
    plan: Plan,
    proof: Proof,
    trained: Trained,
    files: Sequence[str],
    folder: Path,
    start: float,
) -> str:
    """Return all that train says as a JSON object on one line.

    What is no finite number, as an R² of equal values, is null.
    """
    task, recipe, looks = plan.task, plan.recipe, trained.history.looks
    parts = _parts(task)
    draw = recipe.initializer
    facts = {
        "task": task.name,
        "target": task.target.name,
        "notes": task.notes,
        "rows": {part: int(rows.sum()) for part, rows in parts.items()},
        "sizes": plan.untrained.sizes,
        "parameters": count_parameters(plan.untrained.sizes),
        "recipe": recipe._asdict()
        | {"initializer": None if draw is None else draw.__name__},
        "seed": plan.seed,
        "gradients": proof._asdict(),
        "steps": trained.steps,
        "best_step": trained.best_step,
        "training_seconds": float(looks["seconds"][-1]),
        "seconds": time.perf_counter() - start,
        "scores": {part: trained.score(r)._asdict() for part, r in parts.items()},
        "files": files,
        "folder": str(folder),
    }
    return json.dumps(finite(facts), allow_nan=False)


def _parts(task: Task) -> dict[str, np.ndarray]:
    """Return the parts that the rows are in, those without rows left out."""
    none = np.zeros(len(task.x), bool)
    parts = {
        "training": task.known,
        "validation": none if task.validation is None else task.validation,
        "held_out": task.held_out,
    }
    return {part: rows for part, rows in parts.items() if rows.any()}


def finite(value: Any) -> Any:
    """Return it with None in place of numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    is_odd = isinstance(value, float) and not math.isfinite(value)
    return None if is_odd else value
