"""Several steps in one turn of a compiled loop."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax

# Parameters times rows: a step of less work than this feels what a turn costs.
_WORK_OF_A_TINY_STEP = 512


def steps_a_turn(params: Any, rows: int) -> int:
    """Return how many steps to put in one turn of the loop.

    A turn costs some tens of nanoseconds, which only a tiny step feels; more steps than
    four take longer to compile and gain nothing.
    """
    work = rows * sum(np.size(leaf) for leaf in jax.tree.leaves(params))
    return 4 if work <= _WORK_OF_A_TINY_STEP else 1


def repeat(
    one: Callable[[jax.Array, Any], Any],
    start: jax.Array,
    stop: jax.Array,
    carry: Any,
    unroll: int,
) -> Any:
    """Return what `lax.fori_loop(start, stop, one, carry)` does, `unroll` in a turn."""
    turns = (stop - start) // unroll

    def turn(k: jax.Array, carry: Any) -> Any:
        for j in range(unroll):
            carry = one(start + unroll * k + j, carry)
        return carry

    carry = lax.fori_loop(0, turns, turn, carry)
    if unroll == 1:
        return carry
    return lax.fori_loop(start + unroll * turns, stop, one, carry)
