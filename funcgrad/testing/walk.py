"""Walk a jaxpr with exact numbers, equation by equation.

What a primitive does to them stands in `rules`; calls, loops and branches are followed
as `control` says. What is in none of these raises `Uncovered`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from funcgrad.jaxprs import is_complex, is_float_array, opened, result_dtype
from funcgrad.testing import budget, control
from funcgrad.testing.control import (
    CUSTOM_CALLS,
    HANDED_ON,
    Place,
    Uncovered,
    call,
    name_within_jax,
    stacked,
)
from funcgrad.testing.flint import flint
from funcgrad.testing.numbers.exact import Exact
from funcgrad.testing.numbers.native import Native
from funcgrad.testing.numbers.objects import Doubtful, Event, is_real
from funcgrad.testing.numbers.truth import Truth
from funcgrad.testing.rules.elementwise import APPROXIMATED, ELEMENTWISE
from funcgrad.testing.rules.exact import PRIMITIVES
from funcgrad.testing.rules.movement import MOVES
from funcgrad.testing.rules.native import native
from funcgrad.testing.size import BYTES_PER_SCALAR, EXACT, MEMORY, Work
from funcgrad.testing.walker import Hook, Walker, is_var

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

    def __init__(
        self,
        numbers: Exact | Native,
        *,
        hook: Hook | None = None,
        inside_custom_rules: bool = True,
    ):
        super().__init__(hook, inside_custom_rules)
        self.numbers: Any = numbers
        self.met: list[Met] = []
        self._held = 0.0 if isinstance(numbers, Truth) else None

    def run(
        self, program: Any, inputs: Sequence[Any], used: Sequence[bool] | None = None
    ) -> list[Any]:
        """Evaluate a (closed) jaxpr on `inputs` and return its outputs.

        `inputs` are arrays of this walk's kind of number, or native arrays. Equations
        that nothing in `used` outputs needs are left out, as a compiler would.
        """
        jaxpr, consts = opened(program)
        if used is None:
            used = [True] * len(jaxpr.outvars)
        env: dict[Any, Any] = {}

        def read(atom: Any) -> Any:
            is_literal = not is_var(atom)
            value = _literal(atom) if is_literal else env[atom]
            if not _is_float(value):
                return value
            # What is computed was lifted: a float here is a constant's.
            dtype = atom.aval.dtype
            if not np.ndim(value):
                return self.numbers.constant(value, dtype, closed_over=not is_literal)
            self._charge(Work(lifted=np.size(value)))
            env[atom] = lifted = self.numbers.lift(np.asarray(value, dtype))
            return lifted

        def handed(atom: Any) -> Any:
            """Return an array of floats as it is, so that moving it costs nothing."""
            is_array = is_var(atom) and is_float_array(atom.aval)
            return env[atom] if is_array else read(atom)

        def operands(eqn: Any) -> list[Any]:
            name = eqn.primitive.name
            if name in HANDED_ON:
                return [handed(x) for x in eqn.invars]
            if name in MOVES and _is_native_array(env, eqn.invars[0]):
                found = [handed(x) for x in eqn.invars]
                if not any(is_real(x) or isinstance(x, Doubtful) for x in found):
                    return found
            return [read(x) for x in eqn.invars]

        env.update(zip(jaxpr.constvars, consts, strict=True))
        env.update(zip(jaxpr.invars, inputs, strict=True))
        plan = self.planned(jaxpr, tuple(used))
        self._charge(plan.work)
        for eqn, needed, _ in plan.steps:
            outputs = self.step(eqn, operands(eqn), needed)
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [
            read(x) if u else None for x, u in zip(jaxpr.outvars, used, strict=True)
        ]

    def step(self, eqn: Any, inputs: list[Any], used: list[bool]) -> list[Any]:
        """Return the outputs of one equation."""
        follow = CALLS.get(eqn.primitive.name)
        try:
            if follow is not None:
                return follow(self, eqn, inputs, used)
            outputs = evaluate(eqn, inputs, self.numbers)
        except Uncovered as missing:
            missing.place = missing.place or self.place(eqn)
            raise
        self.stamp(eqn)
        # Arrays that were only moved wait until something else reads them.
        is_move = eqn.primitive.name in MOVES
        outputs = [
            x if is_move and np.ndim(x) else self.lifted([x])[0] for x in outputs
        ]
        self.tell(eqn, inputs, outputs)
        return outputs

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
        """Return native numbers that decide where an equation goes."""
        out = self.numbers.settled(x)
        self.stamp(eqn)
        return out

    def lifted(self, natives: Sequence[Any]) -> list[Any]:
        """Return numbers of this walk's kind in place of native floats."""
        return [self.numbers.lift(x) if _is_float(x) else x for x in natives]

    def row(self, x: Any, i: int) -> Any:
        """Return x[i], of what a loop runs over."""
        if isinstance(x, Doubtful):
            return Doubtful(x.value[i], x.open[i])
        if isinstance(x, np.ndarray):
            return x[i : i + 1].reshape(x.shape[1:])
        return np.asarray(x[i])

    def stacked(self, column: Sequence[Any]) -> Any:
        """Return what the turns of a loop made as one array."""
        if any(isinstance(x, Doubtful) for x in column):
            values = [x.value if isinstance(x, Doubtful) else x for x in column]
            opens = [
                x.open if isinstance(x, Doubtful) else np.zeros(np.shape(x), bool)
                for x in column
            ]
            return Doubtful(np.stack(values), np.stack(opens))
        return stacked(column)

    def _charge(self, work: Work) -> None:
        """Pay for equations before they are run."""
        self.budget.spend(EXACT.of_a_walk(work, max(1, flint().ctx.prec / _BITS)))
        if self._held is not None:
            self._held += (work.scalars + work.terms) * BYTES_PER_SCALAR
            budget.refuse_memory(self._held, MEMORY)


