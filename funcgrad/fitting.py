"""The same run as `train`, in compiled chunks, with a person beside it.

Between two chunks the host looks: it shows where the run stands, ends it where the loss
is small enough, and stops it where the loss is no longer a number.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from funcgrad.arguments import at_least, check_function, has_hash, hashable
from funcgrad.batches import (
    as_arrays,
    batch_shapes,
    shuffle,
    take,
    whole_batch,
    work_of_a_step,
)
from funcgrad.data_checks import check_data
from funcgrad.errors import listed
from funcgrad.fast.options import compiler_options
from funcgrad.history import History, Record
from funcgrad.model import Objective, Params
from funcgrad.notebook import fit_html, in_notebook
from funcgrad.run_folder import RunFolder, open_run
from funcgrad.run_identity import identity
from funcgrad.training import State, check_steps, init_state, make_step
from funcgrad.validation import Metric, scores

# Losses kept on the device between two looks: so many that a look is next to nothing
# beside the steps of the smallest net.
LONGEST_CHUNK = 262_144
_SECONDS_BETWEEN_LOOKS = 0.1
# Of training for each second that is spent on validation.
_SECONDS_FOR_VALIDATION = 4
SECONDS_BETWEEN_CHECKPOINTS = 30.0
# The first chunk has steps of so much work, which is a millisecond or two.
WORK_OF_THE_FIRST_CHUNK = 2_000_000


class Fit(NamedTuple):
    """A run that ended: its last state, with `patience` its best, and its history."""

    state: State
    history: History

    def _repr_html_(self) -> str:
        return fit_html(self.state, self.history)


class Progress(NamedTuple):
    """Where a run stands.

    done, steps: updates done in this run, and updates asked for.
    losses: of the steps since the last look, before their updates.
    state: the state now.
    validation: name -> the metric's value for `state.params`.
    seconds: since the first step, compiling left out.
    steps_per_second: over the run so far.
    seconds_left: an estimate at that speed.
    """

    done: int
    steps: int
    losses: np.ndarray
    state: State
    validation: Mapping[str, float]
    seconds: float
    steps_per_second: float
    seconds_left: float

    @property
    def loss(self) -> float:
        """The last of the losses."""
        return float(self.losses[-1])


class DivergedError(ArithmeticError):
    """Raised where a loss is NaN or infinite; `fit` ends at the last good state."""

    def __init__(self, message: str, fit: Fit):
        super().__init__(message)
        self.fit = fit


def print_progress(progress: Progress) -> None:
    """Write one line that overwrites itself to stderr, in a terminal or a notebook."""
    seen = "".join(
        f"  validation {name} {value:.4g}"
        for name, value in progress.validation.items()
    )
    _print_line(
        f"step {progress.done:,}/{progress.steps:,}  loss {progress.loss:.4g}{seen}  "
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
    every: int | None = None,
    validation: Any = None,
    metrics: Mapping[str, Metric] = {},
    until: float | None = None,
    patience: int | tuple[str, int] | None = None,
    seconds: float | None = None,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Callable[[Progress], None] | bool | None = print_progress,
) -> Fit:
    """Do what `train` does while somebody watches; return the last state and history.

    It is `watch`, consumed: see there for `every`, `validation` and `metrics`. At each
    look `progress` is called with a `Progress`; True is `print_progress`, None and
    False are silent. The run ends

    - right after the first step whose loss is at most `until`;
    - with `patience=n`, or `(name, n)`, where the validation's loss, or the metric of
      that name, was not lowered in `n` looks; what is returned is the state that had
      the lowest, and its counter `state.step` says when that was;
    - at the first look after so many `seconds`, compiling left out.

    With a `folder` the run writes checkpoints: at each look where there is an `every`,
    otherwise at those that are half a minute apart, and when it ends in any way. The
    last three are kept, and with `patience` the best. `resume=True` goes on from the
    last, up to `steps` counted from where the run began, with the history that it had;
    a folder without checkpoints begins a run. It is the same run to the bit on the same
    machine, wherever it was cut; where data, objective, optimizer, key or versions
    differ from those that it was begun with, a `ValueError` names what does.

    A loss that is NaN or infinite raises `DivergedError`. That, Ctrl-C and whatever
    else is raised on the way, by `progress` for example, has `.fit` with what was
    reached.

    Before anything is compiled the data are looked at, all rows of them: NaN, infinite
    values, and labels that a loss of funcgrad cannot take raise a `ValueError`.

    `params` may also be a `State`, to go on where a run ended; with the same `key` the
    batches go on too, and the bits are those of a run that was not cut. What was passed
    in stays as it was.
    """
    progress = who_prints(progress, print_progress, "funcgrad.print_progress")
    state = first = _as_state(params, optimizer)
    run = _Run(objective, optimizer, state, data, batch_size, key)
    names = _names(validation, metrics)
    record = Record(int(first.step), names)
    best = None if patience is None else _Best(patience, every, names, state)
    with _opened(folder, resume, run, first, names) as place:
        if place is not None and (found := place.latest(first)) is not None:
            state, arrays = found
            record.restore(arrays)
            if best is not None:
                best.restore(place, first, record.history().looks)
        left = max(steps - int(state.step - first.step), 0)
        looks = _looks(run, state, left, every, until, validation, metrics)
        written = time.perf_counter()
        try:
            for now in looks:
                state = now.state
                seen = int(state.step), now.loss, now.seconds, now.steps_per_second
                record.add(now.losses, (*seen, *now.validation.values()))
                is_best = best is not None and best.look(now)
                if place is not None and (
                    every is not None
                    or time.perf_counter() - written > SECONDS_BETWEEN_CHECKPOINTS
                ):
                    place.write(int(state.step), state, record.arrays(), is_best)
                    written = time.perf_counter()
                if progress is not None:
                    progress(now)
                is_late = seconds is not None and now.seconds >= seconds
                if is_late or (best is not None and best.is_over):
                    break
        except DivergedError as error:
            record.losses.extend(error.fit.history.loss)
            error.fit = Fit(error.fit.state, record.history())
            raise
        except BaseException as error:
            error.fit = Fit(state, record.history())  # type: ignore[attr-defined]
            if place is not None:
                place.write(int(state.step), state, record.arrays())
            raise
        if place is not None and every is None:
            place.write(int(state.step), state, record.arrays())
    return Fit(state if best is None else best.state, record.history())


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
) -> Iterator[Progress]:
    """Do what `train` does, a chunk of steps at a time; yield a `Progress` after each.

    The caller may save, plot, stop or break off in between. With `every` it looks where
    that divides `state.step`, so that what is decided there repeats, and without about
    ten times a second; at the end in any case.

    With `validation`, rows as `data` has them, each look has the objective of them as
    `validation["loss"]`, and each f(params, rows) -> scalar of `metrics` by its name.
    More than 4,096 rows are scored in parts, whose values are averaged by their rows;
    without `every` it looks less often where that takes long.

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
    run = _Run(objective, optimizer, state, data, batch_size, key)
    return _looks(run, state, steps, every, None, validation, metrics)


