"""One run of `funcgrad train`: check the gradients, train, score, write a folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from funcgrad import plots
from funcgrad.crosscheck import gradient_line
from funcgrad.errors import InputError
from funcgrad.predictor import (
    Predictor,
    classes_of,
    make_outputs,
    net,
    penalised_loss,
    predictions,
    save_predictor,
)
from funcgrad.tables import Number, Text, width
from funcgrad.tasks import Recipe, Task
from funcgrad.training import DivergedError, Fit, Progress, fit

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "adam": optax.adam,
    "adamw": optax.adamw,
    "rmsprop": optax.rmsprop,
}

# The weight of the sum of all squared parameters in the objective; micrograd's.
PENALTY = 1e-4

# Rows of the training part that the progress line's score looks at.
_WATCHED_ROWS = 4096

# Every file that a run may write, so that a new run leaves none of an old one's.
FILES = (
    "model.safetensors",
    "history.csv",
    "loss.png",
    "boundary.png",
    "confusion.png",
    "predicted.png",
)


class Trained(NamedTuple):
    """A run that ended: all that is needed to report it and to write it."""

    task: Task
    recipe: Recipe
    predictor: Predictor
    params: Any
    history: Any
    outputs: np.ndarray
    outputs_of: Callable[[Any, np.ndarray], np.ndarray]


def make_predictor(task: Task, recipe: Recipe) -> Predictor:
    """Return the net that the recipe describes for the columns of the task."""
    classes = len(task.target.values) if isinstance(task.target, Text) else 1
    outputs = 1 if classes <= 2 else classes
    sizes = (width(task.inputs), *recipe.hidden, outputs)
    return Predictor(sizes, recipe.activation, recipe.loss, task.inputs, task.target)


def train_task(
    task: Task,
    recipe: Recipe,
    seed: int,
    *,
    say: Callable[[str], None],
    progress: Callable[[Progress, str], None],
) -> Trained:
    """Train the task's net by the recipe, and tell the story on the way.

    `say` gets whole lines, `progress` where the run stands and the score so far.
    """
    predictor = make_predictor(task, recipe)
    model = net(predictor, recipe.initializer)
    objective = penalised_loss(predictor, model, PENALTY)
    training = ~task.held_out
    rows = (task.x[training], task.y[training])
    init_seed, batch_seed = np.random.SeedSequence(seed).generate_state(2)
    # Run once, so not worth optimising: 0.25 s to compile instead of 0.55.
    draw = jax.jit(
        lambda s: model.init(jax.random.key(s)),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    params = draw(init_seed)
    first_batch = jax.tree.map(lambda a: a[: recipe.batch_size], rows)
    say(gradient_line(objective, params, first_batch))

    outputs_of = make_outputs(model)
    watched = jax.tree.map(lambda a: a[:_WATCHED_ROWS], rows)

    # Compiled here, so that the speed shown is that of the steps alone.
    outputs_of(params, watched[0])

    def report(now: Progress) -> None:
        outputs = outputs_of(now.state.params, watched[0])
        progress(now, score(task.target, outputs, watched[1]))

    optimizer = OPTIMIZERS[recipe.optimizer](
        optax.linear_schedule(
            recipe.learning_rate, recipe.learning_rate / 10, recipe.steps
        )
    )
    try:
        run: Fit = fit(
            objective,
            optimizer,
            params,
            rows,
            steps=recipe.steps,
            batch_size=recipe.batch_size,
            key=jax.random.key(batch_seed) if recipe.batch_size else None,
            progress=report,
        )
    except DivergedError as error:
        raise InputError(
            f"the loss was no longer a finite number at step "
            f"{len(error.fit.history.loss)}: lower --learning-rate, now "
            f"{recipe.learning_rate:g}"
        ) from error
    outputs = outputs_of(run.state.params, task.x)
    return Trained(
        task, recipe, predictor, run.state.params, run.history, outputs, outputs_of
    )


def score(target: Any, outputs: np.ndarray, y: np.ndarray) -> str:
    """Return how good the outputs are, in a few words."""
    if isinstance(target, Text):
        return f"accuracy {100 * accuracy(outputs, y):.1f} %"
    return f"R² {r_squared(outputs, y):.3f}"


def accuracy(outputs: np.ndarray, y: np.ndarray) -> float:
    """Return the share of rows whose class is predicted, from 0 to 1."""
    return float(np.mean(classes_of(outputs) == y))


def r_squared(outputs: np.ndarray, y: np.ndarray) -> float:
    """Return 1 - mean squared error / variance of `y`; the mean alone scores 0."""
    error = np.mean((outputs[:, 0].astype(np.float64) - y) ** 2)
    return float(1 - error / np.var(y.astype(np.float64)))


def summary(target: Any, outputs: np.ndarray, y: np.ndarray) -> str:
    """Return the score with what a guess without the net would score."""
    if isinstance(target, Text):
        commonest = 100 * np.max(np.bincount(y)) / len(y)
        return (
            f"{score(target, outputs, y)} on {len(y):,} rows (always guessing the "
            f"commonest class: {commonest:.1f} %)"
        )
    error = target.scale * np.sqrt(np.mean((outputs[:, 0].astype(float) - y) ** 2))
    spread = target.scale * np.std(y.astype(float))
    return (
        f"{score(target, outputs, y)} on {len(y):,} rows, root mean squared error "
        f"{error:.4g} (always guessing the mean: {spread:.4g})"
    )


def check_folder(folder: Path) -> None:
    """Raise before any work is done if the run's folder could not be written."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: choose another --out folder")
    existing = _existing(folder)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(
            f"the folder {folder} cannot be written, as {existing} does not allow it: "
            f"choose another --out folder"
        )


