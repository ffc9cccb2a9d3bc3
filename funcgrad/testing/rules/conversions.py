"""Whole powers, polynomials, and other types of float."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from funcgrad.testing.rules.elementwise import ELEMENTWISE, integer_power
from funcgrad.testing.rules.movement import moved


class Format(NamedTuple):
    """What `finfo` says of a float type, of one that has no name."""

    eps: float
    tiny: float
    max: float


def _integer_pow(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    return walk.elementwise(eqn, integer_power(eqn.params["y"]), inputs)


def _convert(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    (x,), new = inputs, eqn.params["new_dtype"]
    if jnp.issubdtype(new, jnp.floating):
        old, kind = (ml_dtypes.finfo(t) for t in (eqn.invars[0].aval.dtype, new))
        narrower = kind.nmant < old.nmant or kind.maxexp < old.maxexp
        return walk.numbers.rounded_to(x, kind) if narrower else x
    if new == np.bool_:
        return walk.decisions.compare("ne", x, walk.numbers.lift(0))
    return walk.decisions.to_integers(x, new)


def _reduce_precision(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    p = eqn.params
    eps, top = 2.0 ** -p["mantissa_bits"], 2 ** (p["exponent_bits"] - 1)
    largest = (1 - eps / 2) * 2.0 ** (top - 1) * 2
    return walk.numbers.rounded_to(inputs[0], Format(eps, 2.0 ** (2 - top), largest))


def _stop_gradient(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    return walk.numbers.stopped(inputs[0])


def _polynomial(walk: Any, eqn: Any, inputs: list[Any]) -> Any:
    """Return c0 + c1 x + c2 x^2 + ..., by Horner's scheme."""
    x, *coefficients = walk.reals(inputs)
    plus, times = ELEMENTWISE["add"], ELEMENTWISE["mul"]
    out = moved(walk, lambda a: np.broadcast_to(a, x.shape), coefficients[-1])
    for c in coefficients[-2::-1]:
        out = walk.elementwise(eqn, plus, [walk.elementwise(eqn, times, [out, x]), c])
    return out


CONVERSIONS: dict[str, Callable[[Any, Any, list[Any]], Any]] = {
    "convert_element_type": _convert,
    "integer_pow": _integer_pow,
    "optimization_barrier": lambda walk, eqn, inputs: list(inputs),
    "polynomial": _polynomial,
    "reduce_precision": _reduce_precision,
    "stop_gradient": _stop_gradient,
}
