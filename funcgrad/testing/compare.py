"""exact(g) - truth: 0, or a derivative rule is wrong.

`truth` is the derivative of the primal program by the scalar engine, `exact(g)` the
value of the gradient program in the same numbers, so that no rounding takes part. The
precision is raised until every difference is known to be 0 or not.
"""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from funcgrad.testing import ties
from funcgrad.testing.constant_search import Point, explain
from funcgrad.testing.constants import Constant, Reading, Reals, known, rounded
from funcgrad.testing.engine import Value
from funcgrad.testing.flint import flint, precision
from funcgrad.testing.numbers.exact import Exact
from funcgrad.testing.numbers.native import Native
from funcgrad.testing.numbers.objects import each
from funcgrad.testing.numbers.truth import Truth
from funcgrad.testing.program import Program, lifted_constants
from funcgrad.testing.walk import Met, Walk

# Bits to begin with, and to give up at. 256 bits are 77 digits.
FIRST_PRECISION, LAST_PRECISION = 256, 8192

# A ball that holds 0 is taken for 0 where its radius is below this part of the number:
# 10^-44 of an ulp of float64, so nothing that a float could show hides in it.
NEGLIGIBLE = 2.0**-200


Shift = list[np.ndarray] | None


class Derivatives(NamedTuple):
    """Truth for every variable, and what was met on the way: ties and decisions."""

    values: list[np.ndarray]
    variables: list[np.ndarray]
    met: list[Met]
    path: list[Any]


def truth(
    program: Program, *, reading: Reading | None = None, shift: Shift = None
) -> Derivatives:
    """Return the derivative of the primal program, by the scalar engine's backward.

    `shift` moves the variables, exactly, before the program is walked.
    """
    numbers = Truth(reading)
    variables = [each(Value, v) for v in _variables(program, numbers, shift)]
    walk = Walk(numbers)
    inputs = [*variables, *lifted_constants(program, numbers)]
    outputs = walk.run(program.primal, inputs)
    terms = [
        (y, w)
        for out, weight in zip(outputs, program.cotangents, strict=True)
        for y, w in zip(out.ravel(), numbers.lift(weight).ravel(), strict=True)
        if type(y) is Value
    ]
    total = sum((y.data * w for y, w in terms), flint().arb(0))
    loss = Value(total, tuple(y for y, _ in terms), "loss", tuple(w for _, w in terms))
    loss.backward()
    gradients = [each(lambda v: flint().arb(v.grad), v) for v in variables]
    return Derivatives(gradients, variables, walk.met, numbers.path)


def exact(program: Program, walk: Walk, shift: Shift = None) -> list[np.ndarray]:
    """Return what the gradient program gives in the numbers of this walk."""
    variables = _variables(program, walk.numbers, shift)
    inputs = [*variables, *lifted_constants(program, walk.numbers)]
    return walk.run(program.bound, inputs)


def _variables(
    program: Program, numbers: Exact | Native, shift: Shift
) -> list[np.ndarray]:
    variables = [numbers.lift(x) for x in program.variables]
    if shift is None:
        return variables
    return [each(operator.add, v, s) for v, s in zip(variables, shift, strict=True)]


class Comparison(NamedTuple):
    """exact(g) - truth for each leaf, as balls, and which of them are zero.

    `zero` holds True, False, or None where the precision leaves it open.
    """

    truth: Derivatives
    exact: list[np.ndarray]
    path: list[Any]
    error: list[np.ndarray]
    zero: list[np.ndarray]
    reading: Reading


def _compare(
    program: Program,
    scale: list[np.ndarray],
    reals: Reals | None = None,
    shift: Shift = None,
) -> Comparison:
    """Subtract truth from exact(g), both in the precision of the moment."""
    reading = Reading(reals)
    right = truth(program, reading=reading, shift=shift)
    numbers = Exact(reading)
    made = exact(program, Walk(numbers), shift)
    if program.gradient is None:
        made = right.values
    error, zero = [], []
    for g, t, s in zip(made, right.values, scale, strict=True):
        error.append(each(lambda a, b: a - b, g, t))
        zero.append(each(_is_zero, error[-1], t, s))
    return Comparison(right, made, numbers.path, error, zero, reading)


def _is_zero(difference: Any, true: Any, scale: float) -> bool | None:
    """Return whether a difference is zero; None where its ball is still too wide."""
    if not difference.is_finite():
        return None
    if not difference.contains(0):
        return False
    radius = difference.rad()
    return True if radius <= (true.abs_upper() + scale) * NEGLIGIBLE else None


def _decided(found: Comparison) -> bool:
    """Return whether every difference is known, or never will be: it is no number."""
    return all(
        z is not None or not e.is_finite()
        for error, zero in zip(found.error, found.zero, strict=True)
        for e, z in zip(error.ravel(), zero.ravel(), strict=True)
    )


def _all_zero(found: Comparison) -> bool:
    return all(z is True for zero in found.zero for z in zero.ravel())


class Settled(NamedTuple):
    """A comparison, the bits it took, and what it was with constants as they are.

    `before` is None where constants are read as the floats that they are, which is
    where nothing else is needed, or would help.
    """

    found: Comparison
    bits: int
    before: Comparison | None


def settle(program: Program, scale: list[np.ndarray]) -> Settled:
    """Compare with rising precision until every difference is known.

    Where that leaves one that is not 0, read rounded constants as numbers near them.
    """
    bits = FIRST_PRECISION
    while True:
        with precision(bits):
            found = _compare(program, scale)
            if bits == FIRST_PRECISION:
                cancelled = [each(_cancelled, e) for e in found.error]
            elif bits >= 4 * FIRST_PRECISION:
                # A 0 without a scale: what cancelled left its size in the first radius.
                scale = [s + c for s, c in zip(scale, cancelled, strict=True)]
            if _decided(found) or bits >= LAST_PRECISION:
                better = None if _all_zero(found) else _read(program, scale, found)
                if better is not None:
                    return Settled(better, bits, found)
                return Settled(found, bits, None)
        bits *= 2


