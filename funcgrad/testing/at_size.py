"""The verdict over a program that is too large to be walked number by number.

The rules are tested as an identity in finite fields. An alarm is no verdict yet; see
`alarms`. Ties and poles, of which fields know nothing, are judged by float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from funcgrad.jaxprs import is_float
from funcgrad.testing import adjoint_bound, alarms, beside, culprit, identity, in_floats
from funcgrad.testing.budget import Spent
from funcgrad.testing.control import Place
from funcgrad.testing.identity import MODELS, Decided
from funcgrad.testing.in_floats import Difference
from funcgrad.testing.numbers.floats import Floats
from funcgrad.testing.numbers.path import Path
from funcgrad.testing.program import Program, lifted_constants
from funcgrad.testing.report import GradientReport, LeafReport, worst
from funcgrad.testing.rounding import Rounding, of_leaves
from funcgrad.testing.whole_walk import Walk


def judge(program: Program, *, given: bool) -> GradientReport:
    """Return the report; `given` says whether the gradient is the caller's."""
    decided = identity.decide(program)
    notes: list[str] = []
    if not decided.finite:
        return _report(program, decided, "pole", [], _pole(program))
    if not all(np.isfinite(v.astype(np.float64)).all() for v in program.values):
        overflow = _first(program, _overflows)
        if overflow is not None:
            why = f"{culprit.describe(overflow)}\n  leaves the range of its float type"
            return _report(program, decided, "pole", [], why)
    tested = identity.test(program, decided, MODELS[:1])
    off: Difference | None = None
    verdict, why, miss = "ok", "", tested.miss
    if tested.model is None:
        here = in_floats.least(program, decided)
        if not here.is_clear:
            tested = identity.test(program, decided, MODELS[1:])
            miss += tested.miss
    if tested.model is None and tested.ties:
        moved = identity.decide(program, beside.shift(program, 0))
        found_beside = identity.test(program, moved)
        miss += found_beside.miss
        if found_beside.model is not None:
            verdict = "beside"
    if tested.model is None and verdict != "beside":
        found = alarms.resolve(program, decided, here, given=given)
        verdict, why, off = found.verdict, found.why, found.off
        if verdict == "rule" and not here.is_clear:
            notes.append(
                "the gradient is right at these arguments all the same, as far as "
                "float64 tells: what the rule is off by is multiplied by 0, or cancels"
            )
        notes += found.notes
        miss += found.miss
    if tested.ties:
        try:
            tied = beside.judge(program, decided)
        except Spent:
            if verdict != "rule":
                raise
            tied = "unjudged"
        notes += [
            f"exactly tied, and judged by float64 alone: {culprit.describe(place)}"
            for place in tested.ties[:3]
        ]
        if tied == "kink" and verdict in ("ok", "beside"):
            verdict = "kink"
            why = "\n".join(f"tie in {culprit.describe(p)}" for p in tested.ties[:3])
        elif tied == "unjudged" and verdict in ("ok", "beside"):
            verdict = "uncovered"
            notes.append("some elements at ties were not judged from both sides")
    if verdict == "beside":
        verdict = "ok"
    return _report(program, decided, verdict, notes, why, off, miss)


# Poles --------------------------------------------------------------------------------


def _pole(program: Program) -> str:
    """Return the equation of the gradient at which floats stop being finite."""
    place = _first(program, _makes_nan)
    if place is None:
        return "an infinity is made on the way"
    return f"{culprit.describe(place)}\n  makes a NaN"


def _first(
    program: Program, test: Callable[[Place, list[Any], list[Any]], bool]
) -> Place | None:
    """Return the first equation of the gradient, run in float64, that passes a test."""
    found: list[Place] = []

    def hook(place: Place, inputs: list[Any], outputs: list[Any]) -> None:
        if not found and test(place, inputs, outputs):
            found.append(place)

    floats = Floats()
    variables = [floats.lift(x) for x in program.variables]
    inputs = [*variables, *lifted_constants(program, floats)]
    Walk(floats, Path(), hook=hook).run(program.bound, inputs)
    return found[0] if found else None


def _makes_nan(place: Place, inputs: list[Any], outputs: list[Any]) -> bool:
    def bad(arrays: list[Any]) -> bool:
        return any(_is_float64(x) and np.isnan(x).any() for x in arrays)

    return bad(outputs) and not bad(inputs)


