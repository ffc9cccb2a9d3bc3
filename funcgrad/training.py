"""Training: one step, a whole run as one pure function, and the same run watched.

The heartbeat is micrograd's: forward, backward, update. There is no zeroing, because
`jax.grad` returns a gradient instead of adding to one.

`data` is any pytree whose leaves share a leading axis of rows, and a `batch` is the
same pytree with fewer rows. Nothing here looks inside either.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from funcgrad.model import Objective, Params

# Losses kept on the device between two looks from the host, and the time between looks.
# A look costs 0.1 ms, as much as 700 steps of the smallest net: 65,536 are 10 ms of it.
_CHUNK = 65536
_SECONDS_BETWEEN_LOOKS = 0.1


class State(NamedTuple):
    """What training carries from one step to the next.

    params: the parameters.
    opt_state: the optimizer's own state for them.
    step: number of updates done, int32 of shape ().
    """

    params: Params
    opt_state: Any
    step: jax.Array


Step = Callable[[State, Any], tuple[State, jax.Array]]


def init_state(params: Params, optimizer: optax.GradientTransformation) -> State:
    """Return the state before the first update."""
    # An explicit dtype makes Python numbers strongly typed, as later steps return them.
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), params)
    return State(params, optimizer.init(params), jnp.zeros((), jnp.int32))


def make_step(objective: Objective, optimizer: optax.GradientTransformation) -> Step:
    """Return step(state, batch) -> (state, loss), one update of all parameters.

    `loss` is that of the parameters before the update. The step is pure, and has the
    signature that `jax.lax.scan` takes.

    The cheat sheet's worked example, w = 1 and (w * 2 - 6)^2 at rate 0.1:

    >>> import optax, funcgrad as fg
    >>> step = make_step(lambda w, x: (w * x - 6) ** 2, optax.sgd(0.1))
    >>> state, loss = step(init_state(1.0, optax.sgd(0.1)), 2.0)
    >>> print(f"{loss:.1f} {state.params:.1f}")
    16.0 2.6
    """

    def step(state: State, batch: Any) -> tuple[State, jax.Array]:
        loss, grads = jax.value_and_grad(objective)(state.params, batch)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(params, opt_state, state.step + 1), loss

    return step


def train(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    state: State,
    data: Any,
    *,
    steps: int,
    batch_size: int | None = None,
    key: jax.Array | None = None,
) -> tuple[State, jax.Array]:
    """Do `steps` updates; return the last state and the loss before each, (steps,).

    Pure: jit it, vmap it over keys, rates or parameters, differentiate through it.

    Without `batch_size` every step sees all rows. With it, each epoch puts the rows in
    an order of its own and cuts it into batches; rows that do not fill one sit that
    epoch out. The order depends on `key` and the epoch alone, and the epoch on
    `state.step`: a run cut in two and resumed with the same key is the same run.

    >>> import jax, optax, funcgrad as fg
    >>> model, optimizer = fg.mlp([1, 8, 1]), optax.adam(1e-2)
    >>> state = init_state(model.init(jax.random.key(0)), optimizer)
    >>> data = (jnp.ones((4, 1)), jnp.full((4, 1), 0.5))
    >>> objective = fg.objective(model, fg.squared_error)
    >>> state, losses = train(objective, optimizer, state, data, steps=100)
    >>> losses.shape, int(state.step)
    ((100,), 100)
    """
    _check_steps(steps)
    data = jax.tree.map(jnp.asarray, data)
    unroll = _unroll(state.params, _batch_rows(data, batch_size, key))
    return _scan(objective, optimizer, state, data, steps, batch_size, key, unroll)


def _scan(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    state: State,
    data: Any,
    steps: int,
    batch_size: int | None,
    key: jax.Array | None,
    unroll: int,
) -> tuple[State, jax.Array]:
    """Do what `train` does, `unroll` steps a turn of the loop."""
    step = make_step(objective, optimizer)
    if batch_size is None:
        return lax.scan(lambda s, _: step(s, data), state, length=steps, unroll=unroll)

    order_of, per_epoch = _shuffle(data, batch_size, key)

    def block(
        carry: tuple[State, jax.Array], length: int
    ) -> tuple[tuple[State, jax.Array], jax.Array]:
        """Do `length` <= `per_epoch` steps, which may begin within an epoch."""
        state, order = carry
        next_order = order_of(state.step // per_epoch + 1)
        both = jnp.concatenate([order, next_order])
        batches = lax.dynamic_slice_in_dim(both, state.step % per_epoch, length)
        # A gather for each step: putting all rows in order once an epoch was no faster
        # (1.9 us a step both ways for 100 rows in tens), and vmap would copy the data.
        state, losses = lax.scan(
            lambda s, b: step(s, _take(data, b)), state, batches, unroll=unroll
        )
        return (state, next_order), losses

    carry = (state, order_of(state.step // per_epoch))
    blocks, rest = divmod(steps, per_epoch)
    losses = []
    if blocks:
        carry, block_losses = lax.scan(
            lambda c, _: block(c, per_epoch), carry, length=blocks
        )
        losses.append(block_losses.reshape(-1))
    if rest or not blocks:
        carry, rest_losses = block(carry, rest)
        losses.append(rest_losses)
    return carry[0], jnp.concatenate(losses)


class History(NamedTuple):
    """What a run left behind, one entry a step, as NumPy arrays.

    step: the step's number, counted from 0.
    loss: the objective on that step's batch, before the update.
    """

    step: np.ndarray
    loss: np.ndarray


class Fit(NamedTuple):
    """A run that ended: its last state, and its history."""

    state: State
    history: History


class Progress(NamedTuple):
    """Where a run stands.

    done, steps: updates done in this run, and updates asked for.
    loss: the last one.
    state: the state now.
    steps_per_second: over the run so far, compiling left out.
    seconds_left: an estimate at that speed.
    """

    done: int
    steps: int
    loss: float
    state: State
    steps_per_second: float
    seconds_left: float


class DivergedError(ArithmeticError):
    """Raised where a loss is NaN or infinite; `fit` ends at the last good state."""

    def __init__(self, message: str, fit: Fit):
        super().__init__(message)
        self.fit = fit


def print_progress(progress: Progress) -> None:
    """Write one line that overwrites itself to stderr, if that is a terminal."""
    if sys.stderr.isatty():
        end = "\n" if progress.done == progress.steps else ""
        sys.stderr.write(
            f"\r\x1b[Kstep {progress.done:,}/{progress.steps:,}  "
            f"loss {progress.loss:.4g}  {progress.steps_per_second:,.0f} steps/s  "
            f"{progress.seconds_left:,.0f} s left{end}"
        )
        sys.stderr.flush()


def fit(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    params: Params,
    data: Any,
    *,
    steps: int,
    batch_size: int | None = None,
    key: jax.Array | None = None,
    until: float | None = None,
    progress: Callable[[Progress], None] | None = print_progress,
) -> Fit:
    """Do what `train` does while somebody watches; return the last state and history.

    The run is compiled once and called for some steps at a time. In between, about ten
    times a second, `progress` is called with a `Progress`; None is silent. `until` ends
    the run right after the first step whose loss is at most that number. A loss that
    is NaN or infinite raises `DivergedError`, which says at which step and holds the
    last good state.

    `params` may also be a `State`, to go on where a run ended; with the same `key` the
    batches go on too. What was passed in stays as it was.
    """
    _check_steps(steps)
    state = params if isinstance(params, State) else init_state(params, optimizer)
    data = jax.tree.map(jnp.asarray, data)
    order = None
    if batch_size is None:
        _count_rows(data)
    else:
        order_of, per_epoch = _shuffle(data, batch_size, key)
        order = order_of(state.step // per_epoch)
    first_step = int(state.step)

    def run(start: tuple[State, Any], n: int) -> tuple[tuple[State, Any], np.ndarray]:
        end, losses = _run_chunk(objective, optimizer, start, data, key, n)
        return end, np.asarray(losses)[:n]

    def fit_so_far() -> Fit:
        loss = np.concatenate(losses) if losses else np.zeros(0)
        return Fit(now[0], History(first_step + np.arange(len(loss)), loss))

    now = previous = (state, order)
    n, previous_n, done, stop = 1, 0, 0, None
    losses: list[np.ndarray] = []
    run(now, 0)  # compiles, so that the clock sees steps alone
    clock = _Clock()
    while done < steps and stop is None:
        n = min(n, steps - done, _CHUNK)
        after, chunk_losses = run(now, n)
        stop = _first_stop(chunk_losses, until)
        if stop is None:
            now, previous, previous_n = after, now, n
        elif np.isfinite(chunk_losses[stop]):
            # Runs repeat bit for bit: a shorter one ends right after the step wanted.
            n = stop + 1
            now, chunk_losses = run(now, n)
        else:
            losses.append(chunk_losses[:stop])
            start, good = (now, stop - 1) if stop else (previous, previous_n - 1)
            now, _ = run(start, max(good, 0))
            raise DivergedError(
                f"the loss became {chunk_losses[stop]} at step "
                f"{first_step + done + stop}: lower the learning rate, or look for "
                f"missing and infinite values in the data; the last good state, after "
                f"{int(now[0].step)} updates, is error.fit.state",
                fit_so_far(),
            )
        losses.append(chunk_losses)
        done += n
        n = clock.look(n, done)
        if progress is not None:
            speed = clock.steps_per_second
            left = (steps - done) / speed
            progress(
                Progress(done, steps, float(chunk_losses[-1]), now[0], speed, left)
            )
    return fit_so_far()


def _unroll(params: Params, rows: int) -> int:
    """Return how many steps to put in one turn of the loop.

    A turn costs about 25 ns on a CPU (JAX 0.12.0; 190 on 0.9.2), which only a tiny step
    feels: [3, 4, 4, 1] on 4 rows takes 165 ns alone, 142 in fours, 142 in eights, while
    compiling takes 0.14, 0.32, 0.63 s, and grows with the depth of the net.
    """
    work = rows * sum(np.size(leaf) for leaf in jax.tree.leaves(params))
    return 4 if work <= 512 else 1


def _repeat(
    one: Callable[[jax.Array, Any], Any],
    start: jax.Array,
    stop: jax.Array,
    carry: Any,
    unroll: int,
) -> Any:
    """Return what `lax.fori_loop(start, stop, one, carry)` does, unrolled."""
    turns = (stop - start) // unroll

    def turn(k: jax.Array, carry: Any) -> Any:
        for j in range(unroll):
            carry = one(start + unroll * k + j, carry)
        return carry

    carry = lax.fori_loop(0, turns, turn, carry)
    if unroll == 1:
        return carry
    return lax.fori_loop(start + unroll * turns, stop, one, carry)


@partial(jax.jit, static_argnums=(0, 1))
def _run_chunk(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    start: tuple[State, Any],
    data: Any,
    key: jax.Array | None,
    n: jax.Array,
) -> tuple[tuple[State, Any], jax.Array]:
    """Do `n` <= _CHUNK steps; `n` is traced, so one executable serves every chunk.

    The losses fill the first `n` entries of a buffer of _CHUNK, in the widest float
    that is on, which holds those of any narrower one exactly.
    """
    step = jax.jit(make_step(objective, optimizer))  # traced once, wherever it is used
    losses = jnp.zeros(_CHUNK, jnp.result_type(float))
    state, order = start
    rows = _count_rows(data) if order is None else order.shape[1]
    unroll = _unroll(state.params, rows)

    def steps_until(
        end: jax.Array, state: State, losses: jax.Array, batch_of: Any
    ) -> tuple[State, jax.Array]:
        first = start[0].step

        def one(
            i: jax.Array, carry: tuple[State, jax.Array]
        ) -> tuple[State, jax.Array]:
            state, losses = carry
            state, loss = step(state, batch_of(i))
            return state, losses.at[i - first].set(loss.astype(losses.dtype))

        return _repeat(one, state.step, end, (state, losses), unroll)

    end = state.step + n
    if order is None:
        state, losses = steps_until(end, state, losses, lambda i: data)
        return (state, None), losses

    per_epoch, batch_size = order.shape
    order_of, _ = _shuffle(data, batch_size, key)

    def epoch(
        carry: tuple[State, jax.Array, jax.Array],
    ) -> tuple[State, jax.Array, jax.Array]:
        state, losses, order = carry
        this_epoch = state.step // per_epoch
        is_new = state.step % per_epoch == 0
        order = lax.cond(is_new, lambda: order_of(this_epoch), lambda: order)
        last = jnp.minimum(end, (this_epoch + 1) * per_epoch)
        state, losses = steps_until(
            last, state, losses, lambda i: _take(data, order[i % per_epoch])
        )
        return state, losses, order

    state, losses, order = lax.while_loop(
        lambda carry: carry[0].step < end, epoch, (state, losses, order)
    )
    return (state, order), losses


class _Clock:
    """Chooses chunks that take about a tenth of a second, and measures the speed."""

    def __init__(self) -> None:
        self.start = self.last = time.perf_counter()
        self.steps_per_second = 0.0

    def look(self, n: int, done: int) -> int:
        """Note that `n` steps ended now, `done` in all; return how many to do next."""
        now = time.perf_counter()
        seconds, self.last = now - self.last, now
        self.steps_per_second = done / (now - self.start)
        return max(1, min(8 * n, int(n * _SECONDS_BETWEEN_LOOKS / seconds)))


def _first_stop(losses: np.ndarray, until: float | None) -> int | None:
    """Return the first index at which the run must end, if there is one."""
    stops = ~np.isfinite(losses)
    if until is not None:
        stops |= losses <= until
    return int(np.argmax(stops)) if stops.any() else None


def _check_steps(steps: int) -> None:
    if not isinstance(steps, int) or steps < 0:
        raise ValueError(f"steps must be a whole number of at least 0, got {steps}")


def _count(what: str, name: str, tree: Any) -> int:
    """Return how many `what` all leaves share, or say which leaf differs."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    shapes = {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}
    counts = {shape[0] if shape else 0 for shape in shapes.values()}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            f"{name} needs arrays with the same number of {what}, at least one, along "
            f"their first axis, got shapes {shapes}"
        )
    return counts.pop()


