"""Whole powers, polynomials, and other types of float."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from funcgrad.jaxprs import result_dtype
from funcgrad.testing.control import Uncovered
from funcgrad.testing.numbers.exact import Exact, data
from funcgrad.testing.numbers.objects import each, is_real
from funcgrad.testing.rules.elementwise import ELEMENTWISE, integer_power


def _integer_pow(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    return numbers.elementwise(
        integer_power(eqn.params["y"]), inputs, result_dtype(eqn)
    )


def _convert(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    (x,), new = inputs, eqn.params["new_dtype"]
    old = eqn.invars[0].aval.dtype
    if jnp.issubdtype(new, jnp.floating):
        narrower = jnp.finfo(new).nmant < jnp.finfo(old).nmant
        narrower |= jnp.finfo(new).maxexp < jnp.finfo(old).maxexp
        return numbers.rounded_to(x, new) if narrower else x
    if new == np.bool_:
        return numbers.compare("ne", x, numbers.lift(np.zeros((), np.float32)))
    return numbers.to_integers(x, new)


def _stop_gradient(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    return each(data, inputs[0])


def _reduce_precision(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    bits = eqn.params["mantissa_bits"]
    kind = {10: np.float16, 7: jnp.bfloat16, 23: np.float32, 52: np.float64}.get(bits)
    if kind is None:
        raise Uncovered(f"a reduction to {bits} bits")
    return numbers.rounded_to(inputs[0], kind)


def _polynomial(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    """Return c0 + c1 x + c2 x^2 + ..., by Horner's scheme."""
    x, *coefficients = [c if is_real(c) else numbers.lift(c) for c in inputs]
    plus, times, dtype = ELEMENTWISE["add"], ELEMENTWISE["mul"], result_dtype(eqn)
    out = np.broadcast_to(coefficients[-1], x.shape)
    for c in coefficients[-2::-1]:
        out = numbers.elementwise(times, [out, x], dtype)
        out = numbers.elementwise(plus, [out, c], dtype)
    return out


CONVERSIONS: dict[str, Callable[[Any, list[Any], Exact], Any]] = {
    "convert_element_type": _convert,
    "integer_pow": _integer_pow,
    "optimization_barrier": lambda eqn, inputs, numbers: list(inputs),
    "polynomial": _polynomial,
    "reduce_precision": _reduce_precision,
    "stop_gradient": _stop_gradient,
}
