"""Which equation is to blame, with the user's line of source."""

from __future__ import annotations

import linecache
import os
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import source_info_util

from funcgrad.jaxprs import inner_programs, opened
from funcgrad.testing.budget import Spent
from funcgrad.testing.compare import exact, judge_rule
from funcgrad.testing.control import Place, Uncovered
from funcgrad.testing.engine import Value
from funcgrad.testing.flint import flint, precision
from funcgrad.testing.numbers.balls import Rounded
from funcgrad.testing.numbers.exact import Exact, data
from funcgrad.testing.numbers.native import Native
from funcgrad.testing.numbers.objects import each, is_real
from funcgrad.testing.numbers.truth import Truth
from funcgrad.testing.program import Program, integer_weights, lifted_constants
from funcgrad.testing.report import GradientReport
from funcgrad.testing.rules.elementwise import ELEMENTWISE
from funcgrad.testing.rules.primitives import PRIMITIVES
from funcgrad.testing.ties import places
from funcgrad.testing.walk import Met, Walk
from funcgrad.testing.walker import CALLS

NOT_FOUND = "not found before the seconds of this check were spent"

_HERE = os.path.dirname(__file__)


class Found(Exception):
    """Carries the culprit out of a walk."""

    def __init__(self, text: str):
        self.text = text


def describe(place: Place) -> str:
    """Return the primitive or custom rule of an equation and the line it comes from.

    Where the equation has no line of the user's, its caller's line stands in.
    """
    name = place.eqn.primitive.name
    if "call_jaxpr" in place.eqn.params and name.startswith("custom_"):
        kind = name.removesuffix("_jaxpr").removesuffix("_call")
        program, _ = opened(place.eqn.params["call_jaxpr"])
        name = f"{kind} `{program.debug_info.func_name}`"
    else:
        name = f"`{name}`"
    for eqn in (place.eqn, *reversed(place.callers)):
        found = user_line(eqn)
        if found is not None:
            file, number = found
            line = linecache.getline(file, number).strip()
            where = f"{name} at {file}:{number}"
            return f"{where}\n    {line}" if line else where
    return name


def user_line(eqn: Any) -> tuple[str, int] | None:
    """Return file and line of the innermost frame outside JAX and this package.

    What else is no user's code, JAX knows: libraries tell it with
    `jax.extend.source_info_util.register_exclusion`.
    """
    text = source_info_util.summarize(eqn.source_info, num_frames=1000)
    for frame in reversed(text.splitlines()):  # the innermost is last
        found = re.fullmatch(r"(.+?):(\d+)(:\d+)? \(.*\)", frame)
        if found and not found[1].startswith(_HERE):
            return found[1], int(found[2])
    return None


# rule ---------------------------------------------------------------------------------


def of_rule(program: Program, given: bool) -> str:
    """Return the first equation whose own derivative differs from the truth."""
    if given:
        return "the function passed as grad="
    seen: dict[int, int] = {}
    untried: dict[int, str] = {}

    def hook(place: Place, inputs: list[Any], outputs: list[Any]) -> None:
        # An equation of a loop is tried at four of its turns.
        eqn = place.eqn
        seen[id(eqn)] = seen.get(id(eqn), 0) + 1
        if seen[id(eqn)] > 4:
            return
        try:
            wrong = differs(eqn, inputs)
        except Spent:
            raise
        except Exception as error:  # whatever a foreign derivative rule raises
            why = str(error) or type(error).__name__
            untried[id(eqn)] = f"{describe(place)}\n  cannot be tried by itself: {why}"
            return
        if wrong:
            raise Found(describe(place))
        if wrong is None:
            untried[id(eqn)] = in_doubt(place)

    # A tape, since what the variables have no part in is not differentiated.
    numbers = Truth()
    variables = [each(Value, numbers.lift(x)) for x in program.variables]
    inputs = [*variables, *lifted_constants(program, numbers)]
    try:
        Walk(numbers, hook=hook, inside_custom_rules=False).run(program.primal, inputs)
    except Found as found:
        return found.text
    return none_of(list(untried.values()))


