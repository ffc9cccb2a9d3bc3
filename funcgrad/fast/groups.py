"""A vmap over many members: in groups, several to a call, on all cores or devices."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from funcgrad.fast.options import compiler_options
from funcgrad.fast.vmap_last import vmap_last

# Parameters times rows that a group may have on a CPU, and members at most: few enough
# that XLA keeps to one core for each of its loops, and leaves the other to the next.
WORK_OF_A_GROUP = 32768
MOST_MEMBERS_OF_A_GROUP = 64

# A call costs a millisecond of Python and the groups in it one after another none, so
# that short ones share it. There are several for each core, lest one wait for another.
SECONDS_OF_A_CALL = 0.02
FEWEST_CALLS_OF_A_WORKER = 4
# A step takes about so long for each parameter and row.
SECONDS_OF_WORK = 2e-10

# From so many members on, half a vector register, they lie along the last axis.
FEWEST_LANES = 8


class Work(NamedTuple):
    """What a member has to do: steps, on so many rows, of so many parameters."""

    numbers: int
    rows: int
    steps: int


def map_members(
    f: Callable[[Any, Any], Any],
    own: Any,
    shared: Any,
    work: Work,
    progress: Callable[[int, int], None] | None = None,
) -> Any:
    """Return what `jax.vmap(f, (0, None))(own, shared)` does, as NumPy arrays.

    Every leaf of `own` has the members along its first axis, and all see `shared`. What
    was compiled for `f` serves every function that is equal to it. `work` is that of a
    member, from which the size of a group follows; `progress(done, members)` is called
    after each call. Where something is traced or jit is off, all members are one group.
    """
    leaves = jax.tree.leaves((own, shared))
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return jax.vmap(f, (0, None))(own, shared)
    config: Any = jax.config  # whose flags no type checker knows
    if config.jax_disable_jit:
        return jax.device_get(jax.vmap(f, (0, None))(own, shared))

    own = jax.device_get(own)  # where cutting members out takes next to no time
    members = jax.tree.leaves(own)[0].shape[0]
    devices = jax.local_devices()
    on_cpu = devices[0].platform == "cpu"
    workers = max(len(devices), cores() if on_cpu else 1)
    size, groups_a_call = _group_sizes(work, members, devices[0], workers)
    members_a_call = size * groups_a_call
    starts = range(0, members, members_a_call)

    def cut(start: int) -> Any:
        """Return what members from `start` on have of their own, (groups, size, ..)."""
        chosen = np.arange(start, start + members_a_call).reshape(groups_a_call, size)
        chosen = np.minimum(chosen, members - 1)  # the last one repeated
        return jax.tree.map(lambda leaf: leaf[chosen], own)

    shapes, tree = jax.tree.flatten(jax.eval_shape(lambda: (cut(0), shared)))
    context = _context()
    compiled = [_compile(f, device, tree, tuple(shapes), context) for device in devices]
    shared_by_device = [jax.device_put(shared, device) for device in devices]

    def call(number: int) -> Any:
        device = number % len(devices)
        with jax.enable_x64(context.x64):  # a caller's does not reach its threads
            mine = jax.device_put(cut(starts[number]), devices[device])
            result = jax.device_get(compiled[device](mine, shared_by_device[device]))
        return jax.tree.map(lambda leaf: leaf[: members - starts[number]], result)

    results = []
    with ThreadPoolExecutor(workers) as pool:
        for number, result in enumerate(pool.map(call, range(len(starts))), 1):
            results.append(result)
            if progress is not None:
                progress(min(number * members_a_call, members), members)
    return jax.tree.map(lambda *parts: np.concatenate(parts), *results)


def _group_sizes(
    work: Work, members: int, device: Any, workers: int
) -> tuple[int, int]:
    """Return how many members run side by side, and how many such groups in a call."""
    numbers, rows, steps = work
    if device.platform == "cpu":
        most = min(MOST_MEMBERS_OF_A_GROUP, WORK_OF_A_GROUP // (rows * numbers))
        size = max(1, min(most, members))
        seconds = max(1, steps) * size * rows * numbers * SECONDS_OF_WORK
        fair_share = -(-members // (size * workers * FEWEST_CALLS_OF_A_WORKER))
        return size, max(1, min(int(SECONDS_OF_A_CALL / seconds), fair_share))
    # Parameters, gradients, four copies for the optimizer and the best so far, the
    # losses, and as much again as the activations of a batch: half of the memory.
    bytes_each = 4 * (8 * numbers + steps + 2 * rows * numbers)
    free = (device.memory_stats() or {}).get("bytes_limit", 2**32)
    most = free // 2 // bytes_each
    return max(1, min(most, -(-members // workers))), 1


@lru_cache(maxsize=64)
def _compile(
    f: Callable[[Any, Any], Any],
    device: Any,
    tree: Any,
    leaves: tuple[jax.ShapeDtypeStruct, ...],
    context: _Context,
) -> Callable[..., Any]:
    """Compile a call: groups in a row; `context` is what else decides on it."""
    del context
    sharding = jax.sharding.SingleDeviceSharding(device)
    placed = [
        jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
        for leaf in leaves
    ]
    groups_a_call, size = leaves[0].shape[:2]
    if device.platform == "cpu" and size >= FEWEST_LANES:
        group = _in_lanes
    else:
        group = _alone if size == 1 else _side_by_side

    def groups(own: Any, shared: Any) -> Any:
        result = lax.map(lambda mine: group(f, mine, shared, size), own)
        merged = size * groups_a_call  # as -1 says nothing where there are no steps
        return jax.tree.map(lambda x: x.reshape(merged, *x.shape[2:]), result)

    options = compiler_options(device.platform, is_group=True)
    jitted = jax.jit(groups, compiler_options=options)
    return jitted.lower(*jax.tree.unflatten(tree, placed)).compile()


def _alone(f: Any, own: Any, shared: Any, size: int) -> Any:
    """Call `f` as it is, whose products take the form of a single net's."""
    mine = jax.tree.map(lambda leaf: leaf[0], own)
    return jax.tree.map(lambda leaf: leaf[None], f(mine, shared))


def _side_by_side(f: Any, own: Any, shared: Any, size: int) -> Any:
    return jax.vmap(f, (0, None), axis_size=size)(own, shared)


def _in_lanes(f: Any, own: Any, shared: Any, size: int) -> Any:
    """Map with the members along the last axis, and put them first again."""

    def moved(tree: Any, source: int, target: int) -> Any:
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, source, target), tree)

    many = vmap_last(f, (True, False), size)
    return moved(many(moved(own, 0, -1), shared), -1, 0)


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


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
