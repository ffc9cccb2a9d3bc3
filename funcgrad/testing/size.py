"""How much work a check will be, told before it starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax

from funcgrad.errors import InputError
from funcgrad.jaxprs import inner_programs, opened, work
from funcgrad.testing.control import CALLS, CUSTOM_CALLS

# What a walk follows; all else makes numbers itself.
FOLLOWED = frozenset({*CALLS, *CUSTOM_CALLS})


class Work(NamedTuple):
    """How many scalars are made, terms multiplied, and equations come by."""

    scalars: float = 0.0
    terms: float = 0.0
    equations: float = 0.0

    def plus(self, other: Work, times: float = 1) -> Work:
        return Work(*(a + times * b for a, b in zip(self, other, strict=True)))


class Price(NamedTuple):
    """Seconds for each part of a work, over all the walks of a check.

    They are rough, as measured in docs/speed.md: they only keep long checks away.
    `walks` is how often a check walks each of its two programs.
    """

    scalar: float
    term: float
    equation: float
    walks: int

    def seconds(self, work: Work) -> float:
        scalars, terms, equations = work
        numbers = scalars * self.scalar + terms * self.term
        return numbers + equations * self.equation

    def of_a_walk(self, work: Work, effort: float = 1.0) -> float:
        """Return the seconds of one walk, whose numbers take `effort` as long."""
        numbers = work.scalars * self.scalar + work.terms * self.term
        return (numbers * effort + work.equations * self.equation) / self.walks


# Exact numbers; and whole arrays in three fields, and on a tape of floats.
EXACT = Price(14e-6, 5e-6, 80e-6, 4)
FIELDS = Price(100e-9, 1.5e-9, 150e-6, 5)
# What a taped number takes, and a node of a tape of whole arrays.
BYTES_PER_SCALAR, MEMORY = 600, 2e9
FIELD_BYTES_PER_SCALAR, FIELD_BYTES_PER_EQUATION, FIELD_MEMORY = 15, 1500, 8e9
# What JAX takes to trace a gradient by equations of f, and XLA to compile it: that goes
# by the square, as its passes do.
TRACING, COMPILING = 1e-3, 14e-8
# What a net's loss and its gradient make together, over what the loss makes alone.
WITH_GRADIENT = 4


def work_of(eqns: Iterable[Any]) -> Work:
    """Return the work of a program's equations, without what they call."""
    scalars, terms, equations = 0.0, 0.0, 1.0  # to enter it takes as long as one
    for eqn in eqns:
        equations += 1
        if eqn.primitive.name not in FOLLOWED:
            made, multiplied = work(eqn)
            scalars += made
            terms += multiplied
    return Work(scalars, terms, equations)


def work_in(program: Any, known: dict[int, Work] | None = None) -> Work:
    """Return the work of a program, with all that it calls.

    Loops count as often as they run; a `while` loop counts once, since nobody knows.
    """
    jaxpr, _ = opened(program)
    known = {} if known is None else known
    if id(jaxpr) not in known:
        found = work_of(jaxpr.eqns)
        for eqn in jaxpr.eqns:
            if eqn.primitive.name in FOLLOWED:
                times = eqn.params["length"] if eqn.primitive.name == "scan" else 1
                for inner in inner_programs(eqn):
                    found = found.plus(work_in(inner, known), times)
        known[id(jaxpr)] = found
    return known[id(jaxpr)]


def estimate(primal: Any, gradient: Any) -> tuple[float, float]:
    """Return the seconds and the bytes that a check will take, roughly."""
    taped, made = work_in(primal), work_in(gradient)
    memory = (2 * taped.scalars + made.scalars + taped.terms) * BYTES_PER_SCALAR
    return EXACT.seconds(taped.plus(made)), memory


def is_small(primal: Any, gradient: Any, seconds: float) -> bool:
    """Return whether the exact walk takes at most `seconds` and 2 GB."""
    time, memory = estimate(primal, gradient)
    return time <= seconds and memory <= MEMORY


def estimate_in_fields(primal: Any, gradient: Any) -> tuple[float, float]:
    """Return the seconds and the bytes that a check by identity will take, roughly."""
    taped, made = work_in(primal), work_in(gradient)
    return FIELDS.seconds(taped.plus(made)), field_bytes(made)


def field_bytes(made: Work) -> float:
    """Return what a tape of whole arrays holds, roughly."""
    nodes = made.equations * FIELD_BYTES_PER_EQUATION
    return made.scalars * FIELD_BYTES_PER_SCALAR + nodes


def written(program: Any, known: dict[int, int] | None = None) -> int:
    """Return how many equations are written, each call's anew and each loop's once."""
    jaxpr, _ = opened(program)
    known = {} if known is None else known
    if id(jaxpr) not in known:
        inner = (p for eqn in jaxpr.eqns for p in inner_programs(eqn))
        known[id(jaxpr)] = len(jaxpr.eqns) + sum(written(p, known) for p in inner)
    return known[id(jaxpr)]


def refuse_to_compile(primal: Any, seconds: float) -> None:
    """Raise ValueError, with an estimate, where the gradient is too long to compile."""
    lines = written(primal)
    time = lines * TRACING + lines**2 * COMPILING
    if time > seconds:
        raise InputError(
            f"compiling this gradient would take about {time:,.0f} s, as f is a "
            f"program of {lines:,} equations; the limit is {seconds:,.3g} s. Write "
            f"what repeats as jax.lax.scan or jax.lax.fori_loop, which are compiled "
            f"once, or allow seconds={math.ceil(time)}"
        )


def refuse_if_too_large(primal: Any, gradient: Any, seconds: float) -> None:
    """Raise ValueError, with an estimate, for a check that fields are too slow for."""
    time, memory = estimate_in_fields(primal, gradient)
    if time <= seconds and memory <= FIELD_MEMORY:
        return
    share = math.ceil(max(time / seconds, memory / FIELD_MEMORY))
    more = f", or allow seconds={math.ceil(time)}" if memory <= FIELD_MEMORY else ""
    raise InputError(
        f"this check would take about {time:,.0f} s and {memory / 1e9:.1f} GB even in "
        f"finite fields; the limit is {seconds:,.0f} s and {FIELD_MEMORY / 1e9:.0f} "
        f"GB. Check fewer rows of the batch (1 in {share:,}), or hold leaves constant "
        f"by closing over them{more}"
    )


def rows_that_fit(
    objective: Callable[..., Any],
    params: Any,
    batch: Any,
    seconds: float,
    *,
    in_fields: bool = False,
) -> tuple[int, float]:
    """Return how many rows of `batch` are checked in `seconds`, and what one takes.

    `objective(params, batch)` is a scalar; every leaf of `batch` has its rows first.
    The gradient is not traced for this, as that takes longer than the loss.
    """

    def taken(rows: int) -> float:
        part = jax.tree.map(lambda a: a[:rows], batch)
        loss = work_in(jax.make_jaxpr(objective)(params, part))
        return WITH_GRADIENT * (FIELDS if in_fields else EXACT).seconds(loss)

    total = len(jax.tree.leaves(batch)[0])
    one, whole = taken(1), taken(total)
    if whole <= seconds:
        return total, one
    if one > seconds:
        return 0, one
    return 1 + int((seconds - one) / ((whole - one) / (total - 1))), one
