"""A rule that is proven by itself serves as a lemma in the proof of the whole.

No model of functions holds for a rule whose constants were rounded. Exact numbers do:
they read such a constant as the number that it stands for. Where the equation is too
large for them, they are asked about a few of its rows, and float64 about all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from funcgrad.jaxprs import inner_programs, opened
from funcgrad.testing import identity, in_floats, size
from funcgrad.testing.budget import Spent
from funcgrad.testing.compare import Judged, judge_rule
from funcgrad.testing.constants import Reals
from funcgrad.testing.control import (
    CALLS,
    CUSTOM_CALLS,
    Uncovered,
    call,
    traced_through,
)
from funcgrad.testing.identity import Decided, Tested
from funcgrad.testing.program import Program
from funcgrad.testing.smaller import smaller

# What the exact walk of one equation may take.
_SECONDS = 10.0

# How likely a wrong rule serves as a lemma: it is proven for the numbers of one of the
# equations that are alike, and what it is off by in the others is taken for evenly
# drawn, up to the largest element. Float64 shows all but this part of that.
MISS = in_floats.CLEAR

# How many rows are tried, if so many can be walked.
_ROWS = (8, 4, 2)


class Lemma(NamedTuple):
    """Whether a rule is "right", "wrong" or "open", and how it was proven.

    `reals` are the numbers that its constants stand for.
    """

    verdict: str
    reals: Reals = MappingProxyType({})
    how: str = ""


def judge(alone: Program, decided: Decided) -> Lemma:
    """Return whether the rule of an equation, as a program of its own, is right."""
    few = alone if _is_small(alone) else _few_rows(alone)
    found = Judged("open", {}) if few is None else judge_rule(few)
    if few is alone and found.verdict != "open":
        return Lemma(found.verdict, found.reals, "in exact numbers")
    # The rows that are left need not take each branch, and float64 sees all of them.
    all_rows = in_floats.least(alone, decided, found.reals)
    if found.verdict == "right" and not all_rows.is_clear:
        how = "in exact numbers on a few rows, in float64 on all"
        return Lemma("right", found.reals, how)
    if all_rows.is_clear and (
        found.verdict == "wrong" or not in_floats.constants_may_explain(alone, decided)
    ):
        return Lemma("wrong")
    return Lemma("open")


def _is_small(program: Program) -> bool:
    seconds, memory = size.estimate(program.primal, program.bound)
    return seconds <= _SECONDS and memory <= size.MEMORY


def _few_rows(alone: Program) -> Program | None:
    for rows in _ROWS:
        try:
            few = smaller(alone, rows)
        except Exception:  # whatever a foreign primitive raises at another shape
            return None
        if few is None or _is_small(few):
            return few
    return None


def without(program: Program, is_proven: Callable[[Any], bool]) -> Program:
    """Return the program with proven rules left to JAX, which differentiates inside."""
    n = len(program.variables)

    def primal(*inputs: Any) -> list[Any]:
        return _run(program.primal, inputs, is_proven)

    def gradient(*inputs: Any) -> Any:
        _, pull = jax.vjp(lambda *v: primal(*v, *inputs[n:]), *inputs[:n])
        return pull([jnp.asarray(w) for w in program.cotangents])

    inputs = [*program.variables, *program.constants]
    traced = jax.make_jaxpr(primal)(*inputs)
    made = jax.make_jaxpr(gradient)(*inputs)
    return program._replace(primal=traced, gradient=made, bound=made)


def _run(
    program: Any, inputs: Sequence[Any], is_proven: Callable[[Any], bool]
) -> list[Any]:
    """Evaluate a program as JAX traces it, and open the rules that are proven."""
    return traced_through(
        program,
        inputs,
        lambda eqn: is_proven(eqn) or CALLS.get(eqn.primitive.name) is call,
        lambda eqn: _opened(eqn, is_proven),
    )


def _opened(eqn: Any, is_proven: Callable[[Any], bool]) -> dict[str, Any]:
    """Return the parameters of a loop or a branch, with its programs rewritten."""
    if eqn.primitive.name not in CALLS or eqn.primitive.name in CUSTOM_CALLS:
        return dict(eqn.params)

    def rewritten(x: Any) -> Any:
        if isinstance(x, (tuple, list)):
            return type(x)(map(rewritten, x))
        if not hasattr(x, "jaxpr") or not holds(x, is_proven):
            return x
        shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype)
                  for v in x.jaxpr.invars]  # fmt: skip
        return jax.make_jaxpr(lambda *inputs: _run(x, inputs, is_proven))(*shapes)

    return {name: rewritten(x) for name, x in eqn.params.items()}


def holds(program: Any, is_wanted: Callable[[Any], bool]) -> bool:
    """Return whether a program, or one that it calls, has an equation of this kind."""
    jaxpr, _ = opened(program)
    return any(
        is_wanted(eqn) or any(holds(inner, is_wanted) for inner in inner_programs(eqn))
        for eqn in jaxpr.eqns
    )


def passed(program: Program, is_proven: Callable[[Any], bool]) -> Tested | None:
    """Return the test of the identity where proven rules are left to JAX, if passed."""
    try:
        opened_up = without(program, is_proven)
        decided = identity.decide(opened_up)
        tested = identity.test(opened_up, decided)
    except (Uncovered, Spent):
        raise
    except Exception:  # what JAX cannot differentiate inside
        return None
    return tested if decided.finite and tested.model is not None else None
