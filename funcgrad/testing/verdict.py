"""The verdict over a program, leaf by leaf and element by element.

    float(g) - truth  =  [ float(g) - exact(g) ]  +  [ exact(g) - truth ]
                              rounding                      rule

`g` is the program of the gradient, `truth` the derivative of the primal program by the
scalar engine. The rule part is free of rounding, so it must be 0; the rounding part
must lie within a bound that follows from the program.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from funcgrad.jaxprs import count
from funcgrad.testing import culprit, deep_bounds, ties
from funcgrad.testing.budget import Spent
from funcgrad.testing.compare import (
    FIRST_PRECISION,
    Comparison,
    Derivatives,
    Settled,
    exact,
    settle,
    truth,
    ulp_of,
)
from funcgrad.testing.constants import Reading, off
from funcgrad.testing.flint import flint, precision
from funcgrad.testing.numbers.balls import Rounded, infinite
from funcgrad.testing.numbers.exact import Exact
from funcgrad.testing.numbers.objects import each
from funcgrad.testing.program import Program
from funcgrad.testing.report import GradientReport, LeafReport, worst
from funcgrad.testing.walk import Walk


def judge(program: Program, *, given: bool) -> GradientReport:
    """Return the report; `given` says whether the gradient is the caller's."""
    with precision(FIRST_PRECISION):
        first = Exact()
        made = exact(program, Walk(first))
    rounding = Walk(Rounded(first.path))
    with precision(64):
        balls = exact(program, rounding)
        if rounding.where("lost"):
            balls = [each(lambda ball: infinite(), b) for b in balls]
    # An element that is 0 by cancellation has the size of what cancelled.
    scale = [each(_radius, b) for b in balls]
    settled = settle(program, scale)
    with precision(settled.bits):
        return _verdict(program, settled, made, balls, rounding, first.path, given)


def _radius(ball: Any) -> Any:
    return ball.rad() if ball.is_finite() else flint().arb(0)


def _verdict(
    program: Program,
    settled: Settled,
    made: list[np.ndarray],
    balls: list[np.ndarray],
    rounding: Walk,
    path: list[Any],
    given: bool,
) -> GradientReport:
    found, bits, before = settled
    right = found.truth
    # Constants keep their numbers as the variables are moved.
    again = Reading(found.reading.reals)
    tied = ties.judge(
        right.variables,
        program.variables,
        right.met,
        found.exact,
        lambda shift: truth(program, reading=again, shift=shift).values,
        cheap=sum(count(program.primal)) < 20_000,
    )

    def leaf(i: int, k: int | None = None) -> LeafReport:
        return _leaf(program, i, found, made[i], balls[i], tied[i], k)

    leaves = [leaf(i) for i in range(len(program.paths))]
    deep = deep_bounds.judge(program, leaves, leaf, made, balls, rounding)
    leaves, notes = deep.leaves, deep.notes
    if program.gradient is None:
        leaves = [_blame_unseen_rules(leaf) for leaf in leaves]
    verdict = worst([leaf.verdict for leaf in leaves])
    explained = 0.0
    if before is not None:
        explained = _explained(program, found, before)
        notes.append(_constants_note(found.reading, explained))
    if program.gradient is None:
        notes.append(
            "grad= could not be traced, so its rules were not seen: its numbers were "
            "compared with the truth, within the rounding bound of jax.grad(f)"
        )
    open_ended = sum(
        not ball.is_finite()
        for i, array in enumerate(balls)
        for ball in array.ravel()
        if i not in deep.judged
    )
    if open_ended and verdict != "pole":
        notes.append(
            f"rounding has no bound at {open_ended} elements (a ball there holds a "
            f"divisor of 0, or leaves the range of floats), so only the rules were "
            f"judged there"
        )
    notes += _tie_notes(right, tied)
    notes += culprit.path_notes(rounding)
    why = ""
    try:
        if verdict == "rule":
            why = culprit.of_rule(program, given)
        elif verdict == "pole":
            why = culprit.of_pole(program, rounding)
        elif verdict == "compiler":
            why = deep.why or culprit.of_compiler(program, path)
        elif verdict == "kink":
            why = culprit.of_kink(right.met)
    except Spent:
        why = culprit.NOT_FOUND
    if verdict == "uncovered":
        notes.append(f"not decided at {bits} bits, where the proof gives up")
    return GradientReport(verdict, tuple(leaves), tuple(notes), why, explained)


def _explained(program: Program, found: Comparison, before: Comparison) -> float:
    """Return the largest difference, in ulps, that rounded constants explain."""
    most = 0.0
    for i, variable in enumerate(program.variables):
        for e, t, now in zip(
            before.error[i].ravel(), before.truth.values[i].ravel(),
            found.zero[i].ravel(), strict=True,
        ):  # fmt: skip
            if now is True and e.is_finite() and t.is_finite():
                most = max(most, float(abs(e).mid()) / ulp_of(t, variable.dtype))
    return most


