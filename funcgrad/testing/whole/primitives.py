"""What moves numbers, adds them up, or decides between them: on whole arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax.extend import core

from funcgrad.jaxprs import dot_dimensions
from funcgrad.testing.movement import FAST_MOVES, PICKS, targets, windows_of
from funcgrad.testing.whole.kinds import in_float64
from funcgrad.testing.whole.rules import RULES, whole_power

# Movement -----------------------------------------------------------------------------


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


# Sums and products --------------------------------------------------------------------


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


def _along(walk: Any, x: Any, axis: int, i: int) -> Any:
    return walk.numbers.moved(lambda a: [np.take(a, i, axis)], [x])[0]


def _running(walk: Any, eqn: Any, x: Any, axis: int, reverse: bool, step: Any) -> Any:
    """Return all of x[0], step(x[0], x[1]), ... along an axis."""
    order = range(x.shape[axis])[:: -1 if reverse else 1]
    rows: list[Any] = []
    for i in order:
        row = _along(walk, x, axis, i)
        rows.append(step(rows[-1], row) if rows else row)
    rows = rows[::-1] if reverse else rows
    return walk.numbers.moved(lambda *a: [np.stack(a, axis)], rows)[0]


def _cumprod(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    p = eqn.params
    times = lambda a, b: walk.elementwise(RULES["mul"], [a, b])  # noqa: E731
    return _running(walk, eqn, inputs[0], p["axis"], p["reverse"], times)


def _reduce_prod(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    rows = _last(walk, inputs[0], eqn.params["axes"])
    if rows.shape[-1] == 0:
        return np.ones(rows.shape[:-1])
    out = _along(walk, rows, -1, 0)
    for i in range(1, rows.shape[-1]):
        out = walk.elementwise(RULES["mul"], [out, _along(walk, rows, -1, i)])
    return out


def _last(walk: Any, x: Any, axes: Any) -> Any:
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


def _in_windows(walk: Any, eqn: Any, x: Any, outside: float) -> Any:
    inside = windows_of(eqn, x.shape)
    return walk.numbers.moved(
        lambda a, o: [np.append(a.ravel(), o)[inside]],
        [x, walk.numbers.lift(outside)],
    )[0]


def _reduce_window_sum(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    rows = _in_windows(walk, eqn, inputs[0], 0.0)
    return walk.numbers.linear(
        lambda a: a.sum(-1),
        rows,
        rows.shape[-1],
        lambda g: np.broadcast_to(g[..., None], rows.shape),
    )


# Scatters -----------------------------------------------------------------------------


def _added_at(walk: Any, where: np.ndarray, updates: Any, shape: Any) -> Any:
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
            updates = walk.elementwise(RULES["neg"], [updates])
        added = _added_at(walk, places, updates, operand.shape)
        return walk.elementwise(RULES["add"], [operand, added])

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


# Decisions ----------------------------------------------------------------------------

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


def _best(walk: Any, eqn: Any, a: Any, b: Any, direction: int) -> Any:
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
            out = _best(walk, eqn, a, b, direction)
        is_shift = not any(isinstance(v, core.Literal) for v in eqn.invars)
        return walk.numbers.at_maximum(out) if is_shift else out

    return larger


def _combine_best(direction: int) -> Callable[..., Any]:
    return lambda walk, eqn, a, b: _best(walk, eqn, a, b, direction)


def _absolute(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    (x,) = inputs
    below = walk.decide(eqn, lambda: x < 0, lambda: x == 0, x, walk.numbers.lift(0))
    return walk.numbers.where(below, walk.elementwise(RULES["neg"], [x]), x)


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


def _chosen(walk: Any, eqn: Any, rows: Any, direction: int) -> np.ndarray:
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
            [_taken(walk, rows, found)],
        )
        return walk.numbers.differ(rows, wide)

    found, tied = walk.path.decide(decided)
    walk.note_tie(eqn, tied, differ)
    return np.asarray(found)


def _taken(walk: Any, rows: Any, found: np.ndarray) -> Any:
    return walk.numbers.moved(
        lambda a: [np.take_along_axis(a, found[..., None], -1)[..., 0]], [rows]
    )[0]


def _reduce_best(direction: int) -> Callable[[Any, Any, list[Any]], Any]:
    def best(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
        rows = _last(walk, inputs[0], eqn.params["axes"])
        if rows.shape[-1] == 0:
            return np.full(rows.shape[:-1], -direction * np.inf)
        out = _taken(walk, rows, _chosen(walk, eqn, rows, direction))
        return walk.numbers.at_maximum(out)

    return best


def _arg_best(direction: int) -> Callable[[Any, Any, list[Any]], Any]:
    def arg(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
        rows = _last(walk, inputs[0], eqn.params["axes"])
        return _chosen(walk, eqn, rows, direction).astype(eqn.outvars[0].aval.dtype)

    return arg


def _cumulative_best(direction: int) -> Callable[[Any, Any, list[Any]], Any]:
    def best(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
        p = eqn.params
        larger = lambda a, b: _best(walk, eqn, a, b, direction)  # noqa: E731
        return _running(walk, eqn, inputs[0], p["axis"], p["reverse"], larger)

    return best


def _reduce_window_best(direction: int) -> Callable[[Any, Any, list[Any]], Any]:
    def best(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
        rows = _in_windows(walk, eqn, inputs[0], -direction * np.inf)
        return _taken(walk, rows, _chosen(walk, eqn, rows, direction))

    return best


def _window_places(walk: Any, eqn: Any, operand: Any) -> np.ndarray:
    direction = {"ge": 1, "le": -1}[eqn.params["select_prim"].name]
    rows = _in_windows(walk, eqn, operand, -direction * np.inf)
    picks = _chosen(walk, eqn, rows, direction)
    inside = windows_of(eqn, operand.shape)
    return np.take_along_axis(inside, picks[..., None], -1)[..., 0]


def _select_and_scatter_add(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    source, operand = walk.reals(inputs)
    places = _window_places(walk, eqn, operand)
    return _added_at(walk, places.ravel(), source, operand.shape)


def _select_and_gather_add(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    tangents, operand = walk.reals(inputs)
    places = _window_places(walk, eqn, operand)
    return walk.numbers.moved(lambda a: [a.ravel()[places]], [tangents])


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
    return _best(walk, eqn, _best(walk, eqn, x, low, 1), high, -1)


def _rem(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    x, y = walk.reals(inputs)
    whole = walk.path.decide(lambda: np.trunc(x / y))
    product = walk.elementwise(RULES["mul"], [walk.numbers.lift(whole), y])
    return walk.elementwise(RULES["sub"], [x, product])


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
    order = _order(walk, eqn, [walk.elementwise(RULES["neg"], [row])])[..., :k]
    (values,) = walk.numbers.moved(
        lambda a: [np.moveaxis(np.take_along_axis(a, order, -1), -1, axis)], [row]
    )
    return [values, np.moveaxis(order.astype(np.int32), -1, axis)]


# Powers and conversions ---------------------------------------------------------------


def _integer_pow(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    return walk.elementwise(whole_power(eqn.params["y"]), inputs)


def _convert(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    (x,), new = inputs, eqn.params["new_dtype"]
    if jnp.issubdtype(new, jnp.floating):
        old, kind = (ml_dtypes.finfo(t) for t in (eqn.invars[0].aval.dtype, new))
        narrower = kind.nmant < old.nmant or kind.maxexp < old.maxexp
        return walk.numbers.rounded(x, float(kind.eps) / 2) if narrower else x
    if new == np.bool_:
        return walk.decide(eqn, lambda: x != 0, lambda: x == 0, x, walk.numbers.lift(0))
    return walk.path.decide(lambda: in_float64(lambda a: a.astype(new), x).astype(new))


def _reduce_precision(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    return walk.numbers.rounded(inputs[0], 2.0 ** -(eqn.params["mantissa_bits"] + 1))


def _stop_gradient(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    return walk.numbers.stopped(inputs[0])


def _polynomial(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    """Return c0 + c1 x + c2 x^2 + ..., by Horner's scheme."""
    x, *coefficients = inputs
    out = coefficients[-1]
    for c in coefficients[-2::-1]:
        out = walk.elementwise(RULES["mul"], [out, x])
        out = walk.elementwise(RULES["add"], [out, c])
    return out


