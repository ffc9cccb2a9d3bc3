"""Decisions: recorded once by floats, replayed by every other kind of number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from funcgrad.testing.numbers.whole import in_float64
from funcgrad.testing.rules.elementwise import COMPARISONS, ELEMENTWISE


class Path:
    """What a program decided on its way, in order: comparisons, orders, turns."""

    def __init__(self) -> None:
        self.decisions: list[Any] = []
        self._replayed: Iterator[Any] | None = None

    def replay(self) -> Path:
        """Return the same path, to be gone again from its beginning."""
        again = Path()
        again.decisions = self.decisions
        again._replayed = iter(self.decisions)
        return again

    @property
    def is_recorded(self) -> bool:
        return self._replayed is not None

    def decide(self, decision: Callable[[], Any]) -> Any:
        """Return what is decided here, as it was before if this is a replay."""
        if self._replayed is not None:
            return next(self._replayed)
        found = decision()
        self.decisions.append(found)
        return found


class AlongPath:
    """The decisions of a walk of whole arrays.

    `place` is where the walk is; `ties` holds the places where two equal floats were
    compared that are not equal as numbers.
    """

    def __init__(self, numbers: Any, path: Path):
        self.numbers, self.path = numbers, path
        self.place: Any = None
        self.ties: dict[int, Any] = {}

    def _decide(
        self, decision: Callable[[], Any], equal: Callable[[], Any], a: Any, b: Any
    ) -> Any:
        """Return a decision between a and b; `equal()` says where they tie."""

        def decided() -> Any:
            where = np.asarray(equal())
            return decision(), where if where.any() else None

        with np.errstate(all="ignore"):
            found, tied = self.path.decide(decided)
        self._note_tie(tied, lambda: self.numbers.differ(a, b))
        return found

    def _note_tie(self, tied: Any, differ: Callable[[], Any]) -> None:
        """Note the place where equal floats were compared, if some numbers differ."""
        is_replayed = tied is not None and self.path.is_recorded
        if is_replayed and np.any(tied & differ()):
            self.ties.setdefault(id(self.place.eqn), self.place)

    def compare(self, op: str, a: Any, b: Any) -> Any:
        """Return the booleans of `a op b`."""
        operation = COMPARISONS[op]
        return self._decide(lambda: np.asarray(operation(a, b)), lambda: a == b, a, b)

    def best(self, a: Any, b: Any, direction: int) -> Any:
        """Return the larger of two arrays, or the smaller; the first where they tie."""
        first = self._decide(
            lambda: ~np.asarray(direction * (b - a) > 0) & ~np.isnan(b),
            lambda: a == b,
            a,
            b,
        )
        return self.numbers.where(first, a, b)

    def absolute(self, x: Any) -> Any:
        below = self.compare("lt", x, self.numbers.lift(0))
        minus = self.numbers.elementwise(ELEMENTWISE["neg"], [x])
        return self.numbers.where(below, minus, x)

    def best_of(self, rows: Any, direction: int) -> Any:
        """Return the first largest number along the last axis, or the smallest."""
        return self._at(rows, self.largest(rows, direction))

    def _at(self, rows: Any, found: np.ndarray) -> Any:
        return self.numbers.moved(
            lambda a: [np.take_along_axis(a, found[..., None], -1)[..., 0]], [rows]
        )[0]

    def largest(self, rows: Any, direction: int) -> np.ndarray:
        """Return the index of the first largest, or smallest, along the last axis."""

        def decided() -> Any:
            found = np.argmax(direction * rows, -1)
            best = np.take_along_axis(rows, found[..., None], -1)
            same = (rows == best) & np.isfinite(rows)
            many = same.sum(-1) > 1
            return found, same & many[..., None] if many.any() else None

        def differ() -> Any:
            (wide,) = self.numbers.moved(
                lambda a: [np.broadcast_to(a[..., None], rows.shape)],
                [self._at(rows, found)],
            )
            return self.numbers.differ(rows, wide)

        found, tied = self.path.decide(decided)
        self._note_tie(tied, differ)
        return np.asarray(found)

    def order(self, keys: list[Any]) -> np.ndarray:
        """Return the stable ascending order along the last axis by one or more keys."""

        def decided() -> Any:
            order = np.lexsort([np.asarray(k) for k in keys[::-1]], axis=-1)
            row = np.take_along_axis(np.asarray(keys[0]), order, -1)
            same = row[..., 1:] == row[..., :-1]
            return order, same if same.any() else None

        def neighbours(k: np.ndarray) -> list[np.ndarray]:
            row = np.take_along_axis(k, order, -1)
            return [row[..., 1:], row[..., :-1]]

        order, tied = self.path.decide(decided)
        if isinstance(keys[0], self.numbers.type):
            self._note_tie(
                tied,
                lambda: self.numbers.differ(*self.numbers.moved(neighbours, [keys[0]])),
            )
        return np.asarray(order)

    def steps(self, step: Any, x: Any) -> np.ndarray:
        """Apply a function that is constant between its jumps, such as floor."""
        return np.asarray(
            self._decide(
                lambda: step.floats(x), lambda: step.jumps(x), x, self.numbers.lift(0)
            )
        )

    def quotient(self, x: Any, y: Any, dtype: Any) -> Any:
        """Return x / y rounded toward 0."""
        return self.numbers.lift(self.path.decide(lambda: np.trunc(x / y)))

    def to_integers(self, x: Any, dtype: Any) -> np.ndarray:
        """Round toward 0, as a conversion to an integer type does."""
        return self.path.decide(
            lambda: in_float64(lambda a: a.astype(dtype), x).astype(dtype)
        )

    def is_finite(self, x: Any) -> np.ndarray:
        return self.path.decide(lambda: np.isfinite(x))
