"""A compiled loop whose turns compute the same bits, however many there are."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

# XLA makes one kernel of a loop of less work a turn, and many of one of more.
_WORK_OF_A_TINY_STEP = 65536


def scan(
    f: Callable[[Any, Any], tuple[Any, jax.Array]],
    carry: Any,
    xs: Any,
    length: int,
    work: int,
) -> tuple[Any, jax.Array]:
    """Return what `lax.scan(f, carry, xs, length)` does, in the bits of a longer one.

    `work` is that of a turn, parameters times rows. XLA takes a loop of one turn for
    none and compiles what is in it in another way, so that a tiny step has other bits
    there. Two turns are done instead, and what the second leads to is left out.
    """
    if length != 1 or work > _WORK_OF_A_TINY_STEP:
        return lax.scan(f, carry, xs, length)

    def turn(carry: Any, x: Any) -> tuple[Any, jax.Array]:
        is_first, before = carry
        after, y = lax.optimization_barrier(f(before, x))
        kept = jax.tree.map(lambda a, b: jnp.where(is_first, a, b), after, before)
        return (False, kept), y

    twice = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), xs)
    (_, carry), ys = lax.scan(turn, (True, carry), twice, 2)
    return carry, ys[:1]
