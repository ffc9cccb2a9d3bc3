"""The gradient at ties, held against what float64 makes of points beside them.

What is tied is decided otherwise there. A gradient at a tie should lie between those
around it; and where all of them add up to the same along an axis of a variable, as
those of a maximum do, it should add up to that too.
"""

from __future__ import annotations

import numpy as np

from funcgrad.testing import identity
from funcgrad.testing.identity import Decided
from funcgrad.testing.program import Program

# How far beside a tie its sides are looked at, of a variable's size, and how much of a
# leaf's largest element the gradient may have changed there all the same.
_STEP, _CURVED = 2.0**-30, 1e-5

# Random directions to begin with; how often elements that are still outside of what was
# seen are moved again, and how often in vain.
_DIRECTIONS, _ROUNDS, _IDLE = 3, 32, 3

Arrays = list[np.ndarray]


def shift(program: Program, seed: int) -> Arrays:
    """Return a small random move of the variables."""
    draw = np.random.default_rng(seed)
    out = []
    for x in program.variables:
        values = np.abs(x.astype(np.float64))
        scale = values + float(values.max(initial=0)) + (not values.any())
        out.append(draw.uniform(-1, 1, x.shape) * scale * _STEP)
    return out


def judge(program: Program, decided: Decided) -> str:
    """Return "between", "kink" or "unjudged" of the gradient at ties.

    "kink": the gradient is the same wherever one looks beside, and another one here.
    """
    around, sums = _Around(decided.values), _Around(_sums(decided.values))

    def look(move: Arrays) -> None:
        for sign in (1, -1):
            values = identity.decide(program, [sign * m for m in move]).values
            around.add(values)
            sums.add(_sums(values))

    moves = [shift(program, seed) for seed in range(1, 1 + _DIRECTIONS)]
    # One moves all alike; nearly, since nothing may stay tied.
    size = max(float(np.abs(m).max(initial=0)) for m in moves[0])
    for move in [[size + m / 64 for m in moves[0]], *moves]:
        look(move)
    left, idle = None, 0
    for seed in range(_DIRECTIONS + 1, _DIRECTIONS + _ROUNDS):
        outside = around.outside()
        before, left = left, sum(int(x.sum()) for x in outside)
        if not left:
            return "kink" if sums.disagree() else "between"
        idle = idle + 1 if left == before else 0
        if idle == _IDLE:
            return "kink" if around.disagree() or sums.disagree() else "unjudged"
        # Of what is tied at one place one alone is the largest wherever one looks. What
        # was not yet is moved by more than the rest, so that each has its turn.
        move = shift(program, seed)
        look([np.abs(m) * x + m / 64 for m, x in zip(move, outside, strict=True)])
        look(move)
    return "unjudged"


def _sums(values: Arrays) -> Arrays:
    """Return the sums along each axis of each leaf, of each leaf, and of all."""
    whole = [x.sum() for x in values]
    return [
        *(x.sum(axis) for x in values for axis in range(x.ndim)),
        *map(np.asarray, [*whole, sum(whole)]),
    ]


class _Around:
    """The least and the largest numbers seen beside, held against those here."""

    def __init__(self, here: Arrays):
        self.here = here
        self.low = [np.full(x.shape, np.inf) for x in here]
        self.high = [np.full(x.shape, -np.inf) for x in here]

    def add(self, values: Arrays) -> None:
        for low, high, x in zip(self.low, self.high, values, strict=True):
            known = np.where(np.isfinite(x), x, np.nan)
            np.minimum(low, known, out=low)
            np.maximum(high, known, out=high)

    def _slacks(self) -> list[float]:
        def largest(x: np.ndarray) -> float:
            return float(np.where(np.isfinite(x), np.abs(x), 0.0).max(initial=0))

        sides = zip(self.here, self.low, self.high, strict=True)
        return [_CURVED * max(map(largest, three)) for three in sides]

    def outside(self) -> Arrays:
        """Return where the numbers here are not between, or some are infinite."""
        parts = zip(self.here, self.low, self.high, self._slacks(), strict=True)
        return [~((x >= low - s) & (x <= high + s)) for x, low, high, s in parts]

    def disagree(self) -> bool:
        """Return whether all beside are alike where the number here is outside."""
        parts = zip(self.outside(), self.low, self.high, self._slacks(), strict=True)
        return any((x & (high - low <= s)).any() for x, low, high, s in parts)
