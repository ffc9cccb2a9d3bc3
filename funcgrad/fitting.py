"""A run with a person beside it: shown, ended in time, and kept.

It is `watch`, consumed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from funcgrad.arguments import at_least, check_function
from funcgrad.compiled_run import Run
from funcgrad.devices import on_mesh
from funcgrad.errors import listed
from funcgrad.history import Fit, Progress, Record
from funcgrad.model import Objective, Params
from funcgrad.notebook import in_notebook
from funcgrad.run_folder import RunFolder
from funcgrad.training import State, check_steps, init_state
from funcgrad.validation import Metric
from funcgrad.watching import DivergedError, looks_at, run_of

if TYPE_CHECKING:
    from funcgrad.shared_folder import SharedFolder


SECONDS_BETWEEN_CHECKPOINTS = 30.0


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
    mesh: Mesh | None = None,
) -> Fit:
    """Do what `train` does while somebody watches; return the last state and history.

    It is `watch`, consumed: see there for `every`, `validation`, `metrics` and `mesh`.
    At each look `progress` is called with a `Progress`; True is `print_progress`, None
    and False are silent. The run ends

    - right after the first step whose loss is at most `until`;
    - with `patience=n`, or `(name, n)`, where the validation's loss, or the metric of
      that name, was not lowered in `n` looks; what is returned is the state that had
      the lowest, and its counter `state.step` says when that was;
    - at the first look after so many `seconds`, compiling left out.

    On several processes, which all call it alike, process 0's clock counts, it alone
    writes, and SIGTERM to one of them ends the run on all, with `hosts.Preempted`.

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
    state, data = on_mesh(mesh, _as_state(params, optimizer), data)
    first = state
    run = run_of(objective, optimizer, state, data, batch_size, key)
    steps = check_steps(steps, first.step)
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
        if _has_ended(record, until, best):
            left = 0
        looks = looks_at(run, state, left, every, until, validation, metrics)
        written = time.perf_counter()
        try:
            for now in looks:
                record.add(now)
                state = now.state
                is_best = best is not None and best.look(now)
                is_late, is_due = run.decided(
                    seconds is not None and now.seconds >= seconds,
                    time.perf_counter() - written > SECONDS_BETWEEN_CHECKPOINTS,
                )
                if place is not None and (every is not None or is_due):
                    place.write(int(state.step), state, record.arrays(), is_best)
                    written = time.perf_counter()
                if progress is not None:
                    progress(now)
                if is_late or (best is not None and best.is_over):
                    break
        except DivergedError as error:
            record.losses.extend(error.fit.history.loss)
            error.fit = Fit(error.fit.state, record.history())
            raise
        except BaseException as error:
            error.fit = Fit(state, record.history())  # type: ignore[attr-defined]
            # Unless Ctrl-C came in between noting the losses and taking the state.
            is_whole = record.losses.seen == int(state.step - first.step)
            # What one of several processes raises alone, the others do not know of.
            if place is not None and is_whole and run.has_ended_for_all():
                place.write(int(state.step), state, record.arrays())
            raise
        finally:
            looks.close()
        if place is not None and every is None:
            place.write(int(state.step), state, record.arrays())
    return Fit(state if best is None else best.state, record.history())


def _as_state(params: Params, optimizer: optax.GradientTransformation) -> State:
    if isinstance(params, State):  # of NumPy arrays, as `train_many` returns them
        return jax.tree.map(jnp.asarray, params)
    return init_state(params, optimizer)


def _has_ended(record: Record, until: float | None, best: _Best | None) -> bool:
    """Return whether a run that is to go on had ended early."""
    if best is not None and best.is_over:
        return True
    return until is not None and record.last_loss <= until


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
        self,
        place: RunFolder | SharedFolder,
        like: State,
        looks: Mapping[str, np.ndarray],
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
    run: Run,
    first: State,
    names: Sequence[str],
) -> Iterator[RunFolder | SharedFolder | None]:
    """Give the run's folder, if it has one, with its lock."""
    if folder is None:
        if resume:
            raise ValueError(
                "resume needs the folder of the run, got none: pass folder="
            )
        yield None
        return
    what = run.identity(first) | {
        "first_step": str(int(first.step)),
        "metrics": ", ".join(names),
    }
    with run.open_folder(folder, what, resume=resume) as place:
        yield place


def _names(validation: Any, metrics: Mapping[str, Metric]) -> list[str]:
    """Return what the history calls the metrics of each look."""
    names = [] if validation is None else list({"loss": None, **metrics})
    return [f"validation_{name}" for name in names]
