"""What rounding may cost a sum of a gradient's elements: a bound for large programs.

For s = sum <w, g>, the gradient program is evaluated in float64 on a tape with a probe
after each equation that rounds; one pass back gives the derivative of s by each probe,
and what a float may be off there, times that, adds up:

    worst    sum |ds/dy| e(y),         e = k u |A||B| for products and sums of k terms,
    typical  sqrt(sum (ds/dy e(y))^2)  with sqrt(k) in place of k: errors as if drawn.

Balls that grow from operation to operation are infinite behind the first block of a
transformer; this stays finite, since it goes through the derivative that the program
has. It is of first order in u, and decisions are those that floats made.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from funcgrad.testing.control import Place
from funcgrad.testing.identity import Decided
from funcgrad.testing.numbers.tape import Shaken, Tape, Taped
from funcgrad.testing.program import Program, lifted_constants
from funcgrad.testing.whole_walk import Walk


class Bound(NamedTuple):
    """How far a weighted sum may be off, at worst and typically.

    `place` is the equation that the largest part of the worst case comes from.
    """

    worst: float
    typical: float
    place: Place | None


class Recorded(NamedTuple):
    """The gradient program on a tape, to be asked for bounds."""

    tape: Tape
    outputs: list[Taped]


def record(program: Program, decided: Decided) -> Recorded:
    """Evaluate the gradient program on a tape, along its path."""
    tape = Tape(errors=True)
    walk = Walk(tape, decided.gradient.replay(), before=tape.at)
    variables = [tape.lift(x) for x in program.variables]
    outputs = walk.run(program.bound, [*variables, *lifted_constants(program, tape)])
    return Recorded(tape, outputs)


def bound(recorded: Recorded, weights: list[np.ndarray | None]) -> Bound:
    """Return the bound of sum <weight, leaf>; leaves of weight None are left out."""
    worst, typical = 0.0, 0.0
    parts: dict[int, tuple[float, Place | None]] = {}

    def visit(node: Taped) -> None:
        nonlocal worst, typical
        if node.error is None:
            return
        at_worst, usual = node.error()
        # An infinity, as a mask has it, is what it is: nothing is rounded there.
        slopes = np.where(np.isfinite(node.value), np.abs(node.adjoint), 0.0)
        at_worst, usual = (np.where(slopes == 0, 0.0, e) for e in (at_worst, usual))
        part = float((slopes * at_worst).sum())
        worst += part
        typical += float(((slopes * usual) ** 2).sum())
        key = id(node.place.eqn) if node.place else 0
        parts[key] = (parts.get(key, (0.0, None))[0] + part, node.place)

    seeds = [
        (out, w)
        for out, w in zip(recorded.outputs, weights, strict=True)
        if w is not None and out.pull is not None
    ]
    with np.errstate(all="ignore"):
        recorded.tape.back(seeds, visit)
    place = max(parts.values(), key=lambda p: p[0], default=(0.0, None))[1]
    return Bound(worst, typical**0.5, place)


def shaken(program: Program, decided: Decided, seed: int) -> list[np.ndarray]:
    """Return the gradient in float64, each rounding off by chance as is typical."""
    tape = Shaken(seed)
    walk = Walk(tape, decided.gradient.replay(), before=tape.at)
    variables = [tape.lift(x) for x in program.variables]
    outputs = walk.run(program.bound, [*variables, *lifted_constants(program, tape)])
    return [out.value for out in outputs]


def signs(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return +1 and -1 at random."""
    return np.random.default_rng(seed).choice([-1.0, 1.0], shape)
