"""Which equation is to blame, with the user's line of source."""

from __future__ import annotations

import linecache
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import source_info_util

from funcgrad.jaxprs import inner_programs, opened
from funcgrad.testing import gradients
from funcgrad.testing.arithmetic import Doubtful, Exact, Rounded, Tie, is_real
from funcgrad.testing.flint import flint, precision
from funcgrad.testing.report import GradientReport
from funcgrad.testing.rules import ELEMENTWISE
from funcgrad.testing.ties import equations
from funcgrad.testing.walk import (
    CALLS,
    MOVES,
    OTHERS,
    Uncovered,
    walk,
)

_HERE = os.path.dirname(__file__)


class Found(Exception):
    """Carries the culprit out of a walk."""

    def __init__(self, text: str):
        self.text = text


def describe(eqn: Any, callers: dict[int, Any]) -> str:
    """Return the primitive or custom rule of an equation and the line it comes from.

    Where the equation has no line of the user's, its caller's line stands in.
    """
    name = eqn.primitive.name
    if name.startswith("custom_"):
        kind = name.removesuffix("_jaxpr").removesuffix("_call")
        program, _ = opened(eqn.params["call_jaxpr"])
        name = f"{kind} `{program.debug_info.func_name}`"
    else:
        name = f"`{name}`"
    frame = _user_frame(eqn)
    while frame is None and callers.get(id(eqn)) is not None:
        eqn = callers[id(eqn)]
        frame = _user_frame(eqn)
    if frame is None:
        return name
    line = linecache.getline(frame.file_name, frame.start_line).strip()
    place = f"{name} at {frame.file_name}:{frame.start_line}"
    return f"{place}\n    {line}" if line else place


def _user_frame(eqn: Any) -> Any:
    """Return the innermost frame outside JAX and outside this package."""
    frames = source_info_util.user_frames(eqn.source_info.traceback)
    return next((f for f in frames if not f.file_name.startswith(_HERE)), None)


# rule ---------------------------------------------------------------------------------


def of_rule(program: Any, given: bool) -> str:
    """Return the first equation whose own derivative differs from the truth."""
    if given:
        return "the function passed as grad="
    seen: dict[int, int] = {}

    def hook(eqn: Any, inputs: list[Any], outputs: list[Any]) -> None:
        # An equation of a loop is tried at four of its turns.
        seen[id(eqn)] = seen.get(id(eqn), 0) + 1
        if seen[id(eqn)] <= 4 and differs(eqn, inputs):
            raise Found(describe(eqn, numbers.callers))

    hook.looks_inside_custom_rules = False  # type: ignore[attr-defined]
    numbers = Exact()
    variables = [numbers.lift(x) for x in program.variables]
    constants = gradients.lifted_constants(program, numbers)
    try:
        walk(program.primal, [*variables, *constants], numbers, hook=hook)
    except Found as found:
        return found.text
    return (
        "no single equation: each has the right derivative by itself, so the error is "
        "in how JAX put them together"
    )


def differs(eqn: Any, inputs: list[Any]) -> bool:
    """Return whether JAX's derivative of one equation is wrong at these numbers."""
    real = [i for i, x in enumerate(inputs) if is_real(x)]
    floats = [k for k, v in enumerate(eqn.outvars) if _floating(v.aval.dtype)]
    if not real or not floats or eqn.primitive.name == "stop_gradient":
        return False
    plain = [x.value if isinstance(x, Doubtful) else x for x in inputs]

    def call(*variables: Any) -> list[Any]:
        operands = list(plain)
        for i, x in zip(real, variables, strict=True):
            operands[i] = x
        params = eqn.primitive.get_bind_params(eqn.params)
        out = eqn.primitive.bind(*operands, **params)
        out = out if eqn.primitive.multiple_results else [out]
        return [out[k] for k in floats]

    shapes = [
        jax.ShapeDtypeStruct(eqn.invars[i].aval.shape, eqn.invars[i].aval.dtype)
        for i in real
    ]
    primal = jax.make_jaxpr(call)(*shapes)
    outputs: list[Any] = [v.aval for v in primal.jaxpr.outvars]
    weights = gradients.integer_weights(outputs)

    def pull(*variables: Any) -> Any:
        _, vjp = jax.vjp(call, *variables)
        return vjp(
            [jnp.asarray(w, s.dtype) for w, s in zip(weights, outputs, strict=True)]
        )

    alone = gradients.Program(
        primal=primal,
        gradient=(traced := jax.make_jaxpr(pull)(*shapes)),
        bound=traced,
        variables=[inputs[i] for i in real],
        constants=[],
        cotangents=weights,
        paths=[],
        values=[],
    )
    return gradients.rule_is_wrong(alone)


def _floating(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.floating))


# pole ---------------------------------------------------------------------------------