def write_run(folder: Path, trained: Trained) -> list[str]:
    """Write model, history and pictures to `folder`; return the files' names.

    All are made in a temporary folder first and then moved, so that no run is left
    half written; other files in `folder` stay.
    """
    try:
        with tempfile.TemporaryDirectory(
            prefix=".funcgrad-", dir=_existing(folder)
        ) as temporary:
            stage = Path(temporary)
            history = trained.history
            lines = [
                f"{step},{loss!r}"
                for step, loss in zip(
                    history.step.tolist(), history.loss.tolist(), strict=True
                )
            ]
            save_predictor(
                stage / "model.safetensors", trained.predictor, trained.params
            )
            (stage / "history.csv").write_text("\n".join(["step,loss", *lines]) + "\n")
            for name, figure in _pictures(trained).items():
                (stage / name).write_bytes(plots.png(figure))
            written = [name for name in FILES if (stage / name).exists()]
            folder.mkdir(parents=True, exist_ok=True)
            for name in FILES:
                if name in written:
                    os.replace(stage / name, folder / name)
                else:
                    (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder {folder} cannot be written: {error.strerror}: choose another "
            f"--out folder"
        ) from error
    return written


def _pictures(trained: Trained) -> dict[str, Any]:
    task, target = trained.task, trained.task.target
    history = trained.history
    figures = {
        "loss.png": plots.loss_curve(
            history.step, history.loss, f"{task.name}: loss at each step"
        )
    }
    scored = task.held_out if task.held_out.any() else np.ones(len(task.y), bool)
    part = "held-out rows" if task.held_out.any() else "all points"
    y, outputs = task.y[scored], trained.outputs[scored]
    result = f"{task.name}, {part}: {score(target, outputs, y)}"
    if isinstance(target, Number):
        true = target.mean + target.scale * y.astype(np.float64)
        values = predictions(trained.predictor, outputs).values
        figures["predicted.png"] = plots.predicted_against_true(
            true, values, target.name, result
        )
    elif len(task.inputs) == 2 and all(isinstance(c, Number) for c in task.inputs):
        mean = np.array([c.mean for c in task.inputs if isinstance(c, Number)])
        scale = np.array([c.scale for c in task.inputs if isinstance(c, Number)])

        def classes_at(points: np.ndarray) -> np.ndarray:
            x = ((points - mean) / scale).astype(np.float32)
            return classes_of(trained.outputs_of(trained.params, x))

        figures["boundary.png"] = plots.decision_boundary(
            classes_at,
            task.x * scale + mean,
            task.y,
            names=[c.name for c in task.inputs],
            classes=target.values,
            title=result,
            held_out=task.held_out,
        )
    else:
        figures["confusion.png"] = plots.confusion_matrix(
            y, classes_of(outputs), target.values, result
        )
    return figures


def _existing(folder: Path) -> Path:
    """Return the nearest folder on the way up that is there."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder
