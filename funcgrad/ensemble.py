"""Thousands of nets in one compiled run: an ensemble, or a search for good settings.

Each member has its own key and its own hyper-parameters. Member i is exactly the net
that `train` makes alone with the keys of `member_keys(key, i)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh
from jax.typing import ArrayLike

from funcgrad.arguments import (
    at_least,
    check_key,
    hashable,
    whole_number,
)
from funcgrad.batches import as_arrays, batch_shapes, count, shuffle
from funcgrad.data_checks import check_data
from funcgrad.devices import check_whole, over_processes, own_devices, own_part
from funcgrad.fast.groups import Work, map_members
from funcgrad.fast.product import has_loops
from funcgrad.fitting import print_members, who_prints
from funcgrad.jaxprs import count as operations_in
from funcgrad.model import Objective, Params
from funcgrad.training import State, check_steps, init_state, make_step, run_steps


class Sweep(NamedTuple):
    """What `sweep` returns; every leaf has the members along its first axis.

    states: the last states.
    losses: (members, steps), each step's loss before the update.
    scores: (members, rounds), the score after each round of `every` steps.
    best_scores: (members,), the lowest of them, infinite if none was a number.
    best_params: the parameters that had it.
    """

    states: State
    losses: Any
    scores: Any
    best_scores: Any
    best_params: Params


def train_many(
    objective: Objective,
    make_optimizer: Callable[..., optax.GradientTransformation],
    init: Callable[[jax.Array], Params],
    hyperparams: Mapping[str, Any],
    data: Any,
    *,
    steps: int,
    batch_size: int | None = None,
    key: jax.Array,
    own_data: bool = False,
    progress: Callable[[int, int], None] | bool | None = None,
    mesh: Mesh | None = None,
) -> tuple[State, Any]:
    """Train one net per member; return their last states and losses (members, steps).

    Every leaf of `hyperparams` has a leading member axis. Member i trains
    `init(its key)` with `make_optimizer(**its hyper-parameters)`. One name is taken:
    `init_scale` multiplies the member's initial parameters and stays out of
    `make_optimizer`. All members see the same `data`, in an order of their own where
    there is a `batch_size`; with `own_data` its leaves have the member axis before that
    of the rows. A member that diverges has NaN losses and disturbs no other.

    Members run in groups, as many at a time as the device is fast with, and the groups
    on all cores, or on all devices of this process; short groups share a call, and long
    ones are cut into calls of about 0.2 s. With a `mesh` they run on its devices, and
    over processes each trains its part of the members, of the numbers that they have in
    all; every process is given all arguments, and at the end all members.
    `progress(done, members)` is called after each call, and half of the steps of two
    members count as a member done; True is `print_members`, None and False are silent;
    of several processes the first one calls it, for its own part. Ctrl-C ends the run,
    and so does what `progress` raises. The results are NumPy arrays, so that only a
    call has to fit the device. Inside jit or vmap all members are one group, and the
    results are traced. The data are looked at first, as `fit` does.

    >>> import optax, funcgrad as fg
    >>> model = fg.mlp([1, 4, 1])
    >>> data = (jnp.ones((4, 1)), jnp.full((4, 1), 0.5))
    >>> states, losses = train_many(
    ...     fg.objective(model, fg.squared_error), optax.sgd, model.init,
    ...     {"learning_rate": jnp.logspace(-3, -1, 5)}, data, steps=10,
    ...     key=jax.random.key(0))
    >>> losses.shape, states.params[0].w.shape
    ((5, 10), (5, 1, 4))
    """
    member = _member(objective, make_optimizer, init, steps, batch_size, None, 0)
    result = _run_members(member, hyperparams, data, key, own_data, progress, mesh)
    return result.states, result.losses


def sweep(
    objective: Objective,
    make_optimizer: Callable[..., optax.GradientTransformation],
    init: Callable[[jax.Array], Params],
    hyperparams: Mapping[str, Any],
    data: Any,
    *,
    score: Callable[[Params], jax.Array],
    every: int,
    steps: int,
    batch_size: int | None = None,
    key: jax.Array,
    own_data: bool = False,
    progress: Callable[[int, int], None] | bool | None = None,
    mesh: Mesh | None = None,
) -> Sweep:
    """Do what `train_many` does, and keep the best parameters that each member had.

    `score(params)` is a scalar, lower is better, such as the objective on rows that are
    held out. It is taken after every `every` steps and after the last.
    """
    every = at_least(1, "every", every)
    member = _member(objective, make_optimizer, init, steps, batch_size, score, every)
    return _run_members(member, hyperparams, data, key, own_data, progress, mesh)


def member_keys(key: jax.Array, member: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Return the two keys of a member: that of `init`, and that of `train`."""
    init_key, train_key = jax.random.split(jax.random.fold_in(key, member))
    return init_key, train_key


