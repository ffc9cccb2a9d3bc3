"""Sums and products."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.jaxprs import dot_dimensions, result_dtype
from funcgrad.testing.rules.elementwise import ELEMENTWISE
from funcgrad.testing.rules.movement import (
    along,
    column,
    in_windows,
    last,
    running,
    turned,
)


def _reduce_sum(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    return walk.numbers.sum_over(inputs[0], eqn.params["axes"], result_dtype(eqn))


def _reduce_window_sum(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    rows = in_windows(walk, eqn, inputs[0], 0.0)
    return walk.numbers.sum_over(rows, (len(rows.shape) - 1,), result_dtype(eqn))


def _cumsum(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    dtype = result_dtype(eqn)
    return along(walk, eqn, inputs[0], lambda x: walk.numbers.running_sum(x, dtype))


def times(walk: Any, eqn: Any, a: Any, b: Any) -> Any:
    return walk.elementwise(eqn, ELEMENTWISE["mul"], [a, b])


def _cumprod(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    def run(x: Any) -> Any:
        return running(walk, x, lambda a, b: times(walk, eqn, a, b))

    return along(walk, eqn, inputs[0], run)


def _reduce_prod(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    rows = last(walk, inputs[0], eqn.params["axes"])
    if rows.shape[-1] == 0:
        return np.ones(rows.shape[:-1])
    out = column(walk, rows, 0)
    for i in range(1, rows.shape[-1]):
        out = times(walk, eqn, out, column(walk, rows, i))
    return out


def _dot_general(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    """Multiply batches of matrices, (n, m, terms) by (n, terms, k)."""
    (left_sum, right_sum), (left_batch, right_batch) = dot_dimensions(eqn)
    a, b = walk.reals(inputs)
    left = [i for i in range(len(a.shape)) if i not in (*left_sum, *left_batch)]
    right = [i for i in range(len(b.shape)) if i not in (*right_sum, *right_batch)]
    batch = [a.shape[i] for i in left_batch]
    rows, columns = [a.shape[i] for i in left], [b.shape[i] for i in right]
    n, m, k = math.prod(batch), math.prod(rows), math.prod(columns)
    terms = math.prod(a.shape[i] for i in left_sum)
    a = turned(walk, a, (*left_batch, *left, *left_sum), (n, m, terms))
    b = turned(walk, b, (*right_batch, *right_sum, *right), (n, terms, k))
    out = walk.numbers.contract(a, b, result_dtype(eqn))
    return turned(walk, out, (0, 1, 2), (*batch, *rows, *columns))


def _conv(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    return walk.numbers.convolve(eqn, *walk.reals(inputs))


SUMS: dict[str, Callable[[Any, Any, list[Any]], Any]] = {
    "reduce_sum": _reduce_sum,
    "reduce_prod": _reduce_prod,
    "cumsum": _cumsum,
    "cumprod": _cumprod,
    "dot_general": _dot_general,
    "product": _dot_general,
    "conv_general_dilated": _conv,
    "reduce_window_sum": _reduce_window_sum,
}
