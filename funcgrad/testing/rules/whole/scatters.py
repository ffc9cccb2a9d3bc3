"""Updates that meet what is there already."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.testing.rules.elementwise import ELEMENTWISE
from funcgrad.testing.rules.movement import (
    targets,
    windows_of,
)
from funcgrad.testing.rules.whole.decisions import best, chosen
from funcgrad.testing.rules.whole.sums import in_windows


def added_at(walk: Any, where: np.ndarray, updates: Any, shape: Any) -> Any:
    """Return zeros of a shape with the updates added at flat places, or dropped."""
    size = math.prod(shape)
    places = np.where(where < 0, size, where)
    return walk.numbers.linear(
        lambda u: np.bincount(places, u.ravel(), size + 1)[:-1].reshape(shape),
        updates,
        max(1, *np.bincount(places, minlength=1).tolist()),
        lambda g: np.append(g, 0.0)[places].reshape(updates.shape),
    )


def _scattered(walk: Any, eqn: Any, inputs: list[Any]) -> tuple[Any, Any, np.ndarray]:
    """Return the operand, the updates, and where each of them goes."""
    operand, indices, updates = inputs
    operand, updates = walk.reals([operand, updates])
    return operand, updates, targets(eqn, operand.shape, indices, updates.shape)


def _scatter_add(sign: int) -> Callable[[Any, Any, list[Any]], Any]:
    def scatter(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
        operand, updates, places = _scattered(walk, eqn, inputs)
        if sign < 0:
            updates = walk.elementwise(ELEMENTWISE["neg"], [updates])
        added = added_at(walk, places, updates, operand.shape)
        return walk.elementwise(ELEMENTWISE["add"], [operand, added])

    return scatter


def _at(walk: Any, x: Any, places: np.ndarray) -> Any:
    """Return the numbers at flat places."""
    return walk.numbers.moved(lambda a: [a.ravel()[places]], [x])[0]


def _scatter_by(combine: Any) -> Callable[[Any, Any, list[Any]], Any]:
    """Combine updates with what is there, one after another where they meet."""

    def scatter(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
        operand, updates, places = _scattered(walk, eqn, inputs)
        shape, out = operand.shape, operand
        kept = np.flatnonzero(places >= 0)
        while kept.size:
            _, first = np.unique(places[kept], return_index=True)
            now = kept[first]
            to = places[now]
            here = _at(walk, out, to)
            there = _at(walk, updates, now)
            both = combine(walk, eqn, here, there)

            def put(a: np.ndarray, b: np.ndarray, to: Any = to) -> list[Any]:
                flat = a.ravel().copy()
                flat[to] = b
                return [flat.reshape(shape)]

            (out,) = walk.numbers.moved(put, [out, both])
            kept = np.delete(kept, first)
        return out

    return scatter


def _combine_best(direction: int) -> Callable[..., Any]:
    return lambda walk, eqn, a, b: best(walk, eqn, a, b, direction)


def _window_places(walk: Any, eqn: Any, operand: Any) -> np.ndarray:
    direction = {"ge": 1, "le": -1}[eqn.params["select_prim"].name]
    rows = in_windows(walk, eqn, operand, -direction * np.inf)
    picks = chosen(walk, eqn, rows, direction)
    inside = windows_of(eqn, operand.shape)
    return np.take_along_axis(inside, picks[..., None], -1)[..., 0]


def _select_and_scatter_add(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    source, operand = walk.reals(inputs)
    places = _window_places(walk, eqn, operand)
    return added_at(walk, places.ravel(), source, operand.shape)


def _select_and_gather_add(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    tangents, operand = walk.reals(inputs)
    places = _window_places(walk, eqn, operand)
    return walk.numbers.moved(lambda a: [a.ravel()[places]], [tangents])


SCATTERS: dict[str, Callable[[Any, Any, list[Any]], Any]] = {
    "scatter-add": _scatter_add(1),
    "scatter-max": _scatter_by(_combine_best(1)),
    "scatter-min": _scatter_by(_combine_best(-1)),
    "scatter-mul": _scatter_by(
        lambda walk, eqn, a, b: walk.elementwise(ELEMENTWISE["mul"], [a, b])
    ),
    "scatter-sub": _scatter_add(-1),
    "scatter_max": _scatter_by(_combine_best(1)),
    "scatter_min": _scatter_by(_combine_best(-1)),
    "scatter_mul": _scatter_by(
        lambda walk, eqn, a, b: walk.elementwise(ELEMENTWISE["mul"], [a, b])
    ),
    "select_and_gather_add": _select_and_gather_add,
    "select_and_scatter_add": _select_and_scatter_add,
}