PRIMITIVES: dict[str, Callable[[Any, Any, list[Any]], Any]] = {
    **dict.fromkeys(FAST_MOVES, _moved),
    **dict.fromkeys(_COMPARISONS, _compare),
    **dict.fromkeys(PICKS, _picked),
    "abs": _absolute,
    "argmax": _arg_best(1),
    "argmin": _arg_best(-1),
    "ceil": _steps(lambda eqn, x: np.ceil(x), _is_whole),
    "clamp": _clamp,
    "conv_general_dilated": _conv,
    "convert_element_type": _convert,
    "cummax": _cumulative_best(1),
    "cummin": _cumulative_best(-1),
    "cumprod": _cumprod,
    "cumsum": _cumsum,
    "dot_general": _dot_general,
    "floor": _steps(lambda eqn, x: np.floor(x), _is_whole),
    "integer_pow": _integer_pow,
    "is_finite": lambda walk, eqn, inputs: walk.path.decide(
        lambda: np.isfinite(inputs[0])
    ),
    "max": _larger(1),
    "min": _larger(-1),
    "optimization_barrier": lambda walk, eqn, inputs: list(inputs),
    "polynomial": _polynomial,
    "product": _dot_general,
    "reduce_max": _reduce_best(1),
    "reduce_min": _reduce_best(-1),
    "reduce_precision": _reduce_precision,
    "reduce_prod": _reduce_prod,
    "reduce_sum": _reduce_sum,
    "reduce_window_max": _reduce_window_best(1),
    "reduce_window_min": _reduce_window_best(-1),
    "reduce_window_sum": _reduce_window_sum,
    "rem": _rem,
    "round": _steps(_round, _is_half),
    "scatter-add": _scatter_add(1),
    "scatter-max": _scatter_by(_combine_best(1)),
    "scatter-min": _scatter_by(_combine_best(-1)),
    "scatter-mul": _scatter_by(
        lambda walk, eqn, a, b: walk.elementwise(RULES["mul"], [a, b])
    ),
    "scatter-sub": _scatter_add(-1),
    "scatter_max": _scatter_by(_combine_best(1)),
    "scatter_min": _scatter_by(_combine_best(-1)),
    "scatter_mul": _scatter_by(
        lambda walk, eqn, a, b: walk.elementwise(RULES["mul"], [a, b])
    ),
    "select_and_gather_add": _select_and_gather_add,
    "select_and_scatter_add": _select_and_scatter_add,
    "select_n": _select_n,
    "sign": _steps(lambda eqn, x: np.sign(x), lambda x: x == 0),
    "sort": _sort,
    "stop_gradient": _stop_gradient,
    "top_k": _top_k,
}