def _is_native_array(env: dict[Any, Any], atom: Any) -> bool:
    return is_var(atom) and bool(np.ndim(env[atom])) and _is_float(env[atom])


def _literal(atom: Any) -> Any:
    """Return what a literal holds, in its own type: JAX may keep more digits."""
    dtype = atom.aval.dtype
    return np.asarray(atom.val, dtype) if _is_float_type(dtype) else atom.val


def _is_float(x: Any) -> bool:
    if isinstance(x, Doubtful):
        return _is_float(x.value)
    dtype = x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype
    return not is_real(x) and _is_float_type(dtype)


def _is_float_type(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.floating))


def evaluate(eqn: Any, inputs: list[Any], numbers: Any) -> list[Any]:
    """Return the outputs of one equation that is no call or loop."""
    name = eqn.primitive.name
    if any(is_complex(v.aval) for v in (*eqn.invars, *eqn.outvars)):
        raise Uncovered("complex numbers")
    if not any(is_real(x) for x in inputs):
        return native(eqn, inputs)
    if name in ELEMENTWISE:
        operands = [x if is_real(x) else numbers.lift(x) for x in inputs]
        return [numbers.elementwise(ELEMENTWISE[name], operands, result_dtype(eqn))]
    if name in PRIMITIVES:
        out = PRIMITIVES[name](eqn, inputs, numbers)
        return out if isinstance(out, list) else [out]
    raise Uncovered


def _custom_call(
    walk: Walk, eqn: Any, inputs: list[Any], used: list[bool]
) -> list[Any]:
    """Follow the primal of a function with a rule of its own.

    A few functions inside JAX approximate a known one by hand; they are read as that,
    and no hook is told of them.
    """
    known = APPROXIMATED.get(name_within_jax(eqn) or "")
    if known is not None and any(is_real(x) for x in inputs):
        outputs = [walk.numbers.elementwise(known, inputs, result_dtype(eqn))]
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