def _count_rows(data: Any) -> int:
    return _count("rows", "data", data)


def _shuffle(
    data: Any, batch_size: int, key: jax.Array | None
) -> tuple[Callable[[jax.Array], jax.Array], int]:
    """Return order_of(epoch) -> rows of each batch (batches, rows), and batches."""
    rows = _count_rows(data)
    if not isinstance(batch_size, int) or not 1 <= batch_size <= rows:
        raise ValueError(
            f"batch_size must be a whole number from 1 to the {rows} rows of the data, "
            f"got {batch_size}"
        )
    if key is None:
        raise ValueError(
            "batch_size needs a key to shuffle by, got none: pass key=jax.random.key(0)"
        )
    per_epoch = rows // batch_size

    def order_of(epoch: jax.Array) -> jax.Array:
        order = jax.random.permutation(jax.random.fold_in(key, epoch), rows)
        return order[: per_epoch * batch_size].reshape(per_epoch, batch_size)

    return order_of, per_epoch


def _batch_rows(data: Any, batch_size: int | None, key: jax.Array | None) -> int:
    """Return the number of rows that a step sees, or say what is wrong."""
    if batch_size is None:
        return _count_rows(data)
    _shuffle(data, batch_size, key)
    return batch_size


def _take(data: Any, rows: jax.Array) -> Any:
    return jax.tree.map(lambda leaf: leaf[rows], data)
