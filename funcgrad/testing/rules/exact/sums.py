"""Sums and products."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad.jaxprs import dot_dimensions, result_dtype
from funcgrad.testing.flint import flint
from funcgrad.testing.numbers.exact import Exact
from funcgrad.testing.numbers.objects import is_real, objects
from funcgrad.testing.rules.movement import (
    windows,
    windows_of,
)


def reduced(x: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """Return x with the given axes moved to the end and made one."""
    kept = [i for i in range(x.ndim) if i not in axes]
    shape = [x.shape[i] for i in kept]
    return x.transpose(*kept, *axes).reshape(*shape, _count(x, axes))


def _count(x: np.ndarray, axes: Sequence[int]) -> int:
    return math.prod(x.shape[i] for i in axes)


def _reduce_sum(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    return numbers.add_up(reduced(inputs[0], eqn.params["axes"]), result_dtype(eqn))


def _reduce_prod(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    terms = reduced(inputs[0], eqn.params["axes"])
    if terms.shape[-1] == 0:
        return numbers.lift(np.ones(terms.shape[:-1]))
    return np.asarray(numbers.running_product(terms, result_dtype(eqn))[..., -1])


def along(eqn: Any, x: np.ndarray) -> np.ndarray:
    """Return x with the equation's axis last, reversed where it says so."""
    x = np.moveaxis(x, eqn.params["axis"], -1)
    return x[..., ::-1] if eqn.params["reverse"] else x


def back(eqn: Any, x: np.ndarray) -> np.ndarray:
    x = x[..., ::-1] if eqn.params["reverse"] else x
    return np.moveaxis(x, -1, eqn.params["axis"])


def _cumsum(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    return back(eqn, numbers.running_sum(along(eqn, inputs[0]), result_dtype(eqn)))


def _cumprod(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    return back(eqn, numbers.running_product(along(eqn, inputs[0]), result_dtype(eqn)))


def _dot_general(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    (left_sum, right_sum), (left_batch, right_batch) = dot_dimensions(eqn)
    a, b = (x if is_real(x) else numbers.lift(x) for x in inputs)
    left = [i for i in range(a.ndim) if i not in (*left_sum, *left_batch)]
    right = [i for i in range(b.ndim) if i not in (*right_sum, *right_batch)]
    batch = [a.shape[i] for i in left_batch]
    rows, columns = [a.shape[i] for i in left], [b.shape[i] for i in right]
    inner = _count(a, left_sum)
    a = a.transpose(*left_batch, *left, *left_sum)
    b = b.transpose(*right_batch, *right_sum, *right)
    out = numbers.contract(
        a.reshape(math.prod(batch), math.prod(rows), inner),
        b.reshape(math.prod(batch), inner, math.prod(columns)),
        result_dtype(eqn),
    )
    return out.reshape((*batch, *rows, *columns))


def _reduce_window_sum(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    (x,) = inputs
    flat = np.append(x.ravel(), objects((1,), [flint().arb(0)]))
    return numbers.add_up(flat[windows_of(eqn, x.shape)], result_dtype(eqn))


def _conv(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    p = eqn.params
    (x, w), numbering = inputs, p["dimension_numbers"]
    x, w = x.transpose(numbering.lhs_spec), w.transpose(numbering.rhs_spec)
    groups, batch_groups = p["feature_group_count"], p["batch_group_count"]
    n_groups = max(groups, batch_groups)
    batch, channels, *_ = x.shape
    n_out, per_group, *kernel = w.shape
    ones = (1, 1)
    places_in = windows(
        x.shape,
        (1, 1, *kernel),
        (*ones, *p["window_strides"]),
        ((0, 0), (0, 0), *p["padding"]),
        (*ones, *p["lhs_dilation"]),
        (*ones, *p["rhs_dilation"]),
    )
    out_space, taps = places_in.shape[2:-1], places_in.shape[-1]
    flat = np.append(x.ravel(), objects((1,), [flint().arb(0)]))
    places, features = math.prod(out_space), n_out // n_groups
    patches = flat[places_in].reshape(batch, channels, places, taps)
    if batch_groups > 1:
        patches = patches.reshape(n_groups, batch // n_groups, channels, places, taps)
    else:
        patches = patches.reshape(batch, n_groups, per_group, places, taps)
        patches = patches.swapaxes(0, 1)
    # (group, batch, channel, place, tap) x (group, channel, tap, feature)
    rows = patches.shape[1]
    inner = per_group * taps
    a = patches.transpose(0, 1, 3, 2, 4).reshape(n_groups, rows * places, inner)
    b = w.reshape(n_groups, features, inner).swapaxes(1, 2)
    out = numbers.contract(a, b, result_dtype(eqn))
    out = out.reshape(n_groups, rows, *out_space, features)
    out = np.moveaxis(out, (1, -1), (0, 2)).reshape(rows, n_out, *out_space)
    return out.transpose(np.argsort(numbering.out_spec))


SUMS: dict[str, Callable[[Any, list[Any], Exact], Any]] = {
    "reduce_sum": _reduce_sum,
    "reduce_prod": _reduce_prod,
    "cumsum": _cumsum,
    "cumprod": _cumprod,
    "dot_general": _dot_general,
    "product": _dot_general,
    "conv_general_dilated": _conv,
    "reduce_window_sum": _reduce_window_sum,
}
