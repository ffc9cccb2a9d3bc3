"""Walk a jaxpr with whole arrays of one kind of number, equation by equation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad.jaxprs import is_complex, is_float, is_float_array, opened
from funcgrad.testing import budget, control
from funcgrad.testing.control import (
    CUSTOM_CALLS,
    HANDED_ON,
    Place,
    Uncovered,
    call,
    called,
    name_within_jax,
    stacked,
)
from funcgrad.testing.numbers.path import Path
from funcgrad.testing.numbers.tape import Tape
from funcgrad.testing.rules.elementwise import ELEMENTWISE, KNOWN_WHOLE, Rule
from funcgrad.testing.rules.movement import MOVES
from funcgrad.testing.rules.native import native
from funcgrad.testing.rules.whole import PRIMITIVES
from funcgrad.testing.size import FIELD_MEMORY, FIELDS, Work, field_bytes
from funcgrad.testing.walker import Hook, Walker, is_var


class Walk(Walker):
    """One evaluation of a program with one kind of number, along a path.

    `ties` holds the places where two equal floats were compared that are not equal as
    numbers.
    """

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
        self._before = before
        self._cuts: dict[int, set[Any]] = {}
        self.ties: dict[int, Place] = {}
        self._held = 0.0 if isinstance(numbers, Tape) else None

    def is_real(self, x: Any) -> bool:
        if isinstance(x, np.ndarray):
            return x.dtype == np.float64 and self.numbers.type is np.ndarray
        return isinstance(x, self.numbers.type)

    def run(
        self, program: Any, inputs: Sequence[Any], used: Sequence[bool] | None = None
    ) -> list[Any]:
        """Evaluate a (closed) jaxpr; what nothing in `used` needs is left out."""
        jaxpr, consts = opened(program)
        used = [True] * len(jaxpr.outvars) if used is None else used
        env: dict[Any, Any] = {}

        def read(atom: Any) -> Any:
            if not is_var(atom):
                aval: Any = atom.aval
                if not is_float(aval):
                    return atom.val
                value = np.asarray(atom.val, aval.dtype)
                return self.numbers.constant(value, aval.dtype)
            value = env[atom]
            if is_float(atom.aval) and not self.is_real(value):
                self._charge(Work(lifted=np.size(value)))
                value = env[atom] = self.numbers.constant(value, atom.aval.dtype)
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
                if not any(map(self.is_real, found)):
                    return found
            return [read(x) for x in eqn.invars]

        env.update(zip(jaxpr.constvars, consts, strict=True))
        env.update(zip(jaxpr.invars, inputs, strict=True))
        cuts = cut_variables(jaxpr, self._cut, self._cuts) if self._cut else set()
        for v in cuts.intersection(jaxpr.invars):
            env[v] = self.numbers.cut(read(v))
        plan = self.planned(jaxpr, tuple(used))
        self._charge(plan.work)
        for eqn, needed, last in plan.steps:
            outputs = self.step(eqn, operands(eqn), needed)
            env.update(zip(eqn.outvars, outputs, strict=True))
            for v in cuts.intersection(eqn.outvars):
                if self.is_real(env[v]):
                    env[v] = self.numbers.cut(env[v])
            for v in last:
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
            if self._before is not None:
                self._before(self.place(eqn))
            outputs = self._evaluate(eqn, inputs)
        except Uncovered as missing:
            missing.place = missing.place or self.place(eqn)
            raise
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

    def _evaluate(self, eqn: Any, inputs: list[Any]) -> list[Any]:
        name = eqn.primitive.name
        if any(is_complex(v.aval) for v in (*eqn.invars, *eqn.outvars)):
            raise Uncovered("complex numbers")
        if not any(map(self.is_real, inputs)):
            return native(eqn, inputs)
        if name in ELEMENTWISE:
            return [self.elementwise(ELEMENTWISE[name], inputs)]
        if name in PRIMITIVES:
            out = PRIMITIVES[name](self, eqn, inputs)
            return out if isinstance(out, list) else [out]
        raise Uncovered

    def elementwise(self, rule: Rule, inputs: list[Any]) -> Any:
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

    def decide(
        self, eqn: Any, decision: Callable[[], Any], equal: Callable[[], Any], *x: Any
    ) -> Any:
        """Return a decision between numbers, noting ties between `x`.

        `equal()` says of the floats where they are equal.
        """

        def decided() -> Any:
            where = np.asarray(equal())
            return decision(), where if where.any() else None

        found, tied = self.path.decide(decided)
        self.note_tie(eqn, tied, lambda: self.numbers.differ(*x))
        return found

    def note_tie(self, eqn: Any, tied: Any, differ: Callable[[], Any]) -> None:
        """Note the place where equal floats were compared, if some numbers differ."""
        is_replayed = tied is not None and self.path.is_recorded
        if is_replayed and np.any(tied & differ()):
            self.ties.setdefault(id(eqn), self.place(eqn))

    def reals(self, inputs: Sequence[Any]) -> list[Any]:
        """Return arrays of this walk's kind in place of native ones."""
        return [x if self.is_real(x) else self.numbers.lift(x) for x in inputs]

    def lifted(self, natives: Sequence[Any]) -> list[Any]:
        return list(natives)  # floats are lifted where they are read

    def settled(self, eqn: Any, x: Any) -> Any:
        return x  # the path has decided it

    def row(self, x: Any, i: int) -> Any:
        """Return x[i], of what a loop runs over."""
        if self.is_real(x):
            return self.numbers.moved(lambda a: [a[i]], [x])[0]
        return np.asarray(x[i]) if isinstance(x, np.ndarray) else x[i]

    def stacked(self, column: Sequence[Any]) -> Any:
        """Return what the turns of a loop made as one array."""
        if self.is_real(column[0]):
            return self.numbers.moved(lambda *a: [np.stack(a)], list(column))[0]
        return stacked(column)

    def _charge(self, work: Work) -> None:
        """Pay for equations before they are run."""
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
            elif CALLS.get(name) in (call, _custom_call):
                inner, _ = opened(called(eqn))
                cuts = cut_variables(inner, names, known)
                pairs = zip(eqn.invars, inner.invars, strict=True)
                found += [outer for outer, v in pairs if v in cuts]
        known[id(jaxpr)] = {v for v in found if is_var(v) and is_float(v.aval)}
    return known[id(jaxpr)]


# Calls, loops and branches ------------------------------------------------------------


def _custom_call(
    walk: Walk, eqn: Any, inputs: list[Any], used: list[bool]
) -> list[Any]:
    """Follow the primal of a function with a rule of its own, but for known ones."""
    known = KNOWN_WHOLE.get(name_within_jax(eqn) or "")
    if known is not None and any(map(walk.is_real, inputs)):
        return [walk.elementwise(known, inputs)]
    if walk.inside_custom_rules:
        return call(walk, eqn, inputs, used)
    with walk.untold():
        outputs = call(walk, eqn, inputs, used)
    walk.tell(eqn, inputs, outputs)
    return outputs


CALLS = {**control.CALLS, **dict.fromkeys(CUSTOM_CALLS, _custom_call)}
