"""Train on a task: the plan before the first step, and what is there after the last."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from funcgrad.arguments import at_least
from funcgrad.batches import Drawn
from funcgrad.checkpoint import checksum
from funcgrad.data import columns
from funcgrad.data.points import SEED
from funcgrad.data.predictor import LOSSES, Predictor, net
from funcgrad.data.scores import Score
from funcgrad.devices import data_mesh, own_rows, replicate, rows
from funcgrad.errors import InputError
from funcgrad.fitting import fit, print_progress
from funcgrad.history import Fit, History, Progress
from funcgrad.hosts import agree, gathered
from funcgrad.losses import l2
from funcgrad.model import Model, Objective
from funcgrad.tasks.recipe import PENALTY, Recipe, check, make_optimizer
from funcgrad.tasks.task import Task, check_seed, set_aside
from funcgrad.version import __version__
from funcgrad.watching import DivergedError

# Rows of the training part that the score of a progress report looks at.
_WATCHED_ROWS = 4096

# Where a run's checkpoints are, in its folder.
CHECKPOINTS = "checkpoints"

# Validation is looked at about so many times a run.
_LOOKS = 100


class Plan(NamedTuple):
    """All that a run needs, before its first step.

    untrained: the net with its initial parameters.
    objective: f(params, (x, y)), the recipe's loss with `PENALTY` times l2.
    rows: (x, y), what training sees.
    key: the key of the batches, None where each step sees all rows.
    seed: what has drawn all of it.
    validation: (x, y), on which the objective is looked at; None for no rows.
    every: so many steps lie between two looks; None: about a tenth of a second does.
    patience: the looks without a lower objective that end the run; None for no end.
    seconds: of training, that end the run too; None for no end.
    """

    task: Task
    recipe: Recipe
    untrained: Predictor
    objective: Objective
    optimizer: optax.GradientTransformation
    rows: tuple[np.ndarray, np.ndarray]
    key: jax.Array | None
    seed: int
    validation: tuple[np.ndarray, np.ndarray] | None
    every: int | None
    patience: int | None
    seconds: float | None


class Trained(NamedTuple):
    """A run that ended.

    outputs: the net's for all rows of the task, (rows, outputs).
    best_step: the updates that had been done where validation was best, whose
        parameters these are; None where they are those of the last step.
    """

    task: Task
    recipe: Recipe
    predictor: Predictor
    history: History
    outputs: np.ndarray
    best_step: int | None = None

    @property
    def steps(self) -> int:
        """The updates done."""
        looks = self.history.looks
        return int(looks["step"][-1]) if looks else len(self.history.loss)

    def score(self, rows: np.ndarray) -> Score:
        """Return how good the net is on the rows where `rows`, bool, is True."""
        return self.task.target.score(self.outputs[rows], self.task.y[rows])


def plan(
    task: Task,
    recipe: Recipe | None = None,
    *,
    seed: int = SEED,
    validation: float | None = None,
    patience: int | None = None,
    seconds: float | None = None,
    every: int | None = None,
) -> Plan:
    """Return the run that trains the task's net by the recipe, or by the task's own.

    `seed` draws the first weights and the batches, and the share `validation` of the
    rows of training, which training then does not see. The objective is looked at on
    them about a hundred times, or after each `every` steps; with `patience=n` the run
    ends where it was not lowered in `n` looks, and the parameters are those of the
    best. It ends after `seconds` of training too.
    """
    check_seed(seed)
    if validation is not None:
        task = set_aside(task, validation, seed=seed)
    recipe = task.recipe if recipe is None else recipe
    rows = (task.x[task.known], task.y[task.known])
    check(recipe, len(rows[0]))
    _check_ends(task, patience, seconds)
    if every is not None:
        at_least(1, "every", every)
    watched = None
    if task.validation is not None:
        watched = task.x[task.validation], task.y[task.validation]
        every = every or max(1, recipe.steps // _LOOKS)
    sizes = net_sizes(task, recipe)
    model = net(sizes, recipe.activation, recipe.initializer)
    init_seed, batch_seed = np.random.SeedSequence(seed).generate_state(2)
    # Run once, so not worth optimising: it compiles in half the time.
    draw = jax.jit(
        lambda s: model.init(jax.random.key(s)),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    untrained = Predictor(
        sizes, recipe.activation, recipe.loss, task.inputs, task.target, draw(init_seed)
    )
    return Plan(
        task,
        recipe,
        untrained,
        penalised_loss(model, recipe.loss),
        make_optimizer(recipe)(recipe.learning_rate),
        rows,
        jax.random.key(batch_seed) if recipe.batch_size else None,
        seed,
        watched,
        every,
        patience,
        seconds,
    )


def train(
    plan: Plan,
    *,
    progress: Callable[[Progress, Score], None] | None = (
        lambda now, score: print_progress(now)
    ),
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    is_shared: bool = False,
) -> Trained:
    """Do the steps of the plan; raise InputError where the loss is no longer a number.

    `progress` is called at each look, without validation about ten times a second, with
    where the run stands and the score on the first rows of training; None is silent.

    With a `folder` the run keeps checkpoints in `folder`/checkpoints, and goes on from
    them with `resume`, as `fit` does.

    Where it `is_shared`, all processes that `hosts.join` has joined call this with the
    same plan, and the rows lie over the devices of all.

    A `KeyboardInterrupt`, as of Ctrl-C, has the run as far as it came as `.trained`, if
    a step was done by then.
    """
    task, recipe, untrained = plan.task, plan.recipe, plan.untrained
    x, y = jax.tree.map(lambda a: a[:_WATCHED_ROWS], plan.rows)
    # Compiled here, so that the speed shown is that of the steps alone.
    untrained.outputs(x)

    def report(now: Progress) -> None:
        if progress is not None:
            params = gathered(now.state.params)
            outputs = untrained._replace(params=params).outputs(x)
            progress(now, task.target.score(outputs, y))

    with ends_in_words(recipe.learning_rate, lambda run: _trained(plan, run)):
        run = fit(
            plan.objective,
            plan.optimizer,
            untrained.params,
            shared(plan.rows) if is_shared else plan.rows,
            steps=recipe.steps,
            batch_size=recipe.batch_size,
            key=plan.key,
            every=plan.every,
            validation=plan.validation,
            patience=plan.patience,
            seconds=plan.seconds,
            folder=None if folder is None else Path(folder, CHECKPOINTS),
            resume=resume,
            progress=report,
        )
    best_step = None if plan.patience is None else int(run.state.step)
    return _trained(plan, run)._replace(best_step=best_step)


def shared(data: Any) -> Any:
    """Return data that all processes have read, over the devices of all."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(data)]
    agree({"data": checksum(("", leaf) for leaf in leaves)})
    mesh = data_mesh()
    if isinstance(data, Drawn):
        return replicate(mesh, data)
    return rows(mesh, own_rows(mesh, data))


