"""A run as a loop: `train` in compiled chunks, with a look from the host after each.

The loop stops at the exact step where a loss is low enough, or is no longer a number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from funcgrad.arguments import at_least, hashable
from funcgrad.batches import as_arrays, batch_shapes
from funcgrad.compiled_run import LONGEST_CHUNK, Run
from funcgrad.data_checks import check_data
from funcgrad.devices import beside, mesh_of, on_mesh
from funcgrad.errors import InputError, listed
from funcgrad.history import Fit, History, Progress, joined
from funcgrad.model import Objective
from funcgrad.strata import Strata
from funcgrad.training import State, check_objective, check_steps
from funcgrad.validation import Metric, scores

# The first chunk has steps of so much work, which is a millisecond or two.
WORK_OF_THE_FIRST_CHUNK = 2_000_000
_SECONDS_BETWEEN_LOOKS = 0.1
# Each call gets its memory anew, which takes as long as a step or two to touch first;
# but nobody waits longer than a second for it.
_STEPS_BETWEEN_LOOKS = 32
_MOST_SECONDS_FOR_THEM = 1.0
# Of training for each second that is spent on validation.
SECONDS_FOR_VALIDATION = 4


class DivergedError(ArithmeticError):
    """Raised where a loss is NaN or infinite; `fit` ends at the last good state."""

    def __init__(self, message: str, fit: Fit):
        super().__init__(message)
        self.fit = fit


def watch(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    state: State,
    data: Any,
    *,
    steps: int,
    batch_size: int | None = None,
    key: jax.Array | None = None,
    every: int | None = None,
    validation: Any = None,
    metrics: Mapping[str, Metric] = {},
    mesh: Mesh | None = None,
) -> Iterator[Progress]:
    """Do what `train` does, a chunk of steps at a time; yield a `Progress` after each.

    The caller may save, plot, stop or break off in between. With `every` it looks where
    that divides `state.step`, so that what is decided there repeats, and without about
    ten times a second, or once where steps are long; at the end in any case.

    With `validation`, rows as `data` has them, each look has the objective of them as
    `validation["loss"]`, and each f(params, rows) -> scalar of `metrics` by its name.
    More than 4,096 rows are scored in parts, whose values are averaged by their rows;
    without `every` it looks less often where that takes long.

    With a `mesh` of devices, as `data_mesh` makes it, `data` is placed on it by `rows`
    and the state by `replicate`; what is there already stays as it is placed.

    A loss that is NaN or infinite raises `DivergedError`, which says at which step, and
    which parameter was lost; its `.fit` has the last good state.

    >>> import jax.numpy as jnp, optax, funcgrad as fg
    >>> def objective(w, x):
    ...     return jnp.sum((w * x - 6.0) ** 2)
    >>> state = fg.init_state(1.0, optax.sgd(0.1))
    >>> looks = watch(objective, optax.sgd(0.1), state, jnp.ones(1), steps=40, every=10)
    >>> for now in looks:
    ...     print(int(now.state.step), f"{now.loss:.4f}")
    ...     if now.loss < 0.01:
    ...         break
    10 0.4504
    20 0.0052
    """
    if not isinstance(state, State):
        raise ValueError(
            f"watch goes on from a State, got {type(state).__name__}: "
            f"init_state(params, optimizer) makes the first one"
        )
    state, data = on_mesh(mesh, state, data)
    run = run_of(objective, optimizer, state, data, batch_size, key)
    return looks_at(run, state, steps, every, None, validation, metrics)


def run_of(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    state: State,
    data: Any,
    batch_size: int | None,
    key: jax.Array | None,
) -> Run:
    """Return the run, one that is shared where its arrays lie on several processes."""
    check_objective(objective)
    given = objective, optimizer, state, data, batch_size, key
    if jax.process_count() == 1:
        return Run(*given)
    leaves = jax.tree.leaves((state, data))
    if all(getattr(leaf, "is_fully_addressable", True) for leaf in leaves):
        return Run(*given)
    # Here, as it needs all that processes tell each other.
    from funcgrad.shared_run import SharedRun

    return SharedRun(*given)


def looks_at(
    run: Run,
    state: State,
    steps: int,
    every: int | None,
    until: float | None,
    validation: Any,
    metrics: Mapping[str, Metric],
) -> Generator[Progress]:
    """Check the arguments, and return the generator that `watch` and `fit` consume."""
    steps = check_steps(steps, state.step)
    every = None if every is None else at_least(1, "every", every)
    run.agree_on_looks(steps, every, until, validation, metrics)
    if validation is None:
        if metrics:
            raise ValueError(
                f"metrics need rows to look at, got {listed(list(metrics))} and no "
                f"validation: pass validation=rows"
            )
        score: Callable[..., dict[str, float]] = lambda params: {}  # noqa: E731
        return run.heeding_signals(_chunks(run, state, steps, every, until, score))
    if isinstance(validation, Strata):
        raise InputError(
            "must be rows as they are, got Strata: pass what rows() was given",
            "validation",
        )
    validation = as_arrays("validation", validation)
    check_data(
        run.objective, state.params, validation, batch_shapes(validation, None, None),
        "validation",
    )  # fmt: skip
    validation = beside(mesh_of(state), validation)
    metrics = {"loss": run.objective} | {
        name: hashable(metric) for name, metric in metrics.items()
    }
    score = partial(scores, metrics, rows=validation)
    return run.heeding_signals(_chunks(run, state, steps, every, until, score))


def _chunks(
    run: Run,
    state: State,
    steps: int,
    every: int | None,
    until: float | None,
    score: Callable[..., dict[str, float]],
) -> Generator[Progress]:
    """Yield the looks at a run, and stop it at the exact step."""
    first, done = int(state.step), 0
    losses: list[np.ndarray] = []
    previous, previous_n = state, 0
    # On several hosts a step's messages take longer than its work.
    n = 1 if run.is_shared else max(1, WORK_OF_THE_FIRST_CHUNK // run.work)
    run(state, 0)  # compiles, so that the clock sees steps alone
    score(state.params)
    scoring = 0.0
    start = time.perf_counter()
    is_over = steps == 0
    while not is_over:
        due = steps - done
        if every is not None:
            due = min(due, every - (first + done) % every)
        began = time.perf_counter()
        n = min(n, due, LONGEST_CHUNK)
        after, chunk = run(state, n)
        taken, n = time.perf_counter() - began, len(chunk)
        stop = _first_stop(chunk, until)
        if stop is not None and not np.isfinite(chunk[stop]):
            bad, _ = run(state, stop)
            back, good = (state, stop - 1) if stop else (previous, previous_n - 1)
            last_good, _ = run(back, max(good, 0))
            since = np.concatenate([*losses, chunk[:stop]])
            _raise_diverged(bad, last_good, since, chunk[stop])
        if stop is not None:
            # Runs repeat bit for bit: a shorter one ends right after the step wanted.
            n = stop + 1
            after, chunk = run(state, n)
        state, previous, previous_n = after, state, n
        losses.append(chunk)
        done += n
        is_over = done == steps or stop is not None
        n = _next_chunk(n, taken, scoring)
        if is_over or every is None or (first + done) % every == 0:
            began = time.perf_counter()
            seen = score(state.params)
            now = time.perf_counter()
            scoring, speed = now - began, done / (now - start)
            yield Progress(
                done, steps, joined(losses), state, seen, now - start, speed,
                (steps - done) / speed,
            )  # fmt: skip
            losses = []


def _next_chunk(n: int, seconds: float, scoring: float) -> int:
    """Return how many steps to do after `n` of them took so many seconds."""
    several = min(_STEPS_BETWEEN_LOOKS * seconds / n, _MOST_SECONDS_FOR_THEM)
    wanted = max(_SECONDS_BETWEEN_LOOKS, several, SECONDS_FOR_VALIDATION * scoring)
    return max(1, min(8 * n, int(n * wanted / seconds)))


def _first_stop(losses: np.ndarray, until: float | None) -> int | None:
    """Return the first index at which the run must end, if there is one."""
    stops = ~np.isfinite(losses)
    if until is not None:
        stops |= losses <= until
    return int(np.argmax(stops)) if stops.any() else None


def _raise_diverged(
    bad: State, good: State, losses: np.ndarray, loss: float
) -> NoReturn:
    """Raise for a `loss` that `bad` led to; `losses` are those since the last look."""
    lost = [
        f"params{jax.tree_util.keystr(path)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(bad.params)
        if not jnp.isfinite(leaf).all()
    ]
    where = f", as {lost[0]} had before it" if lost else ""
    step = int(bad.step)
    raise DivergedError(
        f"the loss became {loss} at step {step}{where}: lower the learning rate, or "
        f"look for missing and infinite values in the data; the last good state, after "
        f"{int(good.step)} updates, is error.fit.state",
        Fit(good, History(step - len(losses) + np.arange(len(losses)), losses, {})),
    )
