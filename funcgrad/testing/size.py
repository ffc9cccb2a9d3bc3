"""How much work a check will be, told before it starts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax

from funcgrad.jaxprs import count

# What a scalar costs over all walks, a multiply-add inside a product, and a taped
# number: rough, as measured in docs/speed.md, since they only keep long checks away.
SECONDS_PER_SCALAR, SECONDS_PER_TERM, BYTES_PER_SCALAR = 14e-6, 5e-6, 600
# What a net's loss and its gradient make together, over what the loss makes alone.
WITH_GRADIENT = 4
MEMORY = 2e9


def estimate(primal: Any, gradient: Any) -> tuple[float, float]:
    """Return the seconds and the bytes that a check will take, roughly."""
    scalars, terms = map(sum, zip(count(primal), count(gradient), strict=True))
    seconds = _seconds(scalars, terms)
    taped, products = count(primal)
    return seconds, (scalars + taped + products) * BYTES_PER_SCALAR


def _seconds(scalars: float, terms: float) -> float:
    return scalars * SECONDS_PER_SCALAR + terms * SECONDS_PER_TERM


def refuse_if_too_large(primal: Any, gradient: Any, seconds: float) -> None:
    """Raise ValueError, with an estimate, for a check beyond `seconds` or 2 GB."""
    time, memory = estimate(primal, gradient)
    if time <= seconds and memory <= MEMORY:
        return
    share = math.ceil(max(time / seconds, memory / MEMORY))
    more = f", or allow seconds={math.ceil(time)}" if memory <= MEMORY else ""
    raise ValueError(
        f"this check would take about {time:,.0f} s and {memory / 1e9:.1f} GB; the "
        f"limit is {seconds:,.0f} s and {MEMORY / 1e9:.0f} GB. Check fewer rows of the "
        f"batch (1 in {share:,}), or hold leaves constant by closing over them{more}"
    )


def rows_that_fit(
    objective: Callable[..., Any], params: Any, batch: Any, seconds: float
) -> tuple[int, float]:
    """Return how many rows of `batch` are checked in `seconds`, and what one takes.

    `objective(params, batch)` is a scalar; every leaf of `batch` has its rows first.
    The gradient is not traced for this, as that takes longer than the loss.
    """

    def taken(rows: int) -> float:
        part = jax.tree.map(lambda a: a[:rows], batch)
        return WITH_GRADIENT * _seconds(*count(jax.make_jaxpr(objective)(params, part)))

    total = len(jax.tree.leaves(batch)[0])
    one, whole = taken(1), taken(total)
    if whole <= seconds:
        return total, one
    if one > seconds:
        return 0, one
    return 1 + int((seconds - one) / ((whole - one) / (total - 1))), one
