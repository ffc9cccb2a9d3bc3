"""Walk a jaxpr equation by equation, whatever its numbers are.

What a primitive does to them stands in `rules`; calls, loops and branches are followed
as `control` says. What is in none of these raises `Uncovered`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.extend import core

from funcgrad.jaxprs import is_complex, is_float, is_float_array, opened
from funcgrad.testing import budget, control
from funcgrad.testing.control import (
    CUSTOM_CALLS,
    HANDED_ON,
    Place,
    Uncovered,
    call,
    name_within_jax,
)
from funcgrad.testing.numbers.objects import Doubtful
from funcgrad.testing.rules.elementwise import ELEMENTWISE, Rule
from funcgrad.testing.rules.movement import moved
from funcgrad.testing.rules.native import is_key, native
from funcgrad.testing.rules.positions import MOVES
from funcgrad.testing.rules.primitives import PRIMITIVES
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
    """An evaluation of a program with one kind of number.

    `decisions` decides between numbers, and `known` are the functions of JAX's own that
    are read as a rule. `hook(place, inputs, outputs)` is called after each equation
    that is no call or loop; a function with a custom rule counts as one equation to it
    unless `inside_custom_rules`.
    """

    numbers: Any
    decisions: Any
    known: Mapping[str, Rule]

    def __init__(self, hook: Hook | None, inside_custom_rules: bool):
        self.inside_custom_rules = inside_custom_rules
        self.budget = budget.current()
        self._hook = hook
        self._callers: tuple[Any, ...] = ()

    # What each walk does in its own way ----------------------------------------------

    def is_real(self, x: Any) -> bool:
        """Tell whether x is an array of this walk's kind of number."""
        raise NotImplementedError

    def constant(self, native: np.ndarray, dtype: Any, *, closed_over: bool) -> Any:
        """Return a constant of a program as numbers."""
        raise NotImplementedError

    def elementwise(self, eqn: Any, rule: Rule, inputs: Sequence[Any]) -> Any:
        raise NotImplementedError

    def added_at(
        self,
        eqn: Any,
        places: np.ndarray,
        updates: Any,
        shape: Sequence[int],
        onto: Any = None,
    ) -> Any:
        """Return zeros, or `onto`, with updates added at flat places; < 0 is none."""
        raise NotImplementedError

    def settled(self, eqn: Any, x: Any) -> Any:
        """Return native numbers that decide where an equation goes."""
        raise NotImplementedError

    def charge(self, work: Work) -> None:
        """Pay for equations before they are run."""
        raise NotImplementedError

    def cuts(self, jaxpr: Any) -> set[Any]:
        """Return the variables whose numbers are cut from where they came from."""
        return set()

    def arrive(self, eqn: Any) -> None:
        """Be told of an equation before it is run."""

    def stamp(self, eqn: Any) -> None:
        """Be told of an equation after it was run, before the hook is."""

    # The walk ------------------------------------------------------------------------

    def run(
        self, program: Any, inputs: Sequence[Any], used: Sequence[bool] | None = None
    ) -> list[Any]:
        """Evaluate a (closed) jaxpr on `inputs` and return its outputs.

        `inputs` are arrays of this walk's kind of number, or native arrays. Equations
        that nothing in `used` outputs needs are left out, as a compiler would.
        """
        jaxpr, consts = opened(program)
        used = [True] * len(jaxpr.outvars) if used is None else used
        env: dict[Any, Any] = {}

        def read(atom: Any) -> Any:
            is_literal = not is_var(atom)
            value = atom.val if is_literal else env[atom]
            if not is_float(atom.aval) or self.is_real(value):
                return value
            # What is computed was lifted: a float here is a constant's, in its own
            # type, of which JAX may keep more digits.
            dtype = atom.aval.dtype
            if not is_literal:
                self.charge(Work(lifted=np.size(value)))
            native = np.asarray(value, dtype)
            value = self.constant(native, dtype, closed_over=not is_literal)
            if not is_literal:
                env[atom] = value
            return value

        def handed(atom: Any) -> Any:
            """Return an array of floats as it is, so that moving it costs nothing."""
            is_array = is_var(atom) and is_float_array(atom.aval)
            return env[atom] if is_array else read(atom)

        def operands(eqn: Any) -> list[Any]:
            name = eqn.primitive.name
            if name in HANDED_ON:
                return [handed(x) for x in eqn.invars]
            if name in MOVES and cuts.isdisjoint(eqn.outvars):
                found = [handed(x) for x in eqn.invars]
                if not any(self.is_real(x) or isinstance(x, Doubtful) for x in found):
                    return found
            return [read(x) for x in eqn.invars]

        env.update(zip(jaxpr.constvars, consts, strict=True))
        env.update(zip(jaxpr.invars, inputs, strict=True))
        cuts = self.cuts(jaxpr)
        for v in cuts.intersection(jaxpr.invars):
            env[v] = self.numbers.cut(read(v))
        plan = self.planned(jaxpr, tuple(used))
        self.charge(plan.work)
        for eqn, needed, unread in plan.steps:
            outputs = self.step(eqn, operands(eqn), needed)
            env.update(zip(eqn.outvars, outputs, strict=True))
            for v in cuts.intersection(eqn.outvars):
                if self.is_real(env[v]):
                    env[v] = self.numbers.cut(env[v])
            for v in unread:
                env.pop(v, None)
        return [
            read(x) if u else None for x, u in zip(jaxpr.outvars, used, strict=True)
        ]

    def step(self, eqn: Any, inputs: list[Any], used: list[bool]) -> list[Any]:
        """Return the outputs of one equation."""
        follow = CALLS.get(eqn.primitive.name)
        try:
            if follow is not None:
                return follow(self, eqn, inputs, used)
            self.arrive(eqn)
            outputs = self.evaluate(eqn, inputs)
        except Uncovered as missing:
            missing.place = missing.place or self.place(eqn)
            raise
        self.stamp(eqn)
        # Arrays that were only moved wait until something else reads them.
        is_move = eqn.primitive.name in MOVES
        outputs = [
            self.numbers.lift(x)
            if is_float(v.aval) and not self.is_real(x) and not (is_move and np.ndim(x))
            else x
            for v, x in zip(eqn.outvars, outputs, strict=True)
        ]
        self.tell(eqn, inputs, outputs)
        return outputs

    def evaluate(self, eqn: Any, inputs: list[Any]) -> list[Any]:
        """Return the outputs of one equation that is no call or loop."""
        name = eqn.primitive.name
        if any(is_complex(v.aval) for v in (*eqn.invars, *eqn.outvars)):
            raise Uncovered("complex numbers")
        if not any(map(self.is_real, inputs)):
            return native(eqn, inputs)
        if name in ELEMENTWISE:
            return [self.elementwise(eqn, ELEMENTWISE[name], inputs)]
        if name in PRIMITIVES:
            out = PRIMITIVES[name](self, eqn, inputs)
            return out if isinstance(out, list) else [out]
        raise Uncovered

    def reals(self, inputs: Sequence[Any]) -> list[Any]:
        """Return arrays of this walk's kind in place of native ones."""
        return [x if self.is_real(x) else self.numbers.lift(x) for x in inputs]

    def row(self, x: Any, i: int) -> Any:
        """Return x[i], of what a loop runs over."""
        return x[i] if is_key(x) else moved(self, lambda a: np.asarray(a[i]), x)

    def stacked(self, column: Sequence[Any]) -> Any:
        """Return what the turns of a loop made as one array."""
        if any(map(self.is_real, column)):
            return moved(self, lambda *a: np.stack(a), *self.reals(column))
        if any(isinstance(x, Doubtful) for x in column):
            opens = [
                x.open if isinstance(x, Doubtful) else np.zeros(np.shape(x), bool)
                for x in column
            ]
            values = [x.value if isinstance(x, Doubtful) else x for x in column]
            return Doubtful(np.stack(values), np.stack(opens))
        return jnp.stack(column) if is_key(column[0]) else np.stack(column)

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


def _custom_call(
    walk: Walker, eqn: Any, inputs: list[Any], used: list[bool]
) -> list[Any]:
    """Follow the primal of a function with a rule of its own.

    A few functions inside JAX are read as one rule, and no hook is told of them.
    """
    known = walk.known.get(name_within_jax(eqn) or "")
    if known is not None and any(map(walk.is_real, inputs)):
        outputs = [walk.elementwise(eqn, known, inputs)]
        walk.stamp(eqn)
        return outputs
    if walk.inside_custom_rules and known is None:
        return call(walk, eqn, inputs, used)
    with walk.untold():
        outputs = call(walk, eqn, inputs, used)
    if known is None:
        walk.tell(eqn, inputs, outputs)
    return outputs


CALLS = {**control.CALLS, **dict.fromkeys(CUSTOM_CALLS, _custom_call)}
