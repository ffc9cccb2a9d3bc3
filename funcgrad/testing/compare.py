"""exact(g) - truth: 0, or a derivative rule is wrong.

`truth` is the derivative of the primal program by the scalar engine, `exact(g)` the
value of the gradient program in the same numbers, so that no rounding takes part. The
precision is raised until every difference is known to be 0 or not.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from funcgrad.testing import ties
from funcgrad.testing.arithmetic import Exact, Floats, Truth, each
from funcgrad.testing.flint import flint, precision
from funcgrad.testing.program import Program
from funcgrad.testing.walk import Met, Walk
from reference import Value

# Bits to begin with, and to give up at. 256 bits are 77 digits.
FIRST_PRECISION, LAST_PRECISION = 256, 8192

# A ball that holds 0 is taken for 0 where its radius is below this part of the number:
# 10^-44 of an ulp of float64, so nothing that a float could show hides in it.
NEGLIGIBLE = 2.0**-200


class Derivatives(NamedTuple):
    """Truth for every variable, and what was met on the way: the ties."""

    values: list[np.ndarray]
    variables: list[np.ndarray]
    met: list[Met]


def truth(
    program: Program,
    *,
    ideal_constants: bool = False,
    shift: list[np.ndarray] | None = None,
) -> Derivatives:
    """Return the derivative of the primal program, by the scalar engine's backward.

    `shift` moves the variables, exactly, before the program is walked.
    """
    numbers = Truth(ideal_constants=ideal_constants)
    variables = [numbers.lift(x) for x in program.variables]
    if shift is not None:
        variables = [v + s for v, s in zip(variables, shift, strict=True)]
    variables = [each(Value, v) for v in variables]
    walk = Walk(numbers)
    inputs = [*variables, *lifted_constants(program, numbers)]
    outputs = walk.run(program.primal, inputs)
    terms = [
        (y, w)
        for out, weight in zip(outputs, program.cotangents, strict=True)
        for y, w in zip(out.ravel(), numbers.lift(weight).ravel(), strict=True)
        if type(y) is Value
    ]
    total = sum((y.data * w for y, w in terms), flint().arb(0))
    loss = Value(total, tuple(y for y, _ in terms), "loss", tuple(w for _, w in terms))
    loss.backward()
    gradients = [each(lambda v: flint().arb(v.grad), v) for v in variables]
    return Derivatives(gradients, variables, walk.met)


def exact(program: Program, walk: Walk) -> list[np.ndarray]:
    """Return what the gradient program gives in the numbers of this walk."""
    variables = [walk.numbers.lift(x) for x in program.variables]
    inputs = [*variables, *lifted_constants(program, walk.numbers)]
    return walk.run(program.bound, inputs)


def lifted_constants(program: Program, numbers: Exact | Floats) -> list[Any]:
    return [
        numbers.lift(x) if jnp.issubdtype(x.dtype, jnp.floating) else x
        for x in program.constants
    ]


class Comparison(NamedTuple):
    """exact(g) - truth for each leaf, as balls, and which of them are zero.

    `zero` holds True, False, or None where the precision leaves it open.
    """

    truth: Derivatives
    exact: list[np.ndarray]
    path: list[Any]
    error: list[np.ndarray]
    zero: list[np.ndarray]


def _compare(program: Program, scale: list[np.ndarray], *, ideal: bool) -> Comparison:
    """Subtract truth from exact(g), both in the precision of the moment."""
    right = truth(program, ideal_constants=ideal)
    numbers = Exact(ideal_constants=ideal)
    made = exact(program, Walk(numbers))
    if program.gradient is None:
        made = right.values
    error, zero = [], []
    for g, t, s in zip(made, right.values, scale, strict=True):
        error.append(each(lambda a, b: a - b, g, t))
        zero.append(each(_is_zero, error[-1], t, s))
    return Comparison(right, made, numbers.path, error, zero)


def _is_zero(difference: Any, true: Any, scale: float) -> bool | None:
    """Return whether a difference is zero; None where its ball is still too wide."""
    if not difference.is_finite():
        return None
    if not difference.contains(0):
        return False
    radius = difference.rad()
    return True if radius <= (true.abs_upper() + scale) * NEGLIGIBLE else None


def _decided(found: Comparison) -> bool:
    """Return whether every difference is known, or never will be: it is no number."""
    return all(
        z is not None or not e.is_finite()
        for error, zero in zip(found.error, found.zero, strict=True)
        for e, z in zip(error.ravel(), zero.ravel(), strict=True)
    )


def _all_zero(found: Comparison) -> bool:
    return all(z is True for zero in found.zero for z in zero.ravel())


def settle(program: Program, scale: list[np.ndarray]) -> tuple[Comparison, bool, int]:
    """Compare with rising precision until every difference is known.

    Return the comparison, whether it reads JAX's rounded constants as the irrational
    numbers they stand for (which is tried where they leave a difference), and the bits.
    """
    bits = FIRST_PRECISION
    while True:
        with precision(bits):
            found = _compare(program, scale, ideal=False)
            if bits == FIRST_PRECISION:
                cancelled = [each(_cancelled, e) for e in found.error]
            elif bits >= 4 * FIRST_PRECISION:
                # A 0 without a scale: what cancelled left its size in the first radius.
                scale = [s + c for s, c in zip(scale, cancelled, strict=True)]
            if _decided(found) or bits >= LAST_PRECISION:
                if not _all_zero(found):
                    ideal = _compare(program, scale, ideal=True)
                    if _all_zero(ideal) or _fewer(ideal, found):
                        return ideal, True, bits
                return found, False, bits
        bits *= 2


def _cancelled(error: Any) -> Any:
    """Return the size of the numbers that a ball was made from, by its radius."""
    return error.rad() * 2.0**FIRST_PRECISION if error.is_finite() else flint().arb(0)


def _fewer(ideal: Comparison, found: Comparison) -> bool:
    """Return whether ideal constants make some difference zero, and none nonzero."""
    pairs = [
        (a is True, b is True)
        for x, y in zip(ideal.zero, found.zero, strict=True)
        for a, b in zip(x.ravel(), y.ravel(), strict=True)
    ]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def rule_is_wrong(program: Program) -> bool:
    """Return whether exact(g) - truth is known not to be 0, away from ties."""
    with precision(FIRST_PRECISION):
        found, _, _ = settle(program, [np.zeros(v.shape) for v in program.variables])
    if ties.reached(found.truth.variables, found.truth.met):
        return False
    return any(z is False for zero in found.zero for z in zero.ravel())