def _cancelled(error: Any) -> Any:
    """Return the size of the numbers that a ball was made from, by its radius."""
    return error.rad() * 2.0**FIRST_PRECISION if error.is_finite() else flint().arb(0)


def _fewer(read: Comparison, found: Comparison) -> bool:
    """Return whether a reading makes some difference zero, and none nonzero."""
    pairs = [
        (a is True, b is True)
        for x, y in zip(read.zero, found.zero, strict=True)
        for a, b in zip(x.ravel(), y.ravel(), strict=True)
    ]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


# Rounded constants --------------------------------------------------------------------


def _read(
    program: Program, scale: list[np.ndarray], found: Comparison
) -> Comparison | None:
    """Compare with constants read as numbers near them, by which more is 0, or None.

    First those that are known are read as what they are (JAX's own rules hold
    2 / sqrt(pi) as a float), then the others as any number within half an ulp.
    """
    met = {c: m for c, m in found.reading.met.items() if not _is_data(program, c)}
    sure = known(met)
    reals = {c: k.real for c, k in sure.items()}
    tried = [_compare(program, scale, reals)] if reals else []
    if tried and _all_zero(tried[0]):
        return tried[0]
    here = _point(program, scale, found, None)
    moved = _Moved(program, scale, found)
    fixed = {c: k.real for c, k in sure.items() if k.sure}
    free = [c for c in met if c not in fixed]
    as_they_are = {c: flint().arb(c.mantissa) for c in met}
    starts = [as_they_are | reals, as_they_are | fixed]
    for start in starts if reals.keys() != fixed.keys() else starts[:1]:
        explained = explain(start, free, here, moved.points)
        if explained is not None:
            tried.insert(0, _compare(program, scale, explained))
            break
    return next((t for t in tried if _fewer(t, found)), None)


def _is_data(program: Program, constant: Constant) -> bool:
    """Return whether a constant has the digits of a number that f was given."""
    cotangents = [float(w) for w in program.cotangents if not w.ndim]
    given = np.array([*cotangents, *program.scalars]).astype(constant.dtype)
    return constant in {rounded(float(x), constant.dtype) for x in given}


def _point(
    program: Program, scale: list[np.ndarray], found: Comparison, shift: Shift
) -> Point:
    """Return the errors at moved variables as functions of the constants."""
    right, scales = _flat(found.truth.values), _flat(scale)
    sizes = right.copy()
    for i, (t, s) in enumerate(zip(right, scales, strict=True)):
        size = t.abs_upper() + s
        sizes[i] = size if size.is_finite() and size > 0 else flint().arb(1)

    def are_zero(errors: np.ndarray) -> np.ndarray:
        parts = zip(errors, right, scales, strict=True)
        return np.array([_is_zero(e, t, s) is True for e, t, s in parts], bool)

    return Point(
        lambda reals: _flat(_compare(program, scale, reals, shift).error),
        are_zero,
        sizes,
    )


def _flat(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([a.ravel() for a in arrays])


class _Moved:
    """Points beside the arguments, at which the programs take the same path."""

    def __init__(self, program: Program, scale: list[np.ndarray], found: Comparison):
        self._program, self._scale, self._found = program, scale, found
        self._draw = np.random.RandomState(0)
        self._points: list[Point] = []

    def points(self, count: int) -> list[Point]:
        """Return so many points; fewer where all paths beside the arguments part."""
        while len(self._points) < count:
            point = self._beside()
            if point is None:
                break
            self._points.append(point)
        return self._points[:count]

    def _beside(self) -> Point | None:
        for reach in (2.0**-3, 2.0**-10, 2.0**-20):
            shift = [self._shift(v, reach) for v in self._program.variables]
            there = _compare(self._program, self._scale, shift=shift)
            if _same_path(there, self._found) and all(
                e.is_finite() or not f.is_finite()
                for e, f in zip(
                    _flat(there.error), _flat(self._found.error), strict=True
                )
            ):
                return _point(self._program, self._scale, there, shift)
        return None

    def _shift(self, variable: np.ndarray, reach: float) -> np.ndarray:
        """Return a random part of each number, at most `reach` of it."""
        parts = self._draw.randint(-512, 513, variable.shape) / 512 * reach
        return each(operator.mul, Exact().lift(variable), np.asarray(parts, object))


def _same_path(a: Comparison, b: Comparison) -> bool:
    ours, theirs = [*a.path, *a.truth.path], [*b.path, *b.truth.path]
    return len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))


class Judged(NamedTuple):
    """What exact numbers say of a rule: "right", "wrong" or "open".

    `reals` are the numbers that its constants stand for, where it is right.
    """

    verdict: str
    reals: Reals


def judge_rule(program: Program) -> Judged:
    """Return whether exact(g) - truth is 0; open at ties, and where that is unknown."""
    with precision(FIRST_PRECISION):
        found = settle(program, [np.zeros(v.shape) for v in program.variables]).found
    if ties.reached(found.truth.variables, found.truth.met):
        return Judged("open", {})
    if any(z is False for zero in found.zero for z in zero.ravel()):
        return Judged("wrong", {})
    return Judged("right" if _all_zero(found) else "open", found.reading.reals)


def ulp_of(x: Any, dtype: Any) -> float:
    """Return the unit in the last place of the float type at x."""
    info = ml_dtypes.finfo(dtype)
    magnitude = max(abs(float(x.mid())), float(info.tiny))
    return float(np.ldexp(float(info.eps), int(np.frexp(magnitude)[1]) - 1))
