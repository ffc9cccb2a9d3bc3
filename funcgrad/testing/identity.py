"""Is the gradient program the derivative of the primal one? Asked in finite fields.

Draw a prime p, residues x for the variables and a direction t. Walk the primal program
with (value, tangent) and the gradient program with values: if a rule is wrong,

    sum <gradient(x), t>  =  sum <cotangents, d primal(x; t)>   modulo p

holds by chance alone, once in about 2^20 draws, so three independent draws leave 2^-60.
That counts random functions for tanh, exp and the like, and the path of decisions that
floats took at the arguments; so it is the program of this path that is proven, at every
point, and not the arguments alone.

Each model of the functions is a generalisation of the functions: what passes one of
them is proven. What fails all is an alarm, and no more than that.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import numpy as np

from funcgrad.testing.control import Place
from funcgrad.testing.numbers.dual import Dual, DualField
from funcgrad.testing.numbers.field import Field, draw_prime
from funcgrad.testing.numbers.floats import Floats
from funcgrad.testing.numbers.modular import Modular
from funcgrad.testing.numbers.path import Path
from funcgrad.testing.numbers.residues import Accident
from funcgrad.testing.numbers.tangents import Moving, Tangents
from funcgrad.testing.program import Program, lifted_constants
from funcgrad.testing.whole_walk import Walk

DRAWS = 3
MISS = 2.0**-60

# Draws that may meet a divisor of 0 before it is taken for one that is always 0.
_ACCIDENTS = 20


class Model(NamedTuple):
    """What stands for functions that are not rational.

    Without exponents all are hashes. `cut` names the primitives whose arguments are cut
    from their origin; with `freeze` maxima are held constant, where that is proven to
    change nothing.
    """

    name: str
    exponents: bool = False
    cut: tuple[str, ...] = ()
    freeze: bool = False


_ROOTS = ("log", "log2", "sqrt", "rsqrt", "cbrt", "pow")
MODELS = (
    Model("hash"),
    Model("dual", True),
    Model("cut", True, _ROOTS),
    Model("cut, maxima held", True, _ROOTS, True),
    Model("cut with divisors, maxima held", True, (*_ROOTS, "/"), True),
)


class Decided(NamedTuple):
    """The paths of both programs, and the gradient in float64, along its own."""

    primal: Path
    gradient: Path
    values: list[np.ndarray]
    finite: bool


class Tested(NamedTuple):
    """The model that proves the identity, or None; and where there were ties.

    `miss` is how likely one of all the models asked lets a wrong rule pass.
    """

    model: Model | None
    ties: list[Place]
    miss: float
    accident: bool = False


def decide(program: Program, shift: list[np.ndarray] | None = None) -> Decided:
    """Run both programs in float64 and keep what they decide on the way.

    `shift` moves the variables.
    """
    floats, primal, gradient = Floats(), Path(), Path()
    variables = [floats.lift(x) for x in program.variables]
    if shift is not None:
        variables = [v + s for v, s in zip(variables, shift, strict=True)]
    inputs = [*variables, *lifted_constants(program, floats)]
    outputs = Walk(floats, primal).run(program.primal, inputs)
    values = Walk(floats, gradient).run(program.bound, inputs)
    values = [np.asarray(v) for v in values]
    finite = all(np.isfinite(x).all() for x in (*outputs, *values))
    return Decided(primal, gradient, values, finite)


def test(
    program: Program, decided: Decided, models: tuple[Model, ...] = MODELS
) -> Tested:
    """Return the first of the models that the identity holds for, if any does.

    An alarm is one that repeats on a fresh prime.
    """
    ties: dict[int, Place] = {}
    miss = 0.0
    for model in models:
        draw = draws(program, decided, model, ties)
        # The first miss may be one by chance in a field, so that it is asked again.
        for _ in range(2):
            miss += MISS
            try:
                holds = all(draw() for _ in range(DRAWS))
            except Accident:
                return Tested(None, list(ties.values()), miss, accident=True)
            if holds:
                return Tested(model, list(ties.values()), miss)
    return Tested(None, list(ties.values()), miss)


def draws(
    program: Program, decided: Decided, model: Model, ties: dict[int, Place]
) -> Callable[[], bool]:
    """Return a function that draws a fresh field whenever it is called."""
    random = Random(model.name)

    def draw() -> bool:
        for attempt in range(_ACCIDENTS):
            try:
                return _holds(program, decided, model, random, ties)
            except Accident:
                if attempt == _ACCIDENTS - 1:
                    raise
        return False

    return draw


def _holds(
    program: Program,
    decided: Decided,
    model: Model,
    random: Random,
    ties: dict[int, Place],
) -> bool:
    """Return whether the identity holds at random residues modulo a random prime."""
    p, seed = draw_prime(random, with_exponents=model.exponents), random.getrandbits(32)
    field = DualField(p, seed) if model.exponents else Field(p, seed)
    numbers, draw = Modular(field), np.random.default_rng(seed)
    point = [field.random(x.shape, draw) for x in program.variables]
    line = [field.random(x.shape, draw) for x in program.variables]

    def primal(maxima: str, tangents: list[Any]) -> int:
        moving = Tangents(numbers, maxima)
        # exp(x - m) / sum exp(x - m) does not vary with m, but the sum cut does.
        cut = () if maxima == "injected" else model.cut
        walk = Walk(moving, decided.primal.replay(), cut=cut)
        start = [Moving(x, t) for x, t in zip(point, tangents, strict=True)]
        outputs = walk.run(program.primal, [*start, *lifted_constants(program, moving)])
        ties.update(walk.ties)
        return sum(
            _inner(out.tangent, numbers.lift(w))
            for out, w in zip(outputs, program.cotangents, strict=True)
            if out.tangent is not None
        )

    if model.freeze and primal("injected", [None] * len(point)) % p:
        return False
    true = primal("held" if model.freeze else "", line)
    walk = Walk(numbers, decided.gradient.replay(), cut=model.cut)
    made = walk.run(program.bound, [*point, *lifted_constants(program, numbers)])
    ties.update(walk.ties)
    given = sum(_inner(g, t) for g, t in zip(made, line, strict=True))
    return (given - true) % p == 0


def _inner(a: Any, b: Any) -> int:
    """Return the sum of the products modulo p, up to a multiple of p."""
    a, b = (x.first if isinstance(x, Dual) else x for x in (a, b))
    return int((a * b).canonical().astype(np.int64).sum())
