"""The same run as `train`, in compiled chunks, with a person beside it.

Between two chunks the host looks: it shows where the run stands, ends it where the loss
is small enough, and stops it where the loss is no longer a number.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from funcgrad.arguments import check_function, has_hash, hashable
from funcgrad.batches import (
    as_arrays,
    batch_rows,
    batch_shapes,
    shuffle,
    take,
)
from funcgrad.data_checks import check_data
from funcgrad.fast import loop
from funcgrad.fast.options import compiler_options
from funcgrad.model import Objective, Params
from funcgrad.notebook import fit_html, in_notebook
from funcgrad.training import State, check_steps, init_state, make_step

# Losses kept on the device between two looks: so many that a look is next to nothing
# beside the steps of the smallest net.
LONGEST_CHUNK = 262_144
_SECONDS_BETWEEN_LOOKS = 0.1


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

    def _repr_html_(self) -> str:
        return fit_html(self.state, self.history)


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
    """Write one line that overwrites itself to stderr, in a terminal or a notebook."""
    _print_line(
        f"step {progress.done:,}/{progress.steps:,}  loss {progress.loss:.4g}  "
        f"{progress.steps_per_second:,.0f} steps/s  "
        f"{progress.seconds_left:,.0f} s left",
        is_last=progress.done == progress.steps,
    )


def print_members(done: int, members: int) -> None:
    """Do the same for `train_many`: how many of the members are done."""
    _print_line(f"{done:,}/{members:,} members", is_last=done == members)


def who_prints(
    progress: Any, printer: Callable[..., None], name: str
) -> Callable[..., None] | None:
    """Return the function that `progress` means: True is `printer`, False is none.

    `name` is what a user calls the printer.
    """
    if isinstance(progress, bool):
        return printer if progress else None
    if progress is not None:
        check_function("progress", progress, name)
    return progress


def _print_line(text: str, *, is_last: bool) -> None:
    if sys.stderr.isatty():
        line = f"\r\x1b[K{text}"
    elif in_notebook():
        line = f"\r{text:<80}"  # spaces, as notebooks know no code that clears a line
    else:
        return
    sys.stderr.write(line + "\n" * is_last)
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
    progress: Callable[[Progress], None] | bool | None = print_progress,
) -> Fit:
    """Do what `train` does while somebody watches; return the last state and history.

    The run is compiled once and called for some steps at a time. In between, about ten
    times a second, `progress` is called with a `Progress`; True is `print_progress`,
    None and False are silent. `until` ends the run right after the first step whose
    loss is at most that number. A loss that is NaN or infinite raises `DivergedError`,
    which says at which step and holds the last good state.

    Before anything is compiled the data are looked at, all rows of them: NaN, infinite
    values, and labels that a loss of funcgrad cannot take raise a `ValueError`.

    `params` may also be a `State`, to go on where a run ended; with the same `key` the
    batches go on too. What was passed in stays as it was.
    """
    progress = who_prints(progress, print_progress, "funcgrad.print_progress")
    if isinstance(params, State):  # of NumPy arrays, as `train_many` returns them
        state = jax.tree.map(jnp.asarray, params)
    else:
        state = init_state(params, optimizer)
    steps = check_steps(steps, state.step)
    data = as_arrays("data", data)
    rows = batch_rows(data, batch_size, key)
    objective, optimizer = hashable(objective), _hashable(optimizer)
    check_data(objective, state.params, data, batch_shapes(data, rows))
    first_step = int(state.step)
    run_chunk = _compiled(next(iter(jax.tree.leaves(state)[0].devices())).platform)

    # Reused, as making one takes as long as 5,000 steps of the smallest net; in the
    # widest float that is on, which holds the losses of any narrower one exactly.
    buffer = jnp.zeros(LONGEST_CHUNK, jnp.result_type(float))

    def run(start: State, n: int) -> tuple[State, np.ndarray]:
        nonlocal buffer
        end, buffer = run_chunk(
            objective, optimizer, batch_size, start, buffer, data, key, n
        )
        return end, np.asarray(buffer)[:n].copy()

    def fit_so_far() -> Fit:
        loss = np.concatenate(losses) if losses else np.zeros(0)
        return Fit(now, History(first_step + np.arange(len(loss)), loss))

    now = previous = state
    n, previous_n, done, stop = 1, 0, 0, None
    losses: list[np.ndarray] = []
    run(now, 0)  # compiles, so that the clock sees steps alone
    clock = _Clock()
    while done < steps and stop is None:
        n = min(n, steps - done, LONGEST_CHUNK)
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
                f"{int(now.step)} updates, is error.fit.state",
                fit_so_far(),
            )
        losses.append(chunk_losses)
        done += n
        n = clock.look(n, done)
        if progress is not None:
            speed = clock.steps_per_second
            left = (steps - done) / speed
            progress(Progress(done, steps, float(chunk_losses[-1]), now, speed, left))
    return fit_so_far()


@lru_cache
def _compiled(platform: str) -> Callable[..., Any]:
    """Return `_run_chunk` as it is compiled for this platform."""
    options = compiler_options(platform, is_group=False)
    return jax.jit(
        _run_chunk,
        static_argnums=(0, 1, 2),
        donate_argnames="losses",
        compiler_options=options,
    )


def _run_chunk(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    batch_size: int | None,
    state: State,
    losses: jax.Array,
    data: Any,
    key: jax.Array | None,
    n: jax.Array,
) -> tuple[State, jax.Array]:
    """Do `n` steps, whose losses fill the first `n` entries of `losses`.

    `n` is traced, so that one executable serves all.
    """
    step = jax.jit(make_step(objective, optimizer))  # traced once, wherever it is used
    unroll = loop.steps_a_turn(state.params, batch_rows(data, batch_size, key))
    first, end = state.step, state.step + n

    def steps_until(
        last: jax.Array, carry: tuple[State, jax.Array], batch_of: Any
    ) -> tuple[State, jax.Array]:
        def one(
            i: jax.Array, carry: tuple[State, jax.Array]
        ) -> tuple[State, jax.Array]:
            state, losses = carry
            state, loss = step(state, batch_of(i))
            return state, losses.at[i - first].set(loss.astype(losses.dtype))

        return loop.repeat(one, carry[0].step, last, carry, unroll)

    if batch_size is None:
        return steps_until(end, (state, losses), lambda i: data)

    shuffled = shuffle(data, batch_size, key)
    per_epoch = shuffled.per_epoch

    def epoch(carry: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
        this_epoch = carry[0].step // per_epoch
        order = shuffled.order(this_epoch)
        # Counted from the epoch's first step, since the next one's may be no int32.
        begin = this_epoch * per_epoch
        last = begin + jnp.minimum(end - begin, per_epoch)
        return steps_until(last, carry, lambda i: take(data, order[i - begin]))

    return lax.while_loop(lambda carry: carry[0].step < end, epoch, (state, losses))


def _hashable(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformation:
    """Return the optimizer, wrapped as `hashable` does where it has no hash."""
    if has_hash(optimizer):
        return optimizer
    return optax.GradientTransformation(
        partial(optimizer.init), partial(optimizer.update)
    )


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
