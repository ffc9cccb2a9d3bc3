"""Decisions: recorded once by floats, replayed by every other kind of number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


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