def of_pole(program: Any, rounded: Rounded) -> str:
    """Return the equation that made an infinity, and the one that made it a NaN."""
    made: list[Any] = []

    def hook(eqn: Any, inputs: list[Any], outputs: list[Any]) -> None:
        before = [x for x in inputs if is_real(x)]
        after = [x for x in outputs if is_real(x)]
        if _any(_is_nan, after) and not _any(_is_nan, before):
            if _any(_is_infinite, before) and made:
                first = describe(made[0], numbers.callers)
                second = describe(eqn, numbers.callers)
                raise Found(f"{first}\n  makes an infinity, and then a NaN in {second}")
            raise Found(f"{describe(eqn, numbers.callers)}\n  makes a NaN")
        if _any(_is_infinite, after) and not _any(_is_infinite, before):
            made.append(eqn)

    numbers = Exact()
    try:
        gradients.exact(program, numbers, hook=hook)
    except Found as found:
        return found.text
    if made:
        return f"{describe(made[0], numbers.callers)}\n  makes an infinity"
    if rounded.out_of_range:
        place = describe(rounded.out_of_range[0], rounded.callers)
        return f"{place}\n  leaves the range of its float type"
    return "the primal program: its true derivative is not finite here"


def _any(test: Callable[[Any], bool], arrays: list[Any]) -> bool:
    return any(test(x) for array in arrays for x in array.ravel())


def _is_nan(x: Any) -> bool:
    return bool(x.is_nan())


def _is_infinite(x: Any) -> bool:
    return not x.is_finite() and not x.is_nan()


# compiler -----------------------------------------------------------------------------


class _Eager(Exact):
    """Floats as they are: JAX runs every equation by itself."""

    def lift(self, native: Any) -> Any:
        return np.asarray(native)


def of_compiler(program: Any, path: list[Any]) -> str:
    """Return the equation at which running op by op first leaves the bound."""
    numbers = _Eager()
    steps: list[tuple[Any, list[Any]]] = []
    with precision(64):
        gradients.exact(
            program, Rounded(path), hook=lambda e, i, o: steps.append((e, o))
        )
    bounds = iter(steps)

    def hook(eqn: Any, inputs: list[Any], outputs: list[Any]) -> None:
        expected, balls = next(bounds, (None, []))
        if expected is not eqn:
            place = describe(eqn, numbers.callers)
            raise Found(f"{place}\n  run op by op, floats take another path from here")
        for value, ball in zip(outputs, balls, strict=True):
            if is_real(ball) and not _inside(value, ball):
                place = describe(eqn, numbers.callers)
                raise Found(f"{place}\n  leaves the bound when run by itself")

    try:
        gradients.exact(program, numbers, hook=hook)
    except Found as found:
        return found.text
    return (
        "only when compiled together: run op by op, every equation stays inside its "
        "bound, so the compiler's fusion or reordering is at fault"
    )


def _inside(value: Any, balls: np.ndarray) -> bool:
    floats = np.asarray(value).astype(np.float64).ravel().tolist()
    return all(
        not ball.is_finite() or (np.isfinite(x) and ball.overlaps(flint().arb(x)))
        for x, ball in zip(floats, balls.ravel(), strict=True)
    )


# kink, uncovered, flips ---------------------------------------------------------------


def of_kink(
    variables: list[np.ndarray], met: list[Tie], callers: dict[int, Any]
) -> str:
    found = equations(variables, met)[:3]
    return "\n".join(f"tie in {describe(eqn, callers)}" for eqn in found)


def uncovered(missing: Uncovered, program: Any) -> GradientReport:
    """Return the report that names what has no rule, and how to add one."""
    others = sorted(_unknown(program.primal) | _unknown(program.bound))
    why = f" ({missing.why})" if missing.why else ""
    notes = [
        f"if `{missing.name}` acts on each element by itself, teach it to the proof: "
        f'funcgrad.testing.add_rule("{missing.name}", value, slopes)'
    ]
    if others:
        notes.append("without a rule in this program: " + ", ".join(others))
    culprit = f"{describe(missing.eqn, missing.callers)}{why}"
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
        elif name not in ELEMENTWISE and name not in MOVES and name not in OTHERS:
            types = [getattr(v.aval, "dtype", None) for v in eqn.invars]
            if any(t is not None and _floating(t) for t in types):
                out.add(name)
    return out


def path_notes(rounded: Rounded) -> list[str]:
    """Say where rounding may have turned a decision."""
    notes = []
    for eqn in _once(rounded.flips)[:3]:
        notes.append(
            f"rounding may turn the comparison in {describe(eqn, rounded.callers)}\n"
            f"  the bound holds both outcomes"
        )
    for eqn in _once(rounded.lost)[:3]:
        notes.append(
            f"rounding may change the path taken by {describe(eqn, rounded.callers)}\n"
            f"  no bound is known for another path, so only the rules were judged"
        )
    return notes


def _once(eqns: list[Any]) -> list[Any]:
    return list({id(eqn): eqn for eqn in eqns}.values())
