"""How much work a check will be, told before it starts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax

from funcgrad.errors import InputError
from funcgrad.jaxprs import count, inner_programs, opened

# What a scalar costs over all walks, a multiply-add inside a product, and a taped
# number: rough, as measured in docs/speed.md, since they only keep long checks away.
SECONDS_PER_SCALAR, SECONDS_PER_TERM, BYTES_PER_SCALAR = 14e-6, 5e-6, 600
# What a net's loss and its gradient make together, over what the loss makes alone.
WITH_GRADIENT = 4
MEMORY = 2e9

# The same for whole arrays in three fields, and on a tape of floats; where arrays are
# small, an equation takes as long as it takes Python to come by.
FIELD_SECONDS_PER_SCALAR, FIELD_SECONDS_PER_TERM = 100e-9, 1.5e-9
FIELD_SECONDS_PER_EQUATION = 150e-6
FIELD_BYTES_PER_SCALAR, FIELD_MEMORY = 15, 8e9


def estimate(primal: Any, gradient: Any) -> tuple[float, float]:
    """Return the seconds and the bytes that a check will take, roughly."""
    (taped, products), (made, more) = count(primal), count(gradient)
    seconds = _seconds(taped + made, products + more)
    return seconds, (2 * taped + made + products) * BYTES_PER_SCALAR


def _seconds(scalars: float, terms: float) -> float:
    return scalars * SECONDS_PER_SCALAR + terms * SECONDS_PER_TERM


def is_small(primal: Any, gradient: Any, seconds: float) -> bool:
    """Return whether the exact walk takes at most `seconds` and 2 GB."""
    time, memory = estimate(primal, gradient)
    return time <= seconds and memory <= MEMORY


def estimate_in_fields(primal: Any, gradient: Any) -> tuple[float, float]:
    """Return the seconds and the bytes that a check by identity will take, roughly."""
    seconds = _seconds_in_fields(primal) + _seconds_in_fields(gradient)
    return seconds, count(gradient)[0] * FIELD_BYTES_PER_SCALAR


def _seconds_in_fields(program: Any) -> float:
    scalars, terms = count(program)
    seconds = scalars * FIELD_SECONDS_PER_SCALAR + terms * FIELD_SECONDS_PER_TERM
    return seconds + equations(program) * FIELD_SECONDS_PER_EQUATION


def equations(program: Any) -> float:
    """Return how many equations run; a `while` loop counts once."""
    jaxpr, _ = opened(program)
    found = 0.0
    for eqn in jaxpr.eqns:
        times = eqn.params["length"] if eqn.primitive.name == "scan" else 1
        found += 1 + times * sum(map(equations, inner_programs(eqn)))
    return found


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
        program = jax.make_jaxpr(objective)(params, part)
        if in_fields:
            return WITH_GRADIENT * _seconds_in_fields(program)
        return WITH_GRADIENT * _seconds(*count(program))

    total = len(jax.tree.leaves(batch)[0])
    one, whole = taken(1), taken(total)
    if whole <= seconds:
        return total, one
    if one > seconds:
        return 0, one
    return 1 + int((seconds - one) / ((whole - one) / (total - 1))), one
