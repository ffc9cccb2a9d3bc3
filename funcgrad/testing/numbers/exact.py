"""Exact numbers: what a program computes, free of rounding."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from itertools import accumulate, pairwise
from typing import Any

import ml_dtypes
import numpy as np

from funcgrad.jaxprs import result_dtype
from funcgrad.testing.constants import Reading
from funcgrad.testing.control import Uncovered
from funcgrad.testing.engine import Value
from funcgrad.testing.flint import flint
from funcgrad.testing.numbers.objects import (
    Doubtful,
    Event,
    each,
    is_real,
    objects,
    rows_of,
)
from funcgrad.testing.numbers.real import REAL
from funcgrad.testing.rules.elementwise import COMPARISONS, ELEMENTWISE, Rule
from funcgrad.testing.rules.positions import windows


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
        self, rule: Rule, arrays: list[np.ndarray], dtype: Any
    ) -> np.ndarray:
        return each(partial(rule.value, REAL), *arrays)

    def contract(self, a: np.ndarray, b: np.ndarray, dtype: Any) -> np.ndarray:
        """Return the batched product of a (B, M, K) with b (B, K, N): (B, M, N)."""
        matrices = [_product(x, y) for x, y in zip(a, b, strict=True)]
        return objects((*a.shape[:2], b.shape[2]), [x for m in matrices for x in m])

    def convolve(self, eqn: Any, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return a convolution as a product of matrices: of what is in its windows."""
        p, dtype = eqn.params, result_dtype(eqn)
        numbering = p["dimension_numbers"]
        x, w = a.transpose(numbering.lhs_spec), b.transpose(numbering.rhs_spec)
        batch_groups = p["batch_group_count"]
        n_groups = max(p["feature_group_count"], batch_groups)
        batch, channels, *_ = x.shape
        n_out, per_group, *kernel = w.shape
        ones = (1, 1)
        inside = windows(
            x.shape,
            (*ones, *kernel),
            (*ones, *p["window_strides"]),
            ((0, 0), (0, 0), *p["padding"]),
            (*ones, *p["lhs_dilation"]),
            (*ones, *p["rhs_dilation"]),
        )
        out_space, taps = inside.shape[2:-1], inside.shape[-1]
        flat = np.append(x.ravel(), self.lift(0))
        places, features = math.prod(out_space), n_out // n_groups
        patches = flat[inside].reshape(batch, channels, places, taps)
        if batch_groups > 1:
            rows = batch // n_groups
            patches = patches.reshape(n_groups, rows, channels, places, taps)
        else:
            patches = patches.reshape(batch, n_groups, per_group, places, taps)
            patches = patches.swapaxes(0, 1)
        # (group, batch, channel, place, tap) x (group, channel, tap, feature)
        rows, inner = patches.shape[1], per_group * taps
        left = patches.transpose(0, 1, 3, 2, 4).reshape(n_groups, rows * places, inner)
        right = w.reshape(n_groups, features, inner).swapaxes(1, 2)
        out = self.contract(left, right, dtype)
        out = out.reshape(n_groups, rows, *out_space, features)
        out = np.moveaxis(out, (1, -1), (0, 2)).reshape(rows, n_out, *out_space)
        return out.transpose(np.argsort(numbering.out_spec))

    def sum_over(self, x: np.ndarray, axes: Sequence[int], dtype: Any) -> np.ndarray:
        kept = [i for i in range(x.ndim) if i not in axes]
        count = math.prod(x.shape[i] for i in axes)
        terms = x.transpose(*kept, *axes).reshape(*(x.shape[i] for i in kept), count)
        return self.add_up(terms, dtype)

    def added_at(
        self,
        places: np.ndarray,
        updates: np.ndarray,
        shape: Sequence[int],
        dtype: Any,
        onto: np.ndarray | None,
    ) -> np.ndarray:
        """Return zeros, or `onto`, with updates added at flat places; < 0 is none."""
        meeting: dict[int, list[Any]] = {}
        for target, update in zip(places.tolist(), updates.ravel(), strict=True):
            if target >= 0:
                meeting.setdefault(target, []).append(update)
        start = self.lift(np.zeros(shape)) if onto is None else onto
        out = start.ravel().copy()
        for target, terms in meeting.items():
            row = terms if onto is None else [out[target], *terms]
            out[target] = self.add_up(objects((len(row),), row), dtype).item()
        return out.reshape(shape)

    def add_up(self, terms: np.ndarray, dtype: Any) -> np.ndarray:
        """Return the sums over the last axis."""
        zero = flint().arb(0)
        return objects(terms.shape[:-1], [sum(row, zero) for row in rows_of(terms)])

    def running_sum(self, terms: np.ndarray, dtype: Any) -> np.ndarray:
        """Return the cumulative sums along the last axis."""
        sums = [x for row in rows_of(terms) for x in accumulate(row)]
        return objects(terms.shape, sums)

    def rounded_to(self, x: np.ndarray, info: Any) -> np.ndarray:
        """Convert to a float type, by its `finfo`: exact numbers do not notice."""
        return x

    def stopped(self, x: np.ndarray) -> np.ndarray:
        """Return the numbers without where they came from."""
        return each(data, x)

    def at_maximum(self, x: np.ndarray) -> np.ndarray:
        return x

    # Movement ------------------------------------------------------------------------

    def moved(
        self, function: Callable[..., Any], arrays: list[np.ndarray], back: Any = None
    ) -> list[np.ndarray]:
        """Apply a function of NumPy that only moves what is in arrays."""
        return [np.asarray(x) for x in function(*arrays)]

    # Decisions -----------------------------------------------------------------------

    def compare(self, op: str, a: np.ndarray, b: np.ndarray) -> Any:
        """Return the booleans of `a op b`; an undecided one counts as equal."""
        signs = each(self._sign_of_difference, a, b).astype(np.float64)
        out = np.asarray(COMPARISONS[op](signs, 0))
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

    def best(self, a: np.ndarray, b: np.ndarray, direction: int) -> np.ndarray:
        """Return the larger of two arrays, or the smaller; the first where they tie."""
        return each(lambda x, y: self._pick(x, y, direction), a, b)

    def best_of(self, rows: np.ndarray, direction: int) -> np.ndarray:
        """Return the first largest number along the last axis, or the smallest."""
        columns = map(np.asarray, np.moveaxis(rows, -1, 0))
        return reduce(lambda a, b: self.best(a, b, direction), columns)

    def _pick(self, a: Any, b: Any, direction: float) -> Any:
        sign = self._sign_of_difference(a, b) * direction
        return b if sign < 0 else a if sign >= 0 else flint().arb("nan")

    def absolute(self, x: np.ndarray) -> np.ndarray:
        zero = flint().arb(0)
        return each(lambda v: -v if self._sign_of_difference(v, zero) < 0 else v, x)

    def steps(self, step: Any, x: np.ndarray) -> np.ndarray:
        """Apply a function that is constant between its jumps, such as floor."""
        return each(lambda v: self._step(step.exact, v), x)

    def truncated(self, x: np.ndarray) -> np.ndarray:
        return each(lambda v: self._step(truncate, v), x)

    def quotient(self, x: np.ndarray, y: np.ndarray, dtype: Any) -> np.ndarray:
        """Return x / y rounded toward 0."""
        return self.truncated(self.elementwise(ELEMENTWISE["div"], [x, y], dtype))

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
        whole = self.truncated(x)
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

    def order(self, keys: list[np.ndarray]) -> Any:
        """Return the stable ascending order along the last axis, by one key."""
        if len(keys) > 1:
            raise Uncovered("a sort by several keys")
        out = np.array([self._order(row) for row in rows_of(keys[0])], np.int64)
        out = out.reshape(keys[0].shape)
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

    def settled(self, x: Any) -> Any:
        """Return native numbers that decide where the program goes."""
        return x


def data(x: Any) -> Any:
    return x.data if type(x) is Value else x


def truncate(x: Any) -> Any:
    return x.floor() if x >= 0 else x.ceil()


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
