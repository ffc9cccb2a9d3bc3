"""The walk with exact numbers: they decide by themselves, and note what they meet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad.jaxprs import result_dtype
from funcgrad.testing import budget
from funcgrad.testing.control import Place
from funcgrad.testing.flint import flint
from funcgrad.testing.numbers.exact import Exact
from funcgrad.testing.numbers.native import Native
from funcgrad.testing.numbers.objects import Event, is_real
from funcgrad.testing.numbers.truth import Truth
from funcgrad.testing.rules.elementwise import APPROXIMATED, Rule
from funcgrad.testing.size import BYTES_PER_SCALAR, EXACT, MEMORY, Work
from funcgrad.testing.walker import Hook, Walker

# Beyond so many bits it is they, and not Python, that take the time of arithmetic.
_BITS = 512


class Met(NamedTuple):
    """What the numbers noted at one place."""

    place: Place
    events: list[Event]


class Walk(Walker):
    """One evaluation of a program with one kind of number.

    What the numbers noted on the way is in `met`, with the place where they did.
    """

    known = APPROXIMATED

    def __init__(
        self,
        numbers: Exact | Native,
        *,
        hook: Hook | None = None,
        inside_custom_rules: bool = True,
    ):
        super().__init__(hook, inside_custom_rules)
        self.numbers = self.decisions = numbers
        self.met: list[Met] = []
        self._held = 0.0 if isinstance(numbers, Truth) else None

    def is_real(self, x: Any) -> bool:
        return is_real(x)

    def constant(self, native: np.ndarray, dtype: Any, *, closed_over: bool) -> Any:
        return self.numbers.constant(native, dtype, closed_over=closed_over)

    def elementwise(self, eqn: Any, rule: Rule, inputs: Sequence[Any]) -> Any:
        return self.numbers.elementwise(rule, self.reals(inputs), result_dtype(eqn))

    def added_at(
        self,
        eqn: Any,
        places: np.ndarray,
        updates: Any,
        shape: Sequence[int],
        onto: Any = None,
    ) -> Any:
        return self.numbers.added_at(places, updates, shape, result_dtype(eqn), onto)

    def stamp(self, eqn: Any) -> None:
        """Keep what the numbers noted since the last time, as met at this equation."""
        if self.numbers.events:
            self.met.append(Met(self.place(eqn), self.numbers.events))
            self.numbers.events = []

    def where(self, kind: str) -> list[Place]:
        """Return the places at which something of this kind was met, each once."""
        found: dict[int, Place] = {}
        for place, events in self.met:
            if any(event.kind == kind for event in events):
                found.setdefault(id(place.eqn), place)
        return list(found.values())

    def settled(self, eqn: Any, x: Any) -> Any:
        out = self.numbers.settled(x)
        self.stamp(eqn)
        return out

    def charge(self, work: Work) -> None:
        self.budget.spend(EXACT.of_a_walk(work, max(1, flint().ctx.prec / _BITS)))
        if self._held is not None:
            self._held += (work.scalars + work.terms) * BYTES_PER_SCALAR
            budget.refuse_memory(self._held, MEMORY)