def _overflows(place: Place, inputs: list[Any], outputs: list[Any]) -> bool:
    def beyond(x: np.ndarray, dtype: Any) -> bool:
        most = float(ml_dtypes.finfo(dtype).max)
        return bool((np.isfinite(x) & (np.abs(x) > most)).any())

    return any(
        _is_float64(x) and is_float(v.aval) and beyond(x, v.aval.dtype)
        for v, x in zip(place.eqn.outvars, outputs, strict=True)
    )


def _is_float64(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype == np.float64


# The report ---------------------------------------------------------------------------


def _report(
    program: Program,
    decided: Decided,
    verdict: str,
    notes: list[str],
    why: str,
    off: Difference | None = None,
    miss: float = identity.MISS,
) -> GradientReport:
    rounding = None
    if decided.finite:
        try:
            recorded = adjoint_bound.record(program, decided)
            rounding = of_leaves(program, decided, recorded)
        except Spent:
            if verdict != "rule":
                raise
            notes = [*notes, "rounding was not judged before the seconds were spent"]
    leaves = []
    for i, path in enumerate(program.paths):
        leaf_verdict = verdict
        if verdict == "rule" and off is not None:
            leaf_verdict = "rule" if off.shares[i] > in_floats.CLEAR else "ok"
        made = decided.values[i], program.values[i].astype(np.float64)
        if verdict == "pole" and all(np.isfinite(x).all() for x in made):
            leaf_verdict = "ok"
        leaf = _leaf(program, decided, i, path, leaf_verdict, rounding, off)
        leaves.append(leaf)
    found = worst([verdict, *(leaf.verdict for leaf in leaves)])
    if found == "compiler" and program.gradient is None:
        found = "rule"
        why = "the function passed as grad="
    elif found == "compiler" and rounding is not None and not why:
        bad = [r.place for r, leaf in zip(rounding, leaves, strict=True)
               if leaf.verdict == "compiler" and r.place is not None]  # fmt: skip
        if bad:
            why = culprit.largest_part(bad[0])
    if program.gradient is None:
        notes = [
            *notes,
            "grad= could not be traced, so its rules were not seen: its numbers were "
            "compared with jax.grad(f), within what rounding may cost that",
        ]
    if rounding is not None and not all(np.isfinite(r.bound) for r in rounding):
        notes = [*notes, "rounding has no bound here, so only the rules were judged"]
    for r, leaf in zip(rounding or [], leaves, strict=False):
        if leaf.verdict == "ok":
            notes = [*notes, *(f"{leaf.path}: {note}" for note in r.notes())]
    return GradientReport(
        found, tuple(leaves), tuple(notes), why, method="identity", miss=miss
    )


def _leaf(
    program: Program,
    decided: Decided,
    i: int,
    path: str,
    verdict: str,
    rounding: list[Rounding] | None,
    off: Difference | None,
) -> LeafReport:
    values, dtype = program.values[i], program.variables[i].dtype
    floats, made = values.astype(np.float64), decided.values[i]
    if not made.size:
        return LeafReport(path, made.shape, dtype.name, "ok", (), "", "", "0", 0, 0, 0)
    right, rule_error = made, "0"
    if is_wrong := verdict == "rule" and off is not None:
        right, rule_error = made - off.off[i], f"{off.shares[i]:.3g}"
    with np.errstate(all="ignore"):
        miss = np.nan_to_num(np.abs(floats - right), nan=np.inf)
    k = int(np.argmax(miss))
    if rounding is not None and rounding[i].is_of_one and not is_wrong:
        k = rounding[i].farthest if np.isfinite(floats).all() else k
    at = tuple(int(n) for n in np.unravel_index(k, made.shape))
    eps = float(ml_dtypes.finfo(dtype).eps)
    most = -np.log10(eps / 2)
    true, apart = float(right[at]), float(miss[at])
    digits = most if apart == 0 else -np.log10(apart / abs(true)) if true else 0.0
    ulps = bound = np.inf
    if rounding is not None:
        ulps, bound = rounding[i].off / eps, rounding[i].bound / eps
        if verdict == "ok" and not np.isfinite(floats).all():
            verdict, ulps = "compiler", np.inf
        if verdict == "ok" and rounding[i].off > rounding[i].bound:
            verdict = "compiler"
    return LeafReport(
        path=path,
        shape=made.shape,
        dtype=dtype.name,
        verdict=verdict,
        worst=at,
        truth=f"{true:.15g}",
        value=str(values[at]),
        rule_error=rule_error,
        ulps=float(ulps),
        bound=float(bound),
        digits=float(np.clip(digits, 0, most)),
    )
