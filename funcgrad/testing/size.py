"""How much work a check will be, told before it starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core

from funcgrad.errors import InputError
from funcgrad.jaxprs import inner_programs, is_float, is_float_array, opened, work
from funcgrad.testing.control import CALLS, CUSTOM_CALLS, HANDED_ON, called
from funcgrad.testing.rules.positions import MOVES

# What a walk follows; all else makes numbers itself.
FOLLOWED = frozenset({*CALLS, *CUSTOM_CALLS})


class Work(NamedTuple):
    """How many scalars are made, terms multiplied, equations run, and floats lifted."""

    scalars: float = 0.0
    terms: float = 0.0
    equations: float = 0.0
    lifted: float = 0.0

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
    lifted: float
    walks: int

    def seconds(self, work: Work) -> float:
        return self.walks * self.of_a_walk(work)

    def of_a_walk(self, work: Work, effort: float = 1.0) -> float:
        """Return the seconds of one walk, whose numbers take `effort` as long."""
        numbers = work.scalars * self.scalar + work.terms * self.term
        rest = work.equations * self.equation + work.lifted * self.lifted
        return (numbers * effort + rest) / self.walks


# Exact numbers; and whole arrays in three fields, and on a tape of floats.
EXACT = Price(14e-6, 5e-6, 80e-6, 1.5e-6, 4)
FIELDS = Price(100e-9, 1.5e-9, 150e-6, 15e-9, 5)
# What a taped number takes, and one that is lifted; and in whole arrays on a tape, of
# which each equation leaves a node. By the peak of a check: long programs took 8 to 17
# bytes a scalar, tanh by itself 20, pooling 26; sums of inputs 48 with what is lifted.
BYTES_PER_SCALAR, BYTES_PER_LIFTED, MEMORY = 600, 130, 2e9
FIELD_BYTES_PER_SCALAR, FIELD_BYTES_PER_LIFTED, FIELD_MEMORY = 26, 40, 8e9
FIELD_BYTES_PER_EQUATION = 2000
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


def lifted(program: Any, natives: set[Any] | None = None) -> float:
    """Return how many of the floats in arrays that enter a program are made numbers.

    Those are all but what it only moves. `natives` are the arguments that may be
    native, by default all.
    """
    jaxpr, _ = opened(program)
    entering = jaxpr.invars if natives is None else natives
    arrays = {v for v in (*jaxpr.constvars, *entering) if is_float_array(v.aval)}
    found = 0.0

    def lift(atoms: Sequence[Any]) -> None:
        nonlocal found
        for v in {v for v in atoms if not isinstance(v, core.Literal)} & arrays:
            found += math.prod(v.aval.shape)
            arrays.discard(v)

    for eqn in jaxpr.eqns:
        own = [v for v in eqn.invars if not isinstance(v, core.Literal)]
        if arrays.isdisjoint(own):
            continue
        if eqn.primitive.name in HANDED_ON:
            inner, _ = opened(called(eqn))
            pairs = zip(eqn.invars, inner.invars, strict=True)
            found += lifted(inner, {v for x, v in pairs if x in own and x in arrays})
        elif eqn.primitive.name in MOVES and all(
            v in arrays for v in own if is_float(v.aval)
        ):
            arrays |= {v for v in eqn.outvars if is_float_array(v.aval)}
        else:
            lift(own)
    lift(jaxpr.outvars)
    return found


def _work_of_both(primal: Any, gradient: Any) -> tuple[Work, Work, Work]:
    """Return the work of both programs, each with what it lifts, and their sum."""
    known: dict[int, Work] = {}
    taped, made = (
        work_in(p, known)._replace(lifted=lifted(p)) for p in (primal, gradient)
    )
    return taped, made, taped.plus(made)


def estimate(primal: Any, gradient: Any) -> tuple[float, float]:
    """Return the seconds and the bytes that a check will take, roughly."""
    taped, made, both = _work_of_both(primal, gradient)
    memory = (2 * taped.scalars + made.scalars + taped.terms) * BYTES_PER_SCALAR
    memory += max(taped.lifted, made.lifted) * BYTES_PER_LIFTED
    return EXACT.seconds(both), memory


def is_small(primal: Any, gradient: Any, seconds: float) -> bool:
    """Return whether the exact walk takes at most `seconds` and 2 GB."""
    time, memory = estimate(primal, gradient)
    return time <= seconds and memory <= MEMORY


def estimate_in_fields(primal: Any, gradient: Any) -> tuple[float, float]:
    """Return the seconds and the bytes that a check by identity will take, roughly."""
    _, made, both = _work_of_both(primal, gradient)
    return FIELDS.seconds(both), field_bytes(made)


def field_bytes(made: Work) -> float:
    """Return what a tape of whole arrays holds, roughly."""
    numbers = made.scalars * FIELD_BYTES_PER_SCALAR
    numbers += made.lifted * FIELD_BYTES_PER_LIFTED
    return numbers + made.equations * FIELD_BYTES_PER_EQUATION


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
    *limits: tuple[Price, float],
) -> list[tuple[int, float]]:
    """Return how many rows of `batch` are checked, and what one takes, for each limit.

    A limit is a price and so many seconds. `objective(params, batch)` is a scalar;
    every leaf of `batch` has its rows first. The gradient is not traced for this, as
    that takes longer than the loss.
    """

    def loss(rows: int) -> Work:
        part = jax.tree.map(lambda a: a[:rows], batch)
        return work_in(jax.make_jaxpr(objective)(params, part))

    total = len(jax.tree.leaves(batch)[0])
    works = loss(1), loss(total)

    def fitting(price: Price, seconds: float) -> tuple[int, float]:
        one, whole = (WITH_GRADIENT * price.seconds(work) for work in works)
        if whole <= seconds:
            return total, one
        if one > seconds:
            return 0, one
        return 1 + int((seconds - one) / ((whole - one) / (total - 1))), one

    return [fitting(*limit) for limit in limits]