def in_doubt(place: Place) -> str:
    """Say that an equation is not known to be right."""
    return f"{describe(place)}\n  is neither wrong nor proven by itself"


def none_of(others: list[str]) -> str:
    """Say that no equation is wrong by itself, but for others that are not known."""
    if others:
        return "\n".join(["none of the equations that can be judged alone", *others])
    return (
        "no single equation: each has the right derivative by itself, so the error is "
        "in how JAX put them together"
    )


def differs(eqn: Any, inputs: list[Any]) -> bool | None:
    """Return whether JAX's derivative of one equation is wrong at these numbers.

    None is returned where that is not known, as at ties. It is differentiated by the
    inputs that hold Values.
    """
    taped = [i for i, x in enumerate(inputs) if is_real(x) and _any(_is_taped, [x])]
    inputs = [each(data, x) if is_real(x) else x for x in inputs]
    held = [i for i, x in enumerate(inputs) if is_real(x) and i not in taped]
    alone = by_itself(eqn, inputs, taped, held)
    if alone is None:
        return False
    return {"wrong": True, "open": None, "right": False}[judge_rule(alone).verdict]


def by_itself(
    eqn: Any, inputs: list[Any], varies: list[int], held: list[int]
) -> Program | None:
    """Return one equation and its derivative as a program of its own, if it has one.

    It is differentiated by the inputs that `varies` counts; those that `held` counts
    are its constants.
    """
    floats = [k for k, v in enumerate(eqn.outvars) if _floating(v.aval.dtype)]
    if not varies or not floats or eqn.primitive.name == "stop_gradient":
        return None

    def call(variables: list[Any], constants: list[Any]) -> list[Any]:
        operands = list(inputs)
        for i, x in zip([*varies, *held], [*variables, *constants], strict=True):
            operands[i] = x
        params = eqn.primitive.get_bind_params(eqn.params)
        out = eqn.primitive.bind(*operands, **params)
        out = out if eqn.primitive.multiple_results else [out]
        return [out[k] for k in floats]

    shapes = [
        [
            jax.ShapeDtypeStruct(eqn.invars[i].aval.shape, eqn.invars[i].aval.dtype)
            for i in some
        ]
        for some in (varies, held)
    ]
    primal = jax.make_jaxpr(call)(*shapes)
    outputs: list[Any] = [v.aval for v in primal.jaxpr.outvars]
    weights = integer_weights(outputs)

    def pull(variables: list[Any], constants: list[Any]) -> Any:
        _, vjp = jax.vjp(lambda v: call(v, constants), variables)
        return vjp(
            [jnp.asarray(w, s.dtype) for w, s in zip(weights, outputs, strict=True)]
        )[0]

    return Program(
        primal=primal,
        gradient=(traced := jax.make_jaxpr(pull)(*shapes)),
        bound=traced,
        variables=[inputs[i] for i in varies],
        constants=[inputs[i] for i in held],
        cotangents=weights,
        paths=[],
        values=[],
    )


def _floating(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.floating))


# pole ---------------------------------------------------------------------------------


def of_pole(program: Program, rounding: Walk) -> str:
    """Return the equation that made an infinity, and the one that made it a NaN."""
    made: list[Place] = []

    def hook(place: Place, inputs: list[Any], outputs: list[Any]) -> None:
        before = [x for x in inputs if is_real(x)]
        after = [x for x in outputs if is_real(x)]
        if _any(_is_nan, after) and not _any(_is_nan, before):
            if _any(_is_infinite, before) and made:
                first, second = describe(made[0]), describe(place)
                raise Found(f"{first}\n  makes an infinity, and then a NaN in {second}")
            raise Found(f"{describe(place)}\n  makes a NaN")
        if _any(_is_infinite, after) and not _any(_is_infinite, before):
            made.append(place)

    try:
        exact(program, Walk(Exact(), hook=hook))
    except Found as found:
        return found.text
    if made:
        return f"{describe(made[0])}\n  makes an infinity"
    overflows = rounding.where("overflow")
    if overflows:
        return f"{describe(overflows[0])}\n  leaves the range of its float type"
    return "the primal program: its true derivative is not finite here"


