"""Comparisons, maxima, orders, and functions with jumps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jax.extend import core

from funcgrad.jaxprs import result_dtype
from funcgrad.testing.flint import flint
from funcgrad.testing.numbers.exact import truncate
from funcgrad.testing.numbers.objects import Doubtful
from funcgrad.testing.rules.elementwise import COMPARISONS, ELEMENTWISE
from funcgrad.testing.rules.movement import (
    along,
    in_windows,
    last,
    moved,
    running,
    where,
)


class Step(NamedTuple):
    """A function that is constant between its jumps, of exact numbers and of floats.

    `jumps` says of floats which of them are at a jump.
    """

    exact: Callable[[Any], Any]
    floats: Callable[[np.ndarray], np.ndarray]
    jumps: Callable[[np.ndarray], np.ndarray]


def _is_whole(x: Any) -> Any:
    return np.isfinite(x) & (x == np.rint(x)) & (x != 0)


def _is_half(x: Any) -> Any:
    return _is_whole(2 * x) & ~_is_whole(x) & (x != 0)


def _away(x: Any) -> Any:
    """Round to the nearest integer; halves away from 0."""
    half = flint().arb(0.5)
    return (x + half).floor() if x >= 0 else (x - half).ceil()


def _even(x: Any) -> Any:
    """Round to the nearest integer; halves to the even one."""
    outward = _away(x)
    is_half = abs(x - outward) == flint().arb(0.5)
    return 2 * truncate(outward / 2) if is_half else outward


_FLOOR = Step(lambda x: x.floor(), np.floor, _is_whole)
_CEIL = Step(lambda x: x.ceil(), np.ceil, _is_whole)
_SIGN = Step(
    lambda x: flint().arb(1 if x > 0 else -1 if x < 0 else 0), np.sign, lambda x: x == 0
)
_TO_EVEN = Step(_even, np.rint, _is_half)
_FROM_ZERO = Step(
    _away, lambda x: np.where(x >= 0, np.floor(x + 0.5), np.ceil(x - 0.5)), _is_half
)


def _steps(step: Step) -> Callable[[Any, Any, list[Any]], Any]:
    return lambda walk, eqn, inputs: walk.decisions.steps(step, inputs[0])


def _round(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    step = _TO_EVEN if eqn.params["rounding_method"] == 1 else _FROM_ZERO
    return walk.decisions.steps(step, inputs[0])


def _rem(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    x, y = walk.reals(inputs)
    whole = walk.decisions.quotient(x, y, result_dtype(eqn))
    product = walk.elementwise(eqn, ELEMENTWISE["mul"], [whole, y])
    return walk.elementwise(eqn, ELEMENTWISE["sub"], [x, product])


def _compare(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    return walk.decisions.compare(eqn.primitive.name, *walk.reals(inputs))


def _larger(direction: int) -> Callable[[Any, Any, list[Any]], Any]:
    def larger(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
        out = walk.decisions.best(*walk.reals(inputs), direction)
        is_shift = not any(isinstance(v, core.Literal) for v in eqn.invars)
        return walk.numbers.at_maximum(out) if is_shift else out

    return larger


def _clamp(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    low, x, high = walk.reals(inputs)
    best = walk.decisions.best
    return best(best(x, low, 1), high, -1)


def _reduce_best(direction: int) -> Callable[[Any, Any, list[Any]], Any]:
    def of_all(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
        rows = last(walk, inputs[0], eqn.params["axes"])
        if rows.shape[-1] == 0:
            return np.full(rows.shape[:-1], -direction * np.inf)
        return walk.numbers.at_maximum(walk.decisions.best_of(rows, direction))

    return of_all


def _reduce_window_best(direction: int) -> Callable[[Any, Any, list[Any]], Any]:
    def of_all(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
        rows = in_windows(walk, eqn, inputs[0], -direction * np.inf)
        return walk.decisions.best_of(rows, direction)

    return of_all


def _cumulative_best(direction: int) -> Callable[[Any, Any, list[Any]], Any]:
    def so_far(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
        def run(x: Any) -> Any:
            return running(walk, x, lambda a, b: walk.decisions.best(a, b, direction))

        return along(walk, eqn, inputs[0], run)

    return so_far


def _arg_best(direction: int) -> Callable[[Any, Any, list[Any]], Any]:
    def arg(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
        rows = last(walk, inputs[0], eqn.params["axes"])
        return walk.decisions.largest(rows, direction).astype(result_dtype(eqn))

    return arg


def _select_n(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    which, *cases = inputs
    cases = walk.reals(cases)
    if isinstance(which, Doubtful):
        return walk.numbers.any_of(which, cases)
    which = np.asarray(which)
    if which.ndim == 0:
        return cases[int(which)]
    if len(cases) == 2:
        return where(walk, which.astype(bool), cases[1], cases[0])
    return moved(
        walk, lambda *a: np.take_along_axis(np.stack(a), which[None], 0)[0], *cases
    )


def _order(walk: Any, eqn: Any, keys: list[Any]) -> Any:
    """Return the stable ascending order along the last axis by one or more keys."""
    if any(map(walk.is_real, keys)):
        return walk.decisions.order(keys)
    return np.lexsort([walk.settled(eqn, k) for k in keys[::-1]], axis=-1)


def _in_order(walk: Any, row: Any, order: Any) -> Any:
    if isinstance(order, Doubtful):
        return walk.numbers.in_doubtful_order(row, order)
    return moved(walk, lambda a: np.take_along_axis(a, order, -1), row)


def _sort(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    axis = eqn.params["dimension"]
    rows = [moved(walk, lambda a: np.moveaxis(a, axis, -1), x) for x in inputs]
    order = _order(walk, eqn, rows[: eqn.params["num_keys"]])
    rows = [_in_order(walk, row, order) for row in rows]
    return [moved(walk, lambda a: np.moveaxis(a, -1, axis), row) for row in rows]


def _top_k(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    (x,), k = inputs, eqn.params["k"]
    axis = eqn.params.get("axis", len(x.shape) - 1)
    row = moved(walk, lambda a: np.moveaxis(a, axis, -1), x)
    minus = walk.elementwise(eqn, ELEMENTWISE["neg"], [row])
    order = _order(walk, eqn, [minus])
    found = [_in_order(walk, row, order), order.astype(np.int32)]
    return [moved(walk, lambda a: np.moveaxis(a[..., :k], -1, axis), x) for x in found]


DECISIONS: dict[str, Callable[[Any, Any, list[Any]], Any]] = {
    **dict.fromkeys(COMPARISONS, _compare),
    "abs": lambda walk, eqn, inputs: walk.decisions.absolute(inputs[0]),
    "argmax": _arg_best(1),
    "argmin": _arg_best(-1),
    "ceil": _steps(_CEIL),
    "clamp": _clamp,
    "cummax": _cumulative_best(1),
    "cummin": _cumulative_best(-1),
    "floor": _steps(_FLOOR),
    "is_finite": lambda walk, eqn, inputs: walk.decisions.is_finite(inputs[0]),
    "max": _larger(1),
    "min": _larger(-1),
    "reduce_max": _reduce_best(1),
    "reduce_min": _reduce_best(-1),
    "reduce_window_max": _reduce_window_best(1),
    "reduce_window_min": _reduce_window_best(-1),
    "rem": _rem,
    "round": _round,
    "select_n": _select_n,
    "sign": _steps(_SIGN),
    "sort": _sort,
    "top_k": _top_k,
}
