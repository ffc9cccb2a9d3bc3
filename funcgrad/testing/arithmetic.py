"""Four kinds of number to evaluate a program with; three have the same arithmetic.

| class     | an element is                         | what it gives                   |
|-----------|---------------------------------------|---------------------------------|
| `Exact`   | `flint.arb`                           | the exact value of a program    |
| `Truth`   | `reference.Value`, or arb if constant | the true derivative             |
| `Rounded` | `flint.arb`, radius = rounding so far | what floats may have made of it |
| `Floats`  | the float itself                      | what JAX computes, op by op     |

Arrays of the first three are NumPy arrays of objects. Integers, booleans and keys stay
what they are ("native"), inside `Doubtful` where rounding may have changed them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from funcgrad.testing import rules
from funcgrad.testing.constants import Reading
from funcgrad.testing.engine import Value
from funcgrad.testing.flint import flint


class Doubtful(NamedTuple):
    """Integers or booleans, some of which rounding may have changed (`open`)."""

    value: Any
    open: np.ndarray


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


def data(x: Any) -> Any:
    return x.data if type(x) is Value else x


def unit(dtype: Any) -> float:
    """Return u, the largest relative error of one rounding, half an epsilon."""
    return float(ml_dtypes.finfo(dtype).eps) / 2


class Exact:
    """Exact numbers. Comparisons are decided by them, and remembered in `path`."""

    def __init__(self, reading: Reading | None = None):
        self.path: list[Any] = []
        self.events: list[Event] = []
        self._reading = reading

    # Making numbers ------------------------------------------------------------------

    def lift(self, native: Any) -> np.ndarray:
        """Return floats as exact numbers: every float is a dyadic rational."""
        if isinstance(native, Doubtful):
            native = native.value
        if is_real(native):
            return native
        native = np.asarray(native)
        arb, plain = flint().arb, native.astype(np.float64).ravel().tolist()
        items = [arb(x) for x in plain]
        return objects(native.shape, items)

    def constant(self, native: Any, dtype: Any, *, closed_over: bool) -> np.ndarray:
        """Return a constant of the program; it may be read as a number near it."""
        native = np.asarray(native, dtype)
        if self._reading is None or native.ndim:
            return self.lift(native)
        return objects((), [self._reading.read(native, closed_over=closed_over)])

    # Arithmetic ----------------------------------------------------------------------

    def elementwise(
        self, rule: rules.Rule, arrays: list[np.ndarray], dtype: Any
    ) -> np.ndarray:
        return each(rule.value, *arrays)

    def contract(self, a: np.ndarray, b: np.ndarray, dtype: Any) -> np.ndarray:
        """Return the batched product of a (B, M, K) with b (B, K, N): (B, M, N)."""
        matrices = [_product(x, y) for x, y in zip(a, b, strict=True)]
        return objects((*a.shape[:2], b.shape[2]), [x for m in matrices for x in m])

    def add_up(self, terms: np.ndarray, dtype: Any) -> np.ndarray:
        """Return the sums over the last axis."""
        zero = flint().arb(0)
        return objects(terms.shape[:-1], [sum(row, zero) for row in rows_of(terms)])

    def running_product(self, terms: np.ndarray, dtype: Any) -> np.ndarray:
        """Return the cumulative products along the last axis."""
        out, times = terms.copy(), rules.ELEMENTWISE["mul"]
        for i in range(1, terms.shape[-1]):
            pair = [out[..., i - 1], terms[..., i]]
            out[..., i] = self.elementwise(times, [np.asarray(p) for p in pair], dtype)
        return out

    def rounded_to(self, x: np.ndarray, dtype: Any) -> np.ndarray:
        """Convert to another float type, which exact numbers do not notice."""
        return x

    # Decisions -----------------------------------------------------------------------

    def compare(self, op: str, a: np.ndarray, b: np.ndarray) -> Any:
        """Return the booleans of `a op b`; an undecided one counts as equal."""
        signs = each(self._sign_of_difference, a, b).astype(np.float64)
        table: dict[str, Callable[[Any], Any]] = {
            "eq": lambda s: s == 0,
            "ne": lambda s: s != 0,
            "lt": lambda s: s < 0,
            "le": lambda s: s <= 0,
            "gt": lambda s: s > 0,
            "ge": lambda s: s >= 0,
        }
        out = np.asarray(table[op](signs))
        self.path.append(out)
        return out

    def _sign_of_difference(self, a: Any, b: Any) -> float:
        if a is b:
            return 0.0 if data(a) == data(a) or not data(a).is_nan() else math.nan
        x, y = data(a), data(b)
        if x < y:
            return -1.0
        if x > y:
            return 1.0
        if x.is_nan() or y.is_nan():
            return math.nan
        self.events.append(Event("tie", a, b))
        return 0.0

    def maximum(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return each(lambda x, y: self._pick(x, y, 1.0), a, b)

    def minimum(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return each(lambda x, y: self._pick(x, y, -1.0), a, b)

    def _pick(self, a: Any, b: Any, direction: float) -> Any:
        sign = self._sign_of_difference(a, b) * direction
        return b if sign < 0 else a if sign >= 0 else flint().arb("nan")

    def absolute(self, x: np.ndarray) -> np.ndarray:
        zero = flint().arb(0)
        return each(lambda v: -v if self._sign_of_difference(v, zero) < 0 else v, x)

    def steps(self, function: Callable[[Any], Any], x: np.ndarray) -> np.ndarray:
        """Apply a function that is constant between its jumps, such as floor."""
        return each(lambda v: self._step(function, v), x)

    def _step(self, function: Callable[[Any], Any], v: Any) -> Any:
        x = data(v)
        if not x.is_finite():
            return x
        out = function(x)
        tiny = flint().arb(2) ** (-flint().ctx.prec // 2)
        if not bool(function(x - tiny) == function(x + tiny)):
            self.events.append(Event("tie", v, flint().arb(0)))
        return flint().arb(out.mid())

    def to_integers(self, x: np.ndarray, dtype: Any) -> Any:
        """Round toward zero, as a conversion to an integer type does."""
        whole = self.steps(truncate, x)
        info = ml_dtypes.iinfo(dtype)

        def inside(v: Any) -> int:
            if v.is_nan():
                return 0
            # Beyond the range of the type, XLA gives its last number.
            if v < int(info.min) or v > int(info.max):
                return int(info.min if v < 0 else info.max)
            return int(v.unique_fmpz() or 0)

        out = np.asarray(each(inside, whole)).astype(dtype)
        self.path.append(out)
        return out

    def is_finite(self, x: np.ndarray) -> Any:
        out = np.asarray(each(lambda v: bool(data(v).is_finite()), x)).astype(bool)
        self.path.append(out)
        return out

    def order(self, keys: np.ndarray) -> Any:
        """Return the stable ascending order along the last axis."""
        out = np.array([self._order(row) for row in rows_of(keys)], np.int64)
        out = out.reshape(keys.shape)
        self.path.append(out)
        return out

    def _order(self, row: np.ndarray) -> list[int]:
        middles = [data(x).mid() for x in row]
        fractions = [_sortable(x) for x in middles]
        found = sorted(range(len(row)), key=fractions.__getitem__)
        for i, j in pairwise(found):
            self._sign_of_difference(row[i], row[j])
        # Equal numbers keep their places: undecided balls are sorted by position.
        for start in range(1, len(found)):
            k = start
            while k and found[k] < found[k - 1] and not self._differ(row, found, k):
                found[k], found[k - 1] = found[k - 1], found[k]
                k -= 1
        return found

    def _differ(self, row: np.ndarray, found: list[int], k: int) -> bool:
        a, b = data(row[found[k - 1]]), data(row[found[k]])
        return bool(a < b) or bool(b < a)

    def largest(self, candidates: np.ndarray, direction: float = 1.0) -> Any:
        """Return the index of the first largest element along the last axis."""
        picks = []
        for row in rows_of(candidates):
            best = 0
            for i in range(1, len(row)):
                if direction * self._sign_of_difference(row[i], row[best]) > 0:
                    best = i
            picks.append(best)
        out = np.array(picks, np.int64).reshape(candidates.shape[:-1])
        self.path.append(out)
        return out

    def select(self, which: Any, cases: list[np.ndarray]) -> np.ndarray:
        """Return case number `which`, element by element."""
        which = np.broadcast_to(np.asarray(which).astype(np.int64), cases[0].shape)
        out = cases[0].copy()
        for i, case in enumerate(cases[1:], 1):
            out[which == i] = case[which == i]
        return out

    def settled(self, x: Any) -> Any:
        """Return native numbers that decide where the program goes."""
        return x


class Floats:
    """Floats as they are: nothing is lifted, so that JAX runs every equation itself."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def lift(self, native: Any) -> Any:
        return np.asarray(native)

    def constant(self, native: Any, dtype: Any, *, closed_over: bool) -> Any:
        return np.asarray(native, dtype)

    def settled(self, x: Any) -> Any:
        return x


