"""Train on a task: the plan before the first step, and what is there after the last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from funcgrad.data import columns
from funcgrad.data.points import SEED
from funcgrad.data.predictor import LOSSES, Predictor, net
from funcgrad.data.scores import Score
from funcgrad.errors import InputError
from funcgrad.fitting import fit, print_progress
from funcgrad.history import History, Progress
from funcgrad.losses import l2
from funcgrad.model import Model, Objective
from funcgrad.tasks.recipe import PENALTY, Recipe, check, make_optimizer
from funcgrad.tasks.task import Task, check_seed
from funcgrad.watching import DivergedError

# Rows of the training part that the score of a progress report looks at.
_WATCHED_ROWS = 4096


class Plan(NamedTuple):
    """All that a run needs, before its first step.

    untrained: the net with its initial parameters.
    objective: f(params, (x, y)), the recipe's loss with `PENALTY` times l2.
    rows: (x, y), what training sees.
    key: the key of the batches, None where each step sees all rows.
    """

    task: Task
    recipe: Recipe
    untrained: Predictor
    objective: Objective
    optimizer: optax.GradientTransformation
    rows: tuple[np.ndarray, np.ndarray]
    key: jax.Array | None


class Trained(NamedTuple):
    """A run that ended.

    outputs: the net's for all rows of the task, (rows, outputs).
    """

    task: Task
    recipe: Recipe
    predictor: Predictor
    history: History
    outputs: np.ndarray

    def score(self, rows: np.ndarray) -> Score:
        """Return how good the net is on the rows where `rows`, bool, is True."""
        return self.task.target.score(self.outputs[rows], self.task.y[rows])


def plan(task: Task, recipe: Recipe | None = None, *, seed: int = SEED) -> Plan:
    """Return the run that trains the task's net by the recipe, or by the task's own.

    `seed` draws the first weights and the batches.
    """
    check_seed(seed)
    recipe = task.recipe if recipe is None else recipe
    rows = (task.x[task.known], task.y[task.known])
    check(recipe, len(rows[0]))
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
    )


def train(
    plan: Plan,
    *,
    progress: Callable[[Progress, Score], None] | None = (
        lambda now, score: print_progress(now)
    ),
) -> Trained:
    """Do the steps of the plan; raise InputError where the loss is no longer a number.

    `progress` is called about ten times a second with where the run stands and the
    score on the first rows of training; None is silent.
    """
    task, recipe, untrained = plan.task, plan.recipe, plan.untrained
    x, y = jax.tree.map(lambda a: a[:_WATCHED_ROWS], plan.rows)
    # Compiled here, so that the speed shown is that of the steps alone.
    untrained.outputs(x)

    def report(now: Progress) -> None:
        if progress is not None:
            outputs = untrained._replace(params=now.state.params).outputs(x)
            progress(now, task.target.score(outputs, y))

    try:
        run = fit(
            plan.objective,
            plan.optimizer,
            untrained.params,
            plan.rows,
            steps=recipe.steps,
            batch_size=recipe.batch_size,
            key=plan.key,
            progress=report,
        )
    except DivergedError as error:
        raise InputError(
            f"the loss was no longer a finite number at step "
            f"{len(error.fit.history.loss)}: lower the learning rate, now "
            f"{recipe.learning_rate:g}"
        ) from error
    if not all(np.isfinite(p).all() for p in jax.tree.leaves(run.state.params)):
        raise InputError(
            f"the last step left parameters that are no finite numbers: lower the "
            f"learning rate, now {recipe.learning_rate:g}"
        )
    trained = untrained._replace(params=run.state.params)
    return Trained(task, recipe, trained, run.history, trained.outputs(task.x))


def net_sizes(task: Task, recipe: Recipe) -> tuple[int, ...]:
    """Return the sizes of the net that the recipe describes for the task."""
    return (columns.width(task.inputs), *recipe.hidden, task.target.outputs)


def penalised_loss(model: Model, loss: str) -> Objective:
    """Return f(params, (x, y)) = loss(apply(params, x), y) + PENALTY * l2(params)."""
    data_loss = LOSSES[loss]

    def f(params: Any, batch: Any) -> jax.Array:
        x, y = batch
        return data_loss(model.apply(params, x), y) + PENALTY * l2(params)

    return f
