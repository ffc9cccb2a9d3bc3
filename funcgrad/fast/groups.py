"""Runs of many members: in groups, several to a call, on all cores or devices.

Ctrl-C waits for the calls under way. A group that takes long therefore goes from call
to call, and what its members carry stays on the device.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from funcgrad.fast.options import compiler_options
from funcgrad.fast.vmap_last import vmap_last
from funcgrad.jaxprs import count, has_while

# Operations of a step that a group may have on a CPU, and members at most: few enough
# that XLA keeps to one core for each of its loops, and leaves the other to the next.
OPERATIONS_OF_A_GROUP = 131072
# Members with more of them each share what a dot costs besides its operations: up to so
# many in a group, side by side. Products in loops cost nothing else.
OPERATIONS_SIDE_BY_SIDE = 4_000_000
MOST_MEMBERS_OF_A_GROUP = 64

# A call costs a millisecond of Python and the groups in it one after another none, so
# that short ones share it. There are several for each core, lest one wait for another.
SECONDS_OF_A_CALL = 0.02
FEWEST_CALLS_OF_A_WORKER = 4

# A call takes about so long at most, and where a run is cut each part about so long, as
# the machine may be busy. That follows from what a program computes, operations on a
# number and multiply-adds of products, and once it runs from the clock: where a part
# took so many times as long, or as short, the rest is cut anew.
SECONDS_OF_LONGEST_CALL = 0.5
SECONDS_OF_A_PART = 0.2
# More than most take, so that no call is too long to be stopped: docs/speed.md.
SECONDS_OF_AN_OPERATION = 8e-11
TOO_LONG, TOO_SHORT = 2.0, 0.1
# A power of two. A loop of one turn is compiled into another program.
FEWEST_STEPS_OF_A_PART = 2

# From so many members on, half a vector register, they lie along the last axis.
FEWEST_LANES = 8


class Work(NamedTuple):
    """What a member has to do: so many steps, each with the gradient of its objective.

    numbers: in its parameters.
    operations: of a step, on a number, and multiply-adds of products.
    is_in_loops: whether a product has the form of a loop, which a lone member is best
        off with.
    """

    numbers: int
    operations: float
    is_in_loops: bool
    steps: int


class Run(Protocol):
    """What each member does: steps, in parts that can be calls of their own.

    What was compiled for a run serves every other that is equal to it.
    """

    @property
    def steps(self) -> int:
        """The steps of the whole run."""

    def __hash__(self) -> int:
        """Equal runs have the same."""

    def begin(self, own: Any, shared: Any) -> Any:
        """Return what is carried before the first step."""

    def next_part(self, done: int, most: int) -> tuple[int, Any]:
        """Return how many steps the part after `done` steps has, and the part.

        They are all that are left, or about `most`; the part has a hash.
        """

    def go_on(self, carry: Any, own: Any, shared: Any, part: Any) -> tuple[Any, Any]:
        """Do a part; return what is carried then, and arrays along time."""


@dataclass(eq=False)
class _Group:
    """Members that share calls, and how far they are.

    start, members: the first one's number, and how many there are.
    device: the number of the device that they are on.
    done: how many of their steps.
    own, carry, outs: what they have of their own, what they carry from call to call,
    and what the calls returned.
    """

    start: int
    members: int
    device: int
    done: int = 0
    own: Any = None
    carry: Any = None
    outs: list[Any] = field(default_factory=list)


def map_members(
    run: Run,
    own: Any,
    shared: Any,
    work: Work,
    progress: Callable[[int, int], None] | None = None,
    devices: Sequence[Any] | None = None,
    of_members: int | None = None,
) -> tuple[Any, Any]:
    """Return what each member carries at the end, and its arrays along time.

    Every leaf of `own` has the members along its first axis, and all see `shared`; the
    results are NumPy arrays with the members first. `work` is that of a member, from
    which the size of a group follows, as it does from `of_members`, if these are a part
    of so many. They run on `devices`, without any on all of this process.
    `progress(done, members)` is called after each call; half of the steps of two
    members count as a member. What it raises ends the run, and so does
    KeyboardInterrupt: no call begins any more, and those under way end by themselves.
    Where something is traced or jit is off, all members are one group.
    """
    leaves = jax.tree.leaves((own, shared))
    is_traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
    config: Any = jax.config  # whose flags no type checker knows
    if is_traced or config.jax_disable_jit:
        result = jax.vmap(partial(all_at_once, run), (0, None))(own, shared)
        return result if is_traced else jax.device_get(result)

    own = jax.device_get(own)  # where cutting members out takes next to no time
    members = jax.tree.leaves(own)[0].shape[0]
    devices = jax.local_devices() if devices is None else devices
    on_cpu = devices[0].platform == "cpu"
    workers = max(len(devices), cores() if on_cpu else 1)
    size, groups_a_call = group_sizes(work, of_members or members, devices[0], workers)
    shared_by_device = [jax.device_put(shared, device) for device in devices]
    context, length = _context(), max(1, run.steps)

    def cut(start: int) -> Any:
        """Return what members from `start` on have of their own, (groups, size, ..)."""
        chosen = np.arange(start, start + groups_a_call * size)
        chosen = np.minimum(chosen, members - 1)  # the last one repeated
        chosen = chosen.reshape(groups_a_call, size)
        return jax.tree.map(lambda leaf: leaf[chosen], own)

    def compiled(
        parts: Sequence[Any], carry: Any, device: Any, longest: float = math.inf
    ) -> _Program:
        given = jax.eval_shape(lambda: ((carry, cut(0)), shared))
        shapes, tree = jax.tree.flatten(given)
        return _compile(
            run, tuple(parts), device, tree, tuple(shapes), context, longest
        )

    def do(group: _Group, steps: int, call: Any) -> float:
        """Do the next steps, in a thread; return how many seconds they took."""
        with jax.enable_x64(context.x64):  # a caller's does not reach its threads
            if group.own is None:
                mine = cut(group.start)
                group.own = jax.device_put(mine, devices[group.device])
            start = time.perf_counter()
            group.carry, out = call(
                (group.carry, group.own), shared_by_device[group.device]
            )
            jax.block_until_ready((group.carry, out))
            seconds = time.perf_counter() - start
            if out is not None:
                group.outs.append(jax.device_get(out))
            if group.done + steps == length:
                group.own, group.carry = None, jax.device_get(group.carry)
        return seconds

    parts = _all_parts(run)
    longest = SECONDS_OF_LONGEST_CALL if length > 1 else math.inf
    whole = [compiled(parts, None, device, longest) for device in devices]
    is_cut, most = whole[0].call is None, length
    if is_cut:
        most = _steps_in(whole[0].seconds / (groups_a_call * length))
        groups_a_call = 1

    def next_call(group: _Group) -> tuple[int, Any]:
        """Return how many steps are next in a group, and the call that does them."""
        if not is_cut:
            return length, whole[group.device].call
        device = devices[group.device]
        if group.carry is None:
            return 0, compiled([], None, device).call
        steps, part = run.next_part(group.done, most)
        return steps, compiled([part], group.carry, device).call

    members_a_call = groups_a_call * size
    groups = [
        _Group(start, min(members_a_call, members - start), number % len(devices))
        for number, start in enumerate(range(0, members, members_a_call))
    ]
    # One more for each worker, lest it wait; but of those that stay on the device from
    # call to call no more than run.
    most_under_way = workers if is_cut else 2 * workers
    waiting, done = groups[::-1], 0
    under_way: dict[Future[float], tuple[_Group, int, int]] = {}
    pool = ThreadPoolExecutor(workers)
    try:
        while waiting or under_way:
            while waiting and len(under_way) < most_under_way:
                group = waiting.pop()
                steps, call = next_call(group)
                under_way[pool.submit(do, group, steps, call)] = group, steps, most
            wait(under_way, return_when=FIRST_COMPLETED)
            future = next(future for future in under_way if future.done())
            group, steps, limit = under_way.pop(future)
            seconds = future.result()
            group.done += steps
            if group.done < length:
                waiting.append(group)
            ratio = seconds / SECONDS_OF_A_PART
            is_measured = is_cut and steps and limit == most and group.done < length
            if is_measured and not TOO_SHORT < ratio < TOO_LONG:
                most = _steps_in(seconds / steps)
            done += group.members * steps
            if progress is not None:
                progress(done // length, members)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return jax.tree.map(
        lambda *leaves: np.concatenate(leaves), *(_result(group) for group in groups)
    )


def all_at_once(run: Run, own: Any, shared: Any) -> tuple[Any, Any]:
    """Do the whole run of a member; return what it carries then, and its arrays."""
    return _do_parts(run, _all_parts(run), (None, own), shared)


def _all_parts(run: Run) -> list[Any]:
    """Return the parts of a run that is one call."""
    steps, part = run.next_part(0, run.steps)
    done, parts = steps, [part]
    while done < run.steps:
        steps, part = run.next_part(done, run.steps)
        done += steps
        parts.append(part)
    return parts


def _do_parts(
    run: Run, parts: Sequence[Any], given: tuple[Any, Any], shared: Any
) -> tuple[Any, Any]:
    """Do parts of a member's run, from its beginning where nothing is carried yet."""
    carry, own = given
    if carry is None:
        carry = run.begin(own, shared)
    outs = []
    for part in parts:
        carry, out = run.go_on(carry, own, shared, part)
        outs.append(out)
    if not outs:
        return carry, None
    return carry, jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *outs)


