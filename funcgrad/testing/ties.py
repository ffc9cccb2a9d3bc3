"""Derivatives at exact ties, judged from both sides.

At a tie the program's own derivative is a convention: `where(x == 0, x, 2 * x)` has
derivative 2 at 0, and exact differentiation of its jaxpr says 1. So where a comparison
is exactly tied, the variables are moved by an infinitesimal, which decides it one way
or the other, and the derivatives found there are what the convention is held against.
The infinitesimal is a real number so small that no difference of two floats of the
type in use is smaller, and the precision is raised until it makes itself felt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.testing.control import Place
from funcgrad.testing.engine import Value
from funcgrad.testing.flint import flint, precision
from funcgrad.testing.numbers.exact import data
from funcgrad.testing.numbers.objects import Event, each
from funcgrad.testing.walk import Met

# Two moved points disagree with each other by the infinitesimal times the curvature,
# 2^-300 and less, and at a kink by something that a program can hold, 2^-149 and more.
SLACK = 2.0**-200

Shifted = Callable[[list[np.ndarray]], list[np.ndarray]]


def judge(
    variables: list[np.ndarray],
    floats: list[np.ndarray],
    met: list[Met],
    given: list[np.ndarray],
    shifted: Shifted,
    *,
    cheap: bool,
) -> list[np.ndarray]:
    """Return "", "between" or "kink" for each element of each variable.

    `variables` are the Values that the truth was computed from, `met` what was met
    then, `given` the derivatives to judge, and `shifted(shift)` returns the true
    derivatives at the moved point. The interval at an element spans the derivatives at
    random neighbouring points and, where that leaves it outside, at one step to the
    left and one to the right. Directions in which the function is smooth although it
    is tied (the sum of the arguments of a maximum) must have the one true derivative.
    """
    near = _reached(variables, met)
    verdicts = [np.where(r, "between", "").astype(object) for r in near]
    if not any(r.any() for r in near):
        return verdicts
    depth = 1200 if any(f.dtype == np.float64 for f in floats) else 300
    with precision(3 * depth + 256):
        step = flint().arb(2) ** -depth
        directions = _directions(near, 8 if cheap else 2)
        found = [shifted(_scaled(d, step)) for d in directions]
        left = 64 if cheap else 8
        for i, verdict in enumerate(verdicts):
            for k in np.argwhere(near[i]):
                at = tuple(int(n) for n in k)
                here = [g[i][at] for g in found]
                if _within(given[i][at], here):
                    continue
                if left == 0:
                    verdict[at] = "unjudged"
                    continue
                left -= 1
                sides = [_one(variables, i, at, s * step) for s in (1, -1)]
                here += [shifted(side)[i][at] for side in sides]
                if not _within(given[i][at], here):
                    verdict[at] = "kink"
        if cheap and not _smooth_directions_agree(near, found, given):
            for verdict, r in zip(verdicts, near, strict=True):
                verdict[r] = "kink"
    return verdicts


def reached(variables: list[np.ndarray], met: list[Met]) -> bool:
    """Return whether some tied comparison was made from the variables."""
    return any(r.any() for r in _reached(variables, met))


def places(met: list[Met]) -> list[Place]:
    """Return where there are ties that the variables take part in, once each.

    What is a Value was made from them: all else was made of plain numbers.
    """
    found: dict[int, Place] = {}
    for place, events in met:
        if any(type(x) is Value for tie in _ties(events) for x in (tie.a, tie.b)):
            found.setdefault(id(place.eqn), place)
    return list(found.values())


def _ties(events: list[Event]) -> list[Event]:
    return [event for event in events if event.kind == "tie"]


def _reached(variables: list[np.ndarray], met: list[Met]) -> list[np.ndarray]:
    """Return which variables some tied comparison was made from."""
    ties = [tie for _, events in met for tie in _ties(events)]
    tied = tuple(x for tie in ties for x in (tie.a, tie.b) if type(x) is Value)
    zero = flint().arb(0)
    nodes = Value(zero, tied, "ties", (zero,) * len(tied)).graph()
    above = {id(node) for node in nodes}
    return [each(lambda v: id(v) in above, x).astype(bool) for x in variables]


def _directions(reached: list[np.ndarray], pairs: int) -> list[list[np.ndarray]]:
    """Return integer directions in pairs, d and -d; the first moves all alike."""
    draw = np.random.RandomState(0)
    out = []
    for pair in range(pairs):
        one = [
            (np.ones(r.shape, int) if pair == 0 else _odd(draw, r.shape)) * r
            for r in reached
        ]
        out += [one, [-d for d in one]]
    return out


def _odd(draw: np.random.RandomState, shape: tuple[int, ...]) -> np.ndarray:
    """Return odd integers, so that no two cancel by being 0."""
    return 2 * draw.randint(-500, 500, shape) + 1


def _scaled(direction: list[np.ndarray], step: Any) -> list[np.ndarray]:
    return [each(lambda n: int(n) * step, d.astype(object)) for d in direction]


def _one(
    variables: list[np.ndarray], i: int, at: tuple[int, ...], step: Any
) -> list[np.ndarray]:
    """Return a move of a single element."""
    zero = flint().arb(0)
    out = [each(lambda v: zero, x) for x in variables]
    out[i][at] = step
    return out


def _within(x: Any, others: list[Any]) -> bool:
    if not all(y.is_finite() for y in (x, *others)):
        return False
    low, high = others[0], others[0]
    for y in others[1:]:
        low, high = (y if y < low else low), (y if y > high else high)
    # A 0 by cancellation has no size, but its radius still tells what cancelled.
    slack = (abs(low) + abs(high)).abs_upper() * SLACK + x.rad() * 2.0**60
    return bool(x.mid() >= low.lower() - slack) and bool(
        x.mid() <= high.upper() + slack
    )


def _smooth_directions_agree(
    reached: list[np.ndarray], found: list[list[np.ndarray]], given: list[np.ndarray]
) -> bool:
    """Compare the derivatives along the sums of variables, where they are unique."""
    all_alike = [r.astype(int) for r in reached]
    single = [
        [d * (i == j) for j, d in enumerate(all_alike)] for i in range(len(reached))
    ]
    for direction in [all_alike, *single]:
        slopes = [_along(gradient, direction) for gradient in found]
        if all(_within(slopes[0], [s]) for s in slopes) and not _within(
            _along(given, direction), [slopes[0]]
        ):
            return False
    return True


def _along(gradient: list[np.ndarray], direction: list[np.ndarray]) -> Any:
    total = flint().arb(0)
    for g, d in zip(gradient, direction, strict=True):
        total += sum((data(x) for x in g[d != 0]), flint().arb(0))
    return total
