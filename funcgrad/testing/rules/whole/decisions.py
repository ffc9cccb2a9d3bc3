"""Comparisons, maxima, orders, and functions with jumps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jax.extend import core

from funcgrad.jaxprs import result_dtype
from funcgrad.testing.rules.elementwise import ELEMENTWISE
from funcgrad.testing.rules.whole.sums import in_windows, last, running

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lt_to": np.less,
    "le_to": np.less_equal,
}


def _compare(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    a, b = walk.reals(inputs)
    operation = _COMPARISONS[eqn.primitive.name]
    return walk.decide(eqn, lambda: np.asarray(operation(a, b)), lambda: a == b, a, b)


def best(walk: Any, eqn: Any, a: Any, b: Any, direction: int) -> Any:
    """Return the larger of two arrays, or the smaller; the first where they tie."""
    first = walk.decide(
        eqn,
        lambda: ~np.asarray(direction * (b - a) > 0) & ~np.isnan(b),
        lambda: a == b,
        a,
        b,
    )
    return walk.numbers.where(first, a, b)


def _larger(direction: int) -> Callable[[Any, Any, list[Any]], Any]:
    def larger(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
        a, b = walk.reals(inputs)
        with np.errstate(all="ignore"):
            out = best(walk, eqn, a, b, direction)
        is_shift = not any(isinstance(v, core.Literal) for v in eqn.invars)
        return walk.numbers.at_maximum(out) if is_shift else out

    return larger


def _absolute(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    (x,) = inputs
    below = walk.decide(eqn, lambda: x < 0, lambda: x == 0, x, walk.numbers.lift(0))
    return walk.numbers.where(below, walk.elementwise(ELEMENTWISE["neg"], [x]), x)


def _steps(function: Callable[[Any, Any], Any], jumps: Callable[[Any], Any]) -> Any:
    """Return the primitive of a function that is constant between its jumps."""

    def steps(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
        (x,) = inputs
        with np.errstate(all="ignore"):
            return walk.decide(
                eqn, lambda: function(eqn, x), lambda: jumps(x), x, walk.numbers.lift(0)
            )

    return steps


def _is_whole(x: Any) -> Any:
    return np.isfinite(x) & (x == np.rint(x)) & (x != 0)


def _is_half(x: Any) -> Any:
    return _is_whole(2 * x) & ~_is_whole(x) & (x != 0)


def _round(eqn: Any, x: Any) -> Any:
    if eqn.params["rounding_method"] == 1:
        return np.rint(x)
    return np.where(x >= 0, np.floor(x + 0.5), np.ceil(x - 0.5))


def chosen(walk: Any, eqn: Any, rows: Any, direction: int) -> np.ndarray:
    """Return the index of the first largest, or smallest, along the last axis."""

    def decided() -> Any:
        found = np.argmax(direction * rows, -1)
        best = np.take_along_axis(rows, found[..., None], -1)
        same = (rows == best) & np.isfinite(rows)
        many = same.sum(-1) > 1
        return found, same & many[..., None] if many.any() else None

    def differ() -> Any:
        (wide,) = walk.numbers.moved(
            lambda a: [np.broadcast_to(a[..., None], rows.shape)],
            [taken(walk, rows, found)],
        )
        return walk.numbers.differ(rows, wide)

    found, tied = walk.path.decide(decided)
    walk.note_tie(eqn, tied, differ)
    return np.asarray(found)


def taken(walk: Any, rows: Any, found: np.ndarray) -> Any:
    return walk.numbers.moved(
        lambda a: [np.take_along_axis(a, found[..., None], -1)[..., 0]], [rows]
    )[0]


def _reduce_best(direction: int) -> Callable[[Any, Any, list[Any]], Any]:
    def of_all(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
        rows = last(walk, inputs[0], eqn.params["axes"])
        if rows.shape[-1] == 0:
            return np.full(rows.shape[:-1], -direction * np.inf)
        out = taken(walk, rows, chosen(walk, eqn, rows, direction))
        return walk.numbers.at_maximum(out)

    return of_all


def _arg_best(direction: int) -> Callable[[Any, Any, list[Any]], Any]:
    def arg(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
        rows = last(walk, inputs[0], eqn.params["axes"])
        return chosen(walk, eqn, rows, direction).astype(result_dtype(eqn))

    return arg


def _cumulative_best(direction: int) -> Callable[[Any, Any, list[Any]], Any]:
    def of_all(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
        p = eqn.params
        larger = lambda a, b: best(walk, eqn, a, b, direction)  # noqa: E731
        return running(walk, eqn, inputs[0], p["axis"], p["reverse"], larger)

    return of_all


def _reduce_window_best(direction: int) -> Callable[[Any, Any, list[Any]], Any]:
    def of_all(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
        rows = in_windows(walk, eqn, inputs[0], -direction * np.inf)
        return taken(walk, rows, chosen(walk, eqn, rows, direction))

    return of_all


def _select_n(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    which, *cases = inputs
    cases = walk.reals(cases)
    which = np.asarray(which)
    if which.ndim == 0:
        return cases[int(which)]
    if len(cases) == 2:
        return walk.numbers.where(which.astype(bool), cases[1], cases[0])
    return walk.numbers.moved(lambda *a: [np.choose(which, a)], cases)


def _clamp(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    low, x, high = walk.reals(inputs)
    return best(walk, eqn, best(walk, eqn, x, low, 1), high, -1)


def _rem(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    x, y = walk.reals(inputs)
    whole = walk.path.decide(lambda: np.trunc(x / y))
    product = walk.elementwise(ELEMENTWISE["mul"], [walk.numbers.lift(whole), y])
    return walk.elementwise(ELEMENTWISE["sub"], [x, product])


def _order(walk: Any, eqn: Any, keys: list[Any]) -> np.ndarray:
    """Return the stable ascending order along the last axis by one or more keys."""

    def decided() -> Any:
        order = np.lexsort([np.asarray(k) for k in keys[::-1]], axis=-1)
        row = np.take_along_axis(np.asarray(keys[0]), order, -1)
        same = row[..., 1:] == row[..., :-1]
        return order, same if same.any() else None

    def neighbours(k: np.ndarray) -> list[np.ndarray]:
        row = np.take_along_axis(k, order, -1)
        return [row[..., 1:], row[..., :-1]]

    order, tied = walk.path.decide(decided)
    if walk.is_real(keys[0]):
        walk.note_tie(
            eqn, tied,
            lambda: walk.numbers.differ(*walk.numbers.moved(neighbours, [keys[0]])),
        )  # fmt: skip
    return np.asarray(order)


def _sort(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    axis, n = eqn.params["dimension"], eqn.params["num_keys"]

    def moved(function: Any, x: Any) -> Any:
        if walk.is_real(x):
            return walk.numbers.moved(lambda a: [function(a)], [x])[0]
        return function(np.asarray(x))

    rows = [moved(lambda a: np.moveaxis(a, axis, -1), x) for x in inputs]
    order = _order(walk, eqn, rows[:n])
    return [
        moved(lambda a: np.moveaxis(np.take_along_axis(a, order, -1), -1, axis), row)
        for row in rows
    ]


def _top_k(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    (x,) = inputs
    axis, k = eqn.params.get("axis", len(x.shape) - 1), eqn.params["k"]
    (row,) = walk.numbers.moved(lambda a: [np.moveaxis(a, axis, -1)], [x])
    order = _order(walk, eqn, [walk.elementwise(ELEMENTWISE["neg"], [row])])[..., :k]
    (values,) = walk.numbers.moved(
        lambda a: [np.moveaxis(np.take_along_axis(a, order, -1), -1, axis)], [row]
    )
    return [values, np.moveaxis(order.astype(np.int32), -1, axis)]


DECISIONS: dict[str, Callable[[Any, Any, list[Any]], Any]] = {
    **dict.fromkeys(_COMPARISONS, _compare),
    "abs": _absolute,
    "argmax": _arg_best(1),
    "argmin": _arg_best(-1),
    "ceil": _steps(lambda eqn, x: np.ceil(x), _is_whole),
    "clamp": _clamp,
    "cummax": _cumulative_best(1),
    "cummin": _cumulative_best(-1),
    "floor": _steps(lambda eqn, x: np.floor(x), _is_whole),
    "is_finite": lambda walk, eqn, inputs: walk.path.decide(
        lambda: np.isfinite(inputs[0])
    ),
    "max": _larger(1),
    "min": _larger(-1),
    "reduce_max": _reduce_best(1),
    "reduce_min": _reduce_best(-1),
    "reduce_window_max": _reduce_window_best(1),
    "reduce_window_min": _reduce_window_best(-1),
    "rem": _rem,
    "round": _steps(_round, _is_half),
    "select_n": _select_n,
    "sign": _steps(lambda eqn, x: np.sign(x), lambda x: x == 0),
    "sort": _sort,
    "top_k": _top_k,
}