def _steps_in(seconds_a_step: float) -> int:
    """Return how many steps a part has, a power of two, so that few differ."""
    steps = max(SECONDS_OF_A_PART / seconds_a_step, FEWEST_STEPS_OF_A_PART)
    return 2 ** round(math.log2(steps))


def _result(group: _Group) -> tuple[Any, Any]:
    """Return what the members of a group carry, and their arrays along time."""

    def merged(leaf: np.ndarray) -> np.ndarray:
        """Return an array of (groups, size, ...) as one of (members, ...)."""
        groups, size, *rest = leaf.shape
        return leaf.reshape(groups * size, *rest)[: group.members]

    outs = jax.tree.map(lambda *leaves: np.concatenate(leaves, 2), *group.outs)
    return jax.tree.map(merged, (group.carry, outs))


def group_sizes(work: Work, members: int, device: Any, workers: int) -> tuple[int, int]:
    """Return how many members run side by side, and how many such groups in a call."""
    numbers, operations, is_in_loops, steps = work
    if device.platform == "cpu":
        most = OPERATIONS_OF_A_GROUP / operations
        if is_in_loops or most >= FEWEST_LANES:
            # Lanes of which some do not fill a register take up to four times as long.
            most = FEWEST_LANES * round(most / FEWEST_LANES)
        else:
            side_by_side = OPERATIONS_SIDE_BY_SIDE / operations
            most = max(most, min(side_by_side, FEWEST_LANES - 1))
        size = max(1, min(int(most), members, MOST_MEMBERS_OF_A_GROUP))
        seconds = max(1, steps) * size * operations * SECONDS_OF_AN_OPERATION
        fair_share = -(-members // (size * workers * FEWEST_CALLS_OF_A_WORKER))
        return size, max(1, min(int(SECONDS_OF_A_CALL / seconds), fair_share))
    # Parameters, gradients, four copies for the optimizer and the best so far, the
    # losses, and as much again as the activations of a batch: half of the memory.
    bytes_each = 4 * (8 * numbers + steps + operations / 2)
    free = (device.memory_stats() or {}).get("bytes_limit", 2**32)
    most = int(free / 2 / bytes_each)
    return max(1, min(most, -(-members // workers))), 1


class _Program(NamedTuple):
    """How long a call takes by estimate, and the call, if it is not too long.

    Where a `while` loop is in it, as in a user's draws, nobody knows: infinite seconds.
    """

    seconds: float
    call: Callable[..., Any] | None


# A program of a tiny net takes 5 MB; a run on eight devices needs three for each.
@lru_cache(maxsize=32)
def _compile(
    run: Run,
    parts: tuple[Any, ...],
    device: Any,
    tree: Any,
    leaves: tuple[jax.ShapeDtypeStruct, ...],
    context: _Context,
    longest: float,
) -> _Program:
    """Compile a call: groups in a row; `context` is what else decides on it.

    The call does these parts, from the beginning where nothing is carried to it. One
    that would take more seconds than `longest` is not compiled.
    """
    del context
    sharding = jax.sharding.SingleDeviceSharding(device)
    placed = [
        jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
        for leaf in leaves
    ]
    size = leaves[0].shape[1]
    if device.platform == "cpu" and size >= FEWEST_LANES:
        group = _in_lanes
    else:
        group = _alone if size == 1 else _side_by_side

    def groups(own: Any, shared: Any) -> Any:
        f = partial(_do_parts, run, parts)
        return lax.map(lambda mine: group(f, mine, shared, size), own)

    options = compiler_options(device.platform, is_group=True)
    traced = jax.jit(groups, compiler_options=options).trace(
        *jax.tree.unflatten(tree, placed)
    )
    seconds = SECONDS_OF_AN_OPERATION * sum(count(traced.jaxpr))
    if has_while(traced.jaxpr):
        seconds = math.inf
    is_short = seconds <= longest
    return _Program(seconds, traced.lower().compile() if is_short else None)


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