def _any(test: Callable[[Any], bool], arrays: list[Any]) -> bool:
    return any(test(x) for array in arrays for x in array.ravel())


def _is_taped(x: Any) -> bool:
    return type(x) is Value


def _is_nan(x: Any) -> bool:
    return bool(x.is_nan())


def _is_infinite(x: Any) -> bool:
    return not x.is_finite() and not x.is_nan()


# compiler -----------------------------------------------------------------------------


def of_compiler(program: Program, path: list[Any]) -> str:
    """Return the equation at which running op by op first leaves the bound."""
    steps: list[tuple[Any, list[Any]]] = []
    bound = Walk(Rounded(path), hook=lambda p, i, out: steps.append((p.eqn, out)))
    with precision(64):
        exact(program, bound)
    bounds = iter(steps)

    def hook(place: Place, inputs: list[Any], outputs: list[Any]) -> None:
        expected, balls = next(bounds, (None, []))
        if expected is not place.eqn:
            raise Found(
                f"{describe(place)}\n  run op by op, floats take another path from here"
            )
        for value, ball in zip(outputs, balls, strict=True):
            if is_real(ball) and not _inside(value, ball):
                raise Found(f"{describe(place)}\n  leaves the bound when run by itself")

    try:
        exact(program, Walk(Native(), hook=hook))
    except Found as found:
        return found.text
    except Spent:
        raise
    except Exception as error:  # whatever a foreign primitive raises
        return f"unknown, since the gradient cannot be run op by op: {error}"
    return (
        "only when compiled together: run op by op, every equation stays inside its "
        "bound, so the compiler's fusion or reordering is at fault"
    )


def largest_part(place: Place) -> str:
    """Say which equation gives the largest part of a bound by derivatives."""
    return f"the largest part of the bound is due to {describe(place)}"


def _inside(value: Any, balls: np.ndarray) -> bool:
    floats = np.asarray(value).astype(np.float64).ravel().tolist()
    return all(
        not ball.is_finite() or (np.isfinite(x) and ball.overlaps(flint().arb(x)))
        for x, ball in zip(floats, balls.ravel(), strict=True)
    )


# kink, uncovered, flips ---------------------------------------------------------------


def of_kink(met: list[Met]) -> str:
    """Return where the variables are tied, three places at most."""
    found = places(met)[:3]
    return "\n".join(f"tie in {describe(place)}" for place in found)


def uncovered(missing: Uncovered, program: Program) -> GradientReport:
    """Return the report that names what has no rule, and how to add one."""
    assert missing.place is not None  # every walk says where it was
    name = missing.place.eqn.primitive.name
    others = sorted(_unknown(program.primal) | _unknown(program.bound))
    why = f" ({missing.why})" if missing.why else ""
    notes = [
        f"if `{name}` acts on each element by itself, teach it to the proof: "
        f'funcgrad.testing.add_rule("{name}", value, slopes)'
    ]
    if others:
        notes.append("without a rule in this program: " + ", ".join(others))
    culprit = f"{describe(missing.place)}{why}"
    return GradientReport("uncovered", (), tuple(notes), culprit)


def _unknown(program: Any) -> set[str]:
    """Return the names of the primitives on floats that no table knows."""
    jaxpr, _ = opened(program)
    out = set()
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name in CALLS:
            for sub in inner_programs(eqn):
                out |= _unknown(sub)
        elif name not in ELEMENTWISE and name not in PRIMITIVES:
            types = [getattr(v.aval, "dtype", None) for v in eqn.invars]
            if any(t is not None and _floating(t) for t in types):
                out.add(name)
    return out


def path_notes(rounding: Walk) -> list[str]:
    """Say where rounding may have turned a decision."""
    notes = []
    for place in rounding.where("flip")[:3]:
        notes.append(
            f"rounding may turn the comparison in {describe(place)}\n"
            f"  the bound holds both outcomes"
        )
    for place in rounding.where("lost")[:3]:
        notes.append(
            f"rounding may change the path taken by {describe(place)}\n"
            f"  no bound is known for another path, so only the rules were judged"
        )
    return notes
