"""One run of `funcgrad sweep`: many nets at once, and the best of them kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from funcgrad import checkpoint, plots, run
from funcgrad.ensemble import select, sweep, top
from funcgrad.errors import InputError
from funcgrad.predictor import LOSSES, make_outputs, net, penalised_loss
from funcgrad.tasks import Recipe, Task
from funcgrad.training import History

# The best-so-far parameters are looked for about so many times a run.
_LOOKS = 20

SWEEP_FILES = ("sweep.csv", "sweep.png")


class Range(NamedTuple):
    """Where a hyper-parameter is drawn from, evenly in its logarithm if `in_log`."""

    low: float
    high: float
    in_log: bool = True

    def draw(self, random: np.random.Generator, members: int) -> np.ndarray:
        if not self.in_log:
            return random.uniform(self.low, self.high, members)
        return np.exp(random.uniform(np.log(self.low), np.log(self.high), members))


class Searched(NamedTuple):
    """A sweep that ended.

    best: the best member, as a run of `funcgrad train`.
    hyper: each hyper-parameter's values, (members,).
    scores: the lowest loss of each member on the rows of the score, (members,).
    order: the members' numbers, best first.
    """

    best: run.Trained
    hyper: dict[str, np.ndarray]
    scores: np.ndarray
    order: np.ndarray


def parse_range(option: str, text: str, *, below: float = np.inf) -> Range:
    """Return the range that `text` means: one number above 0, or LOW..HIGH."""
    parts = text.split("..")
    try:
        low, high = float(parts[0]), float(parts[-1])
    except ValueError:
        low = high = np.nan
    if len(parts) > 2 or not 0 < low <= high < below:
        limit = "" if below == np.inf else f" and below {below:g}"
        raise InputError(
            f"{option} must be one number above 0{limit}, or two as LOW..HIGH, such as "
            f"{'0.5..0.9' if limit else '1e-4..1e-1'}, got {text!r}"
        )
    return Range(low, high, in_log=below == np.inf)


def make_optimizer_of(recipe: Recipe) -> Callable[..., optax.GradientTransformation]:
    """Return make(learning_rate, weight_decay, momentum), the rate falling as in train.

    `momentum` is Adam's b1.
    """

    def make(
        learning_rate: Any, weight_decay: Any = None, momentum: Any = None
    ) -> optax.GradientTransformation:
        rate = optax.linear_schedule(learning_rate, learning_rate / 10, recipe.steps)
        own: dict[str, Any] = {}
        if momentum is not None:
            is_adam = recipe.optimizer.startswith("adam")
            own["b1" if is_adam else "momentum"] = momentum
        if weight_decay is None:
            return run.OPTIMIZERS[recipe.optimizer](rate, **own)
        if recipe.optimizer.startswith("adam"):
            return optax.adamw(rate, weight_decay=weight_decay, **own)
        optimizer = run.OPTIMIZERS[recipe.optimizer](rate, **own)
        return optax.chain(optax.add_decayed_weights(weight_decay), optimizer)

    return make


def sweep_task(
    task: Task,
    recipe: Recipe,
    ranges: dict[str, Range],
    members: int,
    seed: int,
    *,
    progress: Callable[[int, int], None],
) -> Searched:
    """Train `members` nets with hyper-parameters out of `ranges`; keep the best.

    The score is the loss on the rows held out, or on all where none are.
    """
    predictor = run.make_predictor(task, recipe)
    model = net(predictor, recipe.initializer)
    training = ~task.held_out
    scored = task.held_out if task.held_out.any() else training
    x, y = task.x[scored], task.y[scored]
    loss = LOSSES[predictor.loss]
    random = np.random.default_rng(seed)
    hyper = {name: r.draw(random, members) for name, r in ranges.items()}
    result = sweep(
        penalised_loss(predictor, model, run.PENALTY),
        make_optimizer_of(recipe),
        model.init,
        hyper,
        (task.x[training], task.y[training]),
        score=lambda params: loss(model.apply(params, x), y),
        every=max(1, recipe.steps // _LOOKS),
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        key=jax.random.key(seed),
        progress=progress,
    )
    order = top(result.best_scores, members)
    first = int(order[0])
    if not np.isfinite(result.best_scores[first]):
        raise InputError(
            "no member kept a finite loss: lower the upper end of --learning-rate"
        )
    params = select(result.best_params, first)
    losses = result.losses[first]
    outputs_of = make_outputs(model)
    best = run.Trained(
        task,
        recipe,
        predictor,
        params,
        History(np.arange(len(losses)), losses),
        outputs_of(params, task.x),
        outputs_of,
    )
    return Searched(best, hyper, result.best_scores, order)


def table(searched: Searched, rows: int) -> list[str]:
    """Return the best members as lines of text, a header first."""
    names = list(searched.hyper)
    lines = ["  ".join(f"{name:>13}" for name in ("place", "loss", *names))]
    for place, member in enumerate(searched.order[:rows], 1):
        values = [searched.scores[member], *(searched.hyper[n][member] for n in names)]
        cells = [f"{place:>13}", *(f"{value:>13.4g}" for value in values)]
        lines.append("  ".join(cells))
    return lines


def write_sweep(folder: Path, searched: Searched) -> list[str]:
    """Write the best member as `funcgrad train` does, all members, and a picture."""
    written = run.write_run(folder, searched.best)
    lines = [",".join(["member", "loss", *searched.hyper])]
    for member in searched.order.tolist():
        values = [searched.scores[member]]
        values += [values_of[member] for values_of in searched.hyper.values()]
        lines.append(",".join([str(member), *(repr(float(v)) for v in values)]))
    figure = plots.score_against(
        searched.hyper, searched.scores, searched.best.task.name
    )
    try:
        checkpoint.write_whole(folder / "sweep.csv", ("\n".join(lines) + "\n").encode())
        checkpoint.write_whole(folder / "sweep.png", plots.png(figure))
    except OSError as error:
        raise InputError(
            f"the folder {folder} cannot be written: {error.strerror}: choose another "
            f"--out folder"
        ) from error
    return [*written, *SWEEP_FILES]