def _looks(
    run: _Run,
    state: State,
    steps: int,
    every: int | None,
    until: float | None,
    validation: Any,
    metrics: Mapping[str, Metric],
) -> Iterator[Progress]:
    """Check the arguments, and return the generator that `watch` and `fit` consume."""
    steps = check_steps(steps, state.step)
    every = None if every is None else at_least(1, "every", every)
    if validation is None:
        if metrics:
            raise ValueError(
                f"metrics need rows to look at, got {listed(list(metrics))} and no "
                f"validation: pass validation=rows"
            )
        return _chunks(run, state, steps, every, until, lambda params: {})
    validation = as_arrays("validation", validation)
    check_data(
        run.objective, state.params, validation, batch_shapes(validation, None, None),
        "validation",
    )  # fmt: skip
    metrics = {"loss": run.objective} | {
        name: hashable(metric) for name, metric in metrics.items()
    }
    return _chunks(
        run, state, steps, every, until, partial(scores, metrics, rows=validation)
    )


def _chunks(
    run: _Run,
    state: State,
    steps: int,
    every: int | None,
    until: float | None,
    score: Callable[..., dict[str, float]],
) -> Iterator[Progress]:
    """Yield the looks at a run, and stop it at the exact step."""
    first, done = int(state.step), 0
    losses: list[np.ndarray] = []
    previous, previous_n = state, 0
    n = max(1, WORK_OF_THE_FIRST_CHUNK // run.work)
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
        taken = time.perf_counter() - began
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
                done, steps, np.concatenate(losses), state, seen, now - start, speed,
                (steps - done) / speed,
            )  # fmt: skip
            losses = []


class _Run:
    """A compiled run: run(state, n <= LONGEST_CHUNK) -> (state, losses)."""

    def __init__(
        self,
        objective: Objective,
        optimizer: optax.GradientTransformation,
        state: State,
        data: Any,
        batch_size: int | None,
        key: jax.Array | None,
    ):
        self.objective, self.optimizer = hashable(objective), _hashable(optimizer)
        self.data, self.batch_size, self.key = as_arrays("data", data), batch_size, key
        batch = batch_shapes(self.data, batch_size, key)
        check_data(self.objective, state.params, self.data, batch)
        self.work = work_of_a_step(state.params, batch)
        device = next(iter(jax.tree.leaves(state)[0].devices()))
        self.run_chunk = _compiled(device.platform)
        # Reused, as making one takes as long as 5,000 steps of the smallest net; in the
        # widest float that is on, which holds those of any narrower one exactly.
        self.losses = jnp.zeros(LONGEST_CHUNK, jnp.result_type(float))

    def __call__(self, state: State, n: int) -> tuple[State, np.ndarray]:
        state, self.losses = self.run_chunk(
            self.objective, self.optimizer, self.batch_size, state, self.losses,
            self.data, self.key, n,
        )  # fmt: skip
        return state, np.asarray(self.losses)[:n].copy()