@contextmanager
def ends_in_words(
    learning_rate: float, trained: Callable[[Fit], Any]
) -> Iterator[None]:
    """Turn a loss that is no number into a sentence, and keep what Ctrl-C has left.

    A `KeyboardInterrupt` of `fit` gets `trained(fit)` as `.trained` if a step was done.
    """
    try:
        yield
    except DivergedError as error:
        # The last good state is that before the step, which the first step has not.
        step = int(error.fit.state.step) + bool(len(error.fit.history.loss))
        raise InputError(
            f"the loss was no longer a finite number at step {step}: lower the "
            f"learning rate, now {learning_rate:g}"
        ) from error
    except KeyboardInterrupt as error:
        reached = getattr(error, "fit", None)
        if reached is not None and int(reached.state.step):
            error.trained = trained(reached)  # type: ignore[attr-defined]
        raise


def provenance(steps: int, seed: int) -> dict[str, str | int]:
    """Return what a model's file tells of how it was made: now, here, and so."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "funcgrad": __version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "steps": steps,
        "seed": seed,
    }


def _trained(plan: Plan, run: Fit) -> Trained:
    task, recipe = plan.task, plan.recipe
    run = run._replace(state=gathered(run.state))
    if not all(np.isfinite(p).all() for p in jax.tree.leaves(run.state.params)):
        raise InputError(
            f"the last step left parameters that are no finite numbers: lower the "
            f"learning rate, now {recipe.learning_rate:g}"
        )
    predictor = plan.untrained._replace(
        params=run.state.params, provenance=provenance(int(run.state.step), plan.seed)
    )
    return Trained(task, recipe, predictor, run.history, predictor.outputs(task.x))


def _check_ends(task: Task, patience: int | None, seconds: float | None) -> None:
    """Raise unless the run can end by these."""
    if patience is not None and task.validation is None:
        raise InputError(
            f"must wait for validation to get better, got {patience} and no rows to "
            f"look at: add validation too, such as 0.2",
            "patience",
        )
    check_ends(patience, seconds)


def check_ends(patience: int | None, seconds: float | None) -> None:
    """Raise unless there is a run that these can end."""
    if patience is not None and patience < 1:
        raise InputError(f"must be at least 1, got {patience}", "patience")
    if seconds is not None and not 0 < seconds < math.inf:
        raise InputError(f"must be a finite number above 0, got {seconds:g}", "seconds")


def net_sizes(task: Task, recipe: Recipe) -> tuple[int, ...]:
    """Return the sizes of the net that the recipe describes for the task."""
    return (columns.width(task.inputs), *recipe.hidden, task.target.outputs)


def penalised_loss(model: Model, loss: str) -> Objective:
    """Return f(params, (x, y)) = loss(apply(params, x), y) + PENALTY * l2(params).

    A third entry of the batch is the weights of its rows.
    """
    data_loss = LOSSES[loss]

    def f(params: Any, batch: Any) -> jax.Array:
        x, y, *weights = batch
        return data_loss(model.apply(params, x), y, *weights) + PENALTY * l2(params)

    return f
