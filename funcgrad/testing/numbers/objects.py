"""Arrays of numbers that are objects, and native numbers in doubt.

Arrays of exact numbers are NumPy arrays of objects. Integers, booleans and keys stay
what they are ("native"), inside `Doubtful` where rounding may have changed them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np


class Doubtful(NamedTuple):
    """Integers or booleans, some of which rounding may have changed (`open`)."""

    value: Any
    open: np.ndarray

    def astype(self, dtype: Any) -> Doubtful:
        return Doubtful(self.value.astype(dtype), self.open)


class Event(NamedTuple):
    """What numbers note on the way; only the walk knows in which equation.

    | kind       | noted where                                                     |
    |------------|-----------------------------------------------------------------|
    | "tie"      | the two numbers `a` and `b` of a comparison are exactly equal   |
    | "flip"     | rounding may turn a decision; both outcomes are kept            |
    | "lost"     | rounding may change the path, and no other path is known        |
    | "overflow" | a number leaves the range of its float type                     |
    """

    kind: str
    a: Any = None
    b: Any = None


def is_real(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype == object


def objects(shape: tuple[int, ...], items: list[Any]) -> np.ndarray:
    """Return `items` as an array of objects of the given shape."""
    out = np.empty(len(items), object)
    out[:] = items
    return out.reshape(shape)


def each(function: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    """Apply a function of scalars to every element, with broadcasting."""
    with np.errstate(all="ignore"):  # a NaN inside flint is no matter of NumPy's
        out = np.frompyfunc(function, len(arrays), 1)(*arrays)
    return out if isinstance(out, np.ndarray) else objects((), [out])


def rows_of(x: np.ndarray) -> np.ndarray:
    """Return x as a matrix, whose rows are the last axis; either may be empty."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def unit(dtype: Any) -> float:
    """Return u, the largest relative error of one rounding, half an epsilon."""
    return float(ml_dtypes.finfo(dtype).eps) / 2
