"""Thousands of nets in one compiled run: an ensemble, or a search for good settings.

Each member has its own key and its own hyper-parameters. Member i is exactly the net
that `train` makes alone with the keys of `member_keys(key, i)`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.typing import ArrayLike

from funcgrad.lanes import vmap_last
from funcgrad.model import Objective, Params
from funcgrad.training import (
    State,
    _batch_rows,
    _check_steps,
    _count,
    _scan,
    init_state,
)

# Parameters times rows that a group of members may have on a CPU, and members at most.
# 64 and 128 members take the same time, 46 ns for a step of the seed's net on 4 rows
# (JAX 0.12.0, one core); 64 are few enough that XLA keeps to one core for each of its
# loops, and leaves the other to the next group.
_WORK_OF_A_GROUP = 32768
_MOST_MEMBERS_OF_A_GROUP = 64

# A call costs a millisecond of Python and the groups in it one after another none, so
# that short ones share it: 65,536 nets are set up in 54 ms instead of 916. There are
# several for each core, lest one wait for the other. A step takes about 0.2 ns for each
# parameter and row, both of the tiny nets and of 16-64-64-1 on 32 rows.
_SECONDS_OF_A_CALL = 0.02
_FEWEST_CALLS_OF_A_WORKER = 4
_SECONDS_OF_WORK = 2e-10

# From so many members on, half a vector register, they lie along the last axis.
_FEWEST_LANES = 8


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
    progress: Callable[[int, int], None] | None = None,
) -> tuple[State, Any]:
    """Train one net per member; return their last states and losses (members, steps).

    Every leaf of `hyperparams` has a leading member axis. Member i trains
    `init(its key)` with `make_optimizer(**its hyper-parameters)`. One name is taken:
    `init_scale` multiplies the member's initial parameters and stays out of
    `make_optimizer`. All members see the same `data`, in an order of their own where
    there is a `batch_size`; with `own_data` its leaves have the member axis before that
    of the rows. A member that diverges has NaN losses and disturbs no other.

    Members run in groups, as many at a time as the device is fast with, and the groups
    on all cores, or on all devices of this process; short groups share a call.
    `progress(done, members)` is called after each call. The results are NumPy arrays,
    so that only a call has to fit the device. Inside jit or vmap all members are one
    group, and the results are traced.

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
    run = _Run(objective, make_optimizer, init, steps, batch_size, None, 0)
    result = _run_members(run, hyperparams, data, key, own_data, progress)
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
    progress: Callable[[int, int], None] | None = None,
) -> Sweep:
    """Do what `train_many` does, and keep the best parameters that each member had.

    `score(params)` is a scalar, lower is better, such as the objective on rows that are
    held out. It is taken after every `every` steps and after the last.
    """
    if not isinstance(every, int) or every < 1:
        raise ValueError(f"every must be a whole number of at least 1, got {every}")
    run = _Run(objective, make_optimizer, init, steps, batch_size, score, every)
    return _run_members(run, hyperparams, data, key, own_data, progress)


