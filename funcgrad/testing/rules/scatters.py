"""Updates that meet what is there already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.jaxprs import result_dtype
from funcgrad.testing.numbers.objects import Doubtful
from funcgrad.testing.rules.elementwise import ELEMENTWISE
from funcgrad.testing.rules.movement import in_windows, moved
from funcgrad.testing.rules.positions import targets, windows_of
from funcgrad.testing.rules.sums import times

Combine = Callable[[Any, Any, Any, Any], Any]


def _scatter_add(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    operand, indices, updates = inputs
    operand, updates = walk.reals([operand, updates])
    if isinstance(indices, Doubtful):  # rounding may send them to any place
        return walk.numbers.added_anywhere(operand, updates, result_dtype(eqn))
    places = targets(eqn, operand.shape, indices, updates.shape)
    return walk.added_at(eqn, places, updates, operand.shape, onto=operand)


def _scatter_sub(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    operand, indices, updates = inputs
    minus = walk.elementwise(eqn, ELEMENTWISE["neg"], [updates])
    return _scatter_add(walk, eqn, [operand, indices, minus])


def _scatter(combine: Combine) -> Callable[[Any, Any, list[Any]], Any]:
    """Combine updates with what is there, one after another where they meet."""

    def scatter(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
        operand, indices, updates = inputs
        out, updates = walk.reals([operand, updates])
        shape, indices = out.shape, walk.settled(eqn, indices)
        places = targets(eqn, shape, indices, updates.shape)
        kept = np.flatnonzero(places >= 0)
        while kept.size:
            _, first = np.unique(places[kept], return_index=True)
            now = kept[first]
            to = places[now]
            both = combine(walk, eqn, _at(walk, out, to), _at(walk, updates, now))

            def put(a: np.ndarray, b: np.ndarray, to: Any = to) -> np.ndarray:
                flat = a.ravel().copy()
                flat[to] = b
                return flat.reshape(shape)

            out = moved(walk, put, out, both)
            kept = np.delete(kept, first)
        return out

    return scatter


def _at(walk: Any, x: Any, places: np.ndarray) -> Any:
    """Return the numbers at flat places."""
    return moved(walk, lambda a: a.ravel()[places], x)


def _best(direction: int) -> Combine:
    return lambda walk, eqn, a, b: walk.decisions.best(a, b, direction)


def _chosen(walk: Any, eqn: Any, operand: Any) -> np.ndarray:
    """Return the flat place of what is chosen in each window."""
    direction = {"ge": 1, "le": -1}[eqn.params["select_prim"].name]
    rows = in_windows(walk, eqn, operand, -direction * np.inf)
    picks = walk.settled(eqn, walk.decisions.largest(rows, direction))
    inside = windows_of(eqn, operand.shape)
    return np.take_along_axis(inside, picks[..., None], -1)[..., 0]


def _select_and_scatter_add(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    source, operand = walk.reals(inputs)
    places = _chosen(walk, eqn, operand)
    return walk.added_at(eqn, places.ravel(), source, operand.shape)


def _select_and_gather_add(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    tangents, operand = walk.reals(inputs)
    return _at(walk, tangents, _chosen(walk, eqn, operand))


SCATTERS: dict[str, Callable[[Any, Any, list[Any]], Any]] = {
    "scatter-add": _scatter_add,
    "scatter-max": _scatter(_best(1)),
    "scatter-min": _scatter(_best(-1)),
    "scatter-mul": _scatter(times),
    "scatter-sub": _scatter_sub,
    "scatter_max": _scatter(_best(1)),
    "scatter_min": _scatter(_best(-1)),
    "scatter_mul": _scatter(times),
    "select_and_gather_add": _select_and_gather_add,
    "select_and_scatter_add": _select_and_scatter_add,
}
