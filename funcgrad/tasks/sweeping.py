"""Many nets on a task at once, each with hyper-parameters of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from funcgrad.data.points import SEED
from funcgrad.data.predictor import LOSSES, Predictor, net
from funcgrad.ensemble import select, top
from funcgrad.ensemble import sweep as sweep_members
from funcgrad.errors import InputError
from funcgrad.history import History
from funcgrad.tasks.recipe import Recipe, check, make_optimizer
from funcgrad.tasks.task import Task, check_seed
from funcgrad.tasks.training import (
    Trained,
    net_sizes,
    penalised_loss,
    provenance,
)

# The best-so-far parameters are looked for about so many times a run.
_LOOKS = 20


class Range(NamedTuple):
    """Where a hyper-parameter is drawn from, evenly in its logarithm if `in_log`."""

    low: float
    high: float
    in_log: bool = True

    def draw(self, random: np.random.Generator, members: int) -> np.ndarray:
        """Draw one value for each member."""
        if not self.in_log:
            return random.uniform(self.low, self.high, members)
        return np.exp(random.uniform(np.log(self.low), np.log(self.high), members))


class Swept(NamedTuple):
    """A sweep that ended.

    best: the best member, as a run of its own.
    hyper: each hyper-parameter's values, (members,).
    scores: the lowest loss of each member on the rows of the score, (members,).
    order: the members' numbers, best first.
    """

    best: Trained
    hyper: dict[str, np.ndarray]
    scores: np.ndarray
    order: np.ndarray


def sweep(
    task: Task,
    ranges: Mapping[str, Range],
    recipe: Recipe | None = None,
    *,
    members: int = 1000,
    seed: int = SEED,
    progress: Callable[[int, int], None] | None = None,
) -> Swept:
    """Train `members` nets with hyper-parameters out of `ranges`; keep the best.

    `ranges` may name `learning_rate`, `weight_decay`, `momentum` (Adam's b1) and
    `init_scale`, a factor on the first weights. The score is the loss on the rows held
    out, or on all where none are. `progress(done, members)` is called now and then.
    """
    check_seed(seed)
    recipe = task.recipe if recipe is None else recipe
    if members < 1:
        raise InputError(f"must be at least 1, got {members}", "members")
    x, y = task.x[task.known], task.y[task.known]
    check(recipe, len(x))
    sizes = net_sizes(task, recipe)
    model = net(sizes, recipe.activation, recipe.initializer)
    scored_x, scored_y = task.x[task.scored], task.y[task.scored]
    loss = LOSSES[recipe.loss]
    random = np.random.default_rng(seed)
    every = max(1, recipe.steps // _LOOKS)
    hyper = {name: r.draw(random, members) for name, r in ranges.items()}
    result = sweep_members(
        penalised_loss(model, recipe.loss),
        make_optimizer(recipe),
        model.init,
        hyper,
        (x, y),
        score=lambda params: loss(model.apply(params, scored_x), scored_y),
        every=every,
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        key=jax.random.key(seed),
        progress=progress,
    )
    order = top(result.best_scores, members)
    first = int(order[0])
    if not np.isfinite(result.best_scores[first]):
        raise InputError(
            "no member kept a finite loss: lower the upper end of the learning rate"
        )
    # The round after which its score was the lowest.
    rounds = 1 + int(np.nanargmin(result.scores[first]))
    predictor = Predictor(
        sizes,
        recipe.activation,
        recipe.loss,
        task.inputs,
        task.target,
        select(result.best_params, first),
        provenance(min(rounds * every, recipe.steps), seed),
    )
    losses = result.losses[first]
    history = History(np.arange(len(losses)), losses, {})
    best = Trained(task, recipe, predictor, history, predictor.outputs(task.x))
    return Swept(best, hyper, result.best_scores, order)