def member_keys(key: jax.Array, member: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Return the two keys of a member: that of `init`, and that of `train`."""
    init_key, train_key = jax.random.split(jax.random.fold_in(key, member))
    return init_key, train_key


def top(scores: ArrayLike, n: int) -> np.ndarray:
    """Return the numbers of the `n` members with the lowest scores, best first.

    `scores` has shape (members,). NaN comes after everything else.
    """
    scores = np.asarray(scores)
    if scores.ndim != 1 or not 1 <= n <= len(scores):
        raise ValueError(
            f"top needs one score for each member and n from 1 to their number, got "
            f"scores of shape {scores.shape} and n = {n}"
        )
    return np.argsort(scores, kind="stable")[:n]


def best(scores: ArrayLike) -> int:
    """Return the number of the member with the lowest score that is a number."""
    first = int(top(scores, 1)[0])
    if not np.isfinite(np.asarray(scores)[first]):
        raise ValueError("no member has a finite score: every one of them diverged")
    return first


def select(tree: Any, members: ArrayLike) -> Any:
    """Return `tree` with the chosen members alone: one number, or an array of them."""
    members = np.asarray(members)
    return jax.tree.map(lambda leaf: leaf[members], tree)


def committee(
    apply: Callable[[Params, jax.Array], jax.Array], params: Params, x: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Return the mean and the standard deviation of what the members say about `x`.

    Every leaf of `params` has a leading member axis, as `select` leaves it. Both
    results have the shape of `apply`'s.
    """
    answers = jax.vmap(apply, (0, None))(params, jnp.asarray(x))
    return answers.mean(0), answers.std(0)


class _Run(NamedTuple):
    """What is the same for all members, and known when the run is compiled."""

    objective: Objective
    make_optimizer: Callable[..., optax.GradientTransformation]
    init: Callable[[jax.Array], Params]
    steps: int
    batch_size: int | None
    score: Callable[[Params], jax.Array] | None
    every: int


def _member(
    run: _Run, number: jax.Array, hyper: Any, key: jax.Array, data: Any
) -> Sweep:
    """Train one member."""
    init_key, train_key = member_keys(key, number)
    hyper = dict(hyper)
    scale = hyper.pop("init_scale", None)
    params = run.init(init_key)
    if scale is not None:
        params = jax.tree.map(lambda p: (p * scale).astype(p.dtype), params)
    optimizer = run.make_optimizer(**hyper)
    start = init_state(params, optimizer)

    def train(state: State, steps: int) -> tuple[State, jax.Array]:
        # Not unrolled: the turn of a loop is shared by the members.
        return _scan(
            run.objective, optimizer, state, data, steps, run.batch_size, train_key, 1
        )

    if run.score is None:
        state, losses = train(start, run.steps)
        return Sweep(state, losses, None, None, None)

    score = run.score
    dtype = jax.eval_shape(score, start.params).dtype
    best_so_far = (jnp.array(jnp.inf, dtype), start.params)

    def one_round(carry: Any, steps: int) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        state, (best_score, best_params) = carry
        state, losses = train(state, steps)
        now = score(state.params)
        is_better = now < best_score
        best_so_far = jax.tree.map(
            lambda new, old: jnp.where(is_better, new, old),
            (now, state.params),
            (best_score, best_params),
        )
        return (state, best_so_far), (losses, now)

    rounds, rest = divmod(run.steps, run.every)
    carry, (losses, scores) = lax.scan(
        lambda c, _: one_round(c, run.every), (start, best_so_far), length=rounds
    )
    losses = losses.reshape(-1)
    if rest:
        carry, (rest_losses, last) = one_round(carry, rest)
        losses = jnp.concatenate([losses, rest_losses])
        scores = jnp.append(scores, last)
    state, (best_score, best_params) = carry
    return Sweep(state, losses, scores, best_score, best_params)


def _group(
    run: _Run,
    own_data: bool,
    in_lanes: bool,
    numbers: jax.Array,
    hyper: Any,
    key: jax.Array,
    data: Any,
) -> Sweep:
    """Train all members of a group at once, side by side in vector lanes or not."""

    def one(*own: Any) -> Sweep:
        return _member(run, *own)

    if not in_lanes:
        axes = (0, 0, None, 0 if own_data else None)
        return jax.vmap(one, axes)(numbers, hyper, key, data)

    def moved(tree: Any, source: int, target: int) -> Any:
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, source, target), tree)

    many = vmap_last(one, (True, True, False, own_data), len(numbers))
    data = moved(data, 0, -1) if own_data else data
    return moved(many(numbers, moved(hyper, 0, -1), key, data), -1, 0)


def _run_members(
    run: _Run,
    hyperparams: Mapping[str, Any],
    data: Any,
    key: jax.Array,
    own_data: bool,
    progress: Callable[[int, int], None] | None,
) -> Sweep:
    """Check what was given, and train the members group by group."""
    _check_steps(run.steps)
    hyper = jax.tree.map(jnp.asarray, dict(hyperparams))
    data = jax.tree.map(jnp.asarray, data)
    members = _count("members", "hyperparams", hyper)
    if own_data and (sets := _count("members", "data", data)) != members:
        raise ValueError(
            f"data has {sets} members, and hyperparams has {members}: with own_data "
            f"both have the same first axis"
        )
    first = jax.tree.map(lambda leaf: leaf[0], data) if own_data else data
    rows = _batch_rows(first, run.batch_size, key)
    numbers = jnp.arange(members)
    arguments = (numbers, hyper, key, data)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arguments)):
        return _group(run, own_data, False, *arguments)

    # On the host, where cutting members out takes next to no time.
    numbers, hyper = jax.device_get((numbers, hyper))
    if own_data:
        data = jax.device_get(data)
    devices = jax.local_devices()
    on_cpu = devices[0].platform == "cpu"
    workers = max(len(devices), _cores() if on_cpu else 1)
    size, groups_a_call = _group_sizes(run, members, rows, devices[0], workers)
    members_a_call = size * groups_a_call
    starts = range(0, members, members_a_call)

    def cut(start: int) -> tuple[Any, ...]:
        """Return what members from `start` on have of their own, (groups, size, ..)."""
        chosen = np.arange(start, start + members_a_call).reshape(groups_a_call, size)
        own = (numbers, hyper, data if own_data else None)
        return select(own, np.minimum(chosen, members - 1))  # the last one repeated

    shared = (key, None if own_data else data)
    leaves, tree = jax.tree.flatten(jax.eval_shape(lambda: (cut(0), shared)))
    context = _context()
    compiled = [
        _compile(run, own_data, device, tree, tuple(leaves), context)
        for device in devices
    ]
    shared_by_device = [jax.device_put(shared, device) for device in devices]

    def work(number: int) -> Sweep:
        device = number % len(devices)
        with jax.enable_x64(context.x64):  # a caller's does not reach its threads
            own = jax.device_put(cut(starts[number]), devices[device])
            result = jax.device_get(compiled[device](own, shared_by_device[device]))
        return jax.tree.map(lambda leaf: leaf[: members - starts[number]], result)

    results, done = [], 0
    with ThreadPoolExecutor(workers) as pool:
        for result in pool.map(work, range(len(starts))):
            results.append(result)
            done += len(result.losses)
            if progress is not None:
                progress(done, members)
    return jax.tree.map(lambda *parts: np.concatenate(parts), *results)


