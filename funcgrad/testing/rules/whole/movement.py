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
from funcgrad.testing.rules.native import picked


def _moved(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    """Move whole arrays as NumPy does."""

    def function(*arrays: np.ndarray) -> list[np.ndarray]:
        out = FAST_MOVES[eqn.primitive.name](eqn, *(np.asarray(x) for x in arrays))
        return out if isinstance(out, list) else [out]

    return walk.numbers.moved(function, inputs)


def _picked(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    """Move numbers as the primitive moves their positions in one long list."""
    reals, places = picked(eqn, inputs, walk.is_real)
    fill = eqn.params.get("fill_value")
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
