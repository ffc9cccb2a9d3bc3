"""Sums and products."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcgrad.jaxprs import dot_dimensions
from funcgrad.testing.numbers.floats import in_float64
from funcgrad.testing.rules.elementwise import ELEMENTWISE
from funcgrad.testing.rules.movement import (
    windows_of,
)


def _reduce_sum(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    (x,), axes = inputs, eqn.params["axes"]
    terms = math.prod(x.shape[i] for i in axes)

    def back(g: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.expand_dims(g, axes), x.shape)

    return walk.numbers.linear(lambda a: a.sum(axes), x, terms, back)


def _cumsum(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    (x,), axis = inputs, eqn.params["axis"]
    turn = slice(None, None, -1 if eqn.params["reverse"] else 1)
    at = (slice(None),) * axis + (turn,)
    there = (slice(None),) * axis + (slice(None, None, 1 if turn.step < 0 else -1),)
    return walk.numbers.linear(
        lambda a: np.cumsum(a[at], axis)[at],
        x,
        x.shape[axis],
        lambda g: np.cumsum(g[there], axis)[there],
    )


def along(walk: Any, x: Any, axis: int, i: int) -> Any:
    return walk.numbers.moved(lambda a: [np.take(a, i, axis)], [x])[0]


def running(walk: Any, eqn: Any, x: Any, axis: int, reverse: bool, step: Any) -> Any:
    """Return all of x[0], step(x[0], x[1]), ... along an axis."""
    order = range(x.shape[axis])[:: -1 if reverse else 1]
    rows: list[Any] = []
    for i in order:
        row = along(walk, x, axis, i)
        rows.append(step(rows[-1], row) if rows else row)
    rows = rows[::-1] if reverse else rows
    return walk.numbers.moved(lambda *a: [np.stack(a, axis)], rows)[0]


def _cumprod(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    p = eqn.params
    times = lambda a, b: walk.elementwise(ELEMENTWISE["mul"], [a, b])  # noqa: E731
    return running(walk, eqn, inputs[0], p["axis"], p["reverse"], times)


def _reduce_prod(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    rows = last(walk, inputs[0], eqn.params["axes"])
    if rows.shape[-1] == 0:
        return np.ones(rows.shape[:-1])
    out = along(walk, rows, -1, 0)
    for i in range(1, rows.shape[-1]):
        out = walk.elementwise(ELEMENTWISE["mul"], [out, along(walk, rows, -1, i)])
    return out


def last(walk: Any, x: Any, axes: Any) -> Any:
    """Return x with the given axes moved to the end and made one."""
    kept = [i for i in range(len(x.shape)) if i not in axes]
    count = math.prod(x.shape[i] for i in axes)
    shape = (*(x.shape[i] for i in kept), count)
    return walk.numbers.moved(
        lambda a: [a.transpose(*kept, *axes).reshape(shape)], [x]
    )[0]


def _dot_general(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    (left_sum, right_sum), (left_batch, right_batch) = dot_dimensions(eqn)
    a, b = walk.reals(inputs)
    n_a, n_b = range(len(a.shape)), range(len(b.shape))
    left = [i for i in n_a if i not in (*left_sum, *left_batch)]
    right = [i for i in n_b if i not in (*right_sum, *right_batch)]
    batch = [a.shape[i] for i in left_batch]
    rows, columns = [a.shape[i] for i in left], [b.shape[i] for i in right]
    terms = math.prod(a.shape[i] for i in left_sum)

    to_left = (*left_batch, *left, *left_sum)
    to_right = (*right_batch, *right_sum, *right)
    shapes = [x.shape[i] for x, to in ((a, to_left), (b, to_right)) for i in to]
    left_shape, right_shape = shapes[: len(a.shape)], shapes[len(a.shape) :]
    n, m, k = math.prod(batch), math.prod(rows), math.prod(columns)

    def sides(x: Any, y: Any, g: Any) -> list[Any]:
        """Return the left, right and product as batches of matrices, where given."""
        return [
            None if x is None else x.transpose(to_left).reshape(n, m, terms),
            None if y is None else y.transpose(to_right).reshape(n, terms, k),
            None if g is None else g.reshape(n, m, k),
        ]

    def product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        x, y, _ = sides(x, y, None)
        return _matmul(x, y).reshape((*batch, *rows, *columns))

    def pull_left(g: np.ndarray, y: np.ndarray) -> np.ndarray:
        _, y, g = sides(None, y, g)
        out = _matmul(g, y.swapaxes(1, 2)).reshape(left_shape)
        return out.transpose(np.argsort(to_left))

    def pull_right(g: np.ndarray, x: np.ndarray) -> np.ndarray:
        x, _, g = sides(x, None, g)
        out = _matmul(x.swapaxes(1, 2), g).reshape(right_shape)
        return out.transpose(np.argsort(to_right))

    return walk.numbers.bilinear(product, a, b, terms, (pull_left, pull_right))


def _matmul(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.matmul(_for_blas(x), _for_blas(y))


def _for_blas(x: np.ndarray) -> np.ndarray:
    """Return x as an array that NumPy hands to BLAS as it is."""
    return x if x.itemsize in x.strides[-2:] else np.ascontiguousarray(x)


def _conv(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    a, b = walk.reals(inputs)
    params = dict(eqn.params) | {"preferred_element_type": None}
    out = params["dimension_numbers"].rhs_spec[0]
    terms = math.prod(n for i, n in enumerate(b.shape) if i != out)

    def bind(x: Any, y: Any) -> Any:
        return eqn.primitive.bind(x, y, **params)

    def conv(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return in_float64(bind, x, y)

    def pull_left(g: np.ndarray, y: np.ndarray) -> np.ndarray:
        back = lambda g, y: jax.vjp(lambda x: bind(x, y), jnp.zeros(a.shape))[1](g)[0]  # noqa: E731
        return in_float64(back, g, y)

    def pull_right(g: np.ndarray, x: np.ndarray) -> np.ndarray:
        back = lambda g, x: jax.vjp(lambda y: bind(x, y), jnp.zeros(b.shape))[1](g)[0]  # noqa: E731
        return in_float64(back, g, x)

    return walk.numbers.bilinear(conv, a, b, terms, (pull_left, pull_right))


def in_windows(walk: Any, eqn: Any, x: Any, outside: float) -> Any:
    inside = windows_of(eqn, x.shape)
    return walk.numbers.moved(
        lambda a, o: [np.append(a.ravel(), o)[inside]],
        [x, walk.numbers.lift(outside)],
    )[0]


def _reduce_window_sum(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    rows = in_windows(walk, eqn, inputs[0], 0.0)
    return walk.numbers.linear(
        lambda a: a.sum(-1),
        rows,
        rows.shape[-1],
        lambda g: np.broadcast_to(g[..., None], rows.shape),
    )


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
