"""What is known of a run: where it stands, how it ended, and its history."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from funcgrad.notebook import fit_html
from funcgrad.training import State

# A longer run keeps every second step, then every fourth, and so on: 8 MB at most.
MOST_KEPT = 1_000_000


class History(NamedTuple):
    """The history of a run, as NumPy arrays.

    step: the step's number, counted from 0: all of a run's up to a million, and every
        second, fourth, ... of a longer one's.
    loss: the objective on that step's batch, before the update.
    looks: name -> array, one entry a look: `step`, the updates done by then; `loss`,
        the last one; `seconds` since the start; `steps_per_second`; and
        `validation_loss` and the like, of each metric that was asked for.
    """

    step: np.ndarray
    loss: np.ndarray
    looks: dict[str, np.ndarray]

    def to_csv(self) -> str:
        """Return the table as CSV: a line a step that is kept or was looked at.

        `loss` is that of the step before its update, and what was seen is that after
        it. Cells of nothing are empty.
        """
        names = [name for name in self.looks if name not in ("step", "loss")]
        rows: dict[int, list[str]] = {
            step: [repr(loss), *[""] * len(names)]
            for step, loss in zip(self.step.tolist(), self.loss.tolist(), strict=True)
        }
        seen = [self.looks[name].tolist() for name in names]
        for step, *values in zip(
            self.looks.get("step", np.zeros(0)).tolist(), *seen, strict=True
        ):
            loss = rows.get(step - 1, [""])[0]
            rows[step - 1] = [loss, *map(repr, values)]
        lines = [",".join([str(step), *rows[step]]) for step in sorted(rows)]
        return "\n".join([",".join(["step", "loss", *names]), *lines]) + "\n"


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


class Record:
    """A history that grows, of bounded size."""

    def __init__(self, first_step: int, names: Sequence[str]):
        self.first_step = first_step
        self.names = ("step", "loss", "seconds", "steps_per_second", *names)
        self.losses = _Thinned()
        self.looks = _Thinned()

    def add(self, now: Progress) -> None:
        """Note the losses since the last look, and what is seen."""
        self.losses.extend(now.losses)
        look = int(now.state.step), now.loss, now.seconds, now.steps_per_second
        self.looks.extend(np.array([[*look, *now.validation.values()]], np.float64))

    @property
    def last_loss(self) -> float:
        """The last loss that was noted; infinite if there is none."""
        looks = self.looks.kept()
        return float(looks[-1, 1]) if len(looks) else math.inf

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that was noted, for `restore`."""
        kept = {"losses": self.losses, "looks": self.looks}
        return {name: thinned.kept() for name, thinned in kept.items()} | {
            f"{name}_seen_and_stride": np.array([thinned.seen, thinned.stride])
            for name, thinned in kept.items()
        }

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what another record noted."""
        for name, thinned in {"losses": self.losses, "looks": self.looks}.items():
            thinned.parts = [arrays[name]] if len(arrays[name]) else []
            thinned.seen, thinned.stride = arrays[f"{name}_seen_and_stride"].tolist()

    def history(self) -> History:
        """Return all that was noted."""
        loss, looks = self.losses.kept(), self.looks.kept()
        stride, first = self.losses.stride, self.first_step
        step = first + stride * np.arange(len(loss), dtype=np.int32)
        columns = looks.T if looks.ndim == 2 else np.zeros((len(self.names), 0))
        named = dict(zip(self.names, columns, strict=True))
        named["step"] = named["step"].astype(np.int64)
        return History(step, loss, named)


class _Thinned:
    """Entries, of which every `stride`-th is kept: all of them up to `MOST_KEPT`."""

    def __init__(self) -> None:
        self.parts: list[np.ndarray] = []
        self.seen, self.stride = 0, 1

    def extend(self, entries: np.ndarray) -> None:
        first = -self.seen % self.stride
        self.seen += len(entries)
        self.parts.append(entries[first :: self.stride])
        while -(-self.seen // self.stride) > MOST_KEPT:
            self.parts = [self.kept()[::2]]
            self.stride *= 2

    def kept(self) -> np.ndarray:
        return joined(self.parts) if self.parts else np.zeros(0)


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the parts as one array; of a single one no copy is made."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
