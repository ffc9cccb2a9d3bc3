"""The verdict over a program that is too large to be walked number by number.

The rules are tested as an identity in finite fields. An alarm is no verdict yet: it is
held against the derivative of the primal program in float64, by a tape of our own, and
then looked for equation by equation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from funcgrad.jaxprs import is_float
from funcgrad.testing import adjoint_bound, culprit, identity, size
from funcgrad.testing.compare import rule_is_wrong
from funcgrad.testing.control import Place
from funcgrad.testing.identity import MISS, MODELS, Decided
from funcgrad.testing.numbers.tape import Tape, Taped
from funcgrad.testing.program import Program
from funcgrad.testing.report import GradientReport, LeafReport, worst
from funcgrad.testing.whole_walk import Walk

# Two float64 gradients that differ by this share of a leaf's largest element differ:
# right ones by 10^-15 as measured, and a wrong rule by 2 10^-10 at least.
_CLEAR = 1e-11
# What is so small beside the largest element of all leaves may be rounding alone.
_NOISE = 1e-14

# Beyond so many scalars times leaves, one bound serves all leaves.
_EACH_LEAF = 2e7

# What the exact walk of an equation that is blamed may take.
_SECONDS = 10.0

# How far beside a tie its sides are looked at, of a variable's size, and how much of a
# leaf's largest element the gradient may have changed there all the same.
_STEP, _CURVED = 2.0**-30, 1e-5


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
    difference = [0.0] * len(program.variables)
    verdict, why = "ok", ""
    if tested.model is None:
        difference = _differences(truth(program, decided), decided.values)
        if not any(d > _CLEAR for d in difference):
            tested = identity.test(program, decided, MODELS[1:])
    if tested.model is None and tested.ties:
        moved = identity.decide(program, _shift(program, 0))
        if identity.test(program, moved).model is not None:
            verdict = "beside"
    if tested.model is None and verdict != "beside":
        verdict, why, more = _alarm(program, decided, difference, given)
        notes += more
    if tested.ties:
        tied = _judge_ties(program, decided)
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
    return _report(program, decided, verdict, notes, why, difference)


def truth(program: Program, decided: Decided, hook: Any = None) -> list[np.ndarray]:
    """Return the derivative of the primal program in float64, by rules of our own."""
    tape = Tape()
    walk = Walk(
        tape, decided.primal.replay(), hook=hook, inside_custom_rules=hook is None
    )
    variables = [tape.variable(x) for x in program.variables]
    outputs = walk.run(program.primal, [*variables, *identity.constants(program, tape)])
    if hook is not None:
        return []
    tape.back(list(zip(outputs, program.cotangents, strict=True)))
    return [
        np.zeros(v.shape) if v.adjoint is None else np.asarray(v.adjoint)
        for v in variables
    ]


def _differences(right: list[np.ndarray], made: list[np.ndarray]) -> list[float]:
    """Return the largest difference of each leaf, by its largest element."""
    largest = max(float(np.abs(x).max(initial=0)) for x in (*right, *made))
    out = []
    for t, g in zip(right, made, strict=True):
        scale = max(float(np.abs(x).max(initial=0)) for x in (t, g))
        off = float(np.abs(t - g).max(initial=0))
        out.append(off / scale if off > largest * _NOISE else 0.0)
    return out


NO_SINGLE_EQUATION = (
    "no single equation: each has the right derivative by itself, so the error is in "
    "how JAX put them together"
)

# Alarms -------------------------------------------------------------------------------


def _alarm(
    program: Program, decided: Decided, difference: list[float], given: bool
) -> tuple[str, str, list[str]]:
    """Return the verdict on a program for which no model of functions holds."""
    clear = any(d > _CLEAR for d in difference)
    blamed: list[tuple[str, Program | None]]
    untried: list[str]
    if given:
        blamed, untried = [("the function passed as grad=", None)], []
    else:
        suspects, untried = _suspects(program, decided)
        blamed = [(culprit.describe(p), alone) for p, alone in suspects]
    wrong = []
    for text, alone in blamed:
        found = None if alone is None else _exactly(alone)
        if found is not False:
            wrong.append((text, found))
    if wrong and (clear or any(found for _, found in wrong)):
        first = next((text for text, found in wrong if found), wrong[0][0])
        return "rule", first, []
    if clear and not blamed:
        if untried:
            first = "none of the equations that can be tried by themselves"
            return "rule", "\n".join([first, *untried]), []
        return "rule", NO_SINGLE_EQUATION, []
    names = "; ".join(text for text, _ in blamed[:3]) or "no single equation"
    note = (
        "the identity fails in every field, and float64 shows no difference"
        if not clear
        else "float64 shows a difference that rounded constants explain"
    )
    return "uncovered", names, [f"{note}: neither wrong nor proven"]


def _suspects(
    program: Program, decided: Decided
) -> tuple[list[tuple[Place, Program]], list[str]]:
    """Return the equations of the primal whose own derivative fails the identity.

    Of those that are alike one is tried; those that cannot be are told apart.
    """
    seen: set[Any] = set()
    untried: list[str] = []
    found: list[tuple[Place, Program]] = []

    def hook(place: Place, inputs: list[Any], outputs: list[Any]) -> None:
        eqn = place.eqn
        shapes = tuple((v.aval.shape, v.aval.dtype) for v in eqn.invars)
        key = eqn.primitive.name, str(eqn.params), shapes
        if key in seen:
            return
        seen.add(key)
        varies = [
            i
            for i, x in enumerate(inputs)
            if isinstance(x, Taped) and x.pull is not None
        ]
        held = [
            i for i, x in enumerate(inputs) if isinstance(x, Taped) and i not in varies
        ]
        values = [x.value if isinstance(x, Taped) else x for x in inputs]
        try:
            alone = culprit.by_itself(eqn, values, varies, held)
        except Exception as error:  # whatever a foreign derivative rule raises
            why = str(error) or type(error).__name__
            untried.append(
                f"{culprit.describe(place)}\n  cannot be tried by itself: {why}"
            )
            return
        if alone is None:
            return
        here = identity.decide(alone)
        if not here.finite:
            untried.append(f"{culprit.describe(place)}\n  has infinite numbers here")
        elif identity.test(alone, here).model is None:
            found.append((place, alone))

    truth(program, decided, hook)
    return found, untried


def _exactly(alone: Program) -> bool | None:
    """Return whether exact numbers find the rule wrong, None where that is too long."""
    seconds, memory = size.estimate(alone.primal, alone.bound)
    if seconds > _SECONDS or memory > size.MEMORY:
        return None
    return rule_is_wrong(alone)


# Ties and poles -----------------------------------------------------------------------


def _shift(program: Program, seed: int) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    out = []
    for x in program.variables:
        values = np.abs(x.astype(np.float64))
        scale = values + float(values.max(initial=0)) + (not values.any())
        out.append(draw.uniform(-1, 1, x.shape) * scale * _STEP)
    return out


def _judge_ties(program: Program, decided: Decided) -> str:
    """Return "between", "kink" or "unjudged", by the gradient beside the tie.

    "kink": the gradient is the same wherever one looks beside, and another one here.
    """
    shifts = [_shift(program, seed) for seed in (1, 2)]
    shifts += [[-s for s in shift] for shift in shifts]
    beside = [identity.decide(program, shift).values for shift in shifts]
    found = "between"
    for i, here in enumerate(decided.values):
        around = np.stack([b[i] for b in beside])
        low, high = around.min(0), around.max(0)
        slack = _CURVED * max(float(np.abs(around).max(initial=0)), 1e-300)
        outside = (here < low - slack) | (here > high + slack)
        if (outside & (high - low <= slack)).any():
            return "kink"
        if outside.any():
            found = "unjudged"
    return found


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

    floats = identity.Floats()
    variables = [floats.lift(x) for x in program.variables]
    inputs = [*variables, *identity.constants(program, floats)]
    Walk(floats, identity.Path(), hook=hook).run(program.bound, inputs)
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


class _Rounding(NamedTuple):
    """One leaf's signed sum: how far off it is, what that may be, and what is usual."""

    off: float
    bound: float
    typical: float
    place: Place | None


