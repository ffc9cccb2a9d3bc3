"""Balls around exact numbers: what floats may have made of a program."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import ml_dtypes
import numpy as np

from funcgrad.testing.flint import flint
from funcgrad.testing.numbers.exact import Exact
from funcgrad.testing.numbers.objects import (
    Doubtful,
    Event,
    each,
    is_real,
    objects,
    rows_of,
    unit,
)
from funcgrad.testing.rules.elementwise import ELEMENTWISE, Rule


class Rounded(Exact):
    """Balls that hold whatever floats may have computed, in any order of summation.

    The model: fl(a op b) = (a op b)(1 + d) + e with |d| <= u and |e| <= the smallest
    normal number; a sum of n terms in any order, with or without fused multiply-add,
    is off by at most ((1 + u)^n - 1) * sum |terms|; an elementary function by the ulps
    of its rule. Balls forget that two errors are the same, so the bound is rigorous
    but pessimistic for long chains. Decisions come from the exact run (`path`); where
    rounding could have turned one, both outcomes are inside the ball.
    """

    def __init__(self, path: list[Any]):
        super().__init__()
        self.path = path
        self._decided = iter(path)

    def _next(self) -> Any:
        return next(self._decided)

    def lift(self, native: Any) -> np.ndarray:
        out = super().lift(native)
        if isinstance(native, Doubtful):
            boolean = np.isin(native.value, [0, 1]).all()
            hull = flint().arb(0.5, 0.5) if boolean else infinite()
            out[native.open] = hull
        return out

    def widen(self, x: np.ndarray, units: float, info: Any) -> np.ndarray:
        """Return balls with `units` roundings of relative size u added."""
        arb = flint().arb
        factor, tiny = arb(1, units * float(info.eps) / 2), arb(0, float(info.tiny))
        largest, outside = arb(float(info.max)), infinite()

        def wider(ball: Any) -> Any:
            if ball == 0:
                return ball
            out = ball * factor + tiny
            if abs(out) <= largest:
                return out
            if ball == arb("inf") or ball == arb("-inf"):
                return ball
            self.events.append(Event("overflow"))
            return outside

        return each(wider, x)

    def elementwise(
        self, rule: Rule, arrays: list[np.ndarray], dtype: Any
    ) -> np.ndarray:
        out = super().elementwise(rule, arrays, dtype)
        ulps = rule.error(np.dtype(dtype))
        return out if ulps == 0 else self.widen(out, 2 * ulps, ml_dtypes.finfo(dtype))

    def contract(self, a: np.ndarray, b: np.ndarray, dtype: Any) -> np.ndarray:
        out = super().contract(a, b, dtype)
        sizes = super().contract(each(abs_upper, a), each(abs_upper, b), dtype)
        return self._spread(out, sizes, a.shape[2], dtype)

    def add_up(self, terms: np.ndarray, dtype: Any) -> np.ndarray:
        out = super().add_up(terms, dtype)
        sizes = super().add_up(each(abs_upper, terms), dtype)
        return self._spread(out, sizes, terms.shape[-1] - 1, dtype)

    def running_sum(self, terms: np.ndarray, dtype: Any) -> np.ndarray:
        out = super().running_sum(terms, dtype)
        sizes = super().running_sum(each(abs_upper, terms), dtype)
        for i in range(1, terms.shape[-1]):
            out[..., i] = self._spread(out[..., i], sizes[..., i], i, dtype)
        return out

    def _spread(
        self, sums: np.ndarray, sizes: np.ndarray, terms: int, dtype: Any
    ) -> np.ndarray:
        if terms <= 0:
            return sums
        info = ml_dtypes.finfo(dtype)
        exponent, tiny = terms * unit(dtype), terms * float(info.tiny)
        growth = math.expm1(exponent) if exponent < 700 else math.inf
        gamma, rest = flint().arb(0, growth), flint().arb(0, tiny)

        def spread(total: Any, size: Any) -> Any:
            return total if size == 0 else total + size * gamma + rest

        return self.widen(each(spread, sums, sizes), 0, info)

    def rounded_to(self, x: np.ndarray, info: Any) -> np.ndarray:
        return self.widen(x, 1, info)

    # Decisions -----------------------------------------------------------------------

    def compare(self, op: str, a: np.ndarray, b: np.ndarray) -> Any:
        open_ = each(_undecided, a, b).astype(bool)
        return self._doubtful(self._next(), np.asarray(open_))

    def _doubtful(self, value: Any, open_: np.ndarray) -> Any:
        if not open_.any():
            return value
        self.events.append(Event("flip"))
        return Doubtful(value, open_)

    def best(self, a: np.ndarray, b: np.ndarray, direction: int) -> np.ndarray:
        if direction > 0:
            return each(larger, a, b)
        return each(lambda x, y: -larger(-x, -y) if x is not y else x, a, b)

    def absolute(self, x: np.ndarray) -> np.ndarray:
        return each(lambda v: v if v >= 0 else abs(v), x)

    def _step(self, function: Callable[[Any], Any], v: Any) -> Any:
        if not v.is_finite():
            return v
        low, high = function(v.lower()), function(v.upper())
        return low if low == high else low.union(high)

    def to_integers(self, x: np.ndarray, dtype: Any) -> Any:
        open_ = each(lambda v: not v.is_exact(), self.truncated(x))
        return self._doubtful(self._next(), np.asarray(open_).astype(bool))

    def is_finite(self, x: np.ndarray) -> Any:
        open_ = each(lambda v: not v.is_finite(), x)
        return self._doubtful(self._next(), np.asarray(open_).astype(bool))

    def order(self, keys: list[np.ndarray]) -> Any:
        order = self._next()
        row = np.take_along_axis(keys[0], order, -1)
        close = each(_undecided, row[..., :-1], row[..., 1:]).astype(bool)
        open_ = np.zeros(order.shape, bool)
        open_[..., :-1] |= close
        open_[..., 1:] |= close
        return self._doubtful(order, open_)

    def largest(self, candidates: np.ndarray, direction: float = 1.0) -> Any:
        picks = self._next()
        best = np.take_along_axis(candidates, picks[..., None], -1)
        close = each(_undecided, candidates, best).astype(bool)
        np.put_along_axis(close, picks[..., None], False, -1)
        return self._doubtful(picks, np.asarray(close.any(-1)))

    def any_of(self, which: Doubtful, cases: list[np.ndarray]) -> np.ndarray:
        """Return case number `which`; where that is in doubt, balls around all."""
        shape = cases[0].shape
        out = reduce(partial(each, union), cases)
        number, open_ = (np.broadcast_to(x, shape) for x in which)
        for i, case in enumerate(cases):
            is_this = ~open_ & (number == i)
            out[is_this] = case[is_this]
        return out

    def in_doubtful_order(self, row: Any, order: Doubtful) -> Any:
        """Return a row in this order; where it is in doubt, hulls of neighbours."""
        if isinstance(row, Doubtful):
            row = row.value
        out = np.take_along_axis(row, order.value, -1)
        if not is_real(row):
            return Doubtful(out, order.open)
        rows = rows_of(out)
        for numbers, open_ in zip(rows, rows_of(order.open), strict=True):
            edges = np.flatnonzero(np.diff(open_, prepend=False, append=False))
            for start, stop in edges.reshape(-1, 2):
                numbers[start:stop] = reduce(union, numbers[start:stop])
        return rows.reshape(out.shape)

    def hull(self, arrays: list[np.ndarray]) -> Any:
        """Return a ball that holds every number there is."""
        return reduce(union, [x for array in arrays for x in array.ravel()])

    def added_anywhere(
        self, operand: np.ndarray, updates: np.ndarray, dtype: Any
    ) -> np.ndarray:
        """Return balls for updates that rounding may send to any place."""
        if any(not x.is_finite() for x in (*operand.ravel(), *updates.ravel())):
            return each(lambda x: infinite(), operand)
        zero = flint().arb(0)
        reach = [union(zero, x) for x in updates.ravel()]
        changed = self.add_up(objects((len(reach),), reach), dtype)
        return self.elementwise(ELEMENTWISE["add"], [operand, changed], dtype)

    def settled(self, x: Any) -> Any:
        """Return native numbers; a doubtful one leaves the path beyond the bound."""
        if isinstance(x, Doubtful):
            self.events.append(Event("lost"))
            return x.value
        return x


def abs_upper(x: Any) -> Any:
    return x.abs_upper()


def infinite() -> Any:
    """Return the ball that holds every number."""
    return flint().arb(0, math.inf)


def union(a: Any, b: Any) -> Any:
    if a is b:
        return a
    return a.union(b) if a.is_finite() and b.is_finite() else infinite()


def larger(a: Any, b: Any) -> Any:
    if a is b or a >= b:
        return a
    return b if b > a else a.max(b)


def _undecided(a: Any, b: Any) -> bool:
    if a is b or bool(a < b) or bool(a > b):
        return False
    return not (bool(a == b) and a.is_exact() and b.is_exact())
