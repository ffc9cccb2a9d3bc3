"""Thousands of nets in one compiled run: an ensemble, or a search for good settings.

Each member has its own key and its own hyper-parameters. Member i is exactly the net
that `train` makes alone with the keys of `member_keys(key, i)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
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
from funcgrad.devices import check_mesh, check_whole, own_devices
from funcgrad.fast.groups import Work, map_members
from funcgrad.fast.product import has_loops
from funcgrad.fitting import print_members, who_prints
from funcgrad.jaxprs import count as operations_in
from funcgrad.member import MemberRun, Members
from funcgrad.model import Objective, Params
from funcgrad.training import State, check_objective, check_steps


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
) -> MemberRun:
    """Return the run of any member, with functions that can be looked up."""
    check_objective(objective)
    if not callable(make_optimizer):
        raise ValueError(
            f"make_optimizer must be a function of the hyper-parameters, such as "
            f"optax.sgd, got {type(make_optimizer).__name__}"
        )
    score = None if score is None else hashable(score)
    functions = hashable(objective), hashable(make_optimizer), hashable(init)
    return MemberRun(*functions, check_steps(steps), batch_size, score, every)


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
    member: MemberRun,
    hyperparams: Mapping[str, Any],
    data: Any,
    key: jax.Array,
    own_data: bool,
    progress: Callable[[int, int], None] | bool | None,
    mesh: Mesh | None,
) -> Sweep:
    """Check what was given, and train all members."""
    progress = who_prints(progress, print_members, "funcgrad.fitting.print_members")
    prepare = partial(_prepared, member, hyperparams, data, key, own_data)
    if mesh is not None:
        check_mesh(mesh)
    if mesh is None or jax.process_count() == 1:
        run, own, shared, work, *_ = prepare()
        devices = None if mesh is None else own_devices(mesh)
        result = map_members(run, own, shared, work, progress, devices)
    else:
        # Here, as it needs all that processes tell each other.
        from funcgrad.shared_members import train_own_part

        result = train_own_part(mesh, prepare, progress)
    carry, (losses, scores) = result
    states, best = carry
    best_scores, best_params = (None, None) if best is None else best
    return Sweep(states, losses, scores, best_scores, best_params)


def _prepared(
    member: MemberRun,
    hyperparams: Mapping[str, Any],
    data: Any,
    key: jax.Array,
    own_data: bool,
) -> Members:
    """Check what was given, and return all members."""
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
    return Members(member, own, shared, work, params, batch)