def _report(
    program: Program,
    decided: Decided,
    verdict: str,
    notes: list[str],
    why: str,
    difference: list[float] | None = None,
) -> GradientReport:
    rounding = _rounding(program, decided) if decided.finite else None
    leaves = []
    for i, path in enumerate(program.paths):
        leaf_verdict = verdict
        if verdict == "rule" and difference is not None:
            leaf_verdict = "rule" if difference[i] > _CLEAR else "ok"
        made = decided.values[i], program.values[i].astype(np.float64)
        if verdict == "pole" and all(np.isfinite(x).all() for x in made):
            leaf_verdict = "ok"
        leaf = _leaf(program, decided, i, path, leaf_verdict, rounding, difference)
        leaves.append(leaf)
    found = worst([verdict, *(leaf.verdict for leaf in leaves)])
    if found == "compiler" and program.gradient is None:
        found = "rule"
        why = "the function passed as grad="
    elif found == "compiler" and rounding is not None and not why:
        bad = [r.place for r, leaf in zip(rounding, leaves, strict=True)
               if leaf.verdict == "compiler" and r.place is not None]  # fmt: skip
        if bad:
            why = f"the largest part of the bound is due to {culprit.describe(bad[0])}"
    if program.gradient is None:
        notes = [
            *notes,
            "grad= could not be traced, so its rules were not seen: its numbers were "
            "compared with jax.grad(f), within what rounding may cost that",
        ]
    if rounding is not None and not all(np.isfinite(r.bound) for r in rounding):
        notes = [*notes, "rounding has no bound here, so only the rules were judged"]
    for r, leaf in zip(rounding or [], leaves, strict=False):
        if leaf.verdict == "ok" and r.off > 10 * r.typical > 0:
            notes = [
                *notes,
                f"{leaf.path}: rounding is {r.off / r.typical:.0f} times what is usual",
            ]
    return GradientReport(
        found, tuple(leaves), tuple(notes), why, method="identity", miss=MISS
    )


