"""Both programs in float64: how far apart gradient and truth are there.

Right rules differ by 10^-15 of a leaf's largest element, as measured, and wrong ones by
2 10^-10 at least. Rounded constants may explain a difference; see `constants`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from funcgrad.testing.constants import Reading, Reals, known
from funcgrad.testing.flint import flint
from funcgrad.testing.identity import Decided
from funcgrad.testing.numbers.floats import Floats
from funcgrad.testing.numbers.tape import Tape
from funcgrad.testing.program import Program, lifted_constants
from funcgrad.testing.whole_walk import Walk

# What is so small beside the largest element of all leaves may be rounding alone.
CLEAR, _NOISE = 1e-11, 1e-14

# A constant's slope is that of a step as long as it may be off, so it bends a little.
_BEND = 1.25


class Difference(NamedTuple):
    """gradient - truth for each leaf, and the size of its largest element."""

    off: list[np.ndarray]
    sizes: list[float]

    @property
    def shares(self) -> list[float]:
        """Return the largest difference of each leaf, by its largest element."""
        noise = max(self.sizes, default=0.0) * _NOISE
        most = [float(np.abs(x).max(initial=0)) for x in self.off]
        return [
            m / s if m > noise else 0.0 for m, s in zip(most, self.sizes, strict=True)
        ]

    @property
    def is_clear(self) -> bool:
        return any(share > CLEAR for share in self.shares)


def truth(
    program: Program, decided: Decided, reading: Reading | None = None, hook: Any = None
) -> list[np.ndarray]:
    """Return the derivative of the primal program in float64, by rules of our own.

    With a hook for its equations there is no way back, and nothing is returned.
    """
    tape = Tape(reading=reading)
    walk = Walk(
        tape, decided.primal.replay(), hook=hook, inside_custom_rules=hook is None
    )
    variables = [tape.variable(x) for x in program.variables]
    outputs = walk.run(program.primal, [*variables, *lifted_constants(program, tape)])
    if hook is not None:
        return []
    tape.back(list(zip(outputs, program.cotangents, strict=True)))
    return [
        np.zeros(v.shape) if v.adjoint is None else np.asarray(v.adjoint)
        for v in variables
    ]


def difference(program: Program, decided: Decided, reading: Reading) -> Difference:
    """Return how far both are apart where constants are read as `reading` says."""
    right = truth(program, decided, reading)
    floats = Floats(reading)
    inputs = [floats.lift(x) for x in program.variables]
    inputs += lifted_constants(program, floats)
    made = Walk(floats, decided.gradient.replay()).run(program.bound, inputs)
    pairs = list(zip(made, right, strict=True))
    sizes = [max(float(np.abs(x).max(initial=0)) for x in pair) for pair in pairs]
    return Difference([a - b for a, b in pairs], sizes)


def least(program: Program, decided: Decided, *readings: Reals) -> Difference:
    """Return the least difference that some reading of the constants leaves.

    They are read as they are, as the numbers that are known, and as `readings` say.
    """
    first = Reading()
    found = [difference(program, decided, first)]
    sure = {c: k.real for c, k in known(first.met).items()}
    for reals in (sure, *({**sure, **reals} for reals in readings)):
        if not found[-1].is_clear:
            return found[-1]
        found.append(difference(program, decided, Reading(reals)))
    return min(found, key=lambda d: max(d.shares, default=0.0))


def constants_may_explain(program: Program, decided: Decided) -> bool:
    """Return whether moving each constant by half an ulp may make up for all of it."""
    first = Reading()
    here = difference(program, decided, first)
    reach = [np.zeros(x.shape) for x in here.off]
    for c in first.met:
        there = Reading({c: flint().arb(c.mantissa + c.half_ulp)})
        moved = difference(program, decided, there)
        reach = [
            r + np.abs(b - a)
            for r, a, b in zip(reach, here.off, moved.off, strict=True)
        ]
    return all(
        bool((np.abs(x) <= _BEND * r + CLEAR * size).all())
        for x, r, size in zip(here.off, reach, here.sizes, strict=True)
    )
