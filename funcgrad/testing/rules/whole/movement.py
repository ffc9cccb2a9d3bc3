"""Data moved, as NumPy does or as positions go."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.testing.rules.movement import (
    FAST_MOVES,
    PICKS,
)


def _moved(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    """Move whole arrays as NumPy does."""

    def function(*arrays: np.ndarray) -> list[np.ndarray]:
        out = FAST_MOVES[eqn.primitive.name](eqn, *(np.asarray(x) for x in arrays))
        return out if isinstance(out, list) else [out]

    return walk.numbers.moved(function, inputs)


def _picked(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    """Move numbers as the primitive moves their positions in one long list."""
    positions, reals, start = [], [], 0
    for x in inputs:
        if walk.is_real(x):
            size = math.prod(x.shape)
            positions.append(
                np.arange(start, start + size, dtype=np.int32).reshape(x.shape)
            )
            reals.append(x)
            start += size
        else:
            positions.append(x)
    params = dict(eqn.params)
    fill = params.get("fill_value")
    if "fill_value" in params:
        params["fill_value"] = -1
    out = eqn.primitive.bind(*positions, **eqn.primitive.get_bind_params(params))
    places = [np.asarray(x) for x in (out if eqn.primitive.multiple_results else [out])]
    if any((p < 0).any() for p in places):
        reals.append(walk.numbers.lift(math.nan if fill is None else float(fill)))

    def function(*arrays: np.ndarray) -> list[np.ndarray]:
        flat = np.concatenate([np.ravel(x) for x in arrays])
        return [flat[p] for p in places]

    return walk.numbers.moved(function, reals)


MOVEMENT: dict[str, Callable[[Any, Any, list[Any]], Any]] = {
    **dict.fromkeys(FAST_MOVES, _moved),
    **dict.fromkeys(PICKS, _picked),
}
