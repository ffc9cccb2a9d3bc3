"""What every walk of a program does, whatever its numbers are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from jax.extend import core

from funcgrad.testing import budget
from funcgrad.testing.control import Place
from funcgrad.testing.size import Work, work_of

Hook = Callable[[Place, list[Any], list[Any]], None]


class Plan(NamedTuple):
    """(equation, outputs needed, variables read last) of what is needed; its work.

    The program is kept, so that its id stays its own.
    """

    program: Any
    steps: list[tuple[Any, list[bool], set[Any]]]
    work: Work


class Walker:
    """An evaluation of a program; `run` evaluates it with one kind of number.

    `hook(place, inputs, outputs)` is called after each equation that is no call or
    loop; a function with a custom rule counts as one equation to it unless
    `inside_custom_rules`.
    """

    def __init__(self, hook: Hook | None, inside_custom_rules: bool):
        self.inside_custom_rules = inside_custom_rules
        self.budget = budget.current()
        self._hook = hook
        self._callers: tuple[Any, ...] = ()

    def run(
        self, program: Any, inputs: Sequence[Any], used: Sequence[bool] | None = None
    ) -> list[Any]:
        raise NotImplementedError

    def enter(
        self,
        eqn: Any,
        program: Any,
        inputs: Sequence[Any],
        used: Sequence[bool] | None = None,
    ) -> list[Any]:
        """Run a program that an equation calls."""
        before, self._callers = self._callers, (*self._callers, eqn)
        try:
            return self.run(program, inputs, used)
        finally:
            self._callers = before

    def place(self, eqn: Any) -> Place:
        """Return an equation of the program that is being run, with its callers."""
        return Place(eqn, self._callers)

    def tell(self, eqn: Any, inputs: list[Any], outputs: list[Any]) -> None:
        """Tell the hook of an equation."""
        if self._hook is not None:
            self._hook(self.place(eqn), inputs, outputs)

    @contextmanager
    def untold(self) -> Iterator[None]:
        """Tell the hook of nothing inside the block."""
        hook, self._hook = self._hook, None
        try:
            yield
        finally:
            self._hook = hook

    def planned(self, jaxpr: Any, used: tuple[bool, ...]) -> Plan:
        """Return the equations that the used outputs need, in order."""
        plans, key = self.budget.plans, (id(jaxpr), used)
        if key not in plans:
            needed = {
                v for v, u in zip(jaxpr.outvars, used, strict=True) if u and is_var(v)
            }
            steps: list[tuple[Any, list[bool], set[Any]]] = []
            for eqn in reversed(jaxpr.eqns):
                outputs = [v in needed for v in eqn.outvars]
                if any(outputs):
                    own = {v for v in eqn.invars if is_var(v)}
                    unread = {v for v in eqn.outvars if v not in needed}
                    steps.append((eqn, outputs, (own - needed) | unread))
                    needed |= own
            work = work_of(eqn for eqn, *_ in steps)
            plans[key] = Plan(jaxpr, steps[::-1], work)
        return plans[key]


def is_var(atom: Any) -> bool:
    return not isinstance(atom, core.Literal)
