"""Numbers within half an ulp of rounded constants by which two programs agree.

Where exact(g) - truth is not 0, one number is sought for each constant, the same
wherever the program holds it, that makes every element 0, here and at moved arguments
too. What is found is proven by evaluating both programs with it, so the search itself
may be as rough as it likes: it works in float64 and by derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from funcgrad.testing.constants import Constant, Reals, off, within_half_an_ulp


class Point(NamedTuple):
    """A place at which both programs are evaluated.

    `errors(reals)` returns exact(g) - truth there, flat, where the constants are read
    as `reals`; `are_zero` says which of such errors are 0, and `sizes` what they are
    measured by.
    """

    errors: Callable[[Reals], np.ndarray]
    are_zero: Callable[[np.ndarray], np.ndarray]
    sizes: np.ndarray


# In half ulps: a step that leaves the curvature out of the 53 bits of a slope.
_STEP = 2.0**-60

# Where a step of the search leaves more than this, the slopes are found afresh: that
# costs one evaluation a constant, and ten steps of this kind are all it takes.
_SLOW = 2.0**-20

# Steps before the search gives up; each must at least halve the errors.
_MOST_STEPS = 40

# Slopes have 16 digits, so a combination that 12 cannot tell from none is none.
_BLIND = 1e-12

# How far beyond the reach of its slopes an error may lie before it counts as beyond the
# reach of the constants: they may start at the other end, which is 2, and slopes bend.
_BEND = 4


def explain(
    start: Reals,
    free: list[Constant],
    here: Point,
    moved: Callable[[int], list[Point]],
) -> dict[Constant, Any] | None:
    """Return numbers for the constants by which the errors are 0, or None.

    The search begins at `start`. The free constants end at less than half an ulp from
    where they were rounded to, the others stay. `moved(count)` returns so many further
    points, if it can: the numbers must do there as well. Elements whose errors the
    constants cannot reach are left out.
    """
    if not free:
        return None
    search = _Search([here], free, start)
    wrong = ~here.are_zero(search.errors[0])
    if not (search.reached() & wrong).any():
        return None
    # Twice as many equations as unknowns, so that no wrong rule fits by chance.
    count = math.ceil((2 * len(free) + 2) / (search.reached() & wrong).sum())
    search = _Search([here, *moved(count)], free, start)
    kept = search.reached()
    found = search.solve(kept) if (kept & wrong).any() else None
    if found is None or not all(within_half_an_ulp(c, found[c]) for c in free):
        return None
    return found


class _Search:
    """Newton's method for the numbers that make all errors 0.

    Slopes are floats; errors and numbers are exact, so that no digit is lost for good.
    """

    def __init__(self, points: list[Point], free: list[Constant], start: Reals):
        self.points, self.free, self.reals = points, free, dict(start)
        self.errors = [point.errors(self.reals) for point in points]
        self.slopes = self._slopes()

    def _slopes(self) -> np.ndarray:
        """Return d(error) / d(half ulp) by point, element and constant."""
        columns = []
        for c in self.free:
            there = {**self.reals, c: self.reals[c] + _STEP * c.half_ulp}
            columns.append(
                [
                    _floats((point.errors(there) - errors) / _STEP, point.sizes)
                    for point, errors in zip(self.points, self.errors, strict=True)
                ]
            )
        return np.moveaxis(np.array(columns), 0, -1)

    def _left(self) -> np.ndarray:
        """Return the errors by point and element, as floats."""
        pairs = zip(self.points, self.errors, strict=True)
        return np.array([_floats(errors, point.sizes) for point, errors in pairs])

    def reached(self) -> np.ndarray:
        """Return which elements the constants may bring to 0 at every point."""
        reach = np.abs(self.slopes).sum(-1) * _BEND
        zero = [p.are_zero(e) for p, e in zip(self.points, self.errors, strict=True)]
        near = np.abs(self._left()) <= reach  # False where either is no number
        return np.all((near & np.isfinite(reach)) | np.array(zero), axis=0)

    def solve(self, kept: np.ndarray) -> dict[Constant, Any] | None:
        """Return the numbers by which the errors of the kept elements are 0."""
        where = np.array([float(off(c, self.reals[c]).mid()) for c in self.free])
        first = left = self._largest(kept)
        # Slopes are off by as much as their numbers are, so a combination of constants
        # that they feel no more than that is one that they may not feel at all.
        roughly = blind = 32 * max(c.half_ulp for c in self.free)
        fresh, stiff = True, np.ones(len(self.free))
        for turn in range(_MOST_STEPS):
            rows = self.slopes[:, kept].reshape(-1, len(self.free))
            wanted = -self._left()[:, kept].ravel()
            if turn == 0:
                stiff = _stiffness(rows, wanted, where, blind)
            step = _least_squares(rows * stiff, wanted, blind) * stiff
            for c, distance in zip(self.free, step.tolist(), strict=True):
                self.reals[c] = (self.reals[c] + distance * c.half_ulp).mid()
            self.errors = [point.errors(self.reals) for point in self.points]
            before, left = left, self._largest(kept)
            if all(
                p.are_zero(e)[kept].all()
                for p, e in zip(self.points, self.errors, strict=True)
            ):
                return self.reals
            if fresh and not left <= before / 2:
                return None
            fresh = not left <= before * _SLOW
            if fresh:
                self.slopes = self._slopes()
                blind = max(_BLIND, roughly * min(1, left / first))
        return None

    def _largest(self, kept: np.ndarray) -> float:
        return float(np.abs(self._left()[:, kept]).max())


def _stiffness(
    rows: np.ndarray, wanted: np.ndarray, where: np.ndarray, blind: float
) -> np.ndarray:
    """Return how easily each constant moves, so that none goes beyond half an ulp.

    Where the equations leave a choice, the shortest step is taken, and a constant that
    it takes too far is made to move less easily, until none is.
    """
    stiff = np.ones(len(where))
    for _ in range(50):
        there = np.abs(where + _least_squares(rows * stiff, wanted, blind) * stiff)
        if (there < 1).all():
            break
        stiff /= np.maximum(there * 1.02, 1)  # 2 % beyond, to get there in a few turns
    return stiff


def _least_squares(rows: np.ndarray, wanted: np.ndarray, blind: float) -> np.ndarray:
    return np.linalg.lstsq(rows, wanted, rcond=blind)[0]


def _floats(errors: np.ndarray, sizes: np.ndarray) -> list[float]:
    return [
        float((e / s).mid()) if e.is_finite() else math.nan
        for e, s in zip(errors, sizes, strict=True)
    ]
