"""Where balls say nothing of rounding, derivatives do.

Balls grow from operation to operation: behind some blocks of a transformer they hold a
divisor of 0, or are a million times as wide as any error. There the bound by
derivatives decides, as in `adjoint_bound`: it is of first order, and decisions are
those that floats made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import ml_dtypes
import numpy as np

from funcgrad.testing import culprit
from funcgrad.testing.compare import ulp_of
from funcgrad.testing.control import Uncovered
from funcgrad.testing.program import Program
from funcgrad.testing.report import LeafReport
from funcgrad.testing.walk import Walk

# A ball so many times as wide as the largest error in its leaf says nothing, nor does
# one of so many roundings of the largest element of the leaf.
_LOOSE = 1e6
# Floats may be flushed to 0 below the smallest normal number, of which derivatives know
# nothing: a ball of so many of those is left as it is.
_FLUSHED = 1e3


class Deep(NamedTuple):
    """All leaves, those that were `judged` by derivatives with bounds of that kind.

    `why` is the equation to blame where one of them is not explained.
    """

    leaves: list[LeafReport]
    notes: list[str]
    why: str
    judged: list[int]


def judge(
    program: Program,
    leaves: list[LeafReport],
    report: Callable[[int, int], LeafReport],
    made: list[np.ndarray],
    balls: list[np.ndarray],
    walk: Walk,
) -> Deep:
    """Judge the leaves whose balls say nothing by derivatives.

    `report(i, k)` is on the k-th element of leaf i; `walk` is the one that made the
    balls. Where rounding may have turned a decision no compiler is blamed.
    """
    loose = [
        i
        for i, leaf in enumerate(leaves)
        if leaf.verdict == "ok" and made[i].size
        and _is_loose(program.values[i], made[i], balls[i])
    ]  # fmt: skip
    if not loose or walk.where("lost"):
        return Deep(leaves, [], "", [])
    # SciPy takes longer to import than small programs to prove.
    from funcgrad.testing import adjoint_bound, identity, rounding

    try:
        decided = identity.decide(program)
        decided = decided._replace(values=[_floats(exact) for exact in made])
        recorded = adjoint_bound.record(program, decided)
        found = rounding.of_leaves(program, decided, recorded)
    except Uncovered:
        return Deep(leaves, [], "", [])
    is_open = bool(walk.where("flip"))
    out, notes, why = list(leaves), [], ""
    for i in loose:
        leaf, seen = leaves[i], found[i]
        if seen.is_of_one:
            leaf = report(i, seen.farthest)
        k = int(np.ravel_multi_index(leaf.worst, leaf.shape)) if leaf.shape else 0
        one = rounding.of_element(recorded, i, k)
        bound = one.worst / ulp_of(made[i].flat[k], program.variables[i].dtype)
        if is_open or (seen.is_explained and leaf.ulps <= bound):
            notes += [f"{leaf.path}: {note}" for note in seen.notes()]
            out[i] = leaf._replace(bound=bound)
        else:
            out[i] = leaf._replace(bound=bound, verdict="compiler")
            place = one.place or seen.place
            why = why or (culprit.largest_part(place) if place else "")
    return Deep(out, notes, why, loose)


def _is_loose(values: np.ndarray, made: np.ndarray, balls: np.ndarray) -> bool:
    """Return whether balls are far too wide, by the errors or by the numbers alone.

    By the errors alone, a wrong number within a wide ball would be its own excuse.
    """
    if not all(ball.is_finite() for ball in balls.flat):
        return True
    exact, widest = _floats(made), max(float(ball.rad()) for ball in balls.flat)
    if widest <= _FLUSHED * float(ml_dtypes.finfo(values.dtype).tiny):
        return False
    off = float(np.abs(values.astype(np.float64) - exact).max())
    unit = float(ml_dtypes.finfo(values.dtype).eps) / 2
    largest = float(np.abs(exact).max())
    return widest > _LOOSE * off > 0 or widest > min(1.0, _LOOSE * unit) * largest > 0


def _floats(exact: np.ndarray) -> np.ndarray:
    return np.array([float(x.mid()) for x in exact.flat]).reshape(exact.shape)