@lru_cache
def _compiled(platform: str) -> Callable[..., Any]:
    """Return `_run_chunk` as it is compiled for this platform."""
    return jax.jit(
        _run_chunk,
        static_argnums=(0, 1, 2),
        donate_argnames="losses",
        compiler_options=compiler_options(platform, is_group=False),
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

    `n` is traced, so that one executable serves all, and a step has the same bits
    wherever a run is cut.
    """
    step = make_step(objective, optimizer)
    first, end = state.step, state.step + n

    def steps_until(
        last: jax.Array,
        carry: tuple[State, jax.Array],
        batch_of: Callable[[jax.Array], Any],
    ) -> tuple[State, jax.Array]:
        def one(
            i: jax.Array, carry: tuple[State, jax.Array]
        ) -> tuple[State, jax.Array]:
            state, losses = carry
            state, loss = step(state, batch_of(i))
            return state, losses.at[i - first].set(loss.astype(losses.dtype))

        return lax.fori_loop(carry[0].step, last, one, carry)

    if batch_size is None:
        return steps_until(end, (state, losses), whole_batch(data, key))

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


def _as_state(params: Params, optimizer: optax.GradientTransformation) -> State:
    if isinstance(params, State):  # of NumPy arrays, as `train_many` returns them
        return jax.tree.map(jnp.asarray, params)
    return init_state(params, optimizer)


def _hashable(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformation:
    """Return the optimizer, wrapped as `hashable` does where it has no hash."""
    if has_hash(optimizer):
        return optimizer
    return optax.GradientTransformation(
        partial(optimizer.init), partial(optimizer.update)
    )


class _Best:
    """The state that had the lowest of a metric, and for how many looks it stands."""

    def __init__(
        self,
        patience: int | tuple[str, int],
        every: int | None,
        names: Sequence[str],
        state: State,
    ):
        name, most = patience if isinstance(patience, tuple) else ("loss", patience)
        self.name, self.most = name, at_least(1, "patience", most)
        self.state, self.score, self.looks = state, np.inf, 0
        if every is None or not names:
            raise ValueError(
                "patience counts looks at a validation, at steps that repeat: pass "
                "validation=rows and every=steps too"
            )
        if f"validation_{name}" not in names:
            known = [name.removeprefix("validation_") for name in names]
            raise ValueError(
                f"patience must name one of {listed(known)}, got {name!r}: pass it in "
                f"metrics too"
            )

    def look(self, now: Progress) -> bool:
        """Return whether this state is better than all before."""
        self.looks += 1
        is_better = now.validation[self.name] < self.score
        if is_better:
            self.state, self.score, self.looks = (
                now.state, now.validation[self.name], 0
            )  # fmt: skip
        return is_better

    @property
    def is_over(self) -> bool:
        return self.looks >= self.most

    def restore(
        self, place: RunFolder, like: State, looks: Mapping[str, np.ndarray]
    ) -> None:
        """Take up the best of a run that goes on."""
        scores = np.where(np.isnan(s := looks[f"validation_{self.name}"]), np.inf, s)
        found = place.best(like)
        if found is not None and len(scores):
            at = int(np.argmin(scores))
            self.state, self.score = found[0], float(scores[at])
            self.looks = len(scores) - 1 - at


@contextmanager
def _opened(
    folder: str | os.PathLike[str] | None,
    resume: bool,
    run: _Run,
    first: State,
    names: Sequence[str],
) -> Iterator[RunFolder | None]:
    """Give the run's folder, if it has one, with its lock."""
    if folder is None:
        if resume:
            raise ValueError(
                "resume needs the folder of the run, got none: pass folder="
            )
        yield None
        return
    what = identity(
        run.objective, run.optimizer, first, run.data, run.batch_size, run.key
    )  # fmt: skip
    what |= {"first_step": str(int(first.step)), "metrics": ", ".join(names)}
    with open_run(folder, what, resume=resume) as place:
        yield place


def _names(validation: Any, metrics: Mapping[str, Metric]) -> list[str]:
    """Return what the history calls the metrics of each look."""
    names = [] if validation is None else list({"loss": None, **metrics})
    return [f"validation_{name}" for name in names]


def _next_chunk(n: int, seconds: float, scoring: float) -> int:
    """Return how many steps to do after `n` of them took so many seconds."""
    wanted = max(_SECONDS_BETWEEN_LOOKS, _SECONDS_FOR_VALIDATION * scoring)
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
