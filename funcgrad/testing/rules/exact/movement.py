"""Data moved: numbers go where the primitive moves their positions."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import numpy as np

from funcgrad.testing.flint import flint
from funcgrad.testing.numbers.balls import union
from funcgrad.testing.numbers.exact import Exact
from funcgrad.testing.numbers.objects import Doubtful, is_real, objects
from funcgrad.testing.rules.movement import (
    FAST_MOVES,
)
from funcgrad.testing.rules.native import picked


def move(eqn: Any, inputs: list[Any], numbers: Exact) -> list[Any]:
    """Move numbers as the primitive moves their positions."""
    if eqn.primitive.name in FAST_MOVES:
        out = FAST_MOVES[eqn.primitive.name](eqn, *inputs)
        return out if isinstance(out, list) else [out]
    if any(isinstance(x, Doubtful) for x in inputs):
        return _anything(eqn, inputs)
    reals, places = picked(eqn, inputs, is_real)
    fill = eqn.params.get("fill_value")
    outside = flint().arb("nan") if fill is None else flint().arb(float(fill))
    flat = np.concatenate([*(x.ravel() for x in reals), objects((1,), [outside])])
    return [objects(index.shape, list(flat[index.ravel()])) for index in places]


def _anything(eqn: Any, inputs: list[Any]) -> list[Any]:
    """Return balls that hold every number moved: rounding may have moved any."""
    hull = reduce(
        union, [x for array in inputs if is_real(array) for x in array.ravel()]
    )
    fill = eqn.params.get("fill_value")
    hull = hull if fill is None else union(hull, flint().arb(float(fill)))
    shapes = [v.aval.shape for v in eqn.outvars]
    return [objects(s, [hull] * math.prod(s)) for s in shapes]
