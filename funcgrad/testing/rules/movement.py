"""Data moved: as NumPy does, or as positions go."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from funcgrad.testing.numbers.objects import Doubtful
from funcgrad.testing.rules.native import run_native
from funcgrad.testing.rules.positions import BACK, FAST_MOVES, PICKS, windows_of


def moved(
    walk: Any,
    function: Callable[..., np.ndarray],
    *arrays: Any,
    back: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Any:
    """Return what a function of NumPy, which only moves, makes of arrays of numbers.

    `back` is its inverse, where it has one. A native array is moved as it is, alone.
    """
    if walk.is_real(arrays[0]):
        numbers = list(arrays)
        return walk.numbers.moved(lambda *a: [function(*a)], numbers, back)[0]
    (x,) = arrays
    if isinstance(x, Doubtful):
        return Doubtful(function(x.value), function(x.open))
    return function(np.asarray(x))


def turned(walk: Any, x: Any, axes: Sequence[int], shape: Sequence[int]) -> Any:
    """Return x with its axes in this order, and then in this shape."""
    between = [x.shape[i] for i in axes]
    return moved(
        walk,
        lambda a: a.transpose(axes).reshape(shape),
        x,
        back=lambda g: g.reshape(between).transpose(np.argsort(axes)),
    )


def last(walk: Any, x: Any, axes: Sequence[int]) -> Any:
    """Return x with the given axes moved to the end and made one."""
    kept = [i for i in range(len(x.shape)) if i not in axes]
    count = math.prod(x.shape[i] for i in axes)
    return turned(walk, x, (*kept, *axes), (*(x.shape[i] for i in kept), count))


def along(walk: Any, eqn: Any, x: Any, run: Callable[[Any], Any]) -> Any:
    """Run along the last axis what the equation runs along its own, maybe reversed."""
    axis, way = eqn.params["axis"], -1 if eqn.params["reverse"] else 1

    def there(a: np.ndarray) -> np.ndarray:
        return np.moveaxis(a, axis, -1)[..., ::way]

    def back(a: np.ndarray) -> np.ndarray:
        return np.moveaxis(a[..., ::way], -1, axis)

    return moved(walk, back, run(moved(walk, there, x, back=back)), back=there)


def column(walk: Any, x: Any, i: int) -> Any:
    """Return x[..., i]."""
    return moved(walk, lambda a: a[..., i], x)


def running(walk: Any, x: Any, step: Callable[[Any, Any], Any]) -> Any:
    """Return x[0], step(x[0], x[1]), ... along the last axis."""
    if not x.shape[-1]:
        return x
    columns = [column(walk, x, 0)]
    for i in range(1, x.shape[-1]):
        columns.append(step(columns[-1], column(walk, x, i)))
    return moved(walk, lambda *a: np.stack(a, -1), *columns)


def in_windows(walk: Any, eqn: Any, x: Any, outside: float) -> Any:
    """Return what is in each window of the equation, along a new last axis."""
    inside = windows_of(eqn, x.shape)
    beyond = walk.numbers.lift(outside)
    return moved(walk, lambda a, o: np.append(a.ravel(), o)[inside], x, beyond)


def where(walk: Any, mask: np.ndarray, a: Any, b: Any) -> Any:
    def chosen(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.where(mask, x, y)

    return moved(walk, chosen, a, b)


def _moved(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    """Move whole arrays as NumPy does."""
    name = eqn.primitive.name

    def function(*arrays: np.ndarray) -> list[np.ndarray]:
        out = FAST_MOVES[name](eqn, *(np.asarray(x) for x in arrays))
        return out if isinstance(out, list) else [out]

    back = partial(BACK[name], eqn) if name in BACK else None
    return walk.numbers.moved(function, inputs, back)


def _picked(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    """Move numbers as the primitive moves their positions in one long list.

    It is run on those integers, and so says where each element comes from; -1 is
    outside of all.
    """
    fill = eqn.params.get("fill_value")
    reals, positions, start = [], [], 0
    for x in inputs:
        if walk.is_real(x):
            size = math.prod(x.shape)
            here = np.arange(start, start + size, dtype=np.int32)
            positions.append(here.reshape(x.shape))
            reals.append(x)
            start += size
        else:
            positions.append(x)
    if any(isinstance(x, Doubtful) for x in inputs):  # rounding may have moved any
        filled = [] if fill is None else [walk.numbers.lift(float(fill))]
        hull = walk.numbers.hull([*reals, *filled])
        return [np.full(v.aval.shape, hull) for v in eqn.outvars]
    places = run_native(eqn, positions, integer=True)
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