def _rounding(program: Program, decided: Decided) -> list[_Rounding]:
    recorded = adjoint_bound.record(program, decided)
    scalars = sum(node.value.size for node in recorded.tape.nodes)
    each = scalars * len(program.variables) <= _EACH_LEAF
    weights = [
        adjoint_bound.signs(g.shape, i) / (float(np.linalg.norm(g)) or 1.0)
        for i, g in enumerate(decided.values)
    ]
    off = [
        abs(float((w * (v.astype(np.float64) - g)).sum()))
        for w, v, g in zip(weights, program.values, decided.values, strict=True)
    ]
    of_all = None if each else adjoint_bound.bound(recorded, list(weights))
    out = []
    for i, weight in enumerate(weights):
        found = of_all
        # The bound of all may be below that of one: that is asked before it is blamed.
        if found is None or off[i] > found.worst:
            alone = [weight if k == i else None for k in range(len(weights))]
            found = adjoint_bound.bound(recorded, alone)
        out.append(_Rounding(off[i], found.worst, found.typical, found.place))
    return out


def _leaf(
    program: Program,
    decided: Decided,
    i: int,
    path: str,
    verdict: str,
    rounding: list[_Rounding] | None,
    difference: list[float] | None,
) -> LeafReport:
    values, dtype = program.values[i], program.variables[i].dtype
    floats, made = values.astype(np.float64), decided.values[i]
    if not made.size:
        return LeafReport(path, made.shape, dtype.name, "ok", (), "", "", "0", 0, 0, 0)
    with np.errstate(all="ignore"):
        miss = np.nan_to_num(np.abs(floats - made), nan=np.inf)
    k = int(np.argmax(miss))
    at = tuple(int(n) for n in np.unravel_index(k, made.shape))
    eps = float(ml_dtypes.finfo(dtype).eps)
    most = -np.log10(eps / 2)
    true, off = float(made[at]), float(miss[at])
    digits = most if off == 0 else -np.log10(off / abs(true)) if true else 0.0
    ulps = bound = np.inf
    if rounding is not None:
        ulps, bound = rounding[i].off / eps, rounding[i].bound / eps
        if verdict == "ok" and not np.isfinite(floats).all():
            verdict, ulps = "compiler", np.inf
        if verdict == "ok" and rounding[i].off > rounding[i].bound:
            verdict = "compiler"
    share = difference[i] if difference is not None else 0.0
    return LeafReport(
        path=path,
        shape=made.shape,
        dtype=dtype.name,
        verdict=verdict,
        worst=at,
        truth=f"{true:.15g}",
        value=str(values[at]),
        rule_error=f"{share:.3g}" if verdict == "rule" else "0",
        ulps=float(ulps),
        bound=float(bound),
        digits=float(np.clip(digits, 0, most)),
    )
