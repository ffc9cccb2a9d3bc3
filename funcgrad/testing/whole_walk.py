"""The walk with whole arrays of one kind of number: a path has decided for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad.jaxprs import is_float, opened
from funcgrad.testing import budget
from funcgrad.testing.control import CUSTOM_CALLS, HANDED_ON, Place, called
from funcgrad.testing.numbers.path import AlongPath, Path
from funcgrad.testing.numbers.tape import Tape
from funcgrad.testing.rules.elementwise import ELEMENTWISE, KNOWN_WHOLE, Rule
from funcgrad.testing.size import FIELD_MEMORY, FIELDS, Work, field_bytes
from funcgrad.testing.walker import Hook, Walker, is_var


class Walk(Walker):
    """One evaluation of a program with one kind of number, along a path.

    `before(place)` is called before each equation that is no call or loop; the
    arguments of the primitives in `cut` are cut from where they came from. `ties` holds
    the places where two equal floats were compared that are not equal as numbers.
    """

    known = KNOWN_WHOLE

    def __init__(
        self,
        numbers: Any,
        path: Path,
        *,
        hook: Hook | None = None,
        before: Callable[[Place], None] | None = None,
        inside_custom_rules: bool = True,
        cut: tuple[str, ...] = (),
    ):
        super().__init__(hook, inside_custom_rules)
        self.numbers, self.path, self._cut = numbers, path, cut
        self.decisions = AlongPath(numbers, path)
        self.ties = self.decisions.ties
        self._before = before
        self._cuts: dict[int, set[Any]] = {}
        self._held = 0.0 if isinstance(numbers, Tape) else None

    def is_real(self, x: Any) -> bool:
        if isinstance(x, np.ndarray):
            return x.dtype == np.float64 and self.numbers.type is np.ndarray
        return isinstance(x, self.numbers.type)

    def constant(self, native: np.ndarray, dtype: Any, *, closed_over: bool) -> Any:
        return self.numbers.constant(native, dtype)

    def arrive(self, eqn: Any) -> None:
        self.decisions.place = place = self.place(eqn)
        if self._before is not None:
            self._before(place)

    def cuts(self, jaxpr: Any) -> set[Any]:
        return cut_variables(jaxpr, self._cut, self._cuts) if self._cut else set()

    def elementwise(self, eqn: Any, rule: Rule, inputs: Sequence[Any]) -> Any:
        """Apply a rule; where floats are infinite, their limits are the numbers."""
        arrays = self.reals(inputs)
        if not self.path.is_recorded:
            out = self.numbers.elementwise(rule, arrays)
            self.path.decide(lambda: _limits(arrays, out))
            return out
        limits = self.path.decide(lambda: None)
        if limits is None:
            return self.numbers.elementwise(rule, arrays)
        mask, values = limits
        one = self.numbers.lift(1)
        arrays = [self.numbers.where(mask, one, x) for x in arrays]
        out = self.numbers.elementwise(rule, arrays)
        return self.numbers.where(mask, self.numbers.lift(values), out)

    def added_at(
        self,
        eqn: Any,
        places: np.ndarray,
        updates: Any,
        shape: Sequence[int],
        onto: Any = None,
    ) -> Any:
        added = self.numbers.added_at(places, updates, shape)
        if onto is None:
            return added
        return self.elementwise(eqn, ELEMENTWISE["add"], [onto, added])

    def settled(self, eqn: Any, x: Any) -> Any:
        return x  # the path has decided it

    def charge(self, work: Work) -> None:
        self.budget.spend(FIELDS.of_a_walk(work) * self.numbers.effort)
        if self._held is not None:
            self._held += field_bytes(work)
            budget.refuse_memory(self._held, FIELD_MEMORY)


def _limits(arrays: list[np.ndarray], out: np.ndarray) -> Any:
    """Return where floats are not finite and what comes out there, or None."""
    mask = ~np.isfinite(out)
    for x in arrays:
        if not np.isfinite(x).all():
            mask = mask | ~np.isfinite(x)
    return (mask, np.where(mask, out, 0.0)) if mask.any() else None


def cut_variables(
    jaxpr: Any, names: tuple[str, ...], known: dict[int, set[Any]]
) -> set[Any]:
    """Return the variables that are arguments of these primitives, here or in calls.

    A name that ends with / stands for divisors. Of a loop's operands none is meant:
    they are other numbers at each turn.
    """
    if id(jaxpr) not in known:
        found: list[Any] = []  # a literal cannot be in a set
        for eqn in jaxpr.eqns:
            name = eqn.primitive.name
            if name in names:
                found.append(eqn.invars[0])
            elif name == "div" and "/" in names:
                found.append(eqn.invars[1])
            elif name in HANDED_ON or name in CUSTOM_CALLS:
                inner, _ = opened(called(eqn))
                cuts = cut_variables(inner, names, known)
                pairs = zip(eqn.invars, inner.invars, strict=True)
                found += [outer for outer, v in pairs if v in cuts]
        known[id(jaxpr)] = {v for v in found if is_var(v) and is_float(v.aval)}
    return known[id(jaxpr)]