def _group_sizes(
    run: _Run, members: int, rows: int, device: Any, workers: int
) -> tuple[int, int]:
    """Return how many members run side by side, and how many such groups in a call."""
    shape = jax.eval_shape(run.init, jax.random.key(0))
    numbers = sum(leaf.size for leaf in jax.tree.leaves(shape))
    if device.platform == "cpu":
        most = min(_MOST_MEMBERS_OF_A_GROUP, _WORK_OF_A_GROUP // (rows * numbers))
        size = max(1, min(most, members))
        seconds = max(1, run.steps) * size * rows * numbers * _SECONDS_OF_WORK
        fair_share = -(-members // (size * workers * _FEWEST_CALLS_OF_A_WORKER))
        return size, max(1, min(int(_SECONDS_OF_A_CALL / seconds), fair_share))
    # Parameters, gradients, four copies for the optimizer and the best so far, the
    # losses, and as much again as the activations of a batch: half of the memory.
    bytes_each = 4 * (8 * numbers + run.steps + 2 * rows * numbers)
    free = (device.memory_stats() or {}).get("bytes_limit", 2**32)
    most = free // 2 // bytes_each
    return max(1, min(most, -(-members // workers))), 1


@lru_cache(maxsize=64)
def _compile(
    run: _Run,
    own_data: bool,
    device: Any,
    tree: Any,
    leaves: tuple[jax.ShapeDtypeStruct, ...],
    context: _Context,
) -> Callable[..., Sweep]:
    """Compile a call: groups in a row; `context` is what else decides on it."""
    del context
    sharding = jax.sharding.SingleDeviceSharding(device)
    placed = [
        jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
        for leaf in leaves
    ]
    in_lanes = device.platform == "cpu" and leaves[0].shape[1] >= _FEWEST_LANES

    def groups(own: Any, shared: Any) -> Sweep:
        key, data = shared

        def group(own: Any) -> Sweep:
            numbers, hyper, own_rows = own
            rows = own_rows if own_data else data
            return _group(run, own_data, in_lanes, numbers, hyper, key, rows)

        result = lax.map(group, own)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), result)

    jitted = jax.jit(groups, compiler_options=_compiler_options(device.platform))
    return jitted.lower(*jax.tree.unflatten(tree, placed)).compile()


@lru_cache
def _compiler_options(platform: str) -> dict[str, str] | None:
    """Return what XLA has to be told on this platform.

    JAX 0.12 hands sums of 4,096 numbers and more to YNNPACK on a CPU, and a group's
    multiply-then-sum is one: 1,367 ns for a net's step instead of 96. A version without
    the option refuses it by name.
    """
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    if platform != "cpu":
        return None
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except Exception as error:
        if "No such compile option" not in str(error):
            raise
        return None
    return options


class _Context(NamedTuple):
    """The settings of the calling thread that decide on what is compiled."""

    x64: bool
    matmul_precision: str | None
    dtype_promotion: str
    debug_nans: bool


def _context() -> _Context:
    config: Any = jax.config  # whose flags no type checker knows
    return _Context(
        config.jax_enable_x64,
        config.jax_default_matmul_precision,
        config.jax_numpy_dtype_promotion,
        config.jax_debug_nans,
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