class Truth(Exact):
    """Scalars of the reference engine, so that `.backward()` gives derivatives."""

    def elementwise(
        self, rule: rules.Rule, arrays: list[np.ndarray], dtype: Any
    ) -> np.ndarray:
        value, slopes = rule.value, rule.slopes
        if slopes is None:
            return each(value, *arrays)

        def node(*scalars: Any) -> Any:
            plain = [data(x) for x in scalars]
            out = value(*plain)
            taped = [i for i, x in enumerate(scalars) if type(x) is Value]
            if not taped:
                return out
            local = slopes(*plain, out)
            return Value(
                out,
                tuple(scalars[i] for i in taped),
                "rule",
                tuple(local[i] for i in taped),
            )

        return each(node, *arrays)

    def contract(self, a: np.ndarray, b: np.ndarray, dtype: Any) -> np.ndarray:
        plain_a, plain_b = each(data, a), each(data, b)
        out = super().contract(plain_a, plain_b, dtype)
        for batch in range(a.shape[0]):
            columns = list(b[batch].T)
            plain_columns = [list(column) for column in plain_b[batch].T]
            for m, row in enumerate(a[batch]):
                plain_row = list(plain_a[batch, m])
                for n, column in enumerate(columns):
                    children, local = _product_rule(
                        row, plain_row, column, plain_columns[n]
                    )
                    if children:
                        exact = out[batch, m, n]
                        out[batch, m, n] = Value(exact, children, "dot", local)
        return out

    def add_up(self, terms: np.ndarray, dtype: Any) -> np.ndarray:
        out = super().add_up(each(data, terms), dtype).reshape(-1)
        for i, row in enumerate(rows_of(terms)):
            children = tuple(x for x in row if type(x) is Value)
            if children:
                out[i] = Value(out[i], children, "sum", (1,) * len(children))
        return out.reshape(terms.shape[:-1])


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

    def widen(self, x: np.ndarray, units: float, dtype: Any) -> np.ndarray:
        """Return balls with `units` roundings of relative size u added."""
        arb, info = flint().arb, ml_dtypes.finfo(dtype)
        factor, tiny = arb(1, units * unit(dtype)), arb(0, float(info.tiny))
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
        self, rule: rules.Rule, arrays: list[np.ndarray], dtype: Any
    ) -> np.ndarray:
        out = super().elementwise(rule, arrays, dtype)
        ulps = rule.ulps
        if not isinstance(ulps, (int, float)):
            ulps = ulps.get(np.dtype(dtype).name, max(ulps.values()))
        return out if ulps == 0 else self.widen(out, 2 * ulps, dtype)

    def contract(self, a: np.ndarray, b: np.ndarray, dtype: Any) -> np.ndarray:
        out = super().contract(a, b, dtype)
        sizes = super().contract(each(abs_upper, a), each(abs_upper, b), dtype)
        return self._spread(out, sizes, a.shape[2], dtype)

    def add_up(self, terms: np.ndarray, dtype: Any) -> np.ndarray:
        out = super().add_up(terms, dtype)
        sizes = super().add_up(each(abs_upper, terms), dtype)
        return self._spread(out, sizes, terms.shape[-1] - 1, dtype)

    def _spread(
        self, sums: np.ndarray, sizes: np.ndarray, terms: int, dtype: Any
    ) -> np.ndarray:
        if terms <= 0:
            return sums
        growth = (
            math.expm1(terms * unit(dtype)) if terms * unit(dtype) < 700 else math.inf
        )
        tiny = terms * float(ml_dtypes.finfo(dtype).tiny)
        gamma, rest = flint().arb(0, growth), flint().arb(0, tiny)

        def spread(total: Any, size: Any) -> Any:
            return total if size == 0 else total + size * gamma + rest

        return self.widen(each(spread, sums, sizes), 0, dtype)

    def rounded_to(self, x: np.ndarray, dtype: Any) -> np.ndarray:
        return self.widen(x, 1, dtype)

    # Decisions -----------------------------------------------------------------------

    def compare(self, op: str, a: np.ndarray, b: np.ndarray) -> Any:
        open_ = each(_undecided, a, b).astype(bool)
        return self._doubtful(self._next(), np.asarray(open_))

    def _doubtful(self, value: Any, open_: np.ndarray) -> Any:
        if not open_.any():
            return value
        self.events.append(Event("flip"))
        return Doubtful(value, open_)

    def maximum(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return each(larger, a, b)

    def minimum(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return each(lambda x, y: -larger(-x, -y) if x is not y else x, a, b)

    def absolute(self, x: np.ndarray) -> np.ndarray:
        return each(lambda v: v if v >= 0 else abs(v), x)

    def _step(self, function: Callable[[Any], Any], v: Any) -> Any:
        if not v.is_finite():
            return v
        low, high = function(v.lower()), function(v.upper())
        return low if low == high else low.union(high)

    def to_integers(self, x: np.ndarray, dtype: Any) -> Any:
        open_ = each(lambda v: not v.is_exact(), self.steps(truncate, x))
        return self._doubtful(self._next(), np.asarray(open_).astype(bool))

    def is_finite(self, x: np.ndarray) -> Any:
        open_ = each(lambda v: not v.is_finite(), x)
        return self._doubtful(self._next(), np.asarray(open_).astype(bool))

    def order(self, keys: np.ndarray) -> Any:
        order = self._next()
        row = np.take_along_axis(keys, order, -1)
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

    def select(self, which: Any, cases: list[np.ndarray]) -> np.ndarray:
        if not isinstance(which, Doubtful):
            return super().select(which, cases)
        out = super().select(which.value, cases)
        open_ = np.broadcast_to(which.open, out.shape)
        hull = cases[0]
        for case in cases[1:]:
            hull = each(union, hull, case)
        out[open_] = hull[open_]
        return out

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


def truncate(x: Any) -> Any:
    return x.floor() if x >= 0 else x.ceil()


def _undecided(a: Any, b: Any) -> bool:
    if a is b or bool(a < b) or bool(a > b):
        return False
    return not (bool(a == b) and a.is_exact() and b.is_exact())


def _sortable(x: Any) -> tuple[int, Any]:
    if not x.is_finite():
        return (0, 0) if x < 0 else (2, 0)
    mantissa, exponent = x.man_exp()
    return 1, flint().fmpq(mantissa) * flint().fmpq(2) ** int(exponent)


def _product(a: np.ndarray, b: np.ndarray) -> list[Any]:
    matrix = flint().arb_mat
    if 0 in a.shape or 0 in b.shape:
        return [flint().arb(0)] * (a.shape[0] * b.shape[1])
    left = matrix(*a.shape, list(a.ravel()))
    return list((left * matrix(*b.shape, list(b.ravel()))).entries())


def _product_rule(
    row: np.ndarray, plain_row: list[Any], column: np.ndarray, plain_column: list[Any]
) -> tuple[tuple[Value, ...], tuple[Any, ...]]:
    pairs: Iterator[tuple[Value, Any]] = (
        (child, local)
        for scalars, others in ((row, plain_column), (column, plain_row))
        for child, local in zip(scalars, others, strict=True)
        if type(child) is Value
    )
    children_and_local = list(zip(*pairs, strict=True))
    return children_and_local if children_and_local else ((), ())  # type: ignore
