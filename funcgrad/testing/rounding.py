"""Rounding, judged by derivatives: a sum of each leaf, and the element that stands out.

A sum of all elements with random signs is off by no more than its bound, but one wrong
element may hide in it. So each is also held against what is usual there, which a few
evaluations tell whose roundings are drawn at random; where it is far beyond that, it
must lie within a bound of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import ml_dtypes
import numpy as np

from funcgrad.testing import adjoint_bound
from funcgrad.testing.adjoint_bound import Bound, Recorded
from funcgrad.testing.control import Place
from funcgrad.testing.identity import Decided
from funcgrad.testing.program import Program

# Beyond so many scalars times leaves, one bound serves all leaves.
_EACH_LEAF = 2e7

# What is so many times as far off as is usual is noted, and looked at by itself; where
# a bound takes long, in so many leaves.
UNUSUAL, _MOST_LEAVES = 10.0, 3

# Evaluations that tell what is usual.
_SHAKES = 2


class Rounding(NamedTuple):
    """How far off a leaf is, what that may be, and what is usual.

    `off`, `bound` and `typical` are of the sum of its elements with random signs, as a
    share of its norm, or of one element if its own bound does not hold (`is_of_one`).
    The `farthest` element is `times` as far off as is usual there.
    """

    off: float
    bound: float
    typical: float
    place: Place | None
    farthest: int
    times: float
    shape: tuple[int, ...]
    is_of_one: bool = False

    @property
    def is_explained(self) -> bool:
        return self.off <= self.bound

    def notes(self) -> list[str]:
        """Return what is beyond ten times the usual."""
        notes = []
        if self.off > UNUSUAL * self.typical > 0:
            times = self.off / self.typical
            notes.append(f"rounding is {times:.0f} times what is usual")
        if self.times > UNUSUAL:
            at = [int(n) for n in np.unravel_index(self.farthest, self.shape)]
            notes.append(f"rounding at {at} is {self.times:.0f} times what is usual")
        return notes


def of_leaves(program: Program, decided: Decided, recorded: Recorded) -> list[Rounding]:
    """Return what rounding did to each leaf."""
    scalars = sum(node.value.size for node in recorded.tape.nodes)
    each = scalars * len(program.variables) <= _EACH_LEAF
    norms = [float(np.linalg.norm(g)) or 1.0 for g in decided.values]
    weights = [
        adjoint_bound.signs(g.shape, i) / norm
        for i, (g, norm) in enumerate(zip(decided.values, norms, strict=True))
    ]
    off = [
        abs(float((w * (v.astype(np.float64) - g)).sum()))
        for w, v, g in zip(weights, program.values, decided.values, strict=True)
    ]
    of_all = None if each else adjoint_bound.bound(recorded, list(weights))
    standing_out = _farthest(program, decided)
    out = []
    for i, (weight, (k, times)) in enumerate(zip(weights, standing_out, strict=True)):
        found = of_all
        # The bound of all may be below that of one: that is asked before it is blamed.
        if found is None or off[i] > found.worst:
            alone = [weight if j == i else None for j in range(len(weights))]
            found = adjoint_bound.bound(recorded, alone)
        shape = decided.values[i].shape
        out.append(Rounding(off[i], *found, k, times, shape))
    first = sorted(range(len(out)), key=lambda i: -out[i].times)
    for i in first if each else first[:_MOST_LEAVES]:
        k = out[i].farthest
        if out[i].times <= UNUSUAL or not out[i].is_explained:
            continue
        found = of_element(recorded, i, k)
        miss = program.values[i].astype(np.float64) - decided.values[i]
        distance = abs(float(miss.flat[k]))
        if distance > found.worst:
            out[i] = out[i]._replace(
                off=distance / norms[i], bound=found.worst / norms[i],
                typical=found.typical / norms[i], place=found.place, is_of_one=True,
            )  # fmt: skip
    return out


def of_element(recorded: Recorded, i: int, k: int) -> Bound:
    """Return the bound of one element: the k-th of leaf i."""
    weights: list[np.ndarray | None] = [None] * len(recorded.outputs)
    weights[i] = one = np.zeros(recorded.outputs[i].shape)
    one.flat[k] = 1.0
    return adjoint_bound.bound(recorded, weights)


def _farthest(program: Program, decided: Decided) -> list[tuple[int, float]]:
    """Return which element of each leaf is off by most, measured by what is usual."""
    shakes = [adjoint_bound.shaken(program, decided, seed) for seed in range(_SHAKES)]
    out = []
    for i, (value, g) in enumerate(zip(program.values, decided.values, strict=True)):
        miss = np.abs(value.astype(np.float64) - g)
        if not miss.size or not np.isfinite(miss).all():
            out.append((0, 0.0))
            continue
        squares = np.stack([np.square(shaken[i] - g) for shaken in shakes])
        # Two draws of one element may both be small by chance, those of all may not.
        usual = np.sqrt((squares.sum(0) + squares.mean()) / (_SHAKES + 1))
        # Below the smallest normal number, floats may be flushed to 0.
        usual = usual + float(ml_dtypes.finfo(program.variables[i].dtype).tiny)
        k = int(np.argmax(miss / usual))
        out.append((k, float((miss / usual).flat[k])))
    return out
