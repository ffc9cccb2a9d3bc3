"""Whole powers, polynomials, and other types of float."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from funcgrad.testing.numbers.floats import in_float64
from funcgrad.testing.rules.elementwise import ELEMENTWISE, integer_power


def _integer_pow(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    return walk.elementwise(integer_power(eqn.params["y"]), inputs)


def _convert(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    (x,), new = inputs, eqn.params["new_dtype"]
    if jnp.issubdtype(new, jnp.floating):
        old, kind = (ml_dtypes.finfo(t) for t in (eqn.invars[0].aval.dtype, new))
        narrower = kind.nmant < old.nmant or kind.maxexp < old.maxexp
        return walk.numbers.rounded(x, float(kind.eps) / 2) if narrower else x
    if new == np.bool_:
        return walk.decide(eqn, lambda: x != 0, lambda: x == 0, x, walk.numbers.lift(0))
    return walk.path.decide(lambda: in_float64(lambda a: a.astype(new), x).astype(new))


def _reduce_precision(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    return walk.numbers.rounded(inputs[0], 2.0 ** -(eqn.params["mantissa_bits"] + 1))


def _stop_gradient(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    return walk.numbers.stopped(inputs[0])


def _polynomial(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    """Return c0 + c1 x + c2 x^2 + ..., by Horner's scheme."""
    x, *coefficients = inputs
    out = coefficients[-1]
    for c in coefficients[-2::-1]:
        out = walk.elementwise(ELEMENTWISE["mul"], [out, x])
        out = walk.elementwise(ELEMENTWISE["add"], [out, c])
    return out


CONVERSIONS: dict[str, Callable[[Any, Any, list[Any]], Any]] = {
    "convert_element_type": _convert,
    "integer_pow": _integer_pow,
    "optimization_barrier": lambda walk, eqn, inputs: list(inputs),
    "polynomial": _polynomial,
    "reduce_precision": _reduce_precision,
    "stop_gradient": _stop_gradient,
}
