"""What one check may spend, counted as its walks go on.

What is spent is counted by the prices of `size`, and not timed, so that a check ends at
the same place on every machine. Everything that a check does draws on one budget: its
walks at every precision, ties, constants, the search for the culprit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from funcgrad.errors import InputError


class Spent(InputError):
    """Raised where a check has spent all that it may."""


class Budget:
    """Seconds that are left of those that the check was given.

    `plans` is what its walks have found out about programs, for one another.
    """

    def __init__(self, given: float, left: float):
        self.given, self.left = given, left
        self.plans: dict[Any, Any] = {}

    def spend(self, seconds: float) -> None:
        """Take so many seconds, or say that they are not there."""
        self.left -= seconds
        if self.left < 0:
            raise Spent(
                f"this check needs more than seconds={self.given:,.3g}: a `while` loop "
                f"turns for longer, or ties or constants need more walks, than could "
                f"be told before it started. Check fewer rows of the batch, have loops "
                f"turn less often, or allow more seconds"
            )


_current: ContextVar[Budget] = ContextVar("budget")


def current() -> Budget:
    """Return the budget of the check that is going on."""
    return _current.get(None) or Budget(math.inf, math.inf)


@contextmanager
def within(seconds: float, share: float = 1.0) -> Iterator[None]:
    """Give what is done inside the block a share of the seconds of the check."""
    token = _current.set(Budget(seconds, seconds * share))
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def part(share: float) -> Iterator[None]:
    """Let what is done inside the block spend a share of what is left."""
    budget = current()
    kept = budget.left * (1 - share) if math.isfinite(budget.left) else 0.0
    budget.left -= kept
    try:
        yield
    finally:
        budget.left += kept


def refuse_memory(held: float, most: float) -> None:
    """Raise InputError where a tape holds more bytes than it may."""
    if held > most:
        raise Spent(
            f"this check needs more than the {most / 1e9:.0f} GB that it may take: a "
            f"`while` loop makes more numbers than could be told before. Check fewer "
            f"rows of the batch, or have the loop turn less often"
        )