def top(scores: ArrayLike, n: int) -> np.ndarray:
    """Return the numbers of the `n` members with the lowest scores, best first.

    `scores` has shape (members,). NaN comes after everything else.
    """
    scores = np.asarray(scores)
    number = whole_number(n)
    if scores.ndim != 1 or number is None or not 1 <= number <= len(scores):
        raise ValueError(
            f"top needs one score for each member and n from 1 to their number, got "
            f"scores of shape {scores.shape} and n = {n}"
        )
    return np.argsort(scores, kind="stable")[:number]


def best(scores: ArrayLike) -> int:
    """Return the number of the member with the lowest score that is finite."""
    finite = np.where(np.isfinite(scores), scores, np.nan)
    first = int(top(finite, 1)[0])
    if np.isnan(finite[first]):
        raise ValueError("no member has a finite score: every one of them diverged")
    return first


def select(tree: Any, members: ArrayLike) -> Any:
    """Return `tree` with the chosen members alone: one number, or an array of them."""
    members = np.asarray(members)
    return jax.tree.map(lambda leaf: leaf[members], tree)


def committee(
    apply: Callable[[Params, Any], jax.Array], params: Params, x: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Return the mean and the standard deviation of what the members say about `x`.

    Every leaf of `params` has a leading member axis, as `select` leaves it. Both
    results have the shape of `apply`'s.
    """
    try:
        count("members", "params", as_arrays("params", params))
    except ValueError as error:
        raise ValueError(
            f"committee: {error}; for a single net call apply(params, x)"
        ) from None
    answers = jax.vmap(apply, (0, None))(params, jnp.asarray(x))
    return answers.mean(0), answers.std(0)


def _member(
    objective: Objective,
    make_optimizer: Callable[..., optax.GradientTransformation],
    init: Callable[[jax.Array], Params],
    steps: int,
    batch_size: int | None,
    score: Callable[[Params], jax.Array] | None,
    every: int,
) -> _Member:
    """Return the run of any member, with functions that can be looked up."""
    score = None if score is None else hashable(score)
    functions = hashable(objective), hashable(make_optimizer), hashable(init)
    return _Member(*functions, check_steps(steps), batch_size, score, every)


class _Part(NamedTuple):
    """Steps of a run, with so many scores: evenly, and the last one at the end."""

    steps: int
    scores: int


@dataclass(frozen=True)
class _Member:
    """The run of any member, in parts; equal ones are compiled once.

    What a member has of its own is (its number, hyper-parameters, data or None), and
    `shared` what all have: (key, data or None). It carries (state, (best score, best
    parameters) or None).
    """

    objective: Objective
    make_optimizer: Callable[..., optax.GradientTransformation]
    init: Callable[[jax.Array], Params]
    steps: int
    batch_size: int | None
    score: Callable[[Params], jax.Array] | None
    every: int
    epoch: int = 1  # steps in it, if there are batches

    def begin(self, own: Any, shared: Any) -> Any:
        """Return what a member carries before its first step."""
        (number, hyper, _), (key, _) = own, shared
        init_key, _ = member_keys(key, number)
        params = self.init(init_key)
        if (scale := hyper.get("init_scale")) is not None:
            params = jax.tree.map(lambda p: (p * scale).astype(p.dtype), params)
        state = init_state(params, self._optimizer(hyper))
        if self.score is None:
            return state, None
        dtype = jax.eval_shape(self.score, state.params).dtype
        return state, (jnp.array(jnp.inf, dtype), state.params)

    def next_part(self, done: int, most: int) -> tuple[int, _Part]:
        """Return how many steps the part after `done` steps has, and the part.

        A step or a round more than `most` is taken lest a single one is left: a loop of
        one turn is compiled into another program, whose results may round otherwise.
        For the same reason an epoch is cut only where it is longer than `most`.
        """
        if self.epoch < most < self.steps:
            most -= most % self.epoch
        left = self.steps - done
        if self.score is None:
            steps = left if left <= most + 1 else most
            return steps, _Part(steps, 0)
        to_score = min(self.every - done % self.every, left)
        if to_score > most + 1:
            return most, _Part(most, 0)
        if to_score < self.every:
            return to_score, _Part(to_score, min(left, 1))
        rounds = max(1, min(left, most) // self.every)
        rounds += rounds > 1 and left // self.every == rounds + 1
        return rounds * self.every, _Part(rounds * self.every, rounds)

    def go_on(
        self, carry: Any, own: Any, shared: Any, part: _Part
    ) -> tuple[Any, tuple[jax.Array, jax.Array | None]]:
        """Do a part; return what is carried then, and (losses, scores or None)."""
        (number, hyper, own_data), (key, shared_data) = own, shared
        data = shared_data if own_data is None else own_data
        _, train_key = member_keys(key, number)
        step = make_step(self.objective, self._optimizer(hyper))

        def train(state: State, steps: int) -> tuple[State, jax.Array]:
            return run_steps(step, state, data, steps, self.batch_size, train_key)

        score = self.score
        if score is None or not part.scores:
            state, best = carry
            state, losses = train(state, part.steps)
            scores = None if best is None else jnp.zeros(0, best[0].dtype)
            return (state, best), (losses, scores)

        def one_round(carry: Any, _: None) -> tuple[Any, tuple[jax.Array, jax.Array]]:
            state, best = carry
            state, losses = train(state, part.steps // part.scores)
            now = score(state.params)
            is_better = now < best[0]
            best = jax.tree.map(
                lambda new, old: jnp.where(is_better, new, old),
                (now, state.params),
                best,
            )
            return (state, best), (losses, now)

        carry, (losses, scores) = lax.scan(one_round, carry, length=part.scores)
        return carry, (losses.reshape(-1), scores)

    def _optimizer(self, hyper: Mapping[str, Any]) -> optax.GradientTransformation:
        """Return a member's optimizer."""
        hyper = {name: hyper[name] for name in hyper if name != "init_scale"}
        return self.make_optimizer(**hyper)


def _flat(shapes: Any) -> tuple[Any, tuple[jax.ShapeDtypeStruct, ...]]:
    leaves, tree = jax.tree.flatten(shapes)
    return tree, tuple(leaves)


@lru_cache(maxsize=64)
def _work_of_a_step(
    objective: Objective,
    params_tree: Any,
    params_leaves: tuple[jax.ShapeDtypeStruct, ...],
    batch_tree: Any,
    batch_leaves: tuple[jax.ShapeDtypeStruct, ...],
) -> tuple[float, bool]:
    """Return how many operations a step takes, and whether products are in loops.

    They are thrice those of the objective, as a gradient costs twice as much as the
    value, so that a row counts as what is done with it: one of text has many tokens.
    """
    program = jax.make_jaxpr(objective)(
        jax.tree.unflatten(params_tree, params_leaves),
        jax.tree.unflatten(batch_tree, batch_leaves),
    )
    return 3 * (1 + sum(operations_in(program))), has_loops(program)


def _run_members(
    member: _Member,
    hyperparams: Mapping[str, Any],
    data: Any,
    key: jax.Array,
    own_data: bool,
    progress: Callable[[int, int], None] | bool | None,
    mesh: Mesh | None,
) -> Sweep:
    """Check what was given, and train all members."""
    progress = who_prints(progress, print_members, "funcgrad.fitting.print_members")
    check_key("key", key)
    hyper = as_arrays("hyperparams", dict(hyperparams))
    data = as_arrays("data", data)
    check_whole("hyperparams", hyper)
    check_whole("data", data)
    members = count("members", "hyperparams", hyper)
    if own_data and (sets := count("members", "data", data)) != members:
        raise ValueError(
            f"data has {sets} members, and hyperparams has {members}: with own_data "
            f"both have the same first axis"
        )
    first = jax.tree.map(lambda leaf: leaf[0], data) if own_data else data
    batch = batch_shapes(first, member.batch_size, key)
    if member.batch_size is not None:
        member = replace(member, epoch=shuffle(first, member.batch_size, key).per_epoch)
    params = jax.eval_shape(member.init, jax.random.key(0))
    check_data(member.objective, params, data, batch)
    numbers = sum(leaf.size for leaf in jax.tree.leaves(params))
    of_a_step = _work_of_a_step(member.objective, *_flat(params), *_flat(batch))
    work = Work(numbers, *of_a_step, member.steps)
    own = (jnp.arange(members), hyper, data if own_data else None)
    shared = (key, None if own_data else data)
    if mesh is None:
        carry, (losses, scores) = map_members(member, own, shared, work, progress)
    else:
        result = map_members(
            member, own_part(mesh, own, members), shared, work,
            None if jax.process_index() else progress, own_devices(mesh), members,
        )  # fmt: skip
        carry, (losses, scores) = jax.tree.map(
            lambda leaf: over_processes(leaf)[:members], result
        )
    states, best = carry
    best_scores, best_params = (None, None) if best is None else best
    return Sweep(states, losses, scores, best_scores, best_params)
