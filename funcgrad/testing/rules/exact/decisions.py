"""Comparisons, maxima, orders, and functions with jumps."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from funcgrad.jaxprs import result_dtype
from funcgrad.testing.control import Uncovered
from funcgrad.testing.flint import flint
from funcgrad.testing.numbers.balls import union
from funcgrad.testing.numbers.exact import Exact, truncate
from funcgrad.testing.numbers.objects import Doubtful, each, is_real, objects, rows_of
from funcgrad.testing.rules.elementwise import ELEMENTWISE
from funcgrad.testing.rules.exact.sums import along, back, reduced
from funcgrad.testing.rules.movement import (
    windows_of,
)


def _compare(op: str) -> Callable[[Any, list[Any], Exact], Any]:
    return lambda eqn, inputs, numbers: numbers.compare(op, *inputs)


def _select_n(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    which, *cases = inputs
    cases = [x if is_real(x) else numbers.lift(x) for x in cases]
    if not isinstance(which, Doubtful) and np.ndim(which) == 0:
        return cases[int(which)]
    return numbers.select(which, cases)


def _reduce_best(better: str, worst: str) -> Callable[[Any, list[Any], Exact], Any]:
    def best_of_all(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
        rows = reduced(inputs[0], eqn.params["axes"])
        if rows.shape[-1] == 0:
            return each(lambda x: flint().arb(worst), np.zeros(rows.shape[:-1]))
        out = np.asarray(rows[..., 0])
        for i in range(1, rows.shape[-1]):
            out = getattr(numbers, better)(out, np.asarray(rows[..., i]))
        return out

    return best_of_all


def _arg_best(direction: float) -> Callable[[Any, list[Any], Exact], Any]:
    def arg(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
        found = numbers.largest(reduced(inputs[0], eqn.params["axes"]), direction)
        kind = result_dtype(eqn)
        if isinstance(found, Doubtful):
            return Doubtful(found.value.astype(kind), found.open)
        return found.astype(kind)

    return arg


def _cumulative(better: str) -> Callable[[Any, list[Any], Exact], Any]:
    def best_so_far(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
        x = along(eqn, inputs[0]).copy()
        for i in range(1, x.shape[-1]):
            x[..., i] = getattr(numbers, better)(
                np.asarray(x[..., i - 1]), np.asarray(x[..., i])
            )
        return back(eqn, x)

    return best_so_far


def _reduce_window_best(better: str, worst: str) -> Callable[..., Any]:
    def best_of_all(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
        (x,) = inputs
        flat = np.append(x.ravel(), objects((1,), [flint().arb(worst)]))
        rows = flat[windows_of(eqn, x.shape)]
        out = np.asarray(rows[..., 0])
        for i in range(1, rows.shape[-1]):
            out = getattr(numbers, better)(out, np.asarray(rows[..., i]))
        return out

    return best_of_all


def _clamp(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    low, x, high = inputs
    return numbers.minimum(numbers.maximum(x, low), high)


def _rem(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    x, y = inputs
    dtype = result_dtype(eqn)
    quotient = numbers.elementwise(ELEMENTWISE["div"], [x, y], dtype)
    whole = numbers.steps(truncate, quotient)
    product = numbers.elementwise(ELEMENTWISE["mul"], [whole, y], dtype)
    return numbers.elementwise(ELEMENTWISE["sub"], [x, product], dtype)


def _steps(function: Callable[[Any], Any]) -> Callable[[Any, list[Any], Exact], Any]:
    return lambda eqn, inputs, numbers: numbers.steps(function, inputs[0])


def _sign(x: Any) -> Any:
    return flint().arb(1 if x > 0 else -1 if x < 0 else 0)


def _round(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    half, even = flint().arb(0.5), eqn.params["rounding_method"] == 1

    def nearest(x: Any) -> Any:
        outward = (x + half).floor() if x >= 0 else (x - half).ceil()
        if even and abs(x - outward) == half:
            return 2 * truncate(outward / 2)
        return outward

    return numbers.steps(nearest, inputs[0])


def _sort(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    if eqn.params["num_keys"] != 1:
        raise Uncovered("a sort by several keys")
    axis = eqn.params["dimension"]
    rows = [np.moveaxis(_array(x), axis, -1) for x in inputs]
    if not is_real(rows[0]):
        order: Any = np.argsort(rows[0], -1, kind="stable")
    else:
        order = numbers.order(rows[0])
    return [_last_to(_reordered(row, order), axis) for row in rows]


def _last_to(x: Any, axis: int) -> Any:
    if isinstance(x, Doubtful):
        return Doubtful(*(np.moveaxis(y, -1, axis) for y in x))
    return np.moveaxis(x, -1, axis)


def _array(x: Any) -> Any:
    return x.value if isinstance(x, Doubtful) else np.asarray(x)


def _reordered(row: np.ndarray, order: Any) -> Any:
    """Return a row in the given order; where that is in doubt, hulls of neighbours."""
    if not isinstance(order, Doubtful):
        return np.take_along_axis(row, order, -1)
    out = np.take_along_axis(row, order.value, -1)
    if not is_real(row):
        return Doubtful(out, order.open)
    rows = rows_of(out)
    for numbers, open_ in zip(rows, rows_of(order.open), strict=True):
        edges = np.flatnonzero(np.diff(open_, prepend=False, append=False))
        for start, stop in edges.reshape(-1, 2):
            numbers[start:stop] = reduce(union, numbers[start:stop])
    return rows.reshape(out.shape)


def _top_k(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    axis, k = eqn.params.get("axis", inputs[0].ndim - 1), eqn.params["k"]
    row = np.moveaxis(inputs[0], axis, -1)
    negative = numbers.elementwise(ELEMENTWISE["neg"], [row], inputs[0].dtype)
    order = numbers.order(negative)
    values = _reordered(row, order)[..., :k]
    if isinstance(order, Doubtful):
        found: Any = Doubtful(
            order.value[..., :k].astype(np.int32), order.open[..., :k]
        )
    else:
        found = order[..., :k].astype(np.int32)
    return [_last_to(values, axis), _last_to(found, axis)]


DECISIONS: dict[str, Callable[[Any, list[Any], Exact], Any]] = {
    "abs": lambda eqn, inputs, numbers: numbers.absolute(inputs[0]),
    "argmax": _arg_best(1.0),
    "argmin": _arg_best(-1.0),
    "ceil": _steps(lambda x: x.ceil()),
    "clamp": _clamp,
    "cummax": _cumulative("maximum"),
    "cummin": _cumulative("minimum"),
    "eq": _compare("eq"),
    "floor": _steps(lambda x: x.floor()),
    "ge": _compare("ge"),
    "gt": _compare("gt"),
    "is_finite": lambda eqn, inputs, numbers: numbers.is_finite(inputs[0]),
    "le": _compare("le"),
    "lt": _compare("lt"),
    "le_to": _compare("le"),
    "lt_to": _compare("lt"),
    "max": lambda eqn, inputs, numbers: numbers.maximum(*inputs),
    "min": lambda eqn, inputs, numbers: numbers.minimum(*inputs),
    "ne": _compare("ne"),
    "reduce_max": _reduce_best("maximum", "-inf"),
    "reduce_min": _reduce_best("minimum", "inf"),
    "reduce_window_max": _reduce_window_best("maximum", "-inf"),
    "reduce_window_min": _reduce_window_best("minimum", "inf"),
    "rem": _rem,
    "round": _round,
    "select_n": _select_n,
    "sign": _steps(_sign),
    "sort": _sort,
    "top_k": _top_k,
}