def _constants_note(reading: Reading, explained: float) -> str:
    moved = [
        (abs(float(off(c, real).mid())) / 2, reading.met[c].text)
        for c, real in reading.reals.items()
        if c in reading.met
    ]
    texts = [f"{text} ({ulps:.2g} ulp)" for ulps, text in sorted(moved)[::-1] if ulps]
    shown = ", ".join(texts[:6]) + (f" and {len(texts) - 6} more" if texts[6:] else "")
    return (
        f"constants stand for numbers that they were rounded from, this far from them: "
        f"{shown}; that explains up to {explained:.2g} ulps, counted as rounding"
    )


def _blame_unseen_rules(leaf: LeafReport) -> LeafReport:
    """Call it a wrong rule where a gradient that was not traced leaves the bound."""
    if leaf.verdict != "compiler":
        return leaf
    return leaf._replace(verdict="rule", rule_error="unseen")


def _tie_notes(right: Derivatives, tied: list[np.ndarray]) -> list[str]:
    """Say which ties were met, and where they were not judged."""
    notes = []
    if any((t == "between").any() for t in tied):
        for place in ties.places(right.met)[:3]:
            notes.append(
                f"exactly tied, and the derivative lies between the one-sided ones: "
                f"{culprit.describe(place)}"
            )
    unjudged = sum(int((t == "unjudged").sum()) for t in tied)
    if unjudged:
        notes.append(f"{unjudged} elements at ties were not judged from both sides")
    return notes


def _leaf(
    program: Program,
    i: int,
    found: Comparison,
    made: np.ndarray,
    balls: np.ndarray,
    tied: np.ndarray,
    k: int | None = None,
) -> LeafReport:
    """Return the report on a leaf, at its worst element unless that is given."""
    values, variable = program.values[i], program.variables[i]
    right, zero = found.truth.values[i], found.zero[i]
    dtype = variable.dtype
    floats = values.astype(np.float64)
    verdicts, ulps, bounds = [], [], []
    for v, t, g, z, b, tie in zip(
        floats.ravel().tolist(), right.ravel(), made.ravel(), zero.ravel(),
        balls.ravel(), tied.ravel(), strict=True,
    ):  # fmt: skip
        verdict, off, bound = _element(v, t, g, z, b, tie, dtype)
        verdicts.append(verdict)
        ulps.append(off)
        bounds.append(bound)
    verdict = worst(verdicts)
    if not verdicts:
        return LeafReport(
            program.paths[i], values.shape, dtype.name, "ok", (), "", "", "0", 0, 0, 0
        )
    if k is None:
        k = max(
            (k for k, x in enumerate(verdicts) if x == verdict),
            key=lambda k: _badness(ulps[k], right.flat[k], floats.flat[k]),
        )
    error = found.error[i].ravel()[k]
    return LeafReport(
        path=program.paths[i],
        shape=values.shape,
        dtype=dtype.name,
        verdict=verdict,
        worst=tuple(int(n) for n in np.unravel_index(k, values.shape)),
        truth=right.ravel()[k].str(17, radius=False),
        value=repr(values.ravel()[k].item())
        if dtype != jnp.bfloat16
        else str(values.ravel()[k]),
        rule_error="0" if zero.ravel()[k] is True else error.str(3, radius=False),
        ulps=ulps[k],
        bound=bounds[k],
        digits=_digits(right.ravel()[k], floats.ravel()[k], dtype),
    )


def _element(
    value: float,
    true: Any,
    made: Any,
    zero: bool | None,
    ball: Any,
    tie: str,
    dtype: Any,
) -> tuple[str, float, float]:
    """Return the verdict on one number, its distance in ulps, and the bound in ulps."""
    if not made.is_finite() or not true.is_finite():
        return "pole", np.inf, np.inf
    ulp = ulp_of(made, dtype)
    off = (
        float(abs(flint().arb(value) - made).mid()) / ulp
        if np.isfinite(value)
        else np.inf
    )
    bound = float(ball.rad()) / ulp if ball.is_finite() else np.inf
    if tie in ("kink", "unjudged"):
        return ("kink" if tie == "kink" else "uncovered"), off, bound
    if zero is None and tie != "between":
        return "uncovered", off, bound
    if not zero and tie != "between":
        return "rule", off, bound
    if not np.isfinite(value):
        return ("pole" if not ball.is_finite() else "compiler"), off, bound
    if ball.is_finite() and not ball.overlaps(flint().arb(value)):
        return "compiler", off, bound
    return "ok", off, bound


def _badness(ulps: float, true: Any, value: Any) -> tuple[float, float]:
    miss = (
        abs(flint().arb(float(value)) - true)
        if np.isfinite(value)
        else flint().arb("inf")
    )
    return ulps, float(miss.mid()) if miss.is_finite() else np.inf


def _digits(true: Any, value: float, dtype: Any) -> float:
    """Return the decimal digits in which the float agrees with the truth."""
    most = -np.log10(float(ml_dtypes.finfo(dtype).eps) / 2)
    if not np.isfinite(value) or not true.is_finite():
        return 0.0
    miss = float(abs(flint().arb(value) - true).mid())
    if miss == 0:
        return float(most)
    if float(true.mid()) == 0:
        return 0.0
    return float(np.clip(-np.log10(miss / abs(float(true.mid()))), 0, most))
