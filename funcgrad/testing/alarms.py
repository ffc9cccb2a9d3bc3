"""An alarm of the identity is no verdict yet: either some rule is wrong, or none is.

No model of functions holds. So each equation is tested by itself, and the rules that
fail are asked about in exact numbers: one is wrong, or all are lemmas.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from funcgrad.testing import culprit, identity, in_floats, lemma
from funcgrad.testing.budget import Spent, part
from funcgrad.testing.constants import Constant
from funcgrad.testing.control import CUSTOM_CALLS, Place
from funcgrad.testing.identity import Decided
from funcgrad.testing.in_floats import Difference
from funcgrad.testing.numbers.tape import Taped
from funcgrad.testing.program import Program


class Resolved(NamedTuple):
    """The verdict on an alarm, with the equation to blame, and notes.

    `off` is the difference of each leaf in float64; `miss` how likely a wrong rule was
    cleared.
    """

    verdict: str
    why: str
    notes: list[str]
    off: Difference
    miss: float = 0.0


class _Suspect(NamedTuple):
    """An equation whose own derivative fails the identity, as a program of its own."""

    place: Place
    key: Any
    alone: Program
    decided: Decided


def resolve(
    program: Program, decided: Decided, here: Difference, *, given: bool
) -> Resolved:
    """Return the verdict on a program for which no model of functions holds.

    `here` is the difference that float64 shows. Where the seconds end while equations
    are tried, it decides: half of them are kept for that.
    """
    if given:
        why = "the function passed as grad="
        if _is_wrong(program, decided, here):
            return Resolved("rule", why, [], here)
        return _neither(here, why)
    try:
        with part(0.5):
            return _by_equations(program, decided, here)
    except Spent:
        if not _is_wrong(program, decided, here):
            raise
        return Resolved("rule", culprit.NOT_FOUND, [], here)


def _is_wrong(program: Program, decided: Decided, here: Difference) -> bool:
    return here.is_clear and not in_floats.constants_may_explain(program, decided)


def _by_equations(program: Program, decided: Decided, here: Difference) -> Resolved:
    """Try each equation by itself, and the whole with what is proven as lemmas."""
    suspects, untried = _suspects(program, decided)
    reals: dict[Constant, Any] = {}
    proven: dict[str, str] = {}
    unproven = []
    for suspect in suspects:
        text = culprit.describe(suspect.place)
        found = lemma.judge(suspect.alone, suspect.decided)
        if found.verdict == "wrong":
            return Resolved("rule", text, [], here)
        is_custom = suspect.place.eqn.primitive.name in CUSTOM_CALLS
        if found.verdict == "right" and is_custom:
            reals |= found.reals
            proven[text] = f"proven by itself {found.how}, and read as a lemma: {text}"
        else:
            unproven.append(culprit.in_doubt(suspect.place))
    here = in_floats.least(program, decided, reals)
    if _is_wrong(program, decided, here):
        return Resolved("rule", culprit.none_of([*unproven, *untried]), [], here)
    if suspects and not unproven and not here.is_clear:
        keys = {s.key for s in suspects}
        again = lemma.passed(program, lambda eqn: key_of(eqn) in keys)
        if again is not None:
            miss = again.miss + len(suspects) * lemma.MISS
            return Resolved("ok", "", list(proven.values()), here, miss)
    return _neither(here, "\n".join(unproven[:3]) or "no single equation")


def _neither(here: Difference, why: str) -> Resolved:
    note = (
        "float64 shows a difference that rounded constants explain"
        if here.is_clear
        else "the identity fails in every field, and float64 shows no difference"
    )
    return Resolved("uncovered", why, [f"{note}: neither wrong nor proven"], here)


def key_of(eqn: Any) -> Any:
    """Return what equations that are alike have in common."""
    shapes = tuple((v.aval.shape, v.aval.dtype) for v in eqn.invars)
    return eqn.primitive.name, str(eqn.params), shapes


def _suspects(program: Program, decided: Decided) -> tuple[list[_Suspect], list[str]]:
    """Return the equations of the primal whose own derivative fails the identity.

    Of those that are alike one is tried; those that cannot be are told apart.
    """
    seen: set[Any] = set()
    untried: list[str] = []
    found: list[_Suspect] = []

    def hook(place: Place, inputs: list[Any], outputs: list[Any]) -> None:
        eqn, key = place.eqn, key_of(place.eqn)
        if key in seen:
            return
        seen.add(key)
        taped = [i for i, x in enumerate(inputs) if isinstance(x, Taped)]
        varies = [i for i in taped if inputs[i].pull is not None]
        held = [i for i in taped if i not in varies]
        values = [x.value if isinstance(x, Taped) else x for x in inputs]
        try:
            alone = culprit.by_itself(eqn, values, varies, held)
        except Spent:
            raise
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
            found.append(_Suspect(place, key, alone, here))

    in_floats.truth(program, decided, hook=hook)
    return found, untried
